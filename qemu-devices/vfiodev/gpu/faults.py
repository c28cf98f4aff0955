"""The faults of section 7: their knobs, and which of them strikes now.

The library checks arguments and tells about injection and clearing; how often a fault strikes, and on
which engine, is kept here, since an engine's thread asks at each command.
"""

import threading
from dataclasses import dataclass
from typing import Final

from vfiodev.errors import ControlError
from vfiodev.faults import Arg, Args, Knob, Value

ANY: Final = -1
MAX_MS: Final = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineArg(Arg):
    """An engine: its number, `copy`, `compute` or `any`; checked to the number, ANY for `any`."""

    engines: int

    def describe(self) -> str:
        return f"any|copy|compute|0..{self.engines - 1} = any"

    def check(self, value: object) -> Value:
        names = {"any": ANY, "copy": 0} | ({"compute": 1} if self.engines > 1 else {})
        number = names.get(value) if isinstance(value, str) else value
        if isinstance(number, bool) or not isinstance(number, int) or not ANY <= number < self.engines:
            raise ControlError(f"argument 'engine' must be {self.describe()}, not {value!r}")
        return number


def build_knobs(engines: int, vram_bytes: int) -> tuple[Knob, ...]:
    """The knobs of a GPU with so many engines and so much VRAM."""
    engine = EngineArg(name="engine", kind="int", doc="which engine", default="any", engines=engines)

    def count(default: int) -> Arg:
        doc = "how often the fault strikes; 0: until it is cleared"
        return Arg(name="count", kind="int", doc=doc, default=default, minimum=0)

    def ms(default: float | None = None) -> Arg:
        return Arg(name="ms", kind="float", doc="ms", default=default, minimum=0, maximum=MAX_MS)

    window = Arg(name="window", kind="int", doc="FENCE commands", default=2, minimum=2, maximum=4095)
    offset = Arg(name="offset", kind="int", doc="byte of VRAM", minimum=0, maximum=vram_bytes - 1)
    bit = Arg(name="bit", kind="int", doc="bit of that byte", minimum=0, maximum=7)
    per_engine = (
        ("hold_completions", "fence, interrupt and HEAD wait until the fault is cleared", (count(0),)),
        ("delay_completions", "fence, interrupt and HEAD come `ms` later", (ms(), count(0))),
        ("reorder_completions", "fences of `window` FENCE commands come out in reverse", (window,)),
        ("lose_interrupt", "a completion sends no message", (count(1),)),
        ("delay_interrupt", "the message of a completion comes `ms` later", (ms(), count(1))),
        ("duplicate_interrupt", "the message of a completion comes twice", (count(1),)),
        ("hang_engine", "the next command never ends", ()),
        ("early_completion", "fence and interrupt come first, the data `ms` later", (ms(20), count(1))),
    )
    return (
        *(Knob(name=name, doc=doc, args=(engine, *args), key="engine") for name, doc, args in per_engine),
        Knob(name="flip_vram_bit", doc="one bit of VRAM is inverted, at once", args=(offset, bit)),
    )


class ActiveFault:
    """An injected fault. Who was struck keeps it, to see when it is cleared."""

    __slots__ = ("cleared", "left", "ms", "struck", "unlimited", "window")

    def __init__(self) -> None:
        self.cleared = False
        self.struck = ANY
        self.arm({})

    def arm(self, args: Args) -> None:
        """Injected, perhaps once more: the arguments are new, those that were struck stay so."""
        count = args.get("count", 0)
        self.left = count if isinstance(count, int) else 0
        self.unlimited = self.left == 0
        self.ms = float(args.get("ms", 0))
        self.window = int(args.get("window", 0))


class EngineFaults:
    """The engine faults that are injected. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: dict[tuple[str, int], ActiveFault] = {}

    def inject(self, knob: Knob, args: Args) -> None:
        with self._lock:
            fault = self._faults.setdefault((knob.name, _engine(args)), ActiveFault())
            fault.arm({**args, "count": 1} if knob.name == "hang_engine" else args)

    def clear(self, knob: Knob, args: Args) -> None:
        with self._lock:
            self._drop((knob.name, _engine(args)))

    def take(self, name: str, engine: int) -> ActiveFault | None:
        """The fault that strikes `engine` now; it is used up by one."""
        if not self._faults:
            return None
        with self._lock:
            for target in (engine, ANY):
                fault = self._faults.get((name, target))
                if fault is not None and (fault.unlimited or fault.left):
                    fault.left -= 1
                    fault.struck = engine
                    return fault
        return None

    def end_hang(self, engine: int) -> None:
        """The engine was reset."""
        with self._lock:
            self._drop(("hang_engine", engine))
            fault = self._faults.get(("hang_engine", ANY))
            if fault is not None and fault.struck == engine:
                self._drop(("hang_engine", ANY))

    def _drop(self, key: tuple[str, int]) -> None:
        fault = self._faults.pop(key, None)
        if fault is not None:
            fault.cleared = True


def _engine(args: Args) -> int:
    engine = args.get("engine", ANY)
    return engine if isinstance(engine, int) else ANY
