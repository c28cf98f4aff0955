"""Base snapshots without QEMU: which machine fits which base, damage, and what is kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed.guest import snapshot
from testbed.guest.accel import Accel
from testbed.guest.clone import build_words, write_prefaces
from testbed.guest.snapshot import (
    KIND,
    Base,
    BaseFacts,
    SnapshotDamagedError,
    base_key,
    digest_ram,
    discard_base,
    find_surplus,
    open_base,
)
from testbed.plan.model import DevicePlan, GuestPlan
from testbed.provision.cache import get_entry, list_entries
from testbed.provision.identity import build_identity
from testbed.provision.model import Image, Kernel, Provisioned, Qemu, Toolbox

PLAN = GuestPlan(name="vm", memory_mib=512, cpus=2)
TCG = Accel(name="tcg", reason="")
APPEND = ("printk.devkmsg=on",)
MIB = 1 << 20


def gpu(**params: object) -> DevicePlan:
    return DevicePlan(name="gpu0", model="gpu", params=params, port="rp0")


@pytest.fixture
def lab(tmp_path: Path) -> Provisioned:
    program = tmp_path / "qemu"
    program.write_text("QEMU")
    qemu = Qemu(argv=(str(program), "-L", "/x"), img_argv=(), env={}, version=(11, 1, 3), origin="here")
    return Provisioned(
        cache=tmp_path / "cache",
        qemu=qemu,
        toolbox=Toolbox(root=tmp_path, key="t", packages={}, qemu=qemu),
        kernel=Kernel(
            name="default",
            key="k",
            release="7.2",
            image=tmp_path,
            modules_dir=tmp_path,
            build_dir=tmp_path,
            tree=None,
            config={},
        ),
        image=Image(key="i", initramfs=tmp_path, cmdline=("quiet",), modules=()),
    )


def upgrade(lab: Provisioned) -> Provisioned:
    Path(lab.qemu.argv[0]).write_text("QEMU, newer")
    return lab


Change = Callable[[GuestPlan, Provisioned, Accel], tuple[GuestPlan, Provisioned, Accel]]
OTHERS: dict[str, Change] = {
    "memory": lambda p, lab, a: (p.model_copy(update={"memory_mib": 1024}), lab, a),
    "processors": lambda p, lab, a: (p.model_copy(update={"cpus": 1}), lab, a),
    "command line": lambda p, lab, a: (p.model_copy(update={"cmdline": ("iommu=pt",)}), lab, a),
    "windows": lambda p, lab, a: (p.model_copy(update={"devices": (gpu(vram_mib=256),)}), lab, a),
    "accelerator": lambda p, lab, a: (p, lab, Accel(name="kvm", reason="")),
    "kernel": lambda p, lab, a: (p, replace(lab, kernel=replace(lab.kernel, key="k2")), a),
    "image": lambda p, lab, a: (p, replace(lab, image=replace(lab.image, key="i2")), a),
    "QEMU's version": lambda p, lab, a: (p, replace(lab, qemu=replace(lab.qemu, version=(11, 1, 4))), a),
    "QEMU's arguments": lambda p, lab, a: (
        p,
        replace(lab, qemu=replace(lab.qemu, argv=(*lab.qemu.argv, "-L", "/y"))),
        a,
    ),
    "QEMU's program": lambda p, lab, a: (p, upgrade(lab), a),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_machine_has_another_base(lab: Provisioned, what: str) -> None:
    before = base_key(PLAN, lab, TCG, APPEND)
    assert base_key(*OTHERS[what](PLAN, lab, TCG), APPEND) != before


def test_machines_that_differ_by_name_and_devices_share_a_base(lab: Provisioned) -> None:
    other = GuestPlan(name="peer", memory_mib=512, cpus=2, devices=(gpu(vram_mib=64),))
    assert base_key(other, lab, TCG, APPEND) == base_key(PLAN, lab, TCG, APPEND)
    assert base_key(PLAN, lab, TCG, (*APPEND, "more")) != base_key(PLAN, lab, TCG, APPEND)


def write_base(folder: Path, ram: bytes = b"x" * MIB, **changes: Any) -> BaseFacts:
    """Make a base as `make_base` does, but for the guest."""
    (folder / "ram").write_bytes(ram)
    (folder / "console.log").write_text("[    0.0] Linux version 7.2\n")
    (folder / "kmsg.log").write_text("5,0,0,-;Linux version 7.2\n")
    with (folder / "ram").open("rb") as file:
        digest = digest_ram(file.fileno())
    values: dict[str, Any] = {
        "id": "b0",
        "boot_id": "1234",
        "release": "7.2",
        "host_public": "AAAA",
        "digest": digest,
        "ram_bytes": len(ram),
        "made_at": "2026-11-21T09:00:00Z",
        "boot_seconds": 4.0,
        "save_seconds": 2.0,
    }
    facts = BaseFacts(**{**values, **changes})
    (folder / "base.json").write_text(facts.model_dump_json())
    return facts


def publish(root: Path, key: str = "key", ram: bytes = b"x" * MIB) -> Path:
    def build(folder: Path) -> None:
        write_base(folder, ram)

    return get_entry(root, KIND, key, build)


def change_behind_its_back(path: Path, offset: int) -> None:
    """Flip a bit and put the modification time back, as a disk does that goes bad."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_base_is_opened_and_read_from_its_beginning(tmp_path: Path) -> None:
    publish(tmp_path)
    for _ in range(2):
        with open_base(tmp_path, "key") as base:
            assert base.facts.id == "b0"
            assert os.lseek(base.ram_fd, 0, os.SEEK_CUR) == 0
            assert len(os.read(base.ram_fd, 2 * MIB)) == MIB


