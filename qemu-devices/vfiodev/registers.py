"""Declarative register maps: from a table of `Register` rows to a `RegisterFile` that holds values.

A model declares one `RegisterMap` per trapped BAR. The same rows give the behaviour (access rules, reset
values) and the documentation (`RegisterMap.markdown`), so that the two cannot disagree.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from vfiodev.errors import ConfigError
from vfiodev.ranges import check_range, is_aligned


class Access(Enum):
    """What a guest may do with a register."""

    RO = "RO"
    RW = "RW"
    W1C = "W1C"
    WO = "WO"


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """One row of a register map.

    offset   byte offset in the BAR, aligned to `width`
    width    4 or 8 bytes
    access   RO: writes are dropped. RW: stored. W1C: bits written as 1 are cleared. WO: reads as 0, the
             value written goes to `Device.register_written` and is not stored.
    reset    value after every kind of reset
    mask     bits that a guest can write (RW) or clear (W1C); the others keep their value
    count    instances, `stride` bytes apart (per engine, per queue); the hooks get the instance as `index`
    volatile reads go through `Device.register_read`, which computes the value
    """

    name: str
    offset: int
    doc: str
    width: int = 4
    access: Access = Access.RW
    reset: int = 0
    mask: int = (1 << 64) - 1
    count: int = 1
    stride: int = 0
    volatile: bool = False


class Slot:
    """One instance of a register in a file: mutable, made once, so that an access allocates nothing."""

    __slots__ = ("base", "index", "register", "size_mask", "value", "width", "writable")

    def __init__(self, register: Register, index: int) -> None:
        self.register = register
        self.index = index
        self.base = register.offset + index * register.stride
        self.width = register.width
        self.size_mask = (1 << (8 * register.width)) - 1
        self.writable = register.mask & self.size_mask
        self.value = register.reset


class RegisterMap:
    """A checked, immutable list of registers that fit into `size` bytes without overlap."""

    def __init__(self, name: str, size: int, registers: Sequence[Register]) -> None:
        """Raise ConfigError for rows that overlap, are misaligned, reach beyond `size` or share a name."""
        self.name = name
        self.size = size
        self.registers = tuple(registers)
        taken: dict[int, str] = {}
        names: set[str] = set()
        for register in registers:
            if register.name in names:
                raise ConfigError(f"register map '{name}': register '{register.name}' is declared twice")
            names.add(register.name)
            self._check(register, taken)

    def _check(self, register: Register, taken: dict[int, str]) -> None:
        where = f"register map '{self.name}': register '{register.name}'"
        if register.width not in (4, 8):
            raise ConfigError(f"{where} is {register.width} bytes wide, only 4 and 8 are possible")
        if register.reset >> (8 * register.width):
            raise ConfigError(f"{where}: reset value {register.reset:#x} is wider than the register")
        if register.count < 1 or (register.count > 1 and register.stride < register.width):
            raise ConfigError(f"{where}: {register.count} instances need a stride of at least the width")
        for index in range(register.count):
            base = register.offset + index * register.stride
            if not is_aligned(base, register.width):
                raise ConfigError(f"{where} at {base:#x} is not aligned to its width")
            check_range(base, register.width, self.size, where)
            for byte in range(base, base + register.width, 4):
                if byte in taken:
                    raise ConfigError(f"{where} at {base:#x} overlaps register '{taken[byte]}'")
                taken[byte] = register.name

    def slots(self) -> Iterator[Slot]:
        """Fresh slots holding reset values, in address order."""
        made = [Slot(register, index) for register in self.registers for index in range(register.count)]
        return iter(sorted(made, key=lambda slot: slot.base))

    def markdown(self) -> str:
        """The map as a Markdown table, for a device's document; tests compare it with the file."""
        rows = ["| offset | name | width | access | reset | meaning |", "|---|---|---|---|---|---|"]
        for register in sorted(self.registers, key=lambda register: register.offset):
            place = f"`{register.offset:#06x}`"
            if register.count > 1:
                place += f" + n * `{register.stride:#x}`, n < {register.count}"
            rows.append(
                f"| {place} | `{register.name}` | {register.width} | {register.access.value} "
                f"| `{register.reset:#x}` | {register.doc} |"
            )
        return "\n".join(rows) + "\n"


