"""Files for a guest that has just come up, over the line to its agent: much faster than SSH under TCG."""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping
from pathlib import Path

from testbed.deadline import Deadline
from testbed.errors import GuestDied, LabError, ScenarioFault
from testbed.guest.machine import Machine, read_word

_MODE = 0o755
_CHUNK = 1 << 16


def deliver(machine: Machine, files: Mapping[str, Path], deadline: Deadline) -> None:
    """Put ``files`` (absolute path in the guest to a file of ours) into the guest, folders included.

    Nobody else may speak to the agent meanwhile. Raises `ScenarioFault` when a file cannot be read,
    `LabError` when the guest did not take them, `GuestPanicked`, `GuestDied` or `DeadlineExceeded`.
    """
    for path, source in files.items():
        try:
            data = source.read_bytes()
        except OSError as error:
            raise ScenarioFault(f"'{source}' cannot be sent to the guest: {error.strerror}") from error
        _send(machine, f"file {_MODE:o} {len(data)} {path}\n".encode() + data, deadline)
    _send(machine, f"done {len(files)}\n".encode(), deadline)
    said = read_word(machine, deadline)
    if said != f"DONE {len(files)}":
        raise LabError(f"the guest did not take {len(files)} files: it says '{said[:80]}'")


def _send(machine: Machine, data: bytes, deadline: Deadline) -> None:
    rest = memoryview(data)
    poller = select.poll()
    poller.register(machine.ready, select.POLLOUT)
    while rest:
        if not poller.poll(min(0.1, deadline.left) * 1000):
            machine.liveness.check()
            deadline.check()
            continue
        try:
            rest = rest[machine.ready.send(rest[:_CHUNK], socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            continue
        except OSError as error:
            machine.liveness.settle(1.0)
            raise GuestDied("QEMU closed the line to the guest's agent") from error
