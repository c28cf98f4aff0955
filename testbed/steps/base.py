"""What all steps share: their result and their context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from testbed.deadline import CancellableDeadline
from testbed.errors import ScenarioFault
from testbed.evidence.events import EventLog
from testbed.evidence.run import RunFolder
from testbed.guest.session import Guest
from testbed.outcome import Status
from testbed.plan.model import CasePlan
from testbed.scenario.model import StepBase
from testbed.steps.assets import Assets


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """Outcome of one step. ``detail`` is one line; ``pointers`` are ``file:line`` in the run folder."""

    status: Status
    detail: str = ""
    pointers: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the steps after this one may run."""
        return self.status in (Status.PASS, Status.DONE, Status.SKIP)


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """What a step may use. One object per step; `for_child` makes those of the steps inside it."""

    case: CasePlan
    guests: Mapping[str, Guest]
    assets: Assets
    folder: RunFolder
    events: EventLog
    deadline: CancellableDeadline
    """Of this step: its own timeout or that of what it is part of, whichever is earlier."""
    scale: float
    """How many times slower than the reference machine this one is."""
    run_children: Callable[[Sequence[StepBase], StepContext], list[StepResult]]
    """Runs the steps of a group in order, up to the first that is not good, and reports each."""
    index: str = ""
    """``3``, or ``3.1.2`` inside groups."""

    def guest_of(self, step: StepBase) -> Guest:
        """Return the guest that ``step`` names. Raises `ScenarioFault`."""
        if step.guest not in self.guests:
            known = ", ".join(f"'{name}'" for name in self.guests)
            raise ScenarioFault(f"there is no guest '{step.guest}'; there is: {known}")
        return self.guests[step.guest]

    def step_folder(self, verb: str) -> Path:
        """Return this step's own folder in the run folder."""
        return self.folder.step(self.index, verb)

    def pointer(self, path: Path, line: int | None = None) -> str:
        """Return ``file:line`` relative to the run folder."""
        return self.folder.relative(path, line)

    def for_child(self, number: int | str) -> StepContext:
        """Return the context of the group member ``number`` of this step."""
        return replace(self, index=f"{self.index}.{number}" if self.index else str(number))

    def with_deadline(self, deadline: CancellableDeadline) -> StepContext:
        """Return the same context with another deadline."""
        return replace(self, deadline=deadline)


Handler = Callable[[Any, StepContext], StepResult]
"""Carries out a step of the class that it is registered for (`testbed.steps.registry`)."""
