"""Order, deadlines and outcomes of steps, with guests that live in memory.

What a real guest does is tested in tests/qemu; here the guest is only something to call in order.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from memory_guest import World, slow, statuses

from testbed.deadline import CancellableDeadline, Deadline, Stop
from testbed.errors import DeadlineExceeded, GuestDied, GuestPanicked, LabError
from testbed.outcome import Status
from testbed.plan.model import CasePlan
from testbed.steps import runner


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(runner, "guest_session", made.session)
    return made


def test_steps_run_in_order_and_the_evidence_is_closed(world: World) -> None:
    results = world.run([{"run": "one"}, {"run": "two"}])
    assert results == [("1", Status.PASS, "one"), ("2", Status.PASS, "two")]
    assert world.guests["vm"].commands == ["one", "two"]
    names = [event["event"] for event in world.events()]
    assert (names[0], names[-1]) == ("case_started", "case_finished")
    assert (world.guests["vm"].synced, world.stopped) == (1, ["vm"])
    assert world.folder is not None
    assert world.folder.scenario.read_text() == "schema: 1\n"
    assert CasePlan.model_validate_json(world.folder.plan.read_bytes()).name == "unit/case"


def test_the_first_failure_ends_the_case_but_not_the_clean_up(world: World) -> None:
    world.answers["bad"] = (3, "no such thing")
    results = world.run([{"run": "bad"}, {"run": "never"}, {"always": [{"run": "tidy"}]}])
    assert results[0] == ("1", Status.FAIL, "exit status 3, expected 0: no such thing")
    assert statuses(results) == [("1", "FAIL"), ("3.1", "PASS"), ("3", "PASS")]
    assert world.guests["vm"].commands == ["bad", "tidy"]


@pytest.mark.parametrize(
    ("expect", "status", "detail"),
    [
        ({"exit": 0}, Status.PASS, "text"),
        ({"exit": 1}, Status.FAIL, "exit status 0, expected 1: text"),
        ({"exit": "any"}, Status.PASS, "text"),
        ({"output": "^te"}, Status.PASS, "text"),
        ({"output": "nope"}, Status.FAIL, "standard output does not match 'nope'; it ends with: text"),
        ({"not_output": "x"}, Status.FAIL, "standard output matches 'x'"),
        ({"error": "x"}, Status.FAIL, "standard error does not match 'x' (it is empty)"),
    ],
)
def test_what_a_command_must_leave(world: World, expect: Any, status: Status, detail: str) -> None:
    assert world.run([{"run": "text", "expect": expect}]) == [("1", status, detail)]


@pytest.mark.parametrize(
    ("answer", "expect", "status", "detail"),
    [
        ((127, "sh: nosuch: not found"), {}, Status.ERROR, "nosuch: not found"),
        ((126, "sh: /etc: Permission denied"), {}, Status.ERROR, "/etc: Permission denied"),
        ((127, ""), {}, Status.ERROR, "the command was not found (exit status 127)"),
        (
            (127, "sh: x: not found"),
            {"exit": 1},
            Status.FAIL,
            "exit status 127, expected 1: sh: x: not found",
        ),
        ((127, ""), {"exit": 127}, Status.PASS, ""),
    ],
)
def test_a_command_that_is_not_there_is_the_scenarios_error(
    world: World, answer: tuple[int, str], expect: Any, status: Status, detail: str
) -> None:
    world.answers["x"] = answer
    assert world.run([{"run": "x", "expect": expect}]) == [("1", status, detail)]


def test_a_step_has_its_own_deadline(world: World) -> None:
    world.answers["slow"] = slow
    began = time.monotonic()
    results = world.run([{"run": "slow", "timeout": "50ms"}, {"run": "never"}])
    assert results == [("1", Status.FAIL, "timed out: 'run slow' did not end within 0.05 s")]
    assert time.monotonic() - began < 2


def test_the_case_has_one_too_and_clean_up_gets_time_of_its_own(world: World) -> None:
    world.answers["slow"] = slow
    results = world.run([{"run": "slow"}, {"always": [{"run": "tidy"}]}], timeout="50ms")
    assert results[0] == ("1", Status.FAIL, "timed out: the case's budget of 0.05 s is used up")
    assert statuses(results)[1:] == [("2.1", "PASS"), ("2", "PASS")]


def test_budgets_grow_with_the_machines_slowness(world: World) -> None:
    world.answers["slow"] = slow
    results = world.run([{"run": "slow", "timeout": "20ms"}], scale=4.0)
    assert results[0][2] == "timed out: 'run slow' did not end within 0.08 s"


def test_a_hang_says_that_the_guest_is_gone(world: World) -> None:
    world.answers |= {"slow": slow, "true": DeadlineExceeded("timed out: the guest to answer")}
    results = world.run([{"run": "slow", "timeout": "20ms"}])
    assert results[0][2].endswith("did not end within 0.02 s; the guest no longer answers over SSH")


def test_a_panic_ends_the_case_as_fail_with_the_reason(world: World) -> None:
    world.answers["boom"] = GuestPanicked("Fatal exception")
    results = world.run([{"run": "boom"}, {"run": "never"}, {"always": [{"run": "tidy"}]}])
    assert results == [("1", Status.FAIL, "guest kernel panicked: Fatal exception")]
    assert world.errors() == [("FAIL", "guest kernel panicked: Fatal exception")]
    assert world.stopped == ["vm"]


def test_a_dead_qemu_is_a_miss(world: World) -> None:
    world.answers["boom"] = GuestDied("QEMU was ended by SIGKILL")
    assert world.run([{"run": "boom"}, {"run": "never"}]) == [("1", Status.MISS, "QEMU was ended by SIGKILL")]
    assert world.errors() == [("MISS", "QEMU was ended by SIGKILL")]


def test_a_guest_that_does_not_boot_is_a_miss(world: World) -> None:
    world.boot_error = LabError("the guest did not get ready", hint="see vm/console.log")
    assert world.run([{"run": "never"}]) == []
    assert world.errors() == [("MISS", "the guest did not get ready")]


def test_a_fault_that_does_not_exist_is_the_scenarios_error(world: World) -> None:
    step = {"inject": "nonsense", "device": "gpu0"}
    assert world.run([step]) == [
        ("1", Status.ERROR, "fault 'nonsense' is not known (known: hold_completions)")
    ]


def test_an_unknown_guest_is_the_scenarios_error(world: World) -> None:
    results = world.run([{"run": "x", "guest": "peer"}])
    assert results == [("1", Status.ERROR, "there is no guest 'peer'; there is: 'vm'")]


def test_ctrl_c_closes_the_evidence_and_goes_on(world: World) -> None:
    world.answers["boom"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        world.run([{"run": "boom"}, {"run": "never"}])
    assert world.errors() == [("MISS", "interrupted")]
    assert [event["event"] for event in world.events()][-1] == "case_finished"
    assert statuses(world.results()) == [("1", "MISS")]
    assert world.stopped == ["vm"]


def test_a_case_that_is_skipped_starts_nothing(world: World) -> None:
    assert world.run([{"run": "never"}], skip_reason="no CONFIG_X") == []
    assert world.guests == {}
    assert [event["event"] for event in world.events()] == ["case_started", "case_finished"]


def test_branches_run_at_once(world: World) -> None:
    barrier = threading.Barrier(2, timeout=3)

    def meet(_deadline: Deadline) -> tuple[int, str]:
        barrier.wait()
        return 0, "met"

    world.answers |= {"left": meet, "right": meet}
    results = world.run([{"parallel": [[{"run": "left"}], [{"run": "right"}]]}])
    assert sorted(statuses(results)) == [("1", "PASS"), ("1.1.1", "PASS"), ("1.2.1", "PASS")]
    assert results[-1][2] == "2 branches passed"


def test_a_failed_branch_lets_the_others_end(world: World) -> None:
    world.answers["bad"] = (1, "no")
    branches = [[{"run": "bad"}, {"run": "never"}], [{"run": "a"}, {"run": "b"}]]
    results = world.run([{"parallel": branches}])
    assert results[-1] == ("1", Status.FAIL, "exit status 1, expected 0: no")
    assert {"a", "b"} <= set(world.guests["vm"].commands)
    assert "never" not in world.guests["vm"].commands


def test_a_lost_guest_ends_all_branches(world: World) -> None:
    world.answers |= {"slow": slow, "boom": GuestPanicked("oops")}
    began = time.monotonic()
    results = world.run([{"parallel": [[{"run": "slow"}], [{"run": "boom"}]]}], timeout="60s")
    assert time.monotonic() - began < 2
    details = {index: detail for index, _, detail in results}
    assert details["1.1.1"].startswith("stopped: ")
    assert details["1"] == "guest kernel panicked: oops"


def test_repeat_says_which_round_failed(world: World) -> None:
    rounds = iter([(0, "fine"), (0, "fine"), (2, "bad")])
    world.answers["x"] = lambda _deadline: next(rounds)
    results = world.run([{"repeat": {"times": 5, "steps": [{"run": "x"}]}}])
    assert results[-1] == ("1", Status.FAIL, "round 3 of 5: exit status 2, expected 0: bad")
    assert [index for index, _ in statuses(results)] == ["1.1.1", "1.2.1", "1.3.1", "1"]


def test_counters_are_compared_before_and_after(world: World) -> None:
    numbers = iter(["nr_foo 5\n", "nr_foo 8\n"])
    world.answers["cat /proc/vmstat"] = lambda _deadline: (0, next(numbers))
    step = {"counters": {"vmstat": ["nr_foo"]}, "steps": [{"run": "x"}], "expect": {"nr_foo": "+4"}}
    results = world.run([step])
    assert results[-1] == ("1", Status.FAIL, "nr_foo changed by +3 (5 to 8), expected +4")
    assert world.folder is not None
    saved = (world.folder.path / "steps" / "1-counters" / "counters.json").read_text()
    assert '"before": 5' in saved


def test_a_counter_that_is_not_there_is_the_scenarios_error(world: World) -> None:
    step = {"counters": {"vmstat": ["nr_x"]}, "steps": [{"run": "x"}], "expect": {"nr_x": "0"}}
    assert world.run([step]) == [("1", Status.ERROR, "/proc/vmstat of this kernel has no 'nr_x'")]


def test_devices_are_plugged_and_faults_noted(world: World) -> None:
    results = world.run(
        [
            {"plug": "gpu0"},
            {"inject": "hold_completions", "device": "gpu0", "with": {"engine": "copy"}},
            {"clear": "all", "device": "gpu0"},
            {"unplug": "gpu0", "surprise": True},
        ]
    )
    assert {status for _, status in statuses(results)} == {"DONE"}
    assert results[0][2] == "gpu0 is 0000:01:00.0"
    assert ("inject", "gpu0", {"fault": "hold_completions", "engine": "copy"}) in world.guests["vm"].calls
    faults = [(event["fault"], event["action"]) for event in world.events() if event["event"] == "fault"]
    assert faults == [("hold_completions", "inject"), ("all", "clear"), ("surprise_removal", "inject")]


@pytest.mark.parametrize(
    ("expect", "status", "detail"),
    [
        ({"kmsg": "tbgpu: ready"}, Status.PASS, "6,1,1,-;tbgpu: ready"),
        ({"kmsg": "absent"}, Status.FAIL, "no line of kmsg.log matches 'absent'"),
        ({"not_kmsg": "absent"}, Status.PASS, "no line of kmsg.log matches 'absent'"),
        (
            {"not_kmsg": "ready"},
            Status.FAIL,
            "kmsg.log has a line that matches 'ready': 6,1,1,-;tbgpu: ready",
        ),
        ({"console": "hello"}, Status.PASS, "[    0.1] hello"),
        ({"device": "gpu0", "counter": "commands", "equals": 2}, Status.PASS, "gpu0.commands is 2"),
        (
            {"device": "gpu0", "counter": "commands", "at_most": 1},
            Status.FAIL,
            "gpu0.commands is 2, expected at most 1",
        ),
        (
            {"device": "gpu0", "counter": "x", "equals": 1},
            Status.ERROR,
            "device 'gpu0' has no counter 'x' (known: commands)",
        ),
        ({"file": "/x", "matches": "cat"}, Status.PASS, "'/x' matches"),
        ({"file": "/x", "matches": "dog"}, Status.FAIL, "'/x' does not match 'dog': cat /x"),
    ],
)
def test_expect(world: World, expect: Any, status: Status, detail: str) -> None:
    assert world.run([{"expect": expect}]) == [("1", status, detail)]


def test_wait_for_a_command_says_how_the_last_try_ended(world: World) -> None:
    world.answers["test -e /x"] = (1, "no /x")
    results = world.run([{"wait": {"command": "test -e /x"}, "timeout": "300ms"}])
    assert results[0][1] is Status.FAIL
    assert results[0][2].endswith("did not end within 0.3 s; the last try ended with status 1, saying: no /x")


@pytest.mark.parametrize(
    ("expect", "status", "detail"),
    [
        ({}, Status.DONE, '{"status": "running", "list": [{"a": 1}]}'),
        ({"status": "running", "list.0.a": 1}, Status.PASS, '{"status": "running", "list": [{"a": 1}]}'),
        (
            {"status": "paused"},
            Status.FAIL,
            '\'status\' is not \'paused\' in the answer {"status": "running", "list": [{"a": 1}]}',
        ),
    ],
)
def test_qmp(world: World, expect: Any, status: Status, detail: str) -> None:
    assert world.run([{"qmp": "query-status", "expect": expect}]) == [("1", status, detail)]


def test_a_deadline_passes_when_its_stop_is_set() -> None:
    parent = Stop()
    deadline = CancellableDeadline(time.monotonic() + 60, "x", Stop(parent))
    assert not deadline.expired
    assert deadline.sooner(1, "y").left <= 1
    parent.set("Ctrl-C")
    parent.set("later")
    assert (deadline.left, deadline.expired, deadline.sooner(1, "y").expired) == (0.0, True, True)
    with pytest.raises(DeadlineExceeded, match="stopped: Ctrl-C"):
        deadline.check()
