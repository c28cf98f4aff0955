"""Scenario and facts to cases: matrix, seeds, selection, reasons to skip, round trip."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import UsageError
from testbed.plan.build import build_cases, derive_seed
from testbed.plan.host import Host, find_skip_reason
from testbed.plan.model import CasePlan, DevicePlan, ModuleUse, Options
from testbed.plan.select import parse_selection
from testbed.plan.text import describe_case
from testbed.scenario.document import Requires
from testbed.scenario.load import parse_scenario

PATH = Path("scenarios/fence/hold.yaml")
TEXT = """\
schema: 1
about: Does it hold?
tags: [fence, slow]
requires: {config: [CONFIG_SYNC_FILE], modules: [gpu-sched], kernel: ">=6.12", accel: kvm}
params: {timeout_ms: 300}
matrix: {engine: [copy, compute], size: [1M, 2M]}
timeout: 90s
cold: true
guests:
  vm:
    memory: 1G
    cpus: 4
    cmdline: [quiet]
    devices:
      gpu0: {model: gpu, vram_mib: 128}
      e: {qemu: {driver: edu, dma_mask: 7}, plug: later}
  peer: {}
modules: [tbgpu: {job_timeout_ms: "${timeout_ms}"}]
expected_warnings: [{match: timed out}]
expect_verdict: {status: FAIL, reason: x}
steps:
  - inject: hold_completions
    device: gpu0
    with: {engine: "${engine}"}
  - parallel:
      - - run: "echo ${size}"
      - - run: "true"
          name: does nothing
          guest: peer
  - repeat: {times: 2, steps: [{plug: e}, {unplug: e, timeout: 2s}]}
"""
SCENARIO = parse_scenario(TEXT, PATH)
BARE = Host()


def build(**options: object) -> list[CasePlan]:
    return build_cases(SCENARIO, host=BARE, options=Options(**options))  # type: ignore[arg-type]


def test_a_matrix_makes_a_case_of_each_combination() -> None:
    assert [case.name for case in build()] == [
        "fence/hold[engine=copy,size=1M]",
        "fence/hold[engine=copy,size=2M]",
        "fence/hold[engine=compute,size=1M]",
        "fence/hold[engine=compute,size=2M]",
    ]
    assert build()[3].params == {"timeout_ms": 300, "engine": "compute", "size": "2M"}


def test_a_case_says_what_the_scenario_says() -> None:
    case = build()[0]
    assert (case.timeout, case.cold, case.tags) == (90.0, True, ("fence", "slow"))
    vm, peer = case.guests
    assert (vm.name, vm.memory_mib, vm.cpus, vm.cmdline) == ("vm", 1024, 4, ("quiet",))
    assert (peer.memory_mib, peer.cpus, peer.devices) == (512, 2, ())
    assert vm.devices == (
        DevicePlan(name="gpu0", model="gpu", params={"vram_mib": 128}, plug="start", port="rp0"),
        DevicePlan(name="e", model=None, plug="later", port="rp1", qemu={"driver": "edu", "dma_mask": 7}),
    )
    assert case.modules == (ModuleUse(name="tbgpu", args={"job_timeout_ms": 300}),)


def test_a_case_round_trips_through_json() -> None:
    for case in build():
        assert CasePlan.model_validate_json(case.model_dump_json()) == case


def test_seeds_are_steady_and_can_be_given() -> None:
    first, second = build()[:2]
    assert first.seed == derive_seed(first.name) == build()[0].seed
    assert first.seed != second.seed
    assert {case.seed for case in build(seed=7)} == {7}


def test_selection_is_by_name_and_tag() -> None:
    assert len(build(select="compute and size=2m")) == 1
    assert len(build(select="slow and not fast")) == 4
    assert build(select="slo") == []


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("gpu", True),
        ("GPU/Ha", True),
        ("slow", True),
        ("slo", False),
        ("not gpu", False),
        ("not not gpu", True),
        ("nope or gpu", True),
        ("nope or gpu and nope", False),
        ("(nope or gpu) and slow", True),
        ("not (nope or slow)", False),
    ],
)
def test_expressions(text: str, *, selected: bool) -> None:
    assert parse_selection(text)("gpu/hang", ["slow"]) is selected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("and gpu", "a word is missing before 'and'"),
        ("gpu and", "a word is missing at the end"),
        ("(gpu", "a '\\)' is missing"),
        ("gpu)", "'\\)' is not expected there"),
        ("gpu fence", "'fence' is not expected there"),
        ("()", "a word is missing before '\\)'"),
        ("not " * 300 + "x", "more than 200 words"),
    ],
)
def test_wrong_expressions_say_why(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_selection(text)


@given(st.lists(st.sampled_from(["and", "or", "not", "(", ")", "a", "b"]), max_size=200))
def test_any_expression_selects_or_is_refused(words: list[str]) -> None:
    result: object = False
    try:
        result = parse_selection(" ".join(words))("a", [])
    except UsageError as error:
        result = error.hint is None
    assert isinstance(result, bool)


GOOD_HOST = Host(
    kernel_release="7.2.12-amd64",
    kernel_config={"CONFIG_SYNC_FILE": "y"},
    modules=frozenset({"gpu_sched"}),
    accel="kvm",
)


def test_a_host_that_has_everything_skips_nothing() -> None:
    cases = build_cases(SCENARIO, host=GOOD_HOST, options=Options())
    assert [case.skip_reason for case in cases] == [None] * 4


def test_a_host_that_nobody_looked_at_skips_nothing() -> None:
    assert build()[0].skip_reason is None


def test_all_reasons_to_skip_are_told() -> None:
    host = Host(
        kernel_release="6.1.0-40-amd64",
        kernel_config={"CONFIG_SYNC_FILE": "n"},
        modules=frozenset(),
        accel="tcg",
        accel_reason="a guest died under KVM",
    )
    assert build_cases(SCENARIO, host=host, options=Options())[0].skip_reason == (
        "needs kernel >=6.12, this is 6.1.0-40-amd64; the kernel has CONFIG_SYNC_FILE off; "
        "the kernel has no module gpu-sched; "
        "needs accelerator kvm, this run uses tcg: a guest died under KVM"
    )


def test_an_option_may_be_a_module_and_lack_its_prefix() -> None:
    requires = Requires(config=("SYNC_FILE",))
    assert find_skip_reason(requires, Host(kernel_config={"CONFIG_SYNC_FILE": "m"})) is None


def test_the_text_shows_guests_devices_steps_and_budgets() -> None:
    golden = Path(__file__).resolve().parents[2] / "golden" / "plan.txt"
    assert describe_case(build(seed=1)[1]) + "\n" == golden.read_text()
