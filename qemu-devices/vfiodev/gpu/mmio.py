"""BAR0: what reading and writing each register does. Runs with the device's lock held."""

import time
from collections.abc import Callable, Sequence

from vfiodev.gpu import regs
from vfiodev.gpu.commands import MAX_TRANSFER
from vfiodev.gpu.engine import Engine
from vfiodev.gpu.ports import GpuPorts
from vfiodev.gpu.state import MAX_RING_LOG2

_LOW = 0xFFFF_FFFF


class Mmio:
    """The registers of a GPU. `reset_device` and `reset_engine` carry out what the RESET bits ask for."""

    def __init__(
        self,
        ports: GpuPorts,
        vram_size: int,
        reset_device: Callable[[], None],
        reset_engine: Callable[[Engine], None],
    ) -> None:
        self._ports = ports
        self._reset_device = reset_device
        self._reset_engine = reset_engine
        self.engines: Sequence[Engine] = ()
        self.reset_count = 0
        self.reset()
        self._global_reads: dict[str, Callable[[], int]] = {
            "ID": lambda: regs.ID,
            "VERSION": lambda: regs.VERSION,
            "SCRATCH": lambda: self._scratch,
            "ENGINES": lambda: len(self.engines),
            "VRAM_SIZE_LO": lambda: vram_size & _LOW,
            "VRAM_SIZE_HI": lambda: vram_size >> 32,
            "STATUS": self._read_status,
            "CONTROL": lambda: self._control,
            "INTR_STATUS": lambda: ports.interrupt_status,
            "INTR_ENABLE": lambda: ports.interrupt_enable,
            "TIMESTAMP_LO": self._read_timestamp,
            "TIMESTAMP_HI": lambda: self._timestamp >> 32,
            "FEATURES": lambda: regs.FEATURES,
            "MAX_RING_LOG2": lambda: MAX_RING_LOG2,
            "RESET_COUNT": lambda: self.reset_count,
            "MAX_TRANSFER": lambda: MAX_TRANSFER,
        }
        self._engine_reads: dict[str, Callable[[Engine], int]] = {
            "TYPE": lambda engine: regs.TYPE_COMPUTE if engine.compute else regs.TYPE_COPY,
            "CTRL": lambda engine: regs.CTRL_RUN if engine.state.run else 0,
            "ENGINE_STATUS": lambda engine: engine.state.status(),
            "RING_LOG2": lambda engine: engine.state.ring_log2,
            "RING_BASE_LO": lambda engine: engine.state.ring_base & _LOW,
            "RING_BASE_HI": lambda engine: engine.state.ring_base >> 32,
            "HEAD": lambda engine: engine.state.head,
            "TAIL": lambda engine: engine.state.tail,
            "FENCE_ADDR_LO": lambda engine: engine.state.fence_address & _LOW,
            "FENCE_ADDR_HI": lambda engine: engine.state.fence_address >> 32,
            "FENCE_SEQ_LO": self._read_fence,
            "FENCE_SEQ_HI": lambda engine: self._fence_seq.get(engine.index, 0) >> 32,
            "ERROR_CODE": lambda engine: engine.state.error_code,
            "ERROR_INDEX": lambda engine: engine.state.error_index,
            "ERROR_ADDR_LO": lambda engine: engine.state.error_address & _LOW,
            "ERROR_ADDR_HI": lambda engine: engine.state.error_address >> 32,
        }
        self._global_writes: dict[str, Callable[[int], None]] = {
            "SCRATCH": self._write_scratch,
            "CONTROL": self._write_control,
            "INTR_STATUS": ports.clear_interrupts,
            "INTR_ENABLE": ports.enable_interrupts,
        }
        self._engine_writes: dict[str, Callable[[Engine, int], None]] = {
            "CTRL": self._write_ctrl,
            "TAIL": self._write_tail,
        }

    def reset(self) -> None:
        """The reset values of what is kept here; RESET_COUNT stays."""
        self._scratch = 0
        self._control = 0
        self._timestamp = 0
        self._fence_seq: dict[int, int] = {}

    def forget_engine(self, index: int) -> None:
        """The engine was reset."""
        self._fence_seq.pop(index, None)

    def read(self, name: str, index: int) -> int:
        """The value of a register; `index` is the engine for those that each engine has."""
        if name in self._global_reads:
            return self._global_reads[name]()
        return self._engine_reads[name](self.engines[index])

    def write(self, name: str, index: int, value: int) -> None:
        """The guest wrote a register that is not RO."""
        if name in self._global_writes:
            self._global_writes[name](value)
        elif name in self._engine_writes:
            self._engine_writes[name](self.engines[index], value)
        else:
            _write_setup(self.engines[index], name, value)

    def _read_status(self) -> int:
        failed = any(engine.state.error_code for engine in self.engines)
        return regs.STATUS_READY | (regs.STATUS_ERROR if failed else 0)

    def _read_timestamp(self) -> int:
        self._timestamp = time.monotonic_ns()
        return self._timestamp & _LOW

    def _read_fence(self, engine: Engine) -> int:
        seq = self._fence_seq[engine.index] = engine.state.fence_seq
        return seq & _LOW

    def _write_scratch(self, value: int) -> None:
        self._scratch = value

    def _write_control(self, value: int) -> None:
        if value & regs.CONTROL_RESET:
            self._reset_device()
            return
        self._control = value & regs.CONTROL_ENABLE
        for engine in self.engines:
            engine.state.set_enabled(bool(self._control))

    def _write_ctrl(self, engine: Engine, value: int) -> None:
        if value & regs.CTRL_RESET:
            self._reset_engine(engine)
            engine.state.set_enabled(bool(self._control))
        elif not engine.state.set_run(bool(value & regs.CTRL_RUN)):
            self._bad_ring(engine)

    def _write_tail(self, engine: Engine, value: int) -> None:
        self._ports.count(engine.index, "doorbells")
        if not engine.state.ring_doorbell(value):
            self._bad_ring(engine)

    def _bad_ring(self, engine: Engine) -> None:
        self._ports.flag_error(engine.index)
        self._ports.trace(
            "gpu_error", engine=engine.index, index=engine.state.head, code="BAD_RING", address=0
        )


def _write_setup(engine: Engine, name: str, value: int) -> None:
    state = engine.state
    if state.run:
        return
    if name == "RING_LOG2":
        state.ring_log2 = value
    elif name == "RING_BASE_LO":
        state.ring_base = state.ring_base & ~_LOW | value
    elif name == "RING_BASE_HI":
        state.ring_base = state.ring_base & _LOW | value << 32
    elif name == "FENCE_ADDR_LO":
        state.fence_address = state.fence_address & ~_LOW | value
    else:
        state.fence_address = state.fence_address & _LOW | value << 32
