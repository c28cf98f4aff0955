"""A GPU on a bench: what a driver does, in a few lines, for the tests of the model.

Guest RAM is a memfd at RAM_BASE that device and test both map; registers, interrupts and VRAM are reached the
way a driver reaches them. Operands of commands are places: `vram(0x1000)`, `ram(0x2000)`, `listed(...)`.
"""

import mmap
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

from vfio_client import CONFIG, DEVICE_RESET, IRQ_EVENTFD, IRQ_TRIGGER, Client, Memory

from vfiodev.device import Context
from vfiodev.gpu.device import Gpu
from vfiodev.host import serve
from vfiodev.peers import PeerMap
from vfiodev.trace import TraceWriter
from vfiodev.work import TimerThread

RAM_BASE = 0x1000_0000
RAM_SIZE = 8 << 20
VRAM_BASE = 0x40_0000_0000
VRAM_MIB = 4
RING = 0x1000
FENCE = 0x800
WAIT_SECONDS = 10.0

CONTROL, INTR_STATUS, INTR_ENABLE, RESET_COUNT, GPU_STATUS = 0x1C, 0x20, 0x24, 0x38, 0x18
TYPE, CTRL, STATUS, RING_LOG2, RING_BASE = 0x00, 0x04, 0x08, 0x0C, 0x10
HEAD, TAIL, FENCE_ADDR, FENCE_SEQ = 0x18, 0x1C, 0x20, 0x28
ERROR_CODE, ERROR_INDEX, ERROR_ADDR = 0x30, 0x34, 0x38
IDLE, BUSY, ERROR, WAITING = 1, 2, 4, 8
FENCED, IRQ = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    space: int
    address: int
    count: int = 0


def vram(offset: int) -> Place:
    return Place(space=0, address=offset)


def ram(offset: int) -> Place:
    return Place(space=1, address=RAM_BASE + offset)


def listed(offset: int, count: int) -> Place:
    """A scatter list that was put at an offset of guest RAM."""
    return Place(space=2, address=RAM_BASE + offset, count=count)


NOWHERE = vram(0)


class Fields(TypedDict, total=False):
    flags: int
    src: Place
    dst: Place
    src2: Place
    size: int
    arg32: int
    arg0: int
    arg1: int
    seq: int


def entry(opcode: int, **fields: Unpack[Fields]) -> bytes:
    """64 bytes for a ring; what is not given is 0."""
    src, dst, src2 = fields.get("src", NOWHERE), fields.get("dst", NOWHERE), fields.get("src2", NOWHERE)
    return struct.pack(
        "<HHIQQQQQQQ",
        opcode,
        fields.get("flags", 0) | src.space << 4 | dst.space << 6 | src2.space << 8,
        fields.get("arg32", 0),
        src.address,
        dst.address,
        fields.get("size", 0),
        fields.get("arg0", src2.address),
        fields.get("arg1", 0),
        src.count | dst.count << 16,
        fields.get("seq", 0),
    )


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that has no event of its own, such as a register."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.0002)


