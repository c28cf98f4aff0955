"""The PCI function around a model: config space, BARs, and what a region access of the client does with them.

Region numbers are vfio's: 0 to 5 the BARs, 6 ROM, 7 config space (`enum` in linux/vfio.h).
"""

import contextlib
import errno
import mmap
import os
from dataclasses import dataclass
from typing import Final

from vfiodev.errors import BadMessageError, ConfigError
from vfiodev.msix import MsixTable
from vfiodev.pci import NUM_BARS, BarShape, Identity, MsixLayout, PciConfig, pba_bytes
from vfiodev.peers import PeerMap, Window
from vfiodev.ranges import ADDRESS_LIMIT, check_range, contains, is_aligned, overlaps
from vfiodev.registers import ReadHook, RegisterFile, RegisterMap, WriteHook

CONFIG_REGION: Final = 7
NUM_REGIONS: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A BAR. With `registers`, accesses are trapped and follow the map; without, it is memory shared with
    the guest (a memfd that QEMU maps), and the model never learns of accesses."""

    index: int
    size: int
    registers: RegisterMap | None = None
    is_64bit: bool = True
    prefetchable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupts:
    """Which kinds of interrupts config space offers."""

    msix: MsixLayout | None = None
    msi_vectors: int = 0
    msix_table: MsixTable | None = None
    has_intx: bool = False


class BarMemory:
    """The bytes of a memory BAR: a memfd, sealed in its size, mapped here and by the client."""

    def __init__(self, name: str, size: int) -> None:
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        self._map = mmap.mmap(self.fd, size)
        self.view = memoryview(self._map)
        self._size = size

    def clear(self) -> None:
        """All zero, by giving the pages back."""
        if not self._map.closed:
            self._map.madvise(mmap.MADV_REMOVE)

    def fill_ones(self) -> None:
        """All ones: what is left of memory when a device is gone."""
        ones = b"\xff" * min(self._size, 1 << 20)
        for at in range(0, self._size, len(ones)):
            self.view[at : at + len(ones)] = ones

    def close(self) -> None:
        """Unmap and close; a model's own slices keep the mapping alive as long as they live."""
        os.close(self.fd)
        with contextlib.suppress(BufferError):
            self.view.release()
            self._map.close()


