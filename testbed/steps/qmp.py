"""``qmp``: a command for QEMU."""

from __future__ import annotations

import json
from typing import Any

from testbed.guest.qmp import QmpError, data_matches
from testbed.outcome import Status
from testbed.scenario.model import QmpStep
from testbed.steps.base import StepContext, StepResult

_MAX_DETAIL = 200


def run_qmp(step: QmpStep, context: StepContext) -> StepResult:
    """Send the command and compare the answer; a refusal is a FAIL unless ``error.class`` is expected."""
    guest = context.guest_of(step)
    answer: Any
    try:
        answer = guest.qmp(step.qmp, step.args, deadline=context.deadline)
    except QmpError as error:
        answer = {"error": {"class": error.error_class, "desc": error.desc}}
        if not any(path.startswith("error.") for path in step.expect):
            raise
    text = json.dumps(answer, default=str)[:_MAX_DETAIL]
    pointers = (f"{guest.name}/qmp.jsonl",)
    wrong = [path for path, wanted in step.expect.items() if not data_matches(answer, {path: wanted})]
    if wrong:
        path = wrong[0]
        detail = f"'{path}' is not {step.expect[path]!r} in the answer {text}"
        return StepResult(status=Status.FAIL, detail=detail, pointers=pointers)
    return StepResult(
        status=Status.PASS if step.expect else Status.DONE, detail=text if answer else "", pointers=pointers
    )
