"""The GPU of `docs/devices/gpu.md`: PCI function, resets, faults. Engines are in `engine`, BAR0 in `mmio`.

Locks: the library calls in with the device's lock held; engines never take that one. A reset ends engines
and waits for the chunk that one may have in hand (`state`), so that nothing of an aborted command follows
the answer.
"""

from collections.abc import Mapping

from vfiodev.device import Context, Description, Device, ResetKind, check_params, int_param
from vfiodev.errors import ConfigError
from vfiodev.faults import SURPRISE_REMOVAL, Args, Knob
from vfiodev.function import Bar
from vfiodev.gpu import regs
from vfiodev.gpu.engine import Engine
from vfiodev.gpu.faults import EngineFaults, build_knobs
from vfiodev.gpu.memory import Memory
from vfiodev.gpu.mmio import Mmio
from vfiodev.gpu.ports import ENGINE_COUNTERS, GpuPorts
from vfiodev.pci import Identity, MsixLayout
from vfiodev.ranges import is_power_of_two
from vfiodev.registers import Register

VENDOR = 0x1234
DEVICE = 0x7B67
VRAM_BAR = 2
MIB = 1 << 20


class Gpu(Device):
    """Parameters: `vram_mib` (a power of two from 1 to 4096, 64) and `engines` (1 to 8, 2)."""

    def __init__(self, context: Context, params: Mapping[str, object]) -> None:
        super().__init__(context, params)
        self._engine_count = _engine_count(self.params)
        self._engine_faults = EngineFaults()
        self._ports = GpuPorts(self.irq, self.stats, self.trace, self._engine_faults)
        self._mmio = Mmio(self._ports, _vram_bytes(self.params), self._reset_by_register, self._reset_engine)
        self._present = True

    @classmethod
    def describe(cls, params: Mapping[str, object]) -> Description:
        """See the class; raises ConfigError."""
        check_params(params, ("vram_mib", "engines"))
        engines, vram = _engine_count(params), _vram_bytes(params)
        per_engine = tuple(f"engine{e}.{name}" for e in range(engines) for name in ENGINE_COUNTERS)
        return Description(
            identity=Identity(
                vendor=VENDOR,
                device=DEVICE,
                class_code=0x038000,
                subsystem_vendor=VENDOR,
                subsystem=1,
                revision=1,
            ),
            bars=(
                Bar(
                    index=0,
                    size=regs.REGISTERS_SIZE,
                    registers=regs.build_registers(engines),
                    is_64bit=False,
                ),
                Bar(index=VRAM_BAR, size=vram, prefetchable=True),
                Bar(index=4, size=regs.MSIX_SIZE, registers=regs.MSIX_REGISTERS, is_64bit=False),
            ),
            msix=MsixLayout(vectors=1 + engines, bar=4, table=regs.MSIX_TABLE, pba=regs.MSIX_PENDING),
            knobs=build_knobs(engines, vram),
            counters=(*ENGINE_COUNTERS, "faults_used", *per_engine),
        )

    def register_read(self, register: Register, index: int, value: int) -> int:
        """Every register is volatile."""
        del value
        return self._mmio.read(register.name, index)

    def register_written(self, register: Register, index: int, value: int) -> None:
        """See `mmio`."""
        self._mmio.write(register.name, index, value)

    def reset(self, kind: ResetKind) -> None:
        """Power-on, function-level reset or bus reset: new engines."""
        self._end_engines()
        self._ports.reset()
        self._mmio.reset()
        self._mmio.reset_count = 0 if kind is ResetKind.POWER_ON else self._mmio.reset_count + 1
        engines = [self._build_engine(index) for index in range(self._engine_count)]
        self._ports.engines = self._mmio.engines = engines
        for engine in engines:
            self._engine_faults.end_hang(engine.index)
            engine.state.set_frozen(not self._present)
            self.workers.start(f"engine{engine.index}", engine.run)

    def stop(self) -> None:
        """The client went away."""
        self._end_engines()

    def presence_changed(self, *, present: bool) -> None:
        """`config_ones` began or ended: engines stand still meanwhile. `surprise_removal` ends them."""
        self._present = present
        if self.faults.active(SURPRISE_REMOVAL.name) is not None:
            self._end_engines()
            return
        for engine in self._ports.engines:
            engine.state.set_frozen(not present)

    def fault_injected(self, knob: Knob, args: Args) -> None:
        """Of the faults only a flipped bit has its effect at once."""
        if knob.name != "flip_vram_bit":
            self._engine_faults.inject(knob, args)
            return
        vram = self.memory(VRAM_BAR)
        vram[int(args["offset"])] ^= 1 << int(args["bit"])
        self.stats.add("faults_used")

    def fault_cleared(self, knob: Knob, args: Args) -> None:
        """Who waits for that looks again."""
        self._engine_faults.clear(knob, args)
        for engine in self._ports.engines:
            engine.state.kick()

    def _build_engine(self, index: int) -> Engine:
        memory = Memory(self.memory(VRAM_BAR), self.dma)
        return Engine(index, compute=index % 2 == 1, memory=memory, ports=self._ports)

    def _end_engines(self) -> None:
        for engine in self._ports.engines:
            engine.state.abort(closing=True)
        for engine in self._ports.engines:
            engine.state.settle()

    def _reset_by_register(self) -> None:
        """CONTROL.RESET."""
        for engine in self._ports.engines:
            engine.state.abort()
        for engine in self._ports.engines:
            engine.state.settle()
            engine.state.set_enabled(False)
            self._engine_faults.end_hang(engine.index)
        self._ports.reset()
        self._mmio.reset()
        self._mmio.reset_count += 1
        self.stats.add("resets")
        self.trace.event("gpu_reset")

    def _reset_engine(self, engine: Engine) -> None:
        """CTRL.RESET of one engine."""
        engine.state.abort()
        engine.state.settle()
        self._engine_faults.end_hang(engine.index)
        self._mmio.forget_engine(engine.index)
        self._ports.count(engine.index, "resets")
        self.trace.event("gpu_engine_reset", engine=engine.index)


def _engine_count(params: Mapping[str, object]) -> int:
    return int_param(params, "engines", 2, 1, regs.MAX_ENGINES)


def _vram_bytes(params: Mapping[str, object]) -> int:
    mib = int_param(params, "vram_mib", 64, 1, 4096)
    if not is_power_of_two(mib):
        raise ConfigError(f"parameter 'vram_mib' must be a power of two, not {mib}")
    return mib * MIB
