"""Cases on workers of a real Dask scheduler, all on this machine, some of them killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.guest.census import find_folders, find_processes
from testbed.guest.custody import RUNNER_VARIABLE
from testbed.provision.model import Provisioned

pytestmark = pytest.mark.qemu

SCENARIO = """\
schema: 1
about: Does a guest on another machine do as it is told?
timeout: 60s
guests: {{vm: {{memory: 256M}}}}
steps:
  - run: {command}
"""


class Farm:
    """A scheduler, its workers, and runs that use them."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.processes: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        log = self.folder / f"log-{len(self.processes)}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *argv],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.folder,
            )
        self.processes.append(process)
        return process

    def log_of(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"log-{self.processes.index(process)}").read_text()

    def start_scheduler(self) -> None:
        place = self.folder / "scheduler.json"
        self.start(
            *("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
            *("--no-dashboard", "--scheduler-file", str(place)),
        )
        wait_until(lambda: place.exists() and place.read_text().rstrip().endswith("}"), 30)
        self.address = json.loads(place.read_text())["address"]

    def start_worker(self, *options: str) -> subprocess.Popen[bytes]:
        worker = self.start("testbed", "worker", "--scheduler", self.address, "-j", "1", *options)
        wait_until(lambda: f"-{worker.pid} at " in self.log_of(worker), 60)
        return worker

    def start_run(self, command: str, *options: str) -> subprocess.Popen[bytes]:
        scenario = self.folder / "case.yaml"
        scenario.write_text(SCENARIO.format(command=command))
        return self.start(
            *("testbed", "run", str(scenario), "--engine", "dask", "--scheduler", self.address),
            *("--json", str(self.folder / "report.json"), *options),
        )

    def finished(self, run: subprocess.Popen[bytes]) -> list[str]:
        """Names of the cases that have their verdict."""
        lines = self.log_of(run).splitlines()
        return [line.split()[1] for line in lines if line.startswith("    PASS case")]

    def report(self) -> list[dict[str, Any]]:
        cases: list[dict[str, Any]] = json.loads((self.folder / "report.json").read_text())["cases"]
        return cases


@pytest.fixture
def farm(tmp_path: Path, provisioned: Provisioned) -> Iterator[Farm]:
    made = Farm(tmp_path, {**os.environ, "TESTBED_CACHE": str(provisioned.cache)})
    try:
        made.start_scheduler()
        yield made
    finally:
        for process in reversed(made.processes):
            process.terminate()
            process.wait(30)


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def has_guest(process: subprocess.Popen[bytes]) -> bool:
    """Whether a guest runs that ``process`` has started."""
    mine = f"{RUNNER_VARIABLE}={process.pid}:".encode()
    for tenant in find_processes():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if tenant.kind == "guest" and mine in Path(f"/proc/{tenant.pid}/environ").read_bytes():
                return True
    return False


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def test_a_lost_workers_case_runs_again_elsewhere(farm: Farm) -> None:
    first = farm.start_worker()
    run = farm.start_run("sleep 2", "--repeat", "3")
    wait_until(lambda: has_guest(first), 60)
    farm.start_worker()
    kill(first)
    assert run.wait(120) == 0, farm.log_of(run)
    assert f"worker {os.uname().nodename}-{first.pid} is lost: case starts again on" in farm.log_of(run)
    cases = farm.report()
    assert [case["status"] for case in cases] == ["PASS"] * 3
    assert all((Path(case["run_dir"]) / "vm" / "console.log").stat().st_size for case in cases)
    wait_until(lambda: not has_guest(first), 5)
    wait_until(lambda: first.pid not in [tenant.pid for tenant in find_folders()], 5)


def test_a_case_that_kills_two_workers_is_not_tried_a_third_time(farm: Farm) -> None:
    victims = [farm.start_worker()]
    run = farm.start_run("sleep 60")
    for last in (False, True):
        wait_until(lambda: has_guest(victims[-1]), 60)
        kill(victims[-1])
        survivor = farm.start_worker()
        if not last:
            victims.append(survivor)
    assert run.wait(60) == 2
    (case,) = farm.report()
    assert case["status"] == "MISS"
    (reason,) = case["reasons"]
    assert reason["text"].startswith("it was running when 2 workers were lost (")
    assert all(f"-{victim.pid}" in reason["text"] for victim in victims)
    assert not has_guest(survivor)


def test_ctrl_c_ends_the_case_on_the_worker_and_brings_its_evidence(farm: Farm) -> None:
    worker = farm.start_worker()
    run = farm.start_run("sleep 60", "--repeat", "3")
    wait_until(lambda: has_guest(worker), 60)
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130
    (case,) = farm.report()
    assert case["status"] == "MISS"
    assert "interrupted" in case["reasons"][0]["text"]
    assert not has_guest(worker)
    again = farm.start_run("uname")
    assert again.wait(60) == 0, farm.log_of(again)


def test_a_worker_that_is_asked_to_end_hands_its_case_on(farm: Farm) -> None:
    first = farm.start_worker()
    run = farm.start_run("sleep 3")
    wait_until(lambda: has_guest(first), 60)
    farm.start_worker()
    first.terminate()
    assert first.wait(20) == 0, farm.log_of(first)
    assert run.wait(60) == 0, farm.log_of(run)


def test_a_case_that_fits_no_worker_is_a_miss(farm: Farm) -> None:
    farm.start_worker("--memory", "400M")
    run = farm.start_run("uname")
    assert run.wait(60) == 2
    (case,) = farm.report()
    assert case["status"] == "MISS"
    assert "and the largest worker has" in case["reasons"][0]["text"]


def test_a_scheduler_that_dies_ends_the_run_with_what_there_is(farm: Farm) -> None:
    worker = farm.start_worker()
    run = farm.start_run("sleep 3", "--repeat", "3")
    wait_until(lambda: "case" in farm.finished(run), 90)
    kill(farm.processes[0])
    assert run.wait(60) == 2
    assert "testbed: the connection to the Dask scheduler is lost" in farm.log_of(run)
    assert farm.report()[0]["status"] == "PASS"
    assert worker.wait(60) is not None
    assert not has_guest(worker)


def test_no_scheduler_is_one_clear_line(farm: Farm) -> None:
    farm.address = "tcp://127.0.0.1:9"
    run = farm.start_run("uname")
    assert run.wait(60) == 2
    assert farm.log_of(run).splitlines()[0] == "testbed: no Dask scheduler answers at 'tcp://127.0.0.1:9'"
    worker = farm.start("testbed", "worker", "--scheduler", farm.address)
    assert worker.wait(60) == 2
    assert "testbed: no Dask scheduler answers at tcp://127.0.0.1:9\n" in farm.log_of(worker)


def test_a_case_that_needs_kvm_is_skipped_where_no_worker_has_it(farm: Farm) -> None:
    farm.start_worker("--accel", "tcg")
    run = farm.start_run("uname", "--accel", "kvm")
    assert run.wait(60) == 4
    (case,) = farm.report()
    assert case["status"] == "SKIP"
    assert case["reasons"][0]["text"] == "needs accelerator kvm, and no worker has it"
