"""``run``: a shell command in the guest."""

from __future__ import annotations

import re

from testbed.evidence.tool import ToolRun, find_mismatch
from testbed.guest.session import Guest
from testbed.guest.ssh import CommandResult
from testbed.outcome import Status
from testbed.scenario.model import OutputExpect, RunStep
from testbed.steps.base import StepContext, StepResult

_MAX_DETAIL = 200
_SHELL_NAME = re.compile(r"^\S*sh: (line \d+: )?")
_NOT_STARTED = {126: "cannot be executed", 127: "was not found"}


def run_command(step: RunStep, context: StepContext) -> StepResult:
    """Run the command and compare what it left with what is expected."""
    guest = context.guest_of(step)
    result = guest.run(step.run, deadline=context.deadline, stdin=(step.stdin or "").encode())
    pointers = output_pointers(result, guest)
    detail = find_missing_program(result, step.expect)
    if detail is not None:
        return StepResult(status=Status.ERROR, detail=detail, pointers=pointers)
    detail = find_difference(result, step.expect)
    if detail is not None:
        return StepResult(status=Status.FAIL, detail=detail, pointers=pointers)
    return StepResult(status=Status.PASS, detail=_first_line(result.stdout), pointers=pointers)


def find_missing_program(result: CommandResult, expect: OutputExpect) -> str | None:
    """Return what the shell could not start, in its words; None when it could, or 126 or 127 is expected.

    They are the shell's own statuses (POSIX.1-2017, XCU 2.8.2): the scenario names a program wrongly, which
    says nothing about the kernel.
    """
    if expect.exit != 0 or result.exit not in _NOT_STARTED:
        return None
    said = _SHELL_NAME.sub("", last_line(decode(result.stderr)))
    return said or f"the command {_NOT_STARTED[result.exit]} (exit status {result.exit})"


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
