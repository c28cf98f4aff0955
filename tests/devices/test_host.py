"""The host process and its control socket: docs/devices/protocol.md, spoken to from outside."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vfio_client import Client

from vfiodev.template import regs


class Host:
    """A running host and the orchestrator's end of its control socket."""

    def __init__(self, tmp_path: Path, config: dict[str, Any] | str) -> None:
        path = tmp_path / "config.json"
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vfiodev", "host", "--config", path, "--control-fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        ours.settimeout(30)
        self.sock = ours
        self._file = ours.makefile("r")
        self.events: list[dict[str, Any]] = []
        self._ident = 0

    def line(self) -> dict[str, Any]:
        found = json.loads(self._file.readline())
        assert isinstance(found, dict)
        return found

    def event(self, name: str) -> dict[str, Any]:
        """The next event of that name."""
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            self.events.append(self.line())

    def send(self, device: str, command: str, **args: object) -> int:
        self._ident += 1
        request = {"id": self._ident, "device": device, "command": command, "args": args}
        self.sock.sendall(json.dumps(request).encode() + b"\n")
        return self._ident

    def answer(self, ident: int | None) -> dict[str, Any]:
        while True:
            line = self.line()
            if "event" not in line:
                assert line["id"] == ident
                return line
            self.events.append(line)

    def ask(self, device: str, command: str, **args: object) -> Any:
        found = self.answer(self.send(device, command, **args))
        assert found["ok"], found["error"]
        return found["result"]

    def refusal(self, device: str, command: str, **args: object) -> str:
        found = self.answer(self.send(device, command, **args))
        assert not found["ok"]
        return str(found["error"])

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._file.close()
        self.sock.close()


def config(tmp_path: Path, *names: str) -> dict[str, Any]:
    return {
        "dir": str(tmp_path),
        "trace": str(tmp_path / "devices.jsonl"),
        "seed": 7,
        "devices": [{"name": name, "model": "template", "params": {}} for name in names],
    }


def connect(path: str) -> Client:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    client = Client(sock)
    client.negotiate()
    client.enable()
    return client


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path, config(tmp_path, "dev0", "dev1"))
    yield made
    made.close()


@pytest.fixture
def paths(host: Host) -> dict[str, str]:
    found = host.event("ready")["devices"]
    assert isinstance(found, dict)
    return found


def test_sockets_are_private_and_attach_detach_is_told(host: Host, paths: dict[str, str]) -> None:
    assert list(paths) == ["dev0", "dev1"]
    assert Path(paths["dev0"]).stat().st_mode & 0o777 == 0o600
    for _ in range(3):
        with connect(paths["dev0"]) as client:
            attached = host.event("attached")
            assert attached["device"] == "dev0"
            client.put(0, 4, 5)
        assert host.event("detached")["t"] > attached["t"]


def test_two_devices_at_once(paths: dict[str, str]) -> None:
    with connect(paths["dev0"]) as first, connect(paths["dev1"]) as second:
        first.put(0, 4, 1)
        second.put(0, 4, 2)
        assert (first.get(0, 4), second.get(0, 4)) == (1, 2)


def test_a_client_that_stalls_does_not_stop_the_other_device(host: Host, paths: dict[str, str]) -> None:
    stalled = socket.socket(socket.AF_UNIX)
    stalled.connect(paths["dev0"])
    stalled.sendall(b"\1\0\1\0\xff\0\0\0")
    with connect(paths["dev1"]) as client:
        assert client.get(0, 0) == regs.MAGIC
    assert "irqs" in host.ask("dev0", "stats")
    stalled.close()


def test_faults(host: Host, paths: dict[str, str]) -> None:
    known = host.ask("dev0", "faults")
    assert set(known) == {"config_ones", "surprise_removal", "lose_interrupt"}
    assert set(known["lose_interrupt"]) == {"doc", "args"}
    with connect(paths["dev0"]) as client:
        assert host.ask("dev0", "inject", fault="config_ones") == {}
        assert client.get(7, 0) == client.get(0, 0) == 0xFFFFFFFF
        client.put(0, 4, 3)
        assert host.ask("dev0", "clear", fault="config_ones") == {}
        assert (client.get(0, 0), client.get(0, 4)) == (regs.MAGIC, 0)
        host.ask("dev0", "inject", fault="lose_interrupt", count=1)
        for _ in range(2):
            client.put(0, regs.DOORBELL.offset, 0)
        assert host.ask("dev0", "stats")["irqs_unsent"] == 1
        host.ask("dev0", "inject", fault="surprise_removal")
        assert client.get(7, 0) == 0xFFFFFFFF
    host.event("detached")
    with connect(paths["dev0"]) as client:
        assert client.get(7, 0, 2) == 0x1234
    assert host.ask("dev0", "clear") == {}


