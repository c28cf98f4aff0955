"""The virtio transport: capabilities, features, queues, resets, and drivers that write garbage."""

import struct
from collections.abc import Iterator

import pytest
from vfio_client import CONFIG
from virtio_rig import (
    DEVICE_CONFIG,
    INDIRECT,
    NEXT,
    PLAIN,
    QUEUE_ENABLE,
    QUEUE_SELECT,
    QUEUE_SIZE,
    RAM_BASE,
    RAM_SIZE,
    SPLIT,
    STATUS,
    WRITE,
    Bench,
    Nic,
    bench_session,
    eventually,
)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with bench_session() as made:
        yield made


@pytest.fixture
def nic(bench: Bench) -> Nic:
    return bench.nic()


def capabilities(nic: Nic) -> dict[int, tuple[int, int, int, int]]:
    """cfg_type to (place in config space, BAR, offset, length) of the vendor capabilities."""
    found = {}
    at = nic.client.get(CONFIG, 0x34, 1)
    while at:
        ident, following, _, kind = nic.client.read(CONFIG, at, 4)
        if ident == 9:
            bar = nic.client.get(CONFIG, at + 4, 1)
            found[kind] = (at, bar, nic.client.get(CONFIG, at + 8), nic.client.get(CONFIG, at + 12))
        at = following
    return found


def test_identity_and_structures(nic: Nic) -> None:
    assert nic.client.read(CONFIG, 0, 4) == bytes.fromhex("f41a4110")
    assert nic.client.read(CONFIG, 0x2C, 4) == bytes.fromhex("34124100")
    found = {kind: place[1:] for kind, place in capabilities(nic).items()}
    assert found == {
        1: (0, 0, 0x40),
        2: (0, 0x3000, 0x1000),
        3: (0, 0x1000, 4),
        4: (0, 0x2000, 0x80),
        5: (0, 0, 0),
    }


def test_configuration_access_capability(nic: Nic) -> None:
    at = capabilities(nic)[5][0]
    nic.client.put(CONFIG, at + 8, 0x2000 + 0x40)
    nic.client.put(CONFIG, at + 12, 4)
    assert nic.client.get(CONFIG, at + 16) == 0x534E4254
    nic.client.put(CONFIG, at + 8, STATUS)
    nic.client.put(CONFIG, at + 12, 1)
    nic.client.put(CONFIG, at + 16, 1)
    assert nic.get(STATUS, 1) == 1
    nic.client.put(CONFIG, at + 8, 0x4000)
    nic.client.put(CONFIG, at + 16, 0)
    assert nic.get(STATUS, 1) == 1


def test_device_configuration(bench: Bench) -> None:
    nic = bench.nic("nic7", mac="02:00:00:00:00:07", mtu=9000, pairs=3)
    raw = nic.client.read(0, DEVICE_CONFIG, 0x54)
    assert raw[:6] == bytes.fromhex("020000000007")
    assert struct.unpack_from("<HHHIBBHI", raw, 6) == (0, 3, 9000, 10_000, 1, 40, 128, 0x3F)
    assert struct.unpack_from("<IHHHHIHH", raw, 0x40) == (0x534E4254, 0x100, 24, 0xF, 65535, 128, 88, 24)


def test_private_features_can_be_left_out(bench: Bench) -> None:
    assert {100, 101, 102, *PLAIN} <= bench.nic("a").offered()
    plain = bench.nic("b", extension=False)
    assert max(plain.offered()) == 63
    assert plain.get(DEVICE_CONFIG + 0x40) == 0


@pytest.mark.parametrize(
    ("features", "fits"),
    [
        (PLAIN, True),
        (SPLIT, True),
        ((32,), False),
        ((33,), False),
        ((*PLAIN, 99), False),
        ((32, 33, 15, 100), False),
        ((32, 33, 17, 100), False),
        ((32, 33, 7), False),
        ((32, 33, 22), False),
        ((32, 33, 1, 9), False),
        ((32, 33, 1, 7, 9), True),
    ],
)
def test_features_are_checked(nic: Nic, features: tuple[int, ...], fits: bool) -> None:
    assert nic.negotiate(features) is fits


def test_reset_forgets_the_driver(nic: Nic) -> None:
    nic.start(SPLIT)
    assert nic.command(0xE0, 0, struct.pack("<HHI", 1, 3, 0)) == (0, b"")
    nic.start(SPLIT)
    assert nic.command(0xE0, 1, struct.pack("<H", 1), 8) == (0, bytes(8))


def test_queue_size_and_address_are_checked(nic: Nic) -> None:
    assert nic.negotiate(PLAIN)
    nic.put(QUEUE_SELECT, 0, 2)
    nic.put(QUEUE_SIZE, 4096, 2)
    assert nic.get(QUEUE_SIZE, 2) == 64
    nic.put(QUEUE_SIZE, 48, 2)
    nic.put(QUEUE_ENABLE, 1, 2)
    assert nic.get(QUEUE_ENABLE, 2) == 0
    assert nic.needs_reset()
    nic.put(QUEUE_SELECT, 500, 2)
    assert nic.get(QUEUE_SIZE, 2) == 0


