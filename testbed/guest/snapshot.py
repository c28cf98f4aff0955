"""Base snapshots: the saved RAM of a guest that has booted, from which clones are restored.

A base is an entry of the cache, kind ``base``, made on first use (`testbed.guest.snapshot_make`). Its key
covers everything that makes one machine another; `docs/snapshots.md` lists it. Before use the RAM file is
checked against the digest taken when it was made, once for each identity of the file and boot of the host.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from testbed.errors import LabError
from testbed.guest.accel import Accel
from testbed.plan.model import GuestPlan, MachineFiles
from testbed.plan.qemu_argv import build_qemu_argv
from testbed.provision.cache import Entry, build_key, list_entries, remove_entry, write_atomically
from testbed.provision.model import Provisioned, Qemu

KIND = "base"
RAM_FILE = "ram"
ABOUT_FILE = "base.json"
KEEP_BYTES = 4 << 30
"""What `prune_bases` leaves when it is not told otherwise."""
_FORMAT = "1"  # part of the key: a change in how bases are made makes new ones
_CHECKED = "base-checked"
_BLOCK = 1 << 16
_ZEROES = bytes(_BLOCK)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CPU_IDENTITY = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")


class SnapshotDamagedError(LabError):
    """A base is not what was saved."""


class BaseFacts(BaseModel):
    """``base.json``: what is known about the machine that was saved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Also in the saved RAM: the guest tells it."""
    boot_id: str
    release: str
    host_public: str
    """SSH host key of all its clones, public half."""
    digest: str
    """`digest_ram` of the RAM file."""
    ram_bytes: int
    """Bytes of it that are not holes."""
    made_at: str
    boot_seconds: float
    save_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base whose RAM file is open: it stays what was checked, even if it is removed meanwhile."""

    key: str
    path: Path
    facts: BaseFacts
    ram_fd: int


def normalize(plan: GuestPlan) -> GuestPlan:
    """Return the plan of the machine that ``plan`` may be cloned from; a name is not part of a machine."""
    return plan.model_copy(update={"name": KIND})


def base_key(plan: GuestPlan, provisioned: Provisioned, accel: Accel, append: tuple[str, ...]) -> str:
    """Return the key of the base of ``plan``; ``append`` is the session's part of the command line."""
    nowhere = Path("/")
    files = MachineFiles(
        qemu=(),
        kernel=nowhere,
        initrd=nowhere,
        append=(*provisioned.image.cmdline, *append),
        accel=accel.name,
        qmp_fd=0,
        ready_fd=0,
        ssh_socket=nowhere,
        console_log=nowhere,
        kmsg_log=nowhere,
    )
    return build_key(
        _FORMAT,
        provisioned.kernel.key,
        provisioned.image.key,
        json.dumps(_identify_qemu(provisioned.qemu)),
        json.dumps(build_qemu_argv(normalize(plan), files)),
        _identify_cpu() if accel.name == "kvm" else "",
    )


def _identify_qemu(qemu: Qemu) -> list[object]:
    """QEMU can be replaced under the same path and version: its files count by size and time."""
    files = [Path(word) for word in qemu.argv if word.startswith("/")]
    stats = [path.stat() for path in files if path.is_file()]
    return [qemu.version, list(qemu.argv), [(status.st_size, status.st_mtime_ns) for status in stats]]


def _identify_cpu() -> str:
    """Under KVM the guest's CPU is the host's, so a cache that moves to another host has no base there."""
    first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    return "\n".join(line for line in first.splitlines() if line.startswith(_CPU_IDENTITY))


@contextmanager
def open_base(root: Path, key: str) -> Iterator[Base]:
    """Open the base ``key`` of the cache. Raises `SnapshotDamagedError` when it is not what was saved."""
    path = root / KIND / key
    try:
        facts = BaseFacts.model_validate_json((path / ABOUT_FILE).read_bytes())
        fd = os.open(path / RAM_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValidationError) as error:
        raise SnapshotDamagedError(
            f"base snapshot '{key}' cannot be read: {error}", where=str(path)
        ) from error
    try:
        _check_ram(root, key, fd, facts)
        yield Base(key=key, path=path, facts=facts, ram_fd=fd)
    finally:
        os.close(fd)


def _check_ram(root: Path, key: str, fd: int, facts: BaseFacts) -> None:
    status = os.fstat(fd)
    identity = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    # After a boot of the host the file comes from the disk again, and a disk can be wrong.
    wanted = json.dumps([*identity, _BOOT_ID.read_text().strip(), facts.digest])
    marker = root / _CHECKED / key
    with contextlib.suppress(OSError):
        if marker.read_text() == wanted:
            os.utime(marker)
            return
    if digest_ram(fd) != facts.digest:
        raise SnapshotDamagedError(
            f"base snapshot '{key}' has changed since it was saved", where=str(root / KIND / key)
        )
    try:
        marker.parent.mkdir(exist_ok=True)
        write_atomically(marker, wanted)
    except OSError:
        return  # a full disk: it will be checked again


def digest_ram(fd: int) -> str:
    """Return a hash of a file, the same whether its zeroes are holes or not. Ends at its beginning."""
    digest = hashlib.sha256(os.fstat(fd).st_size.to_bytes(8, "big"))
    for start, end in _data_extents(fd):
        for offset in range(start, end, _BLOCK):
            block = os.pread(fd, _BLOCK, offset)
            if block != _ZEROES[: len(block)]:
                digest.update(offset.to_bytes(8, "big"))
                digest.update(block)
    os.lseek(fd, 0, os.SEEK_SET)
    return digest.hexdigest()


def _data_extents(fd: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each piece that is no hole, on block borders; pieces do not overlap."""
    size, end = os.fstat(fd).st_size, 0
    while end < size:
        try:
            found = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            return  # ENXIO: only a hole is left
        start = max(end, found // _BLOCK * _BLOCK)
        end = min(size, -(-os.lseek(fd, found, os.SEEK_HOLE) // _BLOCK) * _BLOCK)
        yield start, end


def discard_base(root: Path, key: str) -> None:
    """Remove a base, so that it is made again; who restores from it just then is not disturbed."""
    remove_entry(root, KIND, key)
    with contextlib.suppress(OSError):
        (root / _CHECKED / key).unlink(missing_ok=True)


def find_surplus(root: Path, keep_bytes: int = KEEP_BYTES) -> list[Entry]:
    """Return the bases that are too much for ``keep_bytes`` together, those that were used last staying."""
    bases = [entry for entry in list_entries(root) if entry.kind == KIND]
    bases.sort(key=lambda entry: last_use(root, entry.key), reverse=True)
    total, surplus = 0, []
    for entry in bases:
        total += disk_bytes(entry.path)
        if total > keep_bytes:
            surplus.append(entry)
    return surplus


def last_use(root: Path, key: str) -> float:
    """Return when base ``key`` was used last, in seconds since 1970; 0 if it never was."""
    with contextlib.suppress(OSError):
        return (root / _CHECKED / key).stat().st_mtime
    return 0.0


def disk_bytes(path: Path) -> int:
    """Return what the files below ``path`` take on the disk, holes left out."""
    return sum(file.lstat().st_blocks * 512 for file in path.rglob("*"))


def now_text() -> str:
    """Return the time as ``base.json`` has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
