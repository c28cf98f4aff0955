"""The base class of virtio devices: a PCI function whose BAR 0 is a virtio transport."""

from collections.abc import Mapping
from typing import Final

from vfiodev.device import Context, Device, ResetKind
from vfiodev.errors import ConfigError, StoppedError
from vfiodev.function import CONFIG_REGION, Bar
from vfiodev.pci import Identity, MsixLayout
from vfiodev.registers import RegisterMap
from vfiodev.virtio.bus import Bus
from vfiodev.virtio.pci import BAR, ConfigAccess
from vfiodev.virtio.queue import SplitQueue
from vfiodev.virtio.transport import BAR_SIZE, WINDOW, Transport, TransportWindow

VENDOR: Final = 0x1AF4
FIRST_DEVICE: Final = 0x1040
MSIX_BAR: Final = 4
MSIX_SIZE: Final = 0x1000
MSIX_PENDING: Final = 0x800
BARS: Final = (
    Bar(index=BAR, size=BAR_SIZE, registers=WINDOW, is_64bit=False),
    Bar(index=MSIX_BAR, size=MSIX_SIZE, registers=RegisterMap("msix", MSIX_SIZE, ()), is_64bit=False),
)


def build_identity(kind: int, class_code: int, subsystem: int) -> Identity:
    """The ids of a modern virtio device of this project; `kind` is the virtio device type."""
    return Identity(
        vendor=VENDOR,
        device=FIRST_DEVICE + kind,
        class_code=class_code,
        subsystem_vendor=0x1234,
        subsystem=subsystem,
        revision=1,
    )


def build_msix(queues: int) -> MsixLayout:
    """A vector for configuration changes and one per queue."""
    return MsixLayout(vectors=queues + 1, bar=MSIX_BAR, table=0, pba=MSIX_PENDING)


class VirtioDevice(Device):
    """A model derives from this, is its transport's backend (`transport.Backend`) and calls `build_transport`
    in its constructor."""

    def __init__(self, context: Context, params: Mapping[str, object]) -> None:
        super().__init__(context, params)
        if params.get("interrupts") == "msi":
            raise ConfigError("parameter 'interrupts' of a virtio device must be msix-own or msix")
        self.bus = Bus(self.dma, context.peers)
        self.transport = self._build_transport()
        self.transport.raise_vector = self._raise
        self.function.registers[BAR] = TransportWindow(self.transport)
        self._access = ConfigAccess(self.function)

    def _build_transport(self) -> Transport:
        raise NotImplementedError

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        """As every device, and the configuration access capability."""
        if index == CONFIG_REGION:
            with self.lock:
                self._access.before_read(offset, count)
        return super().region_read(index, offset, count)

    def region_write(self, index: int, offset: int, data: bytes | memoryview) -> None:
        """As every device, and the configuration access capability."""
        super().region_write(index, offset, data)
        if index == CONFIG_REGION:
            with self.lock:
                self._access.after_write(offset, len(data))

    def reset(self, kind: ResetKind) -> None:
        """Every kind of reset ends all queues, as status 0 does."""
        del kind
        self.transport.reset()

    def stop(self) -> None:
        """The client went away."""
        self.transport.reset()

    def driver_broke(self, number: int, reason: str) -> None:
        """NEEDS_RESET, and told to the orchestrator. Not when the device itself had no access to memory (bus
        mastering off, or gone by a fault). Any thread."""
        if self.dma.allowed() and self.transport.break_down():
            self.violation(reason)
            self.trace.event("net_needs_reset", queue=number, reason=reason)

    def notify_driver(self, queue: SplitQueue) -> bool:
        """Send the interrupt of a queue; whether it was sent. Any thread, no queue's lock held."""
        return self.transport.interrupt(queue.number)

    def _raise(self, vector: int) -> None:
        """Raise a vector. The calling thread may be a sibling's worker that is being stopped: then it is this
        device's timer that raises it, since the sibling's end must not cost this device an interrupt."""
        try:
            self.irq.raise_msix(vector)
        except StoppedError:
            with self.lock:
                self.timers.after(0, lambda: self._raise(vector))
