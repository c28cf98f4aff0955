"""Named faults: a device declares `Knob` rows, the control socket injects and clears them, the model asks."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vfiodev.errors import ControlError

Value = int | float | str | bool
Args = Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg:
    """One argument of a knob. `kind` is "int", "float", "str" or "bool"; `default=None` makes it required."""

    name: str
    kind: str
    doc: str
    default: Value | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def describe(self) -> str:
        """The argument as the `faults` request shows it: `copy|compute`, `int 1..100 = 1`."""
        text = "|".join(self.choices) or self.kind
        if self.minimum is not None or self.maximum is not None:
            low = "" if self.minimum is None else f"{self.minimum:g}"
            high = "" if self.maximum is None else f"{self.maximum:g}"
            text += f" {low}..{high}"
        return text if self.default is None else f"{text} = {self.default}"

    def check(self, value: object) -> Value:
        """Return `value` with the argument's type, or raise ControlError."""
        checked = _typed(self.kind, value)
        if checked is None:
            raise ControlError(f"argument '{self.name}' must be {self.describe()}, not {value!r}")
        if self.choices and checked not in self.choices:
            raise ControlError(f"argument '{self.name}' must be {self.describe()}, not {value!r}")
        if isinstance(checked, (int, float)) and (
            (self.minimum is not None and checked < self.minimum)
            or (self.maximum is not None and checked > self.maximum)
        ):
            raise ControlError(f"argument '{self.name}' must be {self.describe()}, not {value!r}")
        return checked


def _typed(kind: str, value: object) -> Value | None:
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if kind == "int" and isinstance(value, int):
        return value
    if kind == "float" and isinstance(value, (int, float)) and not math.isnan(value):
        return float(value)
    return value if kind == "str" and isinstance(value, str) else None


COUNT: Final = Arg(
    name="count",
    kind="int",
    doc="how many times the fault strikes before it clears itself; 0 means until cleared",
    default=0,
    minimum=0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One fault that a device offers.

    key    name of an argument whose values make separate faults, such as `engine`: holding the copy engine
           and holding the compute engine can then be active at the same time. None: one at a time, the last
           wins.
    Put `COUNT` among `args` and use `Faults.take` for faults that strike a number of times.
    """

    name: str
    doc: str
    args: tuple[Arg, ...] = ()
    key: str | None = None


CONFIG_ONES: Final = Knob(
    name="config_ones",
    doc="config space and MMIO registers read as all ones, writes are ignored, DMA is refused",
)
SURPRISE_REMOVAL: Final = Knob(
    name="surprise_removal",
    doc="the device vanishes: all ones in config space, registers and BAR memory (which is lost), no DMA, no "
    "interrupts; ends when it is plugged again or the fault is cleared, in the power-on state",
)
GENERIC_KNOBS: Final = (CONFIG_ONES, SURPRISE_REMOVAL)

Changed = Callable[[Knob, Args], None]


def _ignore(_knob: Knob, _args: Args) -> None:
    pass


class Faults:
    """The faults of one device. Asking is cheap (one dictionary look-up), so ask where the fault would
    strike."""

    def __init__(
        self, knobs: Sequence[Knob], on_inject: Changed = _ignore, on_clear: Changed = _ignore
    ) -> None:
        self.knobs = {knob.name: knob for knob in (*GENERIC_KNOBS, *knobs)}
        self._on_inject = on_inject
        self._on_clear = on_clear
        self._active: dict[tuple[str, Value | None], dict[str, Value]] = {}

    def active(self, name: str, key: Value | None = None) -> Args | None:
        """The arguments of an active fault, or None. `key` is the value of the knob's key argument, if it
        has one."""
        return self._active.get((name, key))

    def take(self, name: str, key: Value | None = None) -> Args | None:
        """Like `active`, and uses the fault up by one when it was injected with a `count` above 0."""
        args = self._active.get((name, key))
        if args is None:
            return None
        taken = dict(args)
        left = args.get("count", 0)
        if isinstance(left, int) and left > 0:
            args["count"] = left - 1
            if left == 1:
                self._drop((name, key))
        return taken

    def inject(self, name: str, args: Mapping[str, object]) -> None:
        """Check and activate; replaces the same fault (same key). Raises ControlError and changes nothing."""
        knob = self._knob(name)
        known = {arg.name: arg for arg in knob.args}
        for given in args:
            if given not in known:
                raise ControlError(f"fault '{name}' has no argument '{given}' (it has: {_names(known)})")
        checked: dict[str, Value] = {}
        for arg in knob.args:
            value = args.get(arg.name, arg.default)
            if value is None:
                raise ControlError(f"fault '{name}' needs the argument '{arg.name}': {arg.describe()}")
            checked[arg.name] = arg.check(value)
        key = checked[knob.key] if knob.key else None
        self._active[name, key] = checked
        self._on_inject(knob, checked)

    def clear(self, name: str | None = None) -> None:
        """Clear one fault with all its keys, or all faults. Raises ControlError for an unknown name."""
        if name is not None:
            self._knob(name)
        for entry in [entry for entry in self._active if name in (None, entry[0])]:
            self._drop(entry)

    def describe(self) -> dict[str, dict[str, object]]:
        """The answer to the `faults` request."""
        return {
            knob.name: {"doc": knob.doc, "args": {arg.name: arg.describe() for arg in knob.args}}
            for knob in self.knobs.values()
        }

    def _knob(self, name: str) -> Knob:
        knob = self.knobs.get(name)
        if knob is None:
            raise ControlError(f"fault '{name}' is not known (known: {_names(self.knobs)})")
        return knob

    def _drop(self, entry: tuple[str, Value | None]) -> None:
        args = self._active.pop(entry, None)
        if args is not None:
            self._on_clear(self.knobs[entry[0]], args)


def _names(table: Mapping[str, object]) -> str:
    return ", ".join(sorted(table)) or "none"
