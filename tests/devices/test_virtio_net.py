"""The network device's data path: checksums, large packets, steering, control commands, statistics."""

import struct
from collections.abc import Iterator

import pytest
from virtio_frames import SOURCE4, TARGET4, checksum_is_good, ethernet, fold, ipv4, ipv6, tcp, udp
from virtio_rig import PLAIN, SPLIT, Bench, Nic, bench_session

BROADCAST = b"\xff" * 6
TSO = (*PLAIN, 2, 7, 8, 11, 12)
RSS_KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")


@pytest.fixture
def bench() -> Iterator[Bench]:
    with bench_session() as made:
        yield made


def partial(frame: bytes) -> bytes:
    """The frame with only the sum of the pseudo-header in its TCP checksum field."""
    segment = frame[34:]
    pseudo = fold(frame[26:34] + struct.pack(">II", len(segment), 6))
    return frame[:50] + struct.pack(">H", pseudo) + frame[52:]


def header(flags: int = 0, gso: int = 0, size: int = 0, start: int = 0, offset: int = 0) -> bytes:
    return struct.pack("<BBHHHHH", flags, gso, 0, size, start, offset, 0)


@pytest.mark.parametrize("length", [14, 60, 1000, 1514, 1518])
def test_frames_arrive_as_they_were_sent(bench: Bench, length: int) -> None:
    left, right = bench.pair()
    frame = (BROADCAST + bytes(range(256)) * 6)[:length]
    right.post([2048])
    left.send(frame)
    assert right.receive() == struct.pack("<BBHHHHH", 0, 0, 0, 0, 0, 0, 1) + frame
    right.expect_stats(rx_bytes=length, irqs=1)
    assert right.irqs(0) == 1
    left.expect_stats(tx_bytes=length)


@pytest.mark.parametrize("length", [0, 13, 1519, 65_550])
def test_frames_of_impossible_size_are_dropped(bench: Bench, length: int) -> None:
    left, right = bench.pair()
    right.post([2048], 4)
    left.send((BROADCAST + bytes(65_550))[:length])
    left.wait_stat("tx_malformed" if length < 14 else "tx_drop", 1)
    assert not left.needs_reset()
    left.send(BROADCAST + bytes(50))
    right.receive()
    right.expect_stats(rx_packets=1)


def test_a_frame_takes_several_buffers(bench: Bench) -> None:
    left, right = bench.pair()
    right.post([400], 4)
    frame = BROADCAST + bytes(range(256)) * 4
    left.send(frame)
    data = [right.receive() for _ in range(3)]
    assert struct.unpack_from("<H", data[0], 10) == (3,)
    assert b"".join(data)[12:] == frame
    left.send(frame)
    right.wait_stat("rx_drop_no_buffer", 1)
    assert right.queues[0].used_idx() == 3


def test_without_mergeable_buffers_the_frame_must_fit(bench: Bench) -> None:
    left, right = bench.pair((32, 33, 1, 16, 17))
    right.post([400])
    left.send(BROADCAST + bytes(600))
    right.wait_stat("rx_drop_no_buffer", 1)
    left.send(BROADCAST + bytes(300))
    assert len(right.receive()) == 318


def test_a_good_checksum_is_vouched_for_and_a_wrong_one_is_not(bench: Bench) -> None:
    left, right = bench.pair()
    right.post([2048], 6)
    good = ethernet(ipv4(tcp(b"hello")))
    bad = good[:-1] + b"?"
    for frame, flags in (
        (good, 2),
        (bad, 0),
        (ethernet(ipv6(udp(b"xyz"), 17)), 2),
        (ethernet(ipv4(b"icmp", 1)), 0),
        (ethernet(ipv4(tcp(b"hello"), fragment=0x2000)), 0),
        (ethernet(ipv4(b"\1\2\3\4\0\x0b\0\0xyz", 99)), 0),
    ):
        left.send(frame)
        assert right.receive()[0] == flags
    right.expect_stats(rx_csum_valid=2, rx_csum_bad=1)


