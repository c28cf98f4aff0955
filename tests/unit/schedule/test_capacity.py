"""What cases take and what machines have."""

from __future__ import annotations

import os
from pathlib import Path

from case_maker import make_plan

from testbed.schedule.capacity import (
    Capacity,
    count_cores,
    find_memory,
    measure_case,
    probe_capacity,
    refuse_case,
    reserve_memory,
)

GPU = {"name": "gpu0", "model": "gpu", "params": {"vram_mib": 256}, "port": "rp0"}
EDU = {"name": "edu0", "model": None, "qemu": {"driver": "edu"}, "port": "rp0"}


def memory_of(*devices: object, memory_mib: int = 512) -> int:
    guest = {"name": "vm", "memory_mib": memory_mib, "cpus": 1, "devices": list(devices)}
    return measure_case(make_plan("x", guests=[guest])).memory_mib


def test_a_case_takes_the_memory_of_all_its_guests_and_their_devices() -> None:
    bare = memory_of()
    assert bare > 512
    assert memory_of(memory_mib=1024) == bare + 512
    assert memory_of(EDU) == bare
    assert memory_of(GPU) > bare + 256
    assert memory_of(GPU, {**GPU, "name": "gpu1"}) == memory_of(GPU) + 256
    guests = [{"name": name, "memory_mib": 512, "cpus": 1} for name in "ab"]
    assert measure_case(make_plan("x", guests=guests)) == Capacity(slots=2, memory_mib=2 * bare)


def test_a_case_that_is_skipped_takes_nothing() -> None:
    assert measure_case(make_plan("x", skip_reason="no")) == Capacity(slots=0, memory_mib=0)


def test_a_case_that_never_fits_is_refused_with_both_figures() -> None:
    plan = make_plan("huge", guests=[{"name": "vm", "memory_mib": 65536, "cpus": 1}])
    refusal = refuse_case(plan, Capacity(slots=2, memory_mib=4096))
    assert refusal is not None
    assert refusal.message == (
        "the guests of 'huge' can take 64.2 GiB, and this machine has 4.0 GiB for guests"
    )
    assert refuse_case(plan, Capacity(slots=2, memory_mib=70000)) is None


def test_what_the_user_says_counts_more_than_what_is_found() -> None:
    assert probe_capacity(slots=7, memory_mib=100) == Capacity(slots=7, memory_mib=100)
    found = probe_capacity()
    assert found.slots == count_cores()
    assert 0 < found.memory_mib < (find_memory() >> 20)


def test_a_tenth_of_the_memory_is_left_to_others() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert reserve_memory() >= min(total // 10, 512 << 20) * 0.99


def test_limits_of_every_control_group_above_us_count(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("1:memory:/old\n0::/a/b\n")
    groups = tmp_path / "fs"
    (groups / "a" / "b").mkdir(parents=True)
    (groups / "a" / "memory.max").write_text("3000000\n")
    (groups / "a" / "memory.current").write_text("1000000\n")
    (groups / "a" / "b" / "memory.max").write_text("max\n")
    (groups / "a" / "b" / "memory.current").write_text("5\n")
    assert find_memory(groups, own) == 2_000_000
    (groups / "a" / "b" / "cpu.max").write_text("50000 100000\n")
    assert count_cores(groups, own) == 1
    (groups / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert count_cores(groups, own) == len(os.sched_getaffinity(0))
    assert find_memory(groups, tmp_path / "none") > 2_000_000
