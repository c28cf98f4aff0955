"""The lock file survives a round trip and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.provision.lock import LOCK_NAME, Lock, LockedPackage, LockedSet, find_lock, save_lock

LOCK = Lock(
    suites=("trixie", "trixie-backports"),
    resolved_at="2026-01-02T03:04:05+00:00",
    toolbox=LockedSet(key="t", packages={"make": LockedPackage(version="4.4", size=5, sha256="ab")}),
    kernel=LockedSet(key="k", packages={}),
    kernel_release="7.2.12-amd64",
)


def test_round_trip(tmp_path: Path) -> None:
    save_lock(tmp_path, LOCK)
    assert find_lock(tmp_path) == LOCK
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 1', "[]"])
def test_lock_that_cannot_be_understood_is_no_lock(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_NAME).write_text(text)
    assert find_lock(tmp_path) is None


def test_missing_lock_and_lock_of_another_version(tmp_path: Path) -> None:
    assert find_lock(tmp_path) is None
    save_lock(tmp_path, LOCK.model_copy(update={"schema_version": 2}))
    assert find_lock(tmp_path) is None
