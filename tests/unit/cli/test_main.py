"""The program's edge: exit codes, one clear line, nothing heavy for --help."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from testbed import __main__ as program
from testbed.cli import VERBS, doctor, interrupt
from testbed.cli import run as run_verb
from testbed.errors import GuestPanicked, LabError, ScenarioFault, UsageError
from testbed.outcome import ExitCode

RECORDED = Path(__file__).parents[2] / "recorded" / "runs"
ROOT = Path(__file__).parents[3]
GOOD = "schema: 1\nabout: Does it work?\nsteps:\n  - run: 'true'\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "testbed: the following arguments are required: VERB\n  hint: testbed --help\n"),
        (["fly"], "testbed: argument VERB: invalid choice: 'fly'"),
        (["run", "-j", "0"], "testbed: '0' is not a number of at least 1\n"),
        (["run", "--repeat", "x"], "testbed: 'x' is not a number of at least 1\n"),
        (["run", "--memory", "much"], "testbed: 'much' is not a size of memory\n"),
        (
            ["run", "scenarios", "--engine", "dask"],
            "testbed: --engine dask and --scheduler belong together\n",
        ),
        (["run", "scenarios", "--scheduler", "tcp://x:1"], "testbed: --engine dask and --scheduler belong"),
        (
            ["run", "scenarios", "--engine", "dask", "--scheduler", "tcp://x:1", "-j", "2"],
            "testbed: -j and --memory are said to each worker\n",
        ),
        (["worker"], "testbed: the following arguments are required: --scheduler\n"),
        (["run", "--accel", "xen"], "testbed: argument --accel: invalid choice: 'xen'"),
        (
            ["run", "--fast", "x"],
            "testbed: unrecognized arguments: --fast\n  hint: testbed run --help\n",
        ),
        (["run", "/none.yaml"], "testbed: '/none.yaml' is not there\n"),
        (["run", "--json", "/none/x"], "testbed: --json '/none/x' cannot be written: there is no folder"),
        (["judge", "/none"], "testbed: '/none' is not a run folder: no such folder\n"),
        (["report", "/tmp"], "testbed: no report was asked for\n"),
    ],
)
def test_usage_errors_are_one_line_and_exit_3(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(argv) is ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError("no", hint="yes"), ExitCode.USAGE, "testbed: no\n  hint: yes\n"),
        (LabError("gone", where="/x"), ExitCode.LAB, "testbed: /x: gone\n"),
        (ScenarioFault("no counter 'x'"), ExitCode.LAB, "testbed: no counter 'x'\n"),
        (GuestPanicked("Oops"), ExitCode.FAIL, "testbed: guest kernel panicked: Oops\n"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "testbed: interrupted\n"),
    ],
)
def test_errors_become_text_and_exit_codes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: ExitCode,
    text: str,
) -> None:
    raise_from(monkeypatch, error)
    assert program.main(["x"]) is code
    assert capsys.readouterr().err == text


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_each_verb_has_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main([verb, "--help"])
    assert f"testbed {verb}" in capsys.readouterr().out.partition("examples:\n")[2]


def test_a_bug_is_no_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raise_from(monkeypatch, ZeroDivisionError("ours"))
    assert program.main(["x"]) is ExitCode.LAB
    assert "ZeroDivisionError: ours\ntestbed: this is a bug in testbed" in capsys.readouterr().err


def raise_from(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(_args: object) -> ExitCode:
        raise error

    monkeypatch.setattr(program, "parse_arguments", lambda _argv: SimpleNamespace(main=fail))


def test_mistakes_of_all_files_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(GOOD.replace("about", "abuot"))
    assert program.main(["run", str(tmp_path)]) is ExitCode.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith(f"{tmp_path}/a.yaml:2:1: ") for line in lines)
    assert any(line.startswith(f"{tmp_path}/b.yaml:2:1: ") for line in lines)


def test_a_selection_without_cases_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    monkeypatch.setattr(run_verb, "run_all", lambda *_args: pytest.fail("nothing may be made"))
    assert program.main(["run", str(tmp_path), "-k", "nope"]) is ExitCode.NOTHING_RAN
    assert "no case matches: nothing was run" in capsys.readouterr().out


def test_judge_recomputes_and_exits_by_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(RECORDED / "panic", tmp_path / "run")
    assert program.main(["judge", str(tmp_path / "run")]) is ExitCode.OK
    assert "expects: Kernel panic: tboops: panic on purpose" in capsys.readouterr().out
    plan = tmp_path / "run" / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"expect_verdict": None}))
    assert program.main(["judge", str(tmp_path / "run")]) is ExitCode.FAIL
    assert json.loads((tmp_path / "run" / "verdict.json").read_text())["status"] == "FAIL"
    (tmp_path / "run" / "vm" / "console.log").write_text("")
    (tmp_path / "run" / "events.jsonl").write_text("")
    assert program.main(["judge", str(tmp_path / "run")]) is ExitCode.LAB


def test_judge_says_when_its_verdict_cannot_be_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(RECORDED / "panic", tmp_path / "run")
    (tmp_path / "run" / "verdict.json").unlink(missing_ok=True)
    (tmp_path / "run" / "verdict.json").mkdir()
    assert program.main(["judge", str(tmp_path / "run")]) is ExitCode.LAB
    captured = capsys.readouterr()
    assert "expects: Kernel panic" in captured.out
    assert f"{tmp_path}/run/verdict.json: the verdict above cannot be saved: Is a directory" in captured.err
    assert not list((tmp_path / "run").glob(".verdict*"))


def test_report_of_old_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "r.html"
    runs = [str(RECORDED / name) for name in ("oops", "panic")]
    assert program.main(["report", *runs, "--html", str(page), "--ktap", "-"]) is ExitCode.OK
    assert capsys.readouterr().out.startswith("KTAP version 1\n1..2\n")
    assert "BUG: kernel NULL pointer dereference in oops_null" in page.read_text()


@pytest.mark.parametrize("argv", [["--help"], ["validate", "tests/recorded/runs/oops/scenario.yaml"]])
def test_nothing_heavy_is_imported(argv: list[str]) -> None:
    script = (
        "import sys\nfrom testbed.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'paramiko', 'qemu.qmp', 'numpy', 'cryptography', 'psutil'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_first_ctrl_c_stops_and_the_second_does_not_break_that() -> None:
    script = (
        "import os, signal, sys, time\nfrom testbed.cli.interrupt import interrupts_once\n"
        "with interrupts_once():\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(5)\n"
        "    except KeyboardInterrupt:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n        time.sleep(0.05)\n        print('clean')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=20
    )
    assert done.stdout == "clean\n"
    assert done.stderr.startswith("testbed: already stopping; kill -9 ")


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interrupt.interrupts_once():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_doctor_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name == "dpkg-deb" else name)
    monkeypatch.setattr(doctor, "_DISK_BYTES", 1 << 60)
    assert program.main(["doctor"]) is ExitCode.LAB
    out = capsys.readouterr().out
    assert "bad   programs     missing: dpkg-deb\n                    -> apt-get install dpkg\n" in out
    assert "3 GiB are needed: free some, or set TESTBED_CACHE to another disk" in out
    assert f"note  toolbox      not made yet in {tmp_path}\n                    -> testbed setup" in out
