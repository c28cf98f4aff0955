"""Interrupts: eventfds, masks, triggers, de-assignment, bad requests."""

import dataclasses
import os
import struct
from collections.abc import Iterator, Mapping

import pytest
from vfio_client import (
    DEVICE_RESET,
    DMA_WRITE,
    GET_IRQ_INFO,
    IRQ_BOOL,
    IRQ_EVENTFD,
    IRQ_MASK,
    IRQ_NONE,
    IRQ_TRIGGER,
    IRQ_UNMASK,
    MSI,
    REGION_READ,
    REGION_WRITE,
    SET_IRQS,
    Client,
    ClientError,
    Rig,
)

from vfiodev.device import Description, Device
from vfiodev.irq import INTX
from vfiodev.template import MODEL, regs
from vfiodev.template.device import Template


@pytest.fixture
def eventfds() -> Iterator[list[int]]:
    made = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
    yield made
    for fd in made:
        os.close(fd)


def signalled(fd: int) -> int:
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


def test_doorbell_raises_its_vector(client: Client, device: Device, eventfds: list[int]) -> None:
    client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, 2, fds=tuple(eventfds))
    client.put(0, regs.DOORBELL.offset, 1)
    assert (signalled(eventfds[0]), signalled(eventfds[1])) == (0, 1)
    client.put(0, regs.DOORBELL.offset, 0)
    assert (signalled(eventfds[0]), signalled(eventfds[1])) == (1, 0)
    client.put(0, regs.DOORBELL.offset, 7)
    assert device.stats.get("violations") == 1


def test_bus_master_off_sends_nothing(client: Client, eventfds: list[int]) -> None:
    client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, 1, fds=(eventfds[0],))
    client.enable(0x2)
    client.put(0, regs.DOORBELL.offset, 0)
    assert signalled(eventfds[0]) == 0


def test_mask_keeps_pending_until_unmask(client: Client, eventfds: list[int]) -> None:
    client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, 2, fds=tuple(eventfds))
    client.set_irqs(IRQ_BOOL | IRQ_MASK, 0, 2, b"\1\0")
    client.put(0, regs.DOORBELL.offset, 0)
    client.put(0, regs.DOORBELL.offset, 1)
    assert (signalled(eventfds[0]), signalled(eventfds[1])) == (0, 1)
    assert client.get(0, regs.MSIX_PBA, 8) == 1
    client.set_irqs(IRQ_NONE | IRQ_UNMASK, 0, 2)
    assert signalled(eventfds[0]) == 1
    assert client.get(0, regs.MSIX_PBA, 8) == 0


def test_client_triggers(client: Client, eventfds: list[int]) -> None:
    client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, 2, fds=tuple(eventfds))
    client.set_irqs(IRQ_BOOL | IRQ_TRIGGER, 0, 2, b"\0\1")
    assert (signalled(eventfds[0]), signalled(eventfds[1])) == (0, 1)
    client.set_irqs(IRQ_NONE | IRQ_TRIGGER, 0, 1)
    assert (signalled(eventfds[0]), signalled(eventfds[1])) == (1, 0)


def test_deassign_and_disable(client: Client, device: Device, eventfds: list[int]) -> None:
    client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, 2, fds=tuple(eventfds))
    client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, 1)
    client.put(0, regs.DOORBELL.offset, 0)
    assert signalled(eventfds[0]) == 0
    client.set_irqs(IRQ_NONE | IRQ_TRIGGER, 0, 0)
    client.put(0, regs.DOORBELL.offset, 1)
    assert signalled(eventfds[1]) == 0
    assert device.stats.get("irqs_unsent") == 2


def test_a_full_eventfd_does_not_block(client: Client, eventfds: list[int]) -> None:
    client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, 1, fds=(eventfds[0],))
    os.eventfd_write(eventfds[0], 2**64 - 2)
    client.put(0, regs.DOORBELL.offset, 0)
    assert client.get(0, 0) == regs.MAGIC


def test_reset_keeps_the_eventfds(client: Client, eventfds: list[int]) -> None:
    client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, 1, fds=(eventfds[0],))
    client.put(7, 0x50, 0x8000, 2)
    client.enable()
    client.put(0, regs.DOORBELL.offset, 0)
    assert signalled(eventfds[0]) == 1


def test_msi_vectors_the_guest_did_not_get_fall_on_the_first(rig: Rig, eventfds: list[int]) -> None:
    with rig.client(rig.make(MODEL, interrupts="msi")) as client:
        client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, 1, fds=(eventfds[0],), index=MSI)
        client.put(0, regs.DOORBELL.offset, 1)
        assert signalled(eventfds[0]) == 1


@pytest.mark.parametrize(
    ("flags", "index", "start", "count", "data"),
    [
        (IRQ_NONE, 2, 0, 1, b""),
        (IRQ_TRIGGER, 2, 0, 1, b""),
        (IRQ_NONE | IRQ_BOOL | IRQ_TRIGGER, 2, 0, 1, b"\1"),
        (IRQ_NONE | IRQ_TRIGGER | IRQ_MASK, 2, 0, 1, b""),
        (IRQ_NONE | IRQ_TRIGGER | 0x80, 2, 0, 1, b""),
        (IRQ_NONE | IRQ_TRIGGER, 2, 0, 3, b""),
        (IRQ_NONE | IRQ_TRIGGER, 2, 2, 1, b""),
        (IRQ_NONE | IRQ_TRIGGER, 2, 0xFFFFFFFF, 1, b""),
        (IRQ_NONE | IRQ_TRIGGER, 2, 1, 0xFFFFFFFF, b""),
        (IRQ_NONE | IRQ_TRIGGER, 9, 0, 0, b""),
        (IRQ_NONE | IRQ_TRIGGER, 0, 0, 1, b""),
        (IRQ_BOOL | IRQ_MASK, 2, 0, 2, b"\1"),
        (IRQ_NONE | IRQ_MASK, 2, 0, 1, b"\1"),
        (IRQ_EVENTFD | IRQ_MASK, 2, 0, 1, b""),
    ],
)
def test_bad_requests(client: Client, flags: int, index: int, start: int, count: int, data: bytes) -> None:
    with pytest.raises(ClientError):
        client.set_irqs(flags, start, count, data, index=index)
    assert client.get(0, 0) == regs.MAGIC


