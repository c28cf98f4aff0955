"""``--ktap``: verdicts as KTAP, the steps of a case inside it."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.outcome import Status
from testbed.verdict.model import StepOutcome, Verdict

_GOOD = (Status.PASS, Status.DONE, Status.SKIP)


def build_ktap(verdicts: Sequence[Verdict]) -> str:
    """Return KTAP version 1: a result per case, and inside it one per step that is not part of a group."""
    lines = ["KTAP version 1", f"1..{len(verdicts)}"]
    for number, verdict in enumerate(verdicts, start=1):
        lines += _case(number, verdict)
    return "\n".join(lines) + "\n"


def _case(number: int, verdict: Verdict) -> list[str]:
    steps = [step for step in verdict.steps if step.index.count(".") == 0]
    lines = []
    if steps and verdict.status is not Status.SKIP:
        inner = ["KTAP version 1", f"1..{len(steps)}"]
        for place, step in enumerate(steps, start=1):
            inner += _step(place, step, passed=verdict.status in _GOOD)
        lines += [f"  {line}" for line in inner]
    lines += [
        f"# {line}" for reason in verdict.reasons for line in f"{reason.status}: {reason.text}".splitlines()
    ]
    lines += [f"# run: {verdict.run_dir}"]
    lines.append(_result(number, verdict.name, verdict.status, verdict.reason))
    return lines


def _step(number: int, step: StepOutcome, *, passed: bool) -> list[str]:
    """A step that failed inside a case that passed was meant to fail; KTAP calls that TODO."""
    name = f"{step.index} {step.name}"
    if passed and step.status not in _GOOD:
        return [f"not ok {number} - {_clean(name)} # TODO expected: {_clean(step.detail)}"]
    notes = [f"# {_clean(step.detail)}"] if step.detail and step.status not in _GOOD else []
    return [*notes, _result(number, name, step.status, step.detail)]


def _result(number: int, name: str, status: Status, reason: str) -> str:
    word = "ok" if status in _GOOD else "not ok"
    skip = f" # SKIP {_clean(reason)}" if status is Status.SKIP else ""
    return f"{word} {number} - {_clean(name)}{skip}"


def _clean(text: str) -> str:
    """One line in which no ``#`` begins a directive."""
    return " ".join(text.split()).replace("#", "\\#")
