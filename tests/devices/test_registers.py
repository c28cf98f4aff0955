"""Register maps: access rules, widths, layout errors, the generated table."""

from pathlib import Path

import pytest

from vfiodev.errors import ConfigError, RangeError
from vfiodev.registers import Access, Register, RegisterFile, RegisterMap
from vfiodev.template.regs import REGISTERS

RO = Register(name="RO", offset=0x0, access=Access.RO, reset=0x12345678, doc="fixed")
RW = Register(name="RW", offset=0x4, mask=0xFF, reset=0x100, doc="low byte")
W1C = Register(name="W1C", offset=0x8, access=Access.W1C, mask=0xF, reset=0xFF, doc="flags")
WO = Register(name="WO", offset=0xC, access=Access.WO, doc="door")
WIDE = Register(name="WIDE", offset=0x10, width=8, count=2, stride=0x10, doc="addresses")
NOW = Register(name="NOW", offset=0x30, access=Access.RO, volatile=True, doc="computed")


@pytest.fixture
def written() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture
def file(written: list[tuple[str, int, int]]) -> RegisterFile:
    registers = RegisterMap("test", 0x40, (RO, RW, W1C, WO, WIDE, NOW))
    return RegisterFile(
        registers,
        lambda _register, _index, _value: 77,
        lambda r, index, value: written.append((r.name, index, value)),
    )


def test_access_rules(file: RegisterFile, written: list[tuple[str, int, int]]) -> None:
    for offset in (0x0, 0x4, 0x8, 0xC):
        assert file.guest_write(offset, 4, 0x5A)
    assert [file.guest_read(offset, 4) for offset in (0x0, 0x4, 0x8, 0xC)] == [0x12345678, 0x15A, 0xF5, 0]
    assert written == [("RW", 0, 0x15A), ("W1C", 0, 0x5A), ("WO", 0, 0x5A)]
    file.reset()
    assert (file.get(RW), file.get(W1C)) == (0x100, 0xFF)


def test_halves_and_instances(file: RegisterFile, written: list[tuple[str, int, int]]) -> None:
    file.guest_write(0x20, 4, 0x11111111)
    file.guest_write(0x24, 4, 0x22222222)
    file.guest_write(0x26, 2, 0x3333)
    assert written[-1] == ("WIDE", 1, 0x3333222211111111)
    assert file.guest_read(0x20, 8) == 0x3333222211111111
    assert file.guest_read(0x23, 1) == 0x11
    assert file.get(WIDE, 1) == 0x3333222211111111
    assert file.get(WIDE, 0) == 0


def test_eight_bytes_over_two_registers(file: RegisterFile) -> None:
    file.guest_write(0x0, 8, 0x42 << 32)
    assert file.guest_read(0x0, 8) == 0x142 << 32 | 0x12345678


def test_volatile_and_holes(file: RegisterFile) -> None:
    assert file.guest_read(0x30, 4) == 77
    assert file.guest_read(0x3C, 4) is None
    assert not file.guest_write(0x3C, 4, 1)


@pytest.mark.parametrize(
    "rows",
    [
        (RO, RO),
        (RO, Register(name="X", offset=0x0, doc="")),
        (Register(name="X", offset=0x2, doc=""),),
        (Register(name="X", offset=0x4, width=8, doc=""),),
        (Register(name="X", offset=0x40, doc=""),),
        (Register(name="X", offset=0x0, width=2, doc=""),),
        (Register(name="X", offset=0x0, reset=1 << 32, doc=""),),
        (Register(name="X", offset=0x0, count=2, doc=""),),
        (Register(name="X", offset=0x0, count=17, stride=4, doc=""),),
        (WIDE, Register(name="X", offset=0x24, doc="")),
    ],
)
def test_impossible_maps(rows: tuple[Register, ...]) -> None:
    with pytest.raises((ConfigError, RangeError)):
        RegisterMap("bad", 0x40, rows)


def test_readme_shows_the_template_registers() -> None:
    text = (Path(__file__).parents[2] / "qemu-devices" / "README.md").read_text()
    assert REGISTERS.markdown() in text
