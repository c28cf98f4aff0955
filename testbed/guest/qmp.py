"""QMP: `qemu.qmp`'s client on an event loop of its own thread, behind plain calls with deadlines.

Every message goes to ``qmp.jsonl``; events are kept, so that waiting for one never misses it.
Protocol: QEMU's docs/interop/qmp-spec.rst.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPClient, QMPError, Runstate
from qemu.qmp.message import Message

from testbed.deadline import Deadline
from testbed.errors import GuestDied, LabError, ScenarioFault
from testbed.guest.liveness import Liveness

T = TypeVar("T")
_TICK = 0.1
_LOSS_EXPLAINED = 1.0  # how long the watcher may take to say why the connection broke

logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())
logging.getLogger("qemu.qmp").propagate = False


class QmpError(ScenarioFault):
    """QEMU refused a command. ``error_class`` and ``desc`` are QMP's own."""

    def __init__(self, command: str, error_class: str, desc: str) -> None:
        super().__init__(f"QMP '{command}': {error_class}: {desc}")
        self.command = command
        self.error_class = error_class
        self.desc = desc


@dataclass(frozen=True, slots=True, kw_only=True)
class QmpEvent:
    """An event that QEMU sent."""

    name: str
    data: Mapping[str, Any]
    position: int
    """Its place in the history, from 0."""


class _WatchedClient(QMPClient):
    """A client that shows each message, through the hooks that the library has for that."""

    def __init__(self, see: Callable[[str, Message], None]) -> None:
        super().__init__("guest")
        self._see = see

    def _cb_outbound(self, msg: Message) -> Message:
        self._see("out", msg)
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        self._see("in", msg)
        return msg


