"""The event log of a case: JSON lines that are appended and never rewritten, and those who watch it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.errors import LabError
from testbed.evidence.run import disk_full_is_a_miss

_NUMBERS = ("t", "seconds", "bytes", "seed")
_TEXTS = ("index", "guest")
_LARGEST = 1 << 63

Event = Mapping[str, Any]
Subscriber = Callable[[Event], None]


class EventLog:
    """Appends events to a file and hands them to subscribers; safe to use from several threads.

    A context manager: the file is open inside. ``emit`` after the end is dropped, because threads that
    are being torn down may still report.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._fd: int | None = None
        self._lines = 0
        self._subscribers: list[Subscriber] = []
        self.subscriber_errors: list[str] = []

    def __enter__(self) -> Self:
        with disk_full_is_a_miss(self.path):
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call ``subscriber`` with each later event, in order, in the emitting thread.

        What it raises is kept in ``subscriber_errors`` and it is not called again: a broken view must not
        break a run.
        """
        with self._lock:
            self._subscribers.append(subscriber)

    def emit(self, event: str, **fields: Any) -> int:
        """Append one event, with the time, and return its line number (from 1; 0 when the log is closed).

        Values that JSON has no form for are written as text. Raises `LabError` when the disk is full.
        """
        with self._lock:
            if self._fd is None:
                return 0
            record = {"t": time.monotonic_ns(), "event": event, **fields}
            text = json.dumps(record, default=str, ensure_ascii=False)
            with disk_full_is_a_miss(self.path.parent):
                _write_all(self._fd, text.encode("utf-8", "surrogateescape") + b"\n")
            self._lines += 1
            line = self._lines
            self._tell(record)
        return line

    def _tell(self, record: Event) -> None:
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(record)
            except Exception as error:  # noqa: BLE001 - the edge to code that only watches
                self._subscribers.remove(subscriber)
                self.subscriber_errors.append(f"{type(error).__name__}: {error}")


def load_events(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[int]]:
    """Return ``(line number, event)`` of each event in the log at ``path``, and the lines that are none.

    A run that was killed leaves a last line that was cut off: it is among the latter, and so is a line whose
    numbers are no numbers and whose names are no text. Raises `LabError` when the file cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise LabError(f"'{path}' cannot be read: {error.strerror}") from error
    events: list[tuple[int, dict[str, Any]]] = []
    bad_lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        record = _parse_line(line)
        if record is not None:
            events.append((number, record))
        elif line:
            bad_lines.append(number)
    return events, bad_lines


def _parse_line(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("event"), str):
        return None
    return record if all(_fits(key, value) for key, value in record.items()) else None


def _fits(key: str, value: object) -> bool:
    if key in _NUMBERS:
        return isinstance(value, int | float) and -_LARGEST <= value <= _LARGEST
    if key in _TEXTS:
        return isinstance(value, str)
    if key == "pointers":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return True


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
