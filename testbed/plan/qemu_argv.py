"""`GuestPlan` and `MachineFiles` to QEMU's arguments (QEMU >= 10.1); pure, compared with golden files.

All slots on the root bus are fixed, so that the same machine is the same machine in each run and a saved one
fits a new one. `docs/scenario.md` tells what a scenario can change.
"""

from __future__ import annotations

from pathlib import Path

from testbed.plan.model import KMSG_PORT, DevicePlan, GuestPlan, MachineFiles

READY_PORT = "org.testbed.ready"
_MIB = 1 << 20
_WINDOW_MIB = 128
"""Prefetchable window of a root port. Four of them fit below 4 GiB, with room for the rest."""
_DEFAULT_VRAM_MIB = 64


def build_qemu_argv(guest: GuestPlan, machine: MachineFiles) -> list[str]:
    """Return the whole command line for ``guest``, without its devices: those are hot-plugged later."""
    return [
        *machine.qemu,
        *_board(guest, machine),
        *_chardevs(machine),
        *_fixed_devices(guest),
        *_root_ports(guest),
        *_boot(guest, machine),
    ]


def window_mib(device: DevicePlan | None) -> int:
    """Return the MiB of prefetchable address space behind a device's root port, a power of two."""
    vram = device.params.get("vram_mib", _DEFAULT_VRAM_MIB) if device else 0
    wanted = 2 * vram if isinstance(vram, int) else 0
    return max(_WINDOW_MIB, 1 << max(0, wanted - 1).bit_length())


def escape(path: Path) -> str:
    """Return ``path`` as a value of QEMU options, where a comma ends a value and two stand for one."""
    return str(path).replace(",", ",,")


def _board(guest: GuestPlan, machine: MachineFiles) -> list[str]:
    size = f"{guest.memory_mib}M"
    accel = "tcg,thread=multi" if machine.accel == "tcg" else machine.accel
    return [
        *("-name", f"guest={guest.name},debug-threads=on"),
        *("-nodefaults", "-no-user-config"),
        *("-display", "none"),
        # A reset is an exit, so a guest that reboots cannot pass for the one that was started.
        "-no-reboot",
        # The kernel has printed its reason by then; a paused machine keeps its memory for inspection.
        *("-action", "panic=pause"),
        # vfio-user device models map the guest's memory through its descriptor.
        *("-object", f"memory-backend-memfd,id=mem,size={size},share=on"),
        *("-machine", "q35,memory-backend=mem"),
        *("-m", size),
        # Firmware puts the windows of 64-bit BARs at the top of the address space. With 40 bits, TCG's own,
        # AMD CPUs route HyperTransport there (0xfd_0000_0000 on), and Linux gives VRAM no address.
        *("-cpu", "max,phys-bits=39"),
        *("-smp", str(guest.cpus)),
        *("-accel", accel),
        *("-msg", "timestamp=on"),
    ]


def _chardevs(machine: MachineFiles) -> list[str]:
    return [
        *("-chardev", f"socket,id=qmp,fd={machine.qmp_fd}"),
        *("-qmp", "chardev:qmp"),
        *("-chardev", f"file,id=console,path={escape(machine.console_log)},append=on"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=ready,fd={machine.ready_fd}"),
        *("-chardev", f"file,id=kmsg,path={escape(machine.kmsg_log)},append=on"),
        # restrict: the guest reaches nothing but us. A unix socket: no other user of the host reaches it.
        *("-netdev", f"user,id=net0,restrict=on,hostfwd=unix:{escape(machine.ssh_socket)}-:22"),
    ]


def _fixed_devices(guest: GuestPlan) -> list[str]:
    mac = f"52:54:00:7b:00:{sum(guest.name.encode()) % 256:02x}"
    return [
        *("-device", "virtio-serial-pci,id=serial,addr=0x2"),
        *("-device", f"virtserialport,bus=serial.0,nr=1,chardev=ready,name={READY_PORT}"),
        *("-device", f"virtserialport,bus=serial.0,nr=2,chardev=kmsg,name={KMSG_PORT}"),
        # An empty romfile: nothing boots from the network, so firmware need not load its option ROM.
        *("-device", f"virtio-net-pci,netdev=net0,mac={mac},romfile=,addr=0x3"),
        *("-device", "virtio-rng-pci,addr=0x4"),
        *("-device", "pvpanic-pci,addr=0x5"),
    ]


def _root_ports(guest: GuestPlan) -> list[str]:
    by_port = {device.port: device for device in guest.devices}
    argv: list[str] = []
    for number, port in enumerate(guest.ports):
        window = window_mib(by_port.get(port))
        # I/O space is scarce (4 KiB for each bridge) and no device of ours has an I/O BAR.
        reserve = f"io-reserve=0,mem-reserve=4M,pref64-reserve={window}M"
        place = f"bus=pcie.0,addr={0x10 + number:#x},chassis={number + 1},slot={number + 1}"
        argv += ["-device", f"pcie-root-port,id={port},{place},{reserve}"]
    return argv


def _boot(guest: GuestPlan, machine: MachineFiles) -> list[str]:
    argv: list[str] = []
    for name, path in machine.fw_cfg:
        argv += ["-fw_cfg", f"name={name},file={escape(path)}"]
    return [
        *argv,
        *("-kernel", str(machine.kernel)),
        *("-initrd", str(machine.initrd)),
        *("-append", " ".join((*machine.append, *guest.cmdline))),
    ]
