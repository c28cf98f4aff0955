"""Which accelerator guests run under: KVM when it is proved to work, TCG otherwise, and why.

Opening ``/dev/kvm`` proves nothing: there are hosts where it opens, ``KVM_CREATE_VM`` succeeds and QEMU
reports "running", and a Linux guest then dies with ``internal-error``. So a tiny guest (`probe_rom`) is run.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from testbed.deadline import Deadline
from testbed.errors import LabError, LaunchError, UsageError
from testbed.guest.liveness import Liveness
from testbed.guest.private import private_folder
from testbed.guest.probe_rom import STATUS_PASSED, STATUS_WRONG, build_probe_argv, build_probe_rom
from testbed.guest.process import Grace, Process, spawn
from testbed.guest.qmp import Qmp, QmpEvent, start_qmp
from testbed.provision.model import Qemu

_PROBE_SECONDS = 5.0
_KVM = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROBE_VERSION = 1  # part of the cache key: a better probe asks again


@dataclass(frozen=True, slots=True, kw_only=True)
class Accel:
    """The accelerator that guests run under, and why."""

    name: Literal["kvm", "tcg"]
    reason: str


def probe_accel(choice: str, *, qemu: Qemu, cache: Path) -> Accel:
    """Turn ``auto``, ``kvm`` or ``tcg`` into the accelerator to use.

    What the probe says is kept in ``cache`` until the host boots again or QEMU changes. Raises `LabError`
    when KVM is asked for and does not work.
    """
    if choice == "tcg":
        return Accel(name="tcg", reason="asked for")
    if choice not in ("auto", "kvm"):
        raise UsageError(f"accelerator '{choice}' is not known", hint="--accel auto, kvm or tcg")
    why_not = _find_kvm_fault(qemu, cache)
    if why_not is None:
        return Accel(name="kvm", reason="a test guest ran under it")
    if choice == "kvm":
        raise LabError(f"KVM does not work here: {why_not}", hint="testbed run --accel tcg")
    return Accel(name="tcg", reason=why_not)


def _find_kvm_fault(qemu: Qemu, cache: Path) -> str | None:
    if not _KVM.exists():
        return "there is no /dev/kvm"
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return "/dev/kvm may not be opened (is the user in group 'kvm'?)"
    key = _cache_key(qemu)
    store = cache / "accel.json"
    known = _load(store)
    if known.get("key") == key:
        return None if known["fault"] is None else str(known["fault"])
    fault = run_probe(qemu, "kvm")
    _save(store, {"key": key, "fault": fault})
    return fault


def run_probe(qemu: Qemu, accel: str) -> str | None:
    """Return None when the test guest passed under ``accel``, else what it did instead."""
    with ExitStack() as stack:
        private = stack.enter_context(private_folder(Path("accelerator probe")))
        rom = private / "probe.rom"
        rom.write_bytes(build_probe_rom())
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        stack.enter_context(theirs)
        try:
            process = stack.enter_context(
                spawn(
                    [
                        *build_probe_argv(qemu.argv, accel, rom),
                        *("-S", "-chardev", f"socket,id=qmp,fd={theirs.fileno()}"),
                        *("-mon", "chardev=qmp,mode=control"),
                    ],
                    log=private / "qemu.log",
                    env=qemu.env,
                    pass_fds=(theirs.fileno(),),
                    grace=Grace(terminate=0.5),
                )
            )
            theirs.close()
            return _judge_probe(process, ours, private)
        except LaunchError as error:
            return f"QEMU does not start: {error.message}"


def _judge_probe(process: Process, sock: socket.socket, private: Path) -> str | None:
    deadline = Deadline.after(_PROBE_SECONDS, "the test guest")
    stopped = threading.Event()

    def see(event: QmpEvent) -> None:
        if event.name == "STOP":
            stopped.set()

    with ExitStack() as stack:
        try:
            qmp = stack.enter_context(
                start_qmp(
                    sock,
                    log=private / "qmp.jsonl",
                    liveness=Liveness(lambda _: None),
                    deadline=deadline,
                    on_event=see,
                    on_close=lambda: None,
                )
            )
            qmp.execute("cont", deadline=deadline)
            while not (process.wait(0.02) or stopped.is_set() or deadline.expired):
                pass
            return _describe(process, qmp, stopped.is_set())
        except LabError:
            process.wait(1.0)
            return _describe(process, None, False)


def _describe(process: Process, qmp: Qmp | None, stopped: bool) -> str | None:
    status = process.poll()
    if status == STATUS_PASSED:
        return None
    if status == STATUS_WRONG:
        return "/dev/kvm opens, but a test guest computed wrong results"
    if status is not None:
        last = process.log_tail().strip().splitlines()[-1:] or ["it said nothing"]
        return f"/dev/kvm is there, but QEMU {process.describe_end()}: {last[0]}"
    if stopped and qmp is not None:
        state = qmp.execute("query-status", deadline=Deadline.after(1.0, "QEMU's state"))["status"]
        return f"/dev/kvm opens, but a test guest stopped with {state}"
    return f"/dev/kvm opens, but a test guest of milliseconds did not end in {_PROBE_SECONDS:.0f} s"


def _cache_key(qemu: Qemu) -> str:
    text = json.dumps([_PROBE_VERSION, _BOOT_ID.read_text(), os.geteuid(), qemu.argv, qemu.version])
    return hashlib.sha256(text.encode()).hexdigest()


def _load(store: Path) -> dict[str, object]:
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and "fault" in known else {}


def _save(store: Path, answer: dict[str, object]) -> None:
    beside = store.with_name(f"{store.name}.{os.getpid()}")
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(answer), encoding="utf-8")
        beside.replace(store)
    except OSError as error:
        raise LabError(f"'{store}' cannot be written: {error.strerror}") from error
