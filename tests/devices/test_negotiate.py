"""Greeting, device, region and interrupt information."""

import struct

import pytest
from vfio_client import GET_INFO, GET_IRQ_INFO, VERSION, Client, ClientError, ConnectionLostError, Rig

from vfiodev.device import Device


def test_capabilities_are_a_subset_of_those_proposed(rig: Rig, device: Device) -> None:
    with rig.connect(device) as client:
        found = client.negotiate({"max_msg_fds": 8, "pgsizes": 4096})
        assert set(found) == {"max_msg_fds", "pgsizes"}


def test_version_without_capabilities(rig: Rig, device: Device) -> None:
    with rig.connect(device) as client:
        reply = client.ask(VERSION, struct.pack("<HH", 0, 3))
        assert struct.unpack_from("<HH", reply.payload) == (0, 0)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0",
        struct.pack("<HH", 1, 0),
        struct.pack("<HH", 0, 0) + b"{}",
        struct.pack("<HH", 0, 0) + b"nonsense\0",
        struct.pack("<HH", 0, 0) + b"[" * 20000 + b"\0",
        struct.pack("<HH", 0, 0) + b'{"capabilities": 3}\0',
        struct.pack("<HH", 0, 0) + b'{"capabilities": {"max_data_xfer_size": -1}}\0',
        struct.pack("<HH", 0, 0) + b'{"capabilities": {"max_data_xfer_size": true}}\0',
        struct.pack("<HH", 0, 0) + b"\xff\xfe\0",
    ],
)
def test_bad_greeting_is_answered_and_can_be_repeated(rig: Rig, device: Device, payload: bytes) -> None:
    with rig.connect(device) as client:
        with pytest.raises(ClientError):
            client.ask(VERSION, payload)
        client.negotiate()


def test_nothing_works_before_the_greeting(rig: Rig, device: Device) -> None:
    with rig.connect(device) as client:
        with pytest.raises(ClientError):
            client.read(0, 0, 4)
        client.negotiate()
        with pytest.raises(ClientError):
            client.negotiate()


def test_device_and_region_info(client: Client) -> None:
    reply = client.ask(GET_INFO, struct.pack("<IIII", 16, 0, 0, 0))
    assert struct.unpack("<IIII", reply.payload) == (16, 3, 9, 5)
    assert client.region_info(0) == (3, 0x4000, [])
    assert client.region_info(7) == (3, 4096, [])
    assert client.region_info(6) == (0, 0, [])
    with pytest.raises(ClientError):
        client.region_info(9)


def test_irq_info(client: Client) -> None:
    counts = []
    for index in range(5):
        reply = client.ask(GET_IRQ_INFO, struct.pack("<IIII", 16, 0, index, 0))
        counts.append(struct.unpack("<IIII", reply.payload)[3])
    assert counts == [0, 0, 2, 0, 0]
    with pytest.raises(ClientError):
        client.ask(GET_IRQ_INFO, struct.pack("<IIII", 16, 0, 5, 0))


@pytest.mark.parametrize("size", [0, 15, 1 << 17, 0xFFFFFFFF])
def test_impossible_size_drops_only_this_connection(rig: Rig, device: Device, size: int) -> None:
    with rig.connect(device) as client:
        client.negotiate()
        client.send_raw(struct.pack("<HHIII", 1, 9, size, 0, 0) + b"\0" * 32)
        with pytest.raises(ConnectionLostError):
            client.recv()
    rig.join()
    with rig.client(device) as client:
        assert client.get(0, 0) == 0x5B7E0001
