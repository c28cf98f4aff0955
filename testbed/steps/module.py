"""``module`` and ``remove_module``: kernel modules in the guest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from testbed.deadline import Deadline
from testbed.guest.session import Guest
from testbed.outcome import Status
from testbed.scenario.model import ModuleStep, RemoveModuleStep
from testbed.steps.assets import Assets
from testbed.steps.base import StepContext, StepResult
from testbed.steps.command import decode, last_line, output_pointers

_FOLDER = "/run/testbed/modules"
Values = Mapping[str, str | int | float | bool]


def run_module(step: ModuleStep, context: StepContext) -> StepResult:
    """Insert a module and all that it depends on."""
    guest = context.guest_of(step)
    result, loaded = load_module(guest, step.module, step.args, context.assets, context.deadline)
    if result is not None:
        return result
    return StepResult(
        status=Status.PASS, detail=f"loaded {', '.join(loaded)}" if loaded else "already loaded"
    )


def load_module(
    guest: Guest, name: str, args: Values, assets: Assets, deadline: Deadline
) -> tuple[StepResult | None, list[str]]:
    """Insert module ``name``; return what went wrong, if anything, and the names that were inserted."""
    files = assets.module_files(name)
    present = _loaded_modules(guest, deadline)
    wanted = [path for path in files if _module_name(path.name) not in present]
    remote = {f"{_FOLDER}/{path.name}": path for path in wanted}
    if remote:
        guest.push(remote, deadline=deadline, mode=0o644)
    loaded: list[str] = []
    for target, path in remote.items():
        mine = _module_name(path.name) == _module_name(name)
        words = build_arguments(args) if mine else []
        command = shlex.join(["insmod", target, *words])
        result = guest.run(command, deadline=deadline)
        if result.exit != 0:
            said = last_line(decode(result.stderr)) or f"exit status {result.exit}"
            detail = f"module '{_module_name(path.name)}' was not loaded: {said}"
            pointers = (f"{guest.name}/{result.pointer}.err:1",) if result.stderr else ()
            return StepResult(status=Status.FAIL, detail=detail, pointers=pointers), loaded
        loaded.append(_module_name(path.name))
    return None, loaded


def build_arguments(args: Values) -> list[str]:
    """Return module parameters as ``insmod`` takes them; truth values as Y and N."""
    words = {True: "Y", False: "N"}
    return [f"{key}={words[value] if isinstance(value, bool) else value}" for key, value in args.items()]


def run_remove_module(step: RemoveModuleStep, context: StepContext) -> StepResult:
    """Remove a module; its dependencies stay."""
    guest = context.guest_of(step)
    result = guest.run(shlex.join(["rmmod", _module_name(step.remove_module)]), deadline=context.deadline)
    if result.exit == 0:
        return StepResult(status=Status.PASS, detail=f"removed {step.remove_module}")
    said = last_line(decode(result.stderr)) or f"exit status {result.exit}"
    return StepResult(
        status=Status.FAIL,
        detail=f"module '{step.remove_module}' was not removed: {said}",
        pointers=output_pointers(result, guest),
    )


def _loaded_modules(guest: Guest, deadline: Deadline) -> set[str]:
    listing = decode(guest.run("cat /proc/modules", deadline=deadline).stdout)
    return {line.split(" ", 1)[0] for line in listing.splitlines() if line}


def _module_name(file_name: str) -> str:
    return file_name.split(".", 1)[0].replace("-", "_")
