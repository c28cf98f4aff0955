"""A bare machine: QEMU started, spoken to, and known to be the one we started.

`start_machine` then `handshake`; devices are plugged in later, so that a machine that was restored from a
saved state can take the place of one that booted.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testbed.deadline import Deadline
from testbed.errors import GuestDied, IdentityError
from testbed.guest.custody import FOLDER_VARIABLE
from testbed.guest.lab import Lab
from testbed.guest.liveness import Liveness, Watcher
from testbed.guest.private import write_secret
from testbed.guest.process import Grace, Process, spawn
from testbed.guest.qmp import Qmp, QmpEvent, start_qmp
from testbed.plan.model import GuestPlan, MachineFiles
from testbed.plan.qemu_argv import build_qemu_argv
from testbed.provision.identity import Identity, build_identity
from testbed.provision.model import FW_CFG_AUTHORIZED_KEY, FW_CFG_HOST_KEY, FW_CFG_NONCE

_GRACE = Grace(ask=0.5, terminate=0.5, kill=5.0)
_QUIT_ANSWER = 0.3
_START_SECONDS = 20.0  # QEMU's own start: loading, mapping memory, greeting
_READY_MAX = 4096
RAM_SET = 1
"""QEMU's descriptor set that holds a saved RAM file."""
SESSION_CMDLINE = ("printk.devkmsg=on",)
"""Our markers in /dev/kmsg must not be rate limited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A running QEMU and our ends of its channels."""

    process: Process
    qmp: Qmp
    ready: socket.socket
    """The guest's own line to us, before SSH."""
    ssh_socket: Path
    identity: Identity = field(repr=False)
    liveness: Liveness


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a machine is started in."""

    private: Path
    """Where its sockets and keys go."""
    liveness: Liveness
    watcher: Watcher
    processes: list[Process] = field(default_factory=list)
    """Gets QEMU's process as soon as there is one: what comes next can fail."""


@contextmanager
def start_machine(
    plan: GuestPlan, lab: Lab, around: Surroundings, *, saved_ram: int | None = None
) -> Iterator[Machine]:
    """Start QEMU for ``plan``, bare. Raises `LaunchError` when it does not start.

    With ``saved_ram``, the descriptor of a RAM file, it waits for `testbed.guest.clone.restore` instead of
    booting.
    """
    identity = build_identity()
    with ExitStack() as stack:
        our_qmp, qmp = _socket_pair(stack)
        our_ready, ready = _socket_pair(stack)
        files = MachineFiles(
            qemu=lab.provisioned.qemu.argv,
            kernel=lab.provisioned.kernel.image,
            initrd=lab.provisioned.image.initramfs,
            append=(*lab.provisioned.image.cmdline, *SESSION_CMDLINE),
            accel=lab.accel.name,
            qmp_fd=qmp.fileno(),
            ready_fd=ready.fileno(),
            ssh_socket=around.private / "ssh.sock",
            console_log=lab.folder / "console.log",
            kmsg_log=lab.folder / "kmsg.log",
            fw_cfg=tuple(_write_identity(around.private, identity).items()),
        )
        for log in (files.console_log, files.kmsg_log):
            log.touch(mode=0o600)
        process = stack.enter_context(
            spawn(
                build_qemu_argv(plan, files) + _incoming(saved_ram),
                log=lab.folder / "qemu.log",
                env={**lab.provisioned.qemu.env, FOLDER_VARIABLE: str(lab.folder)},
                pass_fds=(qmp.fileno(), ready.fileno(), *([] if saved_ram is None else [saved_ram])),
                grace=_GRACE,
            )
        )
        around.processes.append(process)
        qmp.close()
        ready.close()
        lab.events.emit("guest_started", guest=plan.name, pid=process.pid)
        stack.enter_context(around.watcher.watch("QEMU", process))
        control = stack.enter_context(_start_qmp(our_qmp, process, lab, around))
        try:
            yield Machine(
                process=process,
                qmp=control,
                ready=our_ready,
                ssh_socket=files.ssh_socket,
                identity=identity,
                liveness=around.liveness,
            )
        finally:
            around.liveness.expect_end()
            process.end(lambda: control.quit(_QUIT_ANSWER), _GRACE)


def wait_ready(machine: Machine, deadline: Deadline) -> None:
    """Wait until a guest that boots says, with its nonce, that its sshd listens.

    Raises `IdentityError` when the nonce is another's, `GuestPanicked`, `GuestDied`, `DeadlineExceeded`.
    """
    line = read_word(machine, deadline)
    if line != f"READY {machine.identity.nonce}":
        raise IdentityError(f"the guest that is ready is not ours: it says '{line[:80]}'")


def read_word(machine: Machine, deadline: Deadline) -> str:
    """Return the next line that the guest's agent says, as text.

    Raises `GuestPanicked`, `GuestDied`, `DeadlineExceeded`.
    """
    said = b""
    poller = select.poll()
    poller.register(machine.ready, select.POLLIN)
    while not said.endswith(b"\n") and len(said) < _READY_MAX:
        if not poller.poll(min(0.1, deadline.left) * 1000):
            machine.liveness.check()
            deadline.check()
            continue
        data = machine.ready.recv(_READY_MAX)
        if not data:
            machine.liveness.settle(1.0)
            raise GuestDied("QEMU closed the port on which the guest says that it is ready")
        said += data
    return said.strip().decode("ascii", "replace")


def _incoming(saved_ram: int | None) -> list[str]:
    if saved_ram is None:
        return []
    return ["-add-fd", f"fd={saved_ram},set={RAM_SET}", "-incoming", "defer"]


@contextmanager
def _start_qmp(sock: socket.socket, process: Process, lab: Lab, around: Surroundings) -> Iterator[Qmp]:
    def see(event: QmpEvent) -> None:
        around.watcher.note_qmp_event(event.name, str(event.data.get("reason", "")) or None)

    deadline = lab.deadline(_START_SECONDS, "QEMU to greet")
    with ExitStack() as stack:
        try:
            qmp = stack.enter_context(
                start_qmp(
                    sock,
                    log=lab.folder / "qmp.jsonl",
                    liveness=around.liveness,
                    deadline=deadline,
                    on_event=see,
                    on_close=around.watcher.note_qmp_closed,
                )
            )
        except GuestDied as error:
            raise process.launch_error(f"QEMU did not start: {process.describe_end()}") from error
        around.watcher.ask_status_by(lambda: str(_query_status(qmp)["status"]))
        yield qmp


def _query_status(qmp: Qmp) -> dict[str, object]:
    answer = qmp.execute("query-status", deadline=Deadline.after(_QUIT_ANSWER, "QEMU's state"))
    return dict(answer)


def _socket_pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    return stack.enter_context(ours), stack.enter_context(theirs)


def _write_identity(private: Path, identity: Identity) -> Mapping[str, Path]:
    contents = {
        FW_CFG_NONCE: identity.nonce.encode(),
        FW_CFG_AUTHORIZED_KEY: identity.authorized_key.encode(),
        FW_CFG_HOST_KEY: identity.host_key,
    }
    paths = {}
    for name, data in contents.items():
        paths[name] = private / name.rpartition("/")[2]
        write_secret(paths[name], data)
    return paths
