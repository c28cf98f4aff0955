"""Run folders on their way from a worker: whole, and never outside of their place."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from testbed.errors import LabError
from testbed.schedule import parcel
from testbed.schedule.parcel import pack_folder, unpack_folder


def test_what_is_packed_comes_out(tmp_path: Path) -> None:
    sent, got = tmp_path / "sent", tmp_path / "got"
    (sent / "vm" / "ssh").mkdir(parents=True)
    (sent / "events.jsonl").write_bytes(b"{}\n" * 1000)
    (sent / "vm" / "ssh" / "1.out").write_bytes(bytes(range(256)))
    (sent / "link").symlink_to("/etc/passwd")
    data = pack_folder(sent)
    assert len(data) < 2000
    unpack_folder(data, got)
    assert sorted(path.relative_to(got).as_posix() for path in got.rglob("*") if path.is_file()) == [
        "events.jsonl",
        "vm/ssh/1.out",
    ]
    assert (got / "vm" / "ssh" / "1.out").read_bytes() == bytes(range(256))


def test_names_that_lead_out_lead_in(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../out", "x")
        archive.writestr("/abs", "x")
    unpack_folder(buffer.getvalue(), tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["abs", "out"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("cut", [0, 10, 60])
def test_a_damaged_parcel_is_a_lab_error(tmp_path: Path, cut: int) -> None:
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "f").write_text("content")
    data = pack_folder(tmp_path / "sent")
    with pytest.raises(LabError, match="cannot be unpacked"):
        unpack_folder(data[:cut], tmp_path / "got")


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "f").write_text("content " * 50)
    data = bytearray(pack_folder(tmp_path / "sent"))
    data[40] ^= 0x10
    with pytest.raises(LabError, match="cannot be unpacked"):
        unpack_folder(bytes(data), tmp_path / "got")


def test_an_absurd_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "f").write_bytes(bytes(1000))
    monkeypatch.setattr(parcel, "_LARGEST", 999)
    with pytest.raises(LabError, match="more than"):
        unpack_folder(pack_folder(tmp_path / "sent"), tmp_path / "got")
    assert not (tmp_path / "got").exists()
