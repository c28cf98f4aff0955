"""The worker's side of the Dask engine: runs one case here and returns its run folder.

These functions are called by Dask in a worker process that `testbed.schedule.worker` started.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Reschedule, get_client, get_worker
from rich.console import Console

from testbed import __version__
from testbed.deadline import Stop
from testbed.errors import TestbedError
from testbed.evidence.events import Event
from testbed.evidence.run import RunFolder
from testbed.guest.private import private_folder
from testbed.plan.host import find_skip_reason
from testbed.plan.model import CasePlan
from testbed.schedule.parcel import pack_folder
from testbed.schedule.prepare import build_host, prepare_bench
from testbed.steps.runner import Bench, describe_bug, run_case

MOST_LOSSES = 2
"""A case that took so many workers with it is not tried again."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One case, as it is sent to a worker."""

    topic: str
    """Of the run: events are logged under it, attempts are counted under it."""
    number: int
    plan: str
    """`CasePlan` as JSON."""
    text: str
    kernel: str
    accel: str
    cold: bool
    version: str = __version__


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What comes back."""

    worker: str
    parcel: bytes | None = None
    """`testbed.schedule.parcel.pack_folder`; None when the case did not run."""
    trouble: str | None = None
    """What could not be written into the evidence, or why there is none."""
    hint: str | None = None
    lost: tuple[str, ...] = ()
    """The workers that ended while they ran this case, when there were too many of them."""


class _Shop:
    """What the cases of one worker process share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.benches: dict[tuple[str, str, bool], Bench] = {}
        self.stops: dict[str, Stop] = {}
        self.name = ""
        self.jobs = 1
        self.leaving = False

    def get_stop(self, topic: str) -> Stop:
        with self.lock:
            return self.stops.setdefault(topic, Stop())

    def get_bench(self, kernel: str, accel: str, cold: bool) -> Bench:
        with self.lock:
            key = (kernel, accel, cold)
            if key not in self.benches:
                self.benches[key] = prepare_bench(
                    Console(stderr=True), kernel=kernel, accel=accel, out=Path(), jobs=self.jobs, cold=cold
                )
            return self.benches[key]


_shop = _Shop()


def open_shop(name: str, jobs: int) -> None:
    """Say who this worker is and how many guests it runs at once."""
    _shop.name, _shop.jobs = name, jobs


def stop_topic(topic: str, reason: str) -> None:
    """End the cases of one run that run here, and those that come later."""
    _shop.get_stop(topic).set(reason)


def stop_all(reason: str) -> None:
    """End all cases that run here; other workers start them again."""
    with _shop.lock:
        _shop.leaving = True
        stops = list(_shop.stops.values())
    for stop in stops:
        stop.set(reason)


def run_order(order: Order) -> Delivery:
    """Run one case, unless it has ended too many workers already."""
    worker = get_worker()
    me = _shop.name
    if order.version != __version__:
        trouble = f"worker '{me}' has testbed {__version__}, the run was started by {order.version}"
        return Delivery(worker=me, trouble=trouble, hint="install the same version everywhere")
    with _count_attempt(order, me) as lost:
        if len(lost) >= MOST_LOSSES:
            return Delivery(worker=me, lost=lost)

        def see(event: Event) -> None:
            plain = json.loads(json.dumps(event, default=str))
            worker.log_event(order.topic, {"number": order.number, "who": me, "event": plain})

        worker.log_event(order.topic, {"number": order.number, "who": me})
        try:
            return _run(order, me, see)
        except TestbedError as error:
            return Delivery(worker=me, trouble=f"worker '{me}': {error.message}", hint=error.hint)


@contextmanager
def _count_attempt(order: Order, me: str) -> Iterator[tuple[str, ...]]:
    """Yield who was lost with this case before; inside, the scheduler knows that we have it.

    An attempt that ends in whatever way takes itself off the list: what stays there is a worker that
    vanished.
    """
    client = get_client()
    keys = [order.topic, str(order.number)]
    lost = tuple(client.get_metadata(keys, default=()))
    client.set_metadata(keys, [*lost, me])
    try:
        yield lost
    finally:
        client.set_metadata(keys, list(lost))


def _run(order: Order, me: str, see: Any) -> Delivery:
    stop = _shop.get_stop(order.topic)
    bench = _shop.get_bench(order.kernel, order.accel, order.cold)
    plan = CasePlan.model_validate_json(order.plan)
    if plan.skip_reason is None:
        plan = plan.model_copy(update={"skip_reason": find_skip_reason(plan.requires, build_host(bench))})
    folders: list[RunFolder] = []
    trouble = None
    with private_folder(Path("remote") / plan.name) as private:
        try:
            run_case(
                plan,
                _with_out(bench, private / "runs"),
                scenario_text=order.text,
                subscribers=(see,),
                stop=stop,
                started=folders.append,
            )
        except Exception as error:  # the edge of a case: what it left behind goes home all the same
            if not folders:
                raise
            trouble = str(error) if isinstance(error, TestbedError) else describe_bug(error)
        if _shop.leaving:
            raise Reschedule
        return Delivery(worker=me, parcel=pack_folder(folders[0].path), trouble=trouble)


def _with_out(bench: Bench, out: Path) -> Bench:
    return Bench(
        provisioned=bench.provisioned, accel=bench.accel, out=out, scale=bench.scale, cold=bench.cold
    )
