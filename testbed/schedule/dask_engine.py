"""The engine for more than one machine: cases are tasks of a Dask scheduler (docs/scheduling.md)."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from distributed import Client, Future, KilledWorker

from testbed.deadline import Stop
from testbed.errors import LabError, TestbedError
from testbed.evidence.run import create_run_folder
from testbed.schedule.calm import run_calmly
from testbed.schedule.capacity import measure_case
from testbed.schedule.case import judge_and_save, record_unrun
from testbed.schedule.durations import Durations, order_tasks
from testbed.schedule.parcel import unpack_folder
from testbed.schedule.remote import MOST_LOSSES, Delivery, Order, run_order, stop_topic
from testbed.schedule.task import Task, Watcher
from testbed.schedule.worker import KVM, MEMORY, SLOTS
from testbed.verdict.model import Verdict

_CONNECT_SECONDS = 5
_NO_WORKER_SECONDS = 30.0
_TICK = 0.5
_LAST_WORDS_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What all cases of the run share."""

    kernel: str
    accel: str
    out: Path
    cold: bool = False


@contextmanager
def start_client(address: str) -> Iterator[Client]:
    """Yield a connection to the scheduler. Raises `LabError` when it does not answer."""
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False, name="testbed")
    except (OSError, ValueError) as error:
        raise LabError(
            f"no Dask scheduler answers at '{address}'",
            hint="dask scheduler; testbed worker --scheduler ADDRESS; an address is tcp://HOST:8786",
        ) from error
    with client:
        yield client


class DaskEngine:
    """Runs tasks on the workers of a Dask scheduler."""

    def __init__(self, client: Client, conditions: Conditions, durations: Durations) -> None:
        self._client = client
        self._conditions = conditions
        self._durations = durations

    def run(self, tasks: Sequence[Task], watcher: Watcher, stop: Stop) -> None:
        """Run all ``tasks`` (`testbed.schedule.task.Engine`)."""
        ordered = order_tasks(tasks, lambda task: self._durations.find(task.plan.name))
        dispatch = _Dispatch(self._client, self._conditions, watcher, stop)
        run_calmly(lambda: dispatch.work(ordered), stop)


@dataclass(slots=True)
class _Ticket:
    """A task that Dask has."""

    task: Task
    slots: int
    future: Future[Delivery]
    worker: str = ""
    """Where it runs; empty until it begins."""


