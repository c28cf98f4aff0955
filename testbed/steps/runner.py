"""`run_case`: from a `CasePlan` to a finished run folder. Set-up, body and teardown are kept apart.

The folder is complete whatever happens: Ctrl-C, a panic, a dead QEMU and a full disk each leave their
reason in ``events.jsonl``. Whether the case passed is for `testbed.verdict` to say.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from testbed.deadline import CancellableDeadline, Deadline, Stop
from testbed.errors import GuestPanicked, ScenarioFault, TestbedError
from testbed.evidence.events import EventLog, Subscriber
from testbed.evidence.run import RunFolder, create_run_folder
from testbed.guest.accel import Accel
from testbed.guest.lab import Lab
from testbed.guest.session import Guest, guest_session
from testbed.outcome import Status
from testbed.plan.model import CasePlan
from testbed.provision.model import Provisioned
from testbed.scenario.model import ModuleStep, StepBase
from testbed.steps.assets import Shelf, prepare_assets
from testbed.steps.base import StepContext, StepResult
from testbed.steps.sequence import run_sequence

Body = Callable[[StepContext], object]

_MODULE_SECONDS = "30s"
_SETUP = "0"  # index of what happens before step 1
_SYNC_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all cases of a run share."""

    provisioned: Provisioned
    accel: Accel
    out: Path
    scale: float = 1.0
    """How many times slower this machine is than the reference; all budgets are multiplied by it."""
    cold: bool = False
    """Boot every guest from power-on."""
    shelf: Shelf = field(default_factory=Shelf)
    """Modules and tools that cases of this run share."""


def run_case(
    case: CasePlan,
    bench: Bench,
    *,
    scenario_text: str,
    subscribers: tuple[Subscriber, ...] = (),
    stop: Stop | None = None,
    started: Callable[[RunFolder], None] | None = None,
    body: Body | None = None,
) -> RunFolder:
    """Run one case and return its folder. Safe to call from several threads at once.

    ``started`` gets the folder as soon as there is one. ``body`` is done, with the guest tools at hand, in
    place of the case's modules and steps. Raises `UsageError` when no folder can be made,
    `LabError` when the disk is full, and KeyboardInterrupt, after the evidence is closed.
    """
    began = time.monotonic()
    folder = create_run_folder(bench.out, case.name)
    if started is not None:
        started(folder)
    with EventLog(folder.events) as events:
        for subscriber in subscribers:
            events.subscribe(subscriber)
        folder.write(folder.plan.name, case.model_dump_json(indent=1) + "\n")
        folder.write(folder.scenario.name, scenario_text)
        events.emit(
            "case_started",
            name=case.name,
            seed=case.seed,
            kernel=bench.provisioned.kernel.release,
            accel=bench.accel.name,
            accel_reason=bench.accel.reason,
            wall=datetime.now(UTC).isoformat(),
        )
        try:
            with _errors_become_events(events):
                if case.skip_reason is None:
                    _run_live(case, bench, folder, events, stop or Stop(), body)
        finally:
            events.emit("case_finished", seconds=round(time.monotonic() - began, 3))
    return folder


@contextlib.contextmanager
def _errors_become_events(events: EventLog) -> Iterator[None]:
    """Write down what ended the case early; only Ctrl-C and bugs go further."""
    try:
        yield
    except GuestPanicked as error:
        _note(events, Status.FAIL, error)
    except ScenarioFault as error:
        _note(events, Status.ERROR, error)
    except TestbedError as error:
        _note(events, Status.MISS, error)
    except KeyboardInterrupt:
        events.emit("error", status=Status.MISS.value, message="interrupted", hint=None)
        raise
    except Exception as error:  # the edge of a case: a bug is in the evidence before it goes on
        trace = "".join(traceback.format_exception(error))
        events.emit("error", status=Status.MISS.value, message=describe_bug(error), hint=trace.rstrip())
        raise


def describe_bug(error: Exception) -> str:
    """Return in a sentence what was raised that never should be."""
    return f"a bug in testbed ended the case: {type(error).__name__}: {error}"


def _note(events: EventLog, status: Status, error: TestbedError) -> None:
    """Write down an error; a place inside the run folder need not be named, the evidence is there."""
    outside = error.where and not Path(error.where).is_relative_to(events.path.parent)
    place = f"{error.where}: " if outside else ""
    events.emit("error", status=status.value, message=f"{place}{error.message}", hint=error.hint)


def _run_live(
    case: CasePlan, bench: Bench, folder: RunFolder, events: EventLog, stop: Stop, body: Body | None
) -> None:
    began = time.monotonic()
    assets = prepare_assets(
        case,
        bench.provisioned,
        lambda what: events.emit("building", what=what),
        bench.shelf,
        tools=body is not None,
    )
    events.emit("prepared", seconds=round(time.monotonic() - began, 3))
    with ExitStack() as stack:
        guests: dict[str, Guest] = {}
        for plan in case.guests:
            lab = Lab(
                provisioned=bench.provisioned,
                accel=bench.accel,
                folder=folder.guest(plan.name),
                events=events,
                scale=bench.scale,
                seed=case.seed,
                stop=stop,
                cold=case.cold or bench.cold,
                files=assets.files(),
            )
            guests[plan.name] = stack.enter_context(guest_session(plan, lab))
        seconds = case.timeout * bench.scale
        what = f"the case's budget of {seconds:.3g} s is used up"
        deadline = CancellableDeadline(time.monotonic() + seconds, what, stop)
        context = StepContext(
            case=case,
            guests=guests,
            assets=assets,
            folder=folder,
            events=events,
            deadline=deadline,
            scale=bench.scale,
            run_children=run_sequence,
        )
        try:
            (body or _run_steps)(context)
        finally:
            _sync_logs(guests, events, bench.scale)


def _run_steps(context: StepContext) -> None:
    if all(result.good for result in run_setup(context)):
        run_sequence(context.case.steps, context)


def run_setup(context: StepContext) -> list[StepResult]:
    """Load the scenario's ``modules``; return how that went, up to the first that did not load."""
    return run_sequence(_setup_steps(context.case), context.for_child(_SETUP))


def _setup_steps(case: CasePlan) -> list[StepBase]:
    """The scenario's ``modules`` list as steps of each guest, so that reports show them."""
    return [
        ModuleStep.model_validate(
            {"module": use.name, "args": use.args, "guest": plan.name, "timeout": _MODULE_SECONDS}
        )
        for plan in case.guests
        for use in case.modules
    ]


def _sync_logs(guests: dict[str, Guest], events: EventLog, scale: float) -> None:
    """Wait until the kernel's last words are in the evidence; without them there can be no pass."""
    for guest in guests.values():
        try:
            deadline = Deadline.after(_SYNC_SECONDS * scale, "the kernel's last messages to be in kmsg.log")
            events.emit("kmsg_complete", guest=guest.name, bytes=guest.sync_kmsg(deadline))
        except GuestPanicked:
            continue  # the session has written that down
        except TestbedError as error:
            _note(events, Status.MISS, error)
