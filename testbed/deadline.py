"""Deadlines: every wait in the project is bounded by one of these."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from testbed.errors import DeadlineExceeded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock, and what is waited for until then."""

    at: float
    what: str

    @classmethod
    def after(cls, seconds: float, what: str) -> Deadline:
        """Return a deadline ``seconds`` from now; ``what`` completes "waited for ..."."""
        return cls(time.monotonic() + seconds, what)

    @property
    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the point has passed."""
        return time.monotonic() >= self.at

    def sooner(self, seconds: float, what: str) -> Deadline:
        """Return the earlier of this deadline and ``seconds`` from now."""
        other = Deadline.after(seconds, what)
        return other if other.at < self.at else self

    def check(self) -> None:
        """Raise `DeadlineExceeded` when the point has passed."""
        if self.expired:
            raise DeadlineExceeded(f"timed out: {self.what}")


class Stop:
    """A flag that several threads share: once it is set, every `CancellableDeadline` with it has passed.

    A child is also set when its parent is.
    """

    def __init__(self, parent: Stop | None = None) -> None:
        self._parent = parent
        self._lock = threading.Lock()
        self._reason: str | None = None

    def set(self, reason: str) -> None:
        """Stop; the first ``reason`` counts."""
        with self._lock:
            if self._reason is None:
                self._reason = reason

    @property
    def reason(self) -> str | None:
        """Why it was stopped; None while it was not."""
        if self._reason is not None or self._parent is None:
            return self._reason
        return self._parent.reason


@dataclass(frozen=True, slots=True)
class CancellableDeadline(Deadline):
    """A deadline that also passes when its `Stop` is set; waiting loops see it at their next look."""

    stop: Stop

    @property
    def left(self) -> float:
        """Seconds left; none after a stop."""
        return 0.0 if self.stop.reason is not None else max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the point has passed or a stop was asked for."""
        return self.stop.reason is not None or time.monotonic() >= self.at

    def sooner(self, seconds: float, what: str) -> CancellableDeadline:
        """Return the earlier of this deadline and ``seconds`` from now, with the same `Stop`."""
        at = time.monotonic() + seconds
        return CancellableDeadline(at, what, self.stop) if at < self.at else self

    def check(self) -> None:
        """Raise `DeadlineExceeded` when it has passed, with the reason of the stop if that was it."""
        if self.stop.reason is not None:
            raise DeadlineExceeded(f"stopped: {self.stop.reason}")
        if self.expired:
            raise DeadlineExceeded(f"timed out: {self.what}")


def poll_until(probe: Callable[[], T | None], deadline: Deadline, *, every: float = 0.02) -> T:
    """Call ``probe`` until it returns something other than None; for facts that send no event.

    Raises `DeadlineExceeded` when ``deadline`` passes first.
    """
    while True:
        found = probe()
        if found is not None:
            return found
        deadline.check()
        time.sleep(min(every, deadline.left))
