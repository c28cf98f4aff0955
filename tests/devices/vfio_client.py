"""A vfio-user client for tests: speaks the protocol as QEMU does, and breaks it on demand."""

import array
import fcntl
import json
import mmap
import os
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from vfiodev.device import Context, Device
from vfiodev.host import serve
from vfiodev.peers import PeerMap
from vfiodev.trace import TraceWriter
from vfiodev.work import TimerThread

HEADER = struct.Struct("<HHIII")
VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO = 1, 2, 3, 4, 5
GET_IRQ_INFO, SET_IRQS, REGION_READ, REGION_WRITE = 7, 8, 9, 10
DMA_READ, DMA_WRITE, DEVICE_RESET = 11, 12, 13
CONFIG = 7
IRQ_NONE, IRQ_BOOL, IRQ_EVENTFD = 1, 2, 4
IRQ_MASK, IRQ_UNMASK, IRQ_TRIGGER = 8, 16, 32
MSI, MSIX = 1, 2
QEMU_CAPABILITIES = {
    "migration": {"pgsize": 4096, "max_bitmap_size": 256 << 20},
    "max_msg_fds": 8,
    "max_data_xfer_size": 1 << 20,
    "pgsizes": 4096,
    "max_dma_maps": 65535,
    "write_multiple": True,
}