def test_a_partial_checksum_is_passed_on_or_completed(bench: Bench) -> None:
    left, right = bench.pair()
    frame = partial(ethernet(ipv4(tcp(b"payload!x"))))
    assert not checksum_is_good(frame)
    right.post([2048])
    left.send(frame, header(1, start=34, offset=16))
    assert right.receive() == struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 16, 1) + frame
    right.start((32, 33, 15, 16, 17))
    right.post([2048])
    left.send(frame, header(1, start=34, offset=16))
    got = right.receive()
    assert got[0] == 0
    assert checksum_is_good(got[12:])


@pytest.mark.parametrize(
    "bad",
    [
        header(1, start=34, offset=2000),
        header(1, start=65535, offset=65535),
        header(0, 1, 100),
        header(1, 1, 0, 34, 16),
        header(1, 4, 100, 34, 16),
        header(1, 9, 100, 34, 16),
        header(1, 1, 100, 30, 16),
        header(4),
    ],
)
def test_a_malformed_header_drops_the_packet(bench: Bench, bad: bytes) -> None:
    left, right = bench.pair(TSO)
    right.post([2048])
    left.send(ethernet(ipv4(tcp(bytes(500)))), bad)
    left.wait_stat("tx_malformed", 1)
    assert not left.needs_reset()
    assert right.stat("rx_packets") == 0


@pytest.mark.parametrize("version", [4, 6])
def test_a_large_packet_goes_whole_or_is_cut(bench: Bench, version: int) -> None:
    left, right = bench.pair(TSO)
    payload = bytes(n * 7 & 0xFF for n in range(3500))
    packet = ipv4(tcp(payload, flags=0x19)) if version == 4 else ipv6(tcp(payload, flags=0x19))
    frame = ethernet(packet)
    network = len(frame) - 3520
    large = header(1, 1 if version == 4 else 4, 1000, network, 16)
    right.post([2048], 8)
    left.send(frame, large)
    whole = right.receive() + right.receive()
    assert struct.unpack_from("<BBHHHHH", whole) == (1, large[1], network + 20, 1000, network, 16, 2)
    assert whole[12:] == frame
    assert right.command(5, 0, struct.pack("<Q", 1 << 1)) == (0, b"")
    left.send(frame, large)
    cut = [right.receive() for _ in range(4)]
    assert [piece[0] for piece in cut] == [2, 2, 2, 2]
    assert b"".join(piece[12 + network + 20 :] for piece in cut) == payload
    assert [piece[12 + network + 13] for piece in cut] == [0x10, 0x10, 0x10, 0x19]
    assert [struct.unpack_from(">I", piece, 12 + network + 4)[0] for piece in cut] == [7, 1007, 2007, 3007]
    if version == 4:
        assert all(checksum_is_good(piece[12:]) for piece in cut)
    assert right.stat("rx_csum_bad") == 0


def test_destination_filter(bench: Bench) -> None:
    left, right = bench.pair((*PLAIN, 18, 23))
    own, other, group = (
        bytes.fromhex("020000000001"),
        bytes.fromhex("020000000002"),
        bytes.fromhex("333300000001"),
    )
    assert right.command(1, 1, own)[0] == 0
    right.post([128], 8)

    def arrives(target: bytes) -> bool:
        """A broadcast behind the frame shows when it would have come."""
        left.send(target + bytes(54))
        left.send(BROADCAST + bytes(54))
        first = right.receive()[12:18]
        return first == target and right.receive()[12:18] == BROADCAST

    assert arrives(own)
    assert not arrives(other)
    right.post([128], 8)
    assert right.command(1, 0, struct.pack("<I", 1) + other + struct.pack("<I", 1) + group)[0] == 0
    assert arrives(other)
    assert arrives(group)
    assert right.command(1, 0, struct.pack("<I", 9) + other)[0] == 1


