"""Tasks and verdicts of cases that take no guest, and a watcher that remembers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from testbed.evidence.events import Event
from testbed.outcome import Status
from testbed.plan.model import CasePlan
from testbed.schedule.task import Task
from testbed.verdict.model import Verdict

RELEASE = "7.2.12"


def make_plan(name: str, **more: Any) -> CasePlan:
    fields = {
        "name": name,
        "scenario": "unit.yaml",
        "about": "?",
        "seed": 1,
        "kernel": "default",
        "accel": "tcg",
        "guests": [{"name": "vm", "memory_mib": 512, "cpus": 1}],
        "steps": [],
        "timeout": "5s",
    } | more
    return CasePlan.model_validate_json(json.dumps(fields))


def make_task(number: int, name: str = "", round: int = 0, **more: Any) -> Task:
    return Task(number=number, round=round, plan=make_plan(name or f"case-{number}", **more), text="")


def make_verdict(task: Task, status: Status = Status.PASS, **more: Any) -> Verdict:
    fields = {"name": task.plan.name, "status": status, "run_dir": "/nowhere"}
    fields |= {"kernel": RELEASE, "accel": "tcg", "seconds": 1.0}
    return Verdict(**{**fields, **more})


class Record:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.verdicts: dict[int, Verdict] = {}
        self.notes: list[str] = []
        self.on_end: Callable[[Task, Verdict], None] = lambda task, verdict: None
        self._lock = threading.Lock()

    def begin(self, task: Task) -> None:
        with self._lock:
            self.began.append(task.number)

    def see(self, task: Task, event: Event) -> None:
        pass

    def end(self, task: Task, verdict: Verdict) -> None:
        with self._lock:
            self.verdicts[task.number] = verdict
        self.on_end(task, verdict)

    def note(self, text: str) -> None:
        with self._lock:
            self.notes.append(text)
