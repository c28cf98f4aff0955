"""Which posted buffers a received packet takes, and which of its bytes go where: decided before anything is
written, so that a packet that does not fit leaves no trace."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from vfiodev.virtio.queue import Chain, Piece, QueueError, SplitQueue

MIN_HEADER_BUFFER: Final = 64


@dataclass(slots=True)
class Plan:
    """Per chain: where the bytes of the header stream and of the payload stream go, in writing order, and the
    used length. The header stream begins with the receive header."""

    chains: list[Chain] = field(default_factory=list)
    header: list[list[Piece]] = field(default_factory=list)
    payload: list[list[Piece]] = field(default_factory=list)
    written: list[int] = field(default_factory=list)

    def add(self, chain: Chain, header: list[Piece], payload: list[Piece]) -> None:
        """One more chain."""
        self.chains.append(chain)
        self.header.append(header)
        self.payload.append(payload)
        self.written.append(sum(length for _, length in header) + sum(length for _, length in payload))


def plan_split(queue: SplitQueue, header: int, payload: int) -> Plan | None:
    """Buffers for a split packet: the header stream in one header buffer, payload in payload buffers. None
    when the posted buffers do not suffice. Raises QueueError for buffers that are none."""
    plan, available, first = Plan(), queue.available(), True
    while first or payload:
        if len(plan.chains) >= available:
            return None
        chain = _checked(queue.peek(len(plan.chains)), queue)
        place = chain.writable[0]
        if first and place[1] < header:
            return None
        pieces, used = take(chain.writable[1:], payload)
        plan.add(chain, [(place[0], header)] if first else [], pieces)
        payload -= used
        first = False
    return plan


def plan_unsplit(queue: SplitQueue, header: int) -> Plan | None:
    """Buffers for a packet that is not split, on a queue with split: only header buffers are written."""
    plan, available = Plan(), queue.available()
    while header:
        if len(plan.chains) >= available:
            return None
        chain = _checked(queue.peek(len(plan.chains)), queue)
        pieces, used = take(chain.writable[:1], header)
        plan.add(chain, pieces, [])
        header -= used
    return plan


def plan_whole(queue: SplitQueue, header: int, minimum: int, *, mergeable: bool) -> Plan | None:
    """Buffers on a queue without split: all descriptors, one after the other. The receive header of `minimum`
    bytes must fit into the first chain."""
    plan, available = Plan(), queue.available()
    while header:
        if len(plan.chains) >= available or (plan.chains and not mergeable):
            return None
        chain = queue.peek(len(plan.chains))
        if chain.readable or room(chain.writable) < (1 if plan.chains else minimum):
            raise QueueError(f"queue {queue.number}: buffer {chain.head} is not one to receive into")
        pieces, used = take(chain.writable, header)
        plan.add(chain, pieces, [])
        header -= used
    return plan


def fits_header(queue: SplitQueue, header: int) -> bool:
    """Whether the next header buffer, if there is one, holds so many bytes."""
    return not queue.available() or _checked(queue.peek(), queue).writable[0][1] >= header


def room(pieces: Sequence[Piece]) -> int:
    """The bytes of descriptors."""
    return sum(length for _, length in pieces)


def take(pieces: Sequence[Piece], count: int) -> tuple[list[Piece], int]:
    """The first `count` bytes of descriptors, or all there is, and how many that is."""
    made: list[Piece] = []
    left = count
    for address, length in pieces:
        if not left:
            break
        if length:
            made.append((address, min(length, left)))
            left -= min(length, left)
    return made, count - left


def _checked(chain: Chain, queue: SplitQueue) -> Chain:
    pieces = chain.writable
    if chain.readable or len(pieces) < 2 or pieces[0][1] < MIN_HEADER_BUFFER or not room(pieces[1:]):
        raise QueueError(f"queue {queue.number}: buffer {chain.head} has no header and payload buffers")
    return chain
