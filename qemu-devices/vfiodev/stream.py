"""Framing on the socket: bytes in, whole messages with their file descriptors out."""

import array
import contextlib
import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vfiodev.errors import FatalStreamError
from vfiodev.wire import HEADER

MAX_XFER: Final = 64 << 10
MAX_MESSAGE: Final = MAX_XFER + 256
MAX_FDS: Final = 16
_BUFFER: Final = 2 * MAX_MESSAGE
_TRUNCATED: Final = int(socket.MSG_CTRUNC)
_ANCILLARY: Final = socket.CMSG_SPACE(MAX_FDS * 4)


@dataclass(slots=True)
class Message:
    """One message. `payload` is valid until the next `recv`; whoever takes a descriptor removes it from
    `fds`. `lost_fds`: more descriptors were sent than a message may carry."""

    ident: int
    command: int
    flags: int
    error: int
    payload: memoryview
    fds: list[int]
    lost_fds: bool

    def close_fds(self) -> None:
        """Close the descriptors that nobody took."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Stream:
    """A connected stream socket. One thread receives, any thread sends.

    One read may bring several messages. Descriptors arrive with the last byte-run of a `sendmsg`, and the
    kernel ends a read behind such a run, so they belong to the last message that starts in what was read.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._fds: dict[int, list[int]] = {}
        self._lost: set[int] = set()
        self._send_lock = threading.Lock()

    def recv(self) -> Message:
        """The next message; raises FatalStreamError at the end of the stream or when framing is lost."""
        while True:
            have = self._end - self._start
            if have >= HEADER.size:
                ident, command, size, flags, error = HEADER.unpack_from(self._buffer, self._start)
                if not HEADER.size <= size <= MAX_MESSAGE:
                    raise FatalStreamError(f"message of {size} bytes")
                if have >= size:
                    return self._take(ident, command, size, flags, error)
            self._fill()

    def send(
        self,
        ident: int,
        command: int,
        flags: int,
        payload: bytes = b"",
        *,
        error: int = 0,
        fds: Sequence[int] = (),
    ) -> None:
        """Send one message; raises FatalStreamError when the peer is gone."""
        data = HEADER.pack(ident, command, HEADER.size + len(payload), flags, error) + payload
        try:
            with self._send_lock:
                if fds:
                    sent = socket.send_fds(self._sock, [data], list(fds))
                    data = data[sent:]
                self._sock.sendall(data)
        except OSError as error_:
            raise FatalStreamError(f"cannot send: {error_}") from error_

    def shutdown(self) -> None:
        """Make `recv` and `send` in other threads end."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket and every descriptor that was received and not taken."""
        for fds in self._fds.values():
            for fd in fds:
                os.close(fd)
        self._fds.clear()
        self._sock.close()

    def _take(self, ident: int, command: int, size: int, flags: int, error: int) -> Message:
        start = self._start
        fds: list[int] = []
        lost = False
        if self._fds or self._lost:
            fds = self._fds.pop(start, [])
            lost = start in self._lost
            self._lost.discard(start)
        self._start += size
        return Message(
            ident, command, flags, error, self._view[start + HEADER.size : start + size], fds, lost
        )

    def _fill(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + MAX_MESSAGE > _BUFFER:
            self._compact()
        try:
            count, ancillary, flags, _ = self._sock.recvmsg_into([self._view[self._end :]], _ANCILLARY)
        except OSError as error:
            raise FatalStreamError(f"cannot receive: {error}") from error
        self._end += count
        if ancillary or flags & _TRUNCATED:
            self._assign(ancillary, truncated=bool(flags & _TRUNCATED))
        if not count:
            raise FatalStreamError("the client closed the connection")

    def _compact(self) -> None:
        start, length = self._start, self._end - self._start
        self._buffer[:length] = self._buffer[start : self._end]
        self._start, self._end = 0, length
        self._fds = {at - start: fds for at, fds in self._fds.items()}
        self._lost = {at - start for at in self._lost}

    def _assign(self, ancillary: list[tuple[int, int, bytes]], *, truncated: bool) -> None:
        received = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received.frombytes(data[: len(data) - len(data) % received.itemsize])
        owner = self._last_start()
        fds = self._fds.setdefault(owner, [])
        fds += received
        if truncated or len(fds) > MAX_FDS:
            self._lost.add(owner)
            for fd in fds[MAX_FDS:]:
                os.close(fd)
            del fds[MAX_FDS:]

    def _last_start(self) -> int:
        at = self._start
        while self._end - at >= HEADER.size:
            size = HEADER.unpack_from(self._buffer, at)[2]
            if size < HEADER.size or at + size >= self._end:
                break
            at += size
        return at
