"""Header split: the exact end of the headers, which byte goes to which memory, and the ledger of that."""

import struct
from collections.abc import Iterator

import pytest
from virtio_frames import ethernet, ipv4, ipv6, tcp, udp
from virtio_rig import SPLIT, Bench, Nic, Span, bench_session, eventually

from vfiodev.gpu.device import Gpu

HEADER = struct.Struct("<BBHHHHHHBBIHH")
FREE = 0xEE
TSO = (*SPLIT, 7, 8, 11, 12)
VRAM = 0x40_0000_0000
TIMESTAMPS = b"\1\1\x08\x0a" + bytes(8)
HOPOPTS = bytes((6, 0, 1, 4, 0, 0, 0, 0))
DESTOPTS_AND_ROUTING = bytes((43, 1, 1, 12)) + bytes(12) + bytes((6, 2, 4, 0)) + bytes(20)
ATOMIC_FRAGMENT = bytes((6, 0, 0, 0, 0, 0, 0, 1))


@pytest.fixture
def bench() -> Iterator[Bench]:
    with bench_session() as made:
        yield made


def start(bench: Bench, types: int = 0xF, threshold: int = 0) -> tuple[Nic, Nic]:
    """Two ports; the right one splits on pair 0."""
    left, right = bench.pair(TSO)
    assert right.command(0xE0, 0, struct.pack("<HHI", 0, types, threshold)) == (0, b"")
    return left, right


def untouched(bench: Bench, span: Span, start: int = 0) -> bool:
    return set(bench.load(*span)[start:]) <= {FREE}


CASES = [
    (ethernet(ipv4(tcp(b"x"))), 54),
    (ethernet(ipv4(tcp(b"payload" * 100, TIMESTAMPS))), 66),
    (ethernet(ipv4(tcp(b"payload", bytes(40)))), 94),
    (ethernet(ipv4(tcp(b"payload"), options=bytes((7, 39)) + bytes(38))), 94),
    (ethernet(ipv4(udp(b"payload"), 17)), 42),
    (ethernet(ipv4(tcp(b"payload")), (5,)), 58),
    (ethernet(ipv4(tcp(b"payload")), (5, 6)), 62),
    (ethernet(ipv6(tcp(b"payload"))), 74),
    (ethernet(ipv6(udp(b"payload"), 17)), 62),
    (ethernet(ipv6(tcp(b"payload", TIMESTAMPS), extensions=HOPOPTS, first=0)), 94),
    (ethernet(ipv6(tcp(b"payload"), extensions=DESTOPTS_AND_ROUTING, first=60)), 114),
    (ethernet(ipv6(tcp(b"payload"), extensions=ATOMIC_FRAGMENT, first=44)), 82),
    (ethernet(ipv4(tcp(b""))), 54),
]


@pytest.mark.parametrize(("frame", "cut"), CASES)
def test_the_split_is_at_the_end_of_the_transport_header(bench: Bench, frame: bytes, cut: int) -> None:
    left, right = start(bench)
    ((head, page, more),) = right.post([256, 4096, 4096])
    left.send(frame)
    _, written = right.queues[0].take()
    assert written == 24 + len(frame)
    fields = HEADER.unpack(bench.load(head[0], 24))
    assert fields[:3] == (2, 0, cut)
    assert fields[6:10] == (1, cut, 3, 0)
    assert bench.load(head[0] + 24, cut) == frame[:cut]
    assert untouched(bench, head, 24 + cut)
    assert bench.load(page[0], len(frame) - cut) == frame[cut:]
    assert untouched(bench, page, len(frame) - cut)
    assert untouched(bench, more)
    payload = len(frame) - cut
    right.expect_stats(rx_split=1, rx_header_bytes=cut, rx_payload_bytes=payload)
    right.expect_stats(header_to_host=24 + cut, payload_to_host=payload)


UNSPLIT = [
    (ethernet(b"\x00" * 50), 2),
    (ethernet(ipv4(b"icmp" * 10, 1)), 2),
    (ethernet(ipv4(tcp(b"x" * 50), fragment=0x2000)), 3),
    (ethernet(ipv4(b"x" * 50, fragment=100)), 3),
    (ethernet(ipv6(bytes((6, 0, 0, 9)) + bytes(40), 44)), 3),
    (ethernet(ipv4(tcp(b"x" * 50)))[:60], 4),
    (ethernet(ipv4(tcp(b"x")[:12] + b"\x40" + tcp(b"x")[13:])), 4),
    (ethernet(ipv4(tcp(b"x")[:12] + b"\xf0" + tcp(b"x")[13:])), 4),
    (
        ethernet(ipv6(tcp(b"x"), extensions=b"".join(bytes((60, 0)) + bytes(6) for _ in range(9)), first=60)),
        6,
    ),
]


@pytest.mark.parametrize(("frame", "reason"), UNSPLIT)
def test_what_is_not_split_touches_no_payload_buffer(bench: Bench, frame: bytes, reason: int) -> None:
    left, right = start(bench)
    ((head, page),) = right.post([2048, 4096])
    left.send(frame)
    assert right.queues[0].take()[1] == 24 + len(frame)
    fields = HEADER.unpack(bench.load(head[0], 24))
    assert fields[6:10] == (1, len(frame), 0, reason)
    assert bench.load(head[0] + 24, len(frame)) == frame
    assert untouched(bench, page)
    right.expect_stats(rx_unsplit=1, header_to_host=24 + len(frame), payload_to_host=0)


