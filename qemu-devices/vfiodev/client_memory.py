"""Guest memory by messages through the client: the fallback for maps without a file descriptor.

QEMU answers from its main loop. While a guest's CPU waits for a register access it holds the lock that this
needs, so these messages must not be sent by the serving thread or under the device's lock: that is refused
instead of running into QEMU's 5 s time-out.
"""

import contextlib
import itertools
import os
import threading
from typing import Final

from vfiodev.errors import DmaError, FatalStreamError
from vfiodev.stream import MAX_XFER, Message, Stream
from vfiodev.wire import DMA_ACCESS, FLAG_ERROR, FLAG_NO_REPLY, TYPE_COMMAND, Command
from vfiodev.work import DeviceLock

REPLY_SECONDS: Final = 2.0


class ClientMemory:
    """Implements `dma.Messenger` on a connection; one message in flight at a time."""

    def __init__(self, stream: Stream, lock: DeviceLock) -> None:
        self._stream = stream
        self._device_lock = lock
        self._idents = itertools.cycle(range(1 << 16))
        self._one = threading.Lock()
        self._answered = threading.Condition()
        self._waiting: int | None = None
        self._error = 0
        self._data = b""
        self._closed = False
        self._limit = MAX_XFER
        self.serving_thread = 0

    def set_limit(self, limit: int) -> None:
        """The client's max_data_xfer_size."""
        self._limit = min(limit, MAX_XFER)

    def dma_read(self, address: int, target: memoryview) -> None:
        """Fill `target`, in messages of the negotiated size."""
        for done in range(0, len(target), self._limit):
            piece = target[done : done + self._limit]
            request = DMA_ACCESS.pack(address + done, len(piece))
            data = self._exchange(Command.DMA_READ, request)[DMA_ACCESS.size :]
            if len(data) != len(piece):
                raise DmaError(f"DMA_READ of {len(piece)} bytes was answered with {len(data)}")
            piece[:] = data

    def dma_write(self, address: int, data: memoryview) -> None:
        """Store `data`, in messages of the negotiated size."""
        for done in range(0, len(data), self._limit):
            piece = data[done : done + self._limit]
            self._exchange(Command.DMA_WRITE, DMA_ACCESS.pack(address + done, len(piece)) + bytes(piece))

    def send_interrupt(self, address: int, data: int) -> None:
        """Write an interrupt message, without waiting: safe from any thread, hooks included."""
        payload = DMA_ACCESS.pack(address, 4) + data.to_bytes(4, "little")
        with contextlib.suppress(FatalStreamError):
            self._stream.send(0, Command.DMA_WRITE, TYPE_COMMAND | FLAG_NO_REPLY, payload)

    def reply(self, message: Message) -> None:
        """The serving thread received a reply; one that nobody waits for is dropped."""
        with self._answered:
            if self._waiting == message.ident:
                self._waiting = None
                self._error = (message.error or -1) if message.flags & FLAG_ERROR else 0
                self._data = bytes(message.payload)
                self._answered.notify_all()

    def close(self) -> None:
        """The connection ended: nobody shall wait any longer."""
        with self._answered:
            self._closed = True
            self._answered.notify_all()

    def _exchange(self, command: Command, payload: bytes) -> bytes:
        if threading.get_ident() == self.serving_thread or self._device_lock.is_mine():
            raise DmaError("memory that only the client can reach, from a register hook or under the lock")
        with self._one, self._answered:
            ident = self._waiting = next(self._idents)
            try:
                self._stream.send(ident, command, TYPE_COMMAND, payload)
            except FatalStreamError as error:
                raise DmaError(str(error)) from error
            answered = self._answered.wait_for(
                lambda: self._closed or self._waiting is None, timeout=REPLY_SECONDS
            )
            self._waiting = None
            if not answered or self._closed:
                raise DmaError(f"{command.name} was not answered")
            if self._error:
                raise DmaError(f"{command.name}: {os.strerror(max(0, self._error))}")
            return self._data
