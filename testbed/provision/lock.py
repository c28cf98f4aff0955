"""The lock file: what was resolved on the mirror, and when.

A finding that appears or goes away with a package that moved can be told apart by it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from testbed.provision.cache import write_atomically

LOCK_NAME = "testbed.lock"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LockedPackage(_Frozen):
    """One package as it was downloaded."""

    version: str
    size: int
    sha256: str


class LockedSet(_Frozen):
    """The packages that one cache entry was made from."""

    key: str
    packages: dict[str, LockedPackage]


class Lock(_Frozen):
    """Content of the lock file. Names of mirrors are no part of it."""

    schema_version: int = 1
    suites: tuple[str, ...]
    resolved_at: str
    """UTC, ISO 8601."""
    toolbox: LockedSet
    kernel: LockedSet
    """The kernel called ``default``."""
    kernel_release: str


def find_lock(root: Path) -> Lock | None:
    """Return the lock of the cache at ``root``; None when there is none or it cannot be understood."""
    try:
        lock = Lock.model_validate_json((root / LOCK_NAME).read_bytes())
    except (OSError, ValidationError):
        return None
    return lock if lock.schema_version == 1 else None


def save_lock(root: Path, lock: Lock) -> None:
    """Write the lock file."""
    write_atomically(root / LOCK_NAME, lock.model_dump_json(indent=1) + "\n")
