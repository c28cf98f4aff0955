"""Faults of the network device and of the wire: each shows at the driver exactly what the document says."""

import struct
import time
from collections.abc import Iterator

import pytest
from virtio_frames import checksum_is_good, ethernet, ipv4, tcp
from virtio_rig import SPLIT, Bench, Nic, Span, bench_session, eventually

from vfiodev.errors import ControlError

FRAME = ethernet(ipv4(tcp(b"the payload of a packet")))
CUT, SIZE = 54, 23
TSO = (*SPLIT, 7, 11)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with bench_session() as made:
        yield made


@pytest.fixture
def nics(bench: Bench) -> tuple[Nic, Nic]:
    left, right = bench.pair(TSO)
    assert right.command(0xE0, 0, struct.pack("<HHI", 0, 0xF, 0)) == (0, b"")
    return left, right


def deliver(nics: tuple[Nic, Nic]) -> tuple[Span, Span, int]:
    """One packet: header buffer, payload buffer, used length."""
    left, right = nics
    ((head, page),) = right.post([256, 4096])
    left.send(FRAME)
    return head, page, right.queues[0].take()[1]


def fields(bench: Bench, head: Span) -> tuple[int, ...]:
    """hdr_len, split_len, split_flags, split_reason."""
    raw = bench.load(head[0], 24)
    return (struct.unpack_from("<H", raw, 2)[0], *struct.unpack_from("<HBB", raw, 12))


@pytest.mark.parametrize("delta", [-5, 5, 64])
def test_split_at_wrong_byte(bench: Bench, nics: tuple[Nic, Nic], delta: int) -> None:
    nics[1].device.inject("split_at_wrong_byte", {"queue": 0, "delta": delta})
    head, page, used = deliver(nics)
    cut = min(CUT + delta, CUT + SIZE)
    assert fields(bench, head) == (CUT, cut, 3, 0)
    assert used == 24 + CUT + SIZE
    assert bench.load(head[0] + 24, cut) == FRAME[:cut]
    assert bench.load(page[0], len(FRAME) - cut) == FRAME[cut:]
    assert fields(bench, deliver(nics)[0]) == (CUT, CUT, 3, 0)
    assert nics[1].stat("faults_used") == 1


def test_split_not_at_all(bench: Bench, nics: tuple[Nic, Nic]) -> None:
    nics[1].device.inject("split_not_at_all", {"queue": 1})
    assert fields(bench, deliver(nics)[0])[3] == 0
    nics[1].device.inject("split_not_at_all", {})
    head, page, _ = deliver(nics)
    assert fields(bench, head) == (CUT, len(FRAME), 2, 1)
    assert bench.load(page[0], 4) == b"\xee" * 4


def test_spilled_headers_and_swallowed_payload(bench: Bench, nics: tuple[Nic, Nic]) -> None:
    nics[1].device.inject("spill_header", {"bytes": 8})
    head, page, used = deliver(nics)
    assert fields(bench, head) == (CUT, CUT, 3, 0)
    assert (used, bench.load(page[0], SIZE + 8)) == (24 + len(FRAME) + 8, FRAME[CUT - 8 :])
    nics[1].wait_stat("payload_to_host", SIZE + 8)
    nics[1].device.inject("payload_to_header", {"bytes": 8})
    head, page, used = deliver(nics)
    assert fields(bench, head) == (CUT, CUT, 3, 0)
    assert bench.load(head[0] + 24, CUT + 8) == FRAME[: CUT + 8]
    assert bench.load(page[0], SIZE) == FRAME[CUT:]


def test_completion_before_data(bench: Bench, nics: tuple[Nic, Nic]) -> None:
    nics[1].device.inject("completion_before_data", {"ms": 100})
    head, page, used = deliver(nics)
    assert used == 24 + len(FRAME)
    assert bench.load(page[0], SIZE) == b"\xee" * SIZE
    eventually(lambda: bench.load(page[0], SIZE) == FRAME[CUT:], "the data comes")
    assert fields(bench, head) == (CUT, CUT, 3, 0)


def test_a_queue_reset_ends_data_that_was_put_off(bench: Bench, nics: tuple[Nic, Nic]) -> None:
    right = nics[1]
    right.device.inject("completion_before_data", {"ms": 50})
    _, page, _ = deliver(nics)
    right.reset_queue(0)
    assert not right.queue_resetting(0)
    time.sleep(0.1)
    assert bench.load(page[0], SIZE) == b"\xee" * SIZE


