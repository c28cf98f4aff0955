"""A split virtqueue, the device's side (virtio 1.3, 2.7).

All that the driver wrote is garbage until checked: indices, chains and tables are bounded, loops are refused,
and what breaks a rule raises QueueError, after which the device needs a reset.
"""

import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vfiodev.errors import DmaError, VfiodevError
from vfiodev.virtio.bus import Bus

DESC_NEXT: Final = 1
DESC_WRITE: Final = 2
DESC_INDIRECT: Final = 4
NO_INTERRUPT: Final = 1
NO_NOTIFY: Final = 1
MAX_CHAIN: Final = 1024
DESC_BYTES: Final = 16
FAR: Final = 0x8000
_DESC: Final = struct.Struct("<QIHH")
_U16: Final = struct.Struct("<H")
_USED: Final = struct.Struct("<II")

Piece = tuple[int, int]


class QueueError(VfiodevError):
    """The driver broke a rule of virtqueues; the sentence says which."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A buffer: `head` is its descriptor, `index` its place in the available ring (free-running), then
    (address, length) of the device-readable and the device-writable descriptors."""

    head: int
    index: int
    readable: tuple[Piece, ...]
    writable: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the driver set before it enabled a queue."""

    size: int
    desc: int
    avail: int
    used: int
    event_idx: bool
    indirect: bool


class SplitQueue:
    """One enabled queue. Callers hold `lock` for every method; `stop` makes the promise of a queue reset:
    whoever gets the lock afterwards sees `stopped` and touches nothing."""

    def __init__(self, number: int, bus: Bus, layout: Layout) -> None:
        """Raise QueueError for a layout that is impossible."""
        size = layout.size
        if not 0 < size <= 0x8000 or size & (size - 1):
            raise QueueError(f"queue {number}: size {size} is not a power of two")
        if layout.desc % 16 or layout.avail % 2 or layout.used % 4:
            raise QueueError(f"queue {number}: a ring is not aligned")
        self.number = number
        self.size = size
        self.lock = threading.Lock()
        self.stopped = False
        self.broken = False
        self._bus = bus
        self._layout = layout
        self._mask = size - 1
        self._avail_ring = layout.avail + 4
        self._used_ring = layout.used + 4
        self._used_event = layout.avail + 4 + 2 * size
        self._avail_event = layout.used + 4 + 8 * size
        self.next_avail = 0
        self.next_used = 0
        self._signalled = 0

    @property
    def usable(self) -> bool:
        """Neither stopped nor broken."""
        return not (self.stopped or self.broken)

    def stop(self) -> None:
        """End the use of this queue and wait for what is in flight. Not with the lock held."""
        self.stopped = True
        with self.lock:
            self.stopped = True

    def available(self) -> int:
        """How many buffers wait."""
        pending = (self._u16(self._layout.avail + 2) - self.next_avail) & 0xFFFF
        if pending > self.size:
            raise QueueError(
                f"queue {self.number}: the available index is {pending} ahead of a ring of {self.size}"
            )
        return pending

    def peek(self, ahead: int = 0) -> Chain:
        """The buffer `ahead` places behind the next one; `available` said that it is there."""
        index = (self.next_avail + ahead) & 0xFFFF
        head = self._u16(self._avail_ring + 2 * (index & self._mask))
        if head >= self.size:
            raise QueueError(f"queue {self.number}: head {head} is outside the table of {self.size}")
        readable, writable = self._walk(head)
        return Chain(head, index, readable, writable)

    def consume(self, count: int = 1) -> None:
        """Take `count` buffers off the available ring."""
        self.next_avail = (self.next_avail + count) & 0xFFFF

    def push(self, done: Sequence[tuple[int, int]]) -> None:
        """Give buffers back, (head, bytes written) each, in one update of the used index."""
        if not done:
            return
        at = self.next_used & self._mask
        entries = b"".join(_USED.pack(head, written) for head, written in done)
        first = min(len(done), self.size - at)
        self._bus.write(self._used_ring + 8 * at, memoryview(entries)[: 8 * first])
        if first < len(done):
            self._bus.write(self._used_ring, memoryview(entries)[8 * first :])
        self.next_used = (self.next_used + len(done)) & 0xFFFF
        self._bus.write_u16(self._layout.used + 2, self.next_used)

    def wants_interrupt(self) -> bool:
        """Whether the driver asked for an interrupt for what was pushed since this was asked last."""
        before, self._signalled = self._signalled, self.next_used
        if before == self.next_used:
            return False
        if not self._layout.event_idx:
            return not self._u16(self._layout.avail) & NO_INTERRUPT
        event = self._u16(self._used_event)
        return (self.next_used - event - 1) & 0xFFFF < (self.next_used - before) & 0xFFFF

    def set_notify(self, *, wanted: bool) -> None:
        """Ask the driver for a notification of the next buffer, or for none."""
        if self._layout.event_idx:
            event = self.next_avail if wanted else self.next_avail + FAR
            self._bus.write_u16(self._avail_event, event & 0xFFFF)
        else:
            self._bus.write_u16(self._layout.used, 0 if wanted else NO_NOTIFY)

    def _u16(self, address: int) -> int:
        return int.from_bytes(self._bus.read(address, 2), "little")

    def _walk(self, head: int) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
        readable: list[Piece] = []
        writable: list[Piece] = []
        index, seen = head, 0
        while True:
            address, length, flags, following = _DESC.unpack(
                self._bus.read(self._layout.desc + DESC_BYTES * index, DESC_BYTES)
            )
            if flags & DESC_INDIRECT:
                self._walk_table(address, length, flags, (readable, writable))
                break
            self._add(address, length, flags, (readable, writable))
            seen += 1
            if not flags & DESC_NEXT:
                break
            if seen >= self.size:
                raise QueueError(f"queue {self.number}: the chain at {head} is a loop")
            if following >= self.size:
                raise QueueError(f"queue {self.number}: descriptor {index} leads outside, to {following}")
            index = following
        return tuple(readable), tuple(writable)

    def _walk_table(
        self, address: int, length: int, flags: int, lists: tuple[list[Piece], list[Piece]]
    ) -> None:
        if not self._layout.indirect or flags & DESC_NEXT:
            raise QueueError(f"queue {self.number}: an indirect descriptor where none may be")
        count = length // DESC_BYTES
        if length % DESC_BYTES or not 0 < count <= MAX_CHAIN:
            raise QueueError(f"queue {self.number}: an indirect table of {length} bytes")
        table = self._bus.read(address, length)
        index = 0
        for _ in range(count):
            at, size, bits, following = _DESC.unpack_from(table, DESC_BYTES * index)
            if bits & DESC_INDIRECT:
                raise QueueError(f"queue {self.number}: an indirect descriptor inside an indirect table")
            self._add(at, size, bits, lists)
            if not bits & DESC_NEXT:
                return
            if following >= count:
                raise QueueError(f"queue {self.number}: an indirect descriptor leads outside its table")
            index = following
        raise QueueError(f"queue {self.number}: an indirect table is a loop")

    def _add(self, address: int, length: int, flags: int, lists: tuple[list[Piece], list[Piece]]) -> None:
        readable, writable = lists
        if len(readable) + len(writable) >= MAX_CHAIN:
            raise QueueError(f"queue {self.number}: a chain of more than {MAX_CHAIN} descriptors")
        if flags & DESC_WRITE:
            writable.append((address, length))
        elif writable:
            raise QueueError(f"queue {self.number}: a device-readable descriptor behind a writable one")
        else:
            readable.append((address, length))


def gather(bus: Bus, pieces: Sequence[Piece], limit: int) -> bytearray:
    """The bytes of descriptors, one behind the other; raises QueueError for more than `limit`."""
    total = sum(length for _, length in pieces)
    if total > limit:
        raise QueueError(f"a buffer of {total} bytes, at most {limit} are possible")
    data = bytearray(total)
    view = memoryview(data)
    done = 0
    for address, length in pieces:
        bus.read_into(address, view[done : done + length])
        done += length
    return data


def scatter(bus: Bus, pieces: Sequence[Piece], data: memoryview) -> int:
    """Write to descriptors until the data or the room ends; how many bytes that were."""
    done = 0
    for address, length in pieces:
        if done >= len(data):
            break
        piece = data[done : done + length]
        bus.write(address, piece)
        done += len(piece)
    return done


BROKEN = (QueueError, DmaError)
