"""DMA: maps, bounds, permissions, unmapping, peers, messages through the client."""

import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping

import pytest
from vfio_client import CONFIG, DMA_MAP, DMA_READ, DMA_WRITE, Client, ClientError, Memory, Rig

from vfiodev.device import Description, Device
from vfiodev.errors import DmaError, StoppedError
from vfiodev.function import Bar
from vfiodev.pci import Identity
from vfiodev.template import regs
from vfiodev.work import Worker

MIB = 1 << 20


class Card(Device):
    """A card with 1 MiB of memory in BAR 2."""

    @classmethod
    def describe(cls, params: Mapping[str, object]) -> Description:
        return Description(
            identity=Identity(vendor=0x1234, device=1, class_code=0x030000),
            bars=(
                Bar(index=0, size=0x4000, registers=regs.REGISTERS),
                Bar(index=2, size=MIB, prefetchable=True),
            ),
        )


@pytest.fixture(params=[True, False], ids=["sealed", "unsealed"])
def memory(request: pytest.FixtureRequest) -> Iterator[Memory]:
    made = Memory(4 * MIB, sealed=request.param)
    yield made
    made.close()


def test_read_and_write_cross_adjacent_maps(client: Client, device: Device, memory: Memory) -> None:
    client.dma_map(0x10000, 0x1000, memory.fd, 0x2000)
    client.dma_map(0x11000, 0x1000, memory.fd, 0)
    device.dma.write(0x10FFC, b"abcdefgh")
    assert memory.map[0x2FFC:0x3000] == b"abcd"
    assert memory.map[0:4] == b"efgh"
    assert device.dma.read(0x10FFC, 8) == b"abcdefgh"
    device.dma.write_u64(0x10008, 0x1122334455667788)
    assert device.dma.read_u32(0x10008) == 0x55667788
    with device.dma.view(0x10FFC, 8, writable=True) as view:
        view[:] = b"01234567"
    assert device.dma.read(0x10FFC, 8) == b"01234567"
    device.dma.copy(0x10FFC, 0x11800, 8)
    assert memory.map[0x800:0x808] == b"01234567"


@pytest.mark.parametrize(
    ("address", "length"), [(0xFFF, 2), (0x10000, 0x1001), (0x11000, 1), (2**64 - 1, 2), (0x10000, 65 * MIB)]
)
def test_outside_of_what_was_mapped(
    client: Client, device: Device, memory: Memory, address: int, length: int
) -> None:
    client.dma_map(0x10000, 0x1000, memory.fd)
    with pytest.raises(DmaError):
        device.dma.read(address, length)
    with pytest.raises(DmaError), device.dma.view(address, length):
        pass
    before = memory.map[0x1000:]
    with pytest.raises(DmaError):
        device.dma.write(address, b"x" * length)
    assert memory.map[0x1000:] == before
    with pytest.raises(DmaError):
        device.dma.read_u32(0x10002)


def test_read_only_map(client: Client, device: Device, memory: Memory) -> None:
    client.dma_map(0, 0x1000, memory.fd, flags=1)
    assert device.dma.read(0, 4) == b"\0" * 4
    with pytest.raises(DmaError):
        device.dma.write(0, b"x")
    with pytest.raises(DmaError), device.dma.view(0, 4, writable=True) as view:
        view[0] = 1
    assert memory.map[0:4] == b"\0" * 4


def test_bus_master_off_refuses(client: Client, device: Device, memory: Memory) -> None:
    client.dma_map(0, 0x1000, memory.fd)
    client.put(CONFIG, 4, 0x2, 2)
    with pytest.raises(DmaError):
        device.dma.read(0, 4)
    client.enable()
    assert device.dma.read(0, 4) == b"\0" * 4
    assert device.stats.get("dma_errors") == 1


