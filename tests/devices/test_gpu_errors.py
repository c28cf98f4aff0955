"""Each error of section 5: code, index, address, interrupt, and that the engine stops and others go on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gpu_rig import (
    BUSY,
    CTRL,
    FENCED,
    GPU_STATUS,
    HEAD,
    INTR_STATUS,
    IRQ,
    RAM_BASE,
    RAM_SIZE,
    STATUS,
    VRAM_MIB,
    Place,
    Rig,
    bench_session,
    entry,
    eventually,
    listed,
    ram,
    vram,
)

from vfiodev.gpu.commands import ErrorCode, Opcode

MAX_TRANSFER = 0x1000_0000
VRAM_SIZE = VRAM_MIB << 20
LIST = 0x10_0000
TOP = (1 << 64) - 8
UNMAPPED = Place(space=1, address=0x6000_0000)
END = RAM_BASE + RAM_SIZE


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with bench_session(tmp_path / "trace.jsonl") as bench:
        rig = bench.add()
        rig.start()
        yield rig


def system(address: int) -> Place:
    return Place(space=1, address=address)


def fill(dst: Place, size: int = 64) -> bytes:
    return entry(Opcode.FILL, dst=dst, size=size)


CASES = {
    "opcode 9": (entry(9), ErrorCode.BAD_OPCODE, 0),
    "opcode 65535": (entry(0xFFFF), ErrorCode.BAD_OPCODE, 0),
    "vector on the copy engine": (entry(Opcode.VECTOR), ErrorCode.BAD_OPCODE, 0),
    "flag 2": (entry(Opcode.NOP, flags=1 << 2), ErrorCode.BAD_FLAGS, 0),
    "flag 15": (entry(Opcode.NOP, flags=1 << 15), ErrorCode.BAD_FLAGS, 0),
    "space 3": (fill(Place(space=3, address=0)), ErrorCode.BAD_FLAGS, 0),
    "source of a fill": (entry(Opcode.FILL, src=ram(0)), ErrorCode.BAD_FLAGS, 0),
    "space of a nop": (entry(Opcode.NOP, dst=ram(0)), ErrorCode.BAD_FLAGS, 0),
    "second source of a copy": (entry(Opcode.COPY, src2=ram(0)), ErrorCode.BAD_FLAGS, 0),
    "list for a semaphore": (entry(Opcode.SEM_RELEASE, dst=listed(0, 1)), ErrorCode.BAD_FLAGS, 0),
    "unaligned semaphore": (entry(Opcode.SEM_RELEASE, dst=vram(4)), ErrorCode.BAD_FLAGS, 4),
    "unaligned wait": (entry(Opcode.SEM_WAIT, dst=ram(1)), ErrorCode.BAD_FLAGS, RAM_BASE + 1),
    "unaligned timestamp": (entry(Opcode.TIMESTAMP, dst=vram(1)), ErrorCode.BAD_FLAGS, 1),
    "unaligned checksum": (entry(Opcode.CHECKSUM, dst=vram(12)), ErrorCode.BAD_FLAGS, 12),
    "comparison 3": (entry(Opcode.SEM_WAIT, arg32=3), ErrorCode.BAD_FLAGS, 0),
    "fill of 6 bytes": (fill(vram(0), 6), ErrorCode.BAD_SIZE, 0),
    "fill over the limit": (fill(vram(0), MAX_TRANSFER + 4), ErrorCode.BAD_SIZE, 0),
    "copy of 2^64-1 bytes": (entry(Opcode.COPY, size=(1 << 64) - 1), ErrorCode.BAD_SIZE, 0),
    "delay of more than 60 s": (entry(Opcode.DELAY, arg0=60_000_000_001), ErrorCode.BAD_SIZE, 0),
    "empty list": (fill(listed(LIST, 0), 0), ErrorCode.BAD_SIZE, 0),
    "list of 4097": (fill(listed(LIST, 4097), 0), ErrorCode.BAD_SIZE, 0),
    "fill behind VRAM": (fill(vram(VRAM_SIZE)), ErrorCode.VRAM_RANGE, VRAM_SIZE),
    "fill across the end": (fill(vram(VRAM_SIZE - 4)), ErrorCode.VRAM_RANGE, VRAM_SIZE),
    "fill at 2^64-8": (fill(vram(TOP)), ErrorCode.VRAM_RANGE, TOP),
    "copy from behind VRAM": (entry(Opcode.COPY, src=vram(1 << 40), size=1), ErrorCode.VRAM_RANGE, 1 << 40),
    "semaphore behind VRAM": (
        entry(Opcode.SEM_WAIT, dst=vram(VRAM_SIZE)),
        ErrorCode.VRAM_RANGE,
        VRAM_SIZE,
    ),
    "checksum to behind VRAM": (
        entry(Opcode.CHECKSUM, dst=vram(VRAM_SIZE)),
        ErrorCode.VRAM_RANGE,
        VRAM_SIZE,
    ),
    "fill of nothing": (fill(UNMAPPED), ErrorCode.DMA_FAULT, UNMAPPED.address),
    "copy from nothing": (entry(Opcode.COPY, src=UNMAPPED, size=1), ErrorCode.DMA_FAULT, UNMAPPED.address),
    "fill at 2^64-8 of the bus": (fill(system(TOP)), ErrorCode.DMA_FAULT, TOP),
    "wait on nothing": (entry(Opcode.SEM_WAIT, dst=UNMAPPED), ErrorCode.DMA_FAULT, UNMAPPED.address),
    "release of nothing": (entry(Opcode.SEM_RELEASE, dst=UNMAPPED), ErrorCode.DMA_FAULT, UNMAPPED.address),
    "timestamp to 2^64-8": (entry(Opcode.TIMESTAMP, dst=system(TOP)), ErrorCode.DMA_FAULT, TOP),
    "list in nothing": (fill(Place(space=2, address=0x6000_0000, count=1)), ErrorCode.DMA_FAULT, 0x6000_0000),
    "list at 2^64-8": (fill(Place(space=2, address=TOP, count=4096)), ErrorCode.DMA_FAULT, TOP),
    "registers of the GPU": (fill(system(0xFE00_0000)), ErrorCode.DMA_FAULT, 0xFE00_0000),
    "timeout": (entry(Opcode.SEM_WAIT, dst=vram(8), arg0=1, arg1=1000), ErrorCode.SEM_TIMEOUT, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_error(rig: Rig, case: str) -> None:
    bad, code, address = CASES[case]
    unit, other = rig.engines
    good = entry(Opcode.NOP, flags=FENCED | IRQ, seq=1)
    unit.submit(good, bad, entry(Opcode.NOP, flags=FENCED | IRQ, seq=3))
    assert unit.wait_error() == (code, 1, address)
    rig.wait_irqs(0, 1)
    assert unit.read(HEAD) == 1
    assert not unit.read(STATUS) & BUSY
    assert unit.fence == 1
    assert rig.read(GPU_STATUS) == 3
    assert rig.read(INTR_STATUS) == 1 << 16 | 1 << 8
    assert (rig.taken_irqs(1), rig.stat("errors"), rig.stat("engine0.commands")) == (1, 1, 1)
    unit.ring_doorbell()
    other.run(good)
    assert unit.read(HEAD) == 1
    unit.write(CTRL, 2)
    unit.start()
    unit.run(good)
    assert rig.read(GPU_STATUS) == 1


@pytest.mark.parametrize(
    ("parts", "size", "code", "address"),
    [
        ([(vram(0), 4), (vram(8), 4)], 12, ErrorCode.BAD_SIZE, RAM_BASE + LIST),
        ([(vram(0), 0xFFFF_FFFF)] * 2, 8, ErrorCode.BAD_SIZE, RAM_BASE + LIST),
        ([(vram(0), 4), (Place(space=2, address=0), 4)], 8, ErrorCode.BAD_FLAGS, RAM_BASE + LIST + 16),
        ([(vram(0), 4), (vram(VRAM_SIZE - 2), 4)], 8, ErrorCode.VRAM_RANGE, VRAM_SIZE),
        ([(vram(0), 4), (system(TOP + 6), 4)], 8, ErrorCode.DMA_FAULT, TOP + 6),
    ],
)
def test_bad_lists_are_found_before_anything_is_written(
    rig: Rig, parts: list[tuple[Place, int]], size: int, code: ErrorCode, address: int
) -> None:
    target = rig.put_list(LIST, parts)
    rig.engines[0].submit(entry(Opcode.FILL, dst=target, size=size, arg32=0xFFFF_FFFF))
    assert rig.engines[0].wait_error() == (code, 0, address)
    assert bytes(rig.vram[0:16]) == bytes(16)


def test_a_fault_on_the_bus_ends_a_command_midway(rig: Rig) -> None:
    rig.engines[0].submit(fill(system(END - 0x1000), 0x2000))
    code, _index, address = rig.engines[0].wait_error()
    assert code == ErrorCode.DMA_FAULT
    assert END - 0x1000 <= address <= END


def test_a_ring_in_nothing(rig: Rig) -> None:
    unit = rig.engines[0]
    unit.write(CTRL, 0)
    unit.write64(0x10, 0x6000_0000)
    unit.write(CTRL, 1)
    unit.ring_doorbell()
    unit.write(0x1C, 1)
    assert unit.wait_error() == (ErrorCode.DMA_FAULT, 0, 0x6000_0000)


def test_a_fence_to_nothing(rig: Rig) -> None:
    unit = rig.engines[0]
    unit.write(CTRL, 0)
    unit.write64(0x20, 0x6000_0000)
    unit.write(CTRL, 1)
    unit.submit(entry(Opcode.FILL, dst=ram(0), size=8, arg32=7, flags=FENCED | IRQ, seq=5))
    assert unit.wait_error() == (ErrorCode.DMA_FAULT, 0, 0x6000_0000)
    assert rig.word(0) == 7 << 32 | 7
    assert unit.read64(0x28) == 0
    assert rig.taken_irqs(1) == 0


def test_without_bus_mastering_every_access_faults(rig: Rig) -> None:
    rig.write_config(0x04, 2, 0x2)
    unit = rig.engines[0]
    unit.submit(entry(Opcode.NOP))
    assert unit.wait_error() == (ErrorCode.DMA_FAULT, 0, RAM_BASE + unit.ring)
    assert rig.taken_irqs(0) == 0


def test_memory_that_is_taken_away(rig: Rig) -> None:
    rig.engines[0].submit(entry(Opcode.SEM_WAIT, dst=ram(0), arg0=1))
    eventually(lambda: bool(rig.engines[0].read(STATUS) & 8), "the engine waits")
    rig.unmap_ram()
    assert rig.engines[0].wait_error() == (ErrorCode.DMA_FAULT, 0, RAM_BASE)


def test_read_only_memory_is_not_written(rig: Rig) -> None:
    rig.map_more(0x5000_0000, 0x1000, writable=False)
    rig.engines[0].run(entry(Opcode.COPY, src=system(0x5000_0000), dst=vram(0), size=64))
    rig.engines[0].submit(fill(system(0x5000_0000)))
    assert rig.engines[0].wait_error() == (ErrorCode.DMA_FAULT, 1, 0x5000_0000)
