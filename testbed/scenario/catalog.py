"""The device models that a scenario can name: parameters, faults with their arguments, counters.

`testbed` never imports `vfiodev`, so the models' own declarations are repeated here as data;
`tests/unit/scenario/test_catalog.py` compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from testbed.scenario.values import describe

Kind = Literal["int", "float", "engine", "word"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg:
    """A parameter of a model, or an argument of a fault. ``default`` None: it must be given."""

    name: str
    kind: Kind
    about: str
    default: int | float | str | None = None
    low: int = 0
    high: int | None = None
    power_of_two: bool = False
    words: tuple[str, ...] = ()

    @property
    def accepts(self) -> str:
        """What it takes, in a reader's words."""
        if self.kind == "engine":
            return "copy, compute, any or an engine number"
        if self.kind == "word":
            return f"{', '.join(self.words[:-1])} or {self.words[-1]}"
        what = "a power of two" if self.power_of_two else "a whole number"
        what = "a number" if self.kind == "float" else what
        return (
            f"{what} from {self.low} to {self.high}" if self.high is not None else f"{what} from {self.low}"
        )

    def complaint(self, value: object) -> str | None:
        """Return what is wrong with ``value``, as "takes ..., got ...", or None."""
        return None if self._fits(value) else f"takes {self.accepts}, got {describe(value)}"

    def _fits(self, value: object) -> bool:
        if self.kind == "word":
            return value in self.words
        if self.kind == "engine" and isinstance(value, str):
            return value in ("copy", "compute", "any")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if isinstance(value, float) and self.kind != "float":
            return False
        if value < self.low or (self.high is not None and value > self.high):
            return False
        return not self.power_of_two or int(value) & (int(value) - 1) == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A way in which a model can be made to misbehave."""

    name: str
    about: str
    args: tuple[Arg, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A device model."""

    name: str
    about: str
    params: tuple[Arg, ...] = ()
    faults: tuple[Fault, ...] = ()
    counters: tuple[str, ...] = ()
    engine_counters: tuple[str, ...] = ()
    """Counters that each engine has as ``engineN.NAME``."""

    def list_counters(self, params: dict[str, object]) -> tuple[str, ...]:
        """Return the names of all counters of a device with these parameters."""
        engines = params.get("engines", 2)
        count = engines if isinstance(engines, int) and self.engine_counters else 0
        own = (f"engine{number}.{name}" for number in range(count) for name in self.engine_counters)
        return tuple(dict.fromkeys((*HOST_COUNTERS, *self.counters, *own)))


HOST_COUNTERS = (
    "dma_errors",
    "dma_messages",
    "dma_read_bytes",
    "dma_write_bytes",
    "irqs",
    "irqs_unsent",
    "resets",
    "violations",
)
INTERRUPTS = Arg(
    name="interrupts",
    kind="word",
    about="how it interrupts; with msix QEMU aborts when it is unplugged (qemu-devices/README.md)",
    default="msix-own",
    words=("msix-own", "msi", "msix"),
)
"""A parameter of every model."""
_EVERY_MODEL = (
    Fault(
        name="config_ones", about="config space and registers read as all ones, writes are dropped, no DMA"
    ),
    Fault(name="surprise_removal", about="the device vanishes: all ones, no DMA, no interrupts"),
)
_ENGINE = Arg(name="engine", kind="engine", about="which engine", default="any", high=7)


def _ms(default: int | None = None) -> Arg:
    return Arg(name="ms", kind="float", about="milliseconds", default=default, high=600_000)


def _count(default: int) -> Arg:
    return Arg(
        name="count", kind="int", about="how often it strikes; 0: until it is cleared", default=default
    )


def _gpu_fault(name: str, about: str, *args: Arg) -> Fault:
    return Fault(name=name, about=about, args=(_ENGINE, *args))


_GPU_COUNTERS = (
    "commands",
    "fences",
    "interrupts",
    "interrupts_lost",
    "doorbells",
    "errors",
    "resets",
    "bytes_read",
    "bytes_written",
)
GPU = "gpu"
"""The name of the model that takes jobs."""
_GPU = Model(
    name=GPU,
    about="a GPU with VRAM, a copy and a compute engine (docs/devices/gpu.md)",
    params=(
        Arg(
            name="vram_mib",
            kind="int",
            about="device memory in MiB",
            default=64,
            low=1,
            high=4096,
            power_of_two=True,
        ),
        Arg(name="engines", kind="int", about="copy and compute engines in turn", default=2, low=1, high=8),
        INTERRUPTS,
    ),
    faults=(
        *_EVERY_MODEL,
        _gpu_fault("hold_completions", "fence, interrupt and HEAD wait until it is cleared", _count(0)),
        _gpu_fault("delay_completions", "fence, interrupt and HEAD come later", _ms(), _count(0)),
        _gpu_fault(
            "reorder_completions",
            "fences of so many commands come out in reverse order",
            Arg(name="window", kind="int", about="FENCE commands", default=2, low=2, high=4095),
        ),
        _gpu_fault("lose_interrupt", "a completion sends no message", _count(1)),
        _gpu_fault("delay_interrupt", "the message of a completion comes later", _ms(), _count(1)),
        _gpu_fault("duplicate_interrupt", "the message of a completion comes twice", _count(1)),
        _gpu_fault("hang_engine", "the next command never ends"),
        _gpu_fault("early_completion", "fence and interrupt come before the data", _ms(20), _count(1)),
        Fault(
            name="flip_vram_bit",
            about="one bit of VRAM is inverted, at once",
            args=(
                Arg(name="offset", kind="int", about="byte of VRAM"),
                Arg(name="bit", kind="int", about="bit of that byte", high=7),
            ),
        ),
    ),
    counters=(*_GPU_COUNTERS, "faults_used"),
    engine_counters=_GPU_COUNTERS,
)
_TEMPLATE = Model(
    name="template",
    about="the smallest device, to copy for a new one",
    params=(INTERRUPTS,),
    faults=(*_EVERY_MODEL, Fault(name="lose_interrupt", about="the doorbell is silent", args=(_count(0),))),
    counters=("doorbells", "echoes"),
)

MODELS: dict[str, Model] = {model.name: model for model in (_GPU, _TEMPLATE)}
