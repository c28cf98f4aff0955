"""PCI config space of one function: header, capability list, what the guest may write and what that causes.

Sources: PCI Local Bus 3.0 chapter 6 and 6.8.2 (MSI-X); PCI Bus Power Management 1.2 chapter 3; PCI Express
Base 4.0 7.5 (express capability) and 6.6.2 (function-level reset). Names as in Linux'
include/uapi/linux/pci_regs.h.
"""

from dataclasses import dataclass
from enum import Flag, auto
from typing import Final

from vfiodev.errors import ConfigError
from vfiodev.ranges import PAGE, check_range, is_aligned, is_power_of_two

CONFIG_SIZE: Final = 4096
NUM_BARS: Final = 6
COMMAND: Final = 0x04
COMMAND_MEMORY: Final = 0x0002
COMMAND_MASTER: Final = 0x0004
COMMAND_WRITABLE: Final = 0x0547
STATUS: Final = 0x06
STATUS_CAP_LIST: Final = 0x0010
BAR0: Final = 0x10
CAP_POINTER: Final = 0x34
INTERRUPT_LINE: Final = 0x3C
CAP_PM: Final = 0x01
CAP_EXPRESS: Final = 0x10
CAP_MSI: Final = 0x05
CAP_MSIX: Final = 0x11
PM_AT: Final = 0x40
EXPRESS_AT: Final = 0x48
MSIX_AT: Final = 0x84
MSI_AT: Final = 0x90
VENDOR_AT: Final = 0xA0
CAP_VENDOR: Final = 0x09
DEVCTL_FLR: Final = 0x8000
MSIX_ENTRY: Final = 16
MAX_VECTORS: Final = 2048
MSIX_BYTES: Final = 12
_DISGUISE: Final = bytes((0x09, 0, MSIX_BYTES)) + bytes(MSIX_BYTES - 3)
MAX_MSI_VECTORS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the function says it is. `class_code` is 24 bits: base class, subclass, programming interface."""

    vendor: int
    device: int
    class_code: int
    subsystem_vendor: int = 0
    subsystem: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MsixLayout:
    """Where the MSI-X table and the pending bits lie: a BAR of registers, which keeps that space free for
    them."""

    vectors: int
    bar: int
    table: int
    pba: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BarShape:
    """What config space must know of a BAR. 64-bit BARs take two slots."""

    index: int
    size: int
    is_64bit: bool = True
    prefetchable: bool = False


class Effect(Flag):
    """What a config write caused."""

    NONE = 0
    DECODE = auto()
    MASTER = auto()
    FLR = auto()


class PciConfig:
    """4096 bytes of config space, with a mask of the bits that the guest can write. Not locked."""

    def __init__(
        self,
        identity: Identity,
        bars: tuple[BarShape, ...],
        msix: MsixLayout | None,
        interrupt_pin: int = 0,
        msi_vectors: int = 0,
    ) -> None:
        """`msi_vectors` is a power of two, 0 for no MSI capability. Raise ConfigError when the BARs or the
        MSI-X layout are impossible."""
        self._bars = bars
        self._msix = msix
        self.msix_disguised = False
        self._msi_vectors = msi_vectors
        self.data = bytearray(CONFIG_SIZE)
        self._writable = bytearray(CONFIG_SIZE)
        self._check_bars()
        self._build_header(identity, interrupt_pin)
        self._build_bars()
        self._build_capabilities()
        self._vendor_end = VENDOR_AT
        self._reset_image = bytes(self.data)

    def add_vendor_capability(self, body: bytes, writable: bytes = b"") -> int:
        """Put a vendor-specific capability in front of the others; where it lies.

        `body` follows the bytes for id, next and length; `writable` masks the bits of it that the guest can
        write. Raise ConfigError when there is no room. Only while no client is connected.
        """
        at, length = self._vendor_end, 3 + len(body)
        if at + length > 0x100:
            raise ConfigError("no room is left for another vendor capability")
        self._put(at, CAP_VENDOR, 1)
        self._put(at + 1, self.data[CAP_POINTER], 1)
        self._put(at + 2, length, 1)
        self.data[at + 3 : at + length] = body
        self._writable[at + 3 : at + 3 + len(writable)] = writable
        self._put(CAP_POINTER, at, 1)
        self._vendor_end = at + (length + 3 & ~3)
        self._reset_image = bytes(self.data)
        return at

    @property
    def bus_master(self) -> bool:
        """The function may do DMA and send MSIs."""
        return bool(self.data[COMMAND] & COMMAND_MASTER)

    @property
    def memory_enabled(self) -> bool:
        """The function answers to its memory BARs."""
        return bool(self.data[COMMAND] & COMMAND_MEMORY)

    def bar_address(self, shape: BarShape) -> int:
        """The address that the guest wrote into a BAR, 0 when none."""
        at = BAR0 + 4 * shape.index
        width = 8 if shape.is_64bit else 4
        return int.from_bytes(self.data[at : at + width], "little") & ~0xF

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes; raises RangeError."""
        end = check_range(offset, count, CONFIG_SIZE, "config space")
        if not self.msix_disguised:
            return bytes(self.data[offset:end])
        shown = bytearray(self.data)
        shown[MSIX_AT : MSIX_AT + MSIX_BYTES] = _DISGUISE
        return bytes(shown[offset:end])

    @property
    def msix_control(self) -> int:
        """The message control word of the MSI-X capability."""
        return int.from_bytes(self.data[MSIX_AT + 2 : MSIX_AT + 4], "little")

    def write(self, offset: int, data: bytes | memoryview) -> Effect:
        """Store what is writable; raises RangeError. FLR is not carried out here: the caller does, see
        `flr`."""
        check_range(offset, len(data), CONFIG_SIZE, "config space")
        command = self.data[COMMAND]
        touches_bars = offset < BAR0 + 4 * NUM_BARS and offset + len(data) > BAR0
        for at, value in enumerate(data, offset):
            mask = self._writable[at]
            self.data[at] = (self.data[at] & ~mask) | (value & mask)
        changed = command ^ self.data[COMMAND]
        effect = Effect.NONE
        if touches_bars or changed & COMMAND_MEMORY:
            effect |= Effect.DECODE
        if changed & COMMAND_MASTER:
            effect |= Effect.MASTER
        if self._wants_flr(offset, data):
            effect |= Effect.FLR
        return effect

    def reset(self, *, keep_bars: bool) -> None:
        """Power-on contents. With `keep_bars`, BAR addresses stay: QEMU keeps its own copy of them across a
        guest's FLR, and a guest that reads them back unchanged does not write them again."""
        bars = bytes(self.data[BAR0 : BAR0 + 4 * NUM_BARS])
        self.data[:] = self._reset_image
        if keep_bars:
            self.data[BAR0 : BAR0 + 4 * NUM_BARS] = bars

    def _wants_flr(self, offset: int, data: bytes | memoryview) -> bool:
        high = EXPRESS_AT + 9 - offset
        return 0 <= high < len(data) and bool(data[high] & (DEVCTL_FLR >> 8))

    def _put(self, at: int, value: int, width: int, writable: int = 0) -> None:
        self.data[at : at + width] = value.to_bytes(width, "little")
        self._writable[at : at + width] = writable.to_bytes(width, "little")

    def _check_bars(self) -> None:
        used: set[int] = set()
        for shape in self._bars:
            slots = {shape.index, shape.index + 1} if shape.is_64bit else {shape.index}
            if shape.index < 0 or max(slots) >= NUM_BARS or slots & used:
                raise ConfigError(
                    f"BAR {shape.index} does not fit: 64-bit BARs take two of the {NUM_BARS} slots"
                )
            used |= slots
            if not is_power_of_two(shape.size) or shape.size < PAGE or shape.size >= 1 << 48:
                raise ConfigError(
                    f"BAR {shape.index}: size {shape.size:#x} is not a power of two of 4 KiB or more"
                )
            if not shape.is_64bit and shape.size >= 1 << 31:
                raise ConfigError(f"BAR {shape.index}: {shape.size:#x} bytes need a 64-bit BAR")

    def _build_header(self, identity: Identity, interrupt_pin: int) -> None:
        self._put(0x00, identity.vendor, 2)
        self._put(0x02, identity.device, 2)
        self._put(COMMAND, 0, 2, COMMAND_WRITABLE)
        self._put(STATUS, STATUS_CAP_LIST, 2)
        self._put(0x08, identity.revision, 1)
        self._put(0x09, identity.class_code, 3)
        self._put(0x0C, 0, 1, 0xFF)
        self._put(0x2C, identity.subsystem_vendor, 2)
        self._put(0x2E, identity.subsystem, 2)
        self._put(CAP_POINTER, PM_AT, 1)
        self._put(INTERRUPT_LINE, 0, 1, 0xFF)
        self._put(INTERRUPT_LINE + 1, interrupt_pin, 1)

    def _build_bars(self) -> None:
        for shape in self._bars:
            flags = (0x4 if shape.is_64bit else 0) | (0x8 if shape.prefetchable else 0)
            width = 8 if shape.is_64bit else 4
            limit = 1 << (8 * width)
            self._put(BAR0 + 4 * shape.index, flags, width, limit - shape.size)

    def _build_capabilities(self) -> None:
        self._put(PM_AT, CAP_PM, 1)
        self._put(PM_AT + 1, EXPRESS_AT, 1)
        self._put(PM_AT + 2, 0x0003, 2)
        self._put(PM_AT + 4, 0x0008, 2, 0x0003)
        self._put(EXPRESS_AT, CAP_EXPRESS, 1)
        self._put(EXPRESS_AT + 1, MSIX_AT if self._msix else MSI_AT if self._msi_vectors else 0, 1)
        self._put(EXPRESS_AT + 2, 0x0002, 2)
        self._put(EXPRESS_AT + 4, 0x10008022, 4)
        self._put(EXPRESS_AT + 8, 0x2810, 2, 0x7FFF)
        self._put(EXPRESS_AT + 12, 0x00400011, 4)
        self._put(EXPRESS_AT + 16, 0, 2, 0x0FFB)
        self._put(EXPRESS_AT + 18, 0x1011, 2)
        self._put(EXPRESS_AT + 36, 0x00000010, 4)
        self._put(EXPRESS_AT + 40, 0, 2, 0x001F)
        self._put(EXPRESS_AT + 44, 0x00000002, 4)
        self._put(EXPRESS_AT + 48, 0x0001, 2)
        if self._msix:
            self._build_msix(self._msix)
            self._put(MSIX_AT + 1, MSI_AT if self._msi_vectors else 0, 1)
        if self._msi_vectors:
            self._build_msi(self._msi_vectors)

    def _build_msi(self, vectors: int) -> None:
        if not is_power_of_two(vectors) or vectors > MAX_MSI_VECTORS:
            raise ConfigError(f"{vectors} MSI vectors are not a power of two up to {MAX_MSI_VECTORS}")
        self._put(MSI_AT, CAP_MSI, 1)
        self._put(MSI_AT + 2, 0x0080 | (vectors.bit_length() - 1) << 1, 2, 0x0071)
        self._put(MSI_AT + 4, 0, 8, 0xFFFFFFFF_FFFFFFFC)
        self._put(MSI_AT + 12, 0, 2, 0xFFFF)

    def _build_msix(self, msix: MsixLayout) -> None:
        shape = next((shape for shape in self._bars if shape.index == msix.bar), None)
        if shape is None:
            raise ConfigError(f"MSI-X lies in BAR {msix.bar}, which does not exist")
        if not 1 <= msix.vectors <= MAX_VECTORS:
            raise ConfigError(f"{msix.vectors} MSI-X vectors are not between 1 and {MAX_VECTORS}")
        for name, at in (("table", msix.table), ("pending bits", msix.pba)):
            if not is_aligned(at, 8):
                raise ConfigError(f"MSI-X {name} at {at:#x} are not 8-byte aligned")
        check_range(msix.table, msix.vectors * MSIX_ENTRY, shape.size, "MSI-X table")
        check_range(msix.pba, pba_bytes(msix.vectors), shape.size, "MSI-X pending bits")
        self._put(MSIX_AT, CAP_MSIX, 1)
        self._put(MSIX_AT + 2, msix.vectors - 1, 2, 0xC000)
        self._put(MSIX_AT + 4, msix.table | msix.bar, 4)
        self._put(MSIX_AT + 8, msix.pba | msix.bar, 4)


def pba_bytes(vectors: int) -> int:
    """The size of the pending bit array: 64 bits at a time."""
    return (vectors + 63) // 64 * 8
