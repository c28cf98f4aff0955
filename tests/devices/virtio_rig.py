"""Network devices on a bench: the driver's side of virtio, in a few lines, for the tests of the model.

All devices of a bench see the same guest RAM, a memfd at RAM_BASE, and share an address map, as in one host.
"""

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from vfio_client import CONFIG, IRQ_EVENTFD, IRQ_TRIGGER, Client, Memory, Rig

from vfiodev.device import Device
from vfiodev.host import serve
from vfiodev.virtio_net import MODEL
from vfiodev.virtio_net.device import VirtioNet

RAM_BASE = 0x1000_0000
RAM_SIZE = 16 << 20
WAIT_SECONDS = 10.0
STATUS, QUEUE_SELECT, QUEUE_SIZE, QUEUE_VECTOR, QUEUE_ENABLE = 0x14, 0x16, 0x18, 0x1A, 0x1C
QUEUE_RESET, DESC, AVAIL, USED = 0x3A, 0x20, 0x28, 0x30
ISR, DEVICE_CONFIG, NOTIFY = 0x1000, 0x2000, 0x3000
NEXT, WRITE, INDIRECT = 1, 2, 4
BASE = (32, 33)
PLAIN = (*BASE, 0, 1, 5, 15, 16, 17, 40)
SPLIT = (*PLAIN, 22, 60, 100, 101, 102)

Span = tuple[int, int]


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that has no event of its own."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.0005)


class Bench:
    """One guest's RAM and the devices in it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.rig = Rig()
        stack.callback(self.rig.close)
        self.memory = Memory(RAM_SIZE)
        stack.callback(self.memory.close)
        self.ram = self.memory.map
        self._next = 0x1000

    def alloc(self, size: int, align: int = 64) -> int:
        """Guest address of zeroed memory."""
        at = (self._next + align - 1) & ~(align - 1)
        self._next = at + size
        assert self._next <= RAM_SIZE
        self.ram[at : at + size] = bytes(size)
        return RAM_BASE + at

    def restart(self) -> None:
        """Give all memory back, for a driver that starts anew."""
        self._next = 0x1000

    def load(self, address: int, size: int) -> bytes:
        """Bytes of guest RAM."""
        return self.ram[address - RAM_BASE : address - RAM_BASE + size]

    def store(self, address: int, data: bytes) -> None:
        """Write guest RAM."""
        self.ram[address - RAM_BASE : address - RAM_BASE + len(data)] = data

    def plug(self, device: Device, bars: Sequence[tuple[int, int, int]]) -> tuple[Client, threading.Thread]:
        """QEMU connects; the guest's PCI core gives addresses (offset, size, value) and enables it."""
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=serve, args=(theirs, device))
        thread.start()
        client = Client(ours)
        client.negotiate()
        client.dma_map(RAM_BASE, RAM_SIZE, self.memory.fd)
        for offset, size, value in bars:
            client.put(CONFIG, offset, value, size)
        client.enable()
        return client, thread

    def nic(self, name: str = "nic0", **params: object) -> "Nic":
        """Plug a network device."""
        device = self.rig.make(MODEL, name, **{"pairs": 2, "queue_size": 64, **params})
        assert isinstance(device, VirtioNet)
        nic = Nic(self, device)
        self._stack.callback(nic.unplug)
        return nic

    def pair(self, features: Sequence[int] = PLAIN, **params: object) -> tuple["Nic", "Nic"]:
        """Two joined ports, both started."""
        nics = self.nic("nic0", link="wire", **params), self.nic("nic1", link="wire", **params)
        for nic in nics:
            nic.start(features)
        return nics


