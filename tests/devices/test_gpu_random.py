"""A hostile driver: random entries, lists and register writes. The device survives, nothing else changes."""

import struct
from pathlib import Path

from gpu_rig import (
    BUSY,
    CTRL,
    ERROR,
    IDLE,
    RAM_BASE,
    RAM_SIZE,
    STATUS,
    VRAM_BASE,
    VRAM_MIB,
    EngineRig,
    Rig,
    bench_session,
    entry,
    eventually,
    ram,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfiodev.gpu.commands import ErrorCode, Opcode

VRAM_SIZE = VRAM_MIB << 20
READ_ONLY = 0x5000_0000
READ_ONLY_SIZE = 0x1000
# The lower part of guest RAM belongs to the test, the upper half is not mapped for the device.
POSTED = RAM_SIZE // 2
TOP = (1 << 64) - 1

addresses = st.one_of(
    st.integers(0, VRAM_SIZE + 64),
    st.integers(RAM_BASE - 64, RAM_BASE + POSTED + 64),
    st.integers(READ_ONLY, READ_ONLY + READ_ONLY_SIZE),
    st.integers(VRAM_BASE - 64, VRAM_BASE + VRAM_SIZE),
    st.sampled_from([0, 8, TOP, TOP - 7, 1 << 63, 0xFE00_0000, RAM_BASE + 0x1000]),
)
sizes = st.one_of(st.integers(0, 300), st.sampled_from([4096, 0x20_0000, 0x1000_0000, 0x1000_0004, TOP]))
counts = st.one_of(st.integers(0, 8), st.sampled_from([4096, 4097, 0xFFFF]))


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    """A ring entry that comes close to a good one; waits and delays end within milliseconds."""
    opcode = draw(st.sampled_from([*range(10), 0xFFFF]))
    first, second = draw(addresses), draw(st.integers(0, TOP))
    if opcode == Opcode.SEM_WAIT:
        second = draw(st.integers(1, 2_000_000))
    if opcode == Opcode.DELAY:
        first = draw(st.sampled_from([0, 1000, 2_000_000, 60_000_000_001, TOP]))
    flags = draw(st.sampled_from([0, 1, 2, 3])) | draw(st.sampled_from([0, 0, 0, 4, 0x8000]))
    for shift in (4, 6, 8):
        flags |= draw(st.sampled_from([0, 0, 1, 1, 2, 3])) << shift
    lists = draw(counts) | draw(counts) << 16
    return struct.pack(
        "<HHIQQQQQQQ",
        opcode,
        flags,
        draw(st.sampled_from([0, 1, 2, 5, 6, 0xFFFF_FFFF])),
        draw(addresses),
        draw(addresses),
        draw(sizes),
        first,
        second,
        lists,
        draw(st.integers(0, TOP)),
    )


elements = st.builds(
    lambda address, length, space: struct.pack("<QII", address, length, space),
    addresses,
    st.one_of(st.integers(0, 100), st.just(0xFFFF_FFFF)),
    st.sampled_from([0, 0, 1, 1, 2]),
)


def plug_narrow(rig: Rig) -> None:
    """Half of guest RAM, and a page that the device must not write."""
    rig.client.dma_unmap(RAM_BASE, RAM_SIZE)
    rig.client.dma_map(RAM_BASE, POSTED, rig.memory.fd)
    rig.map_more(READ_ONLY, READ_ONLY_SIZE, writable=False)


def end(unit: EngineRig) -> int:
    """IDLE, or a documented error."""
    eventually(lambda: bool(unit.read(STATUS) & (IDLE | ERROR)), "the engine ends")
    status = unit.read(STATUS)
    if status & ERROR:
        code, index, _address = unit.error() or (0, 0, 0)
        ErrorCode(code)
        assert index == unit.read(0x18)
    assert not status & BUSY
    return status


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(entries(), min_size=1, max_size=7),
    st.lists(entries(), min_size=1, max_size=7),
    st.lists(elements, max_size=16),
)
def test_random_commands(first: list[bytes], second: list[bytes], table: list[bytes]) -> None:
    with bench_session(Path("/dev/null")) as bench:
        rig, bystander = bench.add("gpu0"), bench.add("gpu1")
        bystander.write_config(0x04, 2, 0)
        plug_narrow(rig)
        rig.ram[POSTED:] = b"\xa5" * POSTED
        for at in range(0, 0x8_0000, max(16, 16 * len(table))):
            rig.ram[at : at + 16 * len(table)] = b"".join(table)
        rig.start()
        for unit, commands in zip(rig.engines, (first, second), strict=True):
            unit.submit(*commands)
        for unit in rig.engines:
            end(unit)
        assert rig.ram[POSTED:] == b"\xa5" * POSTED
        assert bytes(bystander.vram) == bytes(VRAM_SIZE)
        assert bytes(bystander.ram) == bytes(RAM_SIZE)
        for unit in rig.engines:
            unit.write(CTRL, 2)
            unit.start()
            unit.run(entry(Opcode.SEM_RELEASE, dst=ram(0x40), arg0=unit.index + 1))
            assert rig.word(0x40) == unit.index + 1


writes = st.tuples(
    st.one_of(
        st.sampled_from([0x1C, 0x20, 0x24]),
        st.builds(
            lambda engine, offset: 0x1000 + 0x100 * engine + 4 * offset, st.integers(0, 1), st.integers(0, 15)
        ),
        st.integers(0, 0xFFFF).map(lambda offset: offset & ~3),
    ),
    st.one_of(st.sampled_from([0, 1, 2, 3, 5, 12, 0x1000_1000, 0xFFFF_FFFF]), st.integers(0, 0xFFFF_FFFF)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(writes, max_size=60))
def test_random_register_writes(sequence: list[tuple[int, int]]) -> None:
    with bench_session(Path("/dev/null")) as bench:
        rig = bench.add()
        rig.start()
        for offset, value in sequence:
            rig.write(offset, value)
            rig.read(offset)
        rig.write(0x1C, 2)
        rig.start()
        for unit in rig.engines:
            unit.run(entry(Opcode.SEM_RELEASE, dst=ram(0x40), arg0=9))
        assert rig.word(0x40) == 9
