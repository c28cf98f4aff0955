"""A whole run: every case as often as asked for, when it ends early, and what of it is kept."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from testbed.deadline import Stop
from testbed.evidence.events import Event
from testbed.outcome import Status
from testbed.plan.model import CasePlan
from testbed.schedule.task import Engine, Task
from testbed.verdict.live import View
from testbed.verdict.model import Verdict
from testbed.verdict.terminal import GOOD

Keep = Literal["never", "failed", "always"]
_ANOTHER_FAILED = "another case was not good and --until-fail was asked for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user asks of the run as a whole."""

    until_fail: bool = False
    keep: Keep = "always"


def build_tasks(cases: Sequence[tuple[CasePlan, str]], repeat: int) -> list[Task]:
    """Return ``repeat`` rounds over ``cases`` (plan and scenario text)."""
    pairs = [(number, plan, text) for number in range(repeat) for plan, text in cases]
    return [
        Task(number=place, round=number, plan=plan, text=text)
        for place, (number, plan, text) in enumerate(pairs)
    ]


class Series:
    """One run of ``tasks``: watches the engine and collects the verdicts."""

    def __init__(self, tasks: Sequence[Task], wish: Wish, view: View) -> None:
        self._tasks = tasks
        self._wish = wish
        self._view = view
        self._lock = threading.Lock()
        self._verdicts: dict[int, Verdict] = {}
        self._stop = Stop()
        self._failed = False

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts so far, in the order of the tasks: the same however many ran at once."""
        with self._lock:
            return [self._verdicts[number] for number in sorted(self._verdicts)]

    def run(self, engine: Engine) -> None:
        """Run everything; after KeyboardInterrupt `verdicts` has those of the cases that were cut off too."""
        engine.run(self._tasks, self, self._stop)

    def begin(self, task: Task) -> None:
        """Show it (`testbed.schedule.task.Watcher`)."""
        self._view.begin(task.number, task.plan.name)

    def see(self, task: Task, event: Event) -> None:
        """Show it."""
        self._view.see(task.number, event)

    def note(self, text: str) -> None:
        """Show it."""
        self._view.note(text)

    def end(self, task: Task, verdict: Verdict) -> None:
        """Keep the verdict, and of its folder what the user wants to have kept."""
        good = verdict.status in GOOD
        with self._lock:
            cut_off = self._failed and verdict.status is Status.MISS
            if not cut_off:
                self._verdicts[task.number] = verdict
            if not good and self._wish.until_fail:
                self._failed = True
                self._stop.set(_ANOTHER_FAILED)
        self._view.end(task.number, None if cut_off else verdict)
        if cut_off or self._wish.keep == "never" or (good and self._wish.keep == "failed"):
            remove_run_folder(Path(verdict.run_dir))


def remove_run_folder(path: Path) -> None:
    """Remove a run folder, and the link ``latest`` if it would lead nowhere after that."""
    shutil.rmtree(path, ignore_errors=True)
    latest = path.parent / "latest"
    with contextlib.suppress(OSError):
        if latest.is_symlink() and not latest.exists():
            latest.unlink()
