"""The base class of every device model.

A model is a class with a `describe` that says what the hardware is, and hooks that say what it does. Copy
`template/` to start one. Threads and locks, in one place:

- Register hooks, timers, fault hooks and `reset` run with `self.lock` held. They must be quick (QEMU stops
  the guest's CPU until a register access is answered) and must not wait for a worker.
- Work that takes time belongs into a worker (`self.workers.start`), which holds `self.lock` only to look at
  or change the device's state, never during DMA, `wait` or `sleep`.
- Every reset first stops all workers and cancels all timers, then gives registers their reset values, then
  calls `reset`, which starts the workers anew. A stopped worker's DMA and interrupts are refused
  (`StoppedError`), so nothing of the time before a reset happens after it.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from vfiodev.dma import Dma
from vfiodev.errors import ConfigError
from vfiodev.faults import CONFIG_ONES, SURPRISE_REMOVAL, Args, Faults, Knob
from vfiodev.function import CONFIG_REGION, Bar, Interrupts, PciFunction, check_access
from vfiodev.irq import INTX, MSI, MSIX, Irq
from vfiodev.msix import MsixTable
from vfiodev.pci import MAX_MSI_VECTORS, Effect, Identity, MsixLayout
from vfiodev.peers import PeerMap
from vfiodev.registers import Register, RegisterFile
from vfiodev.stats import Stats
from vfiodev.trace import Trace, TraceWriter
from vfiodev.work import DeviceLock, Timers, TimerThread, Worker, Workers, join

VIOLATIONS_TOLD = 100
INTERRUPT_KINDS = ("msix", "msix-own", "msi")
COUNTERS = (
    "dma_errors",
    "dma_messages",
    "dma_read_bytes",
    "dma_write_bytes",
    "irqs",
    "irqs_unsent",
    "resets",
    "violations",
)


class ResetKind(Enum):
    """Why a device is reset. Only POWER_ON clears BAR memory (VRAM) and the addresses in BARs."""

    POWER_ON = "power_on"
    FLR = "flr"
    BUS = "bus"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a device is, made by `Device.describe` from the parameters of a scenario."""

    identity: Identity
    bars: tuple[Bar, ...]
    msix: MsixLayout | None = None
    has_intx: bool = False
    knobs: tuple[Knob, ...] = ()
    counters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the host gives to each device."""

    name: str
    seed: int
    peers: PeerMap
    trace: TraceWriter
    timers: TimerThread
    violation: Callable[[str, str], None]


class Device:
    """A model derives from this and overrides `describe` and the hooks; see the module for threads and locks.

    name      the device's name in the scenario
    params    the parameters it was made with
    lock      the device's lock
    dma       guest memory (`Dma`)
    irq       interrupts (`Irq`)
    faults    which faults are active (`Faults`)
    stats     counters (`Stats`)
    trace     evidence (`Trace`)
    workers   threads (`Workers`);  timers  delayed calls (`Timers`)
    random    a generator seeded by the run's seed and the name: the only source of chance
    """

    def __init__(self, context: Context, params: Mapping[str, object]) -> None:
        """Raise ConfigError for parameters that `describe` refuses."""
        self.name = context.name
        kind, self.params = _interrupt_kind(params)
        self.description = self.describe(self.params)
        interrupts = _interrupts(self.description, kind)
        self.lock = DeviceLock()
        self.trace = Trace(context.trace, context.name)
        self.stats = Stats((*COUNTERS, *self.description.counters))
        self.irq = Irq(
            self.description.msix.vectors if self.description.msix else 0,
            {
                INTX: int(interrupts.has_intx),
                MSI: interrupts.msi_vectors,
                MSIX: interrupts.msix.vectors if interrupts.msix and not interrupts.msix_table else 0,
            },
            interrupts.msix_table,
            self.trace,
            self.stats,
        )
        self.dma = Dma(context.peers, self.trace, self.stats)
        self.faults = Faults(self.description.knobs, self._fault_injected, self._fault_cleared)
        self.workers = Workers(context.name, self.violation)
        self.timers = Timers(context.timers, self.lock)
        self.random = random.Random(f"{context.seed}/{context.name}")  # noqa: S311 - reproducible, not secret
        self._tell = context.violation
        self._peers = context.peers
        self._attached = False
        self._stale: list[Worker] = []
        self._all_ones = False
        self.function = PciFunction(
            self.name,
            self.description.identity,
            self.description.bars,
            interrupts,
            (self.register_read, self.register_written),
        )
        self.irq.allowed = self.dma.allowed = self._may_master

    # What a model overrides.

    @classmethod
    def describe(cls, params: Mapping[str, object]) -> Description:
        """What this device is with these parameters. Pure; raises ConfigError for bad ones."""
        raise NotImplementedError

    def register_read(self, register: Register, index: int, value: int) -> int:
        """A guest reads a `volatile` register whose stored value is `value`; return what it shall see."""
        del register, index
        return value

    def register_written(self, register: Register, index: int, value: int) -> None:
        """A guest wrote a register (not RO). `value`: the whole new value for RW; the bits written, after
        the mask, for WO; what is left in the register for W1C is `get`, `value` are the bits written."""

    def reset(self, kind: ResetKind) -> None:
        """The device was reset: registers have their reset values, no worker or timer is left. Build the
        state of a fresh device and start its workers. Runs after the client connects, and at each reset
        while it is connected."""

    def stop(self) -> None:
        """The client went away (unplugged, or QEMU ended): let go of what `reset` took. Workers are being
        stopped."""

    def bus_master_changed(self, *, enabled: bool) -> None:
        """The guest switched bus mastering, without which DMA and MSIs are refused."""

    def presence_changed(self, *, present: bool) -> None:
        """`config_ones` or `surprise_removal` began (not present) or ended: stand still meanwhile."""

    def fault_injected(self, knob: Knob, args: Args) -> None:
        """One of the model's own faults became active."""

    def fault_cleared(self, knob: Knob, args: Args) -> None:
        """One of the model's own faults was cleared, or had struck `count` times."""

    # What a model uses.

    def registers(self, bar: int) -> RegisterFile:
        """The register values of a BAR."""
        return self.function.registers[bar]

    def memory(self, bar: int) -> memoryview:
        """The bytes of a memory BAR, shared with the guest; numpy can look at them by `numpy.frombuffer`."""
        return self.function.memory[bar].view

    def violation(self, message: str) -> None:
        """Tell the orchestrator that guest or client broke a rule; counted, and told at most 100 times."""
        self.stats.add("violations")
        self.trace.event("violation", message=message)
        if self.stats.get("violations") <= VIOLATIONS_TOLD:
            self._tell(self.name, message)

    # What the server and the host call.

    def attach(self) -> None:
        """A client connected: power on."""
        with self.lock:
            self._attached = True
            self.function.config.msix_disguised = self.irq.table is not None
            self._reset(ResetKind.POWER_ON)
            self.trace.event("attached")
        self._join()

    def detach(self) -> None:
        """The client is gone: drop its memory and interrupts, go back to the power-on state."""
        with self.lock:
            self._attached = False
            self._halt()
            self.stop()
            self.faults.clear(SURPRISE_REMOVAL.name)
            self.function.reset(power_on=True)
            self._publish()
            self.irq.release_all()
            self.trace.event("detached")
        self._join()
        self.dma.memory.unmap_all()

    def bus_reset(self) -> None:
        """DEVICE_RESET from the client."""
        with self.lock:
            self.function.config.msix_disguised = False
            self._reset(ResetKind.BUS)
        self._join()

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        """REGION_READ; raises BadMessageError or RangeError."""
        with self.lock:
            function = self.function
            check_access(offset, count, function.region_size(index), index)
            if index == CONFIG_REGION:
                data = b"\xff" * count if self._all_ones else function.config.read(offset, count)
                event = "config_read"
            elif self._all_ones or not function.config.memory_enabled:
                data = b"\xff" * count
                event = "mmio_read"
            else:
                data = function.read_bar(index, offset, count, self.irq.pending_bits())
                event = "mmio_read"
        self.trace.access(event, index, offset, count, int.from_bytes(data[:8], "little"))
        return data

    def region_write(self, index: int, offset: int, data: bytes | memoryview) -> None:
        """REGION_WRITE; raises BadMessageError or RangeError."""
        with self.lock:
            function = self.function
            check_access(offset, len(data), function.region_size(index), index)
            event = "config_write" if index == CONFIG_REGION else "mmio_write"
            self.trace.access(event, index, offset, len(data), int.from_bytes(data[:8], "little"))
            if self._all_ones:
                return
            if index == CONFIG_REGION:
                self._config_written(function.config.write(offset, data))
            elif function.config.memory_enabled:
                function.write_bar(index, offset, data)
        if self._stale:
            self._join()

    def inject(self, name: str, args: Mapping[str, object]) -> None:
        """Activate a fault; raises ControlError."""
        with self.lock:
            self.faults.inject(name, args)
        self._join()

    def clear(self, name: str | None) -> None:
        """Clear a fault, or all; raises ControlError."""
        with self.lock:
            self.faults.clear(name)
        self._join()

    def close(self) -> None:
        """The host ends."""
        self.stats.close()
        self.function.close()

    def _may_master(self) -> bool:
        return self._attached and not self._all_ones and self.function.config.bus_master

    def _publish(self) -> None:
        self.function.publish(self._peers, present=self._attached and not self._all_ones)

    def _config_written(self, effect: Effect) -> None:
        if effect & Effect.FLR:
            self._reset(ResetKind.FLR)
            return
        if self.irq.table is not None:
            self.irq.table.set_control(self.function.config.msix_control)
        if effect & Effect.DECODE:
            self._publish()
        if effect & Effect.MASTER:
            self.bus_master_changed(enabled=self.function.config.bus_master)

    def _halt(self) -> None:
        self._stale += self.workers.stop_all()
        self.timers.cancel_all()

    def _join(self) -> None:
        stale, self._stale = self._stale, []
        join(stale)

    def _reset(self, kind: ResetKind) -> None:
        self._halt()
        self.function.reset(power_on=kind is ResetKind.POWER_ON)
        self._publish()
        self.irq.reset()
        self.stats.add("resets")
        self.trace.event("reset", kind=kind.value)
        self.reset(kind)

    def _fault_injected(self, knob: Knob, args: Args) -> None:
        self.trace.event("fault", fault=knob.name, args=dict(args))
        if knob is CONFIG_ONES or knob is SURPRISE_REMOVAL:
            self.presence_changed(present=False)
            self._all_ones = True
            if knob is SURPRISE_REMOVAL:
                self._halt()
                for memory in self.function.memory.values():
                    memory.fill_ones()
            self._publish()
            return
        self.fault_injected(knob, args)

    def _fault_cleared(self, knob: Knob, args: Args) -> None:
        self.trace.event("fault_cleared", fault=knob.name, args=dict(args))
        if knob is not CONFIG_ONES and knob is not SURPRISE_REMOVAL:
            self.fault_cleared(knob, args)
            return
        self._all_ones = any(
            self.faults.active(name) is not None for name in (CONFIG_ONES.name, SURPRISE_REMOVAL.name)
        )
        self.presence_changed(present=not self._all_ones)
        if knob is SURPRISE_REMOVAL and self._attached:
            self._reset(ResetKind.POWER_ON)
        self._publish()


