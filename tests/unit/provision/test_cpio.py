"""Archives for the kernel: equal input gives equal bytes, laid out as "newc" wants it."""

from __future__ import annotations

import io
import os
from pathlib import Path

from testbed.provision.cpio import Entry, character_device, directory, regular, symlink, write_archive

ENTRIES = [
    symlink("bin", "usr/bin"),
    regular("etc/passwd", b"root", 0o600),
    directory("etc"),
    character_device("dev/console", 5, 1),
]


def pack(entries: list[Entry]) -> bytes:
    out = io.BytesIO()
    write_archive(out, entries)
    return out.getvalue()


def unpack(data: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    found, offset = {}, 0
    while offset < len(data):
        assert data[offset : offset + 6] == b"070701"
        fields = [int(data[offset + 6 + 8 * index : offset + 14 + 8 * index], 16) for index in range(13)]
        size, name_size = fields[6], fields[11]
        name = data[offset + 110 : offset + 110 + name_size - 1].decode()
        body = offset + (110 + name_size + 3) // 4 * 4
        found[name] = (fields[1], data[body : body + size], (fields[9], fields[10]))
        offset = body + (size + 3) // 4 * 4
    return found


def test_members_come_back_as_they_went_in() -> None:
    assert unpack(pack(ENTRIES)) == {
        "bin": (0o120777, b"usr/bin", (0, 0)),
        "dev/console": (0o020600, b"", (5, 1)),
        "etc": (0o040755, b"", (0, 0)),
        "etc/passwd": (0o100600, b"root", (0, 0)),
        "TRAILER!!!": (0, b"", (0, 0)),
    }


def test_order_of_entries_does_not_matter_and_parents_come_first() -> None:
    assert pack(ENTRIES) == pack(ENTRIES[::-1])
    names = list(unpack(pack(ENTRIES)))
    assert names.index("etc") < names.index("etc/passwd")


def test_length_is_a_multiple_of_four(tmp_path: Path) -> None:
    for size in range(5):
        assert len(pack([regular("a" * (size + 1), os.urandom(size))])) % 4 == 0
