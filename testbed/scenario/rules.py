"""What must fit together in a document whose shapes are right: names, devices, faults, plug order, limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from testbed.scenario.catalog import MODELS, Arg, Model
from testbed.scenario.conditions import CounterIs, CounterReached
from testbed.scenario.document import Device, Document, Guest
from testbed.scenario.jobrules import check_jobs
from testbed.scenario.model import (
    AlwaysStep,
    ClearStep,
    CountersStep,
    ExpectStep,
    InjectStep,
    JobsStep,
    ModuleStep,
    ParallelStep,
    PlugStep,
    RepeatStep,
    Step,
    StepBase,
    ToolStep,
    UnplugStep,
    WaitStep,
)
from testbed.scenario.plugging import check_plugging
from testbed.scenario.suggest import closest, suggest
from testbed.scenario.tree import Loc
from testbed.scenario.values import format_duration

MAX_DEVICES = 16
"""Slots 0x10 to 0x1f of the root bus are for root ports."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A mistake: where, what, and what to do. ``key``: it is about the key and not about the value."""

    loc: Loc
    message: str
    hint: str | None = None
    key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Names of what this installation brings for guests; None where that cannot be told."""

    modules: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    subcommands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of each tool; a tool that is not in here may have any."""


@dataclass(slots=True, kw_only=True)
class _Context:
    document: Document
    known: Known
    findings: list[Finding] = field(default_factory=list)

    def find(self, loc: Loc, message: str, hint: str | None = None, *, key: bool = False) -> None:
        self.findings.append(Finding(loc=loc, message=message, hint=hint, key=key))


def check_document(document: Document, known: Known, *, whole: bool = True) -> list[Finding]:
    """Return all that does not fit together in ``document``; not ``whole``: some steps were left out."""
    context = _Context(document=document, known=known)
    for name, guest in document.guests.items():
        _check_guest(context, name, guest)
    for index, entry in enumerate(document.modules):
        loc: Loc = ("modules", index)
        if len(entry) != 1:
            context.find(loc, "an entry of 'modules' holds one module", "begin each with a dash")
        for module in entry:
            _check_module(context, (*loc, module), module, key=True)
    for loc, step in iterate_steps(document.steps, ("steps",)):
        _check_step(context, loc, step)
    for loc, message in check_plugging(document) if whole else ():
        context.find(loc, message)
    return context.findings


def iterate_steps(steps: Iterable[Step], loc: Loc) -> Iterator[tuple[Loc, StepBase]]:
    """Yield every step with its place, groups before the steps inside them."""
    for index, step in enumerate(steps):
        here = (*loc, index)
        yield here, step
        for inner, place in inner_steps(step):
            yield from iterate_steps(inner, (*here, *place))


def inner_steps(step: StepBase) -> list[tuple[tuple[Step, ...], Loc]]:
    """Return the lists of steps inside a group, each with its place in the group."""
    if isinstance(step, AlwaysStep):
        return [(step.always, ("always",))]
    if isinstance(step, RepeatStep):
        return [(step.repeat.steps, ("repeat", "steps"))]
    if isinstance(step, CountersStep):
        return [(step.steps, ("steps",))]
    if isinstance(step, ParallelStep):
        return [(branch, ("parallel", number)) for number, branch in enumerate(step.parallel)]
    return []


def _check_guest(context: _Context, name: str, guest: Guest) -> None:
    loc: Loc = ("guests", name)
    if name == "steps":
        context.find(
            loc, "a guest cannot be called 'steps': the run folder has a folder of that name", key=True
        )
    if not 64 * _MIB <= guest.memory <= 64 * 1024 * _MIB or guest.memory % _MIB:
        context.find((*loc, "memory"), "'memory' takes whole MiB from 64M to 64G")
    if len(guest.devices) > MAX_DEVICES:
        context.find((*loc, "devices"), f"at most {MAX_DEVICES} devices fit into a guest", key=True)
    for device_name, device in guest.devices.items():
        _check_device(context, (*loc, "devices", device_name), device)


def _check_device(context: _Context, loc: Loc, device: Device) -> None:
    if (device.model is None) == (device.qemu is None):
        context.find(loc, "a device has either 'model' or 'qemu'", f"known models: {', '.join(MODELS)}")
        return
    if device.model is None:
        for key in device.params:
            context.find((*loc, key), f"unknown key '{key}'", "properties belong inside 'qemu'", key=True)
        return
    model = MODELS.get(device.model)
    if model is None:
        context.find(
            (*loc, "model"), f"device model '{device.model}' is not known", suggest(device.model, MODELS)
        )
        return
    args = {arg.name: arg for arg in model.params}
    keys = [*args, "model", "plug"]
    for key, value in device.params.items():
        if key not in args:
            context.find(
                (*loc, key), f"model '{model.name}' has no parameter '{key}'", suggest(key, keys), key=True
            )
        else:
            _check_value(context, (*loc, key), args[key], value)


def _check_value(context: _Context, loc: Loc, arg: Arg, value: object) -> None:
    complaint = arg.complaint(value)
    if complaint:
        context.find(loc, f"'{arg.name}' {complaint}")


def _check_step(context: _Context, loc: Loc, step: StepBase) -> None:
    guest = context.document.guests.get(step.guest)
    if guest is None:
        hint = suggest(step.guest, context.document.guests)
        context.find((*loc, "guest"), f"there is no guest '{step.guest}'", hint)
        return
    budget = context.document.timeout
    if "timeout" in step.model_fields_set and step.timeout is not None and step.timeout > budget:
        long, whole = format_duration(step.timeout), format_duration(budget)
        context.find((*loc, "timeout"), f"'timeout' is {long}, longer than the whole case's {whole}")
    if isinstance(step, ModuleStep):
        _check_module(context, (*loc, "module"), step.module)
    elif isinstance(step, ToolStep):
        _check_tool(context, (*loc, "tool"), step.tool)
    elif isinstance(step, JobsStep):
        for place, message, hint in check_jobs(step, guest):
            # Two deep are the names of jobs and of checked buffers, which are keys.
            context.find((*loc, *place), message, hint, key=len(place) == 2)
    else:
        _check_device_step(context, loc, step, guest)


