"""Statuses of steps and cases, their order, and the exit code of the program.

The statuses and their order are kcidb's: FAIL > ERROR > MISS > PASS > DONE > SKIP. A case is born MISS:
only evidence makes it better or worse.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum


class Status(StrEnum):
    """Outcome of a step or a case, worst first."""

    FAIL = "FAIL"
    """The kernel under test is wrong."""
    ERROR = "ERROR"
    """The scenario is wrong."""
    MISS = "MISS"
    """The lab broke; nothing can be said about the kernel."""
    PASS = "PASS"
    """Checked, and right."""
    DONE = "DONE"
    """Done, with nothing to check."""
    SKIP = "SKIP"
    """Not run: a declared requirement is missing."""


_WORST_FIRST = list(Status)


def worst(statuses: Iterable[Status], *, default: Status = Status.MISS) -> Status:
    """Return the worst of ``statuses``; ``default`` when there is none."""
    return min(statuses, key=_WORST_FIRST.index, default=default)


class ExitCode(IntEnum):
    """Exit codes of the command line; tools outside the project rely on them."""

    OK = 0
    FAIL = 1
    LAB = 2
    USAGE = 3
    NOTHING_RAN = 4
    INTERRUPTED = 130


def exit_code(statuses: Iterable[Status]) -> ExitCode:
    """Map the statuses of all cases of a run to the exit code of the program."""
    ran = [status for status in statuses if status is not Status.SKIP]
    if not ran:
        return ExitCode.NOTHING_RAN
    verdict = worst(ran)
    if verdict is Status.FAIL:
        return ExitCode.FAIL
    if verdict in (Status.ERROR, Status.MISS):
        return ExitCode.LAB
    return ExitCode.OK
