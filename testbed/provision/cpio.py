"""A deterministic writer for initramfs archives.

The format is cpio "newc" (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).
Owners are root, times are zero, entries are sorted: equal input gives equal bytes, whoever runs it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member: ``mode`` holds type and permissions; ``data`` is content, link target or empty."""

    name: str
    mode: int
    data: bytes = b""
    rdev: tuple[int, int] = (0, 0)
    """Major and minor of a device node."""


def directory(name: str, mode: int = 0o755) -> Entry:
    """Return a directory entry."""
    return Entry(name=name, mode=stat.S_IFDIR | mode)


def regular(name: str, data: bytes, mode: int = 0o644) -> Entry:
    """Return a regular file entry."""
    return Entry(name=name, mode=stat.S_IFREG | mode, data=data)


def symlink(name: str, target: str) -> Entry:
    """Return a symbolic link entry."""
    return Entry(name=name, mode=stat.S_IFLNK | 0o777, data=target.encode())


def character_device(name: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    """Return a character device node entry."""
    return Entry(name=name, mode=stat.S_IFCHR | mode, rdev=(major, minor))


def read_tree(root: Path) -> Iterator[Entry]:
    """Yield the entries below ``root`` (directories, files, links), names relative to it."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield symlink(name, str(path.readlink()))
        elif stat.S_ISDIR(mode):
            yield directory(name, stat.S_IMODE(mode))
        elif stat.S_ISREG(mode):
            yield regular(name, path.read_bytes(), stat.S_IMODE(mode))


def write_archive(out: BinaryIO, entries: list[Entry]) -> None:
    """Write ``entries``, sorted by name, and the trailer to ``out``."""
    ordered = sorted(entries, key=lambda entry: entry.name)
    for inode, entry in enumerate(ordered, start=1):
        _write_entry(out, inode, entry)
    _write_entry(out, 0, Entry(name=_TRAILER, mode=0))


def _write_entry(out: BinaryIO, inode: int, entry: Entry) -> None:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.rdev, len(name), 0)
    header = _MAGIC + b"".join(b"%08X" % value for value in fields)
    out.write(_padded(header + name))
    out.write(_padded(entry.data))


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
