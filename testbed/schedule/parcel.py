"""A run folder as bytes, to be carried from the machine where a case ran to the one that asked for it."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

from testbed.errors import LabError
from testbed.evidence.run import disk_full_is_a_miss

_LARGEST = 1 << 30
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What zipfile raises for data that is no archive, or was one."""


def pack_folder(path: Path) -> bytes:
    """Return the files below ``path``, compressed; links are left out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(
        buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False
    ) as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file() and not file.is_symlink():
                archive.write(file, file.relative_to(path).as_posix())
    return buffer.getvalue()


def unpack_folder(data: bytes, path: Path) -> None:
    """Put the files of `pack_folder` below ``path``, which only the owner can read.

    Names that lead out of it are made to lead into it, and an absurd size is refused: a worker is not
    trusted more than that. Raises `LabError` for data that is damaged, and when the disk is full.
    """
    try:
        with disk_full_is_a_miss(path), zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(item.file_size for item in archive.infolist()) > _LARGEST:
                raise LabError(f"a worker sent a run folder of more than {_LARGEST >> 20} MiB")
            archive.extractall(path)
    except _DAMAGE as error:
        raise LabError(f"a worker sent a run folder that cannot be unpacked: {error}") from error
