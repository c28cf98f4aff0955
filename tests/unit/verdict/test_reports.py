"""Reports: what other programs and people read."""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from testbed.errors import UsageError
from testbed.evidence.ktap import parse_ktap
from testbed.outcome import Status
from testbed.verdict.html import build_html
from testbed.verdict.json_report import build_json
from testbed.verdict.junit import build_junit
from testbed.verdict.ktap_report import build_ktap
from testbed.verdict.live import LiveView, PlainView, start_view
from testbed.verdict.model import Reason, StepOutcome, Verdict, with_reason
from testbed.verdict.reports import add_report_options, get_targets, write_reports
from testbed.verdict.terminal import build_console, print_reasons, print_table


def verdict(
    name: str, status: Status, *reasons: Reason, run_dir: str = "/runs/x", **fields: object
) -> Verdict:
    step = StepOutcome(
        index="1", verb="run", name='run <a> & "b"', status=status, seconds=0.5, detail="détail", began=1.0
    )
    values = {
        "name": name,
        "status": status,
        "run_dir": run_dir,
        "reasons": reasons,
        "steps": (step,),
        "seconds": 5.25,
        "kernel": "7.2.12",
        "accel": "tcg",
        "accel_reason": "there is no /dev/kvm",
        "seed": 7,
        "wall": "2026-11-21T10:15:02+00:00",
        "about": "Does it <work>?",
    }
    return Verdict(**(values | fields))


FAILED = verdict(
    "fence/held[engine=copy]",
    Status.FAIL,
    Reason(status=Status.FAIL, text="WARNING in tb_<probe>\x1b[1m", pointer="vm/kmsg.log:3"),
    Reason(status=Status.MISS, text="the device host ended"),
)
ALL = [
    verdict("smoke/boot", Status.PASS),
    FAILED,
    verdict("smoke/lost", Status.MISS, Reason(status=Status.MISS, text="QEMU ended")),
    verdict("wrong", Status.ERROR, Reason(status=Status.ERROR, text="no counter 'x'")),
    verdict("smoke/skip", Status.SKIP, Reason(status=Status.SKIP, text="needs kernel >=8"), steps=()),
]


def test_json_holds_the_contract() -> None:
    report = json.loads(build_json(ALL))
    assert report["exit_code"] == 1
    first = report["cases"][0]
    assert {"name", "status", "seconds", "kernel", "accel", "seed", "run_dir", "steps"} <= set(first)
    assert {"name", "status", "seconds", "detail"} <= set(first["steps"][0])
    assert [case["status"] for case in report["cases"]] == ["PASS", "FAIL", "MISS", "ERROR", "SKIP"]


def test_junit_counts_and_is_xml_even_with_control_characters() -> None:
    root = ET.fromstring(build_junit(ALL))
    counts = {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "1", "errors": "2", "skipped": "1"}
    assert [suite.get("name") for suite in root] == ["smoke", "fence", "testbed"]
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "WARNING in tb_<probe>\N{REPLACEMENT CHARACTER}[1m"
    assert {error.get("type") for error in root.iter("error")} == {"MISS", "ERROR"}


def test_junit_has_no_brackets_for_a_reason_without_a_place() -> None:
    bare = replace(ALL[0], status=Status.FAIL, reasons=(Reason(status=Status.FAIL, text="it broke"),))
    assert ">it broke</failure>" in build_junit([bare])


def test_ktap_is_read_by_our_own_parser() -> None:
    report = parse_ktap(build_ktap(ALL))
    assert report.flaws == ()
    assert report.count(Status.FAIL) == 3
    assert report.count(Status.SKIP) == 1
    assert parse_ktap(build_ktap([ALL[0]])).status is Status.PASS


def test_a_step_that_was_meant_to_fail_is_no_failure_in_ktap() -> None:
    steps = (StepOutcome(index="1", verb="run", name="x", status=Status.FAIL, seconds=0.1, detail="Oops"),)
    expected = verdict("judge/oops", Status.PASS, steps=steps)
    report = parse_ktap(build_ktap([expected]))
    assert (report.flaws, report.count(Status.FAIL)) == ((), 0)


def test_html_is_one_page_with_escaped_text_and_excerpts(tmp_path: Path) -> None:
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm" / "kmsg.log").write_text("one\ntwo\n<three>\nfour\n")
    page = build_html([verdict("a<b>", Status.FAIL, *FAILED.reasons, run_dir=str(tmp_path))])
    assert "a&lt;b&gt;" in page
    assert "<b>a<b>" not in page
    assert "<mark>     3  &lt;three&gt;</mark>" in page
    assert "http" not in page.replace("https://", "http")
    assert "prefers-color-scheme:dark" in page


def test_html_sums_up_at_the_top() -> None:
    verdicts = [verdict("a", Status.PASS), *(verdict(name, Status.FAIL) for name in "bc")]
    assert "<p>1 passed, 2 failed</p>" in build_html(verdicts).partition("<table>")[0]


@pytest.mark.parametrize("pointer", ["../secret:1", "/etc/passwd:1", "vm/none.log:1", "vm:1", "x", ""])
def test_html_reads_nothing_outside_the_run(tmp_path: Path, pointer: str) -> None:
    (tmp_path / "secret").write_text("password\n")
    run = tmp_path / "run"
    (run / "vm").mkdir(parents=True)
    reason = Reason(status=Status.FAIL, text="x", pointer=pointer)
    page = build_html([verdict("a", Status.FAIL, reason, run_dir=str(run))])
    assert "<pre>" not in page


