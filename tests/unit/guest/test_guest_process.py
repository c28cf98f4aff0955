"""`spawn`: what it promises about files, ends and errors."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from testbed.errors import LaunchError
from testbed.guest.process import Grace, Process, spawn
from testbed.guest.reaper import RUN_VARIABLE, read_start_time

_QUICK = Grace(ask=0.2, terminate=0.3, kill=5.0)
_SLEEP = "import time; print('up', flush=True); time.sleep(60)"
_DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {_SLEEP}"


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def wait_for_text(process: Process, text: str) -> None:
    for _ in range(500):
        if text in process.log_tail():
            return
        time.sleep(0.01)
    raise AssertionError(f"{text!r} never came: {process.log_tail()!r}")


def test_output_and_status_are_kept(log: Path) -> None:
    with spawn(
        python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"), log=log
    ) as process:
        assert process.wait(10)
    assert sorted(log.read_text().split()) == ["err", "out"]
    assert process.exit_record is not None
    assert (process.exit_record.status, process.exit_record.how) == (7, "before it was asked")
    assert not process.exit_record.graceful
    assert process.describe_end() == "ended with status 7"


def test_log_is_appended(log: Path) -> None:
    log.write_text("before\n")
    with spawn(python("print('after')"), log=log) as process:
        process.wait(10)
    assert log.read_text() == "before\nafter\n"


def test_asked_first(log: Path) -> None:
    read, write = os.pipe()
    code = f"import os; print('up', flush=True); os.read({read}, 1)"
    with spawn(python(code), log=log, pass_fds=(read,), ask=lambda: os.close(write), grace=_QUICK) as process:
        # The child holds the read end only: our close of the write end is what it waits for.
        os.close(read)
        wait_for_text(process, "up")
    assert process.exit_record is not None
    assert (process.exit_record.how, process.exit_record.status) == ("asked", 0)
    assert process.exit_record.graceful


def test_terminated_when_asking_fails(log: Path) -> None:
    def ask() -> None:
        raise OSError("nobody there")

    with spawn(python(_SLEEP), log=log, ask=ask, grace=_QUICK) as process:
        wait_for_text(process, "up")
    assert process.exit_record is not None
    assert (process.exit_record.how, process.exit_record.status) == ("SIGTERM", -signal.SIGTERM)


@pytest.mark.parametrize(("how", "status"), [("os.kill(os.getpid(), 9)", -9), ("sys.exit(0)", 0)])
def test_one_that_was_gone_before_is_not_graceful(log: Path, how: str, status: int) -> None:
    asked: list[str] = []
    code = f"import os, sys; {how}"
    with spawn(python(code), log=log, ask=lambda: asked.append("asked"), grace=_QUICK) as process:
        assert process.wait(10)
    assert process.exit_record is not None
    assert (process.exit_record.how, process.exit_record.status) == ("before it was asked", status)
    assert (process.exit_record.graceful, asked) == (False, [])


def test_killed_when_deaf(log: Path) -> None:
    with spawn(python(_DEAF), log=log, grace=_QUICK) as process:
        wait_for_text(process, "up")
    assert process.exit_record is not None
    assert (process.exit_record.how, process.exit_record.status) == ("SIGKILL", -signal.SIGKILL)
    assert not process.exit_record.graceful


def test_killed_when_stopped(log: Path) -> None:
    with spawn(python(_SLEEP), log=log, grace=_QUICK) as process:
        wait_for_text(process, "up")
        os.kill(process.pid, signal.SIGSTOP)
    assert process.poll() == -signal.SIGTERM


def test_children_that_it_left_behind_die(log: Path) -> None:
    child = f"import os; print('child', os.getpid(), flush=True); {_DEAF}"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
    with spawn(python(code), log=log, grace=_QUICK) as process:
        wait_for_text(process, "up")
        assert process.wait(5)
        pid = int(process.log_tail().split()[1])
        assert read_start_time(pid) is not None
    for _ in range(200):
        if read_start_time(pid) is None:
            return
        time.sleep(0.01)
    raise AssertionError("the child lives on")


def test_ended_when_the_body_raises(log: Path) -> None:
    with pytest.raises(KeyboardInterrupt), spawn(python(_SLEEP), log=log, grace=_QUICK) as process:
        raise KeyboardInterrupt
    assert process.poll() is not None


def test_survives_the_thread_that_started_it(log: Path) -> None:
    started: list[Process] = []
    proceed, done = threading.Event(), threading.Event()
    stack = spawn(python(_SLEEP), log=log, grace=_QUICK)

    def body() -> None:
        started.append(stack.__enter__())
        done.set()

    thread = threading.Thread(target=body)
    thread.start()
    done.wait(10)
    thread.join()
    proceed.wait(0.2)
    assert started[0].poll() is None
    stack.__exit__(None, None, None)
    assert started[0].poll() is not None


def test_missing_program_is_a_launch_error(log: Path) -> None:
    with (
        pytest.raises(LaunchError, match="does not start") as caught,
        spawn(["/no/such/program", "-x"], log=log),
    ):
        pass
    assert caught.value.argv == ["/no/such/program", "-x"]
    assert caught.value.status is None


def test_launch_error_shows_the_log(log: Path) -> None:
    with spawn(python("import sys; sys.exit('no such machine')"), log=log) as process:
        process.wait(10)
        error = process.launch_error("it did not start")
    assert error.status == 1
    assert "no such machine" in str(error)


def test_runs_in_its_own_session_and_is_marked(log: Path) -> None:
    code = (
        f"import os; print(os.getsid(0) == os.getpid(), os.environ['{RUN_VARIABLE}'] != '', os.environ['X'])"
    )
    with spawn(python(code), log=log, env={"X": "y"}) as process:
        process.wait(10)
    assert log.read_text().split() == ["True", "True", "y"]