@dataclass(slots=True)
class _Dispatch:
    client: Client
    conditions: Conditions
    watcher: Watcher
    stop: Stop
    topic: str = field(default_factory=lambda: f"testbed-{secrets.token_hex(8)}")
    tickets: dict[int, _Ticket] = field(default_factory=dict)
    ended: SimpleQueue[int] = field(default_factory=SimpleQueue)
    lock: threading.RLock = field(default_factory=threading.RLock)
    alone_since: float | None = None

    def work(self, waiting: list[Task]) -> None:
        """Keep as many tasks with Dask as its workers have slots, until all have their verdicts."""
        self.client.subscribe_topic(self.topic, self._hear)
        try:
            while (waiting and self.stop.reason is None) or self.tickets:
                if self.stop.reason is not None:
                    self._call_off()
                    return
                self._feed(waiting)
                self._take_one(_TICK)
        finally:
            self.client.unsubscribe_topic(self.topic)

    def _feed(self, waiting: list[Task]) -> None:
        offers = self._find_offers()
        if not offers:
            self._wait_for_workers()
            return
        self.alone_since = None
        slots = sum(int(offer[SLOTS]) for offer in offers)
        while waiting and sum(ticket.slots for ticket in self.tickets.values()) < slots:
            task = waiting.pop(0)
            why_not = self._refuse(task, offers)
            if why_not is None:
                self._submit(task, max(int(offer[SLOTS]) for offer in offers))
            else:
                self._end(task, why_not)

    def _find_offers(self) -> list[Mapping[str, float]]:
        if self.client.status != "running":
            raise LabError("the connection to the Dask scheduler is lost")
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return [worker["resources"] for worker in workers if SLOTS in worker.get("resources", {})]

    def _wait_for_workers(self) -> None:
        now = time.monotonic()
        if self.alone_since is None:
            self.alone_since = now
            self.watcher.note("the scheduler has no testbed worker: waiting for one")
        elif now - self.alone_since > _NO_WORKER_SECONDS:
            raise LabError(
                f"the scheduler has had no testbed worker for {_NO_WORKER_SECONDS:.0f} s",
                hint="testbed worker --scheduler ADDRESS",
            )

    def _refuse(self, task: Task, offers: list[Mapping[str, float]]) -> Verdict | None:
        """The verdict of a task that none of the workers can ever take, else None."""
        need = measure_case(task.plan)
        if self._needs_kvm(task) and not any(KVM in offer for offer in offers):
            reason = "needs accelerator kvm, and no worker has it"
            plan = task.plan.model_copy(update={"skip_reason": reason})
            return record_unrun(replace(task, plan=plan), self.conditions.out, None)
        most = max(offer[MEMORY] for offer in offers)
        if need.memory_mib > most:
            text = (
                f"the guests of '{task.plan.name}' can take {need.memory_mib / 1024:.1f} GiB, and the "
                f"largest worker has {most / 1024:.1f} GiB for guests"
            )
            return record_unrun(
                task, self.conditions.out, LabError(text, hint="testbed worker --memory SIZE")
            )
        return None

    def _needs_kvm(self, task: Task) -> bool:
        return "kvm" in (task.plan.requires.accel, self.conditions.accel)

    def _submit(self, task: Task, most_slots: int) -> None:
        need = measure_case(task.plan)
        slots = max(1, min(need.slots, most_slots))
        resources: dict[str, float] = {SLOTS: slots, MEMORY: need.memory_mib}
        if self._needs_kvm(task):
            resources[KVM] = slots
        order = Order(
            topic=self.topic,
            number=task.number,
            plan=task.plan.model_dump_json(),
            text=task.text,
            kernel=self.conditions.kernel,
            accel=self.conditions.accel,
            cold=self.conditions.cold,
        )
        key = f"{self.topic}-{task.number}"
        with self.lock:
            future = self.client.submit(run_order, order, key=key, pure=False, resources=resources)
            self.tickets[task.number] = _Ticket(task=task, slots=slots, future=future)
        future.add_done_callback(lambda _: self.ended.put(task.number))

    def _hear(self, logged: tuple[float, Mapping[str, Any]]) -> None:
        """A worker says that it has begun a case, or passes on an event of it."""
        _, message = logged
        with self.lock:
            ticket = self.tickets.get(message["number"])
            if ticket is None:
                return
            event, worker = message.get("event"), str(message["who"])
            if event is None:
                if ticket.worker and ticket.worker != worker:
                    self.watcher.note(
                        f"worker {ticket.worker} is lost: {ticket.task.plan.name} starts again on {worker}"
                    )
                ticket.worker = worker
                self.watcher.begin(ticket.task)
            elif worker == ticket.worker:
                self.watcher.see(ticket.task, event)

    def _take_one(self, seconds: float) -> None:
        try:
            number = self.ended.get(timeout=seconds)
        except Empty:
            return
        ticket = self.tickets[number]
        try:
            verdict = self._receive(ticket)
        except TestbedError as error:
            verdict = record_unrun(ticket.task, self.conditions.out, LabError(error.message, hint=error.hint))
        self._end(ticket.task, verdict)

    def _receive(self, ticket: _Ticket) -> Verdict:
        try:
            delivery = ticket.future.result()
        except KilledWorker as error:
            raise LabError(f"Dask gave up: too many workers ended while they had it: {error}") from error
        except Exception as error:  # the edge to other machines: whatever their Python raised
            raise LabError(f"the worker could not run it: {type(error).__name__}: {error}") from error
        if delivery.lost:
            names = ", ".join(delivery.lost)
            raise LabError(f"it was running when {MOST_LOSSES} workers were lost ({names}): not tried again")
        if delivery.parcel is None:
            raise LabError(delivery.trouble or "the worker sent nothing", hint=delivery.hint)
        folder = create_run_folder(self.conditions.out, ticket.task.plan.name)
        unpack_folder(delivery.parcel, folder.path)
        trouble = LabError(delivery.trouble) if delivery.trouble else None
        return replace(judge_and_save(folder, trouble), name=ticket.task.plan.name)

    def _end(self, task: Task, verdict: Verdict) -> None:
        with self.lock:
            ticket = self.tickets.pop(task.number, None)
            if ticket is None or not ticket.worker:
                self.watcher.begin(task)
            self.watcher.end(task, verdict)

    def _call_off(self) -> None:
        """Forget what has not begun, end what has, and take what that left behind."""
        with self.lock:
            idle = [number for number, ticket in self.tickets.items() if not ticket.worker]
            dropped = [self.tickets.pop(number) for number in idle]
        self.client.cancel([ticket.future for ticket in dropped])
        self.client.run(stop_topic, self.topic, self.stop.reason, on_error="ignore")
        end = time.monotonic() + _LAST_WORDS_SECONDS
        while self.tickets and time.monotonic() < end:
            self._take_one(_TICK)
        for ticket in list(self.tickets.values()):
            lost = LabError(f"stopped: {self.stop.reason}; worker {ticket.worker} sent nothing")
            self._end(ticket.task, record_unrun(ticket.task, self.conditions.out, lost))
