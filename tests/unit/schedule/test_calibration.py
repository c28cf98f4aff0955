"""The one scale of all budgets: from what it is made, and how long it is believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import UsageError
from testbed.guest.accel import Accel
from testbed.guest.probe_rom import build_probe_rom
from testbed.provision.model import Qemu
from testbed.schedule import calibration
from testbed.schedule.calibration import REFERENCE_SECONDS, build_scale, probe_scale

QEMU = Qemu(argv=("qemu",), img_argv=(), env={}, version=(11, 1, 3), origin="unit")
TCG, KVM = Accel(name="tcg", reason=""), Accel(name="kvm", reason="")


@pytest.mark.parametrize(
    ("seconds", "jobs", "load", "factor"),
    [
        (REFERENCE_SECONDS, 2, 0.0, 1.0),
        (REFERENCE_SECONDS / 10, 2, 0.0, 1.0),
        (REFERENCE_SECONDS * 3, 2, 0.0, 3.0),
        (REFERENCE_SECONDS, 4, 0.0, 2.0),
        (REFERENCE_SECONDS, 1, 5.0, 2.5),
        (REFERENCE_SECONDS * 3, 4, 1.0, 6.0),
        (REFERENCE_SECONDS * 1000, 2, 0.0, 20.0),
    ],
)
def test_scale_is_slowness_times_crowd(seconds: float, jobs: int, load: float, factor: float) -> None:
    assert build_scale(seconds, jobs=jobs, cores=2, load=load).factor == factor


def test_the_reason_says_what_was_measured() -> None:
    scale = build_scale(0.5, jobs=4, cores=2, load=0.0)
    assert scale.reason == (
        f"the test guest takes 0.50 s, {REFERENCE_SECONDS:.2f} s on the reference machine; "
        "4.0 compete for 2 cores"
    )


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []

    def measure(qemu: Qemu, accel: Accel) -> float:
        calls.append(accel.name)
        return REFERENCE_SECONDS * 2

    monkeypatch.setattr(calibration, "measure_guest", measure)
    monkeypatch.setattr(calibration.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.delenv("TESTBED_SCALE", raising=False)
    return calls


def test_it_is_measured_once_for_each_accelerator_and_boot(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for accel in (TCG, KVM, TCG, KVM):
        assert probe_scale(QEMU, accel, tmp_path, jobs=1).factor == 2.0
    assert measured == ["tcg", "kvm"]
    boot = tmp_path / "boot_id"
    boot.write_text("another")
    monkeypatch.setattr(calibration, "_BOOT_ID", boot)
    probe_scale(QEMU, TCG, tmp_path, jobs=1)
    assert measured == ["tcg", "kvm", "tcg"]


def test_a_damaged_memory_is_measured_again(tmp_path: Path, measured: list[str]) -> None:
    for damage in ("", "[]", '{"x": "y"}'):
        (tmp_path / "calibration.json").write_text(damage)
        assert probe_scale(QEMU, TCG, tmp_path, jobs=1).factor == 2.0
    assert len(measured) == 3


def test_the_user_has_the_last_word(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTBED_SCALE", "7.5")
    scale = probe_scale(QEMU, TCG, tmp_path, jobs=8)
    assert (scale.factor, scale.reason, measured) == (7.5, "TESTBED_SCALE says so", [])


@pytest.mark.parametrize("text", ["fast", "0", "-1", "nan", "inf"])
def test_a_scale_that_is_none_is_a_usage_error(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTBED_SCALE", text)
    with pytest.raises(UsageError, match=f"TESTBED_SCALE is '{text}'"):
        probe_scale(QEMU, TCG, tmp_path, jobs=1)


def test_the_loop_is_as_long_as_asked_for() -> None:
    short, long = build_probe_rom(0x01020304), build_probe_rom(0x0A0B0C0D)
    assert bytes.fromhex("b9 04 03 02 01 49 75 fd") in short
    assert bytes.fromhex("b9 0d 0c 0b 0a 49 75 fd") in long
    assert len(short) == len(long) == 0x10000
