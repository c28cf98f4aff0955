"""Fixtures of the device tests."""

from collections.abc import Iterator

import pytest
from vfio_client import Client, Rig

from vfiodev.device import Device
from vfiodev.template import MODEL


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A fresh set of devices."""
    made = Rig()
    yield made
    made.close()


@pytest.fixture
def device(rig: Rig) -> Device:
    """The template device."""
    return rig.make(MODEL)


@pytest.fixture
def client(rig: Rig, device: Device) -> Iterator[Client]:
    """A negotiated client of the template device, enabled."""
    with rig.client(device) as made:
        yield made
