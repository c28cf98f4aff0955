"""The error tree. Catch by meaning; every error says what to do next.

::

    TestbedError                 base: message, where, hint
     +-- UsageError              the command line or the scenario is wrong       (exit 3)
     |    +-- ScenarioError      one or more problems with file:line:column
     +-- ScenarioFault           the scenario asked for something impossible at run time (ERROR)
     +-- GuestPanicked           the guest kernel panicked (FAIL unless the scenario expects it)
     |    +-- GuestReset         its machine was reset from inside without a panic (likewise)
     +-- LabError                the lab broke: QEMU, device host, SSH, disk     (MISS)
          +-- ProvisionError     toolbox, kernel, image or module could not be made
          +-- LaunchError        a process did not start: exit status, argv, log tail
          +-- GuestDied          QEMU or the device host ended while it was needed
          +-- DeadlineExceeded   something was waited for and did not come
          +-- IdentityError      the machine that answered is not the one we started

Only ``testbed.__main__`` turns these into exit codes and text for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class TestbedError(Exception):
    """Base of all errors that are shown to people.

    ``message`` is a sentence, ``where`` an optional ``file:line:column`` or path, ``hint`` what to do
    next, a command when there is one.
    """

    __test__ = False  # the name starts with "Test"; pytest must not collect it

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{place}{self.message}{hint}"


class UsageError(TestbedError):
    """The command line, a file name or an option is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in a scenario file. Lines and columns count from 1."""

    file: Path
    line: int
    column: int
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        tail = f" ({self.suggestion})" if self.suggestion else ""
        return f"{self.file}:{self.line}:{self.column}: {self.message}{tail}"


class ScenarioError(UsageError):
    """A scenario file is invalid. ``problems`` holds every mistake found, in file order."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class ScenarioFault(TestbedError):
    """A valid scenario asked for something that cannot be done in this guest (verdict ERROR)."""


class LabError(TestbedError):
    """The lab itself broke; says nothing about the kernel under test (verdict MISS)."""


class ProvisionError(LabError):
    """A toolbox, kernel, image or module could not be made or found."""


class LaunchError(LabError):
    """A process did not start. ``log_tail`` is the end of what it printed."""

    def __init__(self, message: str, *, argv: list[str], status: int | None, log_tail: str) -> None:
        super().__init__(message, hint=log_tail.strip() or None)
        self.argv = argv
        self.status = status
        self.log_tail = log_tail


class GuestDied(LabError):
    """QEMU or the device host ended while it was still needed."""


class GuestPanicked(TestbedError):
    """The guest kernel panicked; ``reason`` is the kernel's own line (verdict FAIL unless expected)."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"guest kernel panicked: {reason}")
        self.reason = reason


class GuestReset(GuestPanicked):
    """The guest was reset from inside, and its kernel said nothing (verdict FAIL unless expected)."""

    def __init__(self) -> None:
        super().__init__("reset")
        self.message = self.reason = (
            "the guest reset itself without a panic: a triple fault, or a reboot command"
        )


class DeadlineExceeded(LabError):
    """Something was waited for and did not come in time."""


class IdentityError(LabError):
    """The machine that answered is not the one that was started."""
