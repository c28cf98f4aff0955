"""The toolbox: QEMU, compiler, kernel headers and the guest's user space in one Debian root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from testbed.provision.apt import Archive, Deb
from testbed.provision.cache import build_key, find_entry, get_entry
from testbed.provision.debs import unpack_packages
from testbed.provision.lock import LockedSet
from testbed.provision.model import Toolbox
from testbed.provision.progress import Advance
from testbed.provision.qemu import build_toolbox_qemu

SUITES = ("trixie", "trixie-backports")
KIND = "toolbox"
UNPACKED_PER_BYTE = 4
"""Bytes on disk for one byte of package, rounded up from 3.4 measured."""

_PACKAGES = {
    "the lab": ("qemu-system-x86", "qemu-utils"),
    "compilers": ("gcc", "make", "libc6-dev", "musl-tools", "libelf1t64", "linux-headers-amd64"),
    "what Kbuild calls": (
        *("base-files", "bash", "dash", "coreutils", "sed", "grep", "mawk", "findutils", "diffutils"),
        *("tar", "gzip", "xz-utils", "zstd", "perl-base"),
    ),
    "the guest's user space": ("busybox-static", "dropbear-bin", "pciutils"),
}
PACKAGES = tuple(name for group in _PACKAGES.values() for name in group)

# Links that packages make when they are installed, which ours are not.
_LINKS = {"usr/bin/awk": "mawk", "usr/bin/cc": "gcc"}
_LAYOUT = "1"


def toolbox_key(debs: Sequence[Deb]) -> str:
    """Return the key of the toolbox made of ``debs``."""
    return build_key(_LAYOUT, *(f"{deb.file} {deb.digest}" for deb in debs))


def build_toolbox(root: Path, archive: Archive, debs: Sequence[Deb], advance: Advance) -> Path:
    """Return the directory of the toolbox in the cache at ``root``, unpacking ``debs`` when needed."""

    def build(directory: Path) -> None:
        unpack_packages(archive, debs, directory, advance)
        for name, target in _LINKS.items():
            (directory / name).unlink(missing_ok=True)
            (directory / name).symlink_to(target)
        (directory / "mnt").mkdir(exist_ok=True)

    needs = UNPACKED_PER_BYTE * sum(deb.size for deb in debs)
    return get_entry(root, KIND, toolbox_key(debs), build, needs=needs)


def find_toolbox(root: Path, locked: LockedSet) -> Toolbox | None:
    """Return the toolbox that the lock file names; None when it is not there, damaged or lacks a package."""
    path = find_entry(root, KIND, locked.key)
    if path is None or not locked.packages.keys() >= set(PACKAGES):
        return None
    packages = {name: package.version for name, package in locked.packages.items()}
    qemu = build_toolbox_qemu(path, packages["qemu-system-x86"])
    return Toolbox(root=path, key=locked.key, packages=packages, qemu=qemu)
