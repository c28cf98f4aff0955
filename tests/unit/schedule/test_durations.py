"""What is remembered of earlier runs, and the order that follows from it."""

from __future__ import annotations

from pathlib import Path

from case_maker import RELEASE, make_task, make_verdict
from hypothesis import given
from hypothesis import strategies as st

from testbed.outcome import Status
from testbed.schedule.durations import Durations, build_key, load_durations, order_tasks, save_durations


def test_unknown_cases_start_first_then_the_longest() -> None:
    seconds = {"case-0": 1.0, "case-2": 9.0, "case-3": 5.0}
    tasks = [make_task(number) for number in range(5)]
    ordered = order_tasks(tasks, lambda task: seconds.get(task.plan.name))
    assert [task.number for task in ordered] == [1, 4, 2, 3, 0]


def test_an_earlier_round_starts_first_however_short() -> None:
    seconds = {"short": 1.0, "long": 9.0}
    tasks = [
        make_task(0, "short"),
        make_task(1, "long"),
        make_task(2, "short", round=1),
        make_task(3, "long", round=1),
    ]
    ordered = order_tasks(tasks, lambda task: seconds[task.plan.name])
    assert [task.number for task in ordered] == [1, 0, 3, 2]


@given(st.lists(st.none() | st.floats(0, 1e6), max_size=12))
def test_nothing_is_lost_by_ordering(seconds: list[float | None]) -> None:
    tasks = [make_task(number) for number in range(len(seconds))]
    ordered = order_tasks(tasks, lambda task: seconds[task.number])
    assert sorted(task.number for task in ordered) == list(range(len(seconds)))
    known = [value for task in ordered if (value := seconds[task.number]) is not None]
    assert known == sorted(known, reverse=True)


def test_durations_belong_to_kernel_and_accelerator_and_are_a_guess_elsewhere() -> None:
    durations = Durations({build_key("a", "6.1", "tcg"): 4.0, build_key("a", "7.2", "kvm"): 1.0})
    assert durations.find("a", "6.1", "tcg") == 4.0
    assert durations.find("a", "7.2", "kvm") == 1.0
    assert durations.find("a", "8.0", "tcg") in (1.0, 4.0)
    assert durations.find("b", "6.1", "tcg") is None


def test_only_cases_that_really_ran_are_remembered(tmp_path: Path) -> None:
    save_durations(
        tmp_path,
        [
            make_verdict(make_task(0, "a"), seconds=3.0),
            make_verdict(make_task(1, "b"), Status.SKIP),
            make_verdict(make_task(2, "c"), Status.MISS),
        ],
    )
    save_durations(tmp_path, [make_verdict(make_task(3, "d"), Status.FAIL, seconds=2.0)])
    durations = load_durations(tmp_path)
    found = [durations.find(name, RELEASE, "tcg") for name in "abcd"]
    assert found == [3.0, None, None, 2.0]


def test_a_damaged_memory_is_an_empty_one(tmp_path: Path) -> None:
    for damage in ("", "[1]", "{", '{"a": "x"}'):
        (tmp_path / "durations.json").write_text(damage)
        assert load_durations(tmp_path).find("a") is None
    save_durations(tmp_path, [make_verdict(make_task(0, "a"))])
    assert load_durations(tmp_path).find("a") == 1.0


def test_a_cache_that_cannot_be_written_does_not_spoil_the_run() -> None:
    save_durations(Path("/proc/none"), [make_verdict(make_task(0))])
