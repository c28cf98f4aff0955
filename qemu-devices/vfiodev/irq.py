"""Interrupts: eventfds that the client hands over by SET_IRQS, and the device's side of raising them.

QEMU emulates the MSI-X table and its masks itself; what reaches the server is which vectors have an eventfd.
Source: vfio-user specification, "VFIO_USER_DEVICE_SET_IRQS"; `struct vfio_irq_set` in linux/vfio.h.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from vfiodev.errors import BadMessageError
from vfiodev.msix import MsixTable
from vfiodev.stats import Stats
from vfiodev.trace import Trace
from vfiodev.work import check_not_stopped

INTX: Final = 0
MSI: Final = 1
MSIX: Final = 2
ERR: Final = 3
REQ: Final = 4
NUM_IRQS: Final = 5


def is_eventfd(fd: int) -> bool:
    """True for an eventfd; writing 1 to anything else could block the host."""
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink()) == "anon_inode:[eventfd]"
    except OSError:
        return False


class Line:
    """One interrupt source: its eventfd, mask and what happened while it was masked."""

    __slots__ = ("fd", "masked", "pending", "unmask_fd")

    def __init__(self) -> None:
        self.fd = -1
        self.unmask_fd = -1
        self.masked = False
        self.pending = False

    def signal(self) -> None:
        """Write the eventfd. A full counter still wakes the reader, so EAGAIN is fine."""
        if self.fd >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self.fd, 1)


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


class Irq:
    """The interrupts of one device, `self.irq` in a model. Safe from any thread."""

    def __init__(
        self, vectors: int, lines: Mapping[int, int], table: MsixTable | None, trace: Trace, stats: Stats
    ) -> None:
        """`vectors` that the model may raise; `lines` is how many interrupts of each vfio type exist."""
        self.vectors = vectors
        self._lines = {kind: [Line() for _ in range(lines.get(kind, 0))] for kind in (INTX, MSI, MSIX)}
        self._trace = trace
        self._stats = stats
        self._lock = threading.Lock()
        self._level = False
        self.allowed: Callable[[], bool] = lambda: True
        self.table = table

    def raise_msix(self, vector: int) -> bool:
        """Raise `vector` (IndexError outside the declared ones): MSI-X, or MSI when the device was made with
        that; an MSI vector that the guest did not get falls on vector 0.

        True when the guest will see it: the vector has an eventfd, the device is there and may master the
        bus (an MSI is a memory write). A masked vector stays pending and is sent by the unmask. Counted in
        `irqs`.
        """
        if not 0 <= vector < self.vectors:
            raise IndexError(f"MSI-X vector {vector} is not among the {self.vectors} declared")
        check_not_stopped()
        if not self.allowed():
            return False
        if self.table is not None:
            sent = self.table.raise_vector(vector)
        else:
            with self._lock:
                sent = self._deliver(self._line(vector))
        self._stats.add("irqs" if sent else "irqs_unsent")
        self._trace.event("irq", vector=vector, sent=sent)
        return sent

    def set_intx(self, level: bool) -> None:
        """Drive the level of INTx; raised again by the unmask (end of interrupt) as long as it is high."""
        check_not_stopped()
        with self._lock:
            rising = level and not self._level
            self._level = level
            if rising and self._lines[INTX] and self.allowed():
                self._deliver(self._lines[INTX][0])
                self._lines[INTX][0].masked = True
        self._trace.event("intx", level=level)

    def pending_bits(self) -> int:
        """The pending bit array as one integer, bit N for vector N."""
        if self.table is not None:
            return self.table.pending
        return sum(1 << vector for vector, line in enumerate(self._lines[MSIX]) if line.pending)

    def count(self, index: int) -> int:
        """How many interrupts of a type exist (GET_IRQ_INFO)."""
        return len(self._lines.get(index, ()))

    def assign(self, index: int, start: int, fds: Sequence[int], count: int) -> None:
        """SET_IRQS trigger with eventfd data: take `fds` (ownership included), or none to de-assign `count`
        lines."""
        lines = self._range(index, start, count)
        if fds and len(fds) != count:
            raise BadMessageError(f"SET_IRQS: {len(fds)} file descriptors for {count} interrupts")
        self._check_eventfds(fds)
        with self._lock:
            for position, line in enumerate(lines):
                _close(line.fd)
                line.fd = fds[position] if fds else -1
                line.pending = False
        self._trace.event("irq_set", index=index, start=start, count=count, assigned=bool(fds))

    def assign_unmask(self, index: int, start: int, fds: Sequence[int], count: int) -> None:
        """SET_IRQS unmask with eventfd data: the fd is signalled by us when an unmask comes by message."""
        lines = self._range(index, start, count)
        if fds and len(fds) != count:
            raise BadMessageError(f"SET_IRQS: {len(fds)} file descriptors for {count} interrupts")
        self._check_eventfds(fds)
        with self._lock:
            for position, line in enumerate(lines):
                _close(line.unmask_fd)
                line.unmask_fd = fds[position] if fds else -1

    def trigger(self, index: int, start: int, chosen: Sequence[bool]) -> None:
        """SET_IRQS trigger with none or bool data: the client itself raises interrupts (a loop-back test)."""
        with self._lock:
            for line, wanted in zip(self._range(index, start, len(chosen)), chosen, strict=True):
                if wanted:
                    self._deliver(line)

    def mask(self, index: int, start: int, chosen: Sequence[bool]) -> None:
        """SET_IRQS mask with none or bool data."""
        with self._lock:
            for line, wanted in zip(self._range(index, start, len(chosen)), chosen, strict=True):
                line.masked = line.masked or wanted

    def unmask(self, index: int, start: int, chosen: Sequence[bool]) -> None:
        """SET_IRQS unmask with none or bool data; what is pending is sent."""
        with self._lock:
            for line, wanted in zip(self._range(index, start, len(chosen)), chosen, strict=True):
                if wanted:
                    self._unmask(index, line)

    def disable(self, index: int) -> None:
        """Drop every eventfd of one type."""
        with self._lock:
            for line in self._lines.get(index, ()):
                self._release(line)

    def reset(self) -> None:
        """A device reset: the level falls and pending interrupts are forgotten; eventfds and masks are the
        client's."""
        if self.table is not None:
            self.table.reset()
        with self._lock:
            self._level = False
            for lines in self._lines.values():
                for line in lines:
                    line.pending = False

    def release_all(self) -> None:
        """The client went away: close everything."""
        for index in (INTX, MSI, MSIX):
            self.disable(index)

    def _line(self, vector: int) -> Line:
        lines = self._lines[MSIX]
        if lines:
            return lines[vector]
        lines = self._lines[MSI]
        return lines[vector] if vector < len(lines) and lines[vector].fd >= 0 else lines[0]

    def _range(self, index: int, start: int, count: int) -> list[Line]:
        lines = self._lines.get(index, [])
        if not 0 <= start <= start + count <= len(lines):
            raise BadMessageError(
                f"SET_IRQS: interrupts {start}+{count} of type {index}, which has {len(lines)}", errno.EINVAL
            )
        return lines[start : start + count]

    @staticmethod
    def _check_eventfds(fds: Sequence[int]) -> None:
        for fd in fds:
            if not is_eventfd(fd):
                raise BadMessageError("SET_IRQS: a file descriptor is not an eventfd")
            os.set_blocking(fd, False)

    @staticmethod
    def _deliver(line: Line) -> bool:
        if line.masked:
            line.pending = True
            return line.fd >= 0
        line.signal()
        return line.fd >= 0

    def _unmask(self, index: int, line: Line) -> None:
        line.masked = False
        if line.unmask_fd >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(line.unmask_fd, 1)
        again = line.pending or (index == INTX and self._level)
        line.pending = False
        if again and self.allowed():
            line.signal()
            line.masked = index == INTX

    @staticmethod
    def _release(line: Line) -> None:
        _close(line.fd)
        _close(line.unmask_fd)
        line.fd = line.unmask_fd = -1
        line.masked = line.pending = False
