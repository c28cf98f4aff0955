"""``testbed bench clones``: how soon a fresh guest answers, against a boot and against virtme-ng."""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testbed.bench.rows import Row, build_ratio, build_row
from testbed.deadline import Deadline
from testbed.errors import LabError
from testbed.evidence.events import EventLog
from testbed.guest.accel import Accel
from testbed.guest.lab import Lab
from testbed.guest.process import Process, spawn
from testbed.guest.session import Guest, guest_session
from testbed.plan.build import build_cases
from testbed.plan.host import Host
from testbed.plan.model import CasePlan, GuestPlan, Options
from testbed.provision.model import Provisioned
from testbed.scenario.load import load_scenario
from testbed.steps.assets import Assets, prepare_assets
from testbed.steps.module import load_module

_SCENARIO = Path(__file__).with_name("clones.yaml")
_SECONDS = 120.0
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Setting:
    provisioned: Provisioned
    accel: Accel
    case: CasePlan
    assets: Assets


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """Samples of all rounds, by row name."""

    bare: list[float] = field(default_factory=list)
    gpu: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    vng: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    gpu_memory: list[float] = field(default_factory=list)


def bench_clones(
    provisioned: Provisioned, accel: Accel, *, rounds: int, say: Callable[[str], None]
) -> list[Row]:
    """Measure ``rounds`` times in turn: a bare clone, a clone with a GPU and its driver, a boot, virtme-ng.

    Each ends with the result of an SSH command that the caller asked for; virtme-ng's with its exit. Raises
    `LabError` when a guest fails. Where ``vng`` is not on the PATH or
    does not work its rows are missing.
    """
    (case,) = build_cases(load_scenario(_SCENARIO), host=Host(), options=Options())
    setting = _Setting(
        provisioned,
        accel,
        case,
        prepare_assets(case, provisioned, lambda what: say(f"building {what} ...")),
    )
    say("base snapshots")
    _measure_bare(setting, _Series())
    vng = _find_vng(setting, say)
    series = _Series()
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        _measure_bare(setting, series)
        _measure_gpu(setting, series)
        _measure_cold(setting, series)
        if vng is not None:
            _measure_vng(setting, vng, series)
    return _build_rows(series)


def _find_vng(setting: _Setting, say: Callable[[str], None]) -> str | None:
    """Return virtme-ng's program when it is there and can boot this kernel."""
    vng = shutil.which("vng")
    if vng is None:
        say("virtme-ng is not installed: no rows for it (pip install virtme-ng)")
        return None
    try:
        _measure_vng(setting, vng, _Series())
    except LabError as error:
        say(f"no rows for virtme-ng: {error.message}\n{error.hint}")
        return None
    return vng


def _build_rows(series: _Series) -> list[Row]:
    rows = [
        build_row("clones.bare_to_ssh", "s", series.bare),
        build_row("clones.gpu_to_ssh", "s", series.gpu),
        build_row("clones.cold_to_ssh", "s", series.cold),
        build_ratio("clones.cold_over_bare", series.cold, series.bare),
        build_row("clones.rss", "MiB", series.memory),
        build_row("clones.gpu_rss", "MiB", series.gpu_memory),
    ]
    if series.vng:
        rows.append(build_row("clones.vng", "s", series.vng))
        rows.append(build_ratio("clones.vng_over_bare", series.vng, series.bare))
    return rows


def _measure_bare(setting: _Setting, series: _Series) -> None:
    began = time.monotonic()
    with _guest(setting, _without_devices(setting.case), cold=False) as guest:
        _run(guest, "uname -r")
        series.bare.append(time.monotonic() - began)
        series.memory.append(_memory_mib(guest.process))


def _measure_gpu(setting: _Setting, series: _Series) -> None:
    began = time.monotonic()
    with _guest(setting, setting.case.guests[0], cold=False) as guest:
        problem, _ = load_module(guest, "tbgpu", {}, setting.assets, _deadline("load the driver"))
        if problem is not None:
            raise LabError(problem.detail)
        _run(guest, f"readlink /sys/bus/pci/devices/{guest.bdf('gpu0')}/driver")
        series.gpu.append(time.monotonic() - began)
        host = guest.host_process
        series.gpu_memory.append(_memory_mib(guest.process) + (_memory_mib(host) if host else 0.0))


def _measure_cold(setting: _Setting, series: _Series) -> None:
    began = time.monotonic()
    with _guest(setting, _without_devices(setting.case), cold=True) as guest:
        _run(guest, "uname -r")
        series.cold.append(time.monotonic() - began)


def _measure_vng(setting: _Setting, vng: str, series: _Series) -> None:
    """The same kernel, and the same QEMU behind a script, as virtme-ng wants a program."""
    kernel, qemu = setting.provisioned.kernel, setting.provisioned.qemu
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as name:
        folder = Path(name)
        program = folder / "qemu-system-x86_64"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(qemu.argv)} "$@"\n', encoding="utf-8")
        program.chmod(0o700)
        argv = [vng, "--disable-kvm", "--qemu", str(program), "-r", str(kernel.image), "--", "true"]
        began = time.monotonic()
        with spawn(argv, log=folder / "vng.log", env=dict(qemu.env)) as process:
            if not process.wait(_SECONDS) or process.poll() != 0:
                raise LabError(f"virtme-ng {process.describe_end()}", hint=process.log_tail().strip()[-500:])
        series.vng.append(time.monotonic() - began)


def _without_devices(case: CasePlan) -> GuestPlan:
    return case.guests[0].model_copy(update={"devices": ()})


@contextmanager
def _guest(setting: _Setting, plan: GuestPlan, *, cold: bool) -> Iterator[Guest]:
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as name:
        folder = Path(name)
        files = setting.assets.files() if plan.devices else {}
        with EventLog(folder / "events.jsonl") as events:
            lab = Lab(
                provisioned=setting.provisioned,
                accel=setting.accel,
                folder=folder / "vm",
                events=events,
                cold=cold,
                files=files,
            )
            with guest_session(plan, lab) as guest:
                yield guest


def _memory_mib(process: Process) -> float:
    """Return the memory of a process: its own, and its share of what it shares."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
    match = _PSS.search(rollup)
    if match is None:
        raise LabError(f"process {process.pid} has no Pss")
    return int(match.group(1)) / 1024


def _run(guest: Guest, command: str) -> None:
    result = guest.run(command, deadline=_deadline(command))
    if result.exit != 0:
        said = result.stderr.decode("utf-8", "replace").strip()
        raise LabError(f"'{command}' ended with status {result.exit} in the guest: {said}")


def _deadline(what: str) -> Deadline:
    return Deadline.after(_SECONDS, what)
