"""What the thread that serves MMIO and the thread of an engine share, and every lock between them.

Two locks per engine, taken in this order:

`effects`   held by the engine for each bounded piece of work that others can see (a chunk of data, a fence
            and its interrupt). Who aborts the engine bumps `epoch` first and then takes this lock once: from
            then on the engine cannot touch anything, since it compares the epoch after taking the lock.
`condition` guards the registers below for a few instructions; the engine sleeps on it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntFlag

from vfiodev.gpu.commands import ENTRY_SIZE, ErrorCode
from vfiodev.ranges import ADDRESS_LIMIT

MAX_RING_LOG2 = 12


class Status(IntFlag):
    """STATUS of an engine."""

    IDLE = 1
    BUSY = 2
    ERROR = 4
    WAITING = 8


class AbortedError(Exception):
    """The engine was reset while it worked; unwinds to its outermost loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """The ring as it was set up when RUN was set."""

    base: int
    log2: int
    fence_address: int

    @property
    def mask(self) -> int:
        return (1 << self.log2) - 1

    def is_valid(self) -> bool:
        return (
            1 <= self.log2 <= MAX_RING_LOG2
            and self.base % ENTRY_SIZE == 0
            and self.base + (ENTRY_SIZE << self.log2) <= ADDRESS_LIMIT
            and self.fence_address % 8 == 0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """An entry that the engine has taken from its ring."""

    ring: Ring
    index: int

    @property
    def address(self) -> int:
        return self.ring.base + ENTRY_SIZE * self.index

    @property
    def next_index(self) -> int:
        return (self.index + 1) & self.ring.mask


class EngineState:
    """Registers of one engine and the locks around them. Plain reads of an attribute need no lock."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._effects = threading.Lock()
        self._epoch = 0
        self._enabled = False
        self._frozen = False
        self._kicks = 0
        self.closing = False
        self._reset_registers()

    def _reset_registers(self) -> None:
        self.run = False
        self.ring_log2 = 0
        self.ring_base = 0
        self.fence_address = 0
        self.head = 0
        self.tail = 0
        self.fence_seq = 0
        self.error_code = ErrorCode.NONE
        self.error_index = 0
        self.error_address = 0
        self._ring: Ring | None = None
        self._fetch = 0
        self._halted = False
        self._executing = False
        self._unretired = 0
        self._waiting = False

    # For the thread that serves MMIO.

    def status(self) -> Status:
        with self._condition:
            busy = self._executing or self._unretired > 0
            status = Status.BUSY if busy else Status(0)
            if self.head == self.tail and not busy:
                status |= Status.IDLE
            if self.error_code:
                status |= Status.ERROR
            if self._waiting:
                status |= Status.WAITING
            return status

    def ring_doorbell(self, tail: int) -> bool:
        """TAIL was written. False: the engine is now in error BAD_RING."""
        with self._condition:
            if self.error_code:
                return True
            self.tail = tail
            if self._ring is not None and self.run and tail > self._ring.mask:
                return self._refuse_ring()
            self._condition.notify()
            return True

    def set_run(self, run: bool) -> bool:
        """CTRL.RUN was written. False: the engine is now in error BAD_RING."""
        with self._condition:
            starts = run and not self.run
            self.run = run
            if not starts or self.error_code:
                return True
            ring = Ring(base=self.ring_base, log2=self.ring_log2, fence_address=self.fence_address)
            if not ring.is_valid() or max(self.tail, self.head, self._fetch) > ring.mask:
                return self._refuse_ring()
            self._ring = ring
            self._condition.notify()
            return True

    def _refuse_ring(self) -> bool:
        self._halted = True
        self.error_code = ErrorCode.BAD_RING
        self.error_index = self.head
        self.error_address = 0
        return False

    def set_enabled(self, enabled: bool) -> None:
        """CONTROL.ENABLE was written."""
        with self._condition:
            self._enabled = enabled
            self._condition.notify()

    def set_frozen(self, frozen: bool) -> None:
        """Make the engine stand still, or go on. When this returns nothing of it is under way."""
        with self._condition:
            self._frozen = frozen
            self._condition.notify()
        self.settle()

    def kick(self) -> None:
        """A fault was cleared or a semaphore released: look again."""
        with self._condition:
            self._kicks += 1
            self._condition.notify()

    def abort(self, *, closing: bool = False) -> None:
        """End whatever executes and give the registers their reset values. Takes effect with `settle`."""
        with self._condition:
            self._epoch += 1
            self.closing = self.closing or closing
            self._reset_registers()
            self._condition.notify()

    def settle(self) -> None:
        """Return when no effect of before the last `abort` or `set_frozen` is under way or can still come."""
        with self._effects:
            pass

    # For the engine's own thread. `epoch` is what it read when it started over.

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def kicks(self) -> int:
        return self._kicks

    @contextmanager
    def effect(self, epoch: int) -> Iterator[None]:
        """Around everything that others can see; raises AbortedError instead when `epoch` is over."""
        while True:
            self._thaw(epoch)
            with self._effects:
                if not self._frozen:
                    self._check(epoch)
                    yield
                    return

    def _thaw(self, epoch: int) -> None:
        if self._frozen:
            with self._condition:
                while self._frozen:
                    self._check(epoch)
                    self._condition.wait()

    def _check(self, epoch: int) -> None:
        if self._epoch != epoch:
            raise AbortedError

    @contextmanager
    def registers(self, epoch: int) -> Iterator[None]:
        """Around updates of registers by the engine."""
        with self._condition:
            self._check(epoch)
            yield

    def take_slot(self, epoch: int, due: int | None, now: int) -> Slot | None:
        """Wait for an entry, at most until `due` (CLOCK_MONOTONIC, ns); None: time is up, or look again."""
        with self._condition:
            self._check(epoch)
            slot = self._find_slot()
            if slot is None:
                if due is None or due > now:
                    self._condition.wait(None if due is None else (due - now) / 1e9)
                return None
            self._fetch = slot.next_index
            self._executing = True
            return slot

    def _find_slot(self) -> Slot | None:
        if self._halted or self._frozen or not (self.run and self._enabled):
            return None
        if self._ring is None or self._fetch == self.tail:
            return None
        return Slot(ring=self._ring, index=self._fetch)

    def pause(self, epoch: int, until: int, kicks: int | None = None) -> None:
        """Sleep until `until` or any event; not at all when a kick came since `kicks` was read."""
        with self._condition:
            self._check(epoch)
            left = until - time.monotonic_ns()
            if left > 0 and (kicks is None or kicks == self._kicks):
                self._condition.wait(left / 1e9)
            self._check(epoch)

    def set_waiting(self, epoch: int, waiting: bool) -> None:
        with self.registers(epoch):
            self._waiting = waiting

    def finish_execution(self, epoch: int, *, failed: bool) -> None:
        """The data is done, the completion is still to come; after a failure nothing more is fetched."""
        with self.registers(epoch):
            self._executing = False
            self._waiting = False
            self._unretired += 1
            self._halted = self._halted or failed

    def retire(self, epoch: int, head: int, count: int) -> None:
        """`count` commands have completed; HEAD moves unless the engine stopped in between."""
        with self.registers(epoch):
            self._unretired -= count
            if not self.error_code:
                self.head = head

    def stop(self, epoch: int, code: ErrorCode, index: int, address: int) -> None:
        """The command at `index` failed, everything before it has completed."""
        with self.registers(epoch):
            self._halted = True
            self._executing = False
            self._waiting = False
            self._unretired = 0
            self.error_code = code
            self.error_index = index
            self.error_address = address
            self.head = index