class Qmp:
    """A connection to one QEMU; safe to use from several threads. `start_qmp` makes one."""

    def __init__(
        self,
        log: Path,
        liveness: Liveness,
        on_event: Callable[[QmpEvent], None],
        on_close: Callable[[], None],
    ) -> None:
        self._liveness = liveness
        self._on_event = on_event
        self._on_close = on_close
        self._log_path = log
        self._events: list[QmpEvent] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._client = _WatchedClient(self._see)

    @property
    def position(self) -> int:
        """Events so far: the ``since`` for "from now on"."""
        with self._changed:
            return len(self._events)

    def execute(self, command: str, args: Mapping[str, Any] | None = None, *, deadline: Deadline) -> Any:
        """Run ``command`` and return what QEMU returns.

        Raises `QmpError` when QEMU refuses, `GuestPanicked` or `GuestDied` when it is lost.
        """
        self._liveness.check()
        try:
            return self._call(self._client.execute(command, dict(args) if args else None), deadline)
        except ExecuteError as error:
            raise QmpError(command, error.error_class, str(error)) from error
        except (ExecInterruptedError, QMPError, OSError, EOFError) as error:
            self._liveness.settle(_LOSS_EXPLAINED)
            raise GuestDied(f"QEMU closed QMP before it answered '{command}'") from error

    def quit(self, seconds: float) -> None:
        """Ask QEMU to end, whatever state the guest is in; no answer within ``seconds`` is no error."""
        future = asyncio.run_coroutine_threadsafe(self._client.execute("quit"), self._loop)
        with contextlib.suppress(TimeoutError, QMPError, OSError, EOFError):
            future.result(timeout=seconds)

    def wait_event(
        self,
        name: str,
        match: Mapping[str, Any] | None = None,
        *,
        deadline: Deadline,
        since: int = 0,
    ) -> QmpEvent:
        """Return the first event ``name`` from position ``since`` on whose data match.

        ``match`` maps dotted paths into the data to a value, or for text to a regular expression. Raises
        `DeadlineExceeded`, and `GuestPanicked` or `GuestDied` when the guest is lost first.
        """
        seen = since
        while True:
            with self._changed:
                for event in self._events[seen:]:
                    if event.name == name and data_matches(event.data, match or {}):
                        return event
                seen = max(seen, len(self._events))
                if not self._changed.wait(min(_TICK, deadline.left)):
                    self._liveness.check()
                    deadline.check()

    def connect(self, sock: socket.socket, deadline: Deadline) -> None:
        """Greet QEMU on ``sock``, which is taken over. Raises `GuestDied` when QEMU hangs up."""
        try:
            self._call(self._client.connect(sock), deadline)
        except (ConnectError, AssertionError) as error:
            # qemu.qmp 0.0.6 asserts that the peer did not hang up right after its greeting.
            self._liveness.settle(_LOSS_EXPLAINED)
            raise GuestDied(f"QEMU does not speak QMP: {error}") from error
        asyncio.run_coroutine_threadsafe(self._tell_of_end(), self._loop)

    def run_loop(self) -> None:
        """The body of the thread."""
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def close(self) -> None:
        """Hang up and end the loop; QEMU having hung up first is no error."""
        future = asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop)
        with contextlib.suppress(TimeoutError):
            future.result(timeout=2.0)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _tell_of_end(self) -> None:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()
        self._on_close()

    async def _hang_up(self) -> None:
        # qemu.qmp 0.0.6 asserts its state when a greeting that was given up is still being undone.
        with contextlib.suppress(EOFError, OSError, QMPError, AssertionError):
            await self._client.disconnect()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _call(self, coroutine: Coroutine[Any, Any, T], deadline: Deadline) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        while True:
            try:
                return future.result(timeout=min(_TICK, deadline.left))
            except TimeoutError:
                if future.done():
                    return future.result()
                self._stop_if_lost(future, deadline)

    def _stop_if_lost(self, future: Future[T], deadline: Deadline) -> None:
        try:
            self._liveness.check()
            deadline.check()
        except BaseException:
            future.cancel()
            raise

    def _see(self, direction: str, message: Message) -> None:
        line = json.dumps({"t": time.monotonic_ns(), "dir": direction, **dict(message)}, default=str)
        try:
            with self._log_path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            # We are inside the library's reader: the guest is ended for it, not the reader.
            text = f"'{self._log_path}' cannot be written: {error.strerror}"
            self._liveness.fail(lambda: LabError(text))
        if direction == "in" and "event" in message:
            self._note_event(str(message["event"]), message.get("data"))

    def _note_event(self, name: str, data: object) -> None:
        with self._changed:
            event = QmpEvent(
                name=name, data=data if isinstance(data, dict) else {}, position=len(self._events)
            )
            self._events.append(event)
            self._changed.notify_all()
        self._on_event(event)


def data_matches(data: Any, match: Mapping[str, Any]) -> bool:
    """Return whether each dotted path of ``match`` leads to its value in ``data``.

    Text matches as a regular expression anywhere in the value's text.
    """
    return all(_value_matches(_walk(data, path), wanted) for path, wanted in match.items())


def _walk(data: Any, path: str) -> Any:
    for name in path.split("."):
        if isinstance(data, Mapping):
            data = data.get(name)
        elif isinstance(data, list) and name.isdigit() and int(name) < len(data):
            data = data[int(name)]
        else:
            return None
    return data


def _value_matches(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and value is not None:
        return value == wanted or re.search(wanted, str(value)) is not None
    return bool(value == wanted)


@contextmanager
def start_qmp(
    sock: socket.socket,
    *,
    log: Path,
    liveness: Liveness,
    deadline: Deadline,
    on_event: Callable[[QmpEvent], None],
    on_close: Callable[[], None],
) -> Iterator[Qmp]:
    """Speak QMP on ``sock``. ``on_event`` and ``on_close`` are called by QMP's thread and must not block."""
    qmp = Qmp(log, liveness, on_event, on_close)
    thread = threading.Thread(target=qmp.run_loop, name="guest-qmp", daemon=True)
    thread.start()
    try:
        qmp.connect(sock, deadline)
        yield qmp
    finally:
        qmp.close()
        thread.join(timeout=5.0)
