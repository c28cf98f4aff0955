"""QEMU's arguments, compared with golden files; a change of them is a change of every machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from testbed.plan.model import DevicePlan, GuestPlan, MachineFiles
from testbed.plan.qemu_argv import READY_PORT, build_qemu_argv, window_mib
from testbed.provision import model as image

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
FILES = MachineFiles(
    qemu=("qemu-system-x86_64", "-L", "/toolbox/share/qemu"),
    kernel=Path("/cache/vmlinuz"),
    initrd=Path("/cache/initramfs"),
    append=("console=ttyS0", "panic=-1"),
    accel="tcg",
    qmp_fd=5,
    ready_fd=6,
    ssh_socket=Path("/private/ssh.sock"),
    console_log=Path("/runs/1/vm/console.log"),
    kmsg_log=Path("/runs/1/vm/kmsg.log"),
    fw_cfg=(("opt/org.testbed/nonce", Path("/private/nonce")),),
)
SMALL = GuestPlan(name="vm", memory_mib=512, cpus=2)


def gpu(number: int, **params: object) -> DevicePlan:
    return DevicePlan(name=f"gpu{number}", model="gpu", params=params, port=f"rp{number}")


GUESTS = {
    "argv-bare.txt": (SMALL, FILES),
    "argv-five-gpus-kvm.txt": (
        GuestPlan(
            name="peer",
            memory_mib=2048,
            cpus=4,
            cmdline=("iommu=pt",),
            devices=(gpu(0, vram_mib=1024), *(gpu(number) for number in range(1, 5))),
        ),
        replace(FILES, accel="kvm"),
    ),
}


@pytest.mark.parametrize("name", GUESTS)
def test_arguments_are_the_golden_ones(name: str) -> None:
    argv = build_qemu_argv(*GUESTS[name])
    lines = " ".join(argv).replace(" -", "\n-")
    assert lines + "\n" == (GOLDEN / name).read_text()


def test_commas_in_paths_are_doubled_where_options_have_values() -> None:
    files = replace(
        FILES,
        console_log=Path("/runs/a,b/console.log"),
        ssh_socket=Path("/p,q/ssh.sock"),
        fw_cfg=(("opt/x", Path("/p,q/n")),),
        kernel=Path("/k,1/vmlinuz"),
    )
    argv = build_qemu_argv(SMALL, files)
    assert "file,id=console,path=/runs/a,,b/console.log,append=on" in argv
    assert "user,id=net0,restrict=on,hostfwd=unix:/p,,q/ssh.sock-:22" in argv
    assert "name=opt/x,file=/p,,q/n" in argv
    assert "/k,1/vmlinuz" in argv


@pytest.mark.parametrize(
    ("vram", "window"), [(1, 128), (64, 128), (128, 256), (256, 512), (1024, 2048), (4096, 8192)]
)
def test_the_window_of_a_port_holds_twice_the_vram(vram: int, window: int) -> None:
    assert window_mib(gpu(0, vram_mib=vram)) == window


def test_a_port_without_a_device_has_the_usual_window() -> None:
    assert window_mib(None) == 128
    assert window_mib(DevicePlan(name="e", model=None, port="rp0", qemu={"driver": "edu"})) == 128


def test_addresses_on_the_root_bus_are_used_once() -> None:
    devices = tuple(gpu(number) for number in range(16))
    argv = build_qemu_argv(GuestPlan(name="vm", memory_mib=512, cpus=2, devices=devices), FILES)
    places = [part for option in argv for part in option.split(",") if part.startswith("addr=")]
    assert len(places) == len(set(places)) == 20
    assert all(int(place.removeprefix("addr="), 16) < 0x1F + 1 for place in places)


def test_the_guest_image_answers_on_the_port_that_the_machine_has() -> None:
    assert image.READY_PORT == READY_PORT