class ClientError(Exception):
    """The server answered with an error; `code` is its errno."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code = code


class ConnectionLostError(Exception):
    """The server closed the connection."""


@dataclass
class Reply:
    command: int
    flags: int
    error: int
    payload: bytes
    fds: list[int] = field(default_factory=list)


class Client:
    """One connection. Methods send a request and return its reply's content, or raise ClientError."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(20)
        self._ident = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, command: int, payload: bytes = b"", fds: tuple[int, ...] = (), flags: int = 0) -> int:
        """Send a well-framed message; its id."""
        self._ident = (self._ident + 1) & 0xFFFF
        data = HEADER.pack(self._ident, command, HEADER.size + len(payload), flags, 0) + payload
        self.send_raw(data, fds)
        return self._ident

    def send_raw(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send bytes as they are."""
        try:
            if fds:
                sent = socket.send_fds(self.sock, [data], list(fds))
                data = data[sent:]
            self.sock.sendall(data)
        except OSError as error:
            raise ConnectionLostError from error

    def recv(self) -> tuple[int, Reply]:
        """One message: its id and content."""
        fds: list[int] = []
        head = self._exactly(HEADER.size, fds)
        ident, command, size, flags, error = HEADER.unpack(head)
        return ident, Reply(command, flags, error, self._exactly(size - HEADER.size, fds), fds)

    def _exactly(self, count: int, fds: list[int]) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece, ancillary, _, _ = self.sock.recvmsg(count - len(data), socket.CMSG_SPACE(64))
            except ConnectionError as error:
                raise ConnectionLostError from error
            if not piece:
                raise ConnectionLostError
            data += piece
            for _, _, raw in ancillary:
                received = array.array("i")
                received.frombytes(raw)
                fds.extend(received)
        return data

    def ask(self, command: int, payload: bytes = b"", fds: tuple[int, ...] = ()) -> Reply:
        """Send and wait for the reply; answers no messages of the server in between."""
        ident = self.send(command, payload, fds)
        got, reply = self.recv()
        assert got == ident
        assert reply.command == command
        assert reply.flags & 0xF == 1
        if reply.flags & 0x20:
            raise ClientError(reply.error)
        return reply

    def negotiate(self, capabilities: Mapping[str, object] | None = None) -> dict[str, object]:
        """The greeting of QEMU; the server's capabilities."""
        wanted = QEMU_CAPABILITIES if capabilities is None else capabilities
        text = json.dumps({"capabilities": wanted}).encode() + b"\0"
        reply = self.ask(VERSION, struct.pack("<HH", 0, 0) + text)
        assert struct.unpack_from("<HH", reply.payload) == (0, 0)
        assert reply.payload.endswith(b"\0")
        found = json.loads(reply.payload[4:-1])["capabilities"]
        assert isinstance(found, dict)
        return found

    def read(self, region: int, offset: int, count: int) -> bytes:
        """REGION_READ."""
        reply = self.ask(REGION_READ, struct.pack("<QII", offset, region, count))
        assert struct.unpack_from("<QII", reply.payload) == (offset, region, count)
        return reply.payload[16:]

    def write(self, region: int, offset: int, data: bytes) -> None:
        """REGION_WRITE."""
        self.ask(REGION_WRITE, struct.pack("<QII", offset, region, len(data)) + data)

    def get(self, bar: int, offset: int, width: int = 4) -> int:
        """A register as an integer."""
        return int.from_bytes(self.read(bar, offset, width), "little")

    def put(self, bar: int, offset: int, value: int, width: int = 4) -> None:
        """Write a register."""
        self.write(bar, offset, value.to_bytes(width, "little"))

    def enable(self, command: int = 0x6) -> None:
        """Memory decoding and bus mastering on (or what `command` says)."""
        self.put(CONFIG, 4, command, 2)

    def dma_map(
        self, address: int, size: int, fd: int | None = None, offset: int = 0, flags: int = 3
    ) -> None:
        """DMA_MAP, with or without a descriptor."""
        self.ask(
            DMA_MAP,
            struct.pack("<IIQQQ", 32, flags, offset, address, size),
            () if fd is None else (fd,),
        )

    def dma_unmap(self, address: int, size: int, flags: int = 0) -> None:
        """DMA_UNMAP."""
        payload = struct.pack("<IIQQ", 24, flags, address, size)
        assert self.ask(DMA_UNMAP, payload).payload == payload

    def region_info(self, index: int) -> tuple[int, int, list[int]]:
        """Flags, size and descriptors of a region."""
        reply = self.ask(GET_REGION_INFO, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
        _, flags, got, _, size, _ = struct.unpack("<IIIIQQ", reply.payload)
        assert got == index
        return flags, size, reply.fds

    def set_irqs(
        self,
        flags: int,
        start: int,
        count: int,
        data: bytes = b"",
        fds: tuple[int, ...] = (),
        index: int = MSIX,
    ) -> None:
        """SET_IRQS."""
        self.ask(SET_IRQS, struct.pack("<IIIII", 20 + len(data), flags, index, start, count) + data, fds)


class Memory:
    """Guest RAM: a memfd, sealed like QEMU's, or not."""

    def __init__(self, size: int, *, sealed: bool = True) -> None:
        self.fd = os.memfd_create("guest", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        if sealed:
            fcntl.fcntl(self.fd, 1033, 2 | 4)
        self.map = mmap.mmap(self.fd, size)

    def close(self) -> None:
        self.map.close()
        os.close(self.fd)


class Rig:
    """Devices that share an address map, as in one host, without a process of their own."""

    def __init__(self) -> None:
        self.peers = PeerMap()
        self.trace = TraceWriter(None)
        self.timers = TimerThread(self._failed)
        self.timers.start()
        self.violations: list[str] = []
        self.failures: list[str] = []
        self.ends: list[str] = []
        self._threads: list[threading.Thread] = []
        self._devices: list[Device] = []

    def _failed(self, text: str) -> None:
        self.failures.append(text)

    def make(self, model: type[Device], name: str = "dev0", **params: object) -> Device:
        """A device of this rig."""
        context = Context(
            name=name,
            seed=1,
            peers=self.peers,
            trace=self.trace,
            timers=self.timers,
            violation=lambda device, text: self.violations.append(f"{device}: {text}"),
        )
        device = model(context, params)
        self._devices.append(device)
        return device

    def connect(self, device: Device) -> Client:
        """A client of a device, not negotiated yet."""
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=lambda: self.ends.append(serve(theirs, device)), daemon=True)
        thread.start()
        self._threads.append(thread)
        return Client(ours)

    @contextmanager
    def client(self, device: Device) -> Iterator[Client]:
        """A negotiated client with memory and bus mastering enabled."""
        with self.connect(device) as client:
            thread = self._threads.pop()
            client.negotiate()
            client.enable()
            yield client
        self.join(thread)

    def join(self, thread: threading.Thread | None = None) -> None:
        """Wait until a connection has ended: the latest one, when none is named."""
        thread = thread or self._threads.pop()
        thread.join(20)
        assert not thread.is_alive()

    def close(self) -> None:
        """End everything."""
        self.timers.stop()
        for device in self._devices:
            device.close()
