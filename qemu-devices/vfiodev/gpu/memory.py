"""The address spaces of section 3: operands -> segments -> bytes.

`Memory` belongs to one engine and is used by its thread only. Nothing of it outlives a chunk, so a mapping
that the guest takes away is noticed at the next one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from vfiodev.errors import DmaError, StoppedError
from vfiodev.gpu.commands import ELEMENT, CommandError, ErrorCode, Operand, Space
from vfiodev.ranges import ADDRESS_LIMIT

CHUNK = 1 << 20
CHUNK_SEGMENTS = 64


class Bus(Protocol):
    """System memory as the device reaches it (`vfiodev.dma.Dma`). Raises DmaError."""

    def read_into(self, address: int, target: memoryview) -> None: ...

    def write(self, address: int, data: bytes | memoryview) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    space: int
    address: int
    length: int

    def part(self, offset: int, length: int) -> "Segment":
        return Segment(space=self.space, address=self.address + offset, length=length)


class Memory:
    """Both address spaces of one engine; counts the bytes that commands moved over the bus.

    Every method raises CommandError with VRAM_RANGE or DMA_FAULT.
    """

    def __init__(self, vram: memoryview, bus: Bus) -> None:
        self._vram = vram
        self._bus = bus
        self._bounce = memoryview(bytearray(CHUNK))
        self.bytes_read = 0
        self.bytes_written = 0

    def vram(self, segment: Segment) -> memoryview:
        """The bytes of a segment in VRAM, in place."""
        end = segment.address + segment.length
        if end > len(self._vram):
            raise CommandError(ErrorCode.VRAM_RANGE, max(segment.address, len(self._vram)))
        return self._vram[segment.address : end]

    def bounce(self, length: int) -> memoryview:
        """Scratch bytes, at most CHUNK, valid until the next call."""
        return self._bounce[:length]

    def load(self, segment: Segment, target: memoryview) -> None:
        """Fill `target`, which has the segment's length."""
        if segment.space == Space.VRAM:
            target[:] = self.vram(segment)
            return
        self._bus_read(segment.address, target)
        self.bytes_read += segment.length

    def store(self, segment: Segment, data: bytes | memoryview) -> None:
        """Write `data`, which has the segment's length."""
        if segment.space == Space.VRAM:
            self.vram(segment)[:] = data
            return
        self._bus_write(segment.address, data)
        self.bytes_written += segment.length

    def fetch(self, address: int, length: int) -> memoryview:
        """Ring entries and lists: a copy of system memory, not counted as moved by a command."""
        target = memoryview(bytearray(length))
        self._bus_read(address, target)
        return target

    def read_word(self, space: int, address: int) -> int:
        """The u64 at a multiple of 8."""
        if space == Space.VRAM:
            return int.from_bytes(self.vram(Segment(space=space, address=address, length=8)), "little")
        return int.from_bytes(self.fetch(address, 8), "little")

    def write_word(self, space: int, address: int, value: int) -> None:
        """Write the u64 at a multiple of 8, in one store."""
        data = value.to_bytes(8, "little")
        if space == Space.VRAM:
            self.vram(Segment(space=space, address=address, length=8))[:] = data
        else:
            self._bus_write(address, data)

    def segments(self, operand: Operand, size: int) -> list[Segment]:
        """The parts of an operand of `size` bytes, empty ones left out, those in VRAM checked."""
        if operand.space == Space.LIST:
            parts = self._list(operand, size)
        else:
            parts = [Segment(space=operand.space, address=operand.address, length=size)] if size else []
        for part in parts:
            if part.space == Space.VRAM:
                self.vram(part)
            elif part.address + part.length > ADDRESS_LIMIT:
                raise CommandError(ErrorCode.DMA_FAULT, part.address)
        return parts

    def _list(self, operand: Operand, size: int) -> list[Segment]:
        parts = []
        total = 0
        array = self.fetch(operand.address, ELEMENT.size * operand.count)
        for index, (address, length, space) in enumerate(ELEMENT.iter_unpack(array)):
            if space > Space.SYSTEM:
                raise CommandError(ErrorCode.BAD_FLAGS, operand.address + ELEMENT.size * index)
            total += length
            if length:
                parts.append(Segment(space=space, address=address, length=length))
        if total != size:
            raise CommandError(ErrorCode.BAD_SIZE, operand.address)
        return parts

    def _bus_read(self, address: int, target: memoryview) -> None:
        try:
            self._bus.read_into(address, target)
        except StoppedError:
            raise
        except DmaError as error:
            raise CommandError(ErrorCode.DMA_FAULT, address) from error

    def _bus_write(self, address: int, data: bytes | memoryview) -> None:
        try:
            self._bus.write(address, data)
        except StoppedError:
            raise
        except DmaError as error:
            raise CommandError(ErrorCode.DMA_FAULT, address) from error


class Cursor:
    """Walks segments front to back, a chunk at a time."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._index = 0
        self._offset = 0

    def reach(self) -> int:
        """How many bytes the next chunk may have: its work is bounded in bytes and in segments."""
        ahead = self._segments[self._index : self._index + CHUNK_SEGMENTS]
        return min(CHUNK, sum(segment.length for segment in ahead) - self._offset)

    def take(self, size: int) -> Iterator[Segment]:
        """The next `size` bytes, which are then behind the cursor."""
        while size:
            segment = self._segments[self._index]
            part = segment.part(self._offset, min(size, segment.length - self._offset))
            size -= part.length
            self._offset += part.length
            if self._offset == segment.length:
                self._index, self._offset = self._index + 1, 0
            yield part
