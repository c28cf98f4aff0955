"""DMA as a model sees it: `self.dma` reads and writes guest addresses, wherever the bytes are.

Order of look-up for each piece of a range: guest RAM with a file descriptor (a memory copy), a sibling's BAR
(a memory copy inside this process), a map without descriptor (DMA_READ and DMA_WRITE messages through the
client).
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from vfiodev.errors import DmaError
from vfiodev.memory import GuestMemory, Region
from vfiodev.peers import PeerMap
from vfiodev.ranges import ADDRESS_LIMIT, is_aligned
from vfiodev.stats import Stats
from vfiodev.trace import Trace
from vfiodev.work import check_not_stopped

MAX_TRANSFER: Final = 64 << 20
CHUNK: Final = 1 << 20


class Messenger(Protocol):
    """The slow way to guest memory: messages through the client."""

    def dma_read(self, address: int, target: memoryview) -> None:
        """Fill `target` from guest memory; raise DmaError."""

    def dma_write(self, address: int, data: memoryview) -> None:
        """Store `data` in guest memory; raise DmaError."""


class Dma:
    """DMA of one device. Safe from any thread; every method raises DmaError and then may have moved a part.

    Refused: bus mastering off, device removed by a fault, address not mapped, write to read-only memory,
    more than 64 MiB at once. Addresses are guest-physical (IOVAs under a vIOMMU). A transfer through
    messages (rare, see the module) must not be made with the device's lock held, nor from a register hook:
    QEMU waits for the hook.
    """

    def __init__(self, peers: PeerMap, trace: Trace, stats: Stats) -> None:
        self.memory = GuestMemory()
        self._peers = peers
        self._trace = trace
        self._stats = stats
        self.allowed: Callable[[], bool] = lambda: False
        self.messenger: Messenger | None = None

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes from guest memory."""
        self._check(address, length)
        target = bytearray(length)
        self.read_into(address, memoryview(target))
        return bytes(target)

    def read_into(self, address: int, target: memoryview | bytearray) -> None:
        """Fill a writable buffer of bytes from guest memory, for example a slice of VRAM."""
        view = memoryview(target)
        self._check(address, len(view))
        done = 0
        while done < len(view):
            done += self._read_piece(address + done, view[done : done + CHUNK])
        self._record("dma_read", address, len(view))

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Store bytes in guest memory."""
        view = memoryview(data)
        self._check(address, len(view))
        done = 0
        while done < len(view):
            done += self._write_piece(address + done, view[done : done + CHUNK])
        self._record("dma_write", address, len(view))

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy between two guest addresses, in pieces of at most 1 MiB, ascending."""
        self._check(source, length)
        self._check(target, length)
        for done in range(0, length, CHUNK):
            self.write(target + done, self.read(source + done, min(CHUNK, length - done)))

    def read_u32(self, address: int) -> int:
        """One naturally aligned little-endian 32-bit word."""
        return self._read_word(address, 4)

    def read_u64(self, address: int) -> int:
        """One naturally aligned little-endian 64-bit word."""
        return self._read_word(address, 8)

    def write_u32(self, address: int, value: int) -> None:
        """One naturally aligned word in a single store, as a CPU that polls it expects (fences,
        completions)."""
        self._write_word(address, 4, value)

    def write_u64(self, address: int, value: int) -> None:
        """One naturally aligned word in a single store."""
        self._write_word(address, 8, value)

    @contextlib.contextmanager
    def view(self, address: int, length: int, *, writable: bool = False) -> Iterator[memoryview]:
        """The bytes in place for the time of a `with` block, or a copy where there is no one place for all
        of them.

        Make no copy of the view that outlives the block (numpy arrays included) and keep the block short: an
        unmap by the guest waits for it. In a writable view the bytes are in guest memory only once the block
        has ended.
        """
        self._check(address, length)
        region = self.memory.pin(address)
        direct = None if region is None else self._direct(region, address, length, writable)
        try:
            if direct is not None:
                yield direct
                direct.release()
                self._record("dma_write" if writable else "dma_read", address, length)
                return
        finally:
            if region is not None:
                self.memory.unpin(region)
        bounce = bytearray(self.read(address, length))
        yield memoryview(bounce)
        if writable:
            self.write(address, bounce)

    def _check(self, address: int, length: int) -> None:
        check_not_stopped()
        if not self.allowed():
            raise self._error("bus mastering is off or the device is gone", address, length)
        if not 0 <= length <= MAX_TRANSFER:
            raise self._error("the length is not between 0 and 64 MiB", address, length)
        if address < 0 or address + length > ADDRESS_LIMIT:
            raise self._error("the range wraps around", address, length)

    def _error(self, reason: str, address: int, length: int) -> DmaError:
        self._stats.add("dma_errors")
        self._trace.event("dma_error", addr=address, len=length, reason=reason)
        return DmaError(f"DMA at {address:#x}+{length:#x}: {reason}")

    def _record(self, name: str, address: int, length: int) -> None:
        self._stats.add(f"{name}_bytes", length)
        self._trace.event(name, addr=address, len=length)

    @staticmethod
    def _direct(region: Region, address: int, length: int, writable: bool) -> memoryview | None:
        file, start = region.file, address - region.address
        if file is None or file.view is None or start + length > region.size:
            return None
        if writable and not region.writable:
            return None
        view = file.view[region.offset + start : region.offset + start + length]
        return view if writable else view.toreadonly()

    def _read_piece(self, address: int, target: memoryview) -> int:
        region = self.memory.pin(address)
        try:
            if region is not None:
                length = min(len(target), region.address + region.size - address)
                piece = target[:length]
                if region.file is not None:
                    if not region.file.read_into(region.offset + address - region.address, piece):
                        raise self._error("the client shortened its memory", address, length)
                    return length
            else:
                length, piece = len(target), target
            return self._read_elsewhere(address, piece, region)
        finally:
            if region is not None:
                self.memory.unpin(region)

    def _read_elsewhere(self, address: int, target: memoryview, region: Region | None) -> int:
        window = self._peers.find(address)
        if window is not None:
            length = min(len(target), window.base + window.size - address)
            if window.memory is None:
                raise self._error(f"BAR {window.bar} of '{window.device}' holds registers", address, length)
            start = address - window.base
            target[:length] = window.memory[start : start + length]
            return length
        if region is None or self.messenger is None:
            raise self._error("the address is not mapped", address, len(target))
        self.messenger.dma_read(address, target)
        self._stats.add("dma_messages")
        return len(target)

    def _write_piece(self, address: int, data: memoryview) -> int:
        region = self.memory.pin(address)
        try:
            if region is not None:
                length = min(len(data), region.address + region.size - address)
                piece = data[:length]
                if not region.writable:
                    raise self._error("the memory is read-only", address, length)
                if region.file is not None:
                    if not region.file.write(region.offset + address - region.address, piece):
                        raise self._error("the client shortened its memory", address, length)
                    return length
            else:
                length, piece = len(data), data
            return self._write_elsewhere(address, piece, region)
        finally:
            if region is not None:
                self.memory.unpin(region)

    def _write_elsewhere(self, address: int, data: memoryview, region: Region | None) -> int:
        window = self._peers.find(address)
        if window is not None:
            length = min(len(data), window.base + window.size - address)
            if window.memory is None:
                raise self._error(f"BAR {window.bar} of '{window.device}' holds registers", address, length)
            start = address - window.base
            window.memory[start : start + length] = data[:length]
            return length
        if region is None or self.messenger is None:
            raise self._error("the address is not mapped", address, len(data))
        self.messenger.dma_write(address, data)
        self._stats.add("dma_messages")
        return len(data)

    def _read_word(self, address: int, width: int) -> int:
        if not is_aligned(address, width):
            raise self._error("the address is not naturally aligned", address, width)
        return int.from_bytes(self.read(address, width), "little")

    def _write_word(self, address: int, width: int, value: int) -> None:
        if not is_aligned(address, width):
            raise self._error("the address is not naturally aligned", address, width)
        self.write(address, value.to_bytes(width, "little"))
