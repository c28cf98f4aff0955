"""The content-addressed cache: ``ROOT/KIND/KEY`` is complete and right, or it is not there.

An entry is built in ``ROOT/KIND/.KEY.PID.tmp`` under a lock of its own, renamed into place, and then
described by its manifest ``ROOT/KIND/KEY.json``. Whoever dies on the way leaves a temporary directory, or an
entry without a manifest; the next one to want that key removes both and builds again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from testbed.errors import ProvisionError
from testbed.provision.progress import human_size

Build = Callable[[Path], None]
Stamp = tuple[int, int]
"""Size in bytes and modification time in nanoseconds of one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One finished entry, as `list_entries` finds it."""

    kind: str
    key: str
    path: Path
    made_at: str
    size: int


def find_cache_root() -> Path:
    """Return ``$TESTBED_CACHE`` or the XDG cache directory of testbed; it need not exist."""
    chosen = os.environ.get("TESTBED_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "testbed"


def build_key(*inputs: str | bytes) -> str:
    """Return the key of an entry made from ``inputs``; their order matters, their borders too."""
    digest = hashlib.sha256()
    for part in inputs:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:32]


def hash_tree(root: Path, pattern: str = "*") -> str:
    """Return a hash of names, modes and contents of the files below ``root`` that match ``pattern``."""
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob(pattern) if path.is_file()):
        mode = "x" if path.stat().st_mode & stat.S_IXUSR else "-"
        data = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\0{mode}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def find_entry(root: Path, kind: str, key: str) -> Path | None:
    """Return the entry when it is complete and undamaged, None otherwise."""
    path = root / kind / key
    try:
        manifest = json.loads((root / kind / f"{key}.json").read_text())
        recorded = {name: (size, time) for name, (size, time) in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if recorded == _stamp_files(path) else None


def get_entry(root: Path, kind: str, key: str, build: Build, *, needs: int = 0) -> Path:
    """Return the entry, built by ``build(directory)`` when it is missing, half-finished or damaged.

    Of several processes that want it at once, one builds and the others wait. ``needs`` is the number of
    bytes that building takes; `ProvisionError` is raised before the work when the disk has fewer. Whatever
    ``build`` raises is passed on, and nothing stays behind.
    """
    found = find_entry(root, kind, key)
    if found:
        return found
    with hold_lock(root, f"{kind}-{key}"):
        found = find_entry(root, kind, key)
        if found:
            return found
        _remove(root / kind / key)
        return _build_entry(root, kind, key, build, needs)


def _build_entry(root: Path, kind: str, key: str, build: Build, needs: int) -> Path:
    final, temporary = root / kind / key, root / kind / f".{key}.{os.getpid()}.tmp"
    for leftover in final.parent.glob(f".{key}.*.tmp"):
        _sweep(leftover)
    check_free_space(root, needs)
    temporary.mkdir(parents=True)
    try:
        build(temporary)
        files = _stamp_files(temporary)
        temporary.rename(final)
        manifest = {"made_at": datetime.now(UTC).isoformat(timespec="seconds"), "files": files}
        write_atomically(final.with_name(f"{key}.json"), json.dumps(manifest))
    except OSError as error:
        _remove(temporary)
        raise ProvisionError(f"cannot write to the cache: {error}", where=str(final)) from error
    except BaseException:
        _remove(temporary)
        raise
    return final


def check_free_space(
    root: Path, needs: int, *, free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
) -> None:
    """Raise `ProvisionError` when the file system of ``root`` has fewer than ``needs`` bytes free."""
    existing = next(path for path in (root, *root.parents) if path.exists())
    free = free_bytes(existing)
    if free < needs:
        raise ProvisionError(
            f"not enough disk space: {human_size(needs)} needed, {human_size(free)} free",
            where=str(root),
            hint="free some, or choose another place: TESTBED_CACHE=DIR testbed setup",
        )


@contextmanager
def hold_lock(root: Path, name: str, waiting: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold the named lock of the cache; it is gone when the process is.

    ``waiting`` is called first when somebody else holds it.
    """
    directory = root / "locks"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ProvisionError(
            f"the cache cannot be written: {error.strerror}",
            where=str(root),
            hint="choose another place: TESTBED_CACHE=DIR testbed setup",
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text``: readers see the old content or the new, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def list_entries(root: Path) -> list[Entry]:
    """Return every finished entry of the cache, by kind and key; damaged ones are not told apart here."""
    entries = []
    for manifest_path in sorted(root.glob("*/*.json")):
        path = manifest_path.with_suffix("")
        try:
            manifest: dict[str, Any] = json.loads(manifest_path.read_text())
            size = sum(stamp[0] for stamp in manifest["files"].values())
            made_at = str(manifest["made_at"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        entries.append(Entry(kind=path.parent.name, key=path.name, path=path, made_at=made_at, size=size))
    return entries


def remove_entry(root: Path, kind: str, key: str) -> None:
    """Remove one entry, damaged or not; one that another process is building is waited for."""
    with hold_lock(root, f"{kind}-{key}"):
        _remove(root / kind / f"{key}.json")
        _remove(root / kind / key)


def prune_cache(root: Path, keep: Callable[[Entry], bool]) -> list[Entry]:
    """Remove the entries that ``keep`` refuses, and every leftover; return what was removed.

    An entry that another process is building is waited for.
    """
    removed = []
    for entry in list_entries(root):
        if not keep(entry):
            remove_entry(root, entry.kind, entry.key)
            removed.append(entry)
    for leftover in root.glob("*/.*.tmp"):
        key = leftover.name.split(".")[1]
        with hold_lock(root, f"{leftover.parent.name}-{key}"):
            _sweep(leftover)
    return removed


def _stamp_files(root: Path) -> dict[str, Stamp]:
    stamps: dict[str, Stamp] = {}
    pending = [(str(root), "")]
    while pending:
        directory, prefix = pending.pop()
        try:
            with os.scandir(directory) as found:
                for item in found:
                    if item.is_dir(follow_symlinks=False):
                        pending.append((item.path, f"{prefix}{item.name}/"))
                    else:
                        status = item.stat(follow_symlinks=False)
                        stamps[prefix + item.name] = (status.st_size, status.st_mtime_ns)
        except FileNotFoundError:
            continue
    return stamps


def _sweep(leftover: Path) -> None:
    # Programs of a builder that was killed can be writing here for another moment, so this may not get it
    # all; the name is that builder's own, so nobody else minds.
    shutil.rmtree(leftover, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
