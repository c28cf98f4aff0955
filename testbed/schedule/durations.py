"""How long cases took last time: the longest start first, so that no long one is left for the end."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from testbed.errors import LabError
from testbed.outcome import Status
from testbed.provision.cache import hold_lock, write_atomically
from testbed.schedule.task import Task
from testbed.verdict.model import Verdict

_FILE = "durations.json"
_MOST = 5000
_REAL = (Status.PASS, Status.DONE, Status.FAIL, Status.ERROR)
_SEPARATOR = "\t"


class Durations:
    """Seconds by case name, kernel release and accelerator; the same case elsewhere is a fair guess."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._seconds = dict(seconds)
        self._by_name = {key.split(_SEPARATOR, 1)[0]: value for key, value in self._seconds.items()}

    def find(self, name: str, kernel: str = "", accel: str = "") -> float | None:
        """Return what the case took last time, None when it never ran."""
        return self._seconds.get(build_key(name, kernel, accel), self._by_name.get(name))


def build_key(name: str, kernel: str, accel: str) -> str:
    """Return the key of one case under one kernel and accelerator."""
    return _SEPARATOR.join((name, kernel, accel))


def load_durations(root: Path) -> Durations:
    """Return what the cache in ``root`` remembers; a damaged file is an empty one."""
    return Durations(_read(root / _FILE))


def save_durations(root: Path, verdicts: Sequence[Verdict]) -> None:
    """Remember what cases took that really ran; the oldest are forgotten.

    Nothing is raised: a run is no worse when the next one starts in another order.
    """
    new = {
        build_key(verdict.name, verdict.kernel, verdict.accel): round(verdict.seconds, 3)
        for verdict in verdicts
        if verdict.status in _REAL
    }
    if not new:
        return
    with contextlib.suppress(LabError, OSError), hold_lock(root, "durations"):
        kept = {key: seconds for key, seconds in _read(root / _FILE).items() if key not in new}
        merged = list({**kept, **new}.items())[-_MOST:]
        write_atomically(root / _FILE, json.dumps(dict(merged), indent=0))


def order_tasks(tasks: Sequence[Task], find: Callable[[Task], float | None]) -> list[Task]:
    """Return ``tasks`` in the order of their start: by round, then unknown ones, then the longest first."""

    def place(task: Task) -> tuple[int, float, int]:
        seconds = find(task)
        return task.round, -math.inf if seconds is None else -seconds, task.number

    return sorted(tasks, key=place)


def _read(path: Path) -> dict[str, float]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: float(value) for key, value in known.items() if isinstance(value, (int, float))}
