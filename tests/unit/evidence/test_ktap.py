"""KTAP: pessimistic about what is missing, tolerant about how it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.evidence.ktap import parse_ktap
from testbed.evidence.tool import ToolRun, judge_tool
from testbed.outcome import Status

PASS, FAIL, ERROR, MISS, SKIP = Status.PASS, Status.FAIL, Status.ERROR, Status.MISS, Status.SKIP
HEAD = "KTAP version 1\n"
INSIDE = "  KTAP version 1\n  1..2\n  ok 1 - x\n  # expected 3, got 4\n  not ok 2 - y\n"
NESTED = f"{HEAD}1..2\n{INSIDE}not ok 1 - a\nok 2 - b\n"

REPORTS = [
    ("all pass", HEAD + "1..2\nok 1 - a\nok 2 - b\n", PASS, "2 checks passed"),
    (
        "one skip",
        HEAD + "1..2\nok 1 a\nok 2 b # SKIP no dma-buf\n",
        PASS,
        "1 skipped (no dma-buf)",
    ),
    ("nested failure", NESTED, FAIL, "1 of 3 checks failed: a: y: expected 3, got 4"),
    ("nothing at all", "", MISS, "there is no KTAP in the output"),
    ("other text", "hello\nworld\n", MISS, "there is no KTAP in the output"),
    ("only a version", HEAD, FAIL, "the report ends before its plan"),
    ("crashed half way", HEAD + "1..3\nok 1 - a\n", FAIL, "2 of 3 planned results are missing"),
    ("no plan", HEAD + "ok 1 - a\n", FAIL, "no plan: nobody knows whether results are missing"),
    ("zero checks", HEAD + "1..0\n", ERROR, "no check was run"),
    ("all skipped by plan", "TAP version 13\n1..0 # SKIP no such device\n", SKIP, "no such device"),
    ("bail out", HEAD + "Bail out! no render node\n", FAIL, "bailed out: no render node"),
    ("bail out after results", HEAD + "1..2\nok 1 a\nBail out! gone\n", FAIL, "bailed out: gone"),
    ("plan at the end", "TAP version 14\nok 1 a\nok 2 b\n1..2\n", PASS, "2 checks passed"),
    ("says ok over a failure", HEAD + "1..1\n  1..1\n  not ok 1 x\nok 1 lie\n", FAIL, "'lie' says ok, but"),
    ("subtest without a result", HEAD + "1..1\n  1..1\n  ok 1 x\n", FAIL, "end without the result"),
    (
        "truncated subtest",
        HEAD + "1..1\n  1..2\n  ok 1 x\nok 1 a\n",
        FAIL,
        "1 of 2 planned results are missing",
    ),
    ("wrong number", HEAD + "1..1\nok 2 a\n", ERROR, "result 2 came where 1 was due"),
    ("too many", HEAD + "1..1\nok 1 a\nok 2 b\n", ERROR, "2 results where 1 were planned"),
    ("two plans", HEAD + "1..1\n1..2\nok 1 a\nok 2 b\n", ERROR, "a second plan"),
    ("todo is no failure", HEAD + "1..2\nok 1 a\nnot ok 2 b # TODO later\n", PASS, "1 skipped (later)"),
    (
        "timeout directive",
        HEAD + "1..1\nok 1 a # TIMEOUT 45 seconds\n",
        FAIL,
        "1 of 1 checks failed: a: 45 seconds",
    ),
    (
        "kernel log stamps",
        "[    1.1] KTAP version 1\n[    1.2][ T12] 1..1\n[    1.3] ok 1 a\n",
        PASS,
        "1 check passed",
    ),
    ("two reports", HEAD + "1..1\nok 1 a\n" + HEAD + "1..1\nnot ok 1 b\n", FAIL, "1 of 2 checks failed: b"),
    ("yaml and noise", HEAD + "1..1\n# note\n  ---\n  x: 1\n  ...\nnoise\nok 1 a\n", PASS, "1 check passed"),
    ("carriage returns", "KTAP version 1\r\n1..1\r\nok 1 a\r\n", PASS, "1 check passed"),
    ("no description", HEAD + "1..1\nok\n", PASS, "1 check passed"),
    (
        "subtest name",
        HEAD + "1..1\n    # Subtest: dma\n    1..2\n    ok 1 x\nok 1 dma\n",
        FAIL,
        "are missing",
    ),
]


@pytest.mark.parametrize(
    ("text", "status", "summary"), [row[1:] for row in REPORTS], ids=[row[0] for row in REPORTS]
)
def test_report(text: str, status: Status, summary: str) -> None:
    report = parse_ktap(text)
    assert report.status is status
    assert summary in report.summary


def test_lines_and_names_of_nested_checks() -> None:
    checks = parse_ktap(NESTED).checks
    assert [(check.name, check.status, check.line) for check in checks] == [
        ("a: x", PASS, 5),
        ("a: y", FAIL, 7),
        ("b", PASS, 9),
    ]


@given(
    st.lists(
        st.sampled_from(REPORTS[0][1].splitlines() + NESTED.splitlines() + ["  1..2", "Bail out!", "1..0"])
    )
)
def test_no_order_of_lines_is_a_pass_with_a_failure_inside(lines: list[str]) -> None:
    report = parse_ktap("\n".join(lines))
    if report.status is PASS:
        assert not any(check.status is FAIL for check in report.checks)
        assert not any(flaw.status in (FAIL, ERROR) for flaw in report.flaws)
        assert report.checks


@given(st.integers(1, 6), st.data())
def test_every_truncation_of_a_good_report_is_no_pass(count: int, data: st.DataObject) -> None:
    lines = ["KTAP version 1", f"1..{count}", *(f"ok {number} - check" for number in range(1, count + 1))]
    kept = data.draw(st.integers(0, len(lines) - 1))
    assert parse_ktap("\n".join(lines[:kept])).status is not PASS


def run(text: str, status: int = 0, stderr: str = "", **fields: object) -> tuple[Status, str]:
    outcome = judge_tool(text, ToolRun(command="tb-gpu x", exit=status, stderr=stderr, **fields))
    return outcome.status, outcome.detail


GOOD = HEAD + "1..1\nok 1 a\n"


@pytest.mark.parametrize(
    ("found", "status", "detail"),
    [
        (run(GOOD), PASS, "1 check passed"),
        (run("", 127, "sh: tb-gpu: not found"), ERROR, "there is no tool 'tb-gpu' in the guest"),
        (run("", 2, "tb-gpu: unknown option --x"), ERROR, "wrong arguments: tb-gpu: unknown option --x"),
        (run("fine\n"), ERROR, "it printed no KTAP, so nothing was checked (for a plain command use 'run')"),
        (run("", 139), FAIL, "it was ended by signal 11 before it printed any KTAP"),
        (run(GOOD, 1, "munmap: EINVAL"), FAIL, "1 check passed, but it ended with status 1: munmap: EINVAL"),
        (run(GOOD, 1, want_exit="any"), PASS, "1 check passed"),
        (run(GOOD, 3, want_exit=3), PASS, "1 check passed"),
        (run(HEAD + "1..3\nok 1 a\n", 139), FAIL, "2 of 3 planned results are missing"),
        (run(GOOD, output="ok 2"), FAIL, "standard output does not match 'ok 2'; it ends with: ok 1 a"),
        (run(GOOD, not_output="ok 1"), FAIL, "standard output matches 'ok 1'"),
        (run(GOOD, error="warn"), FAIL, "standard error does not match 'warn' (it is empty)"),
        (
            run(HEAD + "1..1\nok 1 a # SKIP no P2P\n", 4),
            MISS,
            "1 of 1 checks were skipped (a: no P2P); allow it with expect: {skip: allowed}",
        ),
        (run(HEAD + "1..1\nok 1 a # SKIP no P2P\n", 4, skip="allowed"), SKIP, "1 skipped (no P2P)"),
        (run(HEAD + "1..2\nok 1 a\nok 2 b # SKIP no P2P\n", skip="allowed"), PASS, "1 skipped"),
    ],
)
def test_tool(found: tuple[Status, str], status: Status, detail: str) -> None:
    assert found[0] is status
    assert detail in found[1]
