"""When the local engine starts which case, and how it ends them all."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from case_maker import RELEASE, Record, make_task, make_verdict

from testbed.deadline import Stop
from testbed.errors import LabError
from testbed.evidence.run import RunFolder, open_run_folder
from testbed.guest.accel import Accel
from testbed.outcome import Status
from testbed.provision.model import Image, Kernel, Provisioned, Qemu, Toolbox
from testbed.schedule import local
from testbed.schedule.capacity import Capacity, measure_case
from testbed.schedule.case import run_one
from testbed.schedule.durations import Durations, build_key
from testbed.schedule.local import LocalEngine
from testbed.schedule.task import Task
from testbed.steps import runner
from testbed.steps.runner import Bench
from testbed.verdict.judge import judge_run
from testbed.verdict.model import Verdict

NEED = measure_case(make_task(0).plan).memory_mib
Body = Callable[[Task, Stop], Verdict]


class Hall:
    """Runs tasks through the engine and sees how many were inside at once."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = bench
        self.record = Record()
        self.stop = Stop()
        self.inside: set[int] = set()
        self.most = 0
        self.started: list[int] = []
        self.body: Body = lambda task, stop: make_verdict(task)
        self._lock = threading.Lock()
        monkeypatch.setattr(local, "run_one", self._run_one)

    def run(self, tasks: list[Task], *, slots: int = 2, memory: int = 1 << 20, **seconds: float) -> None:
        known = {build_key(name, "", ""): value for name, value in seconds.items()}
        engine = LocalEngine(self.bench, Capacity(slots=slots, memory_mib=memory), Durations(known))
        engine.run(tasks, self.record, self.stop)

    def _run_one(self, task: Task, _bench: Bench, *, see: Any, stop: Stop) -> Verdict:
        with self._lock:
            self.inside.add(task.number)
            self.started.append(task.number)
            self.most = max(self.most, len(self.inside))
        try:
            return self.body(task, stop)
        finally:
            with self._lock:
                self.inside.discard(task.number)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    qemu = Qemu(argv=("qemu",), img_argv=("qemu-img",), env={}, version=(11, 1, 3), origin="unit")
    kernel = Kernel(
        name="default",
        key="k",
        release=RELEASE,
        image=tmp_path,
        modules_dir=tmp_path,
        build_dir=tmp_path,
        tree=None,
        config={},
    )
    provisioned = Provisioned(
        cache=tmp_path,
        qemu=qemu,
        toolbox=Toolbox(root=tmp_path, key="t", packages={}, qemu=qemu),
        kernel=kernel,
        image=Image(key="i", initramfs=tmp_path, cmdline=(), modules=()),
    )
    return Bench(provisioned=provisioned, accel=Accel(name="tcg", reason="unit"), out=tmp_path / "runs")


