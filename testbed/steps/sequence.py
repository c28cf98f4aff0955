"""Steps one after the other: deadlines, events, and what an exception says about a step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.deadline import CancellableDeadline, Deadline
from testbed.errors import (
    DeadlineExceeded,
    GuestDied,
    GuestPanicked,
    LabError,
    ScenarioFault,
    TestbedError,
)
from testbed.guest.session import Guest
from testbed.outcome import Status
from testbed.scenario.model import AlwaysStep, StepBase
from testbed.steps.base import StepContext, StepResult
from testbed.steps.registry import DEFAULT_TIMEOUTS, GUEST_IS_SLOW, HANDLERS

_ALWAYS_SECONDS = 20.0  # clean-up has this much even when the case's budget is used up
_STILL_THERE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    result: StepResult
    fatal: TestbedError | None = None
    """Set when no further step can run in this guest."""


def run_sequence(steps: Sequence[StepBase], context: StepContext) -> list[StepResult]:
    """Run ``steps`` up to the first that is not good; ``always`` steps after it still run.

    Each is an event at its start and one at its end. Raises what lost the guest: `GuestPanicked`,
    `GuestDied` and other `LabError`.
    """
    results: list[StepResult] = []
    for number, step in enumerate(steps, start=1):
        bad = any(not result.good for result in results)
        if bad and not isinstance(step, AlwaysStep):
            continue
        results.append(_run_one(step, context.for_child(number)))
    return results


def _run_one(step: StepBase, context: StepContext) -> StepResult:
    context = context.with_deadline(_step_deadline(step, context))
    context.events.emit("step_started", index=context.index, verb=step.verb, name=step.title)
    began = time.monotonic()
    done = _Done(result=StepResult(status=Status.MISS, detail="cut off"))
    try:
        done = _carry_out(step, context)
    except KeyboardInterrupt:
        done = _Done(result=StepResult(status=Status.MISS, detail="interrupted"))
        raise
    finally:
        context.events.emit(
            "step_finished",
            index=context.index,
            verb=step.verb,
            name=step.title,
            status=done.result.status.value,
            seconds=round(time.monotonic() - began, 3),
            detail=done.result.detail,
            pointers=list(done.result.pointers),
        )
    if done.fatal is not None:
        raise done.fatal
    return done.result


def _carry_out(step: StepBase, context: StepContext) -> _Done:
    try:
        return _Done(result=HANDLERS[step.verb](step, context))
    except GuestPanicked as error:
        pointers = (f"{step.guest}/console.log",)
        result = StepResult(status=Status.FAIL, detail=error.message, pointers=pointers)
        return _Done(result=result, fatal=error)
    except ScenarioFault as error:
        return _Done(result=_explain(error, Status.ERROR, context))
    except DeadlineExceeded as error:
        return _timed_out(step, context, error)
    except LabError as error:
        fatal = error if isinstance(error, GuestDied) or not _answers(step, context) else None
        return _Done(result=_explain(error, Status.MISS, context), fatal=fatal)


def _timed_out(step: StepBase, context: StepContext, error: DeadlineExceeded) -> _Done:
    if context.deadline.stop.reason is not None:
        return _Done(result=StepResult(status=Status.MISS, detail=error.message))
    if step.verb not in GUEST_IS_SLOW:
        return _Done(result=StepResult(status=Status.MISS, detail=error.message))
    try:
        alive = _answers(step, context)
    except GuestPanicked as panic:
        return _Done(result=StepResult(status=Status.FAIL, detail=panic.message), fatal=panic)
    tail = "" if alive else "; the guest no longer answers over SSH"
    return _Done(result=StepResult(status=Status.FAIL, detail=f"{error.message}{tail}"))


def _answers(step: StepBase, context: StepContext) -> bool:
    """Whether the step's guest still takes commands. Raises `GuestPanicked`."""
    guest: Guest | None = context.guests.get(step.guest)
    if guest is None:
        return True
    try:
        seconds = _STILL_THERE_SECONDS * context.scale
        return guest.run("true", deadline=Deadline.after(seconds, "the guest to answer")).exit == 0
    except LabError:
        return False


def _step_deadline(step: StepBase, context: StepContext) -> CancellableDeadline:
    outer = context.deadline
    if isinstance(step, AlwaysStep):
        at = time.monotonic() + _ALWAYS_SECONDS * context.scale
        outer = CancellableDeadline(max(outer.at, at), outer.what, outer.stop)
    seconds = step.timeout if step.timeout is not None else DEFAULT_TIMEOUTS.get(step.verb)
    if seconds is None:
        return outer
    own = f"'{step.title}' did not end within {seconds * context.scale:.3g} s"
    return outer.sooner(seconds * context.scale, own)


def _explain(error: TestbedError, status: Status, context: StepContext) -> StepResult:
    """An error as a result; where it points into the run folder, that is the pointer."""
    place = Path(error.where) if error.where else None
    if place is not None and place.is_relative_to(context.folder.path):
        return StepResult(status=status, detail=error.message, pointers=(context.pointer(place),))
    where = f"{error.where}: " if error.where else ""
    return StepResult(status=status, detail=f"{where}{error.message}")
