"""The device host: several devices in one process, one thread per device, one address map for all.

A thread per device, rather than one event loop, because a guest's CPU stands still during each register
access: a blocking read is the shortest way from socket to register, and a device that is slow or wedged
stops no other.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn

from vfiodev.config import HostConfig, load_config
from vfiodev.control import Control
from vfiodev.device import Context, Device
from vfiodev.errors import ConfigError, FatalStreamError, RangeError
from vfiodev.peers import PeerMap
from vfiodev.server import Connection
from vfiodev.stream import Stream
from vfiodev.trace import TraceWriter
from vfiodev.work import TimerThread

SWITCH_SECONDS: Final = 0.0005
USAGE: Final = 2


class DeviceThread(threading.Thread):
    """Accepts one client after the other for a device."""

    def __init__(self, device: Device, path: Path, control: Control) -> None:
        """Bind the socket, so that QEMU can connect from now on."""
        super().__init__(name=device.name, daemon=True)
        self._device = device
        self._control = control
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(1)

    def run(self) -> None:
        """Serve clients until the process ends."""
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                self._device.violation(f"cannot accept a client: {error}")
                return
            self._control.device_event("attached", self._device.name)
            try:
                serve(sock, self._device)
            except Exception as error:  # noqa: BLE001 - a model failed to attach or detach; serve the next client
                self._device.violation(f"the model failed: {type(error).__name__}: {error}")
            self._control.device_event("detached", self._device.name)


def serve(sock: socket.socket, device: Device) -> str:
    """Serve one connected client until it goes away; returns why it ended. Closes the socket."""
    stream = Stream(sock)
    try:
        return Connection(stream, device).serve()
    except FatalStreamError as error:
        return str(error)
    finally:
        stream.close()


@contextlib.contextmanager
def start_host(config: HostConfig, control_sock: socket.socket) -> Iterator[Control]:
    """All devices of a configuration, listening. Raises ConfigError."""
    devices: dict[str, Device] = {}
    control = Control(control_sock, devices)
    with contextlib.ExitStack() as stack:
        try:
            trace_file = stack.enter_context(config.trace.open("ab"))
        except OSError as error:
            raise ConfigError(f"cannot open the trace: {error}") from error
        writer = stack.enter_context(TraceWriter(trace_file))
        timers = TimerThread(_say)
        timers.start()
        stack.callback(timers.stop)
        peers = PeerMap()

        def tell(device: str, message: str) -> None:
            control.device_event("violation", device, message=message)

        sockets: dict[str, str] = {}
        threads = []
        for entry in config.devices:
            context = Context(
                name=entry.name, seed=config.seed, peers=peers, trace=writer, timers=timers, violation=tell
            )
            device = devices[entry.name] = _make(entry.model, context, entry.params)
            stack.callback(device.close)
            path = config.directory / f"{entry.name}.sock"
            try:
                threads.append(DeviceThread(device, path, control))
            except OSError as error:
                raise ConfigError(f"device {entry.name!r}: cannot listen: {error}") from error
            stack.callback(path.unlink, missing_ok=True)
            sockets[entry.name] = str(path)
        for thread in threads:
            thread.start()
        control.start()
        control.event("ready", devices=sockets)
        yield control


def _make(model: type[Device], context: Context, params: Mapping[str, object]) -> Device:
    try:
        return model(context, params)
    except (ConfigError, RangeError, OSError) as error:
        raise ConfigError(f"device '{context.name}': {error}") from error


def _say(text: str) -> None:
    sys.stderr.write(f"vfiodev: {text}\n")


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)


def run_host(path: Path, control_fd: int) -> int:
    """The program `python -m vfiodev host`: runs until the control socket closes or SIGTERM; the exit
    status."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        control_sock = socket.socket(fileno=control_fd)
        with start_host(load_config(path), control_sock) as control:
            control.read_until_closed()
    except SystemExit:
        return 0
    except ConfigError as error:
        _say(str(error))
        return USAGE
    except OSError as error:
        _say(f"control file descriptor {control_fd}: {error}")
        return USAGE
    return 0


def end_process(status: int) -> NoReturn:
    """Leave without waiting for any thread: a wedged model must not keep the process alive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