class PciFunction:
    """Config space and BARs of one device. Not locked: the caller holds the device's lock."""

    def __init__(
        self,
        name: str,
        identity: Identity,
        bars: tuple[Bar, ...],
        interrupts: Interrupts,
        hooks: tuple[ReadHook, WriteHook],
    ) -> None:
        self._name = name
        self.bars = {bar.index: bar for bar in bars}
        self.shapes = {
            bar.index: BarShape(
                index=bar.index, size=bar.size, is_64bit=bar.is_64bit, prefetchable=bar.prefetchable
            )
            for bar in bars
        }
        self._msix = interrupts.msix
        self._own_table: tuple[int, int, MsixTable] | None = None
        if interrupts.msix is not None and interrupts.msix_table is not None:
            self._own_table = (interrupts.msix.bar, interrupts.msix.table, interrupts.msix_table)
        self.config = PciConfig(
            identity,
            tuple(self.shapes.values()),
            interrupts.msix,
            1 if interrupts.has_intx else 0,
            interrupts.msi_vectors,
        )
        self.registers: dict[int, RegisterFile] = {}
        self.memory: dict[int, BarMemory] = {}
        self._check_msix()
        for bar in bars:
            if bar.registers is None:
                self.memory[bar.index] = BarMemory(f"{name}-bar{bar.index}", bar.size)
            else:
                self.registers[bar.index] = RegisterFile(bar.registers, *hooks)

    def region_size(self, index: int) -> int:
        """The size of a region, 0 for one that does not exist; raises BadMessageError beyond the last."""
        if not 0 <= index < NUM_REGIONS:
            raise BadMessageError(f"region {index} does not exist")
        if index == CONFIG_REGION:
            return len(self.config.data)
        bar = self.bars.get(index) if index < NUM_BARS else None
        return bar.size if bar else 0

    def windows(self) -> tuple[Window, ...]:
        """The BARs that decode now, for the address map of the host."""
        if not self.config.memory_enabled:
            return ()
        made = []
        for shape in self.shapes.values():
            base = self.config.bar_address(shape)
            if base and base + shape.size <= ADDRESS_LIMIT:
                memory = self.memory.get(shape.index)
                view = memory.view if memory else None
                made.append(
                    Window(device=self._name, bar=shape.index, base=base, size=shape.size, memory=view)
                )
        return tuple(made)

    def publish(self, peers: PeerMap, *, present: bool = True) -> None:
        """Put the windows into the host's address map."""
        peers.replace(self._name, self.windows() if present else ())

    def read_bar(self, index: int, offset: int, count: int, pending: int) -> bytes:
        """A read of a BAR by message; `pending` are the pending MSI-X bits. The range was checked."""
        memory = self.memory.get(index)
        if memory is not None:
            return bytes(memory.view[offset : offset + count])
        msix = self._msix
        if msix is not None and msix.bar == index:
            size = pba_bytes(msix.vectors)
            if contains(msix.pba, size, offset, count):
                start = offset - msix.pba
                return pending.to_bytes(size, "little")[start : start + count]
            if self._own_table is not None and contains(msix.table, self._own_table[2].size, offset, count):
                return self._own_table[2].read(offset - msix.table, count)
        return self._read_registers(self.registers[index], offset, count)

    def write_bar(self, index: int, offset: int, data: bytes | memoryview) -> None:
        """A write to a BAR by message. The range was checked."""
        memory = self.memory.get(index)
        if memory is not None:
            memory.view[offset : offset + len(data)] = data
            return
        if self._own_table is not None:
            bar, start, table = self._own_table
            if bar == index and contains(start, table.size, offset, len(data)):
                table.write(offset - start, data)
                return
        file = self.registers[index]
        done = 0
        while done < len(data):
            size = _piece(offset + done, len(data) - done)
            file.guest_write(offset + done, size, int.from_bytes(data[done : done + size], "little"))
            done += size

    def reset(self, *, power_on: bool) -> None:
        """Config space and registers get their reset values; BAR memory is cleared by power-on only."""
        self.config.reset(keep_bars=not power_on)
        for file in self.registers.values():
            file.reset()
        if power_on:
            for memory in self.memory.values():
                memory.clear()

    def close(self) -> None:
        """Release BAR memory."""
        for memory in self.memory.values():
            memory.close()

    @staticmethod
    def _read_registers(file: RegisterFile, offset: int, count: int) -> bytes:
        made = bytearray()
        while len(made) < count:
            size = _piece(offset + len(made), count - len(made))
            made += (file.guest_read(offset + len(made), size) or 0).to_bytes(size, "little")
        return bytes(made)

    def _check_msix(self) -> None:
        msix = self._msix
        if msix is None:
            return
        registers = self.bars[msix.bar].registers
        if registers is None:
            raise ConfigError("MSI-X table and pending bits must lie in a BAR of registers, not of memory")
        areas = ((msix.table, msix.vectors * 16), (msix.pba, pba_bytes(msix.vectors)))
        for slot in registers.slots():
            if any(overlaps(slot.base, slot.width, start, size) for start, size in areas):
                raise ConfigError(f"register '{slot.register.name}' overlaps the MSI-X table or pending bits")


def _piece(offset: int, left: int) -> int:
    """The largest aligned access of 1, 2, 4 or 8 bytes at `offset` that does not exceed `left`."""
    for size in (8, 4, 2):
        if left >= size and is_aligned(offset, size):
            return size
    return 1


def check_access(offset: int, count: int, size: int, index: int) -> None:
    """Raise for an access outside a region; a region that does not exist has size 0."""
    if not size:
        raise BadMessageError(f"region {index} does not exist", errno.ENOENT)
    check_range(offset, count, size, f"region {index}")
