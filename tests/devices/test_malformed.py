"""Property tests: whatever a client sends, the server answers or drops that connection, and lives on."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vfio_client import GET_INFO, HEADER, Client, ClientError, ConnectionLostError, Memory, Rig

from vfiodev.device import Device
from vfiodev.template import MODEL, regs

COMMANDS = st.integers(0, 20)
U32 = st.sampled_from(
    [0, 1, 2, 3, 4, 5, 8, 0x21, 0x24, 0xFFF, 0x1000, 0x4000, 1 << 31, 0xFFFFFFFF]
) | st.integers(0, 2**32 - 1)
U64 = st.sampled_from([0, 1, 0xFFF, 0x1000, 0x3FFC, 1 << 31, 1 << 63, 2**64 - 4096, 2**64 - 1]) | st.integers(
    0, 2**64 - 1
)
MANY = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Target:
    """A device that stays for all examples, with a new connection whenever the last was lost."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.device: Device = rig.make(MODEL)
        self.memory = Memory(1 << 20)
        self.client = self._connect()

    def _connect(self) -> Client:
        client = self.rig.connect(self.device)
        client.negotiate()
        client.enable()
        return client

    def is_alive(self) -> bool:
        """The connection, or else a new one, still answers; whether it was the same one."""
        try:
            self.client.enable()
            assert self.client.get(0, 0) == regs.MAGIC
        except ConnectionLostError:
            self.client.sock.close()
            self.rig.join()
            self.client = self._connect()
            assert self.client.get(0, 0) == regs.MAGIC
            return False
        return True

    def close(self) -> None:
        self.client.sock.close()
        self.rig.join()
        self.memory.close()


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    rig = Rig()
    made = Target(rig)
    yield made
    made.close()
    rig.close()
    assert rig.failures == []
    assert not [text for text in rig.violations if "the model failed" in text]


def exchange(target: Target, command: int, payload: bytes, fds: tuple[int, ...] = (), flags: int = 0) -> None:
    """Send one well-framed message; it must be answered unless the message is a reply or wants none."""
    ident = target.client.send(command, payload, fds, flags)
    if flags & 0xF != 1 and not flags & 0x10:
        got, reply = target.client.recv()
        assert got == ident
        assert reply.flags & 0xF == 1
        for fd in reply.fds:
            os.close(fd)


@MANY
@given(command=COMMANDS, payload=st.binary(max_size=200))
def test_random_payload_is_answered(target: Target, command: int, payload: bytes) -> None:
    exchange(target, command, payload)
    assert target.is_alive()


@MANY
@given(
    command=COMMANDS,
    words=st.lists(U32, max_size=12),
    flags=st.integers(0, 0x3F),
    count=st.integers(0, 18),
)
def test_random_words_flags_and_descriptors(
    target: Target, command: int, words: list[int], flags: int, count: int
) -> None:
    payload = struct.pack(f"<{len(words)}I", *words)
    before = open_descriptors()
    exchange(target, command, payload, (target.memory.fd,) * count, flags)
    assert target.is_alive()
    assert open_descriptors() <= before + 2


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@MANY
@given(command=st.sampled_from([9, 10]), offset=U64, region=U32, count=U32, size=st.integers(0, 64))
def test_region_accesses(
    target: Target, command: int, offset: int, region: int, count: int, size: int
) -> None:
    exchange(target, command, struct.pack("<QII", offset, region, count) + b"\xa5" * size)
    assert target.is_alive()


@MANY
@given(flags=U32, offset=U64, address=U64, size=U64, has_fd=st.booleans())
def test_maps_never_reach_beyond_the_file(
    target: Target, flags: int, offset: int, address: int, size: int, has_fd: bool
) -> None:
    fds = (target.memory.fd,) if has_fd else ()
    exchange(target, 2, struct.pack("<IIQQQ", 32, flags, offset, address, size), fds)
    exchange(target, 3, struct.pack("<IIQQ", 24, flags, address, size))
    assert target.is_alive()
    exchange(target, 3, struct.pack("<IIQQ", 24, 2, 0, 0))