def test_unsplit_packets_spread_over_header_buffers(bench: Bench) -> None:
    left, right = start(bench)
    posted = right.post([256, 4096], 3)
    frame = ethernet(ipv4(bytes(range(250)) * 2, 1))
    left.send(frame)
    written = [right.queues[0].take()[1] for _ in range(3)]
    assert written == [256, 256, 24 + len(frame) - 512]
    assert HEADER.unpack(bench.load(posted[0][0][0], 24))[6:10] == (3, len(frame), 0, 2)
    got = b"".join(bench.load(head[0], count) for (head, _), count in zip(posted, written, strict=True))
    assert got[24:] == frame
    assert all(untouched(bench, page) for _, page in posted)


def test_types_threshold_and_room_decide(bench: Bench) -> None:
    left, right = start(bench, types=1, threshold=100)
    right.post([2048, 4096], 3)
    post = right.queues[0]

    def reason(frame: bytes) -> tuple[int, ...]:
        left.send(frame)
        head = post.chains[post.take()[0]][1][0]
        return HEADER.unpack(bench.load(head[0], 24))[7:10]

    assert reason(ethernet(ipv4(udp(bytes(200)), 17))) == (242, 2, 2)
    assert reason(ethernet(ipv4(tcp(bytes(46))))) == (100, 2, 7)
    assert reason(ethernet(ipv4(tcp(bytes(47))))) == (54, 3, 0)
    right.post([64, 4096], 3)
    assert reason(ethernet(ipv4(tcp(bytes(60))))) == (114, 2, 5)


def test_padding_is_removed_from_a_split_packet(bench: Bench) -> None:
    left, right = start(bench)
    ((_, page),) = right.post([256, 4096])
    left.send(ethernet(ipv4(tcp(b"x"))).ljust(60, b"\xaa"))
    assert right.queues[0].take()[1] == 24 + 55
    assert bench.load(page[0], 2) == b"x\xee"


def test_a_large_packet_fills_payload_pages_of_several_chains(bench: Bench) -> None:
    left, right = start(bench)
    posted = right.post([256, 4096, 4096], 3)
    payload = bytes(n * 31 & 0xFF for n in range(20_000))
    frame = ethernet(ipv4(tcp(payload, TIMESTAMPS)))
    left.send(frame, struct.pack("<BBHHHHH", 1, 1, 66, 1448, 34, 16, 0))
    written = [right.queues[0].take()[1] for _ in range(3)]
    assert written == [24 + 66 + 8192, 8192, 20_000 - 16384]
    assert HEADER.unpack(bench.load(posted[0][0][0], 24))[:10] == (1, 1, 66, 1448, 34, 16, 3, 66, 3, 0)
    pages = b"".join(bench.load(*page) for chain in posted for page in chain[1:])
    assert pages[:20_000] == payload
    assert set(pages[20_000:]) == {FREE}
    assert all(untouched(bench, chain[0]) for chain in posted[1:])


def test_a_buffer_without_payload_descriptor_is_a_broken_ring(bench: Bench) -> None:
    left, right = start(bench)
    right.post([2048])
    left.send(ethernet(ipv4(tcp(b"x"))))
    eventually(right.needs_reset, "the device needs a reset")


def test_split_commands_are_checked_and_per_pair(bench: Bench) -> None:
    left, right = start(bench, types=5, threshold=7)
    assert right.command(0xE0, 1, b"\0\0", 8) == (0, struct.pack("<HHI", 5, 0, 7))
    assert right.command(0xE0, 1, b"\1\0", 8) == (0, bytes(8))
    assert right.command(0xE0, 1, b"\2\0", 8) == (2, b"")
    for bad, ack in (((2, 1, 0), 2), ((0, 16, 0), 2), ((0, 1, 65536), 2)):
        assert right.command(0xE0, 0, struct.pack("<HHI", *bad)) == (ack, b"")
    assert right.command(0xE0, 0, b"\0") == (1, b"")
    assert right.command(0xE0, 9) == (1, b"")
    assert right.command(4, 0, b"\2\0") == (0, b"")
    right.post([2048], 2, 1)
    frame = ethernet(ipv4(tcp(b"x")))
    left.send(frame, pair=1)
    got = right.receive(1)
    assert HEADER.unpack(got[:24])[6:10] == (1, 0, 2, 1)
    assert got[24:] == frame


def test_payload_into_the_memory_of_a_gpu(bench: Bench) -> None:
    """Not one payload byte touches host memory, not one header byte VRAM."""
    gpu = bench.rig.make(Gpu, "gpu0", vram_mib=1)
    client, thread = bench.plug(gpu, [(0x10, 4, 0xFD00_0000), (0x18, 8, VRAM), (0x20, 4, 0xFD01_0000)])
    left, right = start(bench)
    head = bench.alloc(256)
    right.client.dma_map(VRAM, 1 << 20)
    right.queues[0].add([], [(head, 256), (VRAM + 0x3000, 4096)])
    frame = ethernet(ipv4(tcp(b"secret payload")))
    left.send(frame)
    assert right.queues[0].take()[1] == 24 + len(frame)
    assert bytes(gpu.memory(2)[0x3000:0x300F]) == b"secret payload\0"
    assert bench.load(head + 24, 54) == frame[:54]
    right.expect_stats(payload_to_peer=14, header_to_host=24 + 54, payload_to_host=0, header_to_peer=0)
    client.sock.close()
    thread.join(10)
    right.client.dma_unmap(VRAM, 1 << 20)
    right.queues[0].add([], [(head, 256), (VRAM + 0x4000, 4096)])
    left.send(frame)
    eventually(right.needs_reset, "the GPU's memory is gone and the device needs a reset")
