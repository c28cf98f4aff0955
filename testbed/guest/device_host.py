"""The device host of one guest: start it, and speak over its control socket (docs/devices/protocol.md)."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.deadline import Deadline
from testbed.errors import GuestDied, LabError, ScenarioFault
from testbed.guest.custody import FOLDER_VARIABLE
from testbed.guest.liveness import Liveness
from testbed.guest.process import Grace, Process, spawn

_LINE_MAX = 64 * 1024
_LOSS_EXPLAINED = 1.0

HostEvent = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """What the device host is told at start."""

    private: Path
    """Where the sockets go."""
    folder: Path
    """Where the trace and the log go."""
    seed: int
    devices: Sequence[Mapping[str, Any]]
    """``name``, ``model`` and ``params`` of each device."""


class _Answer:
    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.line: Mapping[str, Any] = {}


class DeviceHost:
    """A running device host; safe to use from several threads. `start_device_host` makes one."""

    def __init__(
        self,
        process: Process,
        control: socket.socket,
        liveness: Liveness,
        on_event: Callable[[HostEvent], None],
    ) -> None:
        self.process = process
        self.sockets: Mapping[str, str] = {}
        """Device name to the path that QEMU connects to."""
        self._control = control
        self._liveness = liveness
        self._on_event = on_event
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, _Answer] = {}
        self._ready = _Answer()
        self._closed = threading.Event()

    def request(
        self, device: str, command: str, args: Mapping[str, Any] | None = None, *, deadline: Deadline
    ) -> dict[str, Any]:
        """Send a request and return its result.

        Raises `ScenarioFault` when the host refuses, `GuestDied` when it is gone.
        """
        answer, number = _Answer(), next(self._ids)
        line = json.dumps({"id": number, "device": device, "command": command, "args": dict(args or {})})
        if len(line) >= _LINE_MAX:
            raise ScenarioFault(f"request '{command}' to device '{device}' is longer than {_LINE_MAX} bytes")
        with self._lock:
            self._waiting[number] = answer
            try:
                self._control.sendall(line.encode() + b"\n")
            except OSError as error:
                self._waiting.pop(number)
                raise self._lost() from error
        try:
            self._await(answer, deadline)
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        if answer.line.get("ok") is not True:
            raise ScenarioFault(f"device '{device}', '{command}': {answer.line.get('error', 'refused')}")
        result = answer.line.get("result")
        return dict(result) if isinstance(result, dict) else {}

    def wait_ready(self, deadline: Deadline) -> None:
        """Wait until all sockets listen. Raises `LaunchError` when the host ends instead."""
        try:
            self._await(self._ready, deadline)
        except GuestDied as error:
            raise self.process.launch_error("the device host did not start") from error
        self.sockets = dict(self._ready.line["devices"])

    def read_lines(self) -> None:
        """The body of the reading thread: ends with the socket."""
        with self._control.makefile("rb") as stream:
            try:
                for raw in stream:
                    self._take(raw)
            except OSError:
                pass
        self._closed.set()

    def _take(self, raw: bytes) -> None:
        try:
            line = json.loads(raw)
        except ValueError:
            line = None
        if not isinstance(line, dict):
            self._on_event({"event": "violation", "device": "", "message": f"not JSON: {raw[:200]!r}"})
        elif "id" in line:
            with self._lock:
                answer = self._waiting.get(line["id"])
            if answer is not None:
                answer.line = line
                answer.arrived.set()
        elif line.get("event") == "ready":
            self._ready.line = line
            self._ready.arrived.set()
        else:
            self._on_event(line)

    def _await(self, answer: _Answer, deadline: Deadline) -> None:
        while not answer.arrived.wait(min(0.1, deadline.left)):
            self._liveness.check()
            if self._closed.is_set() and not answer.arrived.is_set():
                raise self._lost()
            deadline.check()

    def _lost(self) -> LabError:
        self._liveness.settle(_LOSS_EXPLAINED)
        self.process.wait(_LOSS_EXPLAINED)
        return GuestDied(f"the device host {self.process.describe_end()}", where=str(self.process.log))


def host_environment() -> dict[str, str]:
    """Return the environment in which a child finds ``vfiodev``, installed or not."""
    found = importlib.util.find_spec("vfiodev")
    package = str(Path(found.origin).parent.parent) if found and found.origin else None
    path = filter(None, [package, os.environ.get("PYTHONPATH")])
    return {"PYTHONPATH": os.pathsep.join(path)}


@contextmanager
def start_device_host(
    config: HostConfig,
    *,
    liveness: Liveness,
    on_event: Callable[[HostEvent], None],
) -> Iterator[DeviceHost]:
    """Start a device host; `DeviceHost.wait_ready` says when its sockets listen.

    ``on_event`` is called by the thread that reads the control socket.
    """
    file = config.private / "devices.json"
    document = {
        "dir": str(config.private),
        "trace": str(config.folder / "devices.jsonl"),
        "seed": config.seed,
        "devices": list(config.devices),
    }
    file.write_text(json.dumps(document), encoding="utf-8")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = theirs.fileno()
        argv = [sys.executable, "-m", "vfiodev", "host", "--config", str(file), "--control-fd", str(fd)]

        def hang_up() -> None:
            ours.shutdown(socket.SHUT_RDWR)

        with spawn(
            argv,
            log=config.folder / "devices.log",
            env={**host_environment(), FOLDER_VARIABLE: str(config.folder)},
            pass_fds=(fd,),
            ask=hang_up,
        ) as process:
            theirs.close()
            host = DeviceHost(process, ours, liveness, on_event)
            thread = threading.Thread(target=host.read_lines, name="guest-devices", daemon=True)
            thread.start()
            try:
                yield host
            finally:
                process.end(hang_up, grace=Grace())
                ours.close()
                thread.join(timeout=2.0)
