"""One case from plan to verdict: run, judge, save."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from testbed.deadline import Stop
from testbed.errors import LabError, TestbedError
from testbed.evidence.events import EventLog, Subscriber
from testbed.evidence.run import RunFolder, create_run_folder
from testbed.outcome import Status
from testbed.schedule.task import Task
from testbed.steps.runner import Bench, describe_bug, run_case
from testbed.verdict.judge import judge_run
from testbed.verdict.model import Verdict, save_verdict, with_reason


def run_one(
    task: Task,
    bench: Bench,
    *,
    see: Subscriber,
    stop: Stop,
    started: Callable[[RunFolder], None] | None = None,
) -> Verdict:
    """Run one case and judge it, whatever is raised meanwhile.

    Raises `UsageError` and `LabError` when there can be no run folder.
    """
    folders: list[RunFolder] = []
    trouble: Exception | None = None

    def keep(folder: RunFolder) -> None:
        folders.append(folder)
        if started is not None:
            started(folder)

    try:
        run_case(task.plan, bench, scenario_text=task.text, subscribers=(see,), stop=stop, started=keep)
    except Exception as error:  # the edge of a case: a bug must not take its verdict, or the others', along
        if not folders:
            raise
        trouble = error
    return replace(judge_and_save(folders[0], trouble), name=task.plan.name)


def judge_and_save(folder: RunFolder, trouble: Exception | None) -> Verdict:
    """Judge a run folder and save the verdict; ``trouble`` is what may not have been written into it."""
    verdict = judge_run(folder)
    if trouble is not None:
        text = str(trouble) if isinstance(trouble, TestbedError) else describe_bug(trouble)
        if not any(reason.text.startswith(text) for reason in verdict.reasons):
            verdict = with_reason(verdict, Status.MISS, text)
    try:
        save_verdict(verdict, folder.verdict)
    except OSError as error:
        if trouble is not None:
            return verdict
        text = f"verdict.json cannot be written: {error.strerror}"
        return with_reason(verdict, Status.MISS, text, last=True)
    return verdict


def record_unrun(task: Task, out: Path, error: LabError | None) -> Verdict:
    """Leave a run folder for a case that was not started anywhere, and judge it.

    ``error`` says why, and makes it MISS; without one the plan has a ``skip_reason``.
    """
    folder = create_run_folder(out, task.plan.name)
    folder.write(folder.plan.name, task.plan.model_dump_json(indent=1) + "\n")
    folder.write(folder.scenario.name, task.text)
    with EventLog(folder.events) as events:
        events.emit(
            "case_started",
            name=task.plan.name,
            seed=task.plan.seed,
            kernel="",
            accel="",
            accel_reason="",
            wall=datetime.now(UTC).isoformat(),
        )
        if error is not None:
            events.emit("error", status=Status.MISS.value, message=error.message, hint=error.hint)
        events.emit("case_finished", seconds=0.0)
    return replace(judge_and_save(folder, None), name=task.plan.name)
