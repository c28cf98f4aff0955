"""The device trace: JSON lines, written by a thread of its own so that a register access costs one append.

Events and their fields are listed in `qemu-devices/README.md`.
"""

import json
import threading
import time
from collections import deque
from types import TracebackType
from typing import BinaryIO, Final, Self

FLUSH_SECONDS: Final = 0.05
MAX_PENDING: Final = 200_000
MAX_BYTES: Final = 512 << 20
BATCH: Final = 2_000

Entry = tuple[int, str, str, dict[str, object] | None, int, int, int, int]


def _line(entry: Entry) -> str:
    when, device, event, fields, bar, offset, size, value = entry
    if fields is None:
        return (
            f'{{"t": {when}, "dev": "{device}", "ev": "{event}", "bar": {bar}, "off": {offset}, '
            f'"size": {size}, "val": {value}}}\n'
        )
    return json.dumps({"t": when, "dev": device, "ev": event, **fields}) + "\n"


class TraceWriter:
    """One trace file, shared by the devices of a host. Bounded in memory and on disk; what is lost is
    counted."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file
        self._pending: deque[Entry] = deque()
        self._dropped = 0
        self._written = 0
        self._stop = threading.Event()
        self._flushing = threading.Lock()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._file is not None:
            self._thread = threading.Thread(target=self._run, name="trace", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def append(self, entry: Entry) -> None:
        """Queue one event; never blocks."""
        if self._file is None:
            return
        if len(self._pending) >= MAX_PENDING:
            self._dropped += 1
            return
        self._pending.append(entry)

    def flush(self) -> None:
        """Write what is queued."""
        with self._flushing:
            while self._pending:
                self._write_batch()
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._write(_line((time.monotonic_ns(), "", "trace_dropped", {"count": dropped}, 0, 0, 0, 0)))
            if self._file is not None and self._written <= MAX_BYTES:
                self._file.flush()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()

    def _write_batch(self) -> None:
        lines = []
        for _ in range(min(len(self._pending), BATCH)):
            lines.append(_line(self._pending.popleft()))
        self._write("".join(lines))

    def _write(self, text: str) -> None:
        if self._file is None or self._written > MAX_BYTES:
            return
        data = text.encode()
        self._written += len(data)
        if self._written > MAX_BYTES:
            data = _line((time.monotonic_ns(), "", "trace_full", {"bytes": MAX_BYTES}, 0, 0, 0, 0)).encode()
        self._file.write(data)


class Trace:
    """A device's view of the trace."""

    def __init__(self, writer: TraceWriter, device: str) -> None:
        self._append = writer.append
        self._device = device

    def event(self, name: str, **fields: object) -> None:
        """Record an event; the values must be what JSON can hold."""
        self._append((time.monotonic_ns(), self._device, name, fields, 0, 0, 0, 0))

    def access(self, name: str, bar: int, offset: int, size: int, value: int) -> None:
        """Record a register or config access: the cheap form, with the fields bar, off, size, val."""
        self._append((time.monotonic_ns(), self._device, name, None, bar, offset, size, value))
