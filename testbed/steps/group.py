"""``parallel``, ``repeat`` and ``always``: steps made of steps."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from testbed.deadline import Stop
from testbed.errors import TestbedError
from testbed.outcome import Status, worst
from testbed.scenario.model import AlwaysStep, ParallelStep, RepeatStep, StepBase
from testbed.steps.base import StepContext, StepResult

_TICK = 0.2  # the main thread wakes this often, so that Ctrl-C is taken while branches run


def run_parallel(step: ParallelStep, context: StepContext) -> StepResult:
    """Run the branches at once. When one loses its guest, the others are ended; so does Ctrl-C."""
    stop = Stop(context.deadline.stop)
    deadline = replace(context.deadline, stop=stop)
    branches = [
        _Branch(steps, context.for_child(number).with_deadline(deadline), stop)
        for number, steps in enumerate(step.parallel, start=1)
    ]
    try:
        for branch in branches:
            branch.start()
        for branch in branches:
            while branch.is_alive():
                branch.join(_TICK)
    except BaseException:  # KeyboardInterrupt too: no branch may outlive the step
        stop.set("interrupted")
        for branch in branches:
            branch.join()
        raise
    for branch in branches:
        if branch.error is not None:
            raise branch.error
    results = [result for branch in branches for result in branch.results]
    return summarize(results, f"{len(branches)} branches passed")


class _Branch(threading.Thread):
    def __init__(self, steps: Sequence[StepBase], context: StepContext, stop: Stop) -> None:
        super().__init__(name=f"branch-{context.index}")
        self._steps = steps
        self._context = context
        self._stop_all = stop
        self.results: list[StepResult] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.results = self._context.run_children(self._steps, self._context)
        except BaseException as error:  # noqa: BLE001 - a thread's edge; raised again by run_parallel
            self.error = error
            reason = error.message if isinstance(error, TestbedError) else str(error)
            self._stop_all.set(f"branch {self._context.index} ended: {reason}")


def run_repeat(step: RepeatStep, context: StepContext) -> StepResult:
    """Run the steps again and again, up to the first that is not good."""
    results: list[StepResult] = []
    for number in range(1, step.repeat.times + 1):
        results += context.run_children(step.repeat.steps, context.for_child(number))
        if not all(result.good for result in results[-len(step.repeat.steps) :]):
            outcome = summarize(results, "")
            return replace(outcome, detail=f"round {number} of {step.repeat.times}: {outcome.detail}")
    return summarize(results, f"{step.repeat.times} rounds passed")


def run_always(step: AlwaysStep, context: StepContext) -> StepResult:
    """Run the steps; that they run after a failure too is the runner's doing."""
    return summarize(context.run_children(step.always, context), "")


def summarize(results: Sequence[StepResult], good: str) -> StepResult:
    """Return the result of a group: the worst inside, in the words of the first that is as bad."""
    status = worst(result.status for result in results)
    if status in (Status.PASS, Status.DONE, Status.SKIP):
        return StepResult(status=status, detail=good)
    first = next(result for result in results if result.status is status)
    return StepResult(status=status, detail=first.detail, pointers=first.pointers)
