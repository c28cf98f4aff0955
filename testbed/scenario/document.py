"""The scenario file as a whole: `Document` is its model, `Scenario` what `load_scenario` returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from testbed.scenario.base import Strict
from testbed.scenario.model import Step
from testbed.scenario.values import Duration, KernelVersion, Name, Regex, Scalar, Seq, Size, Text

Plug = Literal["start", "later"]


class QemuDevice(Strict):
    """A device of QEMU's own; other keys are its properties."""

    model_config = ConfigDict(extra="allow")
    driver: Text = Field(description="QEMU's name for it, for example edu.")

    @property
    def properties(self) -> dict[str, Any]:
        """What goes to ``device_add`` besides the driver."""
        return dict(self.model_extra or {})


class Device(Strict):
    """A device of a guest; other keys are parameters of the model."""

    model_config = ConfigDict(extra="allow")
    model: Text | None = Field(default=None, description="A device model; testbed list models.")
    qemu: QemuDevice | None = Field(default=None, description="A device of QEMU's own instead of a model.")
    plug: Plug = Field(default="start", description="start: before step 1. later: by a plug step.")

    @property
    def params(self) -> dict[str, Any]:
        """The model's parameters as given."""
        return dict(self.model_extra or {})


class Guest(Strict):
    """A machine."""

    memory: Size = Field(default=512 << 20, description="RAM.")
    cpus: int = Field(default=2, ge=1, le=16, description="Virtual CPUs.")
    cmdline: Seq[Text] = Field(default=(), description="Words for the kernel's command line.")
    devices: dict[Name, Device] = Field(default={}, description="Devices by name, hot-plugged in this order.")


class Requires(Strict):
    """What a scenario needs; without it the case is skipped, with the reason."""

    config: Seq[Text] = Field(
        default=(), description="Kernel options that must be y or m, for example CONFIG_SYNC_FILE."
    )
    modules: Seq[Text] = Field(default=(), description="Kernel modules that must exist.")
    kernel: KernelVersion | None = Field(default=None, description='Kernel version, for example ">=6.12".')
    accel: Literal["kvm", "tcg"] | None = Field(default=None, description="The accelerator.")


class ExpectedWarning(Strict):
    """Kernel messages that are no failure here."""

    match: Regex = Field(description="Must be found in the message.")
    optional: bool = Field(default=False, description="Whether it may stay away; else its absence is a FAIL.")
    about: Text | None = Field(default=None, description="Why it is expected.")


class ExpectedVerdict(Strict):
    """The verdict that this scenario must have, for tests of the judge."""

    status: Literal["FAIL", "ERROR", "MISS", "PASS", "DONE", "SKIP"] = Field(description="The status.")
    reason: Regex | None = Field(default=None, description="Must be found in the verdict's reason.")


def _name_alone(value: object) -> object:
    return {value: {}} if isinstance(value, str) else value


ModuleEntry = Annotated[dict[Text, dict[str, Scalar]], BeforeValidator(_name_alone)]
"""One module: its name, or its name with parameters."""


class Document(Strict):
    """A scenario file after parameters were put in."""

    schema_: Literal[1] = Field(alias="schema", description="Version of the scenario language: 1.")
    about: Text = Field(description="One sentence: the question that this scenario answers.")
    tags: Seq[Name] = Field(default=(), description="Words to select it by: testbed run -k TAG.")
    requires: Requires = Field(default=Requires(), description="What it needs; else it is skipped.")
    params: dict[Name, Scalar] = Field(
        default={}, description="Parameters and their defaults, used as ${NAME}."
    )
    matrix: dict[Name, Annotated[Seq[Scalar], Field(min_length=1)]] = Field(
        default={}, description="Parameters that take several values, a case for each."
    )
    timeout: Duration = Field(default=60.0, description="Budget of one case on the reference machine.")
    cold: bool = Field(default=False, description="Boot from power-on, never from a snapshot.")
    guests: dict[Name, Guest] = Field(
        default={"vm": Guest()}, description="Machines by name.", min_length=1, max_length=4
    )
    modules: Seq[ModuleEntry] = Field(
        default=(), description="Modules loaded before step 1: NAME, or NAME: {parameter: value}."
    )
    expected_warnings: Seq[ExpectedWarning] = Field(
        default=(), description="Kernel messages that are no failure."
    )
    expect_verdict: ExpectedVerdict | None = Field(default=None, description="For tests of the judge.")
    steps: Seq[Step] = Field(description="What happens, in order.", min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One case of a scenario: the values of its parameters, and the document with them put in."""

    axes: dict[str, Any]
    """The matrix axes only; empty without a matrix."""
    params: dict[str, Any]
    document: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A valid scenario file: its cases, at least one, in the order of the matrix."""

    path: Path
    name: str
    """``smoke/boot`` for ``scenarios/smoke/boot.yaml``; the file's stem elsewhere."""
    text: str
    variants: tuple[Variant, ...]

    @property
    def about(self) -> str:
        """The scenario's question."""
        return self.variants[0].document.about

    @property
    def tags(self) -> tuple[str, ...]:
        """Words to select it by."""
        return self.variants[0].document.tags
