"""Plugging devices into a running guest, and pulling them out.

A device's address in the guest comes from QMP ``query-pci``: QEMU reads it from the bridge registers that
firmware and guest wrote, so no question to the guest is needed.

A device comes by ``device_add`` and goes by ``device_del``, QEMU's own and vfio-user ones alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from testbed.deadline import Deadline
from testbed.errors import LabError, ScenarioFault
from testbed.guest.device_host import DeviceHost
from testbed.guest.qmp import Qmp, QmpError
from testbed.guest.ssh import Ssh
from testbed.plan.model import DevicePlan


class Slots:
    """The devices of one guest: which are plugged in, and where."""

    def __init__(self, devices: Mapping[str, DevicePlan], qmp: Qmp, host: DeviceHost | None) -> None:
        self._devices = devices
        self._qmp = qmp
        self._host = host
        self._addresses: dict[str, str] = {}

    def address(self, name: str) -> str:
        """Return the address in the guest, such as ``0000:01:00.0``. Raises `ScenarioFault`."""
        self._plan(name)
        if name not in self._addresses:
            raise ScenarioFault(f"device '{name}' is not plugged in")
        return self._addresses[name]

    def begin_plug(self, name: str, deadline: Deadline) -> None:
        """Plug device ``name`` in and leave the guest to set it up.

        Raises `ScenarioFault` when it is unknown, already in, or a device of QEMU's own that QEMU refuses,
        `LabError` when QEMU refuses one of ours.
        """
        device = self._plan(name)
        if name in self._addresses:
            raise ScenarioFault(f"device '{name}' is already plugged in")
        self._add(device, deadline)

    def finish_plug(self, name: str, ssh: Ssh, deadline: Deadline) -> str:
        """Wait until the guest has set up device ``name``, and return its address."""
        address = self._find_address(name, deadline)
        _wait_set_up(ssh, address, deadline)
        self._addresses[name] = address
        return address

    def unplug(self, name: str, deadline: Deadline, *, surprise: bool) -> None:
        """Pull device ``name`` out and wait until guest and QEMU have let go of it.

        ``surprise``: the model vanishes first, as if it had been torn out while in use.
        """
        self.address(name)
        if self._plan(name).params.get("interrupts") == "msix":
            # vfio_user_msix_teardown takes a region out of a container that is gone (measured, 11.1.3).
            raise ScenarioFault(
                f"device '{name}' cannot be unplugged with 'interrupts: msix': QEMU would abort",
                hint="leave 'interrupts' out; the guest sees MSI-X all the same",
            )
        if surprise:
            vanish = {"fault": "surprise_removal"}
            self.get_host(name).request(name, "inject", vanish, deadline=deadline)
        since = self._qmp.position
        self._qmp.execute("device_del", {"id": name}, deadline=deadline)
        self._qmp.wait_event("DEVICE_DELETED", {"device": name}, deadline=deadline, since=since)
        del self._addresses[name]

    def get_host(self, name: str) -> DeviceHost:
        """Return the device host that device ``name`` lives in. Raises `ScenarioFault`."""
        if self._plan(name).model is None or self._host is None:
            raise ScenarioFault(f"device '{name}' is one of QEMU's own: it has no faults and no counters")
        return self._host

    def _plan(self, name: str) -> DevicePlan:
        if name not in self._devices:
            known = ", ".join(self._devices) or "none"
            raise ScenarioFault(f"device '{name}' is not known in this guest (known: {known})")
        return self._devices[name]

    def _arguments(self, device: DevicePlan, deadline: Deadline) -> dict[str, Any]:
        place = {"id": device.name, "bus": device.port}
        if device.model is None:
            return {**(device.qemu or {}), **place}
        host = self.get_host(device.name)
        host.wait_ready(deadline)
        path = {"type": "unix", "path": host.sockets[device.name]}
        return {"driver": "vfio-user-pci", "socket": path, **place}

    def _add(self, device: DevicePlan, deadline: Deadline) -> None:
        try:
            self._qmp.execute("device_add", self._arguments(device, deadline), deadline=deadline)
        except QmpError as error:
            text = f"QEMU does not take device '{device.name}': {error.desc}"
            if device.model is None:
                raise ScenarioFault(
                    text, hint="testbed doctor names the QEMU; its -device help lists drivers"
                ) from error
            raise LabError(text) from error

    def _find_address(self, name: str, deadline: Deadline) -> str:
        buses = self._qmp.execute("query-pci", deadline=deadline)
        for entry in _walk_devices(buses):
            if entry.get("qdev_id") == name:
                return f"0000:{entry['bus']:02x}:{entry['slot']:02x}.{entry['function']}"
        raise LabError(f"QEMU took device '{name}' but does not list it")


def _wait_set_up(ssh: Ssh, address: str, deadline: Deadline) -> None:
    # The kernel makes a device's `resourceN` files last, once its BARs have addresses
    # (drivers/pci/bus.c, pci_bus_add_device). One command waits inside the guest.
    seconds = max(1, int(deadline.left))
    command = (
        f"n=0; until set -- /sys/bus/pci/devices/{address}/resource[0-5] && [ -e $1 ]; do "
        f"n=$((n+1)); [ $n -gt {seconds * 50} ] && exit 1; sleep 0.02; done"
    )
    if ssh.run(command, deadline=deadline).exit != 0:
        raise LabError(f"the guest did not set up the device at {address}")


def _walk_devices(buses: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for bus in buses:
        for device in bus["devices"]:
            yield device
            bridge = device.get("pci_bridge", {})
            yield from _walk_devices([{"devices": bridge.get("devices", [])}])
