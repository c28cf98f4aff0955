"""The vendor capabilities by which a driver finds a virtio device's structures (virtio 1.3, 4.1.4)."""

import struct
from typing import Final

from vfiodev.function import PciFunction
from vfiodev.virtio import transport

BAR: Final = 0
COMMON_CFG, NOTIFY_CFG, ISR_CFG, DEVICE_CFG, PCI_CFG = 1, 2, 3, 4, 5
_CAP: Final = struct.Struct("<BB3xII")
_DATA: Final = 16
_WRITABLE: Final = b"\0" + b"\xff" + bytes(3) + b"\xff" * 12


class ConfigAccess:
    """The window through which firmware without MMIO reaches the BAR: bar, offset, length and four bytes of
    data in config space."""

    def __init__(self, function: PciFunction) -> None:
        """Put all capabilities of a virtio device into a function's config space."""
        self._function = function
        add = function.config.add_vendor_capability
        self._at = add(_CAP.pack(PCI_CFG, BAR, 0, 0) + bytes(4), _WRITABLE)
        add(_CAP.pack(DEVICE_CFG, BAR, transport.CONFIG_AT, transport.CONFIG_SIZE))
        add(_CAP.pack(ISR_CFG, BAR, transport.ISR_AT, transport.ISR_SIZE))
        notify = _CAP.pack(NOTIFY_CFG, BAR, transport.NOTIFY_AT, transport.NOTIFY_SIZE)
        add(notify + struct.pack("<I", transport.NOTIFY_MULTIPLIER))
        add(_CAP.pack(COMMON_CFG, BAR, transport.COMMON_AT, transport.COMMON_SIZE))

    def before_read(self, offset: int, count: int) -> None:
        """A config read is coming: fetch the data word if it is part of it."""
        place = self._place(offset, count)
        if place is not None:
            at, size = place
            data = self._function.read_bar(BAR, at, size, 0)
            start = self._at + _DATA
            self._function.config.data[start : start + size] = data

    def after_write(self, offset: int, count: int) -> None:
        """A config write came: carry it out if the data word was part of it."""
        place = self._place(offset, count)
        if place is not None:
            at, size = place
            start = self._at + _DATA
            self._function.write_bar(BAR, at, bytes(self._function.config.data[start : start + size]))

    def _place(self, offset: int, count: int) -> tuple[int, int] | None:
        data = self._at + _DATA
        if offset >= data + 4 or offset + count <= data or not self._function.config.memory_enabled:
            return None
        config = self._function.config.data
        bar = config[self._at + 4]
        at, size = struct.unpack_from("<II", config, self._at + 8)
        if bar != BAR or size not in (1, 2, 4) or at % size or at + size > transport.BAR_SIZE:
            return None
        return at, size
