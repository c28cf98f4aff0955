"""PCI identity, registers, rings, fences and interrupts of the GPU."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpu_rig import (
    BUSY,
    CONTROL,
    CTRL,
    ERROR,
    ERROR_CODE,
    FENCE_ADDR,
    FENCE_SEQ,
    FENCED,
    GPU_STATUS,
    HEAD,
    IDLE,
    INTR_ENABLE,
    INTR_STATUS,
    IRQ,
    RAM_BASE,
    RING_BASE,
    RING_LOG2,
    STATUS,
    TAIL,
    TYPE,
    Bench,
    Rig,
    bench_session,
    entry,
    eventually,
    ram,
    vram,
)

from vfiodev.errors import ConfigError
from vfiodev.gpu.commands import Opcode

NOP = entry(Opcode.NOP)
BAD_RING = 6


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_session(tmp_path / "trace.jsonl") as bench:
        yield bench


@pytest.fixture
def rig(bench: Bench) -> Rig:
    return bench.add()


def test_identity(rig: Rig) -> None:
    assert rig.config(0x00, 4) == 0x7B67_1234
    assert rig.config(0x08, 4) == 0x0380_0001
    assert rig.config(0x2C, 4) == 0x0001_1234
    assert rig.config(0x10, 4) & 0xF == 0
    assert rig.config(0x18, 4) & 0xF == 0xC
    assert [rig.read(offset) for offset in (0x00, 0x04, 0x0C)] == [0x5550_4754, 0x1_0000, 2]
    assert [rig.read(offset) for offset in (0x10, 0x14)] == [4 << 20, 0]
    assert [rig.read(offset) for offset in (0x30, 0x34, 0x3C)] == [7, 12, 0x1000_0000]


def test_registers_after_power_on(rig: Rig) -> None:
    assert [rig.read(offset) for offset in (0x08, CONTROL, INTR_STATUS, INTR_ENABLE, 0x38)] == [0] * 5
    assert rig.read(GPU_STATUS) == 1
    for engine in rig.engines:
        assert engine.read(STATUS) == IDLE
        assert [engine.read(offset) for offset in range(0x0C, 0x40, 4)] == [0] * 13
        assert engine.read(CTRL) == 0


def test_scratch_read_only_and_unlisted_registers(rig: Rig) -> None:
    rig.write(0x08, 0xCAFE_F00D)
    rig.write(0x00, 0)
    rig.write(0x8000, 5)
    assert (rig.read(0x08), rig.read(0x00), rig.read(0x8000)) == (0xCAFE_F00D, 0x5550_4754, 0)


def test_engines_alternate(bench: Bench) -> None:
    rig = bench.add(engines=8)
    assert [engine.read(TYPE) for engine in rig.engines] == [1, 2, 1, 2, 1, 2, 1, 2]
    assert rig.read(0x0C) == 8
    rig.start(log2=1)
    for engine in rig.engines:
        engine.run(entry(Opcode.NOP, flags=FENCED | IRQ, seq=engine.index + 1))
        rig.wait_irqs(engine.vector, 1)
    assert [engine.fence for engine in rig.engines] == list(range(1, 9))


@pytest.mark.parametrize(
    ("name", "value"),
    [("vram_mib", 3), ("vram_mib", 8192), ("vram_mib", "64"), ("engines", 0), ("engines", 9), ("colour", 1)],
)
def test_bad_parameters_are_refused(bench: Bench, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        bench.add("gpu0", **{name: value})


def test_a_ring_wraps_around(rig: Rig) -> None:
    rig.start(log2=2)
    unit = rig.engines[0]
    for seq in range(1, 30, 3):
        unit.run(*(entry(Opcode.NOP, flags=FENCED, seq=seq + index) for index in range(3)))
        assert unit.fence == seq + 2
        assert unit.read(HEAD) == unit.tail == (seq + 2) % 4
    assert rig.stat("commands") == rig.stat("engine0.fences") == 30


def test_the_largest_and_the_smallest_ring(rig: Rig) -> None:
    rig.start(log2=12)
    rig.engines[0].run(*[NOP] * 4095)
    assert rig.engines[0].read(HEAD) == 4095
    rig.engines[1].write(CTRL, 2)
    rig.engines[1].start(log2=1)
    for _ in range(3):
        rig.engines[1].run(NOP)
    assert rig.stat("engine1.commands") == 3


def test_each_interrupt_command_sends_a_message(rig: Rig) -> None:
    rig.start()
    rig.engines[0].run(*[entry(Opcode.NOP, flags=IRQ)] * 10)
    assert rig.taken_irqs(1) == rig.stat("interrupts") == 10
    assert rig.read(INTR_STATUS) == 1 << 8
    rig.write(INTR_STATUS, 1 << 9)
    assert rig.read(INTR_STATUS) == 1 << 8
    rig.write(INTR_STATUS, 1 << 8)
    assert rig.read(INTR_STATUS) == 0


def test_a_fence_without_interrupt_sets_no_status(rig: Rig) -> None:
    rig.start()
    rig.engines[0].run(entry(Opcode.NOP, flags=FENCED, seq=1))
    assert (rig.read(INTR_STATUS), rig.taken_irqs(1)) == (0, 0)


def test_a_message_needs_its_enable_bit(rig: Rig) -> None:
    rig.start(interrupts=1 << 9)
    for engine in rig.engines:
        engine.run(entry(Opcode.NOP, flags=IRQ))
    assert (rig.taken_irqs(1), rig.taken_irqs(2)) == (0, 1)
    assert rig.read(INTR_STATUS) == 3 << 8
    rig.write(INTR_ENABLE, 3 << 8)
    assert rig.taken_irqs(1) == 0


def test_fence_without_address_goes_to_the_register(rig: Rig) -> None:
    rig.start()
    unit = rig.engines[0]
    unit.write(CTRL, 0)
    unit.write(FENCE_ADDR, 0)
    unit.write(FENCE_ADDR + 4, 0)
    unit.write(CTRL, 1)
    unit.run(entry(Opcode.NOP, flags=FENCED, seq=1 << 40 | 9))
    assert unit.read64(FENCE_SEQ) == 1 << 40 | 9
    assert unit.fence == 0


def test_fence_register_is_latched_by_its_low_half(rig: Rig) -> None:
    rig.start()
    unit = rig.engines[0]
    unit.run(entry(Opcode.NOP, flags=FENCED, seq=1 << 32))
    assert unit.read(FENCE_SEQ) == 0
    unit.run(entry(Opcode.NOP, flags=FENCED, seq=2 << 32))
    assert unit.read(FENCE_SEQ + 4) == 1


def test_data_is_there_when_the_fence_is(rig: Rig) -> None:
    """A fence that is polled in memory never comes before the data of its command."""
    rig.start(log2=8)
    unit = rig.engines[0]
    for seq in range(1, 200):
        unit.submit(entry(Opcode.FILL, dst=ram(0x20_0000), size=0x1000, arg32=seq, flags=FENCED, seq=seq))
        unit.wait_fence(seq)
        assert rig.ram[0x20_0000:0x20_1000] == seq.to_bytes(4, "little") * 0x400


def test_commands_wait_for_run_and_enable(rig: Rig) -> None:
    rig.start()
    unit = rig.engines[0]
    rig.write(CONTROL, 0)
    unit.submit(NOP)
    assert unit.read(STATUS) == 0
    unit.write(CTRL, 0)
    rig.write(CONTROL, 1)
    assert (unit.read(STATUS), unit.read(HEAD)) == (0, 0)
    unit.write(CTRL, 1)
    unit.wait_idle()
    assert unit.read(HEAD) == 1


def test_clearing_run_stops_behind_the_executing_command(rig: Rig) -> None:
    rig.start()
    unit = rig.engines[0]
    unit.submit(entry(Opcode.SEM_WAIT, dst=ram(0), arg0=1), NOP)
    eventually(lambda: bool(unit.read(STATUS) & BUSY), "the first command executes")
    unit.write(CTRL, 0)
    rig.put_word(0, 1)
    eventually(lambda: unit.read(HEAD) == 1, "the first command completes")
    assert unit.read(STATUS) == 0
    unit.write(CTRL, 1)
    unit.wait_idle()
    assert unit.read(HEAD) == 2


def test_ring_setup_is_fixed_while_run_is_set(rig: Rig) -> None:
    rig.start()
    unit = rig.engines[0]
    unit.write(RING_LOG2, 3)
    unit.write64(RING_BASE, 0)
    unit.write64(FENCE_ADDR, 0x40)
    assert unit.read(RING_LOG2) == 6
    assert unit.read64(RING_BASE) == RAM_BASE + unit.ring
    assert unit.read64(FENCE_ADDR) == RAM_BASE + unit.fence_at


def test_a_ring_may_be_moved_while_run_is_clear(rig: Rig) -> None:
    rig.start()
    unit = rig.engines[0]
    unit.run(NOP)
    unit.write(CTRL, 0)
    unit.ring = 0x30_0000
    unit.write64(RING_BASE, RAM_BASE + unit.ring)
    unit.write(CTRL, 1)
    unit.run(entry(Opcode.NOP, flags=FENCED, seq=5))
    assert (unit.fence, unit.read(HEAD)) == (5, 2)


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (RING_LOG2, 0),
        (RING_LOG2, 13),
        (RING_LOG2, 0xFFFF_FFFF),
        (RING_BASE, RAM_BASE + 32),
        (FENCE_ADDR, RAM_BASE + 4),
        (TAIL, 64),
        (TAIL, 0xFFFF_FFFF),
    ],
)
@pytest.mark.parametrize("running", [False, True])
def test_bad_ring(rig: Rig, register: int, value: int, running: bool) -> None:
    rig.start()
    unit = rig.engines[0]
    if not running or register != TAIL:
        unit.write(CTRL, 0)
    unit.write(register, value)
    if not running or register != TAIL:
        unit.write(CTRL, 1)
    assert unit.error() == (BAD_RING, 0, 0)
    assert unit.read(STATUS) & ERROR
    assert rig.read(GPU_STATUS) == 3
    assert rig.read(INTR_STATUS) == 1 << 16
    assert rig.taken_irqs(0) == 1


def test_a_ring_that_wraps_the_address_space_is_bad(rig: Rig) -> None:
    rig.start()
    unit = rig.engines[0]
    unit.write(CTRL, 0)
    unit.write64(RING_BASE, (1 << 64) - 64)
    unit.write(CTRL, 1)
    assert unit.error() == (BAD_RING, 0, 0)


def test_a_self_modifying_ring(rig: Rig) -> None:
    """An entry is read when its execution begins: a command may write the next one."""
    rig.start()
    unit = rig.engines[0]
    rig.vram[0:64] = entry(Opcode.NOP, flags=FENCED, seq=77)
    unit.run(entry(Opcode.COPY, src=vram(0), dst=ram(unit.ring + 64), size=64), entry(0xFFFF))
    assert unit.fence == 77
    assert unit.read(ERROR_CODE) == 0


def test_the_trace_tells_what_the_device_did(bench: Bench, rig: Rig) -> None:
    rig.start()
    rig.engines[1].run(entry(Opcode.FILL, dst=vram(0), size=64, flags=FENCED | IRQ, seq=3))
    rig.engines[1].submit(entry(99))
    rig.engines[1].wait_error()
    eventually(lambda: len(bench.events("irq")) == 2, "the error is told")
    found = {
        name: [{k: v for k, v in json.loads(line).items() if k != "t"} for line in bench.events(name)]
        for name in ("gpu_start", "gpu_fence", "irq", "gpu_done", "gpu_error")
    }
    common = {"dev": "gpu0", "engine": 1}
    assert found["gpu_start"] == [
        common | {"ev": "gpu_start", "index": 0, "opcode": "FILL", "size": 64, "seq": 3}
    ]
    assert found["gpu_fence"] == [common | {"ev": "gpu_fence", "index": 0, "seq": 3}]
    assert [event["vector"] for event in found["irq"]] == [2, 0]
    assert found["gpu_done"] == [common | {"ev": "gpu_done", "index": 0}]
    assert found["gpu_error"] == [
        common | {"ev": "gpu_error", "index": 1, "code": "BAD_OPCODE", "address": 0}
    ]
