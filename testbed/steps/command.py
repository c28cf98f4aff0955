"""``run``: a shell command in the guest."""

from __future__ import annotations

from testbed.evidence.tool import ToolRun, find_mismatch
from testbed.guest.session import Guest
from testbed.guest.ssh import CommandResult
from testbed.outcome import Status
from testbed.scenario.model import OutputExpect, RunStep
from testbed.steps.base import StepContext, StepResult

_MAX_DETAIL = 200


def run_command(step: RunStep, context: StepContext) -> StepResult:
    """Run the command and compare what it left with what is expected."""
    guest = context.guest_of(step)
    result = guest.run(step.run, deadline=context.deadline, stdin=(step.stdin or "").encode())
    pointers = output_pointers(result, guest)
    detail = find_difference(result, step.expect)
    if detail is not None:
        return StepResult(status=Status.FAIL, detail=detail, pointers=pointers)
    return StepResult(status=Status.PASS, detail=_first_line(result.stdout), pointers=pointers)


def find_difference(result: CommandResult, expect: OutputExpect) -> str | None:
    """Return in a sentence how ``result`` is not what was expected, None when it is."""
    stdout, stderr = decode(result.stdout), decode(result.stderr)
    if expect.exit not in ("any", result.exit):
        said = last_line(stderr) or last_line(stdout)
        tail = f": {said}" if said else ""
        return f"exit status {result.exit}, expected {expect.exit}{tail}"
    run = ToolRun(
        command="",
        exit=result.exit,
        stderr=stderr,
        output=expect.output,
        not_output=expect.not_output,
        error=expect.error,
    )
    mismatch = find_mismatch(stdout, stderr, run)
    return mismatch.detail if mismatch else None


def output_pointers(result: CommandResult, guest: Guest) -> tuple[str, ...]:
    """Return pointers to the files that hold the output; an empty stream has none."""
    streams = ((".out", result.stdout), (".err", result.stderr))
    return tuple(f"{guest.name}/{result.pointer}{suffix}:1" for suffix, data in streams if data)


def decode(data: bytes) -> str:
    """Return output as text; bytes that are no UTF-8 become replacement characters."""
    return data.decode("utf-8", "replace")


def last_line(text: str) -> str:
    """Return the last line that is not blank, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_MAX_DETAIL] if lines else ""


def _first_line(data: bytes) -> str:
    return decode(data).strip().split("\n", 1)[0][:_MAX_DETAIL]
