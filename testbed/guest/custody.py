"""The runner's side of the reaper: what must not outlive us is told to it, and forgotten when it is gone."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.guest import reaper

RUNNER_VARIABLE = "TESTBED_RUNNER"
"""``PID:START`` of the runner, in the environment of each process that it starts."""
FOLDER_VARIABLE = "TESTBED_FOLDER"
"""The guest's folder in the run folder that a process serves; only QEMU and device hosts have it."""
_LEAVE_SECONDS = 5.0


class Custody:
    """Lines to one reaper process; safe to use from several threads.

    A reaper that was killed is replaced and told everything again.
    """

    def __init__(self) -> None:
        self.run_id = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._held: dict[str, None] = {}
        self._pipe: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """Return the marks that each child carries."""
        runner = f"{os.getpid()}:{reaper.read_start_time(os.getpid())}"
        return {reaper.RUN_VARIABLE: self.run_id, RUNNER_VARIABLE: runner}

    def ensure_started(self) -> None:
        """Start the reaper unless it runs; to be called before anything that needs it is made."""
        with self._lock:
            self._ensure()

    def close(self) -> None:
        """Let the reaper go. With nothing held it leaves at once, else it cleans up as if we had died."""
        with self._lock:
            if self._pipe is None or self._process is None:
                return
            if not self._held:
                with contextlib.suppress(BrokenPipeError):
                    os.write(self._pipe, reaper.DISMISSAL)
            os.close(self._pipe)
            self._pipe = None
            self._process.wait(_LEAVE_SECONDS)
            self._process = None

    @contextmanager
    def hold_folder(self, path: Path) -> Iterator[None]:
        """Have ``path`` removed if we die inside."""
        with self._hold(f"dir {path}"):
            yield

    @contextmanager
    def hold_process(self, pid: int) -> Iterator[None]:
        """Have ``pid`` killed if we die inside."""
        start = reaper.read_start_time(pid)
        if start is None:
            yield
            return
        with self._hold(f"pid {pid} {start}"):
            yield

    @contextmanager
    def _hold(self, line: str) -> Iterator[None]:
        with self._lock:
            self._held[line] = None
            self._tell(line)
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(line, None)
                self._tell(f"forget {line}")

    def _tell(self, line: str) -> None:
        self._ensure()
        assert self._pipe is not None
        try:
            os.write(self._pipe, os.fsencode(line) + b"\n")
        except BrokenPipeError:
            self._restart()

    def _ensure(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self._restart()

    def _restart(self) -> None:
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.close(self._pipe)
        ours, self._pipe = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", reaper.__file__, reaper.ARGV_MARKER, self.run_id],
                stdin=ours,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(ours)
        for line in self._held:
            os.write(self._pipe, os.fsencode(line) + b"\n")


_lock = threading.Lock()
_current: tuple[int, Custody] | None = None


def get_custody() -> Custody:
    """Return the custody of this process; there is one, and a fork gets its own."""
    global _current  # noqa: PLW0603 - one reaper per process is the point
    with _lock:
        if _current is None or _current[0] != os.getpid():
            _current = (os.getpid(), Custody())
            atexit.register(_current[1].close)
        return _current[1]
