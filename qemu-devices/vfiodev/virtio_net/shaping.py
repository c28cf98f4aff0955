"""What happens to frames between transmitter and link: loss, duplication, corruption, reordering, delay,
rate."""

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from vfiodev.virtio_net.checksum import complete, segments
from vfiodev.virtio_net.faults import NetFaults
from vfiodev.virtio_net.packet import ETH_HEADER, Frame, parse
from vfiodev.work import Worker

RATE_QUEUE: Final = 256
HELD_SECONDS: Final = 0.01


class Shaper:
    """One port's wire faults. `transmit` is for the port's worker; late frames leave from `run`, a worker."""

    def __init__(
        self,
        faults: NetFaults,
        chance: random.Random,
        count: Callable[[str], None],
        send: Callable[[Sequence[Frame]], None],
    ) -> None:
        self._faults = faults
        self._chance = chance
        self._count = count
        self._send = send
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._late: list[tuple[float, int, Frame]] = []
        self._held: tuple[float, Frame] | None = None
        self._busy_until = 0.0
        self._worker: Worker | None = None

    def transmit(self, frames: Sequence[Frame]) -> None:
        """Send frames, now if nothing is wrong with the wire."""
        if not self._late and self._held is None and not self._faults.has_wire_fault():
            self._send(frames)
            return
        with self._lock:
            for frame in frames:
                for variant in self._variants(frame):
                    self._queue(variant)
        if self._worker is not None:
            self._worker.kick()

    def run(self, worker: Worker) -> None:
        """The worker that sends late frames. Those of the time before a reset are forgotten."""
        with self._lock:
            self._worker = worker
            self._late.clear()
            self._held = None
            self._busy_until = 0.0
        timeout: float | None = None
        while worker.wait(timeout):
            due, timeout = self._due()
            if due:
                self._send(due)

    def _due(self) -> tuple[list[Frame], float | None]:
        with self._lock:
            now, due = time.monotonic(), []
            if self._held is not None and self._held[0] <= now:
                held, self._held = self._held, None
                heapq.heappush(self._late, (held[0], next(self._order), held[1]))
            while self._late and self._late[0][0] <= now:
                due.append(heapq.heappop(self._late)[2])
            times = [self._late[0][0]] if self._late else []
            if self._held is not None:
                times.append(self._held[0])
            return due, max(0.0, min(times) - now) if times else None

    def _strikes(self, name: str) -> bool:
        fault = self._faults.active(name)
        if fault is None or self._chance.random() * 100 >= float(fault["percent"]):
            return False
        return self._faults.take(name) is not None

    def _variants(self, frame: Frame) -> list[Frame]:
        if self._strikes("wire_loss"):
            self._count("tx_frames_lost")
            return []
        made = [frame]
        if self._strikes("wire_corrupt"):
            self._count("tx_frames_corrupted")
            made = self._corrupt(frame)
        if self._strikes("wire_duplicate"):
            self._count("tx_frames_duplicated")
            made += [_copy(each) for each in made]
        return made

    def _corrupt(self, frame: Frame) -> list[Frame]:
        """One bit wrong; a large packet is cut first, since a wire carries segments."""
        pieces = list(segments(frame)) if frame.gso_size else [_copy(frame)]
        victim = self._chance.choice(pieces)
        complete(victim)
        if len(victim.data) > ETH_HEADER:
            bit = self._chance.randrange(8 * ETH_HEADER, 8 * len(victim.data))
            victim.data[bit // 8] ^= 1 << bit % 8
            victim.parsed = parse(victim.data)
        return pieces

    def _queue(self, frame: Frame) -> None:
        due = time.monotonic()
        rate = self._faults.active("wire_rate")
        if rate is not None:
            if len(self._late) >= RATE_QUEUE:
                self._count("tx_frames_lost")
                return
            self._busy_until = max(due, self._busy_until) + len(frame.data) * 8e-6 / float(rate["mbit"])
            due = self._busy_until
        delay = self._faults.active("wire_delay")
        if delay is not None:
            due += float(delay["ms"]) / 1000
        if self._held is None and self._strikes("wire_reorder"):
            self._count("tx_frames_reordered")
            self._held = (due + HELD_SECONDS, frame)
            return
        heapq.heappush(self._late, (due, next(self._order), frame))
        if self._held is not None:
            held, self._held = self._held[1], None
            heapq.heappush(self._late, (due, next(self._order), held))


def _copy(frame: Frame) -> Frame:
    return Frame(
        memoryview(bytearray(frame.data)),
        frame.number,
        frame.pair,
        frame.parsed,
        frame.partial,
        frame.csum_start,
        frame.csum_offset,
        frame.gso_type,
        frame.gso_size,
    )