def test_interrupts_are_lost_late_and_doubled(nics: tuple[Nic, Nic]) -> None:
    right = nics[1]
    right.device.inject("lose_interrupt", {})
    deliver(nics)
    right.wait_stat("rx_packets", 1)
    time.sleep(0.02)
    assert right.irqs(0) == 0
    right.device.inject("delay_interrupt", {"ms": 60})
    before = time.monotonic()
    deliver(nics)
    eventually(lambda: right.irqs(0) == 1, "the late interrupt comes")
    assert time.monotonic() - before >= 0.06
    right.device.inject("duplicate_interrupt", {})
    sent = right.stat("irqs")
    deliver(nics)
    right.wait_stat("irqs", sent + 2)


def test_packets_are_lost_or_astray(nics: tuple[Nic, Nic]) -> None:
    left, right = nics
    right.device.inject("drop_rx", {})
    left.send(FRAME)
    right.wait_stat("rx_drop_error", 1)
    right.device.inject("wrong_queue", {"queue": 0})
    right.post([2048], 1, 1)
    left.send(FRAME)
    assert right.receive(1)[24:] == FRAME
    right.device.inject("wrong_used_length", {"delta": -3})
    assert deliver(nics)[2] == 24 + len(FRAME) - 3


def test_queues_hang(nics: tuple[Nic, Nic]) -> None:
    left, right = nics
    right.device.inject("stop_refill", {"queue": 0})
    right.post([256, 4096])
    left.send(FRAME)
    right.wait_stat("rx_drop_no_buffer", 1)
    right.device.clear("stop_refill")
    left.device.inject("hang_tx", {})
    queue = left.queues[1]
    at = left.bench.alloc(12 + len(FRAME))
    left.bench.store(at + 12, FRAME)
    queue.add([(at, 12 + len(FRAME))], [])
    queue.kick()
    time.sleep(0.02)
    assert queue.used_idx() == queue.seen
    left.device.clear("hang_tx")
    queue.take()
    right.queues[0].take()


def test_a_reset_that_hangs(nics: tuple[Nic, Nic]) -> None:
    right = nics[1]
    right.device.inject("hang_reset", {"queue": 0})
    right.reset_queue(0)
    assert right.queue_resetting(0)
    right.reset_queue(0)
    right.device.clear("hang_reset")
    assert not right.queue_resetting(0)
    right.enable(0)


def test_the_ledger_sees_a_write_after_the_reset(bench: Bench, nics: tuple[Nic, Nic]) -> None:
    right = nics[1]
    ((_, page),) = right.post([256, 4096])
    right.device.inject("write_after_reset", {})
    right.reset_queue(0)
    right.wait_stat("q0.after_stop", 64)
    assert bench.load(page[0], 65) == b"\xa5" * 64 + b"\xee"
    eventually(lambda: len(bench.rig.violations) == 1, "the violation is told")
    assert f"{page[0]:#x}" in bench.rig.violations[0]


def test_needs_reset_and_link_down(nics: tuple[Nic, Nic]) -> None:
    left, right = nics
    right.device.inject("link_down", {})
    left.wait_stat("config_interrupts", 1)
    assert left.get(0x2006, 2) == right.get(0x2006, 2) == 0
    left.send(FRAME)
    left.wait_stat("tx_drop", 1)
    right.device.clear("link_down")
    eventually(lambda: left.get(0x2006, 2) == 1, "the link is up")
    assert not right.needs_reset()
    right.device.inject("needs_reset", {})
    assert right.needs_reset()
    assert right.stat("violations") == 0


def test_a_device_that_is_gone_breaks_no_rule(bench: Bench, nics: tuple[Nic, Nic]) -> None:
    left, right = nics
    right.device.inject("config_ones", {})
    eventually(lambda: left.get(0x2006, 2) == 0, "the peer has no carrier")
    left.send(FRAME)
    left.wait_stat("tx_drop", 1)
    left.device.inject("config_ones", {})
    at = bench.alloc(12 + len(FRAME))
    bench.store(at + 12, FRAME)
    left.queues[1].add([(at, 12 + len(FRAME))], [])
    left.queues[1].kick()
    right.post([256, 4096])
    right.device.clear("config_ones")
    left.device.clear("config_ones")
    left.queues[1].take()
    right.queues[0].take()
    right.device.inject("surprise_removal", {})
    eventually(lambda: left.get(0x2006, 2) == 0, "the peer has no carrier")
    left.send(FRAME)
    assert bench.rig.violations == []


def test_without_bus_mastering_nothing_is_read(bench: Bench, nics: tuple[Nic, Nic]) -> None:
    left, right = nics
    left.client.enable(0x2)
    queue, at = left.queues[1], bench.alloc(12 + len(FRAME))
    bench.store(at + 12, FRAME)
    queue.add([(at, 12 + len(FRAME))], [])
    queue.kick()
    time.sleep(0.02)
    assert queue.used_idx() == queue.seen
    left.client.enable(0x6)
    queue.take()
    right.wait_stat("rx_drop_no_buffer", 1)
    assert bench.rig.violations == []


