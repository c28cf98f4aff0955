"""``testbed ps`` and ``testbed clean``: runs that live are left alone, what dead ones left is found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.__main__ import main
from testbed.guest.reaper import read_start_time
from testbed.outcome import ExitCode

_ROOT = Path(__file__).parents[3]
_RUNNER = """
import sys, time
from pathlib import Path
from testbed.guest.custody import FOLDER_VARIABLE, get_custody
from testbed.guest.private import private_folder
from testbed.guest.process import spawn
folder = Path(sys.argv[1])
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
mark = {FOLDER_VARIABLE: str(folder)}
with private_folder(folder) as private, spawn(sleep, log=folder / "log", env=mark) as guest:
    print(private, guest.pid, get_custody()._process.pid, flush=True)
    time.sleep(60)
"""


@dataclass
class Run:
    runner: subprocess.Popen[str]
    folder: Path
    private: Path
    guest: int
    reaper: int

    def kill_all_at_once(self) -> None:
        os.kill(self.reaper, signal.SIGKILL)
        self.runner.kill()
        self.runner.wait()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        monkeypatch.setenv("XDG_RUNTIME_DIR", base)
        monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
        folder = tmp_path / "runs/20261121-101502-smoke-boot/vm"
        folder.mkdir(parents=True)
        runner = subprocess.Popen(
            [sys.executable, "-c", _RUNNER, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        assert runner.stdout is not None
        private, guest, reaper = runner.stdout.readline().split()
        yield Run(runner, folder, Path(private), int(guest), int(reaper))
        runner.stdout.close()
        runner.kill()
        runner.wait()
        for _ in range(300):
            if read_start_time(int(guest)) is None:
                break
            time.sleep(0.01)
        else:
            os.kill(int(guest), signal.SIGKILL)


def rows(capsys: pytest.CaptureFixture[str]) -> dict[int, list[str]]:
    assert main(["ps"]) is ExitCode.OK
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:]]
    found: dict[int, list[str]] = {}
    for pid, rest in lines:
        found.setdefault(int(pid), []).append(rest)
    return found


def test_a_live_run_is_listed_and_left_alone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys)
    assert found[run.guest][0].split()[0] == "guest"
    assert "in use" in found[run.guest][0]
    assert str(run.folder) in found[run.guest][0]
    assert found[run.reaper][0].startswith("reaper")
    assert str(run.private) in found[run.runner.pid][0]
    assert main(["clean", "--runs", "0", "--out", str(run.folder.parents[1])]) is ExitCode.OK
    assert read_start_time(run.guest) is not None
    assert run.private.is_dir()
    assert run.folder.is_dir()


def test_what_a_dead_run_left_is_cleaned(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.kill_all_at_once()
    assert "stale" in rows(capsys)[run.guest][0]
    assert main(["clean", "--dry-run"]) is ExitCode.OK
    told = capsys.readouterr().out
    assert f"would remove guest {run.guest}" in told
    assert f"would remove {run.private}" in told
    assert read_start_time(run.guest) is not None
    assert main(["clean"]) is ExitCode.OK
    assert f"removed guest {run.guest}" in capsys.readouterr().out
    assert not run.private.exists()
    for _ in range(300):
        if read_start_time(run.guest) is None:
            return
        time.sleep(0.01)
    raise AssertionError("the guest lives on")


def test_clean_keeps_the_newest_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    names = [f"2026112{day}-101502-case" for day in range(5)]
    for name in (*names, "mine"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert main(["clean", "--runs", "2", "--out", str(tmp_path / "runs")]) is ExitCode.OK
    left = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert left == [*names[-2:], "mine"]
    assert main(["clean", "--runs", "many"]) is ExitCode.USAGE


def test_console_of_a_finished_run(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for guest in ("a", "b"):
        (tmp_path / guest).mkdir()
        (tmp_path / guest / "console.log").write_bytes(f"{guest}: booting \xff\n".encode("latin-1"))
    (tmp_path / "events.jsonl").touch()
    assert main(["console", str(tmp_path)]) is ExitCode.USAGE
    assert b"has several guests" in capfdbinary.readouterr().err
    assert main(["console", str(tmp_path), "--guest", "c"]) is ExitCode.USAGE
    assert b"no guest 'c'" in capfdbinary.readouterr().err
    assert main(["console", str(tmp_path), "--guest", "b"]) is ExitCode.OK
    assert capfdbinary.readouterr().out == b"b: booting \xff\n"
