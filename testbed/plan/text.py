"""A `CasePlan` as text for people: guests, devices, steps with their budgets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from testbed.plan.model import CasePlan, DevicePlan, GuestPlan
from testbed.scenario.model import InjectStep, Step, StepBase
from testbed.scenario.rules import inner_steps
from testbed.scenario.values import format_duration

_WIDTH = 76


def describe_case(case: CasePlan) -> str:
    """Return the plan of one case, several lines without a final newline."""
    lines = [f"{case.name}", f"  {case.about}"]
    how = f"{case.kernel} kernel, accelerator {case.accel}, seed {case.seed}"
    lines.append(f"  within {format_duration(case.timeout)} on the {how}{', cold boot' if case.cold else ''}")
    if case.tags:
        lines.append(f"  tags: {', '.join(case.tags)}")
    needs = case.requires.model_dump(exclude_defaults=True)
    if needs:
        lines.append(f"  needs: {_pairs(needs)}")
    if case.skip_reason:
        lines.append(f"  SKIP: {case.skip_reason}")
    for guest in case.guests:
        lines += _describe_guest(guest)
    if case.modules:
        uses = (f"{use.name} {_pairs(use.args)}".rstrip() for use in case.modules)
        lines.append(f"  modules before step 1: {', '.join(uses)}")
    for warning in case.expected_warnings:
        may = "may" if warning.optional else "must"
        lines.append(f"  kernel {may} say: {warning.match}")
    if case.expect_verdict:
        lines.append(f"  verdict must be: {_pairs(case.expect_verdict.model_dump(exclude_none=True))}")
    lines.append("  steps")
    several = len(case.guests) > 1
    lines += [f"    {line}" for line in _describe_steps(case.steps, "", several)]
    return "\n".join(lines)


def _describe_guest(guest: GuestPlan) -> Iterator[str]:
    words = f", {' '.join(guest.cmdline)}" if guest.cmdline else ""
    yield f"  guest {guest.name}: {guest.memory_mib} MiB, {guest.cpus} CPUs{words}"
    for device in guest.devices:
        yield f"    {_describe_device(device)}"


def _describe_device(device: DevicePlan) -> str:
    what = device.model or "qemu"
    values = _pairs(device.params if device.model else device.qemu or {})
    when = "before step 1" if device.plug == "start" else "by a plug step"
    return f"{device.name}: {' '.join(part for part in (what, values) if part)}, at {device.port} {when}"


def _describe_steps(steps: tuple[Step, ...], prefix: str, several: bool) -> Iterator[str]:
    for number, step in enumerate(steps, 1):
        index = f"{prefix}{number}"
        budget = f"  [{format_duration(step.timeout)}]" if step.timeout is not None else ""
        where = f"  on {step.guest}" if several else ""
        yield f"{index:<5} {step.verb:<10} {_subject(step)}{where}{budget}"
        inner = inner_steps(step)
        for branch, (nested, _) in enumerate(inner, 1):
            below = f"{index}.{branch}." if len(inner) > 1 else f"{index}."
            yield from _describe_steps(nested, below, several)


def _subject(step: StepBase) -> str:
    groups = {"repeat": "{times} times", "parallel": "at once", "always": "also after a failure"}
    value = step.model_dump(mode="json", exclude_defaults=True).get(step.verb)
    if step.verb in groups:
        text = groups[step.verb].format(**value) if isinstance(value, dict) else groups[step.verb]
    else:
        text = value if isinstance(value, str) else _pairs(value)
    if isinstance(step, InjectStep):
        text = f"{text} {_pairs({'device': step.device, **step.with_})}"
    text = " ".join(text.split())
    text = text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."
    return f"{step.name} ({text})" if step.name else text


def _pairs(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    return ", ".join(f"{key}={_flat(item)}" for key, item in value.items())


def _flat(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
