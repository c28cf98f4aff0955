"""Steps of a scenario: one class per verb. `Step` is any of them; the verb is the key that names it.

All are frozen and round-trip through JSON in the shape of the YAML. Times are seconds, sizes bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from testbed.scenario.base import Strict, find_tag
from testbed.scenario.conditions import Expectation, Wait
from testbed.scenario.jobs import Buffer, Job
from testbed.scenario.values import Change, Duration, ExitStatus, Name, Regex, Scalar, Seq, Text, Word32


class StepBase(Strict):
    """What every step has."""

    verb: ClassVar[str]

    name: Text | None = Field(default=None, description="What this step is for, in reports.")
    guest: Name = Field(default="vm", description="Guest in which it happens; by default the first one.")
    timeout: Duration | None = Field(
        default=None, description="How long this step may take on the reference machine."
    )

    @property
    def title(self) -> str:
        """The step's name, or its verb and what it is about."""
        subject = getattr(self, self.verb, None)
        return self.name or (f"{self.verb} {subject}" if isinstance(subject, str) else self.verb)


class ModuleStep(StepBase):
    """Load a kernel module with all that it depends on; one of ours is built first."""

    verb = "module"
    module: Text = Field(description="A folder of guest-images/modules, or a module of the kernel.")
    args: dict[str, Scalar] = Field(default={}, description="Module parameters.")


class RemoveModuleStep(StepBase):
    """Remove a kernel module."""

    verb = "remove_module"
    remove_module: Text = Field(description="The module's name.")


class OutputExpect(Strict):
    """What a command must leave behind."""

    exit: ExitStatus = Field(default=0, description="Exit status, or any.")
    output: Regex | None = Field(default=None, description="Must be found in standard output.")
    not_output: Regex | None = Field(default=None, description="Must not be found in standard output.")
    error: Regex | None = Field(default=None, description="Must be found in standard error.")


class ToolExpect(OutputExpect):
    """What a tool must leave behind."""

    skip: Literal["allowed", "refused"] = Field(
        default="refused", description="Whether a skipped check is a pass."
    )


class RunStep(StepBase):
    """Run a shell command in the guest."""

    verb = "run"
    run: Text = Field(description="The command, for the guest's sh. Write $${X} for the shell's own ${X}.")
    stdin: str | None = Field(default=None, description="Text for its standard input.")
    expect: OutputExpect = Field(
        default=OutputExpect(), description="What it must leave; exit status 0 by default."
    )


class ToolStep(StepBase):
    """Run a guest tool that prints KTAP; each of its checks counts."""

    verb = "tool"
    tool: Text = Field(description="Tool and arguments, for example tb-gpu copy --from vram.")
    stdin: str | None = Field(default=None, description="Text for its standard input.")
    expect: ToolExpect = Field(default=ToolExpect(), description="What else it must leave.")


class PlugStep(StepBase):
    """Hot-plug a device that was declared with plug: later, or unplugged before."""

    verb = "plug"
    plug: Name = Field(description="The device's name.")


class UnplugStep(StepBase):
    """Unplug a device and wait until it is gone."""

    verb = "unplug"
    unplug: Name = Field(description="The device's name.")
    surprise: bool = Field(default=False, description="The device vanishes first, without asking the guest.")


class InjectStep(StepBase):
    """Make a device misbehave."""

    verb = "inject"
    inject: Text = Field(description="The fault's name; testbed list faults.")
    device: Name = Field(description="The device; by default the guest's only one.")
    with_: dict[str, Scalar] = Field(default={}, alias="with", description="The fault's arguments.")


class ClearStep(StepBase):
    """End a fault."""

    verb = "clear"
    clear: Text = Field(description="The fault's name, or all.")
    device: Name = Field(description="The device; by default the guest's only one.")


class QmpStep(StepBase):
    """Send QEMU a QMP command."""

    verb = "qmp"
    qmp: Text = Field(description="The command, for example query-status.")
    args: dict[str, Any] = Field(default={}, description="Its arguments.")
    expect: dict[str, Scalar] = Field(default={}, description="path.to.key: value, or a regular expression.")


class WaitStep(StepBase):
    """Wait until something is so."""

    verb = "wait"
    timeout: Duration | None = Field(default=5.0, description="How long it may take; 5s by default.")
    wait: Wait = Field(description="One of kmsg, console, qmp, device with counter and at_least, command.")