def text_of(print_it: object, **options: object) -> str:
    console = Console(width=140, record=True, file=io.StringIO(), **options)
    print_it(console)
    return console.export_text()


def test_table_and_summary() -> None:
    text = text_of(lambda console: print_table(console, ALL))
    assert "WARNING in tb_<probe>" in text
    assert "(and 1 more)" in text
    assert (
        "1 passed, 1 failed, 1 wrong scenario (ERROR), 1 lost to the lab (MISS), 1 skipped in 26.2 s" in text
    )
    assert "kernel 7.2.12, tcg (there is no /dev/kvm)" in text


def test_an_empty_table_says_so() -> None:
    assert text_of(lambda console: print_table(console, [])) == "no case was run\n"


def test_reasons_point_into_the_run() -> None:
    text = text_of(lambda console: print_reasons(console, FAILED))
    assert "/runs/x/vm/kmsg.log:3" in text


def test_no_color(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_table(build_console(), ALL)
    assert "\x1b[31m" not in capsys.readouterr().out


def test_plain_view_prints_a_line_for_each_thing() -> None:
    def show(console: Console) -> None:
        view = PlainView(console, 2, at_once=False)
        view.begin(0, "smoke/boot")
        view.see(0, {"event": "building", "what": "module tbgpu"})
        view.see(0, {"event": "guest_ready", "guest": "vm", "seconds": 4.4})
        view.see(0, {"event": "step_started", "index": "1", "name": "run x"})
        view.see(
            0,
            {"event": "step_finished", "index": "1", "name": "run x", "status": "FAIL", "seconds": 0.1}
            | {"detail": "exit status 1"},
        )
        view.see(0, {"event": "guest_panicked", "guest": "vm", "reason": "Fatal"})
        view.see(0, {"event": "error", "status": "MISS", "message": "no"})
        view.end(0, ALL[0])

    assert text_of(show).splitlines() == [
        "[1/2] smoke/boot",
        "    building module tbgpu ...",
        "    guest vm is up (4.4 s)",
        "    FAIL 1 run x (0.1 s): exit status 1",
        "    guest vm panicked: Fatal",
        "    MISS no",
        "    PASS smoke/boot (5.2 s)",
    ]


def test_plain_view_tells_a_loss_once() -> None:
    died = "QEMU was killed by SIGKILL"

    def show(console: Console) -> None:
        view = PlainView(console, 1, at_once=False)
        view.begin(0, "smoke/boot")
        view.see(0, {"event": "guest_died", "guest": "vm", "reason": died})
        finished = {"event": "step_finished", "index": "1", "name": "run x", "seconds": 0.1}
        view.see(0, {**finished, "status": "MISS", "detail": died})
        view.see(0, {"event": "error", "status": "MISS", "message": died})
        view.see(0, {"event": "error", "status": "MISS", "message": "another one"})

    assert text_of(show).splitlines() == [
        "[1/1] smoke/boot",
        f"    guest vm died: {died}",
        "    MISS 1 run x (0.1 s)",
        "    MISS another one",
    ]


def test_live_view_shows_the_case_and_then_its_verdict() -> None:
    console = Console(width=100, record=True, force_terminal=True, file=io.StringIO())
    with start_view(console, 2) as view:
        assert isinstance(view, LiveView)
        view.begin(0, "smoke/boot")
        view.see(0, {"event": "building", "what": "module tbgpu"})
        with console.capture() as building:
            console.print(view)
        view.see(0, {"event": "guest_started", "guest": "vm"})
        view.see(0, {"event": "guest_ready", "guest": "vm", "seconds": 4.4})
        view.see(0, {"event": "step_started", "index": "1", "name": "run x"})
        with console.capture() as capture:
            console.print(view)
        view.end(0, ALL[0])
    assert "building module tbgpu ..." in building.get()
    assert "[1/2] smoke/boot" in capture.get()
    assert "1 run x" in capture.get()
    assert "vm: up in 4.4 s" in capture.get()


def parse(*argv: str) -> dict[str, str]:
    parser = argparse.ArgumentParser()
    add_report_options(parser)
    return get_targets(parser.parse_args(argv))


def test_reports_are_written_and_dash_is_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = parse("--json", "-", "--html", str(tmp_path / "r.html"))
    write_reports(targets, ALL)
    assert json.loads(capsys.readouterr().out)["exit_code"] == 1
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_a_target_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--json '/none/x' cannot be written: there is no folder '/none'"):
        parse("--json", "/none/x")
    with pytest.raises(UsageError, match="cannot be written: it is a folder"):
        parse("--junit", str(tmp_path))
    with pytest.raises(UsageError, match="only one report can go to standard output"):
        parse("--json", "-", "--ktap", "-")
    with pytest.raises(UsageError, match=r"--html '/dev/full' cannot be written: No space left on device"):
        write_reports({"html": "/dev/full"}, ALL)


def test_what_could_not_be_written_makes_a_pass_a_miss() -> None:
    worse = with_reason(ALL[0], Status.MISS, "the disk is full")
    assert (worse.status, worse.reason) == (Status.MISS, "the disk is full")


def test_a_narrow_terminal_gets_a_narrow_table() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    print_table(console, ALL)
    text = console.export_text()
    assert "evidence: /runs" in text
    assert "/runs/x" not in text
