"""The engine that runs cases here: one thread for each case, as many as cores and memory carry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from testbed.deadline import Stop
from testbed.errors import TestbedError
from testbed.evidence.events import Event
from testbed.schedule.calm import run_calmly
from testbed.schedule.capacity import Capacity, measure_case, refuse_case
from testbed.schedule.case import record_unrun, run_one
from testbed.schedule.durations import Durations, order_tasks
from testbed.schedule.task import Task, Watcher
from testbed.steps.runner import Bench


class LocalEngine:
    """Runs tasks on this machine, within ``capacity``; the longest first when there is a choice."""

    def __init__(self, bench: Bench, capacity: Capacity, durations: Durations) -> None:
        self._bench = bench
        self._capacity = capacity
        self._durations = durations

    def run(self, tasks: Sequence[Task], watcher: Watcher, stop: Stop) -> None:
        """Run all ``tasks`` (`testbed.schedule.task.Engine`)."""
        waiting = []
        for task in tasks:
            refusal = refuse_case(task.plan, self._capacity)
            if refusal is None:
                waiting.append(task)
                continue
            watcher.begin(task)
            watcher.end(task, record_unrun(task, self._bench.out, refusal))
        if self._capacity.slots > 1:
            waiting = order_tasks(waiting, self._estimate)
        floor = _Floor(self._capacity, watcher, self._start(watcher, stop))
        run_calmly(lambda: floor.work(waiting, stop), stop)

    def _estimate(self, task: Task) -> float | None:
        bench = self._bench
        return self._durations.find(task.plan.name, bench.provisioned.kernel.release, bench.accel.name)

    def _start(self, watcher: Watcher, stop: Stop) -> Callable[[Task], None]:
        def run(task: Task) -> None:
            def see(event: Event) -> None:
                watcher.see(task, event)

            watcher.begin(task)
            watcher.end(task, run_one(task, self._bench, see=see, stop=stop))

        return run


@dataclass(slots=True)
class _Floor:
    """The tasks that run now, and the room that they take."""

    capacity: Capacity
    watcher: Watcher
    run_task: Callable[[Task], None]
    running: dict[int, Capacity] = field(default_factory=dict)
    ended: SimpleQueue[tuple[Task, BaseException | None]] = field(default_factory=SimpleQueue)
    told: set[int] = field(default_factory=set)

    def work(self, waiting: list[Task], stop: Stop) -> None:
        """Run ``waiting`` in order, each as soon as there is room; a small one may pass a large one.

        When one raises, the others are ended first.
        """
        errors: list[BaseException] = []
        while self.running or (waiting and stop.reason is None):
            if stop.reason is None:
                self._fill(waiting)
            task, error = self.ended.get()
            self.running.pop(task.number)
            if error is not None:
                errors.append(error)
                stop.set(error.message if isinstance(error, TestbedError) else repr(error))
        if errors:
            raise errors[0]

    def _fill(self, waiting: list[Task]) -> None:
        for task in list(waiting):
            need = self._need(task)
            slots = self.capacity.slots - sum(each.slots for each in self.running.values())
            memory = self.capacity.memory_mib - sum(each.memory_mib for each in self.running.values())
            if slots <= 0:
                return
            if need.slots <= slots and need.memory_mib <= memory:
                waiting.remove(task)
                self._launch(task, need)
            elif need.memory_mib > memory:
                self._tell(task, need.memory_mib, memory)

    def _need(self, task: Task) -> Capacity:
        need = measure_case(task.plan)
        # At least one slot, so that a thread is bounded too; at most all, so that each case can run.
        return Capacity(slots=max(1, min(need.slots, self.capacity.slots)), memory_mib=need.memory_mib)

    def _tell(self, task: Task, need: int, left: int) -> None:
        if task.number not in self.told:
            self.told.add(task.number)
            self.watcher.note(
                f"queued: {task.plan.name} waits for {need / 1024:.1f} GiB of memory, "
                f"{left / 1024:.1f} of {self.capacity.memory_mib / 1024:.1f} GiB is free for guests"
            )

    def _launch(self, task: Task, need: Capacity) -> None:
        def body() -> None:
            error: BaseException | None = None
            try:
                self.run_task(task)
            except BaseException as caught:  # noqa: BLE001 - a thread's edge; raised again by `work`
                error = caught
            self.ended.put((task, error))

        self.running[task.number] = need
        threading.Thread(target=body, name=f"case-{task.number}").start()
