"""The control socket, against a real device host with the template device."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.deadline import Deadline
from testbed.errors import DeadlineExceeded, GuestDied, GuestPanicked, LaunchError, ScenarioFault
from testbed.guest.device_host import DeviceHost, HostConfig, start_device_host
from testbed.guest.liveness import Liveness


@pytest.fixture(autouse=True)
def _nobody_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no watcher here that could say why something broke."""
    monkeypatch.setattr("testbed.guest.device_host._LOSS_EXPLAINED", 0.1)


def soon(seconds: float = 20.0) -> Deadline:
    return Deadline.after(seconds, "the device host")


@pytest.fixture
def private() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def liveness() -> Liveness:
    return Liveness(lambda _: None)


def build_config(private: Path, folder: Path, **params: object) -> HostConfig:
    device = {"name": "t0", "model": "template", "params": params}
    return HostConfig(private=private, folder=folder, seed=1, devices=[device])


@pytest.fixture
def host(private: Path, tmp_path: Path, liveness: Liveness) -> Iterator[DeviceHost]:
    config = build_config(private, tmp_path)
    with start_device_host(config, liveness=liveness, on_event=lambda _: None) as host:
        host.wait_ready(soon())
        yield host
    assert host.process.exit_record is not None


def test_sockets_listen_and_the_end_is_graceful(private: Path, tmp_path: Path, liveness: Liveness) -> None:
    config = build_config(private, tmp_path)
    with start_device_host(config, liveness=liveness, on_event=lambda _: None) as host:
        host.wait_ready(soon())
        path = Path(host.sockets["t0"])
        assert path.is_socket()
        assert path.stat().st_mode & 0o777 == 0o600
    assert host.process.exit_record is not None
    assert (host.process.exit_record.how, host.process.exit_record.status) == ("asked", 0)


def test_answers_and_refusals(host: DeviceHost) -> None:
    assert host.request("t0", "stats", deadline=soon())["doorbells"] == 0
    assert "surprise_removal" in host.request("t0", "faults", deadline=soon())
    with pytest.raises(ScenarioFault, match="device 't0', 'inject': "):
        host.request("t0", "inject", {"fault": "nonsense"}, deadline=soon())
    with pytest.raises(ScenarioFault, match="device 't9', 'stats': "):
        host.request("t9", "stats", deadline=soon())
    with pytest.raises(ScenarioFault, match="longer than"):
        host.request("t0", "inject", {"fault": "x" * 70_000}, deadline=soon())


def test_a_request_that_waits_does_not_hold_up_others(host: DeviceHost) -> None:
    ends: list[str] = []

    def wait() -> None:
        args = {"counter": "doorbells", "at_least": 1, "timeout": 1.5}
        with pytest.raises(ScenarioFault) as caught:
            host.request("t0", "wait", args, deadline=soon())
        ends.append(caught.value.message)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        host.request("t0", "stats", deadline=soon())
    assert all(thread.is_alive() for thread in threads)
    for thread in threads:
        thread.join()
    assert len(ends) == 4


def test_deadline_and_loss_end_a_request(host: DeviceHost, liveness: Liveness) -> None:
    args = {"counter": "doorbells", "at_least": 1, "timeout": 60}
    with pytest.raises(DeadlineExceeded):
        host.request("t0", "wait", args, deadline=soon(0.2))
    threading.Timer(0.1, lambda: liveness.fail(lambda: GuestPanicked("oops"))).start()
    with pytest.raises(GuestPanicked, match="oops"):
        host.request("t0", "wait", args, deadline=soon())


def test_death_ends_a_request_and_later_ones(host: DeviceHost) -> None:
    threading.Timer(0.2, lambda: os.kill(host.process.pid, signal.SIGKILL)).start()
    args = {"counter": "doorbells", "at_least": 1, "timeout": 60}
    with pytest.raises(GuestDied, match="killed by SIGKILL"):
        host.request("t0", "wait", args, deadline=soon())
    with pytest.raises(GuestDied, match="killed by SIGKILL"):
        host.request("t0", "stats", deadline=soon())


def test_bad_config_is_a_launch_error(private: Path, tmp_path: Path, liveness: Liveness) -> None:
    config = build_config(private, tmp_path, nonsense=1)
    with start_device_host(config, liveness=liveness, on_event=lambda _: None) as host:
        with pytest.raises(LaunchError, match="did not start") as caught:
            host.wait_ready(soon())
        assert caught.value.status == 2
        assert "nonsense" in caught.value.log_tail
