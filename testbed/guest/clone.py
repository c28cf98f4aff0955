"""Saving a machine's RAM, restoring it in another QEMU, and making a new machine of what wakes up there.

The guest's half is ``guest-images/init/agent.c``; ``docs/snapshots.md`` has the words between the two.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from testbed.deadline import Deadline
from testbed.errors import GuestPanicked, IdentityError, LabError
from testbed.evidence.run import disk_full_is_a_miss
from testbed.guest.lab import Lab
from testbed.guest.machine import RAM_SET, Machine, Surroundings, read_word, start_machine
from testbed.guest.qmp import Qmp, QmpError
from testbed.guest.snapshot import Base
from testbed.plan.model import GuestPlan
from testbed.provision.identity import Identity

_CLONE_SECONDS = 20.0
_ENTROPY_BYTES = 64
_RECORD_PREFIX = "6,0,0,-;"  # of a /dev/kmsg record of level "info"
_PARAMETERS = {
    "max-bandwidth": 1 << 40,  # bytes per second; QEMU's own limit is 128 MiB
    # No gratuitous ARP after the restore: it would tell QEMU's network the address that the clone is about
    # to change, and the first connection would wait 6 s for its SYN to be sent again.
    "announce-rounds": 0,
}
_CAPABILITIES = [{"capability": name, "state": True} for name in ("mapped-ram", "events")]
_ENDED = {"status": "^(completed|failed|cancelled)$"}


def save(machine: Machine, base_id: str, ram: Path, deadline: Deadline) -> None:
    """Have the guest prepare itself, stop it, and write its RAM to the new file ``ram``.

    Raises `LabError` with QEMU's reason, such as a full disk.
    """
    machine.ready.sendall(f"prepare {base_id}\n".encode())
    said = read_word(machine, deadline)
    if said != f"PREPARED {base_id}":
        raise IdentityError(f"a guest that was told to prepare says '{said[:80]}'")
    machine.qmp.execute("stop", deadline=deadline)
    _migrate(machine.qmp, "migrate", {"uri": f"file:{ram}"}, deadline)


class CloneFailedError(LabError):
    """No guest came of a base; it says nothing about the scenario, whose guest can boot instead."""


@contextmanager
def start_clone(plan: GuestPlan, lab: Lab, around: Surroundings, base: Base) -> Iterator[Machine]:
    """Start a machine from ``base`` whose guest knows that it is a new one, and says so.

    Raises `CloneFailedError` when nothing comes of it, `IdentityError` when something else does.
    """
    with ExitStack() as stack:
        try:
            machine = stack.enter_context(start_machine(plan, lab, around, saved_ram=base.ram_fd))
            deadline = lab.deadline(_CLONE_SECONDS, "the clone to answer")
            restore(machine, deadline)
            adopt(machine, base, lab.provisioned.kernel.release, deadline)
        except IdentityError:
            raise
        except (LabError, GuestPanicked) as error:
            if lab.stop.reason is not None:
                raise
            last = f" ({error.hint.splitlines()[-1]})" if error.hint else ""
            raise CloneFailedError(
                f"no guest came of base '{base.facts.id}': {error.message}{last}"
            ) from error
        machine = replace(machine, identity=replace(machine.identity, host_public=base.facts.host_public))
        yield machine


def write_prefaces(base: Base, folder: Path) -> None:
    """Begin the clone's logs with the boot that it shares with its base: the boot is judged, too."""
    note = f"testbed: a clone of base {base.facts.id}, saved {base.facts.made_at}; that base's boot follows"
    for name, prefix in (("console.log", ""), ("kmsg.log", _RECORD_PREFIX)):
        with disk_full_is_a_miss(folder), (folder / name).open("xb") as log:
            log.write(f"{prefix}{note}\n".encode() + (base.path / name).read_bytes())


def set_aside(folder: Path) -> None:
    """Move what a failed clone left in a guest's folder out of the way of the guest that boots instead."""
    target = folder / "failed-clone"
    target.mkdir(mode=0o700)
    for item in list(folder.iterdir()):
        if item != target:
            item.rename(target / item.name)


def restore(machine: Machine, deadline: Deadline) -> None:
    """Load the RAM that ``machine`` was started with, and let it run."""
    _migrate(machine.qmp, "migrate-incoming", {"uri": f"file:/dev/fdset/{RAM_SET}"}, deadline)
    machine.qmp.execute("cont", deadline=deadline)


def adopt(machine: Machine, base: Base, release: str, deadline: Deadline) -> None:
    """Make a machine of its own of a restored guest: tell it who it is, and check who it was.

    Raises `IdentityError` when it does not know its new nonce, or is not what the base holds, or has a kernel
    other than ``release``.
    """
    machine.ready.sendall(build_words(machine.identity).encode())
    said = read_word(machine, deadline)
    facts = base.facts
    wanted = f"READY {machine.identity.nonce} base {facts.id} boot {facts.boot_id} kernel {facts.release}"
    if said != wanted:
        raise IdentityError(
            f"the clone is not the machine that was saved: it says '{said[:160]}', not '{wanted}'"
        )
    if facts.release != release:
        raise IdentityError(f"the guest runs kernel '{facts.release}', not '{release}'")


def build_words(identity: Identity) -> str:
    """Return what a restored guest is told, in order; the last line makes it answer."""
    now = time.time_ns()
    words = {
        "nonce": identity.nonce,
        "authorized_key": identity.authorized_key,
        "entropy": secrets.token_hex(_ENTROPY_BYTES),
        "mac": build_mac(identity),
        "time": f"{now // 10**9}.{now % 10**9:09}",
        "clone": clone_id(identity),
    }
    return "".join(f"{word} {value}\n" for word, value in words.items())


def clone_id(identity: Identity) -> str:
    """Return the name of the clone with ``identity``, which its log and ``/run/testbed/clone`` hold."""
    return identity.nonce[:12]


def build_mac(identity: Identity) -> str:
    """Return the address of the clone's network card, in hexadecimal, with QEMU's prefix."""
    return f"525400{identity.nonce[-6:]}"


def _migrate(qmp: Qmp, command: str, args: dict[str, Any], deadline: Deadline) -> None:
    verb = "save" if command == "migrate" else "restore"
    try:
        qmp.execute("migrate-set-capabilities", {"capabilities": _CAPABILITIES}, deadline=deadline)
        qmp.execute("migrate-set-parameters", _PARAMETERS, deadline=deadline)
        since = qmp.position
        qmp.execute(command, args, deadline=deadline)
    except QmpError as error:
        raise LabError(f"QEMU could not {verb} the guest: {error.desc}") from error
    event = qmp.wait_event("MIGRATION", _ENDED, deadline=deadline, since=since)
    if event.data["status"] != "completed":
        reason = qmp.execute("query-migrate", deadline=deadline).get("error-desc", "no reason given")
        raise LabError(f"QEMU could not {verb} the guest: {reason}")
