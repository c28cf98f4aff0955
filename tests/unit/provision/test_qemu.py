"""A QEMU that the user names is asked what it is before it is believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import ProvisionError, UsageError
from testbed.provision.qemu import build_toolbox_qemu, parse_version, probe_user_qemu


def make_qemu(directory: Path, version: str, devices: str) -> str:
    program = directory / "qemu-system-x86_64"
    answers = f'case "$1" in -version) echo "QEMU emulator version {version}";; *) echo "{devices}";; esac'
    program.write_text(f"#!/bin/sh\n{answers}\n")
    program.chmod(0o755)
    (directory / "qemu-img").touch(mode=0o755)
    return str(program)


def test_fitting_qemu_is_taken(tmp_path: Path) -> None:
    path = make_qemu(tmp_path, "10.1.0", 'name \\"vfio-user-pci\\", bus PCI')
    qemu = probe_user_qemu(path)
    assert qemu.argv == (path,)
    assert qemu.img_argv == (str(tmp_path / "qemu-img"),)
    assert qemu.version == (10, 1, 0)
    assert qemu.origin == path


@pytest.mark.parametrize(
    ("version", "devices", "message"),
    [
        ("10.0.13 (Debian)", "vfio-user-pci", "is 10.0.13; 10.1 or newer is needed"),
        ("10.2.2", "virtio-net-pci", "was built without vfio-user-pci"),
    ],
)
def test_unfit_qemu_is_refused(tmp_path: Path, version: str, devices: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        probe_user_qemu(make_qemu(tmp_path, version, devices))


def test_missing_qemu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a program"):
        probe_user_qemu(str(tmp_path / "none"))


def test_versions() -> None:
    assert parse_version("QEMU emulator version 11.1.3 (Debian 1:11.1.3)") == (11, 1, 3)
    assert parse_version("10.1") == (10, 1, 0)
    with pytest.raises(ProvisionError, match="cannot be read"):
        parse_version("hello")


def test_toolbox_qemu_runs_by_its_own_loader(tmp_path: Path) -> None:
    qemu = build_toolbox_qemu(tmp_path, "1:11.1.3+ds-1~bpo13+1")
    assert qemu.version == (11, 1, 3)
    assert qemu.argv[0] == str(tmp_path / "lib64/ld-linux-x86-64.so.2")
    assert qemu.env == {"QEMU_MODULE_DIR": str(tmp_path / "usr/lib/x86_64-linux-gnu/qemu")}
