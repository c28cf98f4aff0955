"""``testbed bench guest``: one guest's life in figures, all measured in the same run."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from testbed.bench.rows import Row, build_ratio, build_row
from testbed.deadline import Deadline
from testbed.errors import LabError
from testbed.evidence.events import EventLog
from testbed.guest.accel import Accel
from testbed.guest.lab import Lab
from testbed.guest.session import Guest, guest_session
from testbed.plan.build import build_cases
from testbed.plan.host import Host
from testbed.plan.model import CasePlan, Options
from testbed.provision.model import Provisioned
from testbed.scenario.load import load_scenario
from testbed.steps.assets import Assets, prepare_assets
from testbed.steps.module import load_module

_SCENARIO = Path(__file__).with_name("guest.yaml")
_STEP_SECONDS = 60.0
_MMIO_READS = 500
_SUBMITS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """Samples of all rounds, by row name."""

    boot: list[float] = field(default_factory=list)
    bound: list[float] = field(default_factory=list)
    gpu_read: list[float] = field(default_factory=list)
    edu_read: list[float] = field(default_factory=list)
    submit: list[float] = field(default_factory=list)
    teardown: list[float] = field(default_factory=list)


def bench_guest(
    provisioned: Provisioned, accel: Accel, *, rounds: int, say: Callable[[str], None]
) -> list[Row]:
    """Boot ``rounds`` guests one after the other and measure each. Raises `LabError` when one fails.

    MMIO and submit rows hold the median of each guest.
    """
    (case,) = build_cases(load_scenario(_SCENARIO), host=Host(), options=Options())
    build = partial(prepare_assets, case, provisioned, lambda what: say(f"building {what} ..."))
    build()  # before anything is measured
    series = _Series()
    for number in range(rounds):
        say(f"guest {number + 1} of {rounds}")
        with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
            _measure(case, build(), _Round(provisioned, accel, Path(folder)), series)
    return [
        build_row("guest.cold_boot_to_ssh", "s", series.boot),
        build_row("guest.hotplug_to_driver_bound", "s", series.bound),
        build_row("guest.mmio_read_gpu", "us", series.gpu_read),
        build_row("guest.mmio_read_edu", "us", series.edu_read),
        build_ratio("guest.mmio_read_gpu_over_edu", series.gpu_read, series.edu_read),
        build_row("guest.submit_to_fence", "us", series.submit),
        build_row("guest.teardown", "s", series.teardown),
    ]


@dataclass(frozen=True, slots=True)
class _Round:
    provisioned: Provisioned
    accel: Accel
    folder: Path


def _measure(case: CasePlan, assets: Assets, this: _Round, series: _Series) -> None:
    began = time.monotonic()
    with EventLog(this.folder / "events.jsonl") as events:
        lab = Lab(
            provisioned=this.provisioned,
            accel=this.accel,
            folder=this.folder / "vm",
            events=events,
            cold=True,
        )
        with guest_session(case.guests[0], lab) as guest:
            _run(guest, "true")
            series.boot.append(time.monotonic() - began)
            problem, _ = load_module(guest, "tbgpu", {}, assets, _deadline("load the driver"))
            if problem is not None:
                raise LabError(problem.detail)
            series.bound.append(_plug_until_bound(guest))
            guest.plug("edu0", deadline=_deadline("plug the edu device"))
            assets.push_tools(guest, _deadline("push the tools"))
            series.gpu_read.append(
                _tool(guest, f"tb-bench mmio --pci {guest.bdf('gpu0')} --count {_MMIO_READS}")
            )
            series.edu_read.append(
                _tool(guest, f"tb-bench mmio --pci {guest.bdf('edu0')} --count {_MMIO_READS}")
            )
            series.submit.append(_tool(guest, f"tb-bench submit --count {_SUBMITS}"))
            ending = time.monotonic()
        series.teardown.append(time.monotonic() - ending)


def _plug_until_bound(guest: Guest) -> float:
    began = time.monotonic()
    address = guest.plug("gpu0", deadline=_deadline("plug the GPU"))
    _run(guest, f"until [ -e /sys/bus/pci/devices/{address}/driver ]; do sleep 0.01; done")
    return time.monotonic() - began


def _tool(guest: Guest, command: str) -> float:
    result: dict[str, Any] = json.loads(_run(guest, command))
    return float(result["median"])


def _run(guest: Guest, command: str) -> bytes:
    result = guest.run(command, deadline=_deadline(command))
    if result.exit != 0:
        said = result.stderr.decode("utf-8", "replace").strip()
        raise LabError(f"'{command}' ended with status {result.exit} in the guest: {said}")
    return result.stdout


def _deadline(what: str) -> Deadline:
    return Deadline.after(_STEP_SECONDS, what)