class Nic:
    """One device and its driver."""

    def __init__(self, bench: Bench, device: VirtioNet) -> None:
        self.bench = bench
        self.device = device
        self.queues: dict[int, Queue] = {}
        self.vectors = device.irq.vectors
        self.events = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(self.vectors)]
        self.client, self._thread = bench.plug(device, [(0x10, 4, 0xFE00_0000), (0x20, 4, 0xFE01_0000)])
        self.client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, self.vectors, fds=tuple(self.events))

    def unplug(self) -> None:
        """The client goes away."""
        if self._thread.is_alive():
            self.client.sock.close()
            self._thread.join(WAIT_SECONDS)
            assert not self._thread.is_alive()
            for event in self.events:
                os.close(event)

    def get(self, offset: int, width: int = 4) -> int:
        return self.client.get(0, offset, width)

    def put(self, offset: int, value: int, width: int = 4) -> None:
        self.client.put(0, offset, value, width)

    def offered(self) -> set[int]:
        """The feature bits of the device."""
        bits = 0
        for select in range(4):
            self.put(0x00, select)
            bits |= self.get(0x04) << (32 * select)
        return {bit for bit in range(128) if bits >> bit & 1}

    def negotiate(self, features: Sequence[int]) -> bool:
        """Reset, accept features; whether FEATURES_OK stayed."""
        self.put(STATUS, 0, 1)
        assert self.get(STATUS, 1) == 0
        self.put(STATUS, 1, 1)
        self.put(STATUS, 3, 1)
        bits = sum(1 << bit for bit in features)
        for select in range(4):
            self.put(0x08, select)
            self.put(0x0C, bits >> (32 * select) & 0xFFFFFFFF)
        self.put(STATUS, 0xB, 1)
        return bool(self.get(STATUS, 1) & 8)

    def start(self, features: Sequence[int] = PLAIN, size: int = 64) -> None:
        """What a driver's probe does."""
        assert self.negotiate(features)
        multi = 22 in features or 60 in features
        pairs = self.device.settings.pairs if multi else 1
        for number in range(2 * pairs + 1):
            self.enable(number, size, event_idx=29 in features)
        self.put(STATUS, 0xF, 1)

    def enable(self, number: int, size: int = 64, *, event_idx: bool = False) -> "Queue":
        """Give a queue its rings."""
        queue = self.queues[number] = Queue(self, number, size, event_idx)
        self.put(QUEUE_SELECT, number, 2)
        self.put(QUEUE_SIZE, size, 2)
        self.put(QUEUE_VECTOR, number + 1, 2)
        for offset, address in ((DESC, queue.desc), (AVAIL, queue.avail), (USED, queue.used)):
            self.put(offset, address & 0xFFFFFFFF)
            self.put(offset + 4, address >> 32)
        self.put(QUEUE_ENABLE, 1, 2)
        assert self.get(QUEUE_ENABLE, 2) == 1
        return queue

    def reset_queue(self, number: int) -> None:
        """RING_RESET."""
        self.put(QUEUE_SELECT, number, 2)
        self.put(QUEUE_RESET, 1, 2)

    def queue_resetting(self, number: int) -> bool:
        self.put(QUEUE_SELECT, number, 2)
        return bool(self.get(QUEUE_RESET, 2))

    def needs_reset(self) -> bool:
        return bool(self.get(STATUS, 1) & 0x40)

    def irqs(self, number: int) -> int:
        """Messages of a queue since this was asked last."""
        try:
            return os.eventfd_read(self.events[number + 1])
        except BlockingIOError:
            return 0

    def stat(self, name: str) -> int:
        return self.device.stats.get(name)

    def wait_stat(self, name: str, at_least: int) -> None:
        assert self.device.stats.wait(name, at_least, WAIT_SECONDS) is not None, (name, self.stat(name))

    def expect_stats(self, **values: int) -> None:
        """Counters get these values: they are added when a batch is done, just after the driver sees it."""
        eventually(lambda: {name: self.stat(name) for name in values} == values, f"the counters are {values}")

    def command(self, cls: int, cmd: int, data: bytes = b"", room: int = 0) -> tuple[int, bytes]:
        """A control command: its acknowledgement and result."""
        queue = self.queues[max(self.queues)]
        bench = self.bench
        request, answer = bench.alloc(2 + len(data)), bench.alloc(1 + room)
        bench.store(request, bytes((cls, cmd)) + data)
        bench.store(answer, b"\xee" * (1 + room))
        queue.add([(request, 2 + len(data))], [(answer, 1 + room)])
        queue.kick()
        _, written = queue.take()
        made = bench.load(answer, written)
        return made[0], made[1:]

    def send(self, frame: bytes, header: bytes = bytes(12), pair: int = 0) -> None:
        """Transmit one frame and wait until its buffer is back."""
        queue = self.queues[2 * pair + 1]
        at = self.bench.alloc(len(header) + len(frame))
        self.bench.store(at, header + frame)
        queue.add([(at, len(header)), (at + len(header), len(frame))], [])
        queue.kick()
        assert queue.take()[1] == 0

    def post(self, sizes: Sequence[int], count: int = 1, pair: int = 0) -> list[list[Span]]:
        """Post receive buffers of descriptors with these sizes, filled with 0xee."""
        made = []
        for _ in range(count):
            spans = [(self.bench.alloc(size), size) for size in sizes]
            for address, size in spans:
                self.bench.store(address, b"\xee" * size)
            self.queues[2 * pair].add([], spans)
            made.append(spans)
        return made

    def receive(self, pair: int = 0) -> bytes:
        """The bytes of the next used receive buffer, in the order of its descriptors."""
        queue = self.queues[2 * pair]
        head, written = queue.take()
        data = b"".join(self.bench.load(*span) for span in queue.chains[head][1])
        return data[:written]