ReadHook = Callable[[Register, int, int], int]
WriteHook = Callable[[Register, int, int], None]


class RegisterFile:
    """The values of one register map in one device.

    The guest's accesses come in by `guest_read` and `guest_write`, which follow the access rules and call
    the hooks; the model itself uses `get`, `set`, `set_bits` and `clear_bits`, which do neither. Not locked:
    the caller holds the device's lock.
    """

    def __init__(self, registers: RegisterMap, on_read: ReadHook, on_write: WriteHook) -> None:
        self.map = registers
        self._on_read = on_read
        self._on_write = on_write
        self._slots: dict[tuple[str, int], Slot] = {}
        self._by_word: dict[int, Slot] = {}
        for slot in registers.slots():
            self._slots[slot.register.name, slot.index] = slot
            for word in range(slot.base, slot.base + slot.width, 4):
                self._by_word[word] = slot

    def reset(self) -> None:
        """Give every register its reset value; no hooks."""
        for slot in self._slots.values():
            slot.value = slot.register.reset

    def get(self, register: Register, index: int = 0) -> int:
        """The stored value."""
        return self._slots[register.name, index].value

    def set(self, register: Register, value: int, index: int = 0) -> None:
        """Store a value, cut to the register's width."""
        slot = self._slots[register.name, index]
        slot.value = value & slot.size_mask

    def set_bits(self, register: Register, bits: int, index: int = 0) -> int:
        """Set bits; return the new value."""
        slot = self._slots[register.name, index]
        slot.value |= bits & slot.size_mask
        return slot.value

    def clear_bits(self, register: Register, bits: int, index: int = 0) -> int:
        """Clear bits; return the new value."""
        slot = self._slots[register.name, index]
        slot.value &= ~bits
        return slot.value

    def guest_read(self, offset: int, size: int) -> int | None:
        """A guest's load of `size` (1, 2, 4 or 8) bytes, aligned. None when no register lies there."""
        slot = self._by_word.get(offset & ~3)
        if slot is None:
            return None
        register = slot.register
        if register.access is Access.WO:
            value = 0
        elif register.volatile:
            value = self._on_read(register, slot.index, slot.value) & slot.size_mask
        else:
            value = slot.value
        shift = (offset - slot.base) * 8
        value = (value >> shift) & ((1 << (8 * size)) - 1)
        if size == 8 and slot.width == 4:
            value |= (self.guest_read(offset + 4, 4) or 0) << 32
        return value

    def guest_write(self, offset: int, size: int, value: int) -> bool:
        """A guest's store of `size` (1, 2, 4 or 8) bytes, aligned. False when no register lies there."""
        slot = self._by_word.get(offset & ~3)
        if slot is None:
            return False
        if size == 8 and slot.width == 4:
            self.guest_write(offset, 4, value & 0xFFFFFFFF)
            self.guest_write(offset + 4, 4, value >> 32)
            return True
        shift = (offset - slot.base) * 8
        lanes = ((1 << (8 * size)) - 1) << shift
        self._store(slot, value << shift, lanes)
        return True

    def _store(self, slot: Slot, value: int, lanes: int) -> None:
        register = slot.register
        access = register.access
        if access is Access.RO:
            return
        writable = slot.writable & lanes
        if access is Access.W1C:
            slot.value &= ~(value & writable)
        elif access is Access.WO:
            value &= writable
        else:
            value = slot.value = (slot.value & ~writable) | (value & writable)
        self._on_write(register, slot.index, value)
