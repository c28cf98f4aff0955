"""A case that is to be run, the engine that runs it, and who watches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from testbed.deadline import Stop
from testbed.evidence.events import Event
from testbed.plan.model import CasePlan
from testbed.verdict.model import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run of one case."""

    number: int
    """Its place in the order that people see, from 0."""
    round: int = 0
    """Which repetition it belongs to; earlier ones start first."""
    plan: CasePlan
    text: str
    """The text of the scenario that the case comes from."""


class Watcher(Protocol):
    """Who is told what happens. All methods are called from several threads."""

    def begin(self, task: Task) -> None:
        """``task`` starts; again when it starts anew on another machine."""

    def see(self, task: Task, event: Event) -> None:
        """``task`` has an event."""

    def end(self, task: Task, verdict: Verdict) -> None:
        """``task`` has its verdict, and will not run again."""

    def note(self, text: str) -> None:
        """There is something to know about the run as a whole."""


class Engine(Protocol):
    """Runs tasks, somewhere."""

    def run(self, tasks: Sequence[Task], watcher: Watcher, stop: Stop) -> None:
        """Run all ``tasks`` and return when none runs any more.

        ``watcher.end`` is called once for each task that began. Once ``stop`` is set, no other begins and
        those that run are ended. Ctrl-C does the same and goes on as KeyboardInterrupt. Raises what makes
        it impossible to run any case: `UsageError`, `LabError`.
        """
