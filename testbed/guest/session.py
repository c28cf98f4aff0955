"""`guest_session`: from a `GuestPlan` to a live `Guest`, and back to nothing.

The body of `guest_session` is the order of start; its reverse is the order of the end.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from testbed.deadline import Deadline
from testbed.errors import GuestPanicked, GuestReset, IdentityError, LabError, TestbedError
from testbed.guest.clone import CloneFailedError, set_aside, start_clone, write_prefaces
from testbed.guest.device_host import DeviceHost, HostConfig, HostEvent, start_device_host
from testbed.guest.furnish import furnish
from testbed.guest.hotplug import Slots
from testbed.guest.lab import Lab
from testbed.guest.liveness import Liveness, Watcher, start_watcher
from testbed.guest.machine import Machine, Surroundings, start_machine, wait_ready
from testbed.guest.private import private_folder
from testbed.guest.process import Process
from testbed.guest.qmp import QmpEvent
from testbed.guest.snapshot import Base
from testbed.guest.snapshot_make import base_session, reject_base
from testbed.guest.ssh import CommandResult, Ssh, start_ssh
from testbed.guest.tail import KMSG_PREFIX, LogTail
from testbed.plan.model import GuestPlan
from testbed.provision.model import NONCE_PATH

_BOOT_SECONDS = 90.0
_HANDSHAKE_SECONDS = 20.0
# The shell's own words: no program need be started, which costs tens of milliseconds under emulation.
_WHO = (
    f"read -r n < {NONCE_PATH}; read -r b < /proc/sys/kernel/random/boot_id; "
    "read -r r < /proc/sys/kernel/osrelease; echo $n; echo $b; echo $r"
)


class Guest:
    """A live guest, for the steps. Every call ends within 2 s of the guest's death, and says why it died.

    That is `GuestPanicked` (the kernel said so) or `GuestDied` (QEMU or the device host ended).
    """

    def __init__(
        self, plan: GuestPlan, lab: Lab, machine: Machine, ssh: Ssh, host: DeviceHost | None, slots: Slots
    ) -> None:
        self.name = plan.name
        self.nonce = machine.identity.nonce
        self.boot_id = ""
        self.release = ""
        self.console = LogTail(lab.folder / "console.log", alive=machine.liveness.check)
        self.kmsg = LogTail(lab.folder / "kmsg.log", alive=machine.liveness.check, prefix=KMSG_PREFIX)
        self.ssh = ssh
        self.process = machine.process
        """QEMU's process."""
        self.host_process: Process | None = host.process if host else None
        self._machine = machine
        self._liveness = machine.liveness
        self._slots = slots
        self._delivered = dict(lab.files)
        self._marks = itertools.count(1)

    def run(self, command: str, *, deadline: Deadline, stdin: bytes = b"") -> CommandResult:
        """Run a shell command as root. A status other than 0 is a result, not an error."""
        return self.ssh.run(command, deadline=deadline, stdin=stdin)

    def push(self, files: Mapping[str, Path | bytes], *, deadline: Deadline, mode: int = 0o755) -> None:
        """Put files (absolute path in the guest to content) into the guest and check that they arrived."""
        missing = {path: source for path, source in files.items() if self._delivered.get(path) != source}
        self.ssh.push(missing, deadline=deadline, mode=mode)

    def plug(self, device: str, *, deadline: Deadline) -> str:
        """Plug in a device of the plan; return its address when the guest has set it up."""
        self._slots.begin_plug(device, deadline)
        return self._slots.finish_plug(device, self.ssh, deadline)

    def unplug(self, device: str, *, deadline: Deadline, surprise: bool = False) -> None:
        """Pull a device out and wait until it is gone; ``surprise``: its model vanishes first."""
        self._slots.unplug(device, deadline, surprise=surprise)

    def bdf(self, device: str) -> str:
        """Return the address of a plugged device in the guest, such as ``0000:01:00.0``."""
        return self._slots.address(device)

    def device(
        self, name: str, command: str, args: Mapping[str, Any] | None = None, *, deadline: Deadline
    ) -> dict[str, Any]:
        """Send a request to a device's model (docs/devices/protocol.md). Raises `ScenarioFault`."""
        return self._slots.get_host(name).request(name, command, args, deadline=deadline)

    def qmp(self, command: str, args: Mapping[str, Any] | None = None, *, deadline: Deadline) -> Any:
        """Run a QMP command. Raises `testbed.guest.qmp.QmpError` when QEMU refuses."""
        return self._machine.qmp.execute(command, args, deadline=deadline)

    @property
    def qmp_position(self) -> int:
        """How many QMP events there were: ``since`` for "from now on"."""
        return self._machine.qmp.position

    def wait_qmp(
        self, event: str, *, match: Mapping[str, Any] | None = None, deadline: Deadline, since: int = 0
    ) -> QmpEvent:
        """Return the first such QMP event from position ``since`` on; 0 is the guest's start."""
        return self._machine.qmp.wait_event(event, match, deadline=deadline, since=since)

    def sync_kmsg(self, deadline: Deadline) -> int:
        """Wait until all that the kernel has said so far is in ``kmsg.log``; return the end of it."""
        mark = f"testbed: mark {self.nonce[:8]}-{next(self._marks)}"
        start = self.kmsg.size
        result = self.run(f"echo '{mark}' > /dev/kmsg", deadline=deadline)
        if result.exit != 0:
            raise LabError("the guest cannot write to /dev/kmsg")
        return self.kmsg.wait(f"^{mark}$", deadline, start).end

    def check_alive(self) -> None:
        """Raise `GuestPanicked` or `GuestDied` when the guest is lost."""
        self._liveness.check()