def burst(nics: tuple[Nic, Nic], count: int) -> list[bytes]:
    """Send numbered frames; what arrives within the time that nothing more comes."""
    left, right = nics
    right.post([256, 4096], 30)
    start = right.stat("rx_packets")
    for number in range(count):
        left.send(ethernet(ipv4(tcp(bytes((number,)) * 40))))
    settled = -1
    while settled != right.stat("rx_packets"):
        settled = right.stat("rx_packets")
        time.sleep(0.05)
    queue, made = right.queues[0], []
    for _ in range(settled - start):
        head, page = queue.chains[queue.take()[0]][1]
        made.append(right.bench.load(head[0] + 24, CUT) + right.bench.load(page[0], 40))
    return made


def test_loss_duplication_and_corruption(nics: tuple[Nic, Nic]) -> None:
    left = nics[0]
    left.device.inject("wire_loss", {"percent": 100, "count": 3})
    assert [frame[-1] for frame in burst(nics, 5)] == [3, 4]
    left.device.inject("wire_duplicate", {"percent": 100, "count": 1})
    assert [frame[-1] for frame in burst(nics, 3)] == [0, 0, 1, 2]
    left.device.inject("wire_corrupt", {"percent": 100, "count": 1})
    left.send(ethernet(ipv4(tcp(b"x" * 1000))))
    left.wait_stat("tx_frames_corrupted", 1)
    assert (left.stat("tx_frames_lost"), left.stat("tx_frames_duplicated")) == (3, 1)


def test_a_corrupted_large_packet_arrives_as_segments(nics: tuple[Nic, Nic]) -> None:
    left, right = nics
    assert right.command(0xE0, 0, struct.pack("<HHI", 0, 0, 0)) == (0, b"")
    left.device.inject("wire_corrupt", {"percent": 100, "count": 1})
    right.post([2048], 4)
    frame = ethernet(ipv4(tcp(bytes(3000))))
    left.send(frame, struct.pack("<BBHHHHH", 1, 1, 54, 1000, 34, 16, 0))
    got = [right.receive()[24:] for _ in range(3)]
    assert [checksum_is_good(piece) for piece in got].count(False) <= 1
    whole = ethernet(ipv4(tcp(bytes(1000))))
    differing = [sum(a != b for a, b in zip(piece[54:], whole[54:], strict=True)) for piece in got]
    assert sum(differing) <= 1


def test_reordering_delay_and_rate(nics: tuple[Nic, Nic]) -> None:
    left, right = nics
    left.device.inject("wire_reorder", {"percent": 100, "count": 1})
    assert [frame[-1] for frame in burst(nics, 3)] == [1, 0, 2]
    left.device.inject("wire_delay", {"ms": 80})
    before = time.monotonic()
    assert [frame[-1] for frame in burst(nics, 3)] in ([0, 1, 2], [])
    eventually(lambda: right.stat("rx_packets") == 6, "the late frames come")
    assert time.monotonic() - before >= 0.08
    left.device.clear("wire_delay")
    left.device.inject("wire_rate", {"mbit": 0.1})
    before = time.monotonic()
    for _ in range(3):
        left.send(ethernet(ipv4(tcp(bytes(1000)))))
    eventually(lambda: right.stat("rx_packets") == 9, "all come")
    assert time.monotonic() - before >= 3 * 1054 * 8 / 100_000


def test_the_wire_draws_from_the_seed(bench: Bench) -> None:
    def losses(link: str) -> list[int]:
        pair = bench.nic(f"{link}-a", link=link), bench.nic(f"{link}-b", link=link)
        for nic in pair:
            nic.start(TSO)
        pair[0].device.random.seed("the same")
        pair[1].command(0xE0, 0, struct.pack("<HHI", 0, 0xF, 0))
        pair[0].device.inject("wire_loss", {"percent": 50})
        return [frame[-1] for frame in burst(pair, 20)]

    first = losses("x")
    assert 0 < len(first) < 20
    assert first == losses("y")


@pytest.mark.parametrize(
    ("fault", "args"),
    [
        ("lose_interrupt", {"queue": 2}),
        ("lose_interrupt", {"queue": "all"}),
        ("split_at_wrong_byte", {"delta": 65}),
        ("split_at_wrong_byte", {}),
        ("wire_loss", {"percent": 101}),
        ("wire_rate", {"mbit": 0}),
    ],
)
def test_bad_arguments_are_refused(nics: tuple[Nic, Nic], fault: str, args: dict[str, object]) -> None:
    with pytest.raises(ControlError):
        nics[0].device.inject(fault, args)