@MANY
@given(flags=U32, index=U32, start=U32, count=U32, data=st.binary(max_size=40), fds=st.integers(0, 4))
def test_interrupt_requests(
    target: Target, flags: int, index: int, start: int, count: int, data: bytes, fds: int
) -> None:
    payload = struct.pack("<IIIII", 20 + len(data), flags, index, start, count) + data
    exchange(target, 8, payload, (target.memory.fd,) * fds)
    assert target.is_alive()


@MANY
@given(data=st.binary(min_size=1, max_size=300))
def test_random_bytes_end_at_most_this_connection(target: Target, data: bytes) -> None:
    target.client.send_raw(data)
    target.client.sock.close()
    target.rig.join()
    target.client = target._connect()
    assert target.is_alive()


@MANY
@given(size=st.integers(16, 200), cut=st.integers(0, 199), command=COMMANDS)
def test_truncated_message(target: Target, size: int, cut: int, command: int) -> None:
    data = HEADER.pack(1, command, size, 0, 0) + b"\0" * (size - 16)
    target.client.send_raw(data[: min(cut, size - 1)])
    target.client.sock.close()
    target.rig.join()
    target.client = target._connect()
    assert target.is_alive()


@MANY
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0x4, 0x8, 0xC, 0x10, 0x18, 0x20, 0x24, 0x28, 0x3FFF]), U64, st.integers(1, 8)
        ),
        max_size=8,
    )
)
def test_a_hostile_driver(target: Target, writes: list[tuple[int, int, int]]) -> None:
    for offset, value, width in writes:
        payload = struct.pack("<QII", offset, 0, width) + value.to_bytes(8, "little")[:width]
        exchange(target, 10, payload)
    assert target.is_alive()


def test_pipelined_messages_keep_order_and_descriptors(rig: Rig, device: Device) -> None:
    memory = Memory(1 << 20)
    with rig.client(device) as client:
        idents = []
        for at in range(8):
            payload = struct.pack("<IIQQQ", 32, 3, at * 0x1000, at * 0x1000, 0x1000)
            idents.append(client.send(2, payload, (memory.fd,) if at % 2 else ()))
            idents.append(client.send(9, struct.pack("<QII", 0, 0, 4)))
        assert [client.recv()[0] for _ in idents] == idents
        assert len(device.dma.memory) == 8
        device.dma.write(0x1000, b"x")
        assert memory.map[0x1000:0x1001] == b"x"
    memory.close()


def test_one_byte_at_a_time(rig: Rig, device: Device) -> None:
    with rig.client(device) as client:
        data = HEADER.pack(9, 9, 32, 0, 0) + struct.pack("<QII", 0, 0, 4)
        for value in data:
            client.send_raw(bytes([value]))
        ident, reply = client.recv()
        assert (ident, reply.payload[16:]) == (9, regs.MAGIC.to_bytes(4, "little"))


def test_more_descriptors_than_a_message_may_carry(rig: Rig, device: Device) -> None:
    memory = Memory(4096)
    with rig.client(device) as client:
        with pytest.raises(ClientError) as caught:
            client.ask(GET_INFO, struct.pack("<IIII", 16, 0, 0, 0), (memory.fd,) * 40)
        assert caught.value.code == errno.EMFILE
        assert client.get(0, 0) == regs.MAGIC
    memory.close()


def test_largest_transfer_and_one_more(rig: Rig, device: Device) -> None:
    with rig.client(device) as client:
        assert len(client.read(0, 0, 0x4000)) == 0x4000
        client.write(0, 0, bytes(0x4000))
        client.send_raw(HEADER.pack(1, 10, 32 + (1 << 16) + 257, 0, 0))
        with pytest.raises(ConnectionLostError):
            client.recv()