@contextmanager
def guest_session(plan: GuestPlan, lab: Lab) -> Iterator[Guest]:
    """Bring up the guest of ``plan``, plug in its devices, and yield it.

    It is a clone of a base snapshot (docs/snapshots.md), unless ``lab.cold`` or there can be none: then it
    boots. Whatever happens inside, nothing of it is left at the end; how it ended is the event
    ``teardown_finished``. Raises `LabError` when the guest does not come up, `GuestPanicked` when its
    kernel panics on the way.
    """
    lab.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        guest = None if lab.cold else _enter_clone(plan, lab, stack)
        yield guest or stack.enter_context(_session(plan, lab, None))


def _enter_clone(plan: GuestPlan, lab: Lab, stack: ExitStack) -> Guest | None:
    """Return a clone, whose end is on ``stack``; None when the guest has to boot, which events explain."""
    with base_session(plan, lab) as base:
        if base is None:
            return None
        try:
            return stack.enter_context(_session(plan, lab, base))
        except CloneFailedError as error:
            reject_base(base, plan, lab, error.message)
            set_aside(lab.folder)
            return None


@contextmanager
def _session(plan: GuestPlan, lab: Lab, base: Base | None) -> Iterator[Guest]:
    began = time.monotonic()
    if base is None:
        (lab.folder / "console.log").touch(mode=0o600)
    else:
        write_prefaces(base, lab.folder)
    reporter = _Reporter(plan, lab, base is None)
    liveness = Liveness(reporter.report_loss)
    with ExitStack() as stack:
        processes: list[Process] = []
        stack.callback(lambda: _report_end(plan, lab, processes))
        private = stack.enter_context(private_folder(lab.folder))
        watcher = stack.enter_context(start_watcher(liveness, lab.folder / "console.log"))
        host = stack.enter_context(_devices(plan, lab, private, liveness, watcher))
        processes += [host.process] if host else []
        around = Surroundings(private, liveness, watcher, processes)
        machine = stack.enter_context(_machine(plan, lab, base, around))
        reporter.enabled = True
        slots = Slots({device.name: device for device in plan.devices}, machine.qmp, host)
        with furnish(plan, lab, machine, slots) as finish:
            guest = Guest(plan, lab, machine, stack.enter_context(_connect(lab, machine)), host, slots)
            _check_identity(guest, lab, base)
            _report_ready(guest, lab, base, time.monotonic() - began)
            finish(guest.ssh)
        stack.callback(liveness.expect_end)
        yield guest