@pytest.mark.parametrize(
    ("address", "size", "offset", "flags"),
    [
        (0, 0, 0, 3),
        (2**64 - 0x1000, 0x2000, 0, 3),
        (0, 0x1000, 2**64 - 0x1000, 3),
        (0, 0x1000, 4 * MIB, 3),
        (0, 4 * MIB + 1, 0, 3),
        (0, 0x1000, 1, 3),
        (0, 0x1000, 0, 0),
        (0, 0x1000, 0, 2),
        (0, 0x1000, 0, 0x10),
        (0x100800, 0x1000, 0, 3),
        (0xFF000, 0x200000, 0, 3),
    ],
)
def test_bad_maps_change_nothing(
    client: Client, device: Device, memory: Memory, address: int, size: int, offset: int, flags: int
) -> None:
    client.dma_map(0x100000, 0x1000, memory.fd)
    with pytest.raises(ClientError):
        client.dma_map(address, size, memory.fd, offset, flags)
    assert len(device.dma.memory) == 1


def test_map_over_a_map_is_eexist(client: Client, memory: Memory) -> None:
    client.dma_map(0x1000, 0x3000, memory.fd)
    with pytest.raises(ClientError) as caught:
        client.dma_map(0x2000, 0x1000, memory.fd)
    assert caught.value.code == 17


def test_unmap_semantics(client: Client, device: Device, memory: Memory) -> None:
    for at in range(0, 0x4000, 0x1000):
        client.dma_map(at, 0x1000, memory.fd, at)
    with pytest.raises(ClientError):
        client.dma_unmap(0x800, 0x1000)
    with pytest.raises(ClientError):
        client.dma_unmap(0x8000, 0x1000)
    client.dma_unmap(0x1000, 0x2000)
    assert len(device.dma.memory) == 2
    with pytest.raises(DmaError):
        device.dma.read(0x1000, 1)
    client.dma_map(0x1000, 0x1000, memory.fd, 0x3000)
    device.dma.write(0x1000, b"new")
    assert memory.map[0x3000:0x3003] == b"new"
    with pytest.raises(ClientError):
        client.dma_unmap(0, 0x1000, flags=2)
    client.dma_unmap(0, 0, flags=2)
    assert len(device.dma.memory) == 0


def test_wrong_descriptors(client: Client, device: Device, memory: Memory) -> None:
    read_end, write_end = os.pipe()
    payload = struct.pack("<IIQQQ", 32, 3, 0, 0, 0x1000)
    for fds in ((read_end,), (memory.fd, memory.fd), (memory.fd,) * 20):
        with pytest.raises(ClientError):
            client.ask(DMA_MAP, payload, fds)
    os.close(read_end)
    os.close(write_end)
    assert len(device.dma.memory) == 0
    assert client.get(0, 0) == regs.MAGIC


def test_shrunk_file_is_an_error_not_a_crash(client: Client, device: Device) -> None:
    memory = Memory(MIB, sealed=False)
    client.dma_map(0, MIB, memory.fd)
    memory.map.close()
    os.ftruncate(memory.fd, 0)
    with pytest.raises(DmaError):
        device.dma.read(0, 4096)
    with pytest.raises(DmaError):
        device.dma.write(0, b"x" * 4096)
    os.close(memory.fd)


def test_unmap_waits_for_a_view(client: Client, device: Device) -> None:
    memory = Memory(MIB)
    client.dma_map(0, 0x1000, memory.fd)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with device.dma.view(0, 16):
            entered.set()
            leave.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(5)
    threading.Timer(0.2, leave.set).start()
    start = time.monotonic()
    client.dma_unmap(0, 0x1000)
    assert time.monotonic() - start > 0.1
    holder.join(5)
    memory.close()


