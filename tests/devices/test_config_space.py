"""Config space: header, capability list, BAR sizing, command register, resets."""

import pytest
from vfio_client import CONFIG, DEVICE_RESET, Client, ClientError, Rig

from vfiodev.device import Device
from vfiodev.errors import ConfigError, RangeError
from vfiodev.pci import BarShape, Identity, MsixLayout, PciConfig
from vfiodev.template import MODEL, regs

DEVCTL = 0x48 + 8


def capabilities(client: Client) -> dict[int, int]:
    found = {}
    at = client.get(CONFIG, 0x34, 1)
    while at:
        found[client.get(CONFIG, at, 1)] = at
        at = client.get(CONFIG, at + 1, 1)
    return found


def test_identity_and_capability_list(client: Client) -> None:
    assert client.get(CONFIG, 0, 4) == 0x7E571234
    assert client.get(CONFIG, 8, 4) == 0xFF000000
    found = capabilities(client)
    assert set(found) == {0x01, 0x10, 0x11}
    assert client.get(CONFIG, found[0x10] + 4) & 1 << 28, "FLR capable"
    assert client.get(CONFIG, found[0x11] + 2, 2) == regs.VECTORS - 1
    assert client.get(CONFIG, found[0x11] + 4) == regs.MSIX_TABLE


def test_msi_instead_of_msix(rig: Rig) -> None:
    with rig.client(rig.make(MODEL, interrupts="msi")) as client:
        found = capabilities(client)
        assert set(found) == {0x01, 0x10, 0x05}
        assert client.get(CONFIG, found[0x05] + 2, 2) == 0x82, "64 bit, two vectors"


def test_bar_sizing_keeps_the_type_bits(client: Client) -> None:
    client.put(CONFIG, 4, 0, 2)
    client.put(CONFIG, 0x10, 0xFFFFFFFF)
    client.put(CONFIG, 0x14, 0xFFFFFFFF)
    assert client.get(CONFIG, 0x10, 8) == (1 << 64) - 0x4000 | 4
    client.put(CONFIG, 0x18, 0xFFFFFFFF)
    assert client.get(CONFIG, 0x18) == 0


def test_read_only_bits_stay(client: Client) -> None:
    before = client.read(CONFIG, 0, 64)
    client.write(CONFIG, 0, b"\xff" * 4)
    client.write(CONFIG, 0x2C, b"\xff" * 4)
    client.write(CONFIG, 0x34, b"\xff")
    assert client.read(CONFIG, 0, 64) == before


def test_without_memory_decoding_all_ones_and_no_effect(client: Client) -> None:
    client.put(0, 4, 0x11)
    client.put(CONFIG, 4, 0x4, 2)
    client.put(0, 4, 0x22)
    assert client.get(0, 4) == 0xFFFFFFFF
    client.enable()
    assert client.get(0, 4) == 0x11


def test_flr_resets_registers_and_command_but_not_bars(client: Client, device: Device) -> None:
    client.put(CONFIG, 0x10, 0xFE200004)
    client.put(0, 4, 0xAA)
    client.put(CONFIG, DEVCTL, 0x8000 | client.get(CONFIG, DEVCTL, 2), 2)
    assert client.get(CONFIG, DEVCTL, 2) & 0x8000 == 0
    assert client.get(CONFIG, 4, 2) == 0
    assert client.get(CONFIG, 0x10) == 0xFE200004
    client.enable()
    assert client.get(0, 4) == 0
    assert device.stats.get("resets") == 2


def test_reset_message(client: Client, device: Device) -> None:
    client.put(0, 4, 0xAA)
    client.ask(DEVICE_RESET)
    client.enable()
    assert client.get(0, 4) == 0
    with pytest.raises(ClientError):
        client.ask(DEVICE_RESET, b"x")


def test_disconnect_is_a_power_cycle(rig: Rig, device: Device) -> None:
    with rig.client(device) as client:
        client.put(0, 4, 0xAA)
        client.put(CONFIG, 0x10, 0xFE200004)
    with rig.connect(device) as client:
        client.negotiate()
        assert client.get(CONFIG, 4, 2) == 0
        assert client.get(CONFIG, 0x10) == 4
        client.enable()
        assert client.get(0, 4) == 0


@pytest.mark.parametrize(("offset", "count"), [(4096, 1), (4095, 2), (0, 4097), (1 << 63, 4), (2**64 - 1, 4)])
def test_config_space_bounds(client: Client, offset: int, count: int) -> None:
    with pytest.raises(ClientError):
        client.read(CONFIG, offset, count)
    with pytest.raises(ClientError):
        client.write(CONFIG, offset, b"\0" * count)
    assert client.get(CONFIG, 0, 2) == 0x1234


@pytest.mark.parametrize(
    ("bars", "msix"),
    [
        ((BarShape(index=5, size=4096),), None),
        ((BarShape(index=0, size=4096), BarShape(index=1, size=4096)), None),
        ((BarShape(index=0, size=5000),), None),
        ((BarShape(index=0, size=1 << 32, is_64bit=False),), None),
        ((BarShape(index=0, size=4096),), MsixLayout(vectors=2, bar=2, table=0, pba=64)),
        ((BarShape(index=0, size=4096),), MsixLayout(vectors=300, bar=0, table=0, pba=64)),
        ((BarShape(index=0, size=4096),), MsixLayout(vectors=0, bar=0, table=0, pba=64)),
    ],
)
def test_impossible_layouts_are_refused(bars: tuple[BarShape, ...], msix: MsixLayout | None) -> None:
    with pytest.raises((ConfigError, RangeError)):
        PciConfig(Identity(vendor=1, device=2, class_code=3), bars, msix)
