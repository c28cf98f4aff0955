"""Each fault of section 7, by what a driver sees of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpu_rig import (
    BUSY,
    CTRL,
    FENCED,
    HEAD,
    IDLE,
    INTR_ENABLE,
    INTR_STATUS,
    IRQ,
    STATUS,
    WAITING,
    Bench,
    EngineRig,
    Rig,
    bench_session,
    entry,
    eventually,
    ram,
    vram,
)

from vfiodev.errors import ControlError
from vfiodev.gpu.commands import Opcode

LONG_MS = 60_000


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_session(tmp_path / "trace.jsonl") as bench:
        yield bench


@pytest.fixture
def rig(bench: Bench) -> Rig:
    rig = bench.add()
    rig.start()
    return rig


def job(seq: int, value: int = 0) -> bytes:
    return entry(Opcode.FILL, dst=ram(0x20_0000), size=64, arg32=value or seq, flags=FENCED | IRQ, seq=seq)


def data(rig: Rig) -> int:
    return rig.word(0x20_0000) & 0xFFFF_FFFF


def fences(bench: Bench) -> list[int]:
    return [json.loads(line)["seq"] for line in bench.events("gpu_fence")]


def times(bench: Bench, event: str) -> list[int]:
    return [json.loads(line)["t"] for line in bench.events(event)]


def assert_held(rig: Rig, unit: EngineRig) -> None:
    assert (unit.fence, unit.read(HEAD), unit.read64(0x28)) == (0, 0, 0)
    assert unit.read(STATUS) == BUSY
    assert rig.taken_irqs(unit.vector) == 0
    assert rig.read(INTR_STATUS) == 0


def test_held_completions_come_in_order_when_the_fault_is_cleared(bench: Bench, rig: Rig) -> None:
    unit = rig.engines[0]
    rig.inject("hold_completions", engine="copy")
    unit.submit(job(1), job(2), job(3))
    rig.wait_stat("faults_used", 3)
    assert data(rig) == 3
    assert_held(rig, unit)
    rig.engines[1].run(job(9))
    rig.clear("hold_completions")
    unit.wait_idle()
    assert fences(bench) == [9, 1, 2, 3]
    assert rig.taken_irqs(1) == 3
    assert (unit.fence, unit.read(HEAD)) == (3, 3)
    unit.run(job(4))


def test_a_hold_with_a_count_ends_but_what_it_holds_stays(bench: Bench, rig: Rig) -> None:
    unit = rig.engines[0]
    rig.inject("hold_completions", count=1)
    unit.submit(job(1), job(2), entry(Opcode.TIMESTAMP, dst=ram(8)))
    eventually(lambda: rig.word(8) != 0, "the last command's data is there")
    assert_held(rig, unit)
    assert rig.stat("faults_used") == 1
    rig.clear("hold_completions")
    unit.wait_idle()
    assert fences(bench) == [1, 2]


def test_a_reset_drops_what_is_held(bench: Bench, rig: Rig) -> None:
    unit = rig.engines[0]
    rig.inject("hold_completions", engine=0, count=1)
    unit.submit(job(1))
    rig.wait_stat("faults_used", 1)
    unit.write(CTRL, 2)
    unit.start()
    unit.run(job(2))
    assert fences(bench) == [2]
    rig.clear()
    unit.run(job(3))
    assert fences(bench) == [2, 3]


def test_held_completions_come_while_a_later_command_waits(rig: Rig) -> None:
    """The wait may depend on somebody who waits for the held fence."""
    unit = rig.engines[0]
    rig.inject("hold_completions", count=1)
    unit.submit(job(1), entry(Opcode.SEM_WAIT, dst=ram(8), arg0=1), job(2))
    eventually(lambda: bool(unit.read(STATUS) & WAITING), "the semaphore is waited for")
    assert unit.fence == 0
    rig.clear()
    rig.wait_irqs(1, 1)
    eventually(lambda: unit.read(HEAD) == 1, "HEAD moves")
    assert unit.fence == 1
    rig.put_word(8, 1)
    unit.wait_idle()
    assert unit.fence == 2


def test_delayed_completions(bench: Bench, rig: Rig) -> None:
    unit = rig.engines[0]
    rig.inject("delay_completions", ms=30, count=1)
    unit.run(job(1), job(2))
    start, fence = times(bench, "gpu_start"), times(bench, "gpu_fence")
    assert fence[0] - start[0] >= 30_000_000
    assert fence[0] < fence[1]
    assert (fences(bench), rig.stat("faults_used")) == ([1, 2], 1)


def test_an_error_waits_for_completions_before_it(bench: Bench, rig: Rig) -> None:
    unit = rig.engines[0]
    rig.inject("hold_completions", count=1)
    unit.submit(job(1), entry(99), job(3))
    rig.wait_stat("faults_used", 1)
    assert_held(rig, unit)
    assert unit.error() is None
    rig.clear()
    assert unit.wait_error() == (1, 1, 0)
    assert (fences(bench), unit.read(HEAD)) == ([1], 1)


@pytest.mark.parametrize(("window", "expected"), [(2, [2, 1, 4, 3]), (4, [4, 3, 2, 1])])
def test_reordered_completions(bench: Bench, rig: Rig, window: int, expected: list[int]) -> None:
    unit = rig.engines[0]
    rig.inject("reorder_completions", engine="copy", window=window)
    plain = entry(Opcode.NOP)
    unit.run(job(1), plain, job(2), job(3), plain, job(4))
    assert fences(bench) == expected
    assert unit.read64(0x28) == unit.fence == expected[-1]
    assert rig.taken_irqs(1) == 4


def test_an_unfilled_window_comes_out_when_the_fault_is_cleared(bench: Bench, rig: Rig) -> None:
    unit = rig.engines[0]
    rig.inject("reorder_completions", window=3)
    unit.submit(job(1), job(2))
    rig.wait_stat("faults_used", 2)
    assert_held(rig, unit)
    rig.clear()
    unit.wait_idle()
    assert fences(bench) == [1, 2]


def test_an_error_ends_a_window(bench: Bench, rig: Rig) -> None:
    unit = rig.engines[0]
    rig.inject("reorder_completions", window=3)
    unit.submit(job(1), job(2), entry(99))
    assert unit.wait_error() == (1, 2, 0)
    assert fences(bench) == [2, 1]


@pytest.mark.parametrize("engine", ["any", "compute", 1])
def test_lost_interrupt(rig: Rig, engine: str | int) -> None:
    unit = rig.engines[1]
    rig.inject("lose_interrupt", engine=engine)
    unit.run(job(1))
    assert unit.fence == 1
    assert rig.read(INTR_STATUS) == 1 << 9
    assert (rig.taken_irqs(2), rig.stat("interrupts_lost"), rig.stat("interrupts")) == (0, 1, 0)
    unit.run(job(2))
    assert rig.taken_irqs(2) == 1


def test_faults_of_another_engine_do_not_strike(rig: Rig) -> None:
    rig.inject("lose_interrupt", engine="compute", count=0)
    rig.engines[0].run(job(1))
    assert rig.taken_irqs(1) == 1
    for seq in range(3):
        rig.engines[1].run(job(seq))
    assert (rig.taken_irqs(2), rig.stat("interrupts_lost")) == (0, 3)
    rig.clear("lose_interrupt")
    rig.engines[1].run(job(5))
    assert rig.taken_irqs(2) == 1


def test_a_disabled_interrupt_does_not_use_a_fault_up(rig: Rig) -> None:
    rig.inject("lose_interrupt")
    rig.write(INTR_ENABLE, 0)
    rig.engines[0].run(job(1))
    rig.write(INTR_ENABLE, 0xFFFF_FFFF)
    rig.engines[0].run(job(2))
    assert (rig.taken_irqs(1), rig.stat("interrupts_lost")) == (0, 1)


def test_delayed_interrupt(bench: Bench, rig: Rig) -> None:
    unit = rig.engines[0]
    rig.inject("delay_interrupt", ms=30)
    unit.run(job(1))
    assert rig.read(INTR_STATUS) == 1 << 8
    rig.wait_stat("interrupts", 1)
    assert rig.taken_irqs(1) == 1
    assert times(bench, "irq")[0] - times(bench, "gpu_fence")[0] >= 30_000_000


def test_a_reset_drops_a_delayed_interrupt(rig: Rig) -> None:
    unit = rig.engines[0]
    rig.inject("delay_interrupt", ms=20)
    unit.run(job(1))
    unit.write(CTRL, 2)
    before = rig.taken_irqs(1)
    unit.start()
    unit.run(entry(Opcode.DELAY, arg0=40_000_000))
    assert rig.taken_irqs(1) == before


def test_duplicate_interrupt(rig: Rig) -> None:
    unit = rig.engines[0]
    rig.inject("duplicate_interrupt")
    unit.run(job(1), job(2))
    assert (rig.taken_irqs(1), rig.stat("interrupts")) == (3, 3)


def test_hung_engine_goes_on_when_the_fault_is_cleared(rig: Rig) -> None:
    rig.inject("hang_engine", engine="copy")
    unit = rig.engines[0]
    unit.submit(job(1), job(2))
    rig.wait_stat("faults_used", 1)
    rig.engines[1].run(job(9))
    assert (unit.read(STATUS), unit.read(HEAD), unit.fence) == (BUSY, 0, 0)
    assert data(rig) == 9
    rig.clear("hang_engine")
    unit.wait_idle()
    assert (unit.fence, rig.taken_irqs(1)) == (2, 2)


@pytest.mark.parametrize("engine", ["any", "copy"])
def test_reset_ends_a_hang(rig: Rig, engine: str) -> None:
    rig.inject("hang_engine", engine=engine)
    unit = rig.engines[0]
    unit.submit(job(1))
    rig.wait_stat("faults_used", 1)
    unit.write(CTRL, 2)
    unit.start()
    unit.run(job(2))
    assert (unit.fence, rig.taken_irqs(1), rig.stat("faults_used")) == (2, 1, 1)


def test_early_completion(bench: Bench, rig: Rig) -> None:
    unit = rig.engines[0]
    rig.inject("early_completion", ms=30)
    unit.run(job(1))
    rig.wait_irqs(1, 1)
    eventually(lambda: bench.events("gpu_late_data") != [], "the data comes")
    assert data(rig) == 1
    assert times(bench, "gpu_late_data")[0] - times(bench, "gpu_fence")[0] >= 25_000_000


def test_early_completion_without_the_data(rig: Rig) -> None:
    """Also when the fence belongs to a later command of the same job."""
    unit = rig.engines[0]
    rig.inject("early_completion", ms=LONG_MS)
    unit.run(
        entry(Opcode.FILL, dst=vram(0), size=64, arg32=1),
        entry(Opcode.NOP, flags=FENCED | IRQ, seq=1),
    )
    assert (unit.fence, rig.taken_irqs(1)) == (1, 1)
    assert bytes(rig.vram[0:64]) == bytes(64)
    unit.write(CTRL, 2)
    unit.start()
    unit.run(entry(Opcode.DELAY, arg0=1_000_000))
    assert bytes(rig.vram[0:64]) == bytes(64)


def test_late_data_that_fails(rig: Rig) -> None:
    unit = rig.engines[0]
    rig.inject("early_completion", ms=1)
    unit.submit(entry(Opcode.FILL, dst=vram(1 << 30), size=4, flags=FENCED, seq=1))
    assert unit.wait_error() == (4, 0, 1 << 30)
    assert unit.fence == 1


def test_flipped_bit(rig: Rig) -> None:
    rig.inject("flip_vram_bit", offset=(4 << 20) - 1, bit=7)
    assert rig.vram[(4 << 20) - 1] == 0x80
    rig.inject("flip_vram_bit", offset=(4 << 20) - 1, bit=7)
    assert rig.vram[(4 << 20) - 1] == 0


def test_config_ones_stops_everything_until_it_is_cleared(rig: Rig) -> None:
    unit = rig.engines[0]
    unit.submit(entry(Opcode.SEM_WAIT, dst=ram(8), arg0=1), job(1))
    eventually(lambda: bool(unit.read(STATUS) & WAITING), "the engine waits")
    rig.inject("config_ones")
    rig.put_word(8, 1)
    assert rig.read(0) == rig.config(0, 4) == 0xFFFF_FFFF
    rig.write(0x1C, 2)
    rig.write_config(4, 2, 0)
    rig.settle()
    assert (unit.fence, rig.taken_irqs(1)) == (0, 0)
    rig.clear("config_ones")
    unit.wait_idle()
    assert (unit.fence, rig.taken_irqs(1), rig.config(0, 4)) == (1, 1, 0x7B67_1234)


def test_surprise_removal(rig: Rig) -> None:
    unit = rig.engines[0]
    unit.submit(entry(Opcode.SEM_WAIT, dst=ram(8), arg0=1), job(1))
    eventually(lambda: bool(unit.read(STATUS) & WAITING), "the engine waits")
    rig.inject("surprise_removal")
    rig.put_word(8, 1)
    assert rig.read(0) == rig.config(0, 4) == 0xFFFF_FFFF
    assert bytes(rig.vram[0:8]) == b"\xff" * 8
    rig.settle()
    assert (unit.fence, rig.taken_irqs(0), rig.taken_irqs(1), data(rig)) == (0, 0, 0, 0)
    rig.replug()
    rig.start()
    assert unit.read(STATUS) == IDLE
    unit.run(job(2))
    assert (unit.fence, bytes(rig.vram[0:8])) == (2, bytes(8))


@pytest.mark.parametrize(
    ("fault", "args", "problem"),
    [
        ("melt", {}, "hang_engine"),
        ("hang_engine", {"engine": 2}, "engine"),
        ("hang_engine", {"engine": "video"}, "engine"),
        ("hang_engine", {"engine": True}, "engine"),
        ("hang_engine", {"count": 3}, "count"),
        ("delay_completions", {}, "ms"),
        ("delay_interrupt", {"ms": -1}, "ms"),
        ("reorder_completions", {"window": 1}, "window"),
        ("lose_interrupt", {"count": -1}, "count"),
        ("flip_vram_bit", {"offset": 4 << 20, "bit": 0}, "offset"),
        ("flip_vram_bit", {"offset": 0, "bit": 8}, "bit"),
    ],
)
def test_bad_requests_are_refused(rig: Rig, fault: str, args: dict[str, object], problem: str) -> None:
    with pytest.raises(ControlError, match=problem):
        rig.inject(fault, **args)
    rig.engines[0].run(job(1))
    assert rig.stat("faults_used") == 0


def test_there_is_no_compute_engine_in_a_gpu_with_one(bench: Bench) -> None:
    rig = bench.add(engines=1)
    with pytest.raises(ControlError, match="compute"):
        rig.inject("hang_engine", engine="compute")
