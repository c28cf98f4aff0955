"""Deadlines: every wait in the project is bounded by one of these."""

from __future__ import annotations

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
