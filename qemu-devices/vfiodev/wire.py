"""Message layouts of vfio-user, and nothing else: each struct names its section of the specification
(docs/interop/vfio-user.rst in QEMU). All little-endian, sizes without the header.
"""

import struct
from enum import IntEnum
from typing import Final

from vfiodev.errors import BadMessageError


class Command(IntEnum):
    """Section "Commands"."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    GET_INFO = 4
    GET_REGION_INFO = 5
    GET_REGION_IO_FDS = 6
    GET_IRQ_INFO = 7
    SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15
    DEVICE_FEATURE = 16


# Section "Header": message id, command, size including the header, flags, error.
HEADER: Final = struct.Struct("<HHIII")
TYPE_MASK: Final = 0xF
TYPE_COMMAND: Final = 0x0
TYPE_REPLY: Final = 0x1
FLAG_NO_REPLY: Final = 0x10
FLAG_ERROR: Final = 0x20

# Section "VFIO_USER_VERSION": major, minor; JSON with a terminating NUL follows.
VERSION: Final = struct.Struct("<HH")
MAJOR: Final = 0
MINOR: Final = 0
DEFAULT_MAX_XFER: Final = 1 << 20

# Section "VFIO_USER_DMA_MAP": argsz, flags, file offset, address, size.
DMA_MAP: Final = struct.Struct("<IIQQQ")

# Section "VFIO_USER_DMA_UNMAP": argsz, flags, address, size. Flag ALL as in linux/vfio.h; QEMU sends it.
DMA_UNMAP: Final = struct.Struct("<IIQQ")
UNMAP_ALL: Final = 0x2

# Section "VFIO_USER_DEVICE_GET_INFO": argsz, flags, number of regions, number of interrupt types.
DEVICE_INFO: Final = struct.Struct("<IIII")
DEVICE_RESETS: Final = 0x1
DEVICE_IS_PCI: Final = 0x2

# Section "VFIO_USER_DEVICE_GET_REGION_INFO": argsz, flags, index, capability offset, size, mmap offset.
REGION_INFO: Final = struct.Struct("<IIIIQQ")
REGION_READABLE: Final = 0x1
REGION_WRITABLE: Final = 0x2
REGION_MMAP: Final = 0x4

# Section "VFIO_USER_DEVICE_GET_IRQ_INFO": argsz, flags, index, count.
IRQ_INFO: Final = struct.Struct("<IIII")
IRQ_EVENTFD: Final = 0x1
IRQ_MASKABLE: Final = 0x2
IRQ_AUTOMASKED: Final = 0x4
IRQ_NORESIZE: Final = 0x8

# Section "VFIO_USER_DEVICE_SET_IRQS": argsz, flags, index, start, count; one byte each for bool data.
SET_IRQS: Final = struct.Struct("<IIIII")
IRQ_DATA_NONE: Final = 0x1
IRQ_DATA_BOOL: Final = 0x2
IRQ_DATA_EVENTFD: Final = 0x4
IRQ_MASK: Final = 0x8
IRQ_UNMASK: Final = 0x10
IRQ_TRIGGER: Final = 0x20
IRQ_DATA: Final = IRQ_DATA_NONE | IRQ_DATA_BOOL | IRQ_DATA_EVENTFD
IRQ_ACTION: Final = IRQ_MASK | IRQ_UNMASK | IRQ_TRIGGER

# Sections "VFIO_USER_REGION_READ", "VFIO_USER_REGION_WRITE": offset, region, count; data follows.
REGION_ACCESS: Final = struct.Struct("<QII")

# Sections "VFIO_USER_DMA_READ", "VFIO_USER_DMA_WRITE": address, count; data follows.
DMA_ACCESS: Final = struct.Struct("<QQ")

Fields = tuple[int, ...]


def unpack(layout: struct.Struct, payload: memoryview, what: str, *, exact: bool = True) -> Fields:
    """The integers of a fixed payload; raises BadMessageError when the size is not the layout's, or, with
    `exact` off, when it is less."""
    if len(payload) < layout.size or (exact and len(payload) != layout.size):
        raise BadMessageError(f"{what}: payload of {len(payload)} bytes instead of {layout.size}")
    fields: Fields = layout.unpack_from(payload)
    return fields
