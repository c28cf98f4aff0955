"""Which function carries out which verb; a new one needs a class in `testbed.scenario.model` too."""

from __future__ import annotations

from collections.abc import Mapping

from testbed.steps.base import Handler
from testbed.steps.command import run_command
from testbed.steps.counters import run_counters
from testbed.steps.device import run_clear, run_inject, run_plug, run_unplug
from testbed.steps.expect import run_expect
from testbed.steps.group import run_always, run_parallel, run_repeat
from testbed.steps.module import run_module, run_remove_module
from testbed.steps.qmp import run_qmp
from testbed.steps.tool import run_jobs, run_tool
from testbed.steps.wait import run_wait

HANDLERS: Mapping[str, Handler] = {
    "module": run_module,
    "remove_module": run_remove_module,
    "run": run_command,
    "tool": run_tool,
    "jobs": run_jobs,
    "plug": run_plug,
    "unplug": run_unplug,
    "inject": run_inject,
    "clear": run_clear,
    "qmp": run_qmp,
    "wait": run_wait,
    "expect": run_expect,
    "counters": run_counters,
    "parallel": run_parallel,
    "repeat": run_repeat,
    "always": run_always,
}

DEFAULT_TIMEOUTS: Mapping[str, float] = {"wait": 5.0}
"""Seconds on the reference machine; other steps may take what is left of the case's budget."""

GUEST_IS_SLOW = frozenset(
    {"module", "remove_module", "run", "tool", "jobs", "plug", "unplug", "wait", "counters", "expect"}
)
"""Verbs whose timeout is the guest's doing (FAIL); a timeout of the others is the lab's (MISS)."""