def test_rss_of_the_published_vectors(bench: Bench) -> None:
    """Microsoft's verification suite for RSS: 66.9.149.187:2794 to 161.142.100.80:1766 is 0x51ccc178."""
    left, right = bench.pair(SPLIT, pairs=2)
    config = struct.pack("<IHH2HHB", 0x3F, 1, 0, 0, 1, 2, 40) + RSS_KEY
    assert right.command(4, 1, config) == (0, b"")
    packet = bytearray(ipv4(tcp(b"", sport=2794, dport=1766)))
    packet[12:20] = bytes((66, 9, 149, 187, 161, 142, 100, 80))
    for pair in (0, 1):
        right.post([256], 3, pair)
    left.send(ethernet(bytes(packet)))
    assert struct.unpack_from("<IH", right.receive(0), 16) == (0x51CCC178, 2)
    packet[6:8] = b"\x20\x00"
    left.send(ethernet(bytes(packet)))
    assert struct.unpack_from("<IH", right.receive(0), 16) == (0x323E8FC2, 1)
    left.send(BROADCAST + bytes(54))
    assert struct.unpack_from("<IH", right.receive(0), 16) == (0, 0)


@pytest.mark.parametrize(
    "config",
    [
        struct.pack("<IHH", 0x3F, 1, 0),
        struct.pack("<IHH3HHB", 0x3F, 2, 0, 0, 0, 0, 1, 0),
        struct.pack("<IHH2HHB", 0x3F, 1, 0, 0, 2, 2, 0),
        struct.pack("<IHH2HHB", 0x3F, 1, 0, 0, 1, 2, 41) + bytes(41),
        struct.pack("<IHH2HHB", 0x40, 1, 0, 0, 1, 2, 0),
        struct.pack("<IHH2HHB", 0x3F, 1, 0, 0, 1, 3, 0),
    ],
)
def test_rss_that_cannot_be_is_refused(bench: Bench, config: bytes) -> None:
    nic = bench.nic()
    nic.start(SPLIT)
    assert nic.command(4, 1, config)[0] == 1
    assert nic.stat("control_errors") == 1


def rule(location: int = 0xFFFFFFFF, queue: int = 1, **fields: bytes | int) -> bytes:
    """88 bytes: an IPv4 TCP rule for the flow of `virtio_frames`, changed by `fields`."""
    full = b"\xff" * 4 + bytes(12)
    values: dict[str, bytes | int] = {
        "version": 4, "protocol": 6,
        "src": SOURCE4.ljust(16, b"\0"), "src_mask": full, "dst": TARGET4.ljust(16, b"\0"), "dst_mask": full,
        "ports": struct.pack(">HHHH", 1000, 0xFFFF, 2000, 0xFFFF), "vlan": 0, "vlan_mask": 0, "reserved": 0,
    }  # fmt: skip
    assert not set(fields) - set(values)
    return struct.pack("<IHBB16s16s16s16s8sHHI", location, queue, *(values | fields).values())


def start_steered(bench: Bench) -> tuple[Nic, Nic]:
    left, right = bench.pair(SPLIT)
    assert right.command(4, 0, struct.pack("<H", 1))[0] == 0
    for pair in (0, 1):
        right.post([256], 8, pair)
    return left, right


def test_rules_steer_and_drop(bench: Bench) -> None:
    left, right = start_steered(bench)
    flow, other = ethernet(ipv4(tcp(b"x"))), ethernet(ipv4(tcp(b"x", sport=1001)))
    assert right.command(0xE1, 0, rule(), 4) == (0, struct.pack("<I", 127))
    left.send(flow)
    assert right.receive(1)[24:] == flow
    left.send(other)
    assert right.receive(0)[24:] == other
    left.send(ethernet(ipv4(tcp(b"x"), fragment=0x2000)))
    assert len(right.receive(0)) == 24 + 55
    assert right.command(0xE1, 0, rule(3, 0xFFFF), 4) == (0, struct.pack("<I", 3))
    left.send(flow)
    right.wait_stat("rx_drop_rule", 1)
    assert right.command(0xE1, 2, b"", 64) == (0, struct.pack("<III", 2, 3, 127))
    assert right.command(0xE1, 3, struct.pack("<I", 3), 88) == (0, rule(3, 0xFFFF))
    assert right.command(0xE1, 1, struct.pack("<I", 3)) == (0, b"")
    assert right.command(0xE1, 1, struct.pack("<I", 3)) == (3, b"")
    left.send(flow)
    assert right.receive(1)[24:] == flow
    assert right.command(0xE1, 4) == (0, b"")
    left.send(flow)
    assert right.receive(0)[24:] == flow


