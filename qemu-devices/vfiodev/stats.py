"""Counters of a device: what the control requests `stats` and `wait` see."""

import threading
import time


class Stats:
    """Flat integer counters, safe from any thread. A counter starts at 0 when it is declared or first added
    to."""

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self._values = dict.fromkeys(names, 0)
        self._changed = threading.Condition(threading.Lock())
        self._waiters = 0
        self._closed = False

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        with self._changed:
            self._values[name] = self._values.get(name, 0) + amount
            if self._waiters:
                self._changed.notify_all()

    def set(self, name: str, value: int) -> None:
        """Set a gauge (a level rather than a count)."""
        with self._changed:
            self._values[name] = value
            if self._waiters:
                self._changed.notify_all()

    def get(self, name: str) -> int:
        """The value now; 0 for a counter that nobody touched."""
        return self._values.get(name, 0)

    def snapshot(self) -> dict[str, int]:
        """All counters, sorted by name."""
        with self._changed:
            return dict(sorted(self._values.items()))

    def wait(self, name: str, at_least: int, timeout: float) -> int | None:
        """Block until the counter reaches `at_least`; its value, or None after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._waiters += 1
            try:
                while not self._closed:
                    value = self._values.get(name, 0)
                    if value >= at_least:
                        return value
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return None
                    self._changed.wait(left)
                return None
            finally:
                self._waiters -= 1

    def close(self) -> None:
        """End every wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
