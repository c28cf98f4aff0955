"""The template device: what a model consists of, with nothing left out and nothing extra."""

from collections.abc import Mapping

from vfiodev.device import Description, Device, ResetKind, check_params, now
from vfiodev.errors import DmaError, StoppedError
from vfiodev.faults import COUNT, Knob
from vfiodev.function import Bar
from vfiodev.pci import Identity, MsixLayout
from vfiodev.registers import Register
from vfiodev.template import regs
from vfiodev.work import Worker

LOSE_INTERRUPT = Knob(name="lose_interrupt", doc="the doorbell raises no interrupt", args=(COUNT,))


class Template(Device):
    """See `regs.py` for what it does."""

    @classmethod
    def describe(cls, params: Mapping[str, object]) -> Description:
        """Takes no parameters."""
        check_params(params, ())
        return Description(
            identity=Identity(vendor=0x1234, device=0x7E57, class_code=0xFF0000),
            bars=(Bar(index=0, size=regs.BAR_SIZE, registers=regs.REGISTERS),),
            msix=MsixLayout(vectors=regs.VECTORS, bar=0, table=regs.MSIX_TABLE, pba=regs.MSIX_PBA),
            knobs=(LOSE_INTERRUPT,),
            counters=("doorbells", "echoes"),
        )

    def reset(self, kind: ResetKind) -> None:
        """Forget everything and start the echo engine."""
        del kind
        self._started = now()
        self._job: tuple[int, int, int] | None = None
        self._echo = self.workers.start("echo", self._run)

    def register_read(self, register: Register, index: int, value: int) -> int:
        """UPTIME is the only volatile register."""
        del register, index, value
        return now() - self._started

    def register_written(self, register: Register, index: int, value: int) -> None:
        """The doorbell and the start of an echo are the registers with an effect."""
        del index
        if register is regs.DOORBELL:
            self._ring(value)
        elif register is regs.ECHO_LENGTH:
            file = self.registers(0)
            self._job = (file.get(regs.ECHO_SOURCE), file.get(regs.ECHO_TARGET), value)
            self._echo.kick()

    def _ring(self, vector: int) -> None:
        self.stats.add("doorbells")
        if vector >= regs.VECTORS:
            self.violation(f"doorbell for vector {vector}, there are {regs.VECTORS}")
        elif self.faults.take(LOSE_INTERRUPT.name) is None:
            self.irq.raise_msix(vector)

    def _run(self, worker: Worker) -> None:
        while worker.wait():
            with self.lock:
                job, self._job = self._job, None
            if job is not None:
                self._finish(regs.STATUS_DONE if self._copy(*job) else regs.STATUS_ERROR)

    def _copy(self, source: int, target: int, length: int) -> bool:
        if length > regs.ECHO_MAX:
            self.violation(f"echo of {length} bytes, at most {regs.ECHO_MAX}")
            return False
        try:
            self.dma.copy(source, target, length)
        except StoppedError:
            raise
        except DmaError as error:
            self.violation(str(error))
            return False
        return True

    def _finish(self, status: int) -> None:
        with self.lock:
            self.registers(0).set_bits(regs.STATUS, status)
        self.stats.add("echoes")
        self.irq.raise_msix(1)