class Rig:
    """One GPU with its guest RAM, driven through a vfio-user connection."""

    def __init__(self, device: Gpu, memory: Memory, events: list[int]) -> None:
        self.device = device
        self.memory = memory
        self.ram = memory.map
        self.irqs = [0] * len(events)
        self._events = events
        self.engines = [EngineRig(self, index) for index in range(len(events) - 1)]
        self._plug()

    def _plug(self) -> None:
        """QEMU connects; the guest's PCI core gives addresses, enables decoding and bus mastering."""
        ours, theirs = socket.socketpair()
        self._thread = threading.Thread(target=serve, args=(theirs, self.device))
        self._thread.start()
        self.client = Client(ours)
        self.client.negotiate()
        self.client.dma_map(RAM_BASE, RAM_SIZE, self.memory.fd)
        self.client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, len(self._events), fds=tuple(self._events))
        _flags, size, (fd,) = self.client.region_info(2)
        self.vram = memoryview(mmap.mmap(fd, size))
        os.close(fd)
        self.write_config(0x10, 4, 0xFE00_0000)
        self.write_config(0x18, 8, VRAM_BASE)
        self.write_config(0x20, 4, 0xFE01_0000)
        self.write_config(0x04, 2, 0x6)

    def unplug(self) -> None:
        self.client.sock.close()
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive()

    def read(self, offset: int) -> int:
        return self.client.get(0, offset)

    def write(self, offset: int, value: int) -> None:
        self.client.put(0, offset, value)

    def config(self, offset: int, size: int) -> int:
        return self.client.get(CONFIG, offset, size)

    def write_config(self, offset: int, size: int, value: int) -> None:
        self.client.put(CONFIG, offset, value, size)

    def inject(self, fault: str, **args: object) -> None:
        self.device.inject(fault, args)

    def clear(self, fault: str | None = None) -> None:
        self.device.clear(fault)

    def stat(self, name: str) -> int:
        return self.device.stats.get(name)

    def wait_stat(self, name: str, at_least: int) -> None:
        assert self.device.stats.wait(name, at_least, WAIT_SECONDS) is not None, (name, self.stat(name))

    def taken_irqs(self, vector: int) -> int:
        """How many messages of a vector have come by now, in all."""
        with suppress(BlockingIOError):
            self.irqs[vector] += os.eventfd_read(self._events[vector])
        return self.irqs[vector]

    def wait_irqs(self, vector: int, count: int) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while self.taken_irqs(vector) < count:
            ready = select.select([self._events[vector]], [], [], max(0.0, end - time.monotonic()))
            assert ready[0], f"vector {vector}: {self.irqs[vector]} messages, {count} expected"

    def word(self, offset: int) -> int:
        """A u64 in guest RAM."""
        return int(struct.unpack_from("<Q", self.ram, offset)[0])

    def put_word(self, offset: int, value: int) -> None:
        struct.pack_into("<Q", self.ram, offset, value)

    def put_list(self, offset: int, parts: list[tuple[Place, int]]) -> Place:
        """Write a scatter list of (place, length) into guest RAM."""
        for index, (place, length) in enumerate(parts):
            struct.pack_into("<QII", self.ram, offset + 16 * index, place.address, length, place.space)
        return listed(offset, len(parts))

    def map_more(self, address: int, size: int, *, writable: bool) -> None:
        """More guest memory."""
        memory = Memory(size)
        self.client.dma_map(address, size, memory.fd, flags=3 if writable else 1)
        memory.close()

    def unmap_ram(self) -> None:
        self.client.dma_unmap(RAM_BASE, RAM_SIZE)

    def settle(self) -> None:
        """Let time pass in which an engine that ought to stand still could do something."""
        time.sleep(0.02)

    def replug(self) -> None:
        """Unplug and plug again: the client goes away, another one comes."""
        self.unplug()
        self._plug()

    def replug_without_addresses(self) -> None:
        """Plugged again, and the guest has not looked at it yet."""
        self.replug()
        self.write_config(0x04, 2, 0)

    def bus_reset(self) -> None:
        self.client.ask(DEVICE_RESET)

    def live_engines(self) -> int:
        return sum(thread.name.startswith(f"{self.device.name}/engine") for thread in threading.enumerate())

    def start(self, *, log2: int = 6, interrupts: int = 0xFFFF_FFFF) -> None:
        """What a driver's probe does: enable the device, give every engine a ring."""
        self.write(INTR_ENABLE, interrupts)
        self.write(CONTROL, 1)
        for engine in self.engines:
            engine.start(log2=log2)


