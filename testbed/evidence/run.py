"""The run folder: where one case leaves everything that its verdict is made of (``docs/evidence.md``)."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from testbed.errors import LabError, UsageError

_MAX_SAME_NAME = 10_000
_MAX_SLUG = 80
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside one run folder. `create_run_folder` makes a new one, `open_run_folder` an old one."""

    path: Path

    @property
    def plan(self) -> Path:
        """The plan as JSON."""
        return self.path / "plan.json"

    @property
    def scenario(self) -> Path:
        """The scenario's text as it was read."""
        return self.path / "scenario.yaml"

    @property
    def events(self) -> Path:
        """What happened, JSON lines."""
        return self.path / "events.jsonl"

    @property
    def verdict(self) -> Path:
        """The verdict as JSON."""
        return self.path / "verdict.json"

    def guest(self, name: str) -> Path:
        """Return the folder of guest ``name``; it is made on first use."""
        return self._folder(self.path / name)

    def step(self, index: str, verb: str) -> Path:
        """Return the folder of one step, such as ``steps/3.1-tool``; it is made on first use."""
        return self._folder(self.path / "steps" / f"{index}-{verb}")

    def write(self, relative: str, data: str | bytes) -> Path:
        """Write a new file at ``relative`` and return its path; a file is never written twice."""
        target = self.path / relative
        with disk_full_is_a_miss(self.path):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with target.open("xb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
        return target

    def relative(self, path: Path, line: int | None = None) -> str:
        """Return the pointer ``file:line`` of ``path``, relative to this folder."""
        name = path.relative_to(self.path).as_posix() if path.is_relative_to(self.path) else str(path)
        return name if line is None else f"{name}:{line}"

    def _folder(self, path: Path) -> Path:
        with disk_full_is_a_miss(self.path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path


def create_run_folder(out: Path, case: str, *, now: datetime | None = None) -> RunFolder:
    """Make a new folder below ``out`` for ``case`` and point ``out/latest`` at it.

    The name is UTC time and case name; a name that is taken gets ``-2``, ``-3`` and so on, also when two
    processes create it at the same moment. Only the owner can read it. Raises `UsageError` when ``out``
    cannot be written to, `LabError` when the disk is full.
    """
    stem = f"{(now or datetime.now(UTC)).strftime('%Y%m%d-%H%M%S')}-{build_slug(case)}"
    with disk_full_is_a_miss(out):
        try:
            out.mkdir(parents=True, exist_ok=True)
            path = _make_unused(out.absolute(), stem)
            _point_latest(path)
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise
            raise UsageError(
                f"no run folder can be made in '{out}': {os.strerror(error.errno or 0)}",
                hint="name a folder that can be written to: testbed run --out DIR",
            ) from error
    return RunFolder(path)


def open_run_folder(path: Path) -> RunFolder:
    """Return the existing run folder at ``path``. Raises `UsageError` when it is none."""
    if not path.is_dir():
        raise UsageError(f"'{path}' is not a run folder: no such folder", hint="ls runs/")
    folder = RunFolder(path.resolve())
    if not (folder.events.exists() or folder.plan.exists()):
        raise UsageError(
            f"'{path}' is not a run folder: it has neither plan.json nor events.jsonl",
            hint="testbed judge runs/latest",
        )
    return folder


def build_slug(name: str) -> str:
    """Return ``name`` as lower-case letters, digits and single hyphens, at most 80 of them."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return slug[:_MAX_SLUG].strip("-") or "case"


@contextlib.contextmanager
def disk_full_is_a_miss(place: Path) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into a `LabError` that names ``place``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise LabError(
            f"the disk is full: evidence cannot be written to '{place}'",
            hint="free some space (testbed clean removes what is left over), or use --out on another disk",
        ) from error


def _make_unused(out: Path, stem: str) -> Path:
    for count in range(1, _MAX_SAME_NAME):
        path = out / (stem if count == 1 else f"{stem}-{count}")
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if not stat.S_ISDIR(out.stat().st_mode):
                raise
            continue
        path.chmod(0o700)
        return path
    raise UsageError(f"'{out}' holds {_MAX_SAME_NAME} folders named '{stem}'", hint="use another --out DIR")


def _point_latest(path: Path) -> None:
    """Replace the link in one step, so that readers and other runs never see it missing."""
    latest = path.parent / "latest"
    if latest.exists() and not latest.is_symlink():
        return
    draft = path.parent / f".latest-{secrets.token_hex(4)}"
    draft.symlink_to(path.name)
    draft.replace(latest)
