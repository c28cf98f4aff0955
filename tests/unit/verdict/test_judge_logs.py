"""The judge on kernel logs that are not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_maker import MakeRun, build_maker, good_events, told, without

from testbed.outcome import Status
from testbed.verdict.judge import judge_run

SPLAT = Path(__file__).parents[2] / "recorded" / "kernel" / "null.kmsg"
LOST = (
    "messages of guest 'vm' were overwritten before they could be read\n"
    "give it a longer log: guests: {vm: {cmdline: [log_buf_len=4M]}}"
)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    return build_maker(tmp_path)


@pytest.mark.parametrize(
    ("kmsg", "count", "line"),
    [
        ("6,0,1,-;a\n6,1,2,-;b\n6,5,3,-;c\n", "3 kernel", 3),
        ("6,7,1,-;the beginning is gone\n", "7 kernel", 1),
        ("6,0,1,-;a\n SUBSYSTEM=pci\n6,2,1,-;b\n6,4,1,-;c\n", "2 kernel", 3),
    ],
)
def test_a_hole_in_the_kernel_log_is_no_pass(make_run: MakeRun, kmsg: str, count: str, line: int) -> None:
    verdict = judge_run(make_run(kmsg=kmsg))
    assert told(verdict) == [(Status.MISS, f"{count} {LOST}")]
    assert verdict.reasons[0].pointer == f"vm/kmsg.log:{line}"


def test_the_note_at_the_head_of_a_clones_log_is_no_hole(make_run: MakeRun) -> None:
    kmsg = "6,0,0,-;testbed: a clone\n6,0,5,-;Linux version\n6,1,6,-;Command line\n"
    assert judge_run(make_run(kmsg=kmsg)).status is Status.PASS


def test_a_kernel_log_without_its_end_is_no_pass(make_run: MakeRun) -> None:
    text = "the kernel log of guest 'vm' does not reach to the end of the case"
    folder = make_run(events=without("kmsg_complete"))
    assert told(judge_run(folder)) == [(Status.MISS, text)]
    lines = [json.dumps({"t": 1, **event}) for event in good_events()]
    folder.events.write_text("\n".join(lines) + "\n")
    assert judge_run(folder).status is Status.PASS
    (folder.path / "vm" / "kmsg.log").write_text("6,0,1,-;")
    assert told(judge_run(folder)) == [(Status.MISS, text)]


def test_a_lost_guest_needs_no_end_of_its_log(make_run: MakeRun) -> None:
    plan = {"expected_warnings": [{"match": "Kernel panic|on purpose"}]}
    events = [
        *[event for event in good_events() if event["event"] != "kmsg_complete"][:-2],
        {"event": "guest_panicked", "guest": "vm", "reason": "on purpose"},
        good_events()[-1],
    ]
    assert judge_run(make_run(plan=plan, events=events, kmsg="6,0,1,-;on purpose\n")).status is Status.PASS


def test_a_hole_does_not_hide_a_failure(make_run: MakeRun) -> None:
    assert judge_run(make_run(kmsg="6,9,1,-;a\n" + SPLAT.read_text())).status is Status.FAIL