def test_descriptors_that_do_not_fit(client: Client, eventfds: list[int]) -> None:
    read_end, write_end = os.pipe()
    for fds, count in (((read_end,), 1), ((eventfds[0],), 2), (tuple(eventfds), 1)):
        with pytest.raises(ClientError):
            client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, count, fds=fds)
    with pytest.raises(ClientError):
        client.ask(SET_IRQS, struct.pack("<IIIII", 20, IRQ_NONE | IRQ_TRIGGER, 2, 0, 1), (eventfds[0],))
    os.close(read_end)
    os.close(write_end)


class Old(Template):
    """The template with INTx."""

    @classmethod
    def describe(cls, params: Mapping[str, object]) -> Description:
        return dataclasses.replace(Template.describe(params), has_intx=True)


def test_intx_is_masked_by_itself_and_raised_again_while_high(rig: Rig, eventfds: list[int]) -> None:
    device = rig.make(Old)
    with rig.client(device) as client:
        assert client.get(7, 0x3D, 1) == 1
        client.set_irqs(IRQ_EVENTFD | IRQ_TRIGGER, 0, 1, fds=(eventfds[0],), index=INTX)
        device.irq.set_intx(True)
        device.irq.set_intx(True)
        assert signalled(eventfds[0]) == 1
        client.set_irqs(IRQ_NONE | IRQ_UNMASK, 0, 1, index=INTX)
        assert signalled(eventfds[0]) == 1
        device.irq.set_intx(False)
        client.set_irqs(IRQ_NONE | IRQ_UNMASK, 0, 1, index=INTX)
        assert signalled(eventfds[0]) == 0
        device.irq.set_intx(True)
        assert signalled(eventfds[0]) == 1


def interrupts(client: Client) -> list[tuple[int, int]]:
    """The messages that the device wrote before it answers the next read."""
    ident = client.send(REGION_READ, struct.pack("<QII", 0, 0, 4))
    found = []
    while True:
        got, message = client.recv()
        if message.command == REGION_READ:
            assert got == ident
            return found
        assert (message.command, message.flags) == (DMA_WRITE, 0x10)
        address, count, data = struct.unpack("<QQI", message.payload)
        assert count == 4
        found.append((address, data))


def set_entry(client: Client, vector: int, address: int, data: int, masked: int) -> None:
    client.write(0, regs.MSIX_TABLE + 16 * vector, struct.pack("<QII", address, data, masked))


def test_own_msix_is_hidden_until_the_client_resets_the_device(rig: Rig) -> None:
    with rig.connect(rig.make(MODEL, interrupts="msix-own")) as client:
        client.negotiate()
        assert client.get(7, 0x84, 3) == 0x0C0009, "a vendor-specific capability of 12 bytes"
        reply = client.ask(GET_IRQ_INFO, struct.pack("<IIII", 16, 0, 2, 0))
        assert struct.unpack("<IIII", reply.payload)[3] == 0
        client.ask(DEVICE_RESET)
        assert client.get(7, 0x84) == 0x00010011
        assert client.get(7, 0x88) == regs.MSIX_TABLE
    rig.join()


def test_own_msix_sends_memory_writes(rig: Rig) -> None:
    device = rig.make(MODEL, interrupts="msix-own")
    with rig.client(device) as client:
        client.ask(DEVICE_RESET)
        client.enable()
        assert client.read(0, regs.MSIX_TABLE, 32) == struct.pack("<QII", 0, 0, 1) * 2
        set_entry(client, 0, 0xFEE00000, 0x41, 0)
        set_entry(client, 1, 0xFEE01000, 0x42, 1)
        client.send(REGION_WRITE, struct.pack("<QIII", regs.DOORBELL.offset, 0, 4, 0), flags=0x10)
        assert interrupts(client) == [], "disabled"
        client.put(7, 0x86, 0x8000, 2)
        for vector in (1, 0):
            client.send(REGION_WRITE, struct.pack("<QIII", regs.DOORBELL.offset, 0, 4, vector), flags=0x10)
        assert interrupts(client) == [(0xFEE00000, 0x41)]
        assert client.get(0, regs.MSIX_PBA, 8) == 2
        unmask = struct.pack("<QIII", regs.MSIX_TABLE + 28, 0, 4, 0)
        client.send(REGION_WRITE, unmask, flags=0x10)
        assert interrupts(client) == [(0xFEE01000, 0x42)]
        client.put(7, 0x86, 0xC000, 2)
        client.put(0, regs.DOORBELL.offset, 0)
        assert interrupts(client) == [], "function mask"
        client.ask(DEVICE_RESET)
        client.enable()
        assert client.get(0, regs.MSIX_PBA, 8) == 0
        assert device.stats.get("irqs_unsent") == 1
