"""The judge on run folders, whole and broken (docs/evidence.md, "How the judge decides")."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from run_maker import MakeRun, build_maker, good_events, step, told, without

from testbed.evidence.run import open_run_folder
from testbed.evidence.tool import ToolRun, save_tool
from testbed.outcome import Status
from testbed.verdict.judge import judge_run
from testbed.verdict.model import save_verdict

RECORDED = Path(__file__).parents[2] / "recorded"
OOPS = "BUG: kernel NULL pointer dereference in oops_null"
PASS, FAIL, ERROR, MISS, SKIP, DONE = (
    Status.PASS,
    Status.FAIL,
    Status.ERROR,
    Status.MISS,
    Status.SKIP,
    Status.DONE,
)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    return build_maker(tmp_path)


def recorded(name: str) -> str:
    return (RECORDED / "kernel" / name).read_text(errors="replace")


def replaced(index: str, verb: str, status: str, **fields: Any) -> list[dict[str, Any]]:
    """The good events with another result of one step."""
    new = step(index, verb, status, **fields)
    return [
        new[1] if event["event"] == "step_finished" and event["index"] == index else event
        for event in good_events()
    ]


def before_end(*events: dict[str, Any]) -> list[dict[str, Any]]:
    good = good_events()
    return [*good[:-2], *events, *good[-2:]]


def test_a_good_run_passes_and_says_where_it_ran(make_run: MakeRun) -> None:
    verdict = judge_run(make_run())
    assert (verdict.status, verdict.reasons) == (PASS, ())
    assert (verdict.name, verdict.seconds, verdict.kernel) == ("smoke/boot", 5.5, "7.2.12")
    assert (verdict.accel, verdict.seed, verdict.about) == ("tcg", 7, "Does it boot?")
    assert [(each.index, each.status, each.began) for each in verdict.steps] == [
        ("1", PASS, 2.0),
        ("2", PASS, 4.0),
    ]


def test_judging_twice_gives_the_same(make_run: MakeRun) -> None:
    folder = make_run(console=recorded("null.console"))
    first = judge_run(folder)
    save_verdict(first, folder.verdict)
    assert judge_run(folder) == first
    assert json.loads(folder.verdict.read_text())["status"] == "FAIL"


def test_an_oops_in_kmsg_fails_with_its_line(make_run: MakeRun) -> None:
    verdict = judge_run(make_run(kmsg=recorded("null.kmsg")))
    assert told(verdict) == [(FAIL, "BUG: kernel NULL pointer dereference in oops_null")]
    assert verdict.reasons[0].pointer == "vm/kmsg.log:26"


def test_an_oops_in_both_logs_is_told_once(make_run: MakeRun) -> None:
    verdict = judge_run(make_run(kmsg=recorded("null.kmsg"), console=recorded("null.console")))
    assert len(verdict.reasons) == 1


def test_an_oops_takes_its_panic_from_the_console(make_run: MakeRun) -> None:
    kmsg = "\n".join(
        f"1,{number},{number},-;{line.partition('] ')[2]}"
        for number, line in enumerate(recorded("oops-panic.console").splitlines())
        if "Kernel panic" not in line and "] " in line
    )
    events = before_end({"event": "guest_panicked", "guest": "vm", "reason": "Fatal exception"})
    verdict = judge_run(make_run(kmsg=kmsg, console=recorded("oops-panic.console"), events=events))
    assert told(verdict) == [
        (FAIL, "BUG: kernel NULL pointer dereference in oops_null (then a panic: Fatal exception)")
    ]


def test_a_splat_that_repeats_is_counted(make_run: MakeRun) -> None:
    verdict = judge_run(make_run(kmsg="", console=recorded("rcu-stall.console")))
    assert told(verdict) == [(FAIL, "RCU stall in oops_lockup (2 times)")]


def test_an_expected_warning_is_no_failure(make_run: MakeRun) -> None:
    plan = {"expected_warnings": [{"match": "oops_warn", "about": "on purpose"}]}
    assert judge_run(make_run(plan=plan, console=recorded("warn.console"))).status is PASS


def test_an_expected_warning_that_stays_away_is_a_failure(make_run: MakeRun) -> None:
    plan = {"expected_warnings": [{"match": "tbgpu.*timed out", "about": "the driver reports it"}]}
    verdict = judge_run(make_run(plan=plan))
    text = "the expected kernel message 'tbgpu.*timed out' never came (the driver reports it)"
    assert told(verdict) == [(FAIL, text)]


def test_a_console_that_is_missing_cannot_pass(make_run: MakeRun) -> None:
    folder = make_run()
    (folder.path / "vm" / "console.log").unlink()
    assert told(judge_run(folder)) == [(MISS, "the console log of guest 'vm' is missing")]


def test_an_optional_warning_may_stay_away(make_run: MakeRun) -> None:
    plan = {"expected_warnings": [{"match": "timed out", "optional": True}]}
    assert judge_run(make_run(plan=plan)).status is PASS


def test_a_message_that_is_no_splat_satisfies_an_expected_warning(make_run: MakeRun) -> None:
    plan = {"expected_warnings": [{"match": "engine copy timed out"}]}
    assert judge_run(make_run(plan=plan, kmsg="4,0,1,-;tbgpu: engine copy timed out\n")).status is PASS


def test_an_absent_warning_does_not_blame_the_kernel_for_a_broken_lab(make_run: MakeRun) -> None:
    plan = {"expected_warnings": [{"match": "timed out"}]}
    events = before_end({"event": "error", "status": "MISS", "message": "QEMU ended", "hint": None})
    assert told(judge_run(make_run(plan=plan, events=events))) == [(MISS, "QEMU ended")]


@pytest.mark.parametrize("status", [FAIL, ERROR, MISS])
def test_a_bad_step_decides(make_run: MakeRun, status: Status) -> None:
    events = replaced(
        "2", "run", status.value, detail="exit status 1, expected 0", pointers=["vm/ssh/2.err:1"]
    )
    verdict = judge_run(make_run(events=events))
    assert told(verdict) == [(status, "step 2 (run x): exit status 1, expected 0")]
    assert verdict.reasons[0].pointer == "vm/ssh/2.err:1"


def test_worst_reason_comes_first(make_run: MakeRun) -> None:
    events = [*replaced("1", "run", "MISS", detail="lost")]
    verdict = judge_run(make_run(events=events, kmsg=recorded("bug.kmsg")))
    assert [reason.status for reason in verdict.reasons] == [FAIL, MISS]
    assert verdict.status is FAIL


def test_a_group_is_not_blamed_twice(make_run: MakeRun) -> None:
    good = good_events()
    start, end = step("2", "parallel", "FAIL", detail="no")
    inner = step("2.1.1", "run", "FAIL", detail="no")
    verdict = judge_run(make_run(events=[*good[:4], start, *inner, end, *good[6:]]))
    assert told(verdict) == [(FAIL, "step 2.1.1 (run x): no")]


def test_a_panic_is_one_reason(make_run: MakeRun) -> None:
    message = "guest kernel panicked: tboops: panic on purpose"
    events = [
        *good_events()[:2],
        step("1", "module", "FAIL")[0],
        {"event": "guest_panicked", "guest": "vm", "reason": "tboops: panic on purpose"},
        step("1", "module", "FAIL", detail=message)[1],
        {"event": "error", "status": "FAIL", "message": message, "hint": None},
        good_events()[-1],
    ]
    verdict = judge_run(make_run(events=events, console=recorded("panic.console")))
    assert told(verdict) == [(FAIL, "Kernel panic: tboops: panic on purpose")]
    assert verdict.reasons[0].pointer == "vm/console.log:43"


def test_a_panic_that_no_log_shows_is_told_from_its_event(make_run: MakeRun) -> None:
    events = before_end({"event": "guest_panicked", "guest": "vm", "reason": "(no text on the console)"})
    verdict = judge_run(make_run(events=events))
    assert told(verdict) == [(FAIL, "Kernel panic: (no text on the console)")]
    assert verdict.reasons[0].pointer == "events.jsonl:8"


def test_a_violation_by_a_device_fails(make_run: MakeRun) -> None:
    events = before_end(
        {"event": "violation", "guest": "vm", "device": "gpu0", "message": "DMA outside memory"}
    )
    assert told(judge_run(make_run(events=events))) == [(FAIL, "device 'gpu0': DMA outside memory")]


def test_an_error_says_what_to_do(make_run: MakeRun) -> None:
    events = before_end({"event": "error", "status": "ERROR", "message": "no", "hint": "yes"})
    assert told(judge_run(make_run(events=events))) == [(ERROR, "no\nyes")]


def test_a_run_that_was_cut_off_is_lost(make_run: MakeRun) -> None:
    verdict = judge_run(make_run(events=without("case_finished")))
    assert told(verdict) == [(MISS, "the run was cut off: there is no case_finished")]
    assert verdict.seconds == 7.0


def test_a_truncated_line_is_lost(make_run: MakeRun) -> None:
    verdict = judge_run(make_run(raw_tail='{"t": 9, "event": "step_fini'))
    assert told(verdict) == [(MISS, "this event cannot be read")]
    assert verdict.reasons[0].pointer == "events.jsonl:10"


def test_a_step_without_a_result_is_lost(make_run: MakeRun) -> None:
    events = [
        event for event in good_events() if not (event["event"] == "step_finished" and event["index"] == "2")
    ]
    verdict = judge_run(make_run(events=events))
    assert told(verdict) == [(MISS, "step 2 (run x) began and left no result")]
    assert verdict.steps[1].status is MISS


def test_steps_that_never_began_are_no_pass(make_run: MakeRun) -> None:
    events = [event for event in good_events() if event.get("index") != "2"]
    assert told(judge_run(make_run(events=events))) == [(MISS, "only 1 of 2 steps were run")]


@pytest.mark.parametrize("mutation", ["absent", "wrong"])
def test_a_guest_without_proof_of_identity_is_no_pass(make_run: MakeRun, mutation: str) -> None:
    events = without("guest_ready") if mutation == "absent" else good_events()
    for event in events:
        if event["event"] == "guest_ready":
            event["nonce_ok"] = False
    text = "guest 'vm' never proved that it is the one that was started"
    assert told(judge_run(make_run(events=events))) == [(MISS, text)]


def test_an_unknown_status_is_lost(make_run: MakeRun) -> None:
    verdict = judge_run(make_run(events=replaced("1", "run", "GREAT")))
    assert told(verdict) == [(MISS, "step 1 (run x): it left the unknown status 'GREAT'")]


def test_no_plan_is_lost(make_run: MakeRun) -> None:
    folder = make_run()
    folder.plan.write_text("{")
    assert told(judge_run(folder)) == [(MISS, "plan.json is missing or cannot be read")]


def test_an_empty_folder_is_lost_and_raises_nothing(make_run: MakeRun) -> None:
    folder = make_run()
    folder.plan.unlink()
    folder.events.unlink()
    assert judge_run(folder).status is MISS


def test_nothing_but_events_that_cannot_be_read(make_run: MakeRun) -> None:
    folder = make_run()
    folder.events.write_bytes(b"\xff\xfe\x00garbage\n" * 3)
    assert judge_run(folder).status is MISS


def test_done_is_not_pass(make_run: MakeRun) -> None:
    done = [*step("1", "plug", "DONE"), *step("2", "plug", "DONE")]
    events = [*good_events()[:2], *done, *good_events()[-3:]]
    assert judge_run(make_run(events=events)).status is DONE


def test_skip_says_why(make_run: MakeRun) -> None:
    plan = {"skip_reason": "the kernel has CONFIG_X off"}
    events = [good_events()[0], good_events()[-1]]
    assert told(judge_run(make_run(plan=plan, events=events))) == [(SKIP, "the kernel has CONFIG_X off")]


@pytest.mark.parametrize(
    ("wanted", "status", "text"),
    [
        (
            {"status": "FAIL", "reason": "NULL pointer"},
            PASS,
            f"FAIL, as this scenario expects: {OOPS}",
        ),
        (
            {"status": "FAIL", "reason": "divide error"},
            FAIL,
            f"expected the verdict FAIL because of 'divide error', got FAIL: {OOPS}",
        ),
        (
            {"status": "PASS"},
            FAIL,
            f"expected the verdict PASS, got FAIL: {OOPS}",
        ),
    ],
)
def test_expected_verdict(make_run: MakeRun, wanted: dict[str, str], status: Status, text: str) -> None:
    verdict = judge_run(make_run(plan={"expect_verdict": wanted}, kmsg=recorded("null.kmsg")))
    assert (verdict.status, verdict.reason) == (status, text)


def test_expected_failure_that_passes_is_a_failure(make_run: MakeRun) -> None:
    verdict = judge_run(make_run(plan={"expect_verdict": {"status": "FAIL", "reason": "Oops"}}))
    assert (verdict.status, verdict.reason) == (
        FAIL,
        "expected the verdict FAIL because of 'Oops', got PASS",
    )


@pytest.mark.parametrize("asked", ["FAIL", "PASS", "ERROR"])
def test_a_broken_lab_stays_a_miss_whatever_was_expected(make_run: MakeRun, asked: str) -> None:
    events = before_end({"event": "error", "status": "MISS", "message": "QEMU ended", "hint": None})
    verdict = judge_run(make_run(plan={"expect_verdict": {"status": asked}}, events=events))
    assert told(verdict) == [(MISS, "QEMU ended")]


@pytest.mark.parametrize(
    ("pattern", "status", "text"),
    [
        ("QEMU", PASS, "MISS, as this scenario expects: QEMU ended"),
        ("SSH", FAIL, "expected the verdict MISS because of 'SSH', got MISS: QEMU ended"),
    ],
)
def test_a_miss_can_be_expected(make_run: MakeRun, pattern: str, status: Status, text: str) -> None:
    events = before_end({"event": "error", "status": "MISS", "message": "QEMU ended", "hint": None})
    plan = {"expect_verdict": {"status": "MISS", "reason": pattern}}
    verdict = judge_run(make_run(plan=plan, events=events))
    assert (verdict.status, verdict.reason) == (status, text)


def test_ktap_is_judged_again_from_its_text(make_run: MakeRun) -> None:
    folder = make_run(events=replaced("2", "tool", "PASS", detail="2 checks passed"))
    text = folder.events.read_text().replace('"index": "2", "verb": "run"', '"index": "2", "verb": "tool"')
    folder.events.write_text(text)
    place = folder.step("2", "tool")
    run = ToolRun(command="tb-gpu copy", exit=1, stderr="")
    save_tool(place, b"KTAP version 1\n1..2\nok 1 - a\n# byte 7 is 0\nnot ok 2 - b\n", run)
    verdict = judge_run(folder)
    assert told(verdict) == [(FAIL, "step 2 (run x): 1 of 2 checks failed: b: byte 7 is 0")]
    assert verdict.reasons[0].pointer == "steps/2-tool/ktap.txt:5"


def test_ktap_that_cannot_be_read_is_lost(make_run: MakeRun) -> None:
    folder = make_run()
    text = folder.events.read_text().replace('"verb": "run"', '"verb": "tool"')
    folder.events.write_text(text)
    (folder.step("1", "tool") / "tool.json").write_text("{")
    verdict = judge_run(folder)
    assert verdict.status is MISS
    assert "what the tool left in '1-tool' cannot be read" in verdict.reason


@pytest.mark.parametrize(
    ("name", "without_expectation"),
    [
        ("oops", "BUG: kernel NULL pointer dereference in oops_null"),
        ("panic", "Kernel panic: tboops: panic on purpose"),
    ],
)
def test_runs_that_were_recorded(tmp_path: Path, name: str, without_expectation: str) -> None:
    shutil.copytree(RECORDED / "runs" / name, tmp_path / name)
    folder = open_run_folder(tmp_path / name)
    assert judge_run(folder).reason == f"FAIL, as this scenario expects: {without_expectation}"
    plan = json.loads(folder.plan.read_text())
    folder.plan.write_text(json.dumps(plan | {"expect_verdict": None}))
    verdict = judge_run(folder)
    assert (verdict.status, verdict.reason) == (FAIL, without_expectation)
    folder.plan.write_text(json.dumps(plan | {"expect_verdict": {"status": "PASS"}}))
    assert judge_run(folder).status is FAIL


def test_a_shell_is_done_and_not_cut_off(make_run: MakeRun) -> None:
    start, ready, *_ = good_events()
    events = [start, ready, {"event": "shell_finished", "guest": "vm", "exit": 7}, *good_events()[-3:]]
    verdict = judge_run(make_run(events=events, plan={"steps": []}))
    assert (verdict.status, verdict.reasons) == (Status.DONE, ())


RESET = "the guest reset itself without a panic: a triple fault, or a reboot command"


def after_a_reset() -> list[dict[str, Any]]:
    return [
        *good_events()[:-2],
        {"event": "guest_reset", "guest": "vm", "reason": RESET},
        *step("3", "run", "FAIL", detail=RESET),
        {"event": "error", "status": "FAIL", "message": RESET, "hint": None},
        *good_events()[-2:],
    ]


def test_a_guest_that_reset_itself_fails_once(make_run: MakeRun) -> None:
    assert told(judge_run(make_run(events=after_a_reset()))) == [(FAIL, RESET)]


def test_a_reset_can_be_expected(make_run: MakeRun) -> None:
    plan = {"expected_warnings": [{"match": "reset itself", "optional": True}]}
    assert judge_run(make_run(events=after_a_reset(), plan=plan)).status is PASS
