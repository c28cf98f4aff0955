"""``module`` and ``remove_module``: kernel modules in the guest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from testbed.deadline import Deadline
from testbed.guest.session import Guest
from testbed.outcome import Status
from testbed.scenario.model import ModuleStep, RemoveModuleStep
from testbed.steps.assets import MODULE_FOLDER, Assets
from testbed.steps.base import StepContext, StepResult
from testbed.steps.command import decode, last_line, output_pointers

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
    files = {f"{MODULE_FOLDER}/{path.name}": path for path in assets.module_files(name)}
    guest.push(files, deadline=deadline, mode=0o644)
    names = [_module_name(path.name) for path in files.values()]
    wanted = dict(zip(names, files, strict=True))
    result = guest.run(build_command(wanted, _module_name(name), args), deadline=deadline)
    loaded = decode(result.stdout).split()
    if result.exit == 0:
        return None, loaded
    said = last_line(decode(result.stderr)) or f"exit status {result.exit}"
    refused = next((each for each in names if wanted[each] in said), names[-1])
    detail = f"module '{refused}' was not loaded: {said}"
    pointers = (f"{guest.name}/{result.pointer}.err:1",) if result.stderr else ()
    return StepResult(status=Status.FAIL, detail=detail, pointers=pointers), loaded


def build_command(files: Mapping[str, str], name: str, args: Values) -> str:
    """Return a command that inserts modules (name to file in the guest) and prints the names of the new ones.

    Only ``name`` gets ``args``; a module that is loaded already stays as it is. One command for all, since
    each costs a round trip.
    """
    parts = []
    for module, path in files.items():
        insert = shlex.join(["insmod", path, *(build_arguments(args) if module == name else [])])
        parts.append(f"{{ [ -e /sys/module/{module}/initstate ] || {{ {insert} && echo {module}; }}; }}")
    return " && ".join(parts)


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


def _module_name(file_name: str) -> str:
    return file_name.split(".", 1)[0].replace("-", "_")
