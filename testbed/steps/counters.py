"""``counters``: how much counters change while some steps run."""

from __future__ import annotations

import json
import shlex

from testbed.errors import ScenarioFault
from testbed.guest.session import Guest
from testbed.outcome import Status, worst
from testbed.scenario.model import CounterSources, CountersStep
from testbed.scenario.values import parse_delta
from testbed.steps.base import StepContext, StepResult
from testbed.steps.command import decode, last_line
from testbed.steps.expect import read_device_counter


def run_counters(step: CountersStep, context: StepContext) -> StepResult:
    """Read, run the steps inside, read again, and compare each change with what is expected."""
    guest = context.guest_of(step)
    before = _read_all(step.counters, guest, context)
    results = context.run_children(step.steps, context)
    bad = [result for result in results if not result.good]
    if bad:
        status = worst(result.status for result in bad)
        return StepResult(status=status, detail=bad[0].detail, pointers=bad[0].pointers)
    after = _read_all(step.counters, guest, context)
    folder = context.step_folder(step.verb)
    table = {name: {"before": before[name], "after": after[name]} for name in before}
    record = folder / "counters.json"
    record.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    pointers = (context.pointer(record),)
    wrong = [
        f"{name} changed by {_change(name, before, after):+d} ({before[name]} to {after[name]}), "
        f"expected {wanted}"
        for name, wanted in step.expect.items()
        if not parse_delta(wanted).holds(_change(name, before, after))
    ]
    if wrong:
        return StepResult(status=Status.FAIL, detail="; ".join(wrong), pointers=pointers)
    changes = ", ".join(f"{name} {after[name] - before[name]:+d}" for name in step.expect)
    return StepResult(status=Status.PASS, detail=changes, pointers=pointers)


def _change(name: str, before: dict[str, int], after: dict[str, int]) -> int:
    if name not in before:
        raise ScenarioFault(f"counter '{name}' is expected but not read (read: {', '.join(before)})")
    return after[name] - before[name]


def _read_all(sources: CounterSources, guest: Guest, context: StepContext) -> dict[str, int]:
    values = _read_vmstat(sources.vmstat, guest, context)
    for device, names in sources.device.items():
        for name in names:
            values[f"{device}.{name}"] = read_device_counter(guest, device, name, context)
    for path in sources.files:
        values[path] = _read_file(path, guest, context)
    return values


def _read_vmstat(names: tuple[str, ...], guest: Guest, context: StepContext) -> dict[str, int]:
    if not names:
        return {}
    text = decode(guest.run("cat /proc/vmstat", deadline=context.deadline).stdout)
    table = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    for name in names:
        if name not in table:
            raise ScenarioFault(f"/proc/vmstat of this kernel has no '{name}'")
    return {name: int(table[name]) for name in names}


def _read_file(path: str, guest: Guest, context: StepContext) -> int:
    result = guest.run(f"cat {shlex.quote(path)}", deadline=context.deadline)
    text = decode(result.stdout).strip()
    try:
        return int(text, 0)
    except ValueError:
        said = last_line(decode(result.stderr)) or f"it holds '{text[:40]}'"
        raise ScenarioFault(f"'{path}' does not hold one number: {said}") from None
