"""The private folder of one guest: sockets, keys and fw_cfg files, for our eyes only."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.errors import LabError
from testbed.guest import reaper
from testbed.guest.custody import get_custody

OWNER_FILE = "owner.json"
_SOCKET_PATH_MAX = 107  # bytes of sun_path without its end, unix(7)
_LONGEST_NAME = 32


def find_base() -> Path:
    """Return the folder that private folders are made in: the user's runtime folder, else the temp folder.

    One whose path would make a socket's path too long is passed over. Raises `LabError` when none fits.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    candidates = [Path(runtime)] if runtime else []
    for base in (*candidates, Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - mode 0700 inside
        room = _SOCKET_PATH_MAX - len(os.fsencode(base)) - len(reaper.PRIVATE_PREFIX) - 18
        if room >= _LONGEST_NAME and base.is_absolute() and os.access(base, os.W_OK | os.X_OK):
            return base
    raise LabError("no folder for sockets: the path of the temp folder is too long", hint="TMPDIR=/tmp")


@contextmanager
def private_folder(about: Path) -> Iterator[Path]:
    """Make a folder of mode 0700 that is removed at the end, also when we are killed.

    ``about`` is the run folder that it serves, for `testbed ps`. Raises `LabError` when it cannot be made.
    """
    custody = get_custody()
    path = find_base() / f"{reaper.PRIVATE_PREFIX}{secrets.token_hex(8)}"
    with custody.hold_folder(path):
        try:
            path.mkdir(mode=0o700)
        except OSError as error:
            raise LabError(f"'{path}' cannot be made: {error.strerror}") from error
        try:
            _check_owner(path)
            owner = {"pid": os.getpid(), "start": reaper.read_start_time(os.getpid()), "folder": str(about)}
            write_secret(path / OWNER_FILE, json.dumps(owner).encode())
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that only the owner can read."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)


def _check_owner(path: Path) -> None:
    status = path.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o777 != 0o700:
        raise LabError(f"'{path}' is not ours alone (owner {status.st_uid}, mode {status.st_mode & 0o777:o})")
