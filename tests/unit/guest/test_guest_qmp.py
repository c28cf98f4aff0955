"""The QMP facade against a server on the other end of a socket pair."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.deadline import Deadline
from testbed.errors import DeadlineExceeded, GuestDied, GuestPanicked
from testbed.guest.liveness import Liveness
from testbed.guest.qmp import Qmp, QmpError, QmpEvent, data_matches, start_qmp

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]


class Server:
    """Speaks QMP's server side: a greeting, then what ``answer`` says to each command."""

    def __init__(self, sock: socket.socket, answer: Answer) -> None:
        self.sock = sock
        self._answer = answer

    def send(self, message: dict[str, Any]) -> None:
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def event(self, name: str, **data: Any) -> None:
        self.send({"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 2}})

    def serve(self) -> None:
        version = {"qemu": {"major": 11, "minor": 1, "micro": 3}, "package": ""}
        self.send({"QMP": {"version": version, "capabilities": []}})
        for command in self._commands():
            reply = {"return": {}} if command["execute"] == "qmp_capabilities" else self._answer(command)
            if reply is None:
                self.sock.shutdown(socket.SHUT_RDWR)
                return
            if reply:
                self.send({**reply, **({"id": command["id"]} if "id" in command else {})})

    def _commands(self) -> Iterator[dict[str, Any]]:
        # As in QEMU, a command ends with its last brace: clients need not send a newline.
        text = ""
        while data := self.sock.recv(65536):
            text += data.decode()
            while text:
                try:
                    command, end = json.JSONDecoder().raw_decode(text)
                except ValueError:
                    break
                text = text[end:].lstrip()
                yield command


def answer(command: dict[str, Any]) -> dict[str, Any] | None:
    match command["execute"]:
        case "query-status":
            return {"return": {"status": "running"}}
        case "device_add":
            return {"error": {"class": "GenericError", "desc": f"no '{command['arguments']['driver']}'"}}
        case "hang":
            return {}
        case "quit":
            return None
    return {"error": {"class": "CommandNotFound", "desc": "unknown"}}


class Rig:
    def __init__(self, folder: Path) -> None:
        ours, theirs = socket.socketpair()
        self.ours = ours
        self.server = Server(theirs, answer)
        self.log = folder / "qmp.jsonl"
        self.liveness = Liveness(lambda _: None)
        self.events: list[QmpEvent] = []
        self.closed = threading.Event()
        self.qmp: Qmp


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    thread = threading.Thread(target=rig.server.serve)
    thread.start()
    with rig.ours, rig.server.sock:
        with start_qmp(
            rig.ours,
            log=rig.log,
            liveness=rig.liveness,
            deadline=soon(),
            on_event=rig.events.append,
            on_close=rig.closed.set,
        ) as qmp:
            rig.qmp = qmp
            yield rig
        thread.join(timeout=5)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def _nobody_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no watcher here that could say why something broke."""
    monkeypatch.setattr("testbed.guest.qmp._LOSS_EXPLAINED", 0.1)


def soon(seconds: float = 5.0) -> Deadline:
    return Deadline.after(seconds, "QEMU")


def test_command_returns(rig: Rig) -> None:
    assert rig.qmp.execute("query-status", deadline=soon()) == {"status": "running"}


def test_refusal_carries_class_and_description(rig: Rig) -> None:
    with pytest.raises(QmpError, match="'device_add': GenericError: no 'x'") as caught:
        rig.qmp.execute("device_add", {"driver": "x"}, deadline=soon())
    assert (caught.value.error_class, caught.value.desc) == ("GenericError", "no 'x'")


def test_all_messages_are_logged(rig: Rig) -> None:
    rig.server.event("RESET", guest=True)
    rig.qmp.wait_event("RESET", deadline=soon())
    rig.qmp.execute("query-status", deadline=soon())
    lines = [json.loads(line) for line in rig.log.read_text().splitlines()]
    assert [line["dir"] for line in lines] == ["in", "out", "in", "in", "out", "in"]
    assert lines[3]["event"] == "RESET"
    assert lines[4]["execute"] == "query-status"
    assert all(isinstance(line["t"], int) for line in lines)


def test_event_before_the_wait_is_found(rig: Rig) -> None:
    rig.server.event("DEVICE_DELETED", device="gpu0", path="/machine/peripheral/gpu0")
    rig.qmp.wait_event("DEVICE_DELETED", deadline=soon())
    found = rig.qmp.wait_event("DEVICE_DELETED", {"device": "gpu0"}, deadline=soon())
    assert found.position == 0
    assert rig.events == [found]


def test_since_skips_older_events(rig: Rig) -> None:
    rig.server.event("STOP")
    rig.qmp.wait_event("STOP", deadline=soon())
    with pytest.raises(DeadlineExceeded):
        rig.qmp.wait_event("STOP", deadline=soon(0.2), since=rig.qmp.position)


def test_event_that_does_not_match_is_passed_over(rig: Rig) -> None:
    rig.server.event("DEVICE_DELETED", device="nic0")
    rig.server.event("DEVICE_DELETED", device="gpu0")
    assert rig.qmp.wait_event("DEVICE_DELETED", {"device": "gpu0"}, deadline=soon()).position == 1


def test_many_waiters_all_wake(rig: Rig) -> None:
    found: list[int] = []

    def wait(number: int) -> None:
        rig.qmp.wait_event("TICK", {"n": number}, deadline=soon())
        found.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for number in reversed(range(20)):
        rig.server.event("TICK", n=number)
    for thread in threads:
        thread.join(timeout=5)
    assert sorted(found) == list(range(20))


def test_no_answer_ends_at_the_deadline(rig: Rig) -> None:
    with pytest.raises(DeadlineExceeded):
        rig.qmp.execute("hang", deadline=soon(0.2))
    assert rig.qmp.execute("query-status", deadline=soon()) == {"status": "running"}


def test_panic_ends_a_command_and_a_wait(rig: Rig) -> None:
    threading.Timer(0.1, lambda: rig.liveness.fail(lambda: GuestPanicked("oops"))).start()
    began = time.monotonic()
    with pytest.raises(GuestPanicked, match="oops"):
        rig.qmp.execute("hang", deadline=soon(30))
    with pytest.raises(GuestPanicked, match="oops"):
        rig.qmp.wait_event("NEVER", deadline=soon(30))
    assert time.monotonic() - began < 2.0


def test_hang_up_is_told_and_no_later_command_waits(rig: Rig) -> None:
    rig.qmp.quit(1.0)
    assert rig.closed.wait(5)
    with pytest.raises(GuestDied, match="closed QMP"):
        rig.qmp.execute("query-status", deadline=soon())


def test_hang_up_before_the_greeting(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with (
        ours,
        pytest.raises(GuestDied),
        start_qmp(
            ours,
            log=tmp_path / "log",
            liveness=Liveness(lambda _: None),
            deadline=soon(),
            on_event=lambda _: None,
            on_close=lambda: None,
        ),
    ):
        pass


@pytest.mark.parametrize("greeting", ["", '{"QMP": {"version": {}, "capabilities": []}}\n'])
@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.05, 0.3])
def test_a_greeting_that_is_given_up_is_a_deadline(tmp_path: Path, greeting: str, seconds: float) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(greeting.encode())
    with (
        ours,
        theirs,
        pytest.raises(DeadlineExceeded),
        start_qmp(
            ours,
            log=tmp_path / "log",
            liveness=Liveness(lambda _: None),
            deadline=Deadline.after(seconds, "QMP"),
            on_event=lambda _: None,
            on_close=lambda: None,
        ),
    ):
        pass


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({}, True),
        ({"status": "running"}, True),
        ({"status": "run"}, True),
        ({"status": "^paused$"}, False),
        ({"cpus.1.state": "halted"}, True),
        ({"cpus.7.state": "halted"}, False),
        ({"count": 3}, True),
        ({"count": "3"}, True),
        ({"missing": "x"}, False),
        ({"on": True}, True),
    ],
)
def test_data_matches(match: dict[str, Any], fits: bool) -> None:
    data = {"status": "running", "count": 3, "on": True, "cpus": [{"state": "up"}, {"state": "halted"}]}
    assert data_matches(data, match) is fits