class Queue:
    """A split virtqueue, the driver's side."""

    def __init__(self, nic: Nic, number: int, size: int, event_idx: bool) -> None:
        self.nic = nic
        self.number = number
        self.size = size
        self.event_idx = event_idx
        bench = nic.bench
        self.desc = bench.alloc(16 * size)
        self.avail = bench.alloc(6 + 2 * size)
        self.used = bench.alloc(6 + 8 * size)
        self.chains: dict[int, tuple[Sequence[Span], Sequence[Span]]] = {}
        self.free = 0
        self.avail_idx = 0
        self.seen = 0

    def write_desc(self, index: int, address: int, length: int, flags: int, following: int = 0) -> None:
        self.nic.bench.store(
            self.desc + 16 * (index % self.size),
            struct.pack("<QIHH", address, length, flags, following % self.size),
        )

    def add(self, readable: Sequence[Span], writable: Sequence[Span], *, indirect: bool = False) -> int:
        """Put a chain into the available ring; its head."""
        entries = [(*span, 0) for span in readable] + [(*span, WRITE) for span in writable]
        head = self.free % self.size
        if indirect:
            table = b"".join(
                struct.pack("<QIHH", at, length, flags | (NEXT if n + 1 < len(entries) else 0), n + 1)
                for n, (at, length, flags) in enumerate(entries)
            )
            at = self.nic.bench.alloc(len(table))
            self.nic.bench.store(at, table)
            self.write_desc(head, at, len(table), INDIRECT)
            self.free += 1
        else:
            for n, (at, length, flags) in enumerate(entries):
                more = NEXT if n + 1 < len(entries) else 0
                self.write_desc(self.free, at, length, flags | more, self.free + 1)
                self.free += 1
        self.chains[head] = (readable, writable)
        self.publish(head)
        return head

    def publish(self, head: int) -> None:
        """Make a head available."""
        bench = self.nic.bench
        bench.store(self.avail + 4 + 2 * (self.avail_idx % self.size), struct.pack("<H", head))
        self.avail_idx = (self.avail_idx + 1) & 0xFFFF
        bench.store(self.avail + 2, struct.pack("<H", self.avail_idx))

    def kick(self) -> None:
        self.nic.put(NOTIFY + 4 * self.number, self.number, 2)

    def used_idx(self) -> int:
        return int(struct.unpack("<H", self.nic.bench.load(self.used + 2, 2))[0])

    def take(self) -> tuple[int, int]:
        """Wait for the next used buffer: head and bytes written."""
        eventually(lambda: self.used_idx() != self.seen, f"queue {self.number} gives a buffer back")
        at = self.used + 4 + 8 * (self.seen % self.size)
        self.seen = (self.seen + 1) & 0xFFFF
        head, written = struct.unpack("<II", self.nic.bench.load(at, 8))
        return head, written


@contextmanager
def bench_session() -> Iterator[Bench]:
    """A bench; its devices must not have broken down in a thread."""
    with ExitStack() as stack:
        bench = Bench(stack)
        yield bench
    assert bench.rig.failures == []
