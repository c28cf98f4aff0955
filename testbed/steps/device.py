"""``plug``, ``unplug``, ``inject``, ``clear``: what happens to devices."""

from __future__ import annotations

from typing import Any

from testbed.outcome import Status
from testbed.scenario.model import ClearStep, InjectStep, PlugStep, UnplugStep
from testbed.steps.base import StepContext, StepResult


def run_plug(step: PlugStep, context: StepContext) -> StepResult:
    """Hot-plug a device and wait until the guest has set it up."""
    address = context.guest_of(step).plug(step.plug, deadline=context.deadline)
    return StepResult(status=Status.DONE, detail=f"{step.plug} is {address}")


def run_unplug(step: UnplugStep, context: StepContext) -> StepResult:
    """Pull a device out and wait until QEMU has let go of it."""
    guest = context.guest_of(step)
    if step.surprise:
        _note(context, guest.name, step.unplug, "surprise_removal", {}, "inject")
    guest.unplug(step.unplug, deadline=context.deadline, surprise=step.surprise)
    return StepResult(status=Status.DONE, detail=f"{step.unplug} is gone")


def run_inject(step: InjectStep, context: StepContext) -> StepResult:
    """Make a device misbehave."""
    guest = context.guest_of(step)
    args = {"fault": step.inject, **step.with_}
    guest.device(step.device, "inject", args, deadline=context.deadline)
    _note(context, guest.name, step.device, step.inject, step.with_, "inject")
    return StepResult(status=Status.DONE, detail=f"{step.device}: {step.inject}")


def run_clear(step: ClearStep, context: StepContext) -> StepResult:
    """End one fault, or all."""
    guest = context.guest_of(step)
    args = {} if step.clear == "all" else {"fault": step.clear}
    guest.device(step.device, "clear", args, deadline=context.deadline)
    _note(context, guest.name, step.device, step.clear, {}, "clear")
    return StepResult(status=Status.DONE, detail=f"{step.device}: {step.clear} ended")


def _note(
    context: StepContext, guest: str, device: str, fault: str, args: dict[str, Any], action: str
) -> None:
    context.events.emit("fault", guest=guest, device=device, fault=fault, args=args, action=action)
