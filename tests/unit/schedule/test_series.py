"""Rounds, early ends, what is kept, and how it looks while several run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from case_maker import make_plan, make_verdict
from rich.console import Console

from testbed.deadline import Stop
from testbed.outcome import Status
from testbed.schedule.series import Keep, Series, Wish, build_tasks
from testbed.schedule.task import Task, Watcher
from testbed.verdict.live import PlainView
from testbed.verdict.terminal import print_rounds


class Script:
    """An engine that ends tasks in a given order with given statuses, each with a run folder."""

    def __init__(self, out: Path, ends: Sequence[tuple[int, Status]]) -> None:
        self.out = out
        self.ends = ends

    def run(self, tasks: Sequence[Task], watcher: Watcher, stop: Stop) -> None:
        for number, _ in self.ends:
            watcher.begin(tasks[number])
        for number, _ in self.ends:
            event = {"event": "guest_ready", "guest": f"g{number}", "seconds": 1.0}
            watcher.see(tasks[number], event)
        for number, status in self.ends:
            folder = self.out / f"run-{number}"
            folder.mkdir(parents=True)
            watcher.end(tasks[number], make_verdict(tasks[number], status, run_dir=str(folder)))

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.out.iterdir() if path.is_dir() and not path.is_symlink())


def run(
    tmp_path: Path,
    ends: Sequence[tuple[int, Status]],
    *,
    until_fail: bool = False,
    keep: Keep = "always",
) -> tuple[Series, Script, str]:
    console = Console(file=io.StringIO(), width=120)
    tasks = build_tasks([(make_plan("a"), ""), (make_plan("b"), "")], 2)
    view = PlainView(console, len(tasks), at_once=True)
    series, script = Series(tasks, Wish(until_fail=until_fail, keep=keep), view), Script(tmp_path, ends)
    series.run(script)
    text = console.file.getvalue() if isinstance(console.file, io.StringIO) else ""
    return series, script, text


def test_tasks_are_rounds_over_the_cases() -> None:
    tasks = build_tasks([(make_plan("a"), "A"), (make_plan("b"), "B")], 2)
    assert [(task.number, task.round, task.plan.name, task.text) for task in tasks] == [
        (0, 0, "a", "A"),
        (1, 0, "b", "B"),
        (2, 1, "a", "A"),
        (3, 1, "b", "B"),
    ]


def test_verdicts_have_the_order_of_the_input_whatever_ended_first(tmp_path: Path) -> None:
    series, _, _ = run(tmp_path, [(3, Status.PASS), (0, Status.FAIL), (2, Status.PASS), (1, Status.SKIP)])
    statuses = [verdict.status for verdict in series.verdicts]
    assert statuses == [Status.FAIL, Status.SKIP, Status.PASS, Status.PASS]


def test_output_of_cases_is_never_mixed(tmp_path: Path) -> None:
    _, _, text = run(tmp_path, [(1, Status.PASS), (0, Status.PASS)])
    assert text.splitlines() == [
        "[2/4] b",
        "    guest g1 is up (1.0 s)",
        "    PASS b (1.0 s)",
        "[1/4] a",
        "    guest g0 is up (1.0 s)",
        "    PASS a (1.0 s)",
    ]


def test_until_fail_drops_what_it_cut_off_and_keeps_what_failed_by_itself(tmp_path: Path) -> None:
    ends = [(0, Status.PASS), (1, Status.FAIL), (2, Status.MISS), (3, Status.FAIL)]
    series, script, text = run(tmp_path, ends, until_fail=True, keep="failed")
    assert [verdict.status for verdict in series.verdicts] == [Status.PASS, Status.FAIL, Status.FAIL]
    assert script.folders() == ["run-1", "run-3"]
    assert "[3/4]" not in text


def test_without_until_fail_a_miss_counts(tmp_path: Path) -> None:
    series, script, _ = run(tmp_path, [(0, Status.FAIL), (1, Status.MISS)])
    assert [verdict.status for verdict in series.verdicts] == [Status.FAIL, Status.MISS]
    assert script.folders() == ["run-0", "run-1"]


@pytest.mark.parametrize(
    ("keep", "left"), [("always", ["run-0", "run-1"]), ("failed", ["run-1"]), ("never", [])]
)
def test_what_is_kept(tmp_path: Path, keep: Keep, left: list[str]) -> None:
    _, script, _ = run(tmp_path, [(0, Status.PASS), (1, Status.MISS)], keep=keep)
    assert script.folders() == left


def test_latest_never_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("run-0")
    run(tmp_path, [(1, Status.FAIL), (0, Status.PASS)], keep="failed")
    assert not (tmp_path / "latest").is_symlink()


@pytest.mark.parametrize(
    ("statuses", "until_fail", "line"),
    [
        ([Status.PASS] * 3, False, "a: 3 passed"),
        ([Status.PASS] * 17 + [Status.FAIL], True, "a: 17 passed, then FAIL   /nowhere"),
        ([Status.PASS, Status.MISS, Status.FAIL], False, "a: 1 passed, 2 did not; round 2: MISS   /nowhere"),
    ],
)
def test_rounds_in_a_line(statuses: list[Status], until_fail: bool, line: str) -> None:
    console = Console(file=io.StringIO(), width=200)
    task = build_tasks([(make_plan("a"), "")], 1)[0]
    print_rounds(console, [make_verdict(task, status) for status in statuses], until_fail=until_fail)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [line]
