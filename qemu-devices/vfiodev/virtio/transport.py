"""The registers of virtio over PCI (virtio 1.3, 4.1.4): common configuration, notification, ISR status,
device configuration, in one BAR.

Runs with the device's lock held, except `interrupt`, `config_changed` and `break_down`, which any thread may
call.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from vfiodev.registers import RegisterFile, RegisterMap
from vfiodev.virtio.bus import Bus
from vfiodev.virtio.queue import Layout, QueueError, SplitQueue

BAR_SIZE: Final = 0x4000
COMMON_AT: Final = 0x0000
COMMON_SIZE: Final = 0x40
ISR_AT: Final = 0x1000
ISR_SIZE: Final = 4
CONFIG_AT: Final = 0x2000
CONFIG_SIZE: Final = 0x80
NOTIFY_AT: Final = 0x3000
NOTIFY_SIZE: Final = 0x1000
NOTIFY_MULTIPLIER: Final = 4

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK = 1, 2, 4, 8
NEEDS_RESET: Final = 0x40
NO_VECTOR: Final = 0xFFFF
F_INDIRECT_DESC, F_EVENT_IDX, F_VERSION_1, F_ACCESS_PLATFORM, F_RING_RESET = 28, 29, 32, 33, 40
TRANSPORT_FEATURES: Final = (F_INDIRECT_DESC, F_EVENT_IDX, F_VERSION_1, F_ACCESS_PLATFORM, F_RING_RESET)
REQUIRED: Final = 1 << F_VERSION_1 | 1 << F_ACCESS_PLATFORM
FEATURE_WORDS: Final = 4
_COMMON: Final = struct.Struct("<IIIIHHBBHHHHHQQQHHHH")
_WORD: Final = (1 << 32) - 1

WINDOW: Final = RegisterMap("virtio", BAR_SIZE, ())


class Backend(Protocol):
    """What a device does behind its transport. All run with the device's lock held and are quick."""

    def features_accepted(self, features: int) -> bool:
        """The driver chose features; False when they cannot go together."""

    def driver_ready(self) -> None:
        """DRIVER_OK."""

    def queue_ready(self, queue: SplitQueue) -> None:
        """A queue was enabled."""

    def queue_gone(self, queue: SplitQueue) -> bool:
        """A queue was stopped, nothing of it is in flight. False: do not admit that it ended (a fault)."""

    def notified(self, number: int) -> None:
        """The driver notified a queue."""

    def device_reset(self) -> None:
        """Status 0: every queue was stopped."""

    def config_bytes(self) -> bytes:
        """The device configuration."""

    def driver_broke(self, number: int, reason: str) -> None:
        """The driver broke a rule; the device needs a reset. Any thread."""


@dataclass(slots=True)
class Slot:
    """What the driver wrote about one queue."""

    size: int
    vector: int = NO_VECTOR
    desc: int = 0
    avail: int = 0
    used: int = 0
    resetting: bool = False
    queue: SplitQueue | None = None


