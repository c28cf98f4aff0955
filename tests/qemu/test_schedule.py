"""Several real guests at once from the command line: order, rounds, Ctrl-C, calibration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from testbed.guest.accel import Accel
from testbed.guest.census import find_folders, find_processes
from testbed.guest.custody import RUNNER_VARIABLE
from testbed.provision.model import Provisioned
from testbed.schedule.calibration import REFERENCE_SECONDS, measure_guest, probe_scale

pytestmark = pytest.mark.qemu

SCENARIO = """\
schema: 1
about: Does a guest do as it is told while others run?
timeout: 60s
guests: {{vm: {{memory: 256M}}}}
matrix: {{name: [a, b, c]}}
params: {{name: a}}
steps:
  - run: "echo ${{name}}; {command}"
"""


def start(folder: Path, provisioned: Provisioned, command: str, *options: str) -> subprocess.Popen[str]:
    (folder / "case.yaml").write_text(SCENARIO.format(command=command))
    return subprocess.Popen(
        [sys.executable, "-m", "testbed", "run", "case.yaml", "--json", "report.json", *options],
        cwd=folder,
        env={**os.environ, "TESTBED_CACHE": str(provisioned.cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def cases_of(folder: Path) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())["cases"]
    return cases


def count_guests(run: subprocess.Popen[str]) -> int:
    """Return how many guests ``run`` has at the moment."""
    mine = f"{RUNNER_VARIABLE}={run.pid}:".encode()
    count = 0
    for tenant in find_processes():
        try:
            environment = Path(f"/proc/{tenant.pid}/environ").read_bytes()
        except OSError:
            continue
        count += tenant.kind == "guest" and mine in environment
    return count


def wait_for_guests(run: subprocess.Popen[str], wanted: int) -> None:
    end = time.monotonic() + 60
    while count_guests(run) < wanted:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end, "the guests did not come"
        time.sleep(0.05)


def assert_nothing_is_left(run: subprocess.Popen[str]) -> None:
    assert count_guests(run) == 0
    assert not [tenant for tenant in find_folders() if tenant.pid == run.pid]


def test_two_at_once_give_whole_blocks_and_a_table_in_order(tmp_path: Path, provisioned: Provisioned) -> None:
    run = start(tmp_path, provisioned, "sleep 2", "-j", "2")
    wait_for_guests(run, 2)
    text, _ = run.communicate(timeout=120)
    assert run.returncode == 0, text
    assert [case["name"] for case in cases_of(tmp_path)] == [f"case[name={name}]" for name in "abc"]
    lines = text.splitlines()
    for number, name in enumerate("abc", start=1):
        first = lines.index(f"[{number}/3] case[name={name}]")
        block = lines[first + 1 : next(at for at in range(first + 1, len(lines)) if lines[at][0] != " ")]
        assert block[-1].startswith(f"    PASS case[name={name}]")
        assert any(f"echo {name}" in line for line in block)
    assert_nothing_is_left(run)


def test_memory_for_one_guest_makes_the_other_wait(tmp_path: Path, provisioned: Provisioned) -> None:
    run = start(tmp_path, provisioned, "true", "-j", "2", "--memory", "500M")
    text, _ = run.communicate(timeout=120)
    assert run.returncode == 0, text
    assert "queued: case[name=" in text


@pytest.mark.parametrize("booting", [True, False])
def test_ctrl_c_ends_all_and_a_second_one_breaks_nothing(
    tmp_path: Path, provisioned: Provisioned, booting: bool
) -> None:
    run = start(tmp_path, provisioned, "sleep 50", "-j", "2", *(["--cold"] if booting else []))
    wait_for_guests(run, 2)
    if not booting:
        time.sleep(3)  # both are likely to be in their step by now; nothing depends on it
    began = time.monotonic()
    run.send_signal(signal.SIGINT)
    time.sleep(0.1)
    if run.poll() is None:
        run.send_signal(signal.SIGINT)
    text, _ = run.communicate(timeout=30)
    assert time.monotonic() - began < 15
    assert run.returncode == 130, text
    verdicts = cases_of(tmp_path)
    assert [case["status"] for case in verdicts] == ["MISS", "MISS"]
    assert all("interrupted" in case["reasons"][0]["text"] for case in verdicts)
    assert_nothing_is_left(run)


def test_until_fail_keeps_the_failure_and_only_that(tmp_path: Path, provisioned: Provisioned) -> None:
    run = start(
        tmp_path,
        provisioned,
        "test ${name} != b",
        *("-j", "2", "--repeat", "5", "--until-fail", "--keep", "failed"),
    )
    text, _ = run.communicate(timeout=120)
    assert run.returncode == 1, text
    assert "case[name=b]: 0 passed, then FAIL" in text
    (folder,) = [path for path in (tmp_path / "runs").iterdir() if path.name != "latest"]
    assert json.loads((folder / "verdict.json").read_text())["status"] == "FAIL"
    assert (folder / "vm" / "console.log").stat().st_size > 0


def test_calibration_measures_a_real_guest(
    tmp_path: Path, provisioned: Provisioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TESTBED_SCALE", raising=False)
    tcg = Accel(name="tcg", reason="test")
    seconds = measure_guest(provisioned.qemu, tcg)
    assert REFERENCE_SECONDS / 20 < seconds < REFERENCE_SECONDS * 50
    first = probe_scale(provisioned.qemu, tcg, tmp_path, jobs=1)
    known = json.loads((tmp_path / "calibration.json").read_text())
    assert next(iter(known.values())) > 0
    probe_scale(provisioned.qemu, tcg, tmp_path, jobs=1)
    assert json.loads((tmp_path / "calibration.json").read_text()) == known
    assert first.factor >= 1.0