@pytest.mark.parametrize(
    ("command", "args", "says"),
    [
        ("inject", {"fault": "nonsense"}, "known: config_ones"),
        ("inject", {}, "'fault'"),
        ("inject", {"fault": "lose_interrupt", "coun": 1}, "it has: count"),
        ("inject", {"fault": "lose_interrupt", "count": "1"}, "int 0.."),
        ("inject", {"fault": "lose_interrupt", "count": True}, "int 0.."),
        ("inject", {"fault": "lose_interrupt", "count": -1}, "int 0.."),
        ("clear", {"fault": "nonsense"}, "known:"),
        ("stats", {"x": 1}, "'x'"),
        ("wait", {"counter": "nonsense", "at_least": 1, "timeout": 1}, "known:"),
        ("wait", {"counter": "irqs", "at_least": "1", "timeout": 1}, "'at_least'"),
        ("wait", {"counter": "irqs", "at_least": 1, "timeout": -1}, "'timeout'"),
        ("wait", {"counter": "irqs", "at_least": 1, "timeout": 0.05}, "not 1"),
        ("reboot", {}, "known: clear"),
    ],
)
@pytest.mark.usefixtures("paths")
def test_refusals(host: Host, command: str, args: dict[str, object], says: str) -> None:
    assert says in host.refusal("dev0", command, **args)


def test_wait_is_answered_when_the_counter_gets_there(host: Host, paths: dict[str, str]) -> None:
    ident = host.send("dev0", "wait", counter="doorbells", at_least=2, timeout=10)
    with connect(paths["dev0"]) as client:
        client.put(0, regs.DOORBELL.offset, 0)
        client.put(0, regs.DOORBELL.offset, 0)
        assert host.answer(ident) == {"id": ident, "ok": True, "result": {"value": 2}}


@pytest.mark.usefixtures("paths")
def test_nonsense_lines_are_refused_and_survived(host: Host) -> None:
    for line in (b"nonsense\n", b"[]\n", b"[" * 5000 + b"\n", b"{}\n", b'{"id": 1}\n', b"x" * 70000 + b"\n"):
        host.sock.sendall(line)
        assert not host.answer(1 if b'"id": 1' in line else None)["ok"]
    assert host.refusal("dev9", "stats") == "device 'dev9' is not known (known: dev0, dev1)"
    assert host.ask("dev0", "stats")["violations"] == 0


@pytest.mark.usefixtures("paths")
def test_an_endless_line_takes_no_memory(host: Host) -> None:
    host.sock.sendall(b"x" * (64 << 20))
    host.sock.sendall(b"\n")
    assert not host.answer(None)["ok"]
    assert host.ask("dev0", "stats")["violations"] == 0
    status = Path(f"/proc/{host.process.pid}/status").read_text()
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    assert peak_kib < 64 << 10


def test_violations_are_told(host: Host, paths: dict[str, str]) -> None:
    with connect(paths["dev0"]) as client:
        client.put(0, regs.DOORBELL.offset, 9)
        assert "vector 9" in host.event("violation")["message"]


def test_trace_is_written_and_complete(host: Host, paths: dict[str, str], tmp_path: Path) -> None:
    with connect(paths["dev1"]) as client:
        client.put(0, 4, 0xABCD)
    host.event("detached")
    host.sock.shutdown(socket.SHUT_RDWR)
    assert host.process.wait(10) == 0
    lines = [json.loads(line) for line in (tmp_path / "devices.jsonl").read_text().splitlines()]
    writes = [line for line in lines if line["ev"] == "mmio_write"]
    assert [(w["dev"], w["bar"], w["off"], w["size"], w["val"]) for w in writes] == [
        ("dev1", 0, 4, 4, 0xABCD)
    ]
    assert [line["ev"] for line in lines if line["ev"] in ("attached", "detached")] == [
        "attached",
        "detached",
    ]
    assert not list(tmp_path.glob("*.sock"))


@pytest.mark.parametrize("way", ["close", "term"])
def test_the_host_ends_with_the_orchestrator(host: Host, paths: dict[str, str], way: str) -> None:
    with connect(paths["dev0"]):
        if way == "close":
            host.sock.shutdown(socket.SHUT_RDWR)
        else:
            os.kill(host.process.pid, signal.SIGTERM)
        assert host.process.wait(10) == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"devices": [{"name": "a", "model": "nonsense", "params": {}}]}, "model 'nonsense'"),
        ({"devices": [{"name": "a", "model": "wire", "params": {}}]}, "model 'wire'"),
        ({"devices": [{"name": "a", "model": "template", "params": {"x": 1}}]}, "'x'"),
        ({"devices": [{"name": "a", "model": "template", "params": {"interrupts": 1}}]}, "interrupts"),
        ({"devices": [{"name": "../a", "model": "template", "params": {}}]}, "../a"),
        ({"devices": [{"name": "a", "model": "template"}]}, "params"),
        ({"devices": 3}, "'devices'"),
        ({"seed": "x"}, "'seed'"),
        ({"dir": "/nonexistent"}, "cannot listen"),
        ({"dir": "/tmp/" + "x" * 100}, "longer"),
        ({"trace": "/nonexistent/trace"}, "trace"),
        ({"extra": 1}, "extra"),
    ],
)
def test_bad_config_is_one_line_and_status_2(tmp_path: Path, change: dict[str, object], says: str) -> None:
    data = config(tmp_path, "dev0")
    if "devices" not in change and "dir" in change:
        data["devices"] = [{"name": "a", "model": "template", "params": {}}]
    host = Host(tmp_path, data | change)
    assert host.process.wait(30) == 2
    assert host.process.stderr is not None
    message = host.process.stderr.read()
    assert says in message
    assert message.count("\n") == 1
    host.close()


def test_config_that_is_not_json(tmp_path: Path) -> None:
    host = Host(tmp_path, "{")
    assert host.process.wait(30) == 2
    host.close()