def test_peer_bar_is_reached_inside_the_host(rig: Rig, memory: Memory) -> None:
    gpu, nic = rig.make(Card, "gpu0"), rig.make(Card, "nic0")
    with rig.client(gpu) as gpu_client, rig.client(nic) as nic_client:
        gpu_client.put(CONFIG, 0x18, 0xD0000000)
        gpu_client.put(CONFIG, 0x1C, 0x1)
        gpu_client.put(CONFIG, 0x10, 0xE0000000)
        nic_client.dma_map(0x1_D0000000, MIB, None)
        nic_client.dma_map(0, MIB, memory.fd)
        memory.map[0:5] = b"hello"
        nic.dma.copy(0, 0x1_D0000010, 5)
        assert bytes(gpu.memory(2)[0x10:0x15]) == b"hello"
        flags, size, fds = gpu_client.region_info(2)
        assert (flags, size, len(fds)) == (7, MIB, 1)
        with pytest.raises(DmaError):
            nic.dma.write(0x1_D00FFFFF, b"ab")
        with pytest.raises(DmaError):
            nic.dma.read(0xE0000000, 4)
        nic_client.dma_unmap(0x1_D0000000, MIB)
        gpu_client.put(CONFIG, 4, 0x4, 2)
        with pytest.raises(DmaError):
            nic.dma.write(0x1_D0000010, b"a")
        os.close(fds[0])
    assert rig.peers.find(0x1_D0000010) is None


def test_memory_without_descriptor_goes_through_the_client(rig: Rig) -> None:
    device = rig.make(Card)
    with rig.connect(device) as client:
        client.negotiate({"max_data_xfer_size": 4096})
        client.enable()
        client.dma_map(0x1000, 0x4000, None)
        got: list[bytes] = []
        worker = threading.Thread(target=lambda: got.append(device.dma.read(0x1000, 5000)))
        worker.start()
        for address, count in ((0x1000, 4096), (0x2000, 904)):
            ident, message = client.recv()
            assert message.command == DMA_READ
            assert struct.unpack("<QQ", message.payload) == (address, count)
            client.send_raw(
                struct.pack("<HHIII", ident, DMA_READ, 32 + count, 1, 0) + message.payload + b"z" * count
            )
        worker.join(5)
        assert got == [b"z" * 5000]

        errors: list[DmaError] = []

        def write() -> None:
            try:
                device.dma.write(0x1000, b"abc")
            except DmaError as error:
                errors.append(error)

        worker = threading.Thread(target=write)
        worker.start()
        ident, message = client.recv()
        assert (message.command, message.payload[16:]) == (DMA_WRITE, b"abc")
        client.send_raw(struct.pack("<HHIII", ident, DMA_WRITE, 16, 0x21, 14))
        worker.join(5)
        assert len(errors) == 1
        with device.lock, pytest.raises(DmaError, match="lock"):
            device.dma.read(0x1000, 4)


def test_a_stopped_worker_can_touch_nothing(client: Client, device: Device, memory: Memory) -> None:
    client.dma_map(0, 0x1000, memory.fd)
    outcome: list[str] = []
    ready, stopped = threading.Event(), threading.Event()

    def body(worker: Worker) -> None:
        ready.set()
        stopped.wait(5)
        try:
            device.dma.write(0, b"late")
        except StoppedError:
            outcome.append("stopped")

    device.workers.start("late", body)
    ready.wait(5)
    with device.lock:
        device.workers.stop_all()
    stopped.set()
    deadline = time.monotonic() + 5
    while not outcome and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert outcome == ["stopped"]
    assert memory.map[0:4] == b"\0" * 4


def test_echo_engine_end_to_end(client: Client, device: Device, memory: Memory) -> None:
    client.dma_map(0x100000, MIB, memory.fd)
    memory.map[0:6] = b"vfio!!"
    client.put(0, regs.ECHO_SOURCE.offset, 0x100000, 8)
    client.put(0, regs.ECHO_TARGET.offset, 0x100800, 8)
    client.put(0, regs.ECHO_LENGTH.offset, 6)
    assert device.stats.wait("echoes", 1, 20) == 1
    assert client.get(0, regs.STATUS.offset) == regs.STATUS_DONE
    client.put(0, regs.STATUS.offset, regs.STATUS_DONE)
    assert client.get(0, regs.STATUS.offset) == 0
    assert memory.map[0x800:0x806] == b"vfio!!"