@pytest.fixture
def hall(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Hall:
    return Hall(bench, monkeypatch)


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Presses Ctrl-C in a moment; works also where the tests were started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield timer.start
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


def linger(task: Task, stop: Stop) -> Verdict:
    time.sleep(0.02)
    return make_verdict(task)


def until_stopped(task: Task, stop: Stop) -> Verdict:
    end = time.monotonic() + 20
    while stop.reason is None:
        assert time.monotonic() < end, "nobody stopped it"
        time.sleep(0.01)
    return make_verdict(task, Status.MISS)


def test_as_many_run_as_there_are_slots_and_no_more(hall: Hall) -> None:
    both = threading.Barrier(2, timeout=5)

    def meet(task: Task, stop: Stop) -> Verdict:
        both.wait()
        return make_verdict(task)

    hall.body = meet
    hall.run([make_task(number) for number in range(6)], slots=2)
    assert hall.most == 2
    assert sorted(hall.record.verdicts) == list(range(6))


def test_one_at_a_time_keeps_the_order_of_the_input(hall: Hall) -> None:
    hall.run([make_task(number) for number in range(4)], slots=1, **{"case-3": 9.0})
    assert hall.started == [0, 1, 2, 3]
    assert hall.most == 1


def test_several_at_once_start_the_longest_first(hall: Hall) -> None:
    hall.body = linger
    names = {f"case-{number}": float(number) for number in range(4)}
    hall.run([make_task(number) for number in range(4)], slots=2, **names)
    assert set(hall.started[:2]) == {3, 2}
    assert set(hall.started[2:]) == {1, 0}


def test_guests_are_slots_and_a_large_case_runs_alone(hall: Hall) -> None:
    hall.body = linger
    guests = [{"name": f"vm{number}", "memory_mib": 64, "cpus": 1} for number in range(3)]
    hall.run([make_task(0, guests=guests), make_task(1), make_task(2)], slots=2)
    assert hall.started[0] == 0
    assert sorted(hall.record.verdicts) == [0, 1, 2]


def test_memory_bounds_how_many_run_and_that_is_said_once(hall: Hall) -> None:
    hall.body = linger
    hall.run([make_task(number) for number in range(4)], slots=4, memory=2 * NEED + 1)
    assert hall.most == 2
    assert sorted(hall.record.verdicts) == list(range(4))
    assert sorted(hall.record.notes) == [
        f"queued: case-{number} waits for {NEED / 1024:.1f} GiB of memory, "
        f"0.0 of {(2 * NEED + 1) / 1024:.1f} GiB is free for guests"
        for number in (2, 3)
    ]


def test_a_small_case_passes_a_large_one_that_waits_for_memory(hall: Hall) -> None:
    small = [{"name": "vm", "memory_mib": 64, "cpus": 1}]
    release = threading.Event()

    def body(task: Task, stop: Stop) -> Verdict:
        if task.number == 0:
            assert release.wait(5)
        if task.number == 2:
            release.set()
        return make_verdict(task)

    hall.body = body
    hall.run([make_task(0), make_task(1), make_task(2, guests=small)], slots=2, memory=2 * NEED - 100)
    assert sorted(hall.started[:2]) == [0, 2]
    assert hall.started[2] == 1


def test_a_case_that_can_never_fit_is_a_miss_and_the_others_run(hall: Hall) -> None:
    huge = [{"name": "vm", "memory_mib": 8192, "cpus": 1}]
    hall.run([make_task(0, guests=huge), make_task(1)], memory=4096)
    assert hall.started == [1]
    assert hall.record.verdicts[0].status is Status.MISS
    assert "this machine has 4.0 GiB for guests" in hall.record.verdicts[0].reason
    assert hall.record.verdicts[1].status is Status.PASS


def test_a_stop_lets_nothing_begin_and_ends_what_runs(hall: Hall) -> None:
    hall.body = until_stopped
    threading.Timer(0.1, lambda: hall.stop.set("enough")).start()
    hall.run([make_task(number) for number in range(5)], slots=2)
    assert hall.started == [0, 1]
    assert sorted(hall.record.verdicts) == [0, 1]


def test_an_error_ends_the_others_first(hall: Hall) -> None:
    def body(task: Task, stop: Stop) -> Verdict:
        if task.number == 0:
            raise LabError("no folder")
        return until_stopped(task, stop)

    hall.body = body
    with pytest.raises(LabError, match="no folder"):
        hall.run([make_task(number) for number in range(4)], slots=2)
    assert not hall.inside
    assert 0 not in hall.record.verdicts


def test_ctrl_c_ends_every_case_before_it_goes_on(hall: Hall, ctrl_c: Callable[[], None]) -> None:
    hall.body = until_stopped
    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        hall.run([make_task(number) for number in range(5)], slots=2)
    assert hall.stop.reason == "interrupted"
    assert not hall.inside
    assert {verdict.status for verdict in hall.record.verdicts.values()} == {Status.MISS}


def test_what_was_raised_is_told_although_ctrl_c_came(
    hall: Hall, ctrl_c: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def body(task: Task, stop: Stop) -> Verdict:
        until_stopped(task, stop)
        raise OSError("the wire is cut")

    hall.body = body
    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        hall.run([make_task(0)])
    assert "OSError: the wire is cut" in capsys.readouterr().err


def test_a_bug_in_a_case_leaves_its_verdict(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_more: object) -> None:
        raise AssertionError("never")

    monkeypatch.setattr(runner, "prepare_assets", broken)
    verdict = run_one(make_task(0), bench, see=lambda event: None, stop=Stop())
    assert verdict.status is Status.MISS
    assert verdict.reason.startswith("a bug in testbed ended the case: AssertionError: never\nTraceback")
    folder = open_run_folder(bench.out / "latest")
    assert folder.verdict.is_file()
    assert judge_run(folder).reasons == verdict.reasons


def test_a_bug_outside_the_evidence_leaves_a_verdict_too(bench: Bench) -> None:
    def started(folder: RunFolder) -> None:
        raise ValueError("no screen")

    verdict = run_one(make_task(0), bench, see=lambda event: None, stop=Stop(), started=started)
    assert verdict.status is Status.MISS
    assert "a bug in testbed ended the case: ValueError: no screen" in [
        reason.text for reason in verdict.reasons
    ]
    assert (Path(verdict.run_dir) / "verdict.json").is_file()