class ExpectStep(StepBase):
    """Check that something is so now."""

    verb = "expect"
    expect: Expectation = Field(
        description="One of kmsg, not_kmsg, console, device with counter and a bound, file with matches."
    )


class JobsStep(StepBase):
    """Submit a graph of GPU jobs that depend on each other by fences, and check their results."""

    verb = "jobs"
    jobs: dict[Name, Job] = Field(description="Jobs by name.", min_length=1, max_length=128)
    buffers: dict[Name, Buffer] = Field(default={}, description="Buffers by name.", max_length=64)
    check: dict[Name, Word32] = Field(
        default={}, description="buffer: the 32-bit value it holds everywhere at the end."
    )
    submit: Literal["forward", "reverse"] = Field(
        default="forward", description="Order in which jobs that do not depend on each other are submitted."
    )


class CounterSources(Strict):
    """Which counters are read."""

    vmstat: Seq[Text] = Field(default=(), description="Names in /proc/vmstat.")
    device: dict[Name, Seq[Text]] = Field(default={}, description="device: names of its counters.")
    files: Seq[Text] = Field(default=(), description="Files in the guest that hold one number.")


class CountersStep(StepBase):
    """Read counters before and after some steps and compare."""

    verb = "counters"
    counters: CounterSources = Field(description="Which counters are read.")
    steps: Seq[Step] = Field(description="What happens in between.", min_length=1)
    expect: dict[Text, Change] = Field(
        description="counter (a device's as DEVICE.COUNTER): change, for example +3, 0, >=1.", min_length=1
    )


class ParallelStep(StepBase):
    """Several lists of steps at once; all must pass."""

    verb = "parallel"
    parallel: Seq[Annotated[Seq[Step], Field(min_length=1)]] = Field(
        description="Branches, each a list of steps.", min_length=2, max_length=16
    )


class Repeat(Strict):
    """Steps that are done several times."""

    times: int = Field(ge=1, le=10_000, description="How often.")
    steps: Seq[Step] = Field(description="What is done.", min_length=1)


class RepeatStep(StepBase):
    """Some steps again and again; it ends at the first that does not pass."""

    verb = "repeat"
    repeat: Repeat = Field(description="times and steps.")


class AlwaysStep(StepBase):
    """Clean-up that is done also after a failure."""

    verb = "always"
    always: Seq[Step] = Field(description="The steps.", min_length=1)


STEP_CLASSES: tuple[type[StepBase], ...] = (
    ModuleStep,
    RemoveModuleStep,
    RunStep,
    ToolStep,
    JobsStep,
    PlugStep,
    UnplugStep,
    InjectStep,
    ClearStep,
    QmpStep,
    WaitStep,
    CountersStep,
    ParallelStep,
    RepeatStep,
    AlwaysStep,
    ExpectStep,  # last: `expect` is also an option of other steps
)
VERBS = tuple(cls.verb for cls in STEP_CLASSES)


def _verb(value: object) -> str | None:
    if isinstance(value, StepBase):
        return f"<{value.verb}>"
    return find_tag(value, VERBS)


Step = Annotated[
    Annotated[ModuleStep, Tag("<module>")]
    | Annotated[RemoveModuleStep, Tag("<remove_module>")]
    | Annotated[RunStep, Tag("<run>")]
    | Annotated[ToolStep, Tag("<tool>")]
    | Annotated[JobsStep, Tag("<jobs>")]
    | Annotated[PlugStep, Tag("<plug>")]
    | Annotated[UnplugStep, Tag("<unplug>")]
    | Annotated[InjectStep, Tag("<inject>")]
    | Annotated[ClearStep, Tag("<clear>")]
    | Annotated[QmpStep, Tag("<qmp>")]
    | Annotated[WaitStep, Tag("<wait>")]
    | Annotated[CountersStep, Tag("<counters>")]
    | Annotated[ParallelStep, Tag("<parallel>")]
    | Annotated[RepeatStep, Tag("<repeat>")]
    | Annotated[AlwaysStep, Tag("<always>")]
    | Annotated[ExpectStep, Tag("<expect>")],
    Discriminator(_verb),
]

for _class in (CountersStep, ParallelStep, Repeat, RepeatStep, AlwaysStep):
    _class.model_rebuild()