def _check_device_step(context: _Context, loc: Loc, step: StepBase, guest: Guest) -> None:
    if isinstance(step, (PlugStep, UnplugStep)):
        name = step.plug if isinstance(step, PlugStep) else step.unplug
        device = _get_device(context, (*loc, step.verb), name, guest)
        if device and isinstance(step, UnplugStep) and device.params.get("interrupts") == "msix":
            hint = "interrupts: msix-own"
            context.find((*loc, "unplug"), f"'{name}' interrupts by msix, with which QEMU aborts here", hint)
    elif isinstance(step, (InjectStep, ClearStep)):
        _check_fault(context, loc, step, guest)
    elif isinstance(step, WaitStep) and isinstance(step.wait, CounterReached):
        _check_counter(context, (*loc, "wait"), step.wait, guest)
    elif isinstance(step, ExpectStep) and isinstance(step.expect, CounterIs):
        _check_counter(context, (*loc, "expect"), step.expect, guest)
        if step.expect.equals is step.expect.at_least is step.expect.at_most is None:
            context.find((*loc, "expect"), "say what the counter must be: equals, at_least or at_most")
    elif isinstance(step, CountersStep):
        _check_changes(context, loc, step, guest)


def _get_device(context: _Context, loc: Loc, name: str, guest: Guest) -> Device | None:
    device = guest.devices.get(name)
    if device is None:
        hint = suggest(name, guest.devices) or "declare it in guests: {GUEST: {devices: ...}}"
        context.find(loc, f"there is no device '{name}'", hint)
    return device


def _get_model(context: _Context, loc: Loc, name: str, guest: Guest) -> tuple[Model, Device] | None:
    device = _get_device(context, loc, name, guest)
    if device is None:
        return None
    if device.qemu is not None:
        context.find(loc, f"'{name}' is a device of QEMU's own: it has no faults and no counters")
        return None
    model = MODELS.get(device.model or "")
    return (model, device) if model else None


def _check_fault(context: _Context, loc: Loc, step: InjectStep | ClearStep, guest: Guest) -> None:
    found = _get_model(context, (*loc, "device"), step.device, guest)
    if found is None:
        return
    model, _ = found
    faults = {fault.name: fault for fault in model.faults}
    name = step.inject if isinstance(step, InjectStep) else step.clear
    if isinstance(step, ClearStep):
        if name not in (*faults, "all"):
            hint = suggest(name, [*faults, "all"])
            context.find((*loc, "clear"), f"model '{model.name}' has no fault '{name}'", hint)
        return
    fault = faults.get(name)
    if fault is None:
        context.find((*loc, "inject"), f"model '{model.name}' has no fault '{name}'", suggest(name, faults))
        return
    args = {arg.name: arg for arg in fault.args}
    for key, value in step.with_.items():
        place = (*loc, "with", key)
        if key in args:
            _check_value(context, place, args[key], value)
        else:
            hint = suggest(key, args) or "it takes none"
            context.find(place, f"fault '{name}' has no argument '{key}'", hint, key=True)
    for arg in fault.args:
        if arg.default is None and arg.name not in step.with_:
            context.find(
                (*loc, "inject"), f"fault '{name}' needs '{arg.name}': {arg.accepts}", "give it in 'with'"
            )


def _check_counter(context: _Context, loc: Loc, what: CounterReached | CounterIs, guest: Guest) -> None:
    found = _get_model(context, (*loc, "device"), what.device, guest)
    if found:
        _check_counter_name(context, (*loc, "counter"), what.counter, *found)


def _check_counter_name(context: _Context, loc: Loc, name: str, model: Model, device: Device) -> None:
    counters = model.list_counters(device.params)
    if name not in counters:
        context.find(loc, f"model '{model.name}' has no counter '{name}'", suggest(name, counters))


def _check_changes(context: _Context, loc: Loc, step: CountersStep, guest: Guest) -> None:
    read = [*step.counters.vmstat, *step.counters.files]
    for name, counters in step.counters.device.items():
        read += [f"{name}.{counter}" for counter in counters]
        place = (*loc, "counters", "device", name)
        found = _get_model(context, place, name, guest)
        if found:
            for index, counter in enumerate(counters):
                _check_counter_name(context, (*place, index), counter, *found)
    for name in step.expect:
        if name not in read:
            hint = suggest(name, read)
            context.find((*loc, "expect", name), f"counter '{name}' is not read here", hint, key=True)


def _check_module(context: _Context, loc: Loc, name: str, *, key: bool = False) -> None:
    # A module of the kernel can have any name, so only a near miss of one of ours is surely a mistake.
    ours = context.known.modules
    if ours and name not in ours and (name.startswith("tb") or closest(name, ours, cutoff=0.8)):
        context.find(loc, f"there is no module '{name}'", suggest(name, ours), key=key)


def _check_tool(context: _Context, loc: Loc, command: str) -> None:
    program, *rest = command.split()
    tools = context.known.tools
    if tools and program not in tools:
        context.find(loc, f"there is no tool '{program}'", suggest(program, tools))
    known = context.known.subcommands.get(program)
    # What begins otherwise is an option, or the shell's to replace.
    if known and rest and rest[0][0].isalnum() and rest[0] not in known:
        context.find(loc, f"'{program}' has no subcommand '{rest[0]}'", suggest(rest[0], known))
