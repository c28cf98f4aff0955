"""The receive side of a port: steering, header split, scatter into the driver's buffers."""

import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from vfiodev.errors import DmaError, StoppedError
from vfiodev.ranges import contains
from vfiodev.virtio.bus import Bus
from vfiodev.virtio.queue import Chain, Piece, QueueError, SplitQueue
from vfiodev.virtio.transport import Transport
from vfiodev.virtio_net import spec
from vfiodev.virtio_net.buffers import Plan, fits_header, plan_split, plan_unsplit, plan_whole
from vfiodev.virtio_net.checksum import complete, segments, verify
from vfiodev.virtio_net.control import Control, SplitSetting
from vfiodev.virtio_net.faults import NetFaults
from vfiodev.virtio_net.ledger import Ledger
from vfiodev.virtio_net.packet import Frame, Reason
from vfiodev.virtio_net.steering import DROP

Late = tuple[float, Callable[[], None]]
"""Seconds from now, and what to do then with the device's lock held."""


@dataclass(slots=True)
class Delivery:
    """What is left to do after frames were put into queues: the queues whose driver wants an interrupt, a
    queue's number with the rule that its driver broke, and what faults put off."""

    wanted: list[SplitQueue] = field(default_factory=list)
    broken: tuple[int, str] | None = None
    late: list[Late] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


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
    """Where a packet is cut: its first `header` bytes go into header buffers; `size` without padding. By a
    fault, `spill` header bytes go in front of the payload, or `swallow` payload bytes behind the headers."""

    reason: Reason
    header: int
    size: int
    spill: int = 0
    swallow: int = 0


class Receiver:
    """Receives for one port. Called by the threads of whoever sends, one at a time."""

    def __init__(self, bus: Bus, transport: Transport, ledger: Ledger, faults: NetFaults) -> None:
        self._bus = bus
        self._transport = transport
        self._ledger = ledger
        self._faults = faults
        self._turn = threading.Lock()
        self._number = 0
        self._late: list[Late] = []
        self._violations: list[str] = []

    def deliver(self, frames: Sequence[Frame], control: Control) -> Delivery:
        """Put frames into queues. No lock held."""
        with self._turn:
            touched: dict[int, SplitQueue] = {}
            made = Delivery()
            self._late, self._violations = made.late, made.violations
            try:
                for frame in frames:
                    for piece in self._divide(frame, control):
                        self._receive(piece, control, touched)
                for number, queue in touched.items():
                    self._number = number
                    with queue.lock:
                        if queue.usable and queue.wants_interrupt():
                            made.wanted.append(queue)
                            self._ledger.add(number // 2, "rx_interrupts")
            except StoppedError:
                raise
            except (QueueError, DmaError) as error:
                made.broken = (self._number, str(error))
            finally:
                self._ledger.flush()
            return made

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
        if not self._faults.none:
            if self._faults.take("drop_rx", pair):
                self._ledger.drop(pair, frame.number, "rx_drop_error")
                return
            if self._faults.take("wrong_queue", pair):
                pair = (pair + 1) % max(1, len(self._transport.slots) // 2)
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
        if not self._faults.none:
            cut = self._spoil(cut, target)
        blocked = self._faults.active("stop_refill", target.pair) is not None
        plan = None if blocked else _plan(cut, target)
        if plan is None:
            self._ledger.drop(target.pair, frame.number, "rx_drop_no_buffer")
            return False
        header = _build_header(frame, target, flags, cut, len(plan.chains), hashed)
        header += frame.data[: cut.header + cut.swallow]
        payload = frame.data[cut.header - cut.spill : cut.size]
        queue, index = target.queue, target.queue.next_used
        early = self._faults.take("completion_before_data", target.pair)
        if early is None:
            self._write(frame, target, plan, memoryview(header), payload)
        else:
            self._put_off(float(early["ms"]), frame, target, plan, (memoryview(header), payload))
        wrong = self._faults.take("wrong_used_length", target.pair)
        if wrong is not None:
            plan.written[0] = max(0, plan.written[0] + int(wrong["delta"]))
        queue.consume(len(plan.chains))
        queue.push(list(zip((chain.head for chain in plan.chains), plan.written, strict=True)))
        self._count(frame, target, cut, len(plan.chains), index)
        return True

    def _spoil(self, cut: Cut, target: Target) -> Cut:
        """What faults make of a split."""
        faults, pair = self._faults, target.pair
        if cut.reason is not Reason.SPLIT:
            return cut
        if faults.take("split_not_at_all", pair):
            return replace(cut, reason=Reason.DISABLED, header=cut.size)
        payload = cut.size - cut.header
        wrong = faults.take("split_at_wrong_byte", pair)
        if wrong is not None:
            header = min(max(0, cut.header + int(wrong["delta"])), cut.size)
            return replace(cut, header=header)
        spilled = faults.take("spill_header", pair)
        if spilled is not None:
            return replace(cut, spill=min(int(spilled["bytes"]), cut.header))
        swallowed = faults.take("payload_to_header", pair) if payload else None
        if swallowed is not None:
            return replace(cut, swallow=min(int(swallowed["bytes"]), payload))
        return cut

    def _put_off(
        self, ms: float, frame: Frame, target: Target, plan: Plan, data: tuple[memoryview, memoryview]
    ) -> None:
        """Write the data later, unless the queue has been stopped by then."""

        def write() -> None:
            with self._turn, target.queue.lock:
                if target.queue.usable:
                    try:
                        self._write(frame, target, plan, *data)
                    except DmaError:
                        self._ledger.drop(target.pair, frame.number, "rx_drop_error")
                    self._ledger.flush()

        self._late.append((ms / 1000, write))

    def _write(
        self, frame: Frame, target: Target, plan: Plan, header: memoryview, payload: memoryview
    ) -> None:
        for chain, header_pieces, payload_pieces in zip(plan.chains, plan.header, plan.payload, strict=True):
            header = self._put(frame, target, ("header", chain), header_pieces, header)
            payload = self._put(frame, target, ("payload", chain), payload_pieces, payload)

    def _put(
        self,
        frame: Frame,
        target: Target,
        what: tuple[str, Chain],
        pieces: Sequence[Piece],
        data: memoryview,
    ) -> memoryview:
        kind, chain = what
        for address, length in pieces:
            to_peer = self._bus.write(address, data[:length])
            self._ledger.wrote(target.pair, frame.number, kind, (address, length), to_peer=to_peer)
            if not any(contains(start, size, address, length) for start, size in chain.writable):
                self._ledger.add(target.pair, "outside_buffer", length)
                self._violations.append(
                    f"queue {target.queue.number}, index {chain.index}: {length} bytes to {address:#x}, "
                    "where no buffer is"
                )
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
    stream = target.header_size + cut.header + cut.swallow
    if cut.reason is Reason.SPLIT:
        return plan_split(target.queue, stream, cut.size - cut.header + cut.spill)
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
