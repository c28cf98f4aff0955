"""``testbed bench suite``: many short cases at once, what they cost, and what they leave behind."""

from __future__ import annotations

import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testbed.bench.rows import Row, build_row
from testbed.errors import LabError
from testbed.evidence.events import Event
from testbed.guest.accel import Accel
from testbed.guest.census import find_folders
from testbed.guest.custody import get_custody
from testbed.guest.reaper import find_marked
from testbed.outcome import Status
from testbed.plan.build import build_cases
from testbed.plan.host import Host
from testbed.plan.model import Options
from testbed.provision.model import Provisioned
from testbed.scenario.load import load_scenario
from testbed.schedule.calibration import probe_scale
from testbed.schedule.capacity import Capacity, probe_capacity
from testbed.schedule.durations import Durations
from testbed.schedule.local import LocalEngine
from testbed.schedule.series import Series, Wish, build_tasks
from testbed.steps.runner import Bench
from testbed.verdict.model import Verdict

CASES = 100
_SCENARIO = Path(__file__).with_name("suite.yaml")
_TICK = 0.1
_MEMORY_EVERY = 10
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def bench_suite(
    provisioned: Provisioned, accel: Accel, *, rounds: int, say: Callable[[str], None]
) -> list[Row]:
    """Run `CASES` short cases ``rounds`` times, as many at once as the machine carries.

    Raises `LabError` when one does not pass.
    """
    capacity = probe_capacity()
    scale = probe_scale(provisioned.qemu, accel, provisioned.cache, jobs=capacity.slots)
    results = []
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
        bench = Bench(provisioned=provisioned, accel=accel, out=Path(folder), scale=scale.factor)
        _run(bench, capacity, 1)  # builds modules and tools, and makes the base of the clones
        for number in range(rounds):
            say(f"suite {number + 1} of {rounds}: {CASES} cases, {capacity.slots} at once")
            results.append(_run(bench, capacity, CASES))
    cases = [seconds for result in results for seconds in result.case_seconds]
    return [
        build_row("suite.seconds", "s", [result.seconds for result in results]),
        build_row("suite.case", "s", cases),
        build_row("suite.peak_memory", "MiB", [result.peak_mib for result in results]),
        build_row(
            "suite.own_cpu_over_qemu", "ratio", [result.own_cpu / result.qemu_cpu for result in results]
        ),
        build_row("suite.leaks", "count", [result.leaks for result in results]),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    seconds: float
    case_seconds: list[float]
    peak_mib: float
    own_cpu: float
    qemu_cpu: float
    leaks: int


class _Silence:
    """A view that shows nothing: drawing is not what is measured."""

    def begin(self, number: int, name: str) -> None:
        """Show nothing."""

    def see(self, number: int, event: Event) -> None:
        """Show nothing."""

    def end(self, number: int, verdict: Verdict | None) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""


def _run(bench: Bench, capacity: Capacity, count: int) -> _Result:
    scenario = load_scenario(_SCENARIO)
    (case,) = build_cases(scenario, host=Host(), options=Options())
    series = Series(build_tasks([(case, scenario.text)], count), Wish(keep="failed"), _Silence())
    before, own, children, began = _count_things(), _own_seconds(), _children_seconds(), time.monotonic()
    with _start_sampler() as sampler:
        series.run(LocalEngine(bench, capacity, Durations({})))
    seconds = time.monotonic() - began
    for verdict in series.verdicts:
        if verdict.status is not Status.PASS:
            raise LabError(f"a case of the suite is {verdict.status}: {verdict.reason}")
    hosts = sum(sampler.hosts.values())
    return _Result(
        seconds=seconds,
        case_seconds=[verdict.seconds for verdict in series.verdicts],
        peak_mib=sampler.peak / (1 << 20),
        own_cpu=_own_seconds() - own - sampler.cpu + hosts,
        qemu_cpu=max(0.01, _children_seconds() - children - hosts),
        leaks=max(0, _count_things() - before),
    )


def _own_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _count_things() -> int:
    """Count what a case could leave behind: processes, threads, descriptors, private folders."""
    processes = len(find_marked(get_custody().run_id))
    folders = sum(tenant.pid == os.getpid() for tenant in find_folders())
    return processes + folders + threading.active_count() + len(list(Path("/proc/self/fd").iterdir()))


@dataclass(slots=True)
class _Sampler:
    """Looks at our children again and again."""

    hosts: dict[int, float] = field(default_factory=dict)
    """Processor seconds of each device host, as seen last."""
    kinds: dict[int, bool] = field(default_factory=dict)
    """Whether a pid is a device host."""
    peak: int = 0
    """Bytes that we and our children held at once, shared pages counted in part (PSS)."""
    cpu: float = 0.0
    """Processor seconds of the sampling itself."""
    done: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        count = 0
        while not self.done.wait(_TICK):
            pids = _find_children()
            for pid in pids:
                self._look_at(pid)
            if count % _MEMORY_EVERY == 0:
                self.peak = max(self.peak, sum(_read_pss(pid) for pid in [*pids, os.getpid()]))
            count += 1
            self.cpu = time.thread_time()

    def _look_at(self, pid: int) -> None:
        try:
            if pid not in self.kinds:
                self.kinds[pid] = b"vfiodev" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if self.kinds[pid]:
                fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
                self.hosts[pid] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
        except (OSError, IndexError):
            self.kinds.pop(pid, None)


@contextmanager
def _start_sampler() -> Iterator[_Sampler]:
    sampler = _Sampler()
    thread = threading.Thread(target=sampler.work, name="sampler")
    thread.start()
    try:
        yield sampler
    finally:
        sampler.done.set()
        thread.join()


def _find_children() -> list[int]:
    pids: list[int] = []
    for entry in Path("/proc/self/task").iterdir():
        try:
            pids += [int(word) for word in (entry / "children").read_text().split()]
        except OSError:
            continue
    return pids


def _read_pss(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
