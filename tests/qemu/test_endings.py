"""How a run ends that is not let run: through the program, as a user sees it."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from testbed.guest.census import find_processes

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("provisioned")]

_ROOT = Path(__file__).parents[2]
_SOON = 2.0
_BEGAN = re.compile(r";in the step$", re.MULTILINE)
_SLEEPING = """\
schema: 1
about: What if somebody does something to this?
guests:
  vm: {devices: {t0: {model: template}}}
steps:
  - run: echo in the step > /dev/kmsg; sleep 60
  - always:
      - run: "true"
"""
_PANICKING = """\
schema: 1
about: Does a panic in one branch end the other?
steps:
  - parallel:
      - [{run: sleep 60}]
      - [{run: sleep 60}, {run: sleep 1}]
      - [{run: echo in the step > /dev/kmsg; sleep 1; echo c > /proc/sysrq-trigger}]
"""


class Lab:
    """One ``testbed run`` in a folder of its own, all of whose processes can be told by a variable."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self.folder = folder
        self.runtime = runtime
        self._token = secrets.token_hex(16)

    def start(self, scenario: str) -> subprocess.Popen[str]:
        """Start it, and return when its step runs in the guest."""
        (self.folder / "case.yaml").write_text(scenario)
        environment = {"TESTBED_TEST": self._token, "XDG_RUNTIME_DIR": str(self.runtime)}
        runner = subprocess.Popen(
            [sys.executable, "-m", "testbed", "run", "case.yaml"],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'qemu-devices'}", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._wait(lambda: _BEGAN.search(self.read("vm/kmsg.log")) is not None, runner)
        return runner

    def _wait(self, condition: Callable[[], bool], runner: subprocess.Popen[str]) -> None:
        end = time.monotonic() + 120.0
        while not condition():
            assert runner.poll() is None, runner.stdout and runner.stdout.read()
            assert time.monotonic() < end
            time.sleep(0.02)

    def read(self, name: str) -> str:
        """Return a file of the run folder; empty while it is not there."""
        with suppress(FileNotFoundError):
            return (self.folder / "runs" / "latest" / name).read_text(errors="replace")
        return ""

    def events(self, name: str) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in self.read("events.jsonl").splitlines()]
        return [event for event in events if event["event"] == name]

    def find(self, kind: str) -> int:
        """Return the process of this lab's guest that is a ``kind``."""
        (pid,) = [
            each.pid for each in find_processes() if each.kind == kind and str(self.folder) in each.where
        ]
        return pid

    def leftovers(self) -> list[str]:
        """Return processes and private folders that are still there."""
        return [*map(str, self._processes()), *map(str, self.runtime.iterdir())]

    def _processes(self) -> Iterator[int]:
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and self._token.encode() in (entry / "environ").read_bytes():
                    yield int(entry.name)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="tb-") as runtime:
        yield Lab(tmp_path, Path(runtime))


def finish(runner: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = runner.communicate(timeout=60)
    return runner.returncode, output


@pytest.mark.parametrize(("kind", "name"), [("guest", "QEMU"), ("device host", "the device host")])
def test_a_process_that_is_killed_is_a_miss(lab: Lab, kind: str, name: str) -> None:
    runner = lab.start(_SLEEPING)
    killed = time.monotonic_ns()
    os.kill(lab.find(kind), signal.SIGKILL)
    status, output = finish(runner)

    assert status == 2, output
    assert f"{name} was killed by SIGKILL" in output
    assert [event["guest"] for event in lab.events("guest_died")] == ["vm"]
    (finished,) = lab.events("case_finished")
    assert finished["t"] - killed < _SOON * 1e9
    assert [event["graceful"] for event in lab.events("teardown_finished")] == [False]
    assert json.loads(lab.read("verdict.json"))["status"] == "MISS"
    assert lab.leftovers() == []


def test_nothing_is_left_of_a_runner_that_is_killed(lab: Lab) -> None:
    runner = lab.start(_SLEEPING)
    assert len(lab.leftovers()) >= 4  # the runner, its reaper, QEMU, the device host, a private folder
    runner.kill()
    runner.communicate()
    time.sleep(_SOON)

    assert lab.leftovers() == []
    judged = subprocess.run(
        [sys.executable, "-m", "testbed", "judge", str(lab.folder / "runs" / "latest")],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 2
    assert "the run was cut off: there is no case_finished" in judged.stdout


def test_ctrl_c_closes_the_evidence(lab: Lab) -> None:
    runner = lab.start(_SLEEPING)
    runner.send_signal(signal.SIGINT)
    status, output = finish(runner)

    assert status == 130, output
    assert "MISS" in output
    assert len(lab.events("case_finished")) == 1
    assert len(lab.events("step_finished")) == len(lab.events("step_started"))
    assert [event["graceful"] for event in lab.events("teardown_finished")] == [True]
    verdict = json.loads(lab.read("verdict.json"))
    assert verdict["status"] == "MISS"
    assert any("interrupted" in reason["text"] for reason in verdict["reasons"])
    assert lab.leftovers() == []


def test_a_panic_in_one_branch_ends_them_all(lab: Lab) -> None:
    runner = lab.start(_PANICKING)
    status, output = finish(runner)

    assert status == 1, output
    assert "Kernel panic: sysrq triggered crash" in output
    (panicked,), (finished,) = lab.events("guest_panicked"), lab.events("case_finished")
    assert finished["t"] - panicked["t"] < _SOON * 1e9
    assert len(lab.events("step_finished")) == len(lab.events("step_started"))
    assert lab.leftovers() == []
