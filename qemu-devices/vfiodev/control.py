"""The control socket: requests of the orchestrator in, answers and events out (docs/devices/protocol.md)."""

import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from vfiodev.device import Device
from vfiodev.errors import ControlError

MAX_LINE: Final = 64 << 10
MAX_QUEUED: Final = 256
MAX_WAITS: Final = 64
MAX_WAIT_SECONDS: Final = 3600.0

Handler = Callable[[Device, Mapping[str, object]], object]


class Control:
    """Answers requests for the devices of one host. Nothing here blocks a device, nor the reading of the
    socket: requests run on a thread, waits on threads of their own, and lines go out by a queue."""

    def __init__(self, sock: socket.socket, devices: Mapping[str, Device]) -> None:
        self._sock = sock
        self._devices = devices
        self._out: queue.Queue[dict[str, object]] = queue.Queue(MAX_QUEUED)
        self._in: queue.Queue[bytes] = queue.Queue(MAX_QUEUED)
        self._waits = threading.BoundedSemaphore(MAX_WAITS)
        self._handlers: dict[str, Handler] = {
            "faults": _faults,
            "inject": _inject,
            "clear": _clear,
            "stats": _stats,
        }

    def start(self) -> None:
        """Start the threads that answer and send."""
        for name, body in (("control-answer", self._answer_all), ("control-send", self._send_all)):
            threading.Thread(target=body, name=name, daemon=True).start()

    def event(self, name: str, **fields: object) -> None:
        """Tell the orchestrator; dropped when it does not read."""
        self._put({"event": name, **fields})

    def device_event(self, name: str, device: str, **fields: object) -> None:
        """An event of one device, with the time."""
        self.event(name, device=device, t=time.monotonic_ns(), **fields)

    def read_until_closed(self) -> None:
        """Take requests until the orchestrator closes the socket or dies."""
        for line in _lines(self._sock):
            if line is None:
                self._put({"id": None, "ok": False, "error": f"a line is longer than {MAX_LINE} bytes"})
                continue
            try:
                self._in.put_nowait(line)
            except queue.Full:
                self._put({"id": None, "ok": False, "error": "too many requests at once"})

    def _put(self, line: dict[str, object]) -> None:
        try:
            self._out.put_nowait(line)
        except queue.Full:
            return

    def _send_all(self) -> None:
        while True:
            data = json.dumps(self._out.get()).encode() + b"\n"
            try:
                self._sock.sendall(data)
            except OSError:
                return

    def _answer_all(self) -> None:
        while True:
            self._answer(self._in.get())

    def _answer(self, line: bytes) -> None:
        ident: object = None
        try:
            request = _request(line)
            ident = request.get("id")
            device, command, args = self._parse(request)
            if command == "wait":
                self._start_wait(ident, device, args)
                return
            result = self._handlers[command](device, args)
        except ControlError as error:
            self._put({"id": ident, "ok": False, "error": str(error)})
        except Exception as error:  # noqa: BLE001 - a model's fault hook failed; say so and go on
            self._put({"id": ident, "ok": False, "error": f"{type(error).__name__}: {error}"})
        else:
            self._put({"id": ident, "ok": True, "result": result})

    def _parse(self, request: Mapping[str, object]) -> tuple[Device, str, Mapping[str, object]]:
        name, command, args = request.get("device"), request.get("command"), request.get("args", {})
        if not isinstance(request.get("id"), int):
            raise ControlError("the request has no integer 'id'")
        if not isinstance(name, str) or name not in self._devices:
            raise ControlError(f"device {name!r} is not known (known: {', '.join(sorted(self._devices))})")
        commands = sorted([*self._handlers, "wait"])
        if not isinstance(command, str) or command not in commands:
            raise ControlError(f"command {command!r} is not known (known: {', '.join(commands)})")
        if not isinstance(args, dict):
            raise ControlError("'args' is not an object")
        return self._devices[name], command, args

    def _start_wait(self, ident: object, device: Device, args: Mapping[str, object]) -> None:
        counter, at_least, timeout = _wait_args(device, args)
        if not self._waits.acquire(blocking=False):
            raise ControlError(f"more than {MAX_WAITS} waits at once")

        def run() -> None:
            try:
                value = device.stats.wait(counter, at_least, timeout)
            finally:
                self._waits.release()
            if value is None:
                text = f"'{counter}' is {device.stats.get(counter)} after {timeout:g} s, not {at_least}"
                self._put({"id": ident, "ok": False, "error": text})
            else:
                self._put({"id": ident, "ok": True, "result": {"value": value}})

        threading.Thread(target=run, name=f"wait-{counter}", daemon=True).start()


def _lines(sock: socket.socket) -> Iterator[bytes | None]:
    """Lines without their end; None for one that is too long."""
    pending = bytearray()
    skipping = False
    while True:
        try:
            data = sock.recv(MAX_LINE)
        except OSError:
            return
        if not data:
            return
        pending += data
        *whole, rest = pending.split(b"\n")
        for line in whole:
            too_long = skipping or len(line) > MAX_LINE
            skipping = False
            yield None if too_long else bytes(line)
        pending = bytearray(rest)
        if len(pending) > MAX_LINE:
            pending.clear()
            skipping = True


def _request(line: bytes) -> Mapping[str, object]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"the request is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise ControlError("the request is not an object")
    return request


def _no_args(args: Mapping[str, object]) -> None:
    if args:
        raise ControlError(f"argument '{next(iter(args))}' is not known here")


def _faults(device: Device, args: Mapping[str, object]) -> object:
    _no_args(args)
    return device.faults.describe()


def _stats(device: Device, args: Mapping[str, object]) -> object:
    _no_args(args)
    return device.stats.snapshot()


def _inject(device: Device, args: Mapping[str, object]) -> object:
    name = args.get("fault")
    if not isinstance(name, str):
        raise ControlError("'fault' names no fault")
    device.inject(name, {key: value for key, value in args.items() if key != "fault"})
    return {}


def _clear(device: Device, args: Mapping[str, object]) -> object:
    name = args.get("fault")
    if name is not None and not isinstance(name, str):
        raise ControlError("'fault' names no fault")
    _no_args({key: value for key, value in args.items() if key != "fault"})
    device.clear(name)
    return {}


def _wait_args(device: Device, args: Mapping[str, object]) -> tuple[str, int, float]:
    _no_args({key: value for key, value in args.items() if key not in ("counter", "at_least", "timeout")})
    counter, at_least, timeout = args.get("counter"), args.get("at_least"), args.get("timeout")
    known = device.stats.snapshot()
    if not isinstance(counter, str) or counter not in known:
        raise ControlError(f"counter {counter!r} is not known (known: {', '.join(known)})")
    if isinstance(at_least, bool) or not isinstance(at_least, int):
        raise ControlError("'at_least' is not an integer")
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise ControlError("'timeout' is not a number of seconds")
    if not 0 <= timeout <= MAX_WAIT_SECONDS:
        raise ControlError(f"'timeout' is not between 0 and {MAX_WAIT_SECONDS:g} s")
    return counter, at_least, float(timeout)
