"""What commands do to memory. Each operation is an iterator that does one bounded chunk of work per step.

The engine takes the steps and looks between them whether it was reset, so a command of any size ends
within a chunk. VRAM ranges and lists are checked before the first write; a fault on the bus can end an
operation midway.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module

from vfiodev.gpu.commands import Command, Opcode, Space, VectorOp
from vfiodev.gpu.memory import CHUNK, Cursor, Memory, Segment


def start_transfer(command: Command, memory: Memory) -> Iterator[None]:
    """The operation of FILL, COPY, CHECKSUM or VECTOR; operands are checked by the first step."""
    return _TRANSFERS[command.opcode](command, memory)


def _fill(command: Command, memory: Memory) -> Iterator[None]:
    target = Cursor(memory.segments(command.dst, command.size))
    pattern = struct.pack("<I", command.arg32)
    tile = memoryview(pattern * (min(CHUNK, command.size) // 4 + 1))
    done = 0
    while done < command.size:
        for segment in target.take(min(CHUNK, target.reach())):
            phase = done % 4
            memory.store(segment, tile[phase : phase + segment.length])
            done += segment.length
        yield


def _copy(command: Command, memory: Memory) -> Iterator[None]:
    source = memory.segments(command.src, command.size)
    target = memory.segments(command.dst, command.size)
    if not _overlap(source, target):
        yield from _copy_forward(memory, source, target, command.size)
    elif len(source) == len(target) == 1:
        yield from _move(memory, source[0], target[0])
    else:
        yield from _copy_buffered(memory, source, target, command.size)


def _copy_forward(
    memory: Memory, source: Sequence[Segment], target: Sequence[Segment], size: int
) -> Iterator[None]:
    reader = Cursor(source)
    writer = Cursor(target)
    while size:
        length = min(reader.reach(), writer.reach())
        for origin, place in _pairs(reader.take(length), writer.take(length)):
            _copy_piece(memory, origin, place)
        size -= length
        yield


def _copy_piece(memory: Memory, origin: Segment, place: Segment) -> None:
    if place.space == Space.VRAM:
        memory.load(origin, memory.vram(place))
    elif origin.space == Space.VRAM:
        memory.store(place, memory.vram(origin))
    else:
        buffer = memory.bounce(origin.length)
        memory.load(origin, buffer)
        memory.store(place, buffer)


def _move(memory: Memory, source: Segment, target: Segment) -> Iterator[None]:
    """Overlapping ranges: chunks from the end that keeps unread bytes; inside one it is a memmove."""
    size = source.length
    backward = target.address > source.address
    for start in range(0, size, CHUNK):
        length = min(CHUNK, size - start)
        offset = size - start - length if backward else start
        _copy_piece(memory, source.part(offset, length), target.part(offset, length))
        yield


def _copy_buffered(
    memory: Memory, source: Sequence[Segment], target: Sequence[Segment], size: int
) -> Iterator[None]:
    buffer = memoryview(bytearray(size))
    for segments, move in ((source, memory.load), (target, memory.store)):
        cursor = Cursor(segments)
        done = 0
        while done < size:
            for segment in cursor.take(cursor.reach()):
                move(segment, buffer[done : done + segment.length])
                done += segment.length
            yield


def _overlap(first: Iterable[Segment], second: Iterable[Segment]) -> bool:
    spans = [(part, side) for side, parts in enumerate((first, second)) for part in parts]
    spans.sort(key=lambda span: (span[0].space, span[0].address))
    ends: dict[tuple[int, int], int] = {}
    for part, side in spans:
        if ends.get((part.space, 1 - side), 0) > part.address:
            return True
        ends[part.space, side] = max(part.address + part.length, ends.get((part.space, side), 0))
    return False


def _pairs(source: Iterator[Segment], target: Iterable[Segment]) -> Iterator[tuple[Segment, Segment]]:
    """Cut two lists of segments of the same total length into pairs of the same length."""
    origin = Segment(space=Space.VRAM, address=0, length=0)
    used = 0
    for place in target:
        done = 0
        while done < place.length:
            if used == origin.length:
                origin, used = next(source), 0
            length = min(origin.length - used, place.length - done)
            yield origin.part(used, length), place.part(done, length)
            used += length
            done += length


def _checksum(command: Command, memory: Memory) -> Iterator[None]:
    result = Segment(space=command.dst.space, address=command.dst.address, length=8)
    if result.space == Space.VRAM:
        memory.vram(result)
    source = Cursor(memory.segments(command.src, command.size))
    value = 0
    done = 0
    while done < command.size:
        for segment in source.take(source.reach()):
            value = zlib.crc32(_peek(memory, segment), value)
            done += segment.length
        yield
    memory.store(result, value.to_bytes(8, "little"))


def _peek(memory: Memory, segment: Segment) -> memoryview:
    if segment.space == Space.VRAM:
        return memory.vram(segment)
    buffer = memory.bounce(segment.length)
    memory.load(segment, buffer)
    return buffer


def _vector(command: Command, memory: Memory) -> Iterator[None]:
    readers = [Cursor(memory.segments(operand, command.size)) for operand in (command.src, command.src2)]
    writer = Cursor(memory.segments(command.dst, command.size))
    operation = VectorOp(command.arg32)
    scalar = struct.pack("<I", command.arg1 & 0xFFFF_FFFF)
    # Most scenarios use no vectors, and to import numpy costs as much as all the rest of a device host.
    compute = import_module("vfiodev.gpu.vector").compute
    done = 0
    while done < command.size:
        length = min(cursor.reach() for cursor in (*readers, writer)) & ~3
        first, second = (_gather(memory, reader, length) for reader in readers)
        result = compute(operation, first, second, scalar)
        place = 0
        for segment in writer.take(length):
            memory.store(segment, result[place : place + segment.length])
            place += segment.length
        done += length
        yield


def _gather(memory: Memory, reader: Cursor, length: int) -> memoryview:
    data = memoryview(bytearray(length))
    done = 0
    for segment in reader.take(length):
        memory.load(segment, data[done : done + segment.length])
        done += segment.length
    return data


_TRANSFERS: dict[Opcode, Callable[[Command, Memory], Iterator[None]]] = {
    Opcode.FILL: _fill,
    Opcode.COPY: _copy,
    Opcode.CHECKSUM: _checksum,
    Opcode.VECTOR: _vector,
}
