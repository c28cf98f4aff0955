"""Time and threads for models: the device's lock, workers (engines), timers."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

from vfiodev.errors import StoppedError, VfiodevError

Report = Callable[[str], None]
JOIN_SECONDS: Final = 2.0


class DeviceLock:
    """A re-entrant lock that can say whether the calling thread holds it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._owner = 0
        self._depth = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._owner = threading.get_ident()
        self._depth += 1

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = 0
        self._lock.release()

    def is_mine(self) -> bool:
        """True when the calling thread holds the lock."""
        return self._owner == threading.get_ident()


class Worker(threading.Thread):
    """An engine's thread. It runs `body(worker)` until that returns, or raises StoppedError.

    A body loops like this, and must not hold the device's lock while it waits or does DMA::

        def _run(self, worker: Worker) -> None:
            while worker.wait():            # until kicked; False: stopped, so return
                ...                         # self.dma.read(...) raises StoppedError once the worker is
                stopped
    """

    def __init__(self, name: str, body: Callable[["Worker"], None], report: Report) -> None:
        super().__init__(name=name, daemon=True)
        self._body = body
        self._report = report
        self._wake = threading.Condition()
        self._kicked = False
        self.stopping = False

    def run(self) -> None:
        """The thread's body; a model's bug ends this worker and is reported, the host goes on."""
        try:
            self._body(self)
        except StoppedError:
            return
        except VfiodevError as error:
            self._report(f"worker '{self.name}' ended: {error}")
        except Exception as error:  # noqa: BLE001 - a thread's edge, the bug is reported
            self._report(f"worker '{self.name}' failed: {type(error).__name__}: {error}")

    def kick(self) -> None:
        """Wake the worker; kicks before it waits are not lost, several make one."""
        with self._wake:
            self._kicked = True
            self._wake.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a kick or the timeout (seconds). False when the worker shall end."""
        with self._wake:
            self._wake.wait_for(lambda: self._kicked or self.stopping, timeout)
            self._kicked = False
            return not self.stopping

    def sleep(self, seconds: float) -> bool:
        """Sleep through kicks. False when the worker shall end."""
        with self._wake:
            self._wake.wait_for(lambda: self.stopping, seconds)
            return not self.stopping

    def check(self) -> None:
        """Raise StoppedError when the worker shall end: for long loops that do no DMA."""
        if self.stopping:
            raise StoppedError(f"worker '{self.name}' was stopped")

    def stop(self) -> None:
        """Ask the worker to end. From now on DMA and interrupts from its thread are refused."""
        with self._wake:
            self.stopping = True
            self._wake.notify_all()


class Workers:
    """The workers of one device. Every reset and unplug stops all of them before `Device.reset` runs."""

    def __init__(self, device: str, report: Report) -> None:
        self._device = device
        self._report = report
        self._running: list[Worker] = []

    def start(self, name: str, body: Callable[[Worker], None]) -> Worker:
        """Start a worker; call it in `Device.reset`."""
        worker = Worker(f"{self._device}/{name}", body, self._report)
        self._running = [other for other in self._running if other.is_alive()]
        self._running.append(worker)
        worker.start()
        return worker

    def stop_all(self) -> list[Worker]:
        """Ask all to end; returns them, for `join`."""
        stopped, self._running = self._running, []
        for worker in stopped:
            worker.stop()
        return stopped


def join(workers: list[Worker]) -> None:
    """Wait, at most 2 s in all, for stopped workers. Never with a device's lock held."""
    end = time.monotonic() + JOIN_SECONDS
    for worker in workers:
        if worker is not threading.current_thread():
            worker.join(max(0.0, end - time.monotonic()))


def check_not_stopped() -> None:
    """Raise StoppedError when the calling thread is a worker that was stopped."""
    if getattr(threading.current_thread(), "stopping", False):
        raise StoppedError("the worker was stopped")


class Timer:
    """A pending call; `cancel` makes sure it does not happen."""

    __slots__ = ("action", "lock", "when")

    def __init__(self, when: float, lock: DeviceLock, action: Callable[[], None]) -> None:
        self.when = when
        self.lock = lock
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Call this with the device's lock held; afterwards the action does not run."""
        self.action = None


class TimerThread(threading.Thread):
    """One thread for the timers of all devices of a host."""

    def __init__(self, report: Report) -> None:
        super().__init__(name="timers", daemon=True)
        self._report = report
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Timer]] = []
        self._changed = threading.Condition()
        self._stop = False

    def add(self, timer: Timer) -> None:
        """Queue a timer."""
        with self._changed:
            heapq.heappush(self._heap, (timer.when, next(self._order), timer))
            self._changed.notify()

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stop = True
            self._changed.notify()

    def run(self) -> None:
        """Run due timers under their device's lock."""
        while (timer := self._next()) is not None:
            try:
                with timer.lock:
                    action, timer.action = timer.action, None
                    if action is not None:
                        action()
            except Exception as error:  # noqa: BLE001 - a thread's edge, the bug is reported
                self._report(f"timer failed: {type(error).__name__}: {error}")

    def _next(self) -> Timer | None:
        with self._changed:
            while not self._stop:
                if not self._heap:
                    self._changed.wait()
                    continue
                left = self._heap[0][0] - time.monotonic()
                if left <= 0:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(left)
            return None


class Timers:
    """The timers of one device; every reset and unplug cancels all of them."""

    def __init__(self, thread: TimerThread, lock: DeviceLock) -> None:
        self._thread = thread
        self._lock = lock
        self._pending: list[Timer] = []

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call `action` in `seconds`, with the device's lock held. Call this with the lock held."""
        timer = Timer(time.monotonic() + seconds, self._lock, action)
        self._pending = [other for other in self._pending if other.action is not None]
        self._pending.append(timer)
        self._thread.add(timer)
        return timer

    def cancel_all(self) -> None:
        """Cancel what is pending. Call this with the lock held."""
        for timer in self._pending:
            timer.cancel()
        self._pending = []
