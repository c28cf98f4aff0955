"""The one way to start a process: `spawn`, which always ends it again.

No PDEATHSIG: that signal comes when the *thread* that spawned ends (prctl(2)), and we spawn from worker
threads. The reaper covers the death of the runner instead.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import LabError, LaunchError
from testbed.guest.custody import get_custody

_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Grace:
    """Seconds that a process gets at each stage of being ended."""

    ask: float = 1.0
    terminate: float = 1.0
    kill: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """How a process ended."""

    status: int
    """Exit status; minus the signal's number when a signal ended it."""
    how: str
    """``before it was asked``, ``asked``, ``SIGTERM`` or ``SIGKILL``: what was needed."""
    seconds: float
    """From start to end."""

    @property
    def graceful(self) -> bool:
        """Whether it was there to be asked, and left for that alone: not killed, not gone before."""
        return self.how == "asked" and self.status == 0


class Process:
    """A process that `spawn` started. ``pidfd`` becomes readable when it ends (pidfd_open(2))."""

    def __init__(self, popen: subprocess.Popen[bytes], argv: list[str], log: Path) -> None:
        self.argv = argv
        self.log = log
        self.pid = popen.pid
        self.pidfd = os.pidfd_open(popen.pid)
        self.exit_record: ExitRecord | None = None
        """Set when `spawn` ends."""
        self._popen = popen
        self._started = time.monotonic()

    def poll(self) -> int | None:
        """Return the exit status, None while it runs; minus the signal's number when one ended it."""
        return self._popen.poll()

    def wait(self, seconds: float) -> bool:
        """Return whether it ended within ``seconds``."""
        if self.poll() is not None:
            return True
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        end = time.monotonic() + seconds
        while not poller.poll(max(0.0, end - time.monotonic()) * 1000):
            if time.monotonic() >= end:
                return False
        self._popen.wait()
        return True

    def log_tail(self) -> str:
        """Return the end of what it printed."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def launch_error(self, message: str) -> LaunchError:
        """Return the error for "it did not start", with what it said."""
        return LaunchError(message, argv=self.argv, status=self.poll(), log_tail=self.log_tail())

    def describe_end(self) -> str:
        """Return how it ended, for people: ``ended with status 1`` or ``was killed by SIGKILL``."""
        status = self.poll()
        if status is None:
            return "still runs"
        if status >= 0:
            return f"ended with status {status}"
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-status).name}"
        return f"was killed by signal {-status}"

    def end(self, ask: Callable[[], None] | None, grace: Grace) -> ExitRecord:
        """Ask, then SIGTERM, then SIGKILL, each when the one before did not help; idempotent."""
        if self.exit_record is None:
            how = self._escalate(ask, grace)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # children that it left behind
            status = self.poll()
            assert status is not None
            self.exit_record = ExitRecord(status=status, how=how, seconds=time.monotonic() - self._started)
        return self.exit_record

    def _escalate(self, ask: Callable[[], None] | None, grace: Grace) -> str:
        if self.poll() is not None:
            return "before it was asked"
        if ask is not None:
            with contextlib.suppress(LabError, OSError):
                ask()
            if self.wait(grace.ask):
                return "asked"
        for number, seconds in ((signal.SIGTERM, grace.terminate), (signal.SIGKILL, grace.kill)):
            self._signal_group(number)
            if self.wait(seconds):
                return number.name
        raise LabError(f"process {self.pid} ('{self.argv[0]}') does not die from SIGKILL")

    def _signal_group(self, number: signal.Signals) -> None:
        # A continue lets a stopped process see the signal; the group is its own, so it is not ours.
        for each in (number, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, each)


@contextmanager
def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    pass_fds: Collection[int] = (),
    ask: Callable[[], None] | None = None,
    grace: Grace = Grace(),
) -> Iterator[Process]:
    """Start ``argv`` in a session of its own, with stdout and stderr appended to ``log``.

    ``env`` is added to our environment. At the end it is asked to leave by ``ask``, then SIGTERM and
    SIGKILL follow, each after its ``grace``; what was needed is in ``Process.exit_record``. If we die, the
    reaper kills it. Raises `LaunchError` when the program cannot be executed.
    """
    custody = get_custody()
    custody.ensure_started()
    command = [str(word) for word in argv]
    environment = {**os.environ, **(env or {}), **custody.environment()}
    with log.open("ab") as output:
        try:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(
                f"'{command[0]}' does not start: {error.strerror}", argv=command, status=None, log_tail=""
            ) from error
    process = Process(popen, command, log)
    with custody.hold_process(popen.pid):
        try:
            yield process
        finally:
            try:
                process.end(ask, grace)
            finally:
                os.close(process.pidfd)
