"""The side of the device that its engines talk to: interrupts, counters, trace, faults."""

import threading
from collections.abc import Sequence

from vfiodev.gpu.engine import Engine
from vfiodev.gpu.faults import ActiveFault, EngineFaults
from vfiodev.gpu.regs import INTR_DONE_SHIFT, INTR_ERROR_SHIFT
from vfiodev.irq import Irq
from vfiodev.stats import Stats
from vfiodev.trace import Trace

ENGINE_COUNTERS = (
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


class GpuPorts:
    """Implements `engine.Ports`. Safe from any thread; its lock is the innermost one."""

    def __init__(self, irq: Irq, stats: Stats, trace: Trace, faults: EngineFaults) -> None:
        self._irq = irq
        self._stats = stats
        self._faults = faults
        self._lock = threading.Lock()
        self._status = 0
        self._enable = 0
        self._trace = trace
        self.engines: Sequence[Engine] = ()

    # For registers.

    @property
    def interrupt_status(self) -> int:
        return self._status

    @property
    def interrupt_enable(self) -> int:
        return self._enable

    def clear_interrupts(self, bits: int) -> None:
        with self._lock:
            self._status &= ~bits

    def enable_interrupts(self, bits: int) -> None:
        with self._lock:
            self._enable = bits

    def reset(self) -> None:
        with self._lock:
            self._status = self._enable = 0

    # For engines.

    def count(self, engine: int, counter: str, amount: int = 1) -> None:
        self._stats.add(counter, amount)
        self._stats.add(f"engine{engine}.{counter}", amount)

    def trace(self, event: str, **fields: object) -> None:
        self._trace.event(event, **fields)

    def take_fault(self, engine: int, knob: str) -> ActiveFault | None:
        fault = self._faults.take(knob, engine)
        if fault is not None:
            self._stats.add("faults_used")
            self.trace("gpu_fault", engine=engine, fault=knob)
        return fault

    def flag_completion(self, engine: int) -> bool:
        return self._flag(1 << (INTR_DONE_SHIFT + engine))

    def flag_error(self, engine: int) -> None:
        self.count(engine, "errors")
        if self._flag(1 << (INTR_ERROR_SHIFT + engine)) and self._irq.raise_msix(0):
            self.count(engine, "interrupts")

    def send_completion(self, engine: int) -> None:
        if self._irq.raise_msix(1 + engine):
            self.count(engine, "interrupts")

    def semaphore_released(self, engine: int) -> None:
        for other in self.engines:
            if other.index != engine:
                other.state.kick()

    def _flag(self, bit: int) -> bool:
        with self._lock:
            self._status |= bit
            return bool(self._enable & bit)
