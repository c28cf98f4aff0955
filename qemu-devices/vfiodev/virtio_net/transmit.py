"""The transmit side of a port: from the driver's buffers to frames."""

import itertools
import zlib
from typing import Final

from vfiodev.virtio.bus import Bus
from vfiodev.virtio.queue import QueueError, SplitQueue, gather
from vfiodev.virtio_net import spec
from vfiodev.virtio_net.ledger import Ledger
from vfiodev.virtio_net.packet import ETH_HEADER, TCP4, TCP6, Frame, parse

BATCH: Final = 64
GSO_KINDS: Final = {spec.GSO_TCPV4: (TCP4, spec.F_HOST_TSO4), spec.GSO_TCPV6: (TCP6, spec.F_HOST_TSO6)}


class Transmitter:
    """Reads transmit queues for one port; used by the port's worker only."""

    def __init__(self, bus: Bus, ledger: Ledger, mtu: int) -> None:
        self._bus = bus
        self._ledger = ledger
        self._longest = mtu + spec.VLAN_FRAME
        self._numbers = itertools.count(1)

    def fetch(self, queue: SplitQueue, features: int) -> tuple[list[Frame], bool]:
        """Up to BATCH frames of a queue, whose buffers were given back, and whether the driver wants an
        interrupt. Raises QueueError or DmaError, after which the device needs a reset."""
        frames: list[Frame] = []
        done: list[tuple[int, int]] = []
        pair = queue.number // 2
        with queue.lock:
            if not queue.usable:
                return [], False
            for _ in range(min(queue.available(), BATCH)):
                chain = queue.peek()
                if chain.writable:
                    raise QueueError(f"queue {queue.number}: buffer {chain.head} to transmit is writable")
                data = gather(self._bus, chain.readable, spec.TX_HEADER.size + spec.MAX_FRAME)
                if len(data) < spec.TX_HEADER.size:
                    raise QueueError(f"queue {queue.number}: buffer {chain.head} has no header")
                queue.consume()
                done.append((chain.head, 0))
                frame = self._build(memoryview(data), pair, features)
                if frame is not None:
                    frames.append(frame)
            queue.push(done)
            interrupt = queue.wants_interrupt()
        if interrupt:
            self._ledger.add(pair, "tx_interrupts")
        return frames, interrupt

    def _build(self, data: memoryview, pair: int, features: int) -> Frame | None:
        flags, kind, _, gso_size, start, offset, _ = spec.TX_HEADER.unpack_from(data)
        body = data[spec.TX_HEADER.size :]
        frame = Frame(body, next(self._numbers), pair, parse(body))
        if flags & spec.HDR_NEEDS_CSUM:
            frame.partial, frame.csum_start, frame.csum_offset = True, start, offset
        if kind:
            frame.gso_type, frame.gso_size = kind, gso_size
        if not self._is_sound(frame, flags, features):
            self._ledger.drop(pair, frame.number, "tx_malformed")
            return None
        if not kind and len(body) > self._longest:
            self._ledger.drop(pair, frame.number, "tx_drop")
            return None
        self._count(frame)
        return frame

    @staticmethod
    def _is_sound(frame: Frame, flags: int, features: int) -> bool:
        if len(frame.data) < ETH_HEADER or flags & ~spec.HDR_NEEDS_CSUM:
            return False
        if frame.partial:
            end = frame.csum_start + frame.csum_offset + 2
            if not features >> spec.F_CSUM & 1 or end > frame.parsed.end:
                return False
        if not frame.gso_type:
            return True
        kind, feature = GSO_KINDS.get(frame.gso_type & ~spec.GSO_ECN, (0, 0))
        return bool(
            kind
            and features >> feature & 1
            and frame.gso_size
            and frame.partial
            and frame.parsed.kind == kind
            and frame.csum_start == frame.parsed.transport
        )

    def _count(self, frame: Frame) -> None:
        ledger, pair, size = self._ledger, frame.pair, len(frame.data)
        ledger.add(pair, "tx_packets")
        ledger.add(pair, "tx_bytes", size)
        if frame.gso_size:
            ledger.add(pair, "tx_gso")
        if frame.partial:
            ledger.add(pair, "tx_csum")
        ledger.trace.event(
            "net_tx",
            queue=pair,
            frame=frame.number,
            len=size,
            gso=frame.gso_size,
            crc=zlib.crc32(frame.data[frame.parsed.header_end : frame.parsed.end]),
        )
