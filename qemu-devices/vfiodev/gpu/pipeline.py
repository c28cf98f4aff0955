"""Completions between the end of a command's data and its fence, interrupt and HEAD: where most faults act.

Pure bookkeeping of one engine's thread: what comes out when, and in which order. No locks, no clock.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from vfiodev.gpu.commands import Command, CommandError
from vfiodev.gpu.state import Slot


class Fault(Protocol):
    """A fault that was injected."""

    @property
    def cleared(self) -> bool: ...

    @property
    def ms(self) -> float: ...

    @property
    def window(self) -> int: ...


TakeFault = Callable[[str], Fault | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A command whose data is done (`command`), or that failed (`error`)."""

    slot: Slot
    command: Command | None = None
    error: CommandError | None = None
    gate: Fault | None = None
    window: Fault | None = None
    not_before: int = 0

    def is_gated(self) -> bool:
        return self.gate is not None and not self.gate.cleared


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Completions in the order in which they come out, after which HEAD moves to `head`."""

    completions: tuple[Completion, ...]
    head: int


class Pipeline:
    """The completions of one engine, in ring order."""

    def __init__(self, take_fault: TakeFault) -> None:
        self._take_fault = take_fault
        self._queue: deque[Completion] = deque()

    def push_done(self, slot: Slot, command: Command, now: int) -> None:
        """The data of `command` is done; faults decide when the rest follows."""
        gate = self._take_fault("hold_completions")
        delay = self._take_fault("delay_completions")
        window = self._take_fault("reorder_completions") if command.fence else None
        not_before = now + round(delay.ms * 1e6) if delay else 0
        self._queue.append(
            Completion(slot=slot, command=command, gate=gate, window=window, not_before=not_before)
        )

    def push_failed(self, slot: Slot, error: CommandError) -> None:
        """An error is reported when everything before it has completed."""
        self._queue.append(Completion(slot=slot, error=error))

    def pop_ready(self, now: int) -> Batch | None:
        """What comes out next, if its time has come."""
        if not self._queue:
            return None
        group = self._next_group()
        if group == 0:
            return None
        ready = [self._queue[index] for index in range(group)]
        if any(completion.is_gated() or now < completion.not_before for completion in ready):
            return None
        for _ in ready:
            self._queue.popleft()
        return Batch(completions=tuple(reversed(ready)), head=ready[-1].slot.next_index)

    def _next_group(self) -> int:
        """How many completions come out together, last one first; 0 while a window is not full."""
        window = self._queue[0].window
        if window is None or window.cleared:
            return 1
        fences = 0
        for index, completion in enumerate(self._queue):
            if completion.error:
                return index
            fences += completion.window is window
            if fences == window.window:
                return index + 1
        return 0

    def next_due(self) -> int | None:
        """When time alone makes the next completion come out; None when something else must happen first."""
        if not self._queue:
            return None
        group = [self._queue[index] for index in range(self._next_group())]
        if not group or any(completion.is_gated() for completion in group):
            return None
        return max(completion.not_before for completion in group)


class Agenda:
    """Things that faults put off, by due time."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    def put(self, due: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (due, next(self._order), action))

    def pop_due(self, now: int) -> Callable[[], None] | None:
        if self._heap and self._heap[0][0] <= now:
            return heapq.heappop(self._heap)[2]
        return None

    def next_due(self) -> int | None:
        return self._heap[0][0] if self._heap else None
