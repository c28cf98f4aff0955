"""What will be done: `CasePlan` (saved as ``plan.json``), and the files of one machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from testbed.scenario.base import Strict
from testbed.scenario.document import ExpectedVerdict, ExpectedWarning, Plug, Requires
from testbed.scenario.model import Step
from testbed.scenario.values import Seconds, Seq

AccelChoice = Literal["auto", "kvm", "tcg"]

KMSG_PORT = "org.testbed.kmsg"
"""virtio-serial port to which the guest copies /dev/kmsg."""
ROOT_PORTS = 4
"""Root ports of every guest (``rp0`` ...) unless its devices need more."""


class DevicePlan(Strict):
    """A device and the root port that it is plugged into."""

    name: str
    model: str | None
    """A vfiodev model; None for a device of QEMU's own."""
    params: dict[str, Any] = Field(default={})
    plug: Plug = "start"
    port: str
    qemu: dict[str, Any] | None = None
    """``driver`` and properties for ``device_add``, for a device of QEMU's own."""


class GuestPlan(Strict):
    """A machine."""

    name: str
    memory_mib: int
    cpus: int
    cmdline: Seq[str] = ()
    devices: Seq[DevicePlan] = ()

    @property
    def ports(self) -> tuple[str, ...]:
        """Names of the root ports: one for each device, and at least `ROOT_PORTS`."""
        return tuple(f"rp{number}" for number in range(max(ROOT_PORTS, len(self.devices))))


class ModuleUse(Strict):
    """A module that is loaded before step 1, into each guest."""

    name: str
    args: dict[str, Any] = Field(default={})


class CasePlan(Strict):
    """All that one case will do. Round-trips through JSON."""

    name: str
    """``smoke/boot`` or ``fence/hold[engine=copy]``."""
    scenario: str
    about: str
    tags: Seq[str] = ()
    seed: int
    params: dict[str, Any] = Field(default={})
    kernel: str
    """As asked for: ``default``, ``debug`` or a tree."""
    accel: AccelChoice
    cold: bool = False
    guests: Seq[GuestPlan]
    modules: Seq[ModuleUse] = ()
    steps: Seq[Step]
    timeout: Seconds
    expected_warnings: Seq[ExpectedWarning] = ()
    expect_verdict: ExpectedVerdict | None = None
    requires: Requires = Requires()
    skip_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks of all cases."""

    kernel: str = "default"
    accel: AccelChoice = "auto"
    seed: int | None = None
    """Of every case; None: derived from each case's name, so that it is the same in each run."""
    select: str = ""
    """``-k`` expression over names and tags; empty selects all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFiles:
    """Where one machine's files are; `testbed.plan.qemu_argv.build_qemu_argv` turns it into arguments.

    QMP and the ready port are socket pairs whose QEMU ends are inherited: no path to bind, no wait for it.
    """

    qemu: tuple[str, ...]
    """Prefix: program and ``-L`` (`testbed.provision.model.Qemu.argv`)."""
    kernel: Path
    initrd: Path
    append: tuple[str, ...]
    """Words of the kernel's command line, before the scenario's own."""
    accel: str
    """``kvm`` or ``tcg``."""
    qmp_fd: int
    """QEMU's end of the QMP socket pair."""
    ready_fd: int
    """QEMU's end of the socket pair behind the port ``org.testbed.ready``."""
    ssh_socket: Path
    """Unix socket that QEMU binds; a connection to it reaches port 22 of the guest."""
    console_log: Path
    kmsg_log: Path
    fw_cfg: tuple[tuple[str, Path], ...] = ()
    """fw_cfg file name (``opt/org.testbed/nonce``) and the file that holds its content, in order."""
