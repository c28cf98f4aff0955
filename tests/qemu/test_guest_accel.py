"""The accelerator probe: its tiny guest is right, and each wrong host is told apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.errors import LabError, UsageError
from testbed.guest import accel as accel_module
from testbed.guest import probe_rom
from testbed.guest.accel import probe_accel, run_probe
from testbed.provision.model import Provisioned

pytestmark = pytest.mark.qemu


def test_a_processor_passes_the_probe(provisioned: Provisioned) -> None:
    assert run_probe(provisioned.qemu, "tcg") is None


@pytest.mark.parametrize("name", ["_X87", "_SSE2", "_BMI2"])
def test_a_wrong_result_fails_the_probe(
    provisioned: Provisioned, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lines: tuple[str, ...] = getattr(probe_rom, name)
    expected = bytearray(bytes.fromhex(lines[-1]))
    expected[-1] ^= 1
    monkeypatch.setattr(probe_rom, name, (*lines[:-1], expected.hex()))
    assert "wrong results" in str(run_probe(provisioned.qemu, "tcg"))


def test_a_crash_is_no_pass(provisioned: Provisioned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_rom, "_X87", ("0f 0b",))  # ud2 with no handler: triple fault
    assert run_probe(provisioned.qemu, "tcg") is not None


def test_a_guest_that_never_ends_is_no_pass(
    provisioned: Provisioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_rom, "_X87", ("eb fe",))  # jmp to itself
    monkeypatch.setattr(accel_module, "_PROBE_SECONDS", 0.5)
    assert "did not end" in str(run_probe(provisioned.qemu, "tcg"))


def test_a_broken_qemu_is_no_pass(provisioned: Provisioned) -> None:
    broken = replace(provisioned.qemu, argv=(*provisioned.qemu.argv, "-no-such-option"))
    assert "no-such-option" in str(run_probe(broken, "kvm"))


def test_answer_is_kept_until_qemu_changes(provisioned: Provisioned, tmp_path: Path) -> None:
    first = probe_accel("auto", qemu=provisioned.qemu, cache=tmp_path)
    store = tmp_path / "accel.json"
    if not store.exists():
        assert "/dev/kvm" in first.reason  # nothing to probe: no device, or no right to open it
        return
    known = json.loads(store.read_text())
    store.write_text(json.dumps({**known, "fault": "because the test says so"}))
    assert probe_accel("auto", qemu=provisioned.qemu, cache=tmp_path).reason == "because the test says so"
    with pytest.raises(LabError, match="because the test says so"):
        probe_accel("kvm", qemu=provisioned.qemu, cache=tmp_path)
    newer = replace(provisioned.qemu, version=(99, 0, 0))
    assert probe_accel("auto", qemu=newer, cache=tmp_path).reason == first.reason


def test_choices(provisioned: Provisioned, tmp_path: Path) -> None:
    assert probe_accel("tcg", qemu=provisioned.qemu, cache=tmp_path).name == "tcg"
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="'hvf' is not known"):
        probe_accel("hvf", qemu=provisioned.qemu, cache=tmp_path)
