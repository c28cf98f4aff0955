"""Every command of the GPU, in every direction."""

import random
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from gpu_rig import (
    FENCED,
    IRQ,
    RAM_BASE,
    STATUS,
    VRAM_MIB,
    WAITING,
    Place,
    Rig,
    bench_session,
    entry,
    eventually,
    ram,
    vram,
)

from vfiodev.gpu.commands import Compare, Opcode, VectorOp

A, B, C = 0x20_0000, 0x28_0000, 0x30_0000
LIST = 0x10_0000
SPACES = {"vram": vram, "ram": ram}
DIRECTIONS = list(product(SPACES, SPACES))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with bench_session(tmp_path / "trace.jsonl") as bench:
        rig = bench.add()
        rig.start()
        yield rig


def pattern(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def peek(rig: Rig, place: Place, size: int) -> bytes:
    if place.space == 0:
        return bytes(rig.vram[place.address : place.address + size])
    return rig.ram[place.address - RAM_BASE : place.address - RAM_BASE + size]


def poke(rig: Rig, place: Place, data: bytes) -> None:
    if place.space == 0:
        rig.vram[place.address : place.address + len(data)] = data
    else:
        rig.ram[place.address - RAM_BASE : place.address - RAM_BASE + len(data)] = data


@pytest.mark.parametrize("engine", [0, 1])
def test_nop_with_fence_and_interrupt(rig: Rig, engine: int) -> None:
    unit = rig.engines[engine]
    unit.run(entry(Opcode.NOP, flags=FENCED | IRQ, seq=0x1234_5678_9ABC_DEF0))
    assert unit.fence == 0x1234_5678_9ABC_DEF0
    assert unit.read64(0x28) == 0x1234_5678_9ABC_DEF0
    assert rig.taken_irqs(unit.vector) == 1
    assert rig.read(0x20) == 1 << (8 + engine)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("size", [0, 4, 0x1_0004, 0x12_3458])
def test_fill(rig: Rig, space: str, size: int) -> None:
    target = SPACES[space](A + 2)
    poke(rig, SPACES[space](A - 16), b"\x55" * (size + 64))
    rig.engines[0].run(entry(Opcode.FILL, dst=target, size=size, arg32=0x0403_0201))
    assert peek(rig, target, size) == bytes([1, 2, 3, 4]) * (size // 4)
    assert peek(rig, SPACES[space](A - 16), 18) == b"\x55" * 18
    assert peek(rig, SPACES[space](A + 2 + size), 32) == b"\x55" * 32


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
@pytest.mark.parametrize("size", [0, 1, 4096, 0x18_0001])
def test_copy(rig: Rig, source: str, target: str, size: int) -> None:
    data = pattern(size)
    place = SPACES[target](C + 3)
    poke(rig, SPACES[source](5), data) if source == "vram" else poke(rig, ram(LIST + 5), data)
    begin = vram(5) if source == "vram" else ram(LIST + 5)
    rig.engines[1].run(
        entry(Opcode.COPY, src=begin, dst=vram(0x20_0003) if target == "vram" else place, size=size)
    )
    assert peek(rig, vram(0x20_0003) if target == "vram" else place, size) == data


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("distance", [-0x10_0001, -64, -1, 0, 1, 64, 0x10_0001])
def test_copy_of_overlapping_ranges_is_as_through_a_buffer(rig: Rig, space: str, distance: int) -> None:
    data = pattern(0x21_0003)
    place = SPACES[space]
    poke(rig, place(0x18_0000), data)
    rig.engines[0].run(
        entry(Opcode.COPY, src=place(0x18_0000), dst=place(0x18_0000 + distance), size=len(data) - 0x10_0001)
    )
    assert peek(rig, place(0x18_0000 + distance), len(data) - 0x10_0001) == data[: len(data) - 0x10_0001]


def test_copy_by_scatter_lists_of_both_spaces(rig: Rig) -> None:
    data = pattern(10_000)
    poke(rig, ram(A), data[:1])
    poke(rig, vram(77), data[1:5000])
    poke(rig, ram(B + 9), data[5000:])
    source = rig.put_list(LIST, [(ram(A), 1), (vram(77), 4999), (vram(0), 0), (ram(B + 9), 5000)])
    target = rig.put_list(LIST + 0x100, [(vram(0x10_0000), 3), (ram(C), 9000), (vram(0x11_0001), 997)])
    rig.engines[0].run(entry(Opcode.COPY, src=source, dst=target, size=10_000))
    found = peek(rig, vram(0x10_0000), 3) + peek(rig, ram(C), 9000) + peek(rig, vram(0x11_0001), 997)
    assert found == data


def test_copy_between_overlapping_lists_is_as_through_a_buffer(rig: Rig) -> None:
    data = pattern(8192)
    poke(rig, vram(0), data)
    source = rig.put_list(LIST, [(vram(0), 4096), (vram(4096), 4096)])
    target = rig.put_list(LIST + 0x100, [(vram(4096), 4096), (vram(0), 4096)])
    rig.engines[0].run(entry(Opcode.COPY, src=source, dst=target, size=8192))
    assert peek(rig, vram(0), 8192) == data[4096:] + data[:4096]


def test_a_list_that_overwrites_itself_is_read_before_the_first_write(rig: Rig) -> None:
    data = pattern(32)
    poke(rig, vram(0), data)
    target = rig.put_list(LIST, [(ram(LIST), 16), (ram(LIST + 16), 16)])
    rig.engines[0].run(entry(Opcode.COPY, src=vram(0), dst=target, size=32))
    assert peek(rig, ram(LIST), 32) == data


def test_a_list_of_the_largest_length(rig: Rig) -> None:
    data = pattern(4096 * 3)
    poke(rig, vram(0), data)
    target = rig.put_list(LIST, [(ram(A + 8 * index), 3) for index in range(4096)])
    rig.engines[0].run(entry(Opcode.COPY, src=vram(0), dst=target, size=len(data)))
    found = b"".join(peek(rig, ram(A + 8 * index), 3) for index in range(4096))
    assert found == data


def test_fill_of_a_list_keeps_the_phase_of_the_pattern(rig: Rig) -> None:
    target = rig.put_list(LIST, [(vram(0), 1), (ram(A), 6), (vram(16), 5)])
    rig.engines[0].run(entry(Opcode.FILL, dst=target, size=12, arg32=0x4433_2211))
    assert peek(rig, vram(0), 1) + peek(rig, ram(A), 6) + peek(rig, vram(16), 5) == b"\x11\x22\x33\x44" * 3


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
@pytest.mark.parametrize("size", [0, 1, 0x10_0001])
def test_checksum(rig: Rig, source: str, target: str, size: int) -> None:
    data = pattern(size, seed=7)
    place = SPACES[target](C + 0x8_0000)
    poke(rig, SPACES[source](A), data)
    poke(rig, place, b"\xff" * 8)
    rig.engines[0].run(entry(Opcode.CHECKSUM, src=SPACES[source](A), dst=place, size=size))
    assert peek(rig, place, 8) == zlib.crc32(data).to_bytes(8, "little")


def test_checksum_of_a_list(rig: Rig) -> None:
    data = pattern(3000)
    poke(rig, ram(A), data[:1000])
    poke(rig, vram(A), data[1000:])
    source = rig.put_list(LIST, [(ram(A), 1000), (vram(A), 2000)])
    rig.engines[0].run(entry(Opcode.CHECKSUM, src=source, dst=ram(C), size=3000))
    assert rig.word(C) == zlib.crc32(data)


def test_timestamp_is_the_monotonic_clock(rig: Rig) -> None:
    before = time.monotonic_ns()
    rig.engines[0].run(entry(Opcode.TIMESTAMP, dst=ram(C)), entry(Opcode.TIMESTAMP, dst=vram(8)))
    first, second = rig.word(C), int.from_bytes(peek(rig, vram(8), 8), "little")
    low = rig.read(0x28)
    now = low | rig.read(0x2C) << 32
    assert before <= first <= second <= now <= time.monotonic_ns()


def test_delay_takes_its_time(rig: Rig) -> None:
    begin = time.monotonic_ns()
    rig.engines[0].run(entry(Opcode.DELAY, arg0=30_000_000))
    assert time.monotonic_ns() - begin >= 30_000_000


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    ("compare", "operand", "no", "yes"),
    [
        (Compare.EQUAL, 7, 8, 7),
        (Compare.GREATER_EQUAL, 1 << 63, (1 << 63) - 1, (1 << 64) - 1),
        (Compare.ANY_BIT, 0b1100, 0b0011, 0b0100),
    ],
)
def test_semaphore_wait(rig: Rig, space: str, compare: Compare, operand: int, no: int, yes: int) -> None:
    place = SPACES[space](C)
    poke(rig, place, no.to_bytes(8, "little"))
    unit = rig.engines[0]
    unit.submit(entry(Opcode.SEM_WAIT, dst=place, arg32=compare, arg0=operand))
    eventually(lambda: bool(unit.read(STATUS) & WAITING), "the engine waits")
    assert unit.read(0x18) == 0
    poke(rig, place, yes.to_bytes(8, "little"))
    unit.wait_idle()
    assert not unit.read(STATUS) & WAITING


def test_engines_are_ordered_by_semaphores(rig: Rig) -> None:
    """The compute engine fills, the copy engine copies what it filled, twenty times in turn."""
    copy, compute = rig.engines
    rounds = 20
    for number in range(1, rounds + 1):
        copy.put(
            entry(Opcode.SEM_WAIT, dst=vram(C), arg32=Compare.GREATER_EQUAL, arg0=number),
            entry(Opcode.COPY, src=vram(0), dst=ram(A + 4096 * number), size=4096),
            entry(Opcode.SEM_RELEASE, dst=ram(C), arg0=number, flags=FENCED, seq=number),
        )
        compute.put(
            entry(Opcode.FILL, dst=vram(0), size=4096, arg32=number),
            entry(Opcode.SEM_RELEASE, dst=vram(C), arg0=number),
            entry(Opcode.SEM_WAIT, dst=ram(C), arg32=Compare.EQUAL, arg0=number, flags=FENCED, seq=number),
        )
    copy.ring_doorbell()
    compute.ring_doorbell()
    copy.wait_idle()
    compute.wait_idle()
    for number in range(1, rounds + 1):
        assert peek(rig, ram(A + 4096 * number), 4096) == number.to_bytes(4, "little") * 1024
    assert copy.fence == compute.fence == rounds


def test_engines_run_at_the_same_time(rig: Rig) -> None:
    rig.engines[0].submit(entry(Opcode.SEM_WAIT, dst=ram(C), arg0=1))
    eventually(lambda: bool(rig.engines[0].read(STATUS) & WAITING), "the copy engine waits")
    rig.engines[1].run(entry(Opcode.FILL, dst=ram(A), size=64, arg32=5))
    assert rig.engines[0].read(STATUS) & WAITING
    rig.put_word(C, 1)
    rig.engines[0].wait_idle()


def words(count: int, seed: int) -> bytes:
    return pattern(4 * count, seed)


def floats(count: int, seed: int) -> bytes:
    source = random.Random(seed)
    return struct.pack(f"<{count}f", *(source.uniform(-1e6, 1e6) for _ in range(count)))


def test_vector_of_words_wraps_around(rig: Rig) -> None:
    count = 70_000
    first, second = words(count, 1), words(count, 2)
    poke(rig, vram(0), first)
    poke(rig, ram(A), second)
    expected: dict[VectorOp, Callable[[int, int], int]] = {
        VectorOp.ADD_U32: lambda x, y: x + y & 0xFFFF_FFFF,
        VectorOp.MULTIPLY_U32: lambda x, y: x * y & 0xFFFF_FFFF,
        VectorOp.XOR: lambda x, y: x ^ y,
    }
    for operation, function in expected.items():
        rig.engines[1].run(
            entry(
                Opcode.VECTOR, src=vram(0), src2=ram(A), dst=vram(0x20_0000), size=4 * count, arg32=operation
            )
        )
        pairs = zip(struct.unpack(f"<{count}I", first), struct.unpack(f"<{count}I", second), strict=True)
        wanted = struct.pack(f"<{count}I", *(function(x, y) for x, y in pairs))
        assert peek(rig, vram(0x20_0000), 4 * count) == wanted


def test_vector_of_floats(rig: Rig) -> None:
    first, second = floats(1000, 1), floats(1000, 2)
    poke(rig, ram(A), first)
    poke(rig, vram(0), second)
    x, y = np.frombuffer(first, dtype="<f4"), np.frombuffer(second, dtype="<f4")
    wanted = {
        VectorOp.ADD_F32: x + y,
        VectorOp.MULTIPLY_F32: x * y,
        VectorOp.SCALE_ADD_F32: np.float32(2.5) * x + y,
    }
    scalar = int.from_bytes(struct.pack("<f", 2.5), "little")
    for operation, result in wanted.items():
        rig.engines[1].run(
            entry(
                Opcode.VECTOR,
                src=ram(A),
                src2=vram(0),
                dst=ram(C),
                size=4000,
                arg32=operation,
                arg1=scalar,
            )
        )
        assert peek(rig, ram(C), 4000) == result.tobytes()


def test_vector_in_place_and_by_lists(rig: Rig) -> None:
    data = words(64, 3)
    poke(rig, vram(0), data)
    parts = rig.put_list(LIST, [(vram(0), 3), (vram(3), 253)])
    rig.engines[1].run(entry(Opcode.VECTOR, src=parts, src2=vram(0), dst=parts, size=256, arg32=VectorOp.XOR))
    assert peek(rig, vram(0), 256) == bytes(256)
    rig.engines[1].run(entry(Opcode.VECTOR, size=0))


def test_vector_overflow_and_nan_are_no_errors(rig: Rig) -> None:
    poke(rig, vram(0), struct.pack("<4f", 3e38, float("inf"), float("nan"), 1.0))
    rig.engines[1].run(
        entry(Opcode.VECTOR, src=vram(0), src2=vram(0), dst=vram(64), size=16, arg32=VectorOp.MULTIPLY_F32)
    )
    found = struct.unpack("<4f", peek(rig, vram(64), 16))
    assert found[0] == found[1] == float("inf")
    assert found[2] != found[2]
    assert found[3] == 1.0


def test_bytes_over_the_bus_are_counted(rig: Rig) -> None:
    rig.engines[0].run(entry(Opcode.COPY, src=ram(A), dst=vram(0), size=1000, flags=FENCED))
    rig.engines[1].run(entry(Opcode.FILL, dst=ram(A), size=500), entry(Opcode.FILL, dst=vram(0), size=400))
    assert (rig.stat("bytes_read"), rig.stat("engine0.bytes_read")) == (1000, 1000)
    assert (rig.stat("engine1.bytes_written"), rig.stat("engine0.bytes_written")) == (500, 0)


def test_the_largest_vram(tmp_path: Path) -> None:
    """Offsets above 4 GiB do not exist, those just below do."""
    with bench_session(tmp_path / "trace.jsonl") as bench:
        rig = bench.add(vram_mib=4096)
        rig.start()
        top = (4096 << 20) - 16
        rig.engines[0].run(entry(Opcode.FILL, dst=vram(top), size=16, arg32=0xA5A5_A5A5))
        assert bytes(rig.vram[top:]) == b"\xa5" * 16
        assert rig.read(0x10) | rig.read(0x14) << 32 == 4096 << 20
    assert VRAM_MIB == 4
