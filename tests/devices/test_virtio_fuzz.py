"""Drivers that write garbage: the device asks for a reset or goes on, and writes to posted buffers only."""

import random
import struct
import time

import pytest
from virtio_frames import ethernet, ipv4, tcp
from virtio_rig import QUEUE_RESET, QUEUE_SELECT, RAM_BASE, SPLIT, STATUS, Bench, Nic, bench_session

FEATURES = (*SPLIT, 2, 7, 8, 11, 12, 28, 29)
ARENA = 1 << 16
EDGES = (0, 1, 13, 14, 24, 63, 64, 4096, 65_536, 0xFFFFFFFF)
ADDRESSES = (0, RAM_BASE - 8, 0xFFFF_F000, 1 << 48, 2**64 - 16)
ROUNDS = 30


def descriptor(chance: random.Random, arena: int, flags: tuple[int, ...]) -> bytes:
    """Mostly sound, now and then not."""
    address = arena + chance.randrange(ARENA // 2) if chance.random() < 0.9 else chance.choice(ADDRESSES)
    length = chance.randrange(2048) if chance.random() < 0.8 else chance.choice(EDGES)
    if RAM_BASE <= address < arena + ARENA and address + length > arena + ARENA:
        length = chance.randrange(ARENA // 2)
    following = chance.randrange(64) if chance.random() < 0.95 else chance.randrange(65_536)
    return struct.pack("<QIHH", address, length, chance.choice(flags), following)


def scribble(chance: random.Random, nic: Nic, arena: int) -> None:
    """Fill one queue with garbage, tell the device."""
    number = 0 if chance.random() < 0.6 else chance.choice(sorted(nic.queues))
    bench, queue = nic.bench, nic.queues[number]
    flags = chance.choice(((0, 0, 1, 2, 2, 3, 4, 6, 7), (2, 3), (0, 1)))
    table = b"".join(descriptor(chance, arena, flags) for _ in range(queue.size))
    bench.store(queue.desc, table)
    bench.store(arena + ARENA // 2, table + chance.randbytes(1024))
    for _ in range(chance.randrange(1, 6)):
        queue.publish(chance.randrange(queue.size if chance.random() < 0.98 else 65_536))
    if chance.random() < 0.05:
        bench.store(queue.avail + 2, chance.randbytes(2))
    queue.kick()
    if chance.random() < 0.3:
        data = chance.choice((b"\xe0\0", b"\xe1\0", b"\x04\x01", b"\x01\0")) + chance.randbytes(100)
        bench.store(arena, data)
    if chance.random() < 0.1:
        nic.put(QUEUE_SELECT, queue.number, 2)
        nic.put(QUEUE_RESET, 1, 2)


def outside(bench: Bench, nics: tuple[Nic, Nic], arena: int) -> bytes:
    """Guest RAM without the arena and without the used rings, where the device may write."""
    ram = bytearray(bench.ram[:])
    ram[arena - RAM_BASE : arena - RAM_BASE + ARENA] = bytes(ARENA)
    for nic in nics:
        for queue in nic.queues.values():
            for start, size in (
                (queue.used, 6 + 8 * queue.size),
                (queue.avail, 6 + 2 * queue.size),
                (queue.desc, 16 * queue.size),
            ):
                ram[start - RAM_BASE : start - RAM_BASE + size] = bytes(size)
    return bytes(ram)


@pytest.mark.parametrize("seed", range(4))
def test_garbage_in_rings(seed: int) -> None:
    chance = random.Random(seed)
    frame = ethernet(ipv4(tcp(bytes(1000))))
    with bench_session() as bench:
        left, right = bench.nic("nic0", link="wire"), bench.nic("nic1", link="wire")
        broken = 0
        for _ in range(ROUNDS):
            bench.ram[:] = bytes(len(bench.ram))
            bench.restart()
            for nic in (left, right):
                nic.start(FEATURES)
            arena = bench.alloc(ARENA)
            assert right.command(0xE0, 0, struct.pack("<HHI", 0, chance.randrange(16), 0), 0)[0] == 0
            sent = bench.alloc(12 + len(frame))
            bench.store(sent + 12, frame)
            before = outside(bench, (left, right), arena)
            if chance.random() < 0.3:
                scribble(chance, left, arena)
            for _ in range(3):
                scribble(chance, right, arena)
            if left.device.transport.queue(1) is not None:
                for _ in range(3):
                    left.queues[1].add([(sent, 12 + len(frame))], [])
                left.queues[1].kick()
            time.sleep(0.01)
            for nic in (left, right):
                nic.put(STATUS, 0, 1)
                broken += nic.stat("violations") > 0
            assert outside(bench, (left, right), arena) == before
        assert broken
        assert right.stat("rx_packets")
        assert not [text for text in bench.rig.violations if "failed" in text or "ended" in text]