@pytest.mark.parametrize("offset", [0, MIB // 2, MIB - 1])
def test_a_flipped_bit_is_found_though_size_and_time_are_right(tmp_path: Path, offset: int) -> None:
    path = publish(tmp_path)
    with open_base(tmp_path, "key"):
        pass
    change_behind_its_back(path / "ram", offset)
    with pytest.raises(SnapshotDamagedError, match="has changed"), open_base(tmp_path, "key"):
        pass


def test_a_file_is_read_once_until_the_host_boots_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path)
    reads: list[int] = []

    def digest(fd: int) -> str:
        reads.append(fd)
        return digest_ram(fd)

    monkeypatch.setattr(snapshot, "digest_ram", digest)
    for _ in range(3):
        with open_base(tmp_path, "key"):
            pass
    assert len(reads) == 1
    boot = tmp_path / "boot_id"
    boot.write_text("another boot\n")
    monkeypatch.setattr(snapshot, "_BOOT_ID", boot)
    with open_base(tmp_path, "key"):
        pass
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("name", "text"), [("base.json", "{"), ("base.json", '{"id": "b0"}'), ("base.json", None), ("ram", None)]
)
def test_a_base_that_cannot_be_read_is_damaged(tmp_path: Path, name: str, text: str | None) -> None:
    path = publish(tmp_path) / name
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(SnapshotDamagedError, match="cannot be read"), open_base(tmp_path, "key"):
        pass


def test_digest_does_not_care_for_holes_but_for_places(tmp_path: Path) -> None:
    def digest(name: str, pieces: dict[int, bytes], size: int) -> str:
        path = tmp_path / name
        with path.open("w+b") as file:
            file.truncate(size)
            for offset, data in pieces.items():
                file.seek(offset)
                file.write(data)
            file.flush()
            return digest_ram(file.fileno())

    data = {3 * MIB + 100: b"abc", 9 * MIB: b"d" * 70000}
    sparse = digest("sparse", data, 16 * MIB)
    assert digest("full", {0: bytes(16 * MIB), **data}, 16 * MIB) == sparse
    assert digest("moved", {4 * MIB + 100: b"abc", 9 * MIB: b"d" * 70000}, 16 * MIB) != sparse
    assert digest("longer", data, 17 * MIB) != sparse
    assert digest("empty", {}, 0) != digest("hole", {}, MIB)


def test_the_bases_that_were_used_last_are_kept(tmp_path: Path) -> None:
    for number, key in enumerate(("a", "b", "c", "never")):
        publish(tmp_path, key, bytes([number + 1]) * MIB)
        if key == "never":
            continue
        with open_base(tmp_path, key):
            pass
        os.utime(tmp_path / "base-checked" / key, (1000 * number, 1000 * number))
    other = get_entry(tmp_path, "image", "i", lambda folder: (folder / "x").touch())
    assert [entry.key for entry in find_surplus(tmp_path, 100 * MIB)] == []
    surplus = find_surplus(tmp_path, 2 * MIB + MIB // 2)
    assert {entry.key for entry in surplus} == {"a", "never"}
    for entry in find_surplus(tmp_path, 0):
        discard_base(tmp_path, entry.key)
    assert [(entry.kind, entry.path) for entry in list_entries(tmp_path)] == [("image", other)]
    assert not list((tmp_path / "base-checked").iterdir())


def test_who_has_a_base_open_keeps_it(tmp_path: Path) -> None:
    publish(tmp_path)
    with open_base(tmp_path, "key") as base:
        discard_base(tmp_path, "key")
        assert len(os.read(base.ram_fd, MIB)) == MIB


def test_logs_of_a_clone_begin_with_the_boot_of_its_base(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "vm").mkdir()
    facts = write_base(tmp_path / "base")
    write_prefaces(Base(key="key", path=tmp_path / "base", facts=facts, ram_fd=-1), tmp_path / "vm")
    note, line = (tmp_path / "vm" / "kmsg.log").read_text().splitlines()
    assert note.startswith("6,0,0,-;testbed: a clone of base b0, saved 2026-11-21T09:00:00Z")
    assert line == "5,0,0,-;Linux version 7.2"
    assert "base b0" in (tmp_path / "vm" / "console.log").read_text().splitlines()[0]


def test_each_clone_is_told_something_of_its_own() -> None:
    first, second = (
        dict(line.split(" ", 1) for line in build_words(build_identity()).splitlines()) for _ in range(2)
    )
    assert list(first) == ["nonce", "authorized_key", "entropy", "mac", "time", "clone"]
    assert all(first[word] != second[word] for word in first)
    assert len(bytes.fromhex(first["entropy"])) == 64
    assert first["mac"].startswith("525400")
    assert len(bytes.fromhex(first["mac"])) == 6
    assert json.dumps(first).isascii()
