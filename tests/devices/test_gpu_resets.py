"""Each kind of reset: what it ends, what it keeps, and that nothing of an aborted command follows it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gpu_rig import (
    BUSY,
    CONTROL,
    CTRL,
    FENCED,
    GPU_STATUS,
    IDLE,
    INTR_ENABLE,
    INTR_STATUS,
    IRQ,
    RESET_COUNT,
    STATUS,
    VRAM_MIB,
    Rig,
    bench_session,
    entry,
    eventually,
    ram,
    vram,
)

from vfiodev.gpu.commands import Opcode

LIST = 0x10_0000
DEVCTL = 0x48 + 8
FLR = 0x8000
SIGNAL = FENCED | IRQ


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with bench_session(tmp_path / "trace.jsonl") as bench:
        rig = bench.add()
        rig.start()
        yield rig


def engine_reset(rig: Rig) -> None:
    rig.engines[0].write(CTRL, 3)


def control_reset(rig: Rig) -> None:
    rig.write(CONTROL, 3)


def function_reset(rig: Rig) -> None:
    rig.write_config(DEVCTL, 2, rig.config(DEVCTL, 2) | FLR)
    rig.write_config(0x04, 2, 0x6)


def bus_reset(rig: Rig) -> None:
    rig.bus_reset()
    rig.write_config(0x04, 2, 0x6)


RESETS: dict[str, Callable[[Rig], None]] = {
    "engine": engine_reset,
    "control": control_reset,
    "flr": function_reset,
    "bus": bus_reset,
    "power_on": lambda rig: rig.replug(),
}
WHOLE = [name for name in RESETS if name != "engine"]


@pytest.mark.parametrize("kind", RESETS)
def test_reset_values(rig: Rig, kind: str) -> None:
    rig.write(0x08, 5)
    rig.vram[0] = 7
    for unit in rig.engines:
        unit.submit(entry(Opcode.NOP, flags=SIGNAL, seq=1), entry(99))
        unit.wait_error()
    rig.wait_irqs(0, 2)
    RESETS[kind](rig)
    unit, other = rig.engines
    assert unit.read(STATUS) == IDLE
    assert [unit.read(offset) for offset in (CTRL, *range(0x0C, 0x40, 4))] == [0] * 14
    if kind == "engine":
        assert other.error() == (1, 1, 0)
        assert rig.read(INTR_STATUS) == 3 << 8 | 3 << 16
        assert (rig.read(CONTROL), rig.read(0x08), rig.read(GPU_STATUS)) == (1, 5, 3)
    else:
        assert other.error() is None
        assert [rig.read(offset) for offset in (0x08, CONTROL, INTR_STATUS, INTR_ENABLE)] == [0] * 4
        assert rig.read(GPU_STATUS) == 1
    assert rig.read(RESET_COUNT) == {"engine": 0, "power_on": 0}.get(kind, 1)
    assert rig.vram[0] == (0 if kind == "power_on" else 7)
    assert rig.config(0, 4) == 0x7B67_1234


@pytest.mark.parametrize("kind", RESETS)
def test_the_gpu_works_after_a_reset(rig: Rig, kind: str) -> None:
    rig.engines[0].run(entry(Opcode.NOP, flags=SIGNAL, seq=1))
    RESETS[kind](rig)
    if kind == "engine":
        rig.engines[0].start()
    else:
        rig.start()
    before = rig.taken_irqs(1)
    rig.engines[0].run(entry(Opcode.FILL, dst=ram(8), size=8, arg32=6, flags=SIGNAL, seq=2))
    assert (rig.engines[0].fence, rig.word(8), rig.taken_irqs(1) - before) == (2, 6 << 32 | 6, 1)


def long_fill(rig: Rig) -> list[bytes]:
    """60 times 256 MiB: each is a list that names all of VRAM 64 times."""
    size = VRAM_MIB << 20
    target = rig.put_list(LIST, [(vram(0), size)] * 64)
    return [entry(Opcode.FILL, dst=target, size=64 * size, arg32=0xFFFF_FFFF)] * 60


LONG: dict[str, Callable[[Rig], list[bytes]]] = {
    "fill": long_fill,
    "delay": lambda _rig: [entry(Opcode.DELAY, arg0=60_000_000_000, flags=SIGNAL, seq=1)],
    "wait": lambda _rig: [entry(Opcode.SEM_WAIT, dst=ram(8), arg0=1, flags=SIGNAL, seq=1)],
}


@pytest.mark.parametrize("kind", RESETS)
@pytest.mark.parametrize("command", LONG)
def test_a_long_command_ends_at_once_and_leaves_nothing_behind(rig: Rig, kind: str, command: str) -> None:
    unit = rig.engines[0]
    unit.submit(*LONG[command](rig), entry(Opcode.NOP, flags=SIGNAL, seq=2))
    eventually(lambda: unit.read(STATUS) & BUSY != 0, "the command executes")
    RESETS[kind](rig)
    rig.vram[:] = bytes(VRAM_MIB << 20)
    rig.put_word(8, 1)
    rig.settle()
    assert (unit.fence, rig.taken_irqs(1), unit.read(STATUS)) == (0, 0, IDLE)
    assert rig.vram == bytes(VRAM_MIB << 20)


@pytest.mark.parametrize("kind", ["engine", "control", "flr"])
def test_nothing_follows_the_answer_to_a_reset(rig: Rig, kind: str) -> None:
    """Resets at every moment of a short command: what was not done by the answer is never done."""
    for number in range(1, 150):
        unit = rig.engines[0]
        work = entry(
            Opcode.FILL, dst=ram(0x20_0000), size=8 * (1 + 997 * number % 4096), arg32=number, flags=SIGNAL
        )
        unit.submit(work[:56] + number.to_bytes(8, "little"))
        for _ in range(number % 13):
            unit.read(STATUS)
        RESETS[kind](rig)
        state = (unit.fence, rig.taken_irqs(1), bytes(rig.ram[0x20_0000:0x20_8000]))
        rig.start()
        rig.engines[1].run(entry(Opcode.NOP))
        assert (unit.fence, rig.taken_irqs(1), bytes(rig.ram[0x20_0000:0x20_8000])) == state


def test_an_engine_reset_leaves_the_other_alone(rig: Rig) -> None:
    rig.engines[1].submit(entry(Opcode.SEM_WAIT, dst=ram(8), arg0=1, flags=SIGNAL, seq=5))
    engine_reset(rig)
    rig.put_word(8, 1)
    rig.engines[1].wait_idle()
    assert (rig.engines[1].fence, rig.taken_irqs(2), rig.read(RESET_COUNT)) == (5, 1, 0)


@pytest.mark.parametrize("kind", RESETS)
def test_faults_survive_resets(rig: Rig, kind: str) -> None:
    rig.inject("lose_interrupt", count=1)
    rig.inject("hang_engine", engine="copy")
    RESETS[kind](rig)
    if kind == "engine":
        rig.engines[0].start()
    else:
        rig.start()
    rig.engines[0].run(entry(Opcode.NOP, flags=IRQ))
    assert (rig.stat("interrupts_lost"), rig.taken_irqs(1)) == (1, 0)


def test_many_resets_leave_no_thread_behind(rig: Rig) -> None:
    for _ in range(30):
        function_reset(rig)
    assert rig.read(RESET_COUNT) == 30
    eventually(lambda: rig.live_engines() == 2, "only the engines of now are left")
