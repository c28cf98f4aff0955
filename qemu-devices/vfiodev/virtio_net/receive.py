"""The receive side of a port: steering, header split, scatter into the driver's buffers."""

import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from vfiodev.errors import DmaError, StoppedError
from vfiodev.virtio.bus import Bus
from vfiodev.virtio.queue import Piece, QueueError, SplitQueue
from vfiodev.virtio.transport import Transport
from vfiodev.virtio_net import spec
from vfiodev.virtio_net.buffers import Plan, fits_header, plan_split, plan_unsplit, plan_whole
from vfiodev.virtio_net.checksum import complete, segments, verify
from vfiodev.virtio_net.control import Control, SplitSetting
from vfiodev.virtio_net.ledger import Ledger
from vfiodev.virtio_net.packet import Frame, Reason
from vfiodev.virtio_net.steering import DROP

Broken = tuple[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A receive queue, and how frames reach it now."""

    pair: int
    queue: SplitQueue
    split: SplitSetting
    long: bool
    mergeable: bool

    @property
    def header_size(self) -> int:
        """Of the receive header."""
        return spec.LONG_HEADER.size if self.long else spec.TX_HEADER.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where a packet is cut: its first `header` bytes go into header buffers; `size` without padding."""

    reason: Reason
    header: int
    size: int


class Receiver:
    """Receives for one port. Called by the threads of whoever sends, one at a time."""

    def __init__(self, bus: Bus, transport: Transport, ledger: Ledger) -> None:
        self._bus = bus
        self._transport = transport
        self._ledger = ledger
        self._turn = threading.Lock()
        self._number = 0

    def deliver(self, frames: Sequence[Frame], control: Control) -> tuple[list[SplitQueue], Broken | None]:
        """Put frames into queues. Returns the queues whose driver wants an interrupt, and a queue's number
        with the rule that its driver broke, if one did."""
        with self._turn:
            touched: dict[int, SplitQueue] = {}
            wanted: list[SplitQueue] = []
            try:
                for frame in frames:
                    for piece in self._divide(frame, control):
                        self._receive(piece, control, touched)
                for number, queue in touched.items():
                    self._number = number
                    with queue.lock:
                        if queue.usable and queue.wants_interrupt():
                            wanted.append(queue)
                            self._ledger.add(number // 2, "rx_interrupts")
            except StoppedError:
                raise
            except (QueueError, DmaError) as error:
                return wanted, (self._number, str(error))
            finally:
                self._ledger.flush()
            return wanted, None

    def _divide(self, frame: Frame, control: Control) -> Sequence[Frame]:
        """The frame whole, if the driver takes large packets and partial checksums; else what it takes."""
        if frame.gso_size:
            kind = frame.gso_type & ~spec.GSO_ECN
            needed = spec.F_GUEST_TSO4 if kind == spec.GSO_TCPV4 else spec.F_GUEST_TSO6
            ecn = not frame.gso_type & spec.GSO_ECN or control.offloaded(spec.F_GUEST_ECN)
            if not (control.offloaded(needed) and ecn):
                return list(segments(frame))
        if frame.partial and not control.offloaded(spec.F_GUEST_CSUM):
            complete(frame)
        return (frame,)

    def _receive(self, frame: Frame, control: Control, touched: dict[int, SplitQueue]) -> None:
        steering = control.steering
        if not steering.accepts(frame):
            return
        pair, value, report = steering.choose(frame)
        if pair == DROP:
            self._ledger.drop(0, frame.number, "rx_drop_rule")
            return
        queue = self._transport.queue(2 * pair) if self._transport.running else None
        if queue is None:
            self._ledger.drop(pair, frame.number, "rx_drop_queue")
            return
        self._number = queue.number
        target = Target(
            pair=pair,
            queue=queue,
            split=control.split[pair],
            long=self._transport.has(spec.F_HDR_SPLIT),
            mergeable=self._transport.has(spec.F_MRG_RXBUF),
        )
        flags = self._checksum_flag(frame, control, pair)
        with queue.lock:
            if not queue.usable:
                self._ledger.drop(pair, frame.number, "rx_drop_queue")
            elif self._place(frame, target, flags, (value, report)):
                touched[queue.number] = queue

    def _checksum_flag(self, frame: Frame, control: Control, pair: int) -> int:
        if frame.partial:
            self._ledger.add(pair, "rx_csum_partial")
            return spec.HDR_NEEDS_CSUM
        if not control.offloaded(spec.F_GUEST_CSUM):
            return 0
        good = verify(frame)
        if good is not None:
            self._ledger.add(pair, "rx_csum_valid" if good else "rx_csum_bad")
        return spec.HDR_DATA_VALID if good else 0

    def _place(self, frame: Frame, target: Target, flags: int, hashed: tuple[int, int]) -> bool:
        """Write a packet into buffers and give them back; False when it was dropped."""
        cut = _cut(frame, target)
        plan = _plan(cut, target)
        if plan is None:
            self._ledger.drop(target.pair, frame.number, "rx_drop_no_buffer")
            return False
        header = _build_header(frame, target, flags, cut, len(plan.chains), hashed)
        self._write(
            frame, target, plan, memoryview(header + frame.data[: cut.header]), frame.data[cut.header :]
        )
        target.queue.consume(len(plan.chains))
        index = target.queue.next_used
        target.queue.push(list(zip((chain.head for chain in plan.chains), plan.written, strict=True)))
        self._count(frame, target, cut, len(plan.chains), index)
        return True

    def _write(
        self, frame: Frame, target: Target, plan: Plan, header: memoryview, payload: memoryview
    ) -> None:
        for header_pieces, payload_pieces in zip(plan.header, plan.payload, strict=True):
            header = self._put(frame, target, "header", header_pieces, header)
            payload = self._put(frame, target, "payload", payload_pieces, payload)

    def _put(
        self, frame: Frame, target: Target, kind: str, pieces: Sequence[Piece], data: memoryview
    ) -> memoryview:
        for address, length in pieces:
            to_peer = self._bus.write(address, data[:length])
            self._ledger.wrote(target.pair, frame.number, kind, (address, length), to_peer=to_peer)
            data = data[length:]
        return data

    def _count(self, frame: Frame, target: Target, cut: Cut, chains: int, index: int) -> None:
        pair, ledger = target.pair, self._ledger
        done = cut.reason is Reason.SPLIT
        ledger.add(pair, "rx_packets")
        ledger.add(pair, "rx_bytes", cut.size)
        ledger.add(pair, "rx_buffers", chains)
        ledger.add(pair, "rx_gso", int(bool(frame.gso_size)))
        if target.split.types:
            ledger.add(pair, "rx_split" if done else "rx_unsplit")
        if done:
            ledger.add(pair, "rx_header_bytes", cut.header)
            ledger.add(pair, "rx_payload_bytes", cut.size - cut.header)
        ledger.trace.event(
            "net_rx",
            queue=pair,
            frame=frame.number,
            index=index,
            chains=chains,
            len=cut.size,
            split=cut.header if done else 0,
            reason=int(cut.reason),
            crc=zlib.crc32(frame.data[cut.header if done else 0 : cut.size]),
        )


def _cut(frame: Frame, target: Target) -> Cut:
    """Whether to split, and where. On a queue without split the whole packet is the header stream."""
    parsed, whole, setting = frame.parsed, len(frame.data), target.split
    if not setting.types:
        return Cut(reason=Reason.DISABLED, header=whole, size=whole)
    if not parsed.kind:
        reason = parsed.reason
    elif not parsed.kind & setting.types:
        reason = Reason.NO_TRANSPORT
    elif setting.threshold and parsed.end <= setting.threshold:
        reason = Reason.THRESHOLD
    elif not fits_header(target.queue, target.header_size + parsed.header_end):
        reason = Reason.NO_ROOM
    else:
        return Cut(reason=Reason.SPLIT, header=parsed.header_end, size=parsed.end)
    return Cut(reason=reason, header=whole, size=whole)


def _plan(cut: Cut, target: Target) -> Plan | None:
    stream = target.header_size + cut.header
    if cut.reason is Reason.SPLIT:
        return plan_split(target.queue, stream, cut.size - cut.header)
    if target.split.types:
        return plan_unsplit(target.queue, stream)
    return plan_whole(target.queue, stream, target.header_size, mergeable=target.mergeable)


def _build_header(
    frame: Frame, target: Target, flags: int, cut: Cut, chains: int, hashed: tuple[int, int]
) -> bytes:
    parsed = frame.parsed
    start, offset = (frame.csum_start, frame.csum_offset) if flags & spec.HDR_NEEDS_CSUM else (0, 0)
    length = parsed.header_end if frame.gso_size or target.long else 0
    common = (flags, frame.gso_type, length, frame.gso_size, start, offset, chains)
    if not target.long:
        return spec.TX_HEADER.pack(*common)
    bits = (spec.SPLIT_DONE if cut.reason is Reason.SPLIT else 0) | (spec.HDR_VALID if parsed.kind else 0)
    split_len = cut.header if target.split.types else 0
    return spec.LONG_HEADER.pack(*common, split_len, bits, cut.reason, *hashed, 0)
