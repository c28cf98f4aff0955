"""Who is there: processes and private folders of this user that testbed made, anywhere on this host."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed.guest import reaper
from testbed.guest.custody import FOLDER_VARIABLE, RUNNER_VARIABLE
from testbed.guest.private import OWNER_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One process or private folder of ours."""

    kind: str
    """``guest``, ``device host``, ``reaper``, ``process`` or ``folder``."""
    pid: int
    """Of the process; of a folder, its owner's."""
    age: float
    """Seconds."""
    stale: bool
    """Whether the runner that it belongs to is gone."""
    where: str
    """The guest's folder in the run folder, or the private folder itself."""


def find_processes() -> list[Tenant]:
    """Return the processes of all runs, reapers included, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                tenant = _look_at(entry)
                if tenant is not None:
                    found.append(tenant)
    return sorted(found, key=lambda tenant: -tenant.age)


def find_folders() -> list[Tenant]:
    """Return the private folders, those of runners that are gone included."""
    found = []
    for path in _private_folders():
        with contextlib.suppress(OSError):
            status = path.lstat()
            if status.st_uid == os.geteuid():
                pid, alive, about = _read_owner(path)
                age = max(0.0, time.time() - status.st_mtime)
                where = f"{path} ({about})" if about else str(path)
                found.append(Tenant(kind="folder", pid=pid, age=age, stale=not alive, where=where))
    return found


def find_stale_folders() -> list[Path]:
    """Return the private folders that nobody owns any more."""
    stale = []
    for path in _private_folders():
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid() and not _read_owner(path)[1]:
                stale.append(path)
    return stale


def _private_folders() -> Iterator[Path]:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    bases = {Path(base) for base in (runtime, tempfile.gettempdir(), "/tmp") if base}  # noqa: S108 - only read
    for base in sorted(bases):
        # Sixteen hexadecimal digits: `testbed.guest.private` makes no other names.
        yield from base.glob(reaper.PRIVATE_PREFIX + "[0-9a-f]" * 16)


def _read_owner(path: Path) -> tuple[int, bool, str]:
    """Return pid, whether it lives, and what the folder is for; a folder just being made counts as owned."""
    try:
        owner = json.loads((path / OWNER_FILE).read_text(encoding="utf-8"))
        pid, start, about = int(owner["pid"]), int(owner["start"]), str(owner["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, time.time() - path.lstat().st_mtime < 60.0, ""
    return pid, reaper.read_start_time(pid) == start, about


def _look_at(entry: Path) -> Tenant | None:
    pid = int(entry.name)
    argv = (entry / "cmdline").read_bytes().split(b"\0")
    if reaper.ARGV_MARKER.encode() in argv:
        return Tenant(kind="reaper", pid=pid, age=_age(pid), stale=False, where="")
    variables = dict(
        pair.split(b"=", 1) for pair in (entry / "environ").read_bytes().split(b"\0") if b"=" in pair
    )
    if reaper.RUN_VARIABLE.encode() not in variables:
        return None
    runner, _, start = variables.get(RUNNER_VARIABLE.encode(), b"0:0").decode().partition(":")
    stale = not runner.isdigit() or str(reaper.read_start_time(int(runner))) != start
    where = os.fsdecode(variables.get(FOLDER_VARIABLE.encode(), b""))
    return Tenant(kind=_kind(argv, where), pid=pid, age=_age(pid), stale=stale, where=where)


def _kind(argv: list[bytes], where: str) -> str:
    if not where:
        return "process"
    return "device host" if b"vfiodev" in argv else "guest"


def _age(pid: int) -> float:
    start = reaper.read_start_time(pid) or 0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start / os.sysconf("SC_CLK_TCK")