def test_queue_reset_gives_buffers_back_to_the_driver(bench: Bench) -> None:
    left, right = bench.pair()
    posted = right.post([1600], 2)
    left.send(b"\xff" * 6 + bytes(54))
    right.receive()
    right.reset_queue(0)
    assert not right.queue_resetting(0)
    assert right.get(QUEUE_ENABLE, 2) == 0
    left.send(b"\xff" * 6 + bytes(54))
    right.wait_stat("q0.rx_drop_queue", 1)
    assert bench.load(*posted[1][0]) == b"\xee" * 1600
    right.enable(0)
    right.post([1600])
    left.send(b"\xff" * 6 + bytes(54))
    assert len(right.receive()) == 72
    assert right.stat("queue_resets") == 1


def rogue(nic: Nic, what: str) -> None:
    """A transmit queue with something wrong: `WRONG` has its descriptors, or its indirect table's."""
    queue, ram = nic.queues[1], nic.bench.alloc(4096)
    if what == "head outside":
        queue.publish(64)
        return
    if what == "index from the future":
        queue.avail_idx = 1000
    for index, (address, length, flags, following) in enumerate(WRONG.get(what, ())):
        raw = struct.pack("<QIHH", ram if address is None else address, length, flags, following)
        nic.bench.store((ram if what.startswith("table") else queue.desc) + 16 * index, raw)
    if what.startswith("table"):
        queue.write_desc(0, ram, 16 * len(WRONG[what]), INDIRECT)
    queue.publish(0)


WRONG: dict[str, list[tuple[int | None, int, int, int]]] = {
    "loop": [(None, 16, NEXT, 1), (None, 16, NEXT, 0)],
    "next outside": [(None, 16, NEXT, 999)],
    "no such memory": [(RAM_BASE + RAM_SIZE, 64, 0, 0)],
    "wraps": [(2**64 - 16, 64, 0, 0)],
    "too long": [(None, 0xFFFFFFFF, NEXT, 1), (None, 0xFFFFFFFF, 0, 0)],
    "writable": [(None, 64, WRITE, 0)],
    "readable behind writable": [(None, 64, WRITE | NEXT, 1), (None, 64, 0, 0)],
    "no header": [(None, 11, 0, 0)],
    "indirect and more": [(None, 16, INDIRECT | NEXT, 1)],
    "indirect of odd size": [(None, 17, INDIRECT, 0)],
    "table is empty": [],
    "table is a loop": [(None, 16, NEXT, 0)],
    "table in a table": [(None, 16, INDIRECT, 0)],
    "table leads outside": [(None, 16, NEXT, 5)],
}


@pytest.mark.parametrize("what", ["head outside", "index from the future", *WRONG])
def test_a_broken_ring_needs_a_reset(bench: Bench, nic: Nic, what: str) -> None:
    nic.start((*PLAIN, 28))
    rogue(nic, what)
    nic.queues[1].kick()
    eventually(nic.needs_reset, "the device needs a reset")
    nic.expect_stats(violations=1)
    eventually(lambda: len(bench.rig.violations) == 1, "the violation is told")
    nic.start((*PLAIN, 28))
    assert not nic.needs_reset()
    assert nic.command(0, 0, b"") == (1, b"")


def test_a_broken_receive_ring_hurts_only_its_owner(bench: Bench) -> None:
    left, right = bench.pair()
    right.queues[0].write_desc(0, 0xDEAD0000, 2048, WRITE)
    right.queues[0].publish(0)
    left.send(b"\xff" * 6 + bytes(54))
    eventually(right.needs_reset, "the receiver needs a reset")
    assert not left.needs_reset()
    left.send(b"\xff" * 6 + bytes(54))


def test_event_index_and_flags_suppress_interrupts(bench: Bench) -> None:
    left, right = bench.pair((*PLAIN, 29))
    right.post([1600], 8)
    queue = right.queues[0]
    bench.store(queue.avail + 4 + 2 * queue.size, struct.pack("<H", 2))
    for _ in range(3):
        left.send(b"\xff" * 6 + bytes(54))
        right.receive()
    right.wait_stat("q0.rx_interrupts", 1)
    eventually(lambda: right.irqs(0) == 1, "one interrupt for three frames")
    assert right.stat("q0.rx_interrupts") == 1

    left, right = bench.nic("c", link="w2"), bench.nic("d", link="w2")
    left.start()
    right.start()
    right.post([1600], 8)
    bench.store(right.queues[0].avail, struct.pack("<H", 1))
    left.send(b"\xff" * 6 + bytes(54))
    right.receive()
    right.wait_stat("rx_packets", 1)
    assert right.irqs(0) == 0
