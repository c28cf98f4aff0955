"""Packages unpacked without being installed: no maintainer script runs, so it takes no root and no chroot."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from testbed.errors import ProvisionError
from testbed.provision.apt import Archive, Deb
from testbed.provision.lock import LockedPackage, LockedSet
from testbed.provision.process import kill_programs, run_program
from testbed.provision.progress import Advance

_UNREAD = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian")
_WORKERS = min(4, os.cpu_count() or 1)


def unpack_packages(archive: Archive, debs: Sequence[Deb], root: Path, advance: Advance) -> None:
    """Unpack ``debs`` into ``root``, without documentation and without any set-user-id bit."""
    # base-files holds the links /bin -> usr/bin and so on, which must be there before any file comes
    first = [deb for deb in debs if deb.name == "base-files"]
    rest = sorted((deb for deb in debs if deb.name != "base-files"), key=lambda deb: -deb.size)
    total, done = sum(deb.size for deb in debs), 0
    for deb in first:
        _unpack(archive, deb, root)
    with ThreadPoolExecutor(_WORKERS) as pool:
        jobs = {pool.submit(_unpack, archive, deb, root): deb for deb in rest}
        try:
            for job in as_completed(jobs):
                job.result()
                done += jobs[job].size
                advance(done / total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            kill_programs()
            raise
    for unread in _UNREAD:
        shutil.rmtree(root / unread, ignore_errors=True)
    _clear_special_bits(root)


def lock_packages(archive: Archive, debs: Sequence[Deb], key: str) -> LockedSet:
    """Return what the lock file says about the downloaded ``debs``."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        digests = pool.map(lambda deb: _sha256(archive.downloads / deb.file), debs)
        locked = {
            deb.name: LockedPackage(version=deb.version, size=deb.size, sha256=digest)
            for deb, digest in zip(debs, digests, strict=True)
        }
    return LockedSet(key=key, packages=locked)


def _unpack(archive: Archive, deb: Deb, root: Path) -> None:
    done = run_program(["dpkg-deb", "--extract", archive.downloads / deb.file, root])
    if done.status != 0:
        raise ProvisionError(f"package '{deb.file}' cannot be unpacked: {done.tail}", where=str(root))


def _clear_special_bits(root: Path) -> None:
    for directory, _names, files in os.walk(root):
        for name in files:
            path = Path(directory, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
