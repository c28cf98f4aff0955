"""Making a base: boot a machine, log in once, save its RAM into the cache."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from testbed.errors import GuestPanicked, LabError
from testbed.evidence.events import EventLog
from testbed.guest.clone import save
from testbed.guest.lab import Lab
from testbed.guest.liveness import Liveness, start_watcher
from testbed.guest.machine import SESSION_CMDLINE, Machine, Surroundings, start_machine, wait_ready
from testbed.guest.private import private_folder
from testbed.guest.snapshot import (
    ABOUT_FILE,
    KIND,
    RAM_FILE,
    Base,
    BaseFacts,
    SnapshotDamagedError,
    base_key,
    digest_ram,
    discard_base,
    find_surplus,
    normalize,
    now_text,
    open_base,
)
from testbed.guest.ssh import start_ssh
from testbed.guest.tail import KMSG_PREFIX, LogTail
from testbed.plan.model import GuestPlan
from testbed.provision.cache import get_entry

_BOOT_SECONDS = 90.0
_SAVE_SECONDS = 60.0
_NEEDS_BYTES = 256 << 20
_MAX_FAILURES = 2
_FACTS = "cat /proc/sys/kernel/random/boot_id; uname -r"


class _GivenUp:
    """Keys that this process does not try any more: making or restoring them failed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}

    def note(self, key: str, *, final: bool) -> None:
        with self._lock:
            self._failures[key] = _MAX_FAILURES if final else self._failures.get(key, 0) + 1

    def has(self, key: str) -> bool:
        with self._lock:
            return self._failures.get(key, 0) >= _MAX_FAILURES


_given_up = _GivenUp()


@contextmanager
def base_session(plan: GuestPlan, lab: Lab) -> Iterator[Base | None]:
    """Yield the base to clone ``plan``'s guest from, made when there is none; None when it cannot be had.

    Why it cannot is an event of the case. What a base costs is paid once, under a lock of the cache.
    """
    key = base_key(plan, lab.provisioned, lab.accel, SESSION_CMDLINE)
    with ExitStack() as stack:
        try:
            base = None if _given_up.has(key) else stack.enter_context(_open(key, plan, lab))
        except (LabError, GuestPanicked) as error:
            if lab.stop.reason is not None:
                raise
            _given_up.note(key, final=True)
            lab.events.emit("base_failed", guest=plan.name, key=key, message=error.message, hint=error.hint)
            base = None
        yield base


def reject_base(base: Base, plan: GuestPlan, lab: Lab, why: str) -> None:
    """Note that no guest came of ``base`` and remove it; the next guest makes it again, once."""
    _given_up.note(base.key, final=False)
    lab.events.emit("clone_failed", guest=plan.name, base=base.facts.id, message=why)
    discard_base(lab.provisioned.cache, base.key)


@contextmanager
def _open(key: str, plan: GuestPlan, lab: Lab) -> Iterator[Base]:
    root = lab.provisioned.cache
    with ExitStack() as stack:
        _ensure(key, plan, lab)
        try:
            base = stack.enter_context(open_base(root, key))
        except SnapshotDamagedError as error:
            lab.events.emit("base_damaged", guest=plan.name, key=key, message=error.message)
            discard_base(root, key)
            _ensure(key, plan, lab)
            base = stack.enter_context(open_base(root, key))
        yield base


def _ensure(key: str, plan: GuestPlan, lab: Lab) -> None:
    root = lab.provisioned.cache
    made: list[BaseFacts] = []
    began = time.monotonic()
    get_entry(root, KIND, key, lambda folder: made.append(make_base(plan, lab, folder)), needs=_NEEDS_BYTES)
    for facts in made:
        seconds = round(time.monotonic() - began, 3)
        lab.events.emit("base_made", guest=plan.name, key=key, base=facts.id, seconds=seconds)
        for entry in find_surplus(root):
            discard_base(root, entry.key)


def make_base(plan: GuestPlan, lab: Lab, folder: Path) -> BaseFacts:
    """Boot the machine of ``plan``, with all its evidence in ``folder``, and save it there."""
    ram = folder / RAM_FILE
    began = time.monotonic()
    with EventLog(folder / "events.jsonl") as events:
        lab = replace(lab, folder=folder, events=events)
        with _booted(normalize(plan), lab) as machine:
            boot_id, release = _visit(machine, lab)
            booted = time.monotonic()
            base_id = secrets.token_hex(6)
            save(machine, base_id, ram, lab.deadline(_SAVE_SECONDS, "the guest to be saved"))
            saved = time.monotonic()
    with ram.open("rb") as file:
        digest = digest_ram(file.fileno())
    facts = BaseFacts(
        id=base_id,
        boot_id=boot_id,
        release=release,
        host_public=machine.identity.host_public,
        digest=digest,
        ram_bytes=ram.stat().st_blocks * 512,
        made_at=now_text(),
        boot_seconds=round(booted - began, 3),
        save_seconds=round(saved - booted, 3),
    )
    (folder / ABOUT_FILE).write_text(facts.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return facts


@contextmanager
def _booted(plan: GuestPlan, lab: Lab) -> Iterator[Machine]:
    liveness = Liveness(lambda _: None)
    console = lab.folder / "console.log"
    console.touch(mode=0o600)
    with (
        private_folder(lab.folder) as private,
        start_watcher(liveness, console) as watcher,
        start_machine(plan, lab, Surroundings(private, liveness, watcher)) as machine,
    ):
        wait_ready(machine, lab.deadline(_BOOT_SECONDS, "the base to boot"))
        yield machine


def _visit(machine: Machine, lab: Lab) -> tuple[str, str]:
    """Log in once, so that sshd is known to work and all its code has run; return boot ID and release."""
    deadline = lab.deadline(_BOOT_SECONDS, "the base to answer over SSH")
    kmsg = LogTail(lab.folder / "kmsg.log", alive=machine.liveness.check, prefix=KMSG_PREFIX)
    mark = f"testbed: base {machine.identity.nonce[:8]} is up"
    with start_ssh(
        machine.ssh_socket,
        machine.identity,
        folder=lab.folder,
        liveness=machine.liveness,
        deadline=deadline,
    ) as ssh:
        result = ssh.run(f"{_FACTS}; echo '{mark}' > /dev/kmsg", deadline=deadline)
        kmsg.wait(mark, deadline)
    lines = result.stdout.decode("ascii", "replace").split()
    if len(lines) != 2:
        raise LabError(f"the base does not say who it is: {result.stdout[:200]!r}")
    return lines[0], lines[1]
