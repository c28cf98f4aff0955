"""MSI-X kept by the device itself: the table, the masks, and messages sent as memory writes.

QEMU 11.1.3 aborts when a vfio-user device whose MSI-X it knows is unplugged. With `interrupts: msix-own`
QEMU is not told: while it sets the device up, config space shows a vendor-specific capability in that place.
Afterwards the guest sees MSI-X, its table accesses come here like those of any register, and an interrupt is
what it is on a real bus: a write of the message data to the message address (PCI Local Bus 3.0, 6.8.2 and
6.8.3).
"""

import struct
import threading
from collections.abc import Callable
from typing import Final

from vfiodev.pci import MSIX_ENTRY

CONTROL_ENABLE: Final = 0x8000
CONTROL_MASK_ALL: Final = 0x4000
ENTRY_MASKED: Final = 0x1
_ENTRY: Final = struct.Struct("<QII")

Send = Callable[[int, int], None]


class MsixTable:
    """The table of one device. Safe from any thread."""

    def __init__(self, vectors: int) -> None:
        self.size = vectors * MSIX_ENTRY
        self._vectors = vectors
        self._lock = threading.Lock()
        self._data = bytearray()
        self._control = 0
        self.pending = 0
        self.send: Send | None = None
        self.reset()

    def reset(self) -> None:
        """Power-on contents: every vector masked, nothing pending, MSI-X disabled."""
        with self._lock:
            self._data = bytearray(_ENTRY.pack(0, 0, ENTRY_MASKED) * self._vectors)
            self._control = 0
            self.pending = 0

    def read(self, offset: int, count: int) -> bytes:
        """A guest's read inside the table; the caller checked the range."""
        return bytes(self._data[offset : offset + count])

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """A guest's write inside the table; the caller checked the range. Unmasking sends what is pending."""
        with self._lock:
            self._data[offset : offset + len(data)] = data
            self._flush()

    def set_control(self, control: int) -> None:
        """The guest wrote the capability's message control word."""
        with self._lock:
            self._control = control
            self._flush()

    def raise_vector(self, vector: int) -> bool:
        """Send the vector's message, or keep it pending while it is masked. False when MSI-X is disabled."""
        with self._lock:
            if not self._control & CONTROL_ENABLE or self.send is None:
                return False
            self.pending |= 1 << vector
            self._flush()
            return True

    def _flush(self) -> None:
        send = self.send
        if send is None or self._control & (CONTROL_ENABLE | CONTROL_MASK_ALL) != CONTROL_ENABLE:
            return
        for vector in range(self._vectors if self.pending else 0):
            address, data, mask = _ENTRY.unpack_from(self._data, vector * MSIX_ENTRY)
            if self.pending >> vector & 1 and not mask & ENTRY_MASKED:
                self.pending &= ~(1 << vector)
                send(address, data)