def _interrupt_kind(params: Mapping[str, object]) -> tuple[str, Mapping[str, object]]:
    """Split off the parameter `interrupts`, which every device has."""
    rest = {name: value for name, value in params.items() if name != "interrupts"}
    kind = params.get("interrupts", "msix")
    if kind not in INTERRUPT_KINDS:
        raise ConfigError(f"parameter 'interrupts' must be one of {', '.join(INTERRUPT_KINDS)}, not {kind!r}")
    return str(kind), rest


def _interrupts(description: Description, kind: str) -> Interrupts:
    msix = description.msix
    if msix is None or kind == "msix":
        return Interrupts(msix=msix, has_intx=description.has_intx)
    if kind == "msix-own":
        table = MsixTable(msix.vectors)
        return Interrupts(msix=msix, msix_table=table, has_intx=description.has_intx)
    vectors = min(MAX_MSI_VECTORS, 1 << (msix.vectors - 1).bit_length())
    return Interrupts(msi_vectors=vectors, has_intx=description.has_intx)


def check_params(params: Mapping[str, object], known: tuple[str, ...]) -> None:
    """Raise ConfigError for parameters that a model does not know."""
    for name in params:
        if name not in known:
            raise ConfigError(
                f"parameter '{name}' is not known (known: {', '.join(sorted(known)) or 'none'})"
            )


def int_param(params: Mapping[str, object], name: str, default: int, low: int, high: int) -> int:
    """An integer parameter between two bounds; raises ConfigError."""
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"parameter '{name}' must be an integer from {low} to {high}, not {value!r}")
    return value


def now() -> int:
    """CLOCK_MONOTONIC in nanoseconds: the clock of traces and timestamps."""
    return time.monotonic_ns()
