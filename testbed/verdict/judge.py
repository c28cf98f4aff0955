"""`judge_run`: a run folder to a `Verdict`. Pure: it reads the folder and nothing else.

The rules are those of ``docs/evidence.md``, "How the judge decides".
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from testbed.errors import LabError
from testbed.evidence.events import load_events
from testbed.evidence.run import RunFolder
from testbed.evidence.tool import TEXT, judge_tool, load_tool
from testbed.outcome import Status, worst
from testbed.plan.model import CasePlan
from testbed.scenario.document import ExpectedVerdict
from testbed.verdict.findings import (
    GuestLogs,
    find_absent,
    find_missing_messages,
    is_expected,
    judge_logs,
    load_logs,
)
from testbed.verdict.model import Reason, StepOutcome, Verdict

_BAD = (Status.FAIL, Status.ERROR, Status.MISS)
_KTAP_VERBS = ("tool", "jobs")
_EVENTS = "events.jsonl"
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    folder: RunFolder
    plan: CasePlan | None
    events: tuple[tuple[int, Event], ...]
    bad_lines: tuple[int, ...]
    steps: tuple[StepOutcome, ...]
    unfinished: tuple[tuple[int, Event], ...]
    logs: tuple[GuestLogs, ...]

    def named(self, *names: str) -> Iterator[tuple[str, Event]]:
        """Yield pointer and event of each event of these names."""
        for line, event in self.events:
            if event["event"] in names:
                yield f"{_EVENTS}:{line}", event

    def first(self, name: str) -> Event:
        """Return the first event of ``name``, or an empty one."""
        return next((event for _, event in self.named(name)), {})


def judge_run(folder: RunFolder) -> Verdict:
    """Return the verdict of a run folder; broken evidence makes it MISS and never raises."""
    evidence = _load(folder)
    reasons = _find_reasons(evidence)
    status = worst((reason.status for reason in reasons), default=_good_status(evidence))
    started = evidence.first("case_started")
    plan = evidence.plan
    verdict = Verdict(
        name=str(plan.name if plan else started.get("name", folder.path.name)),
        status=status,
        run_dir=str(folder.path),
        reasons=tuple(reasons) or _good_reasons(evidence, status),
        steps=evidence.steps,
        seconds=_seconds(evidence),
        kernel=str(started.get("kernel", "")),
        accel=str(started.get("accel", "")),
        accel_reason=str(started.get("accel_reason", "")),
        seed=int(started.get("seed", plan.seed if plan else 0)),
        wall=str(started.get("wall", "")),
        about=plan.about if plan else "",
    )
    if plan is not None and plan.expect_verdict is not None and status is not Status.SKIP:
        return _apply_expected(verdict, plan.expect_verdict)
    return verdict


def _load(folder: RunFolder) -> _Evidence:
    plan = _load_plan(folder.plan)
    try:
        events, bad_lines = load_events(folder.events)
    except LabError:
        events, bad_lines = [], []
    guests = [guest.name for guest in plan.guests] if plan else _guest_folders(folder.path)
    started = {
        event.get("index"): (line, event) for line, event in events if event["event"] == "step_started"
    }
    finished = [event for _, event in events if event["event"] == "step_finished"]
    for event in finished:
        started.pop(event.get("index"), None)
    return _Evidence(
        folder=folder,
        plan=plan,
        events=tuple(events),
        bad_lines=tuple(bad_lines),
        steps=_load_steps(folder, events),
        unfinished=tuple(started.values()),
        logs=tuple(load_logs(folder.path, guest) for guest in guests),
    )


def _load_plan(path: Path) -> CasePlan | None:
    try:
        return CasePlan.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _guest_folders(path: Path) -> list[str]:
    return sorted(log.parent.name for log in path.glob("*/console.log"))


def _load_steps(folder: RunFolder, events: Sequence[tuple[int, Event]]) -> tuple[StepOutcome, ...]:
    """Return all steps in the order in which they began; one that never ended is MISS."""
    zero = events[0][1].get("t", 0) if events else 0
    steps: dict[str, StepOutcome] = {}
    for _, event in events:
        index = str(event.get("index", ""))
        if event["event"] == "step_started":
            steps[index] = StepOutcome(
                index=index,
                verb=str(event.get("verb", "")),
                name=str(event.get("name", "")),
                status=Status.MISS,
                seconds=0.0,
                detail="it began and left no result",
                began=max(0.0, round((event.get("t", 0) - zero) / 1e9, 3)),
            )
        elif event["event"] == "step_finished" and index in steps:
            steps[index] = _rejudge(folder, _finish(steps[index], event))
    return tuple(steps.values())


def _finish(step: StepOutcome, event: Event) -> StepOutcome:
    try:
        status = Status(event.get("status", ""))
    except ValueError:
        return replace(step, detail=f"it left the unknown status '{event.get('status')}'")
    return replace(
        step,
        status=status,
        seconds=float(event.get("seconds", 0.0)),
        detail=str(event.get("detail", "")),
        pointers=tuple(str(pointer) for pointer in event.get("pointers", ())),
    )


def _rejudge(folder: RunFolder, step: StepOutcome) -> StepOutcome:
    """Judge a KTAP step again from the text that it left."""
    if step.verb not in _KTAP_VERBS:
        return step
    place = folder.path / "steps" / f"{step.index}-{step.verb}"
    try:
        saved = load_tool(place)
    except LabError as error:
        return replace(step, status=Status.MISS, detail=error.message)
    if saved is None:
        return step
    outcome = judge_tool(*saved)
    text = folder.relative(place / TEXT)
    pointers = tuple(f"{text}:{line}" for line in outcome.lines)
    return replace(step, status=outcome.status, detail=outcome.detail, pointers=pointers or step.pointers)


def _find_reasons(evidence: _Evidence) -> list[Reason]:
    """Return all that is bad, worst first; in the order of docs/evidence.md where equally bad."""
    expected = evidence.plan.expected_warnings if evidence.plan else ()
    reasons = [reason for logs in evidence.logs for reason in judge_logs(logs, expected)]
    reasons += _panic_reasons(evidence)
    panicked = any(True for _ in evidence.named("guest_panicked", "guest_reset"))
    reasons += _step_reasons(evidence, panicked=panicked)
    reasons += _violation_reasons(evidence)
    reasons += _error_reasons(evidence, [reason.text for reason in reasons], panicked=panicked)
    reasons += _cut_off_reasons(evidence)
    if not reasons:
        reasons += _incomplete_reasons(evidence)
    if (
        evidence.plan is not None
        and all(reason.status is Status.FAIL for reason in reasons)
        and _ran(evidence)
    ):
        reasons += _absent_reasons(evidence)
    order = list(Status)
    return sorted(reasons, key=lambda reason: order.index(reason.status))


def _panic_reasons(evidence: _Evidence) -> Iterator[Reason]:
    """Yield the panics that no log shows, or not enough of to be found there, and resets."""
    expected = evidence.plan.expected_warnings if evidence.plan else ()
    shown = {logs.guest for logs in evidence.logs if logs.panic is not None}
    for pointer, event in evidence.named("guest_panicked"):
        reason = str(event.get("reason", ""))
        if event.get("guest") not in shown and not is_expected([reason], expected):
            yield Reason(status=Status.FAIL, text=f"Kernel panic: {reason}", pointer=pointer)
    for pointer, event in evidence.named("guest_reset"):
        reason = str(event.get("reason", ""))
        if not is_expected([reason], expected):
            yield Reason(status=Status.FAIL, text=reason, pointer=pointer)


def _step_reasons(evidence: _Evidence, *, panicked: bool) -> Iterator[Reason]:
    bad = [step for step in evidence.steps if step.status in _BAD]
    unfinished = {event.get("index") for _, event in evidence.unfinished}
    for step in bad:
        inside = any(other.index.startswith(f"{step.index}.") for other in bad)
        if inside or step.index in unfinished or (panicked and _is_about_panic(step.detail)):
            continue
        pointer = step.pointers[0] if step.pointers else ""
        yield Reason(
            status=step.status, text=f"step {step.index} ({step.name}): {step.detail}", pointer=pointer
        )


def _is_about_panic(text: str) -> bool:
    return text.startswith(("guest kernel panicked", "the guest reset itself"))


def _violation_reasons(evidence: _Evidence) -> Iterator[Reason]:
    expected = evidence.plan.expected_warnings if evidence.plan else ()
    for pointer, event in evidence.named("violation"):
        message = str(event.get("message", ""))
        if not is_expected([message], expected):
            text = f"device '{event.get('device')}': {message}"
            yield Reason(status=Status.FAIL, text=text, pointer=pointer)


def _error_reasons(evidence: _Evidence, told: list[str], *, panicked: bool) -> Iterator[Reason]:
    for pointer, event in evidence.named("error"):
        message = str(event.get("message", ""))
        if any(message in text for text in told) or (panicked and _is_about_panic(message)):
            continue
        hint = event.get("hint")
        text = f"{message}\n{hint}" if hint else message
        try:
            status = Status(event.get("status", ""))
        except ValueError:
            status = Status.MISS
        yield Reason(status=status, text=text, pointer=pointer)


def _cut_off_reasons(evidence: _Evidence) -> Iterator[Reason]:
    if evidence.plan is None:
        yield Reason(status=Status.MISS, text="plan.json is missing or cannot be read", pointer="plan.json")
    for line in evidence.bad_lines:
        yield Reason(status=Status.MISS, text="this event cannot be read", pointer=f"{_EVENTS}:{line}")
    for line, event in evidence.unfinished:
        text = f"step {event.get('index')} ({event.get('name')}) began and left no result"
        yield Reason(status=Status.MISS, text=text, pointer=f"{_EVENTS}:{line}")
    if not evidence.first("case_finished"):
        text = "the run was cut off: there is no case_finished"
        yield Reason(status=Status.MISS, text=text, pointer=_EVENTS)


def _incomplete_reasons(evidence: _Evidence) -> Iterator[Reason]:
    """Yield what keeps a run without any other fault from being a pass."""
    plan = evidence.plan
    if plan is None or plan.skip_reason is not None:
        return
    proved = {
        event.get("guest") for _, event in evidence.named("guest_ready") if event.get("nonce_ok") is True
    }
    for guest in plan.guests:
        if guest.name not in proved:
            text = f"guest '{guest.name}' never proved that it is the one that was started"
            yield Reason(status=Status.MISS, text=text, pointer=_EVENTS)
    done = {step.index for step in evidence.steps}
    wanted = len(plan.steps)
    have = sum(str(number) in done for number in range(1, wanted + 1))
    if have < wanted:
        text = f"only {have} of {wanted} steps were run"
        yield Reason(status=Status.MISS, text=text, pointer=_EVENTS)
    yield from _log_reasons(evidence)


def _log_reasons(evidence: _Evidence) -> Iterator[Reason]:
    """Yield what the kernel logs lack; nothing more can be had of a guest that was lost."""
    lost = {event.get("guest") for _, event in evidence.named("guest_panicked", "guest_reset", "guest_died")}
    ends = {event.get("guest"): event.get("bytes", 0) for _, event in evidence.named("kmsg_complete")}
    for logs in evidence.logs:
        yield from find_missing_messages(logs)
        if logs.guest not in lost and logs.kmsg_size < ends.get(logs.guest, sys.maxsize):
            text = f"the kernel log of guest '{logs.guest}' does not reach to the end of the case"
            yield Reason(status=Status.MISS, text=text, pointer=f"{logs.guest}/kmsg.log")
        console = f"{logs.guest}/console.log"
        if not (evidence.folder.path / console).is_file():
            text = f"the console log of guest '{logs.guest}' is missing"
            yield Reason(status=Status.MISS, text=text, pointer=console)


def _ran(evidence: _Evidence) -> bool:
    return evidence.plan is not None and evidence.plan.skip_reason is None


def _absent_reasons(evidence: _Evidence) -> Iterator[Reason]:
    expected = evidence.plan.expected_warnings if evidence.plan else ()
    for warning in find_absent(evidence.logs, expected):
        because = f" ({warning.about})" if warning.about else ""
        text = f"the expected kernel message '{warning.match}' never came{because}"
        yield Reason(status=Status.FAIL, text=text)


def _good_status(evidence: _Evidence) -> Status:
    if evidence.plan is not None and evidence.plan.skip_reason is not None:
        return Status.SKIP
    if evidence.first("shell_finished"):
        return Status.DONE  # somebody worked in the guest: there was nothing to check
    statuses = [step.status for step in evidence.steps]
    if Status.PASS in statuses:
        return Status.PASS
    return Status.DONE if Status.DONE in statuses else Status.SKIP


def _good_reasons(evidence: _Evidence, status: Status) -> tuple[Reason, ...]:
    if status is not Status.SKIP:
        return ()
    why = evidence.plan.skip_reason if evidence.plan else None
    return (Reason(status=Status.SKIP, text=why or "all of its steps were skipped", pointer="plan.json"),)


def _seconds(evidence: _Evidence) -> float:
    """Return the case's length; for one that was cut off, up to its last event."""
    finished = evidence.first("case_finished")
    if finished:
        return float(finished.get("seconds", 0.0))
    times = [event.get("t", 0) for _, event in evidence.events]
    return round((times[-1] - times[0]) / 1e9, 3) if times else 0.0


