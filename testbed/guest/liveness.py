"""Whether a guest still lives: the first fatal fact is kept, and ends every wait with the same error."""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.deadline import Deadline
from testbed.errors import GuestDied, GuestPanicked, GuestReset, TestbedError
from testbed.guest.process import Process
from testbed.guest.tail import LogTail

_TICK = 0.1  # longest time that a wait does not look at its deadline, which may be cancelled
_CONSOLE_EVERY = 0.25  # the console is the second witness of a panic; QMP's event is the first
_LAST_WORDS = 0.3  # how long a panic's text, or QMP's last event, may trail what woke us
_LAST_LINES = 5
_RESET = "guest-reset"  # ShutdownCause of QEMU, qapi/run-state.json; with -no-reboot its end
_PANIC = re.compile(r"Kernel panic - not syncing: .*")

ErrorFactory = Callable[[], TestbedError]


class Liveness:
    """The first fatal fact about a guest. Waits go through `wait_for`, or call `check` often.

    ``report`` is called once with it, in the thread that found out.
    """

    def __init__(self, report: Callable[[TestbedError], None]) -> None:
        self._lock = threading.Lock()
        self._make: ErrorFactory | None = None
        self._ending = False
        self._report = report
        self._callbacks: list[Callable[[], None]] = []
        self.failed = threading.Event()

    def fail(self, make: ErrorFactory) -> None:
        """Record a fatal fact; only the first counts, and none after `expect_end`."""
        with self._lock:
            if self._make is not None or self._ending:
                return
            self._make = make
            callbacks = tuple(self._callbacks)
        self.failed.set()
        self._report(make())
        for callback in callbacks:
            callback()

    def on_failure(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, from another thread, when the guest is lost (at once if it is already)."""
        with self._lock:
            lost = self._make is not None
            if not lost:
                self._callbacks.append(callback)
        if lost:
            callback()

    def expect_end(self) -> None:
        """From now on processes may end: we are ending them."""
        with self._lock:
            self._ending = True

    def check(self) -> None:
        """Raise `GuestPanicked` or `GuestDied` when the guest is lost."""
        make = self._make
        if make is not None:
            raise make()

    def wait_for(self, event: threading.Event, deadline: Deadline) -> None:
        """Wait until ``event`` is set. Raises as `check`, and `DeadlineExceeded`."""
        while not event.wait(min(_TICK, deadline.left)):
            self.check()
            deadline.check()

    def settle(self, seconds: float) -> None:
        """Give the watcher ``seconds`` to say why something broke, then raise as `check` if it did."""
        self.failed.wait(seconds)
        self.check()


class Watcher:
    """Watches processes and the console of one guest from one thread."""

    def __init__(self, liveness: Liveness, console: Path) -> None:
        self._liveness = liveness
        self._console = LogTail(console, alive=lambda: None)
        self._console_seen = 0
        self._lock = threading.Lock()
        self._processes: dict[int, tuple[str, Process]] = {}
        self._panicked = threading.Event()
        self._qmp_closed = threading.Event()
        self._stopped = threading.Event()
        self._ask_status: Callable[[], str] | None = None
        self._shutdown_reason: str | None = None
        self._wake_read, self._wake_write = os.pipe()
        self._stop = False

    @contextmanager
    def watch(self, name: str, process: Process) -> Iterator[None]:
        """Make the end of ``process`` fatal for the guest."""
        with self._lock:
            self._processes[process.pidfd] = (name, process)
        self._wake()
        try:
            yield
        finally:
            with self._lock:
                del self._processes[process.pidfd]

    def note_qmp_event(self, name: str, reason: str | None) -> None:
        """Take note of an event; called by QMP's thread, so it never blocks."""
        if name == "GUEST_PANICKED":
            self._panicked.set()
            self._wake()
        elif name == "STOP":
            self._stopped.set()
            self._wake()
        elif name == "SHUTDOWN":
            self._shutdown_reason = reason

    def ask_status_by(self, ask: Callable[[], str]) -> None:
        """Have ``ask`` tell QEMU's run state when it stops the guest; it may be asked for by a scenario."""
        self._ask_status = ask

    def note_qmp_closed(self) -> None:
        """QMP has said its last."""
        self._qmp_closed.set()

    def run(self) -> None:
        """Watch until something fatal happens or `stop` is called."""
        while not self._stop:
            ready = self._poll()
            if self._panicked.is_set() or self._find_panic() is not None:
                self._fail_panicked()
                return
            if self._stopped.is_set() and self._find_internal_error():
                return
            ended = self._find_ended(ready)
            if ended is not None:
                self._fail_ended(*ended)
                return

    def stop(self) -> None:
        """Make `run` return."""
        self._stop = True
        self._wake()

    def close(self) -> None:
        """Free what was allocated; after `run` returned."""
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _poll(self) -> list[int]:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        with self._lock:
            for fd in self._processes:
                poller.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poller.poll(_CONSOLE_EVERY * 1000)]
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        return ready

    def _find_internal_error(self) -> bool:
        self._stopped.clear()
        try:
            status = self._ask_status() if self._ask_status else "running"
        except TestbedError:
            return False  # QEMU is gone as well: its pidfd says more
        if status != "internal-error":
            return False
        self._liveness.fail(
            lambda: GuestDied("QEMU stopped the guest with 'internal-error'", hint="testbed run --accel tcg")
        )
        return True

    def _find_ended(self, ready: list[int]) -> tuple[str, Process] | None:
        with self._lock:
            return next((self._processes[fd] for fd in ready if fd in self._processes), None)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")

    def _find_panic(self) -> str | None:
        found, self._console_seen = self._console.scan(_PANIC, self._console_seen)
        if found is None:
            return None
        self._console_seen = found.start
        match = _PANIC.search(found.text)
        return match.group(0) if match else None

    def _console_tail(self) -> str:
        try:
            text = self._console.path.read_bytes()[-4096:].decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-_LAST_LINES:])

    def _fail_panicked(self) -> None:
        text = None
        waiter = threading.Event()
        for _ in range(int(_LAST_WORDS / 0.02)):
            text = self._find_panic()
            if text is not None:
                break
            waiter.wait(0.02)
        reason = (text or "(no text on the console)").removeprefix("Kernel panic - not syncing: ").strip()
        self._liveness.fail(lambda: GuestPanicked(reason))

    def _fail_ended(self, name: str, process: Process) -> None:
        process.wait(1.0)
        self._qmp_closed.wait(_LAST_WORDS)
        if self._panicked.is_set() or self._find_panic() is not None:
            self._fail_panicked()
            return
        if self._shutdown_reason == _RESET and name == "QEMU":
            self._liveness.fail(GuestReset)
            return
        message = f"{name} {process.describe_end()}"
        if self._shutdown_reason is not None and name == "QEMU":
            message += f" after '{self._shutdown_reason}'"
        tail = process.log_tail().strip() or self._console_tail() or None
        self._liveness.fail(lambda: GuestDied(message, where=str(process.log), hint=tail))


@contextmanager
def start_watcher(liveness: Liveness, console: Path) -> Iterator[Watcher]:
    """Run a `Watcher` in a thread of its own."""
    watcher = Watcher(liveness, console)
    thread = threading.Thread(target=watcher.run, name="guest-watcher", daemon=True)
    thread.start()
    try:
        yield watcher
    finally:
        watcher.stop()
        thread.join()
        watcher.close()