class Transport:
    """The state behind the registers. `offered` does not change; `features` are the accepted ones."""

    def __init__(self, bus: Bus, queues: int, queue_size: int, offered: int, backend: Backend) -> None:
        self._bus = bus
        self._backend = backend
        self._max_size = queue_size
        self.offered = offered
        self.vectors = queues + 1
        self.raise_vector: Callable[[int], object] = lambda _vector: None
        self.slots = [Slot(queue_size) for _ in range(queues)]
        self.features = 0
        self._accepting = 0
        self._status = 0
        self._broken = False
        self._isr = 0
        self._generation = 0
        self._select = 0
        self._feature_selects = [0, 0]
        self._config_vector = NO_VECTOR
        self._writers = self._build_writers()

    @property
    def running(self) -> bool:
        """The driver said DRIVER_OK, and nothing is broken."""
        return bool(self._status & DRIVER_OK) and not self._broken

    def has(self, bit: int) -> bool:
        """Whether a feature was accepted."""
        return bool(self.features >> bit & 1)

    def queue(self, number: int) -> SplitQueue | None:
        """The queue of that number, if it is enabled and whole."""
        queue = self.slots[number].queue
        return queue if queue is not None and queue.usable else None

    def interrupt(self, number: int) -> bool:
        """A used-buffer notification for a queue; whether a message was sent."""
        vector = self.slots[number].vector
        if vector == NO_VECTOR:
            self._isr |= 1
            return False
        self.raise_vector(vector)
        return True

    def config_changed(self) -> None:
        """The device configuration, or NEEDS_RESET, changed."""
        self._generation = (self._generation + 1) & 0xFF
        if self._config_vector == NO_VECTOR:
            self._isr |= 2
        else:
            self.raise_vector(self._config_vector)

    def break_down(self) -> bool:
        """NEEDS_RESET: no queue is used until the driver resets. False when it was so already."""
        if self._broken:
            return False
        self._broken = True
        for slot in self.slots:
            if slot.queue is not None:
                slot.queue.broken = True
        if self._status & DRIVER_OK:
            self.config_changed()
        return True

    def reset(self) -> None:
        """Status 0, and every other reset: queues end, what is in flight is waited for."""
        self._status = 0
        for slot in self.slots:
            if slot.queue is not None:
                slot.queue.stop()
        self._backend.device_reset()
        self.slots[:] = [Slot(self._max_size) for _ in self.slots]
        self.features = self._accepting = 0
        self._broken = False
        self._isr = 0
        self._select = 0
        self._feature_selects = [0, 0]
        self._config_vector = NO_VECTOR

    def end_queue_resets(self) -> None:
        """Resets that were held back are admitted."""
        for number, slot in enumerate(self.slots):
            if slot.resetting:
                self.slots[number] = Slot(self._max_size)

    def read(self, offset: int, size: int) -> int:
        """A guest's load inside the BAR."""
        if offset < COMMON_AT + COMMON_SIZE:
            return self._slice(self._common(), offset - COMMON_AT, size)
        if CONFIG_AT <= offset < CONFIG_AT + CONFIG_SIZE:
            return self._slice(self._backend.config_bytes(), offset - CONFIG_AT, size)
        if offset == ISR_AT:
            value, self._isr = self._isr, 0
            return value
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's store inside the BAR."""
        if NOTIFY_AT <= offset < NOTIFY_AT + NOTIFY_SIZE:
            number = (offset - NOTIFY_AT) // NOTIFY_MULTIPLIER
            if number < len(self.slots):
                self._backend.notified(number)
            return
        writer = self._writers.get((offset - COMMON_AT, size))
        if writer is not None:
            writer(value)

    @staticmethod
    def _slice(data: bytes, offset: int, size: int) -> int:
        return int.from_bytes(data[offset : offset + size], "little")

    def _common(self) -> bytes:
        slot = self.slots[self._select] if self._select < len(self.slots) else Slot(0)
        device, driver = self._feature_selects
        return _COMMON.pack(
            device,
            self._word(self.offered, device),
            driver,
            self._word(self._accepting, driver),
            self._config_vector,
            len(self.slots),
            self._status | (NEEDS_RESET if self._broken else 0),
            self._generation,
            self._select,
            slot.size,
            slot.vector,
            1 if slot.queue is not None and not slot.resetting else 0,
            self._select if slot.size else 0,
            slot.desc,
            slot.avail,
            slot.used,
            self._select if slot.size else 0,
            1 if slot.resetting else 0,
            0,
            0,
        ).ljust(COMMON_SIZE, b"\0")

    @staticmethod
    def _word(features: int, select: int) -> int:
        return features >> (32 * select) & _WORD if select < FEATURE_WORDS else 0

    def _build_writers(self) -> dict[tuple[int, int], Callable[[int], None]]:
        writers: dict[tuple[int, int], Callable[[int], None]] = {
            (0x00, 4): lambda value: self._feature_selects.__setitem__(0, value),
            (0x08, 4): lambda value: self._feature_selects.__setitem__(1, value),
            (0x0C, 4): self._write_features,
            (0x10, 2): lambda value: setattr(self, "_config_vector", self._vector(value)),
            (0x14, 1): self._write_status,
            (0x16, 2): lambda value: setattr(self, "_select", value),
            (0x18, 2): partial(self._set, "size"),
            (0x1A, 2): self._write_vector,
            (0x1C, 2): self._write_enable,
            (0x3A, 2): self._write_reset,
        }
        for at, name in ((0x20, "desc"), (0x28, "avail"), (0x30, "used")):
            writers[at, 4] = partial(self._set_half, name, 0)
            writers[at + 4, 4] = partial(self._set_half, name, 32)
            writers[at, 8] = partial(self._set, name)
        return writers

    def _vector(self, value: int) -> int:
        return value if value < self.vectors else NO_VECTOR

    def _idle_slot(self) -> Slot | None:
        """The selected queue, while it may be configured."""
        if self._select >= len(self.slots):
            return None
        slot = self.slots[self._select]
        return slot if slot.queue is None and not slot.resetting else None

    def _set(self, name: str, value: int) -> None:
        slot = self._idle_slot()
        if slot is not None and not (name == "size" and value > self._max_size):
            setattr(slot, name, value)

    def _set_half(self, name: str, shift: int, value: int) -> None:
        slot = self._idle_slot()
        if slot is not None:
            kept = getattr(slot, name) & ~(_WORD << shift)
            setattr(slot, name, kept | value << shift)

    def _write_vector(self, value: int) -> None:
        if self._select < len(self.slots):
            self.slots[self._select].vector = self._vector(value)

    def _write_features(self, value: int) -> None:
        select = self._feature_selects[1]
        if select < FEATURE_WORDS and not self._status & FEATURES_OK:
            shift = 32 * select
            self._accepting = self._accepting & ~(_WORD << shift) | value << shift

    def _write_status(self, value: int) -> None:
        if not value:
            self.reset()
            return
        before, value = self._status, value & ~NEEDS_RESET
        if value & FEATURES_OK and not before & FEATURES_OK:
            if self._accepts(self._accepting):
                self.features = self._accepting
            else:
                value &= ~FEATURES_OK
        self._status = value
        if value & DRIVER_OK and not before & DRIVER_OK and value & FEATURES_OK:
            self._backend.driver_ready()

    def _accepts(self, features: int) -> bool:
        if features & ~self.offered or features & REQUIRED != REQUIRED:
            return False
        return self._backend.features_accepted(features)

    def _write_enable(self, value: int) -> None:
        slot = self._idle_slot()
        if value != 1 or slot is None or not self._status & FEATURES_OK:
            return
        layout = Layout(
            size=slot.size,
            desc=slot.desc,
            avail=slot.avail,
            used=slot.used,
            event_idx=self.has(F_EVENT_IDX),
            indirect=self.has(F_INDIRECT_DESC),
        )
        try:
            slot.queue = SplitQueue(self._select, self._bus, layout)
        except QueueError as error:
            self._backend.driver_broke(self._select, str(error))
            return
        self._backend.queue_ready(slot.queue)

    def _write_reset(self, value: int) -> None:
        if value != 1 or not self.has(F_RING_RESET) or self._select >= len(self.slots):
            return
        slot = self.slots[self._select]
        if slot.queue is None or slot.resetting:
            return
        slot.resetting = True
        slot.queue.stop()
        if self._backend.queue_gone(slot.queue):
            self.slots[self._select] = Slot(self._max_size)


class TransportWindow(RegisterFile):
    """The BAR: accesses go to the transport instead of a table of registers."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(WINDOW, lambda _register, _index, value: value, lambda *_: None)
        self._transport = transport

    def guest_read(self, offset: int, size: int) -> int | None:
        """A guest's load."""
        return self._transport.read(offset, size)

    def guest_write(self, offset: int, size: int, value: int) -> bool:
        """A guest's store."""
        self._transport.write(offset, size, value)
        return True