def _apply_expected(verdict: Verdict, wanted: ExpectedVerdict) -> Verdict:
    """A test of the judge: the case passes if and only if the verdict is the one that was asked for.

    A lab that broke says nothing about the judge either: its MISS stays, unless that is what was asked for.
    """
    if verdict.status is Status.MISS and wanted.status != Status.MISS.value:
        return verdict
    pattern = wanted.reason
    fits = [
        reason
        for reason in verdict.reasons
        if reason.status is verdict.status and (pattern is None or re.search(pattern, reason.text))
    ]
    same = verdict.status.value == wanted.status and (bool(fits) or pattern is None)
    asked = f"{wanted.status}" + (f" because of '{pattern}'" if pattern else "")
    if same:
        told = fits[0] if fits else Reason(status=verdict.status, text="no reason was asked for")
        text = f"{wanted.status}, as this scenario expects: {told.text}"
        return replace(
            verdict,
            status=Status.PASS,
            reasons=(Reason(status=Status.PASS, text=text, pointer=told.pointer),),
        )
    why = verdict.reason.split("\n", 1)[0].rstrip(":")
    got = f"{verdict.status}" + (f": {why}" if why else "")
    first = Reason(status=Status.FAIL, text=f"expected the verdict {asked}, got {got}")
    return replace(verdict, status=Status.FAIL, reasons=(first, *verdict.reasons))
