"""The splat finder on logs of real kernels (tests/recorded/kernel; each file says how it was made)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.evidence.splats import find_splats, parse_log, user_messages

RECORDED = Path(__file__).parents[2] / "recorded" / "kernel"

EXPECTED: dict[str, list[tuple[str, str, str | None]]] = {
    "arm64-oops.console": [
        ("oops", "BUG: kernel NULL pointer dereference in tb_probe", "Oops: Fatal exception")
    ],
    "badaddr.console": [("oops", "BUG: unable to handle page fault in m_init", None)],
    "badaddr.kmsg": [("oops", "BUG: unable to handle page fault in m_init", None)],
    "bug.console": [("bug", "kernel BUG in oops_bug", None)],
    "bug.kmsg": [("bug", "kernel BUG in oops_bug", None)],
    "clean-boot.console": [],
    "div.console": [("oops", "Oops: divide error in m_init", None)],
    "div.kmsg": [("oops", "Oops: divide error in m_init", None)],
    "gpf.console": [("general_protection", "general protection fault in m_init", None)],
    "gpf.kmsg": [("general_protection", "general protection fault in m_init", None)],
    "hung-panic.console": [("hung_task", "task tboops-hung hung in sleep_in_d", "hung_task: blocked tasks")],
    "hung-task.console": [("hung_task", "task tboops-hung hung in sleep_in_d", None)] * 2,
    "interleaved.console": [
        ("oops", "BUG: kernel NULL pointer dereference in tb_timeout", None),
        ("warning", "WARNING in tb_job_done", None),
    ],
    "kasan.console": [("kasan", "KASAN: slab-use-after-free in tbfix_read", None)],
    "kfence.console": [
        ("kfence", "KFENCE: use-after-free read in m_init", None),
        ("kfence", "KFENCE: out-of-bounds read in m_init", None),
    ],
    "list.console": [("list_corruption", "list_del corruption in m_init", None)],
    "list.kmsg": [("list_corruption", "list_del corruption in m_init", None)],
    "lockdep.console": [
        ("lockdep", "lockdep: possible circular locking dependency detected in tblock_second", None)
    ],
    "null.console": [("oops", "BUG: kernel NULL pointer dereference in oops_null", None)],
    "null.kmsg": [("oops", "BUG: kernel NULL pointer dereference in oops_null", None)],
    "old-warning.console": [("refcount", "refcount_t: underflow; use-after-free in tb_fence_put", None)],
    "oops-panic.console": [("oops", "BUG: kernel NULL pointer dereference in oops_null", "Fatal exception")],
    "page-pool-stall.kmsg": [
        ("page_pool_stall", "page_pool: stalled pool shutdown", None),
        ("netdev_leak", "unregister_netdevice: eth1 is not freed", None),
        ("page_pool_stall", "page_pool: stalled pool shutdown", None),
    ],
    "panic.console": [("panic", "Kernel panic: tboops: panic on purpose", None)],
    "rcu-stall.console": [
        ("rcu_stall", "RCU stall in oops_lockup", None),
        ("rcu_stall", "RCU stall in oops_lockup", None),
    ],
    "refcount.console": [("refcount", "refcount_t: addition on 0; use-after-free in oops_refcount", None)],
    "sleeping-in-atomic.console": [
        ("sleeping_in_atomic", "scheduling while atomic in oops_sleep_atomic", None),
        ("warning", "WARNING in do_one_initcall", None),
    ],
    "soft-lockup.console": [("soft_lockup", "soft lockup in oops_lockup", None)],
    "sysrq-c.console": [("panic", "Kernel panic: sysrq triggered crash", None)],
    "two-reports.kmsg": [
        ("soft_lockup", "soft lockup in oops_lockup", None),
        ("hung_task", "task tboops-hung hung in sleep_in_d", None),
        ("hung_task", "task tboops-hung hung in sleep_in_d", None),
    ],
    "ubsan.console": [
        ("ubsan", "UBSAN: shift-out-of-bounds in m_init", None),
        ("ubsan", "UBSAN: array-index-out-of-bounds in m_init", None),
    ],
    "warn-panic.console": [("warning", "WARNING in oops_warn", "kernel: panic_on_warn set ...")],
    "warn.console": [("warning", "WARNING in oops_warn", None)],
}


def read(name: str) -> str:
    return (RECORDED / name).read_text(errors="replace")


def test_every_recorded_log_has_an_expectation() -> None:
    assert {path.name for path in RECORDED.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_finds_exactly_what_the_kernel_reported(name: str) -> None:
    found = [(splat.kind, splat.title, splat.panic) for splat in find_splats(read(name))]
    assert found == EXPECTED[name]


@pytest.mark.parametrize("name", sorted(name for name, expected in EXPECTED.items() if expected))
def test_lines_point_at_the_report(name: str) -> None:
    lines = read(name).split("\n")
    for splat in find_splats(read(name)):
        assert 1 <= splat.first_line <= splat.last_line <= len(lines)
        assert any(splat.message in line for line in lines[splat.first_line - 1 : splat.last_line])
        assert "== begin" not in "\n".join(splat.text)


def test_reports_do_not_overlap_on_one_caller() -> None:
    splats = find_splats(read("kfence.console"))
    assert splats[0].last_line < splats[1].first_line


def test_an_oops_holds_its_registers_and_trace() -> None:
    (splat,) = find_splats(read("null.console"))
    text = "\n".join(splat.text)
    assert "RIP: 0010:oops_null" in text
    assert "---[ end trace" in splat.text[-1]


def test_console_and_kmsg_tell_the_same() -> None:
    for name in ("null", "bug", "list", "gpf", "div", "badaddr"):
        console = find_splats(read(f"{name}.console"))
        kmsg = find_splats(read(f"{name}.kmsg"))
        assert [splat.message for splat in console] == [splat.message for splat in kmsg]


def test_without_time_stamps() -> None:
    bare = "\n".join(line.partition("] ")[2] for line in read("null.console").splitlines())
    assert [splat.title for splat in find_splats(bare)] == [
        "BUG: kernel NULL pointer dereference in oops_null"
    ]


def test_the_words_of_a_program_are_not_the_kernels() -> None:
    log = "12,5,1000,-;BUG: kernel NULL pointer dereference, address: 0\n4,6,2000,-;fine\n"
    assert find_splats(log) == []
    assert user_messages(log) == {"BUG: kernel NULL pointer dereference, address: 0"}


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: this is only what an init script prints",
        "systemd[1]: Debugging is on",
        "tbgpu 0000:01:00.0: debug: no bug here",
        "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
        "tbgpu 0000:01:00.0: [drm] *ERROR* engine copy timed out",
        "random: crng init done, no panic",
    ],
)
def test_harmless_lines_are_no_splat(line: str) -> None:
    assert find_splats(f"[    1.000000] {line}\n") == []


def test_an_expected_first_line_with_a_long_gap_ends_the_report() -> None:
    log = "[    1.0] BUG: Bad page state in process cat  pfn:12345\n" + "".join(
        f"[    9.{number}] tbnic: packet {number}\n" for number in range(30)
    )
    (splat,) = find_splats(log)
    assert (splat.kind, splat.first_line, splat.last_line) == ("bug", 1, 1)


@given(st.text(alphabet=st.sampled_from("BUGWARNIOops: #[]0123+x/=-<>;,\n kernelpanic"), max_size=400))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for splat in find_splats(text):
        assert splat.first_line <= splat.last_line
    assert all(line.number >= 1 for line in parse_log(text))
