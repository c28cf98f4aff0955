"""What all steps share: their result, their context, the registry, and deadlines that can be cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from testbed.deadline import Deadline
from testbed.errors import DeadlineExceeded, ScenarioFault
from testbed.evidence.events import EventLog
from testbed.evidence.run import RunFolder
from testbed.outcome import Status

if TYPE_CHECKING:
    from testbed.guest.session import Guest
    from testbed.plan.model import CasePlan
    from testbed.provision.model import Provisioned


class Step(Protocol):
    """What every step of a scenario has, whatever its verb."""

    @property
    def verb(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def guest(self) -> str | None: ...
    @property
    def timeout(self) -> float | None: ...


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


class Stop:
    """A flag that several threads share: once set, every `CancellableDeadline` of it has passed."""

    def __init__(self, parent: Stop | None = None) -> None:
        self._parent = parent
        self._event = threading.Event()
        self._reason = ""

    def set(self, reason: str) -> None:
        """Stop, for the first given ``reason``."""
        if not self._event.is_set():
            self._reason = reason
            self._event.set()

    @property
    def reason(self) -> str | None:
        """Why it was stopped; None while it was not."""
        if self._event.is_set():
            return self._reason
        return self._parent.reason if self._parent else None


class CancellableDeadline(Deadline):
    """A deadline that also passes when its `Stop` is set; waiting loops see it at their next check."""

    __slots__ = ("stop",)
    stop: Stop

    @classmethod
    def build(cls, at: float, what: str, stop: Stop) -> CancellableDeadline:
        """Return a deadline at ``at`` on the monotonic clock that ``stop`` can bring forward."""
        deadline = cls(at, what)
        object.__setattr__(deadline, "stop", stop)
        return deadline

    @property
    def left(self) -> float:
        """Seconds left; none after a stop."""
        return 0.0 if self.stop.reason is not None else max(0.0, Deadline(self.at, self.what).left)

    @property
    def expired(self) -> bool:
        """Whether the point has passed or a stop was asked for."""
        return self.stop.reason is not None or Deadline(self.at, self.what).expired

    def sooner(self, seconds: float, what: str) -> CancellableDeadline:
        """Return the earlier of this deadline and ``seconds`` from now, with the same `Stop`."""
        other = Deadline.after(seconds, what)
        return self.build(other.at, what, self.stop) if other.at < self.at else self

    def check(self) -> None:
        """Raise `DeadlineExceeded` when it has passed, with the reason of the stop if that was it."""
        if self.stop.reason is not None:
            raise DeadlineExceeded(f"stopped: {self.what}: {self.stop.reason}")
        Deadline(self.at, self.what).check()


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """What a step may use. One object per step; `for_child` makes those of the steps inside it."""

    case: CasePlan
    guests: Mapping[str, Guest]
    lab: Provisioned
    folder: RunFolder
    events: EventLog
    deadline: Deadline
    """Of this step: its own timeout or the case's, whichever is earlier."""
    scale: float
    stop: Stop
    index: str = ""
    """``3``, or ``3.1.2`` inside groups."""
    run_children: Callable[[Sequence[Step], StepContext], Sequence[StepResult]]
    """Runs the steps of a group in order, up to the first that is not good, and reports each."""
    memory: dict[str, object] = field(default_factory=dict)
    """Kept for the whole case, for example which guests have the tools already."""

    def guest_of(self, step: Step) -> Guest:
        """Return the guest that ``step`` names, or the only one."""
        if step.guest is None:
            if len(self.guests) == 1:
                return next(iter(self.guests.values()))
            raise ScenarioFault(f"the step '{step.verb}' must say which guest: {_names(self.guests)}")
        if step.guest not in self.guests:
            raise ScenarioFault(f"there is no guest '{step.guest}'; there are: {_names(self.guests)}")
        return self.guests[step.guest]

    def step_folder(self, verb: str) -> Path:
        """Return this step's own folder in the run folder."""
        return self.folder.step(self.index, verb)

    def pointer(self, path: Path, line: int | None = None) -> str:
        """Return ``file:line`` relative to the run folder."""
        return self.folder.relative(path, line)

    def for_child(self, number: str, *, stop: Stop | None = None) -> StepContext:
        """Return the context of the group member ``number`` of this step."""
        index = f"{self.index}.{number}" if self.index else number
        return replace(self, index=index, stop=stop or self.stop)


Handler = Callable[[Step, StepContext], StepResult]


def _names(guests: Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in guests) or "none"
