"""Follows which devices are plugged in, step by step, and finds plugs and unplugs that can never work."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.scenario.document import Document
from testbed.scenario.model import (
    AlwaysStep,
    CountersStep,
    ParallelStep,
    PlugStep,
    RepeatStep,
    Step,
    UnplugStep,
)
from testbed.scenario.tree import Loc

Place = tuple[str, str]
"""Guest and device."""
State = dict[Place, bool]
"""Whether a device is plugged in; one that is absent may be either."""


def check_plugging(document: Document) -> list[tuple[Loc, str]]:
    """Return (place, message) for each plug of a plugged device and each unplug of one that is not."""
    state = {
        (guest, name): device.plug == "start"
        for guest, machine in document.guests.items()
        for name, device in machine.devices.items()
    }
    return list(dict.fromkeys(_follow(document.steps, ("steps",), state)))


def _follow(steps: tuple[Step, ...], loc: Loc, state: State) -> Iterator[tuple[Loc, str]]:
    for index, step in enumerate(steps):
        here = (*loc, index)
        if isinstance(step, (PlugStep, UnplugStep)):
            yield from _change(step, here, state)
        elif isinstance(step, CountersStep):
            yield from _follow(step.steps, (*here, "steps"), state)
        elif isinstance(step, RepeatStep):
            # Twice is enough: the state after the second round is that after the first.
            for _ in range(min(step.repeat.times, 2)):
                yield from _follow(step.repeat.steps, (*here, "repeat", "steps"), state)
        elif isinstance(step, AlwaysStep):
            # Runs after any step that failed, so nothing is known before it.
            yield from _follow(step.always, (*here, "always"), {})
            for place in _named(step.always):
                state.pop(place, None)
        elif isinstance(step, ParallelStep):
            yield from _follow_branches(step, here, state)


def _change(step: PlugStep | UnplugStep, here: Loc, state: State) -> Iterator[tuple[Loc, str]]:
    name = step.plug if isinstance(step, PlugStep) else step.unplug
    wanted = isinstance(step, PlugStep)
    if state.get((step.guest, name)) is wanted:
        if wanted:
            why = "it is plugged in already; declare it with plug: later, or unplug it first"
        else:
            why = "it is not plugged in here"
        yield (*here, step.verb), f"'{name}' cannot be {step.verb}ged: {why}"
    state[step.guest, name] = wanted


def _follow_branches(step: ParallelStep, here: Loc, state: State) -> Iterator[tuple[Loc, str]]:
    before = dict(state)
    touched: list[set[Place]] = []
    after: list[State] = []
    for branch in step.parallel:
        mine = dict(before)
        list(_follow(branch, here, mine))
        touched.append({place for place in mine if mine.get(place) != before.get(place)} | _named(branch))
        after.append(mine)
    shared = {
        place for index, places in enumerate(touched) for place in places & set().union(*touched[:index])
    }
    for number, branch in enumerate(step.parallel):
        mine = {place: value for place, value in before.items() if place not in shared}
        yield from _follow(branch, (*here, "parallel", number), mine)
    for places, mine in zip(touched, after, strict=True):
        for place in places:
            if place in shared or place not in mine:
                state.pop(place, None)
            else:
                state[place] = mine[place]


def _named(steps: tuple[Step, ...]) -> set[Place]:
    names = {(step.guest, step.plug) for step in steps if isinstance(step, PlugStep)}
    return names | {(step.guest, step.unplug) for step in steps if isinstance(step, UnplugStep)}
