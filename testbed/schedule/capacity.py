"""What a case takes from its machine and what the machine has: guests at once, and memory."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from testbed.errors import LabError
from testbed.plan.model import CasePlan, GuestPlan

MIB = 1 << 20
_QEMU_MIB = 160
"""QEMU beside the guest's memory: itself and the code that TCG translates; by judgement, on the safe side."""
_HOST_MIB = 64
"""A device host: Python with numpy."""
_VRAM_MIB = 64
"""Of a device model that does not say how much it has."""
_RESERVE_MIB = 512
_RESERVE_SHARE = 10
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How much runs at once."""

    slots: int
    """Guests."""
    memory_mib: int


def measure_case(case: CasePlan) -> Capacity:
    """Return what ``case`` takes at most. A case that will be skipped takes nothing."""
    if case.skip_reason is not None:
        return Capacity(slots=0, memory_mib=0)
    return Capacity(slots=len(case.guests), memory_mib=sum(_measure_guest(guest) for guest in case.guests))


def _measure_guest(guest: GuestPlan) -> int:
    models = [device for device in guest.devices if device.model is not None]
    vram = sum(int(device.params.get("vram_mib", _VRAM_MIB)) for device in models)
    return guest.memory_mib + _QEMU_MIB + (_HOST_MIB + vram if models else 0)


def probe_capacity(*, slots: int | None = None, memory_mib: int | None = None) -> Capacity:
    """Return what this machine gives to guests; what the user says counts more than what is found."""
    return Capacity(
        slots=slots or count_cores(), memory_mib=memory_mib or find_memory() // MIB - reserve_memory() // MIB
    )


def count_cores(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> int:
    """Return the number of processors that we may use: by affinity, and by quota of our control group."""
    quotas = []
    for group in _own_groups(cgroups, own):
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            quota, period = (group / "cpu.max").read_text().split()
            quotas.append(max(1, round(int(quota) / int(period))))
    return min([len(os.sched_getaffinity(0)), *quotas])


def find_memory(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> int:
    """Return the bytes that can be had without swapping, on this host and in our control group."""
    left = [psutil.virtual_memory().available]
    for group in _own_groups(cgroups, own):
        with contextlib.suppress(OSError, ValueError):
            limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
            left.append(limit - used)
    return min(left)


def reserve_memory() -> int:
    """Return the bytes that are left to others: a tenth of all, 512 MiB at least."""
    return max(_RESERVE_MIB * MIB, psutil.virtual_memory().total // _RESERVE_SHARE)


def _own_groups(cgroups: Path, own: Path) -> list[Path]:
    """Return the control groups (version 2) that we are in, from ours up to the root."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    folders = [cgroups / line[3:].lstrip("/") for line in lines if line.startswith("0::")]
    return [
        group for folder in folders for group in (folder, *folder.parents) if group.is_relative_to(cgroups)
    ]


def refuse_case(case: CasePlan, capacity: Capacity) -> LabError | None:
    """Return why ``case`` can never run within ``capacity``, or None."""
    need = measure_case(case).memory_mib
    if need <= capacity.memory_mib:
        return None
    return LabError(
        f"the guests of '{case.name}' can take {need / 1024:.1f} GiB, and this machine has "
        f"{max(0, capacity.memory_mib) / 1024:.1f} GiB for guests",
        hint="ask for less in the scenario; or testbed run --memory SIZE if you know better",
    )