def test_a_rule_may_match_a_vlan_or_anything(bench: Bench) -> None:
    left, right = start_steered(bench)
    plain = rule(0, version=0, protocol=0, src_mask=bytes(16), dst_mask=bytes(16), ports=bytes(8))
    tagged = rule(
        1,
        version=0,
        protocol=0,
        src_mask=bytes(16),
        dst_mask=bytes(16),
        ports=bytes(8),
        vlan=5,
        vlan_mask=0xFFF,
    )
    assert right.command(0xE1, 0, tagged, 4)[0] == 0
    left.send(ethernet(ipv4(tcp(b"x")), (0x2005,)))
    right.receive(1)
    left.send(ethernet(ipv4(tcp(b"x")), (0x2006,)))
    right.receive(0)
    left.send(BROADCAST + bytes(54))
    right.receive(0)
    assert right.command(0xE1, 0, plain, 4)[0] == 0
    left.send(BROADCAST + bytes(54))
    right.receive(1)


@pytest.mark.parametrize(
    ("bad", "ack"),
    [
        (rule()[:-1], 1),
        (rule(128), 2),
        (rule(queue=2), 2),
        (rule(version=5), 2),
        (rule(protocol=1), 2),
        (rule(reserved=1), 2),
        (rule(protocol=0), 2),
        (rule(version=0), 2),
        (rule(src_mask=b"\xff" * 16), 2),
    ],
)
def test_rules_that_cannot_be_are_refused(bench: Bench, bad: bytes, ack: int) -> None:
    nic = bench.nic()
    nic.start(SPLIT)
    assert nic.command(0xE1, 0, bad, 4)[0] == ack
    assert nic.command(0xE1, 2, b"", 64) == (0, bytes(4))


def test_the_rule_table_fills_up(bench: Bench) -> None:
    nic = bench.nic()
    nic.start(SPLIT)
    for location in range(127, -1, -1):
        assert nic.command(0xE1, 0, rule(), 4) == (0, struct.pack("<I", location))
    assert nic.command(0xE1, 0, rule(), 4) == (4, b"")
    assert nic.command(0xE1, 0, rule(5), 4)[0] == 0


def test_statistics_command(bench: Bench) -> None:
    left, right = bench.pair(SPLIT)
    right.post([256])
    left.send(BROADCAST + bytes(54))
    right.receive()
    right.expect_stats(rx_packets=1, rx_bytes=60, rx_buffers=1)
    ack, raw = right.command(0xE2, 0, struct.pack("<H", 0), 192)
    values = struct.unpack("<24Q", raw)
    assert (ack, values[0], values[1], values[15], values[23]) == (0, 1, 60, 1, 0)
    assert right.command(0xE2, 0, struct.pack("<H", 2), 192) == (2, b"")


def test_commands_of_features_that_were_not_accepted_fail(bench: Bench) -> None:
    nic = bench.nic()
    nic.start(PLAIN)
    for cls, cmd, data in (
        (0xE0, 1, b"\0\0"),
        (0xE1, 4, b""),
        (0xE2, 0, b"\0\0"),
        (4, 0, b"\1\0"),
        (0, 0, b"\1"),
    ):
        assert nic.command(cls, cmd, data, 8)[0] == 1


def test_link_state(bench: Bench) -> None:
    left = bench.nic("nic0", link="wire")
    left.start()
    assert left.get(0x2006, 2) == 0
    left.send(BROADCAST + bytes(54))
    left.wait_stat("tx_drop", 1)
    right = bench.nic("nic1", link="wire")
    left.wait_stat("config_interrupts", 1)
    assert left.get(0x2006, 2) == 1
    right.unplug()
    left.wait_stat("config_interrupts", 2)
    assert left.get(0x2006, 2) == 0