class _Reporter:
    """Makes the loss of a guest an event, once there is a guest: a clone that fails is replaced."""

    def __init__(self, plan: GuestPlan, lab: Lab, enabled: bool) -> None:
        self.enabled = enabled
        self._plan = plan
        self._lab = lab

    def report_loss(self, error: TestbedError) -> None:
        if self.enabled:
            _report_loss(self._plan, self._lab, error)


@contextmanager
def _machine(plan: GuestPlan, lab: Lab, base: Base | None, around: Surroundings) -> Iterator[Machine]:
    """A machine whose guest has said, with our nonce, that its sshd listens."""
    with ExitStack() as stack:
        if base is None:
            machine = stack.enter_context(start_machine(plan, lab, around))
            wait_ready(machine, lab.deadline(_BOOT_SECONDS, "the guest to boot"))
        else:
            machine = stack.enter_context(start_clone(plan, lab, around, base))
        yield machine


def _connect(lab: Lab, machine: Machine) -> AbstractContextManager[Ssh]:
    return start_ssh(
        machine.ssh_socket,
        machine.identity,
        folder=lab.folder,
        liveness=machine.liveness,
        deadline=lab.deadline(_HANDSHAKE_SECONDS, "the guest to let us in"),
    )


def _report_ready(guest: Guest, lab: Lab, base: Base | None, seconds: float) -> None:
    origin = {"origin": "clone", "base": base.facts.id} if base else {"origin": "boot"}
    lab.events.emit(
        "guest_ready",
        guest=guest.name,
        seconds=round(seconds, 3),
        boot_id=guest.boot_id,
        nonce_ok=True,
        **origin,
    )


def _check_identity(guest: Guest, lab: Lab, base: Base | None) -> None:
    """Make sure that the guest is the one we started."""
    deadline = lab.deadline(_HANDSHAKE_SECONDS, "the guest to prove who it is")
    result = guest.run(_WHO, deadline=deadline)
    lines = [line for line in result.stdout.decode("ascii", "replace").split("\n") if line]
    if len(lines) != 3 or lines[0] != guest.nonce:
        raise IdentityError("the guest that answered over SSH does not know the nonce of the one we started")
    guest.boot_id, guest.release = lines[1], lines[2]
    wanted = lab.provisioned.kernel.release
    if guest.release != wanted:
        raise IdentityError(f"the guest runs kernel '{guest.release}', not '{wanted}'")
    if base is not None and guest.boot_id != base.facts.boot_id:
        raise IdentityError("the guest that answered over SSH is no clone of the base that we restored")


@contextmanager
def _devices(
    plan: GuestPlan, lab: Lab, private: Path, liveness: Liveness, watcher: Watcher
) -> Iterator[DeviceHost | None]:
    models = [
        {"name": device.name, "model": device.model, "params": device.params}
        for device in plan.devices
        if device.model is not None
    ]
    if not models:
        yield None
        return

    def see(event: HostEvent) -> None:
        if event.get("event") == "violation":
            lab.events.emit(
                "violation", guest=plan.name, device=event.get("device"), message=event.get("message")
            )

    config = HostConfig(private=private, folder=lab.folder, seed=lab.seed, devices=models)
    with (
        start_device_host(config, liveness=liveness, on_event=see) as host,
        watcher.watch("the device host", host.process),
    ):
        yield host


def _report_loss(plan: GuestPlan, lab: Lab, error: TestbedError) -> None:
    match error:
        case GuestReset():
            name = "guest_reset"
        case GuestPanicked():
            name = "guest_panicked"
        case _:
            name = "guest_died"
    reason = error.reason if isinstance(error, GuestPanicked) else error.message
    lab.events.emit(name, guest=plan.name, reason=reason)


def _report_end(plan: GuestPlan, lab: Lab, processes: list[Process]) -> None:
    records = [process.exit_record for process in processes]
    graceful = bool(records) and all(record is not None and record.graceful for record in records)
    details = [
        f"{Path(process.argv[0]).name} {process.pid}: {record.how}, status {record.status}"
        for process, record in zip(processes, records, strict=True)
        if record is not None
    ]
    lab.events.emit(
        "teardown_finished", guest=plan.name, graceful=graceful, detail="; ".join(details) or "never started"
    )
