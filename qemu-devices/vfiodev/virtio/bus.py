"""DMA for rings and buffers: as `vfiodev.dma`, without a trace event per access, in place where it can.

A virtqueue makes a dozen small accesses for each packet, so what `Dma` records of each would cost more than
the access. A model that uses this records what it did itself.
"""

import struct
from typing import Final

from vfiodev.dma import Dma
from vfiodev.errors import DmaError
from vfiodev.memory import Region
from vfiodev.peers import PeerMap
from vfiodev.ranges import ADDRESS_LIMIT

_U16: Final = struct.Struct("<H")


class Bus:
    """Guest memory and memory BARs of siblings. Safe from any thread; methods raise DmaError."""

    def __init__(self, dma: Dma, peers: PeerMap) -> None:
        self._dma = dma
        self._memory = dma.memory
        self._peers = peers

    def check(self, address: int, length: int) -> None:
        """Raise for an access that cannot be: bus mastering off, device gone, range that wraps."""
        if not self._dma.allowed():
            raise DmaError("bus mastering is off or the device is gone")
        if address + length > ADDRESS_LIMIT:
            raise DmaError(f"{address:#x}+{length:#x} wraps around")

    def read_into(self, address: int, target: memoryview) -> None:
        """Fill `target`."""
        length = len(target)
        self.check(address, length)
        region = self._memory.pin(address)
        if region is not None:
            try:
                view = _inside(region, address, length)
                if view is not None:
                    target[:] = view
                    return
            finally:
                self._memory.unpin(region)
        window = self._peers.find(address)
        if window is not None and window.memory is not None:
            start = address - window.base
            if start + length <= window.size:
                target[:] = window.memory[start : start + length]
                return
        self._dma.read_into(address, target)

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes."""
        target = bytearray(length)
        self.read_into(address, memoryview(target))
        return bytes(target)

    def write(self, address: int, data: memoryview) -> bool:
        """Store bytes; True when they went to a sibling's BAR rather than to host memory."""
        length = len(data)
        self.check(address, length)
        region = self._memory.pin(address)
        if region is not None:
            try:
                view = _inside(region, address, length) if region.writable else None
                if view is not None:
                    view[:] = data
                    return False
            finally:
                self._memory.unpin(region)
        window = self._peers.find(address)
        if window is not None and window.memory is not None:
            start = address - window.base
            if start + length <= window.size:
                window.memory[start : start + length] = data
                return True
        self._dma.write(address, data)
        return window is not None

    def write_u16(self, address: int, value: int) -> None:
        """One aligned word in a single store."""
        self.write(address, memoryview(_U16.pack(value)))


def _inside(region: Region, address: int, length: int) -> memoryview | None:
    """The bytes in place, if one region has all of them and they are mapped here."""
    file, start = region.file, address - region.address
    if file is None or file.view is None or start + length > region.size:
        return None
    start += region.offset
    return file.view[start : start + length]
