"""The reaper, and what it cleans up after a runner that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.guest import reaper
from testbed.guest.custody import Custody
from testbed.guest.private import find_base, private_folder

_ROOT = Path(__file__).parents[3]
_RUNNER = """
import subprocess, sys, time
from pathlib import Path
from testbed.guest.custody import get_custody
from testbed.guest.private import private_folder
from testbed.guest.process import spawn
sleep = [sys.executable, "-S", "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"]
log = Path(sys.argv[1])
with private_folder(log) as private, spawn(sleep, log=log) as known:
    (private / "file").write_text("secret")
    custody = get_custody()
    stray = subprocess.Popen(sleep, env=custody.environment(), start_new_session=True)
    print(private, known.pid, stray.pid, custody._process.pid, flush=True)
    time.sleep(60)
"""


def is_running(pid: int) -> bool:
    return reaper.read_start_time(pid) is not None


def wait_until_gone(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(is_running(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def wait_until_deaf(pid: int) -> None:
    """Wait until the process ignores SIGTERM."""
    for _ in range(500):
        status = Path(f"/proc/{pid}/status").read_text()
        ignored = int(next(line for line in status.splitlines() if line.startswith("SigIgn:")).split()[1], 16)
        if ignored & (1 << (signal.SIGTERM - 1)):
            return
        time.sleep(0.01)
    raise AssertionError("the reaper never ignored SIGTERM")


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def runner(tmp_path: Path, base: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "XDG_RUNTIME_DIR": str(base)}
    return subprocess.Popen(
        [sys.executable, "-c", _RUNNER, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


@pytest.mark.parametrize("whole_group", [False, True])
def test_nothing_survives_kill_9_of_the_runner(runner: subprocess.Popen[str], whole_group: bool) -> None:
    assert runner.stdout is not None
    folder, *numbers = runner.stdout.readline().split()
    known, stray, watcher = map(int, numbers)
    assert Path(folder).is_dir()
    assert is_running(known)
    assert is_running(stray)
    if whole_group:
        os.killpg(runner.pid, signal.SIGKILL)
    else:
        runner.kill()
    runner.wait()
    runner.stdout.close()
    assert wait_until_gone([known, stray, watcher], 2.0)
    assert not Path(folder).exists()


def test_a_runner_that_is_asked_to_end_leaves_nothing(runner: subprocess.Popen[str]) -> None:
    assert runner.stdout is not None
    folder, *numbers = runner.stdout.readline().split()
    known, stray, watcher = map(int, numbers)
    runner.send_signal(signal.SIGINT)
    runner.wait(timeout=10)
    runner.stdout.close()
    assert wait_until_gone([known, stray, watcher], 2.0)
    assert not Path(folder).exists()


def test_reaper_ignores_polite_signals_and_is_replaced_when_killed(tmp_path: Path) -> None:
    custody = Custody()
    folder = tmp_path / "testbed-x"
    folder.mkdir()
    sleeper = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    with custody.hold_folder(folder), custody.hold_process(sleeper.pid):
        first = custody._process
        assert first is not None
        wait_until_deaf(first.pid)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            first.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            first.wait(timeout=0.3)
        first.kill()
        first.wait()
        custody.ensure_started()
        second = custody._process
        assert second is not None
        assert second.pid != first.pid
        custody.close()
        assert sleeper.wait(timeout=5) == -signal.SIGKILL
        assert not folder.exists()
    custody.close()


def test_forgotten_things_stay(tmp_path: Path) -> None:
    custody = Custody()
    folder = tmp_path / "testbed-kept"
    folder.mkdir()
    with custody.hold_folder(folder):
        pass
    custody.close()
    assert folder.is_dir()


def test_reused_pid_is_left_alone() -> None:
    sleeper = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    try:
        start = reaper.read_start_time(sleeper.pid)
        assert start is not None
        lines = f"pid {sleeper.pid} {start + 1}\n"
        command = [sys.executable, "-I", "-S", reaper.__file__, reaper.ARGV_MARKER, "0123456789abcdef"]
        subprocess.run(command, input=lines.encode(), check=True, timeout=10)
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_only_folders_of_ours_are_removed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "testbed-link").symlink_to(tmp_path / "other")
    reaper.remove_folder(str(tmp_path / "other"))
    reaper.remove_folder(str(tmp_path / "testbed-link"))
    assert (tmp_path / "other").is_dir()


def test_private_folder_is_private_and_goes_away(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    with private_folder(base) as private:
        assert private.parent == base
        assert private.stat().st_mode & 0o777 == 0o700
        assert (private / "owner.json").stat().st_mode & 0o777 == 0o600
    assert not private.exists()


def test_long_base_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert find_base() == Path("/tmp")
