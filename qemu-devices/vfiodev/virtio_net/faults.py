"""The faults of section 8: their knobs, and which of them strikes now.

The library checks arguments and tells about injection and clearing; how often a fault strikes, and on which
pair, is kept here, since the data path asks at each packet.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vfiodev.errors import ControlError
from vfiodev.faults import Arg, Args, Knob, Value

ANY: Final = -1
MAX_MS: Final = 600_000
PERCENT_FAULTS: Final = ("wire_loss", "wire_duplicate", "wire_corrupt", "wire_reorder")
WIRE_FAULTS: Final = (*PERCENT_FAULTS, "wire_delay", "wire_rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairArg(Arg):
    """A queue pair: its number or `any`; checked to the number, ANY for `any`."""

    pairs: int

    def describe(self) -> str:
        return f"any|0..{self.pairs - 1} = any"

    def check(self, value: object) -> Value:
        number = ANY if value == "any" else value
        if isinstance(number, bool) or not isinstance(number, int) or not ANY <= number < self.pairs:
            raise ControlError(f"argument 'queue' must be {self.describe()}, not {value!r}")
        return number


def _number(name: str, kind: str, doc: str, bounds: tuple[float, float], default: float | None = None) -> Arg:
    return Arg(name=name, kind=kind, doc=doc, default=default, minimum=bounds[0], maximum=bounds[1])


def _count(default: int) -> Arg:
    doc = "how often the fault strikes; 0: until it is cleared"
    return Arg(name="count", kind="int", doc=doc, default=default, minimum=0)


def _ms(default: float | None = None) -> Arg:
    return _number("ms", "float", "ms", (0, MAX_MS), default)


def build_knobs(pairs: int) -> tuple[Knob, ...]:
    """The knobs of a device with so many queue pairs."""
    queue = PairArg(name="queue", kind="int", doc="which pair", default="any", pairs=pairs)
    delta = _number("delta", "int", "bytes", (-64, 64))
    size = _number("bytes", "int", "bytes", (1, 64), 16)
    percent = _number("percent", "float", "chance for each frame", (0, 100))
    once = _count(1)
    per_pair = (
        ("split_at_wrong_byte", "a packet is split `delta` bytes from the true place", (delta, once)),
        ("split_not_at_all", "a packet that should be split goes to header buffers", (once,)),
        ("spill_header", "the last header bytes also go in front of the payload", (size, once)),
        ("payload_to_header", "the first payload bytes also go behind the headers", (size, once)),
        ("completion_before_data", "used ring and interrupt first, data `ms` later", (_ms(20), once)),
        ("lose_interrupt", "a message of the receive queue is not sent", (once,)),
        ("delay_interrupt", "a message of the receive queue comes `ms` later", (_ms(), once)),
        ("duplicate_interrupt", "a message of the receive queue comes twice", (once,)),
        ("drop_rx", "a packet is lost after steering", (once,)),
        ("wrong_queue", "a packet for this pair goes to the next one", (once,)),
        ("wrong_used_length", "the used length of a packet's first chain is off", (delta, once)),
        ("stop_refill", "no new receive buffer is taken", ()),
        ("hang_tx", "the transmit queue is not read", ()),
        ("hang_reset", "queue_reset of both queues of the pair keeps reading 1", ()),
        ("write_after_reset", "after a receive queue's reset its next buffer is written", (once,)),
    )
    return (
        *(Knob(name=name, doc=doc, args=(queue, *args), key="queue") for name, doc, args in per_pair),
        Knob(name="needs_reset", doc="NEEDS_RESET, once"),
        Knob(name="link_down", doc="no carrier on either end, frames are lost"),
        *(
            Knob(name=name, doc=f"each frame, with that chance: {name[5:]}", args=(percent, _count(0)))
            for name in PERCENT_FAULTS
        ),
        Knob(name="wire_delay", doc="each frame comes `ms` later", args=(_ms(),)),
        Knob(
            name="wire_rate",
            doc="the rate is limited, with a queue of 256 frames",
            args=(_number("mbit", "float", "Mbit/s", (0.001, 1_000_000)),),
        ),
    )


class NetFaults:
    """The faults that are injected. Safe from any thread."""

    def __init__(self, struck: Callable[[str, int], None]) -> None:
        """`struck` is called with name and pair whenever a fault has its effect."""
        self._lock = threading.Lock()
        self._struck = struck
        self._faults: dict[tuple[str, int], dict[str, Value]] = {}

    def inject(self, knob: Knob, args: Args) -> None:
        """A fault became active, or got new arguments."""
        with self._lock:
            self._faults[knob.name, _pair(args)] = dict(args)

    def clear(self, knob: Knob, args: Args) -> None:
        """A fault ended."""
        with self._lock:
            self._faults.pop((knob.name, _pair(args)), None)

    @property
    def none(self) -> bool:
        """No fault is active: the data path asks no further."""
        return not self._faults

    def has_wire_fault(self) -> bool:
        """Whether frames must be looked at on the wire."""
        return bool(self._faults) and any(name in WIRE_FAULTS for name, _ in tuple(self._faults))

    def active(self, name: str, pair: int = ANY) -> Args | None:
        """A fault's arguments, without using it up."""
        fault = self._faults.get((name, pair))
        return self._faults.get((name, ANY)) if fault is None else fault

    def take(self, name: str, pair: int = ANY) -> Args | None:
        """The fault that strikes a pair now; it is used up by one."""
        if not self._faults:
            return None
        with self._lock:
            for key in ((name, pair), (name, ANY)):
                fault = self._faults.get(key)
                if fault is None:
                    continue
                taken, count = dict(fault), int(fault.get("count", 0))
                if count:
                    fault["count"] = count - 1
                    if count == 1:
                        del self._faults[key]
                break
            else:
                return None
        self._struck(name, pair)
        return taken


def _pair(args: Args) -> int:
    return int(args.get("queue", ANY))