class EngineRig:
    """One engine, its ring at RING + n * 0x40000 of guest RAM, its fence at FENCE + 8 n."""

    def __init__(self, rig: Rig, index: int) -> None:
        self.rig = rig
        self.index = index
        self.base = 0x1000 + 0x100 * index
        self.ring = RING + 0x4_0000 * index
        self.fence_at = FENCE + 8 * index
        self.vector = 1 + index
        self.log2 = 0
        self.tail = 0

    def read(self, offset: int) -> int:
        return self.rig.read(self.base + offset)

    def read64(self, offset: int) -> int:
        return self.read(offset) | self.read(offset + 4) << 32

    def write(self, offset: int, value: int) -> None:
        self.rig.write(self.base + offset, value)

    def write64(self, offset: int, value: int) -> None:
        self.write(offset, value & 0xFFFF_FFFF)
        self.write(offset + 4, value >> 32)

    def start(self, *, log2: int = 6) -> None:
        self.log2 = log2
        self.tail = 0
        self.write(RING_LOG2, log2)
        self.write64(RING_BASE, RAM_BASE + self.ring)
        self.write64(FENCE_ADDR, RAM_BASE + self.fence_at)
        self.write(CTRL, 1)

    def put(self, *entries: bytes) -> None:
        """Write entries into the ring without telling the engine."""
        for data in entries:
            at = self.ring + 64 * self.tail
            self.rig.ram[at : at + 64] = data
            self.tail = (self.tail + 1) % (1 << self.log2)

    def ring_doorbell(self) -> None:
        self.write(TAIL, self.tail)

    def submit(self, *entries: bytes) -> None:
        self.put(*entries)
        self.ring_doorbell()

    def wait_idle(self) -> None:
        eventually(lambda: bool(self.read(STATUS) & (IDLE | ERROR)), "the engine is idle")
        assert self.error() is None, self.error()

    def wait_error(self) -> tuple[int, int, int]:
        eventually(lambda: bool(self.read(STATUS) & ERROR), "the engine is in error")
        found = self.error()
        assert found is not None
        return found

    def wait_fence(self, seq: int) -> None:
        """Poll the fence in memory, as a driver without interrupts does."""
        eventually(lambda: self.fence == seq, f"fence {seq} comes")

    def error(self) -> tuple[int, int, int] | None:
        """ERROR_CODE, ERROR_INDEX, ERROR_ADDR; None when there is no error."""
        code = self.read(ERROR_CODE)
        return (code, self.read(ERROR_INDEX), self.read64(ERROR_ADDR)) if code else None

    def run(self, *entries: bytes) -> None:
        """Execute and see them end well."""
        self.submit(*entries)
        self.wait_idle()

    @property
    def fence(self) -> int:
        """What the device wrote to the fence's address."""
        return self.rig.word(self.fence_at)


class Bench:
    """A device host's worth of GPUs, which share one address map."""

    def __init__(self, stack: ExitStack, trace: Path) -> None:
        self._stack = stack
        self._peers = PeerMap()
        self._writer = stack.enter_context(TraceWriter(stack.enter_context(trace.open("wb"))))
        self._timers = TimerThread(self._fail)
        self._timers.start()
        stack.callback(self._timers.stop)
        self.violations: list[str] = []
        self.trace = trace

    def _fail(self, message: str) -> None:
        self.violations.append(message)

    def add(self, name: str = "gpu0", **params: object) -> Rig:
        """Plug a GPU: QEMU connects, the guest's PCI core gives it addresses."""
        context = Context(
            name=name,
            seed=1,
            peers=self._peers,
            trace=self._writer,
            timers=self._timers,
            violation=lambda _name, message: self._fail(message),
        )
        device = Gpu(context, {"vram_mib": VRAM_MIB, **params})
        self._stack.callback(device.close)
        memory = Memory(RAM_SIZE)
        self._stack.callback(memory.close)
        vectors = int(str(params.get("engines", 2))) + 1
        events = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(vectors)]
        for event in events:
            self._stack.callback(os.close, event)
        rig = Rig(device, memory, events)
        self._stack.callback(rig.unplug)
        return rig

    def events(self, name: str) -> list[str]:
        """The lines of the trace with that event."""
        self._writer.flush()
        return [line for line in self.trace.read_text().splitlines() if f'"ev": "{name}"' in line]


@contextmanager
def bench_session(trace: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        bench = Bench(stack, trace)
        yield bench
    assert bench.violations == []
