"""``testbed doctor``: what this machine can do, a line for each, and what to do about the rest."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from testbed.outcome import ExitCode

_EPILOG = """\
Exit code 0 when runs can work, 2 when something that they need is missing. KVM is not needed.

examples:
  testbed doctor
"""
_DISK_BYTES = 3 << 30
_MEMORY_BYTES = 1 << 30
_SLOW = 3.0
_OLDEST_PYTHON = (3, 11)
Level = Literal["ok", "note", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One fact."""

    level: Level
    what: str
    found: str
    todo: str = ""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "doctor",
        help="check this machine and say what to do",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(main=main)


def main(_args: argparse.Namespace) -> ExitCode:
    """Print the facts."""
    from rich.text import Text

    from testbed.verdict.terminal import build_console

    console = build_console()
    styles = {"ok": "green", "note": "yellow", "bad": "bold red"}
    worst: list[Level] = []
    for check in CHECKS:
        for line in check():
            worst.append(line.level)
            text = Text.assemble((f"{line.level:4}", styles[line.level]), f"  {line.what:12} {line.found}")
            console.print(text, soft_wrap=True)
            if line.todo:
                console.print(Text(f"                    -> {line.todo}", style="dim"), soft_wrap=True)
    return ExitCode.LAB if "bad" in worst else ExitCode.OK


def check_python() -> Iterator[Line]:
    """Python's version."""
    good = sys.version_info >= _OLDEST_PYTHON
    todo = "" if good else "install Python 3.11 or newer"
    yield Line(level="ok" if good else "bad", what="python", found=platform.python_version(), todo=todo)


def check_machine() -> Iterator[Line]:
    """Architecture, CPUs and memory."""
    import psutil

    machine = platform.machine()
    good = machine == "x86_64"
    yield Line(
        level="ok" if good else "bad",
        what="machine",
        found=f"{machine}, {os.cpu_count()} CPUs, {platform.release()}",
        todo="" if good else "the toolbox and the guests are amd64; use an x86_64 host",
    )
    free = psutil.virtual_memory().available
    enough = free >= _MEMORY_BYTES
    yield Line(
        level="ok" if enough else "bad",
        what="memory",
        found=f"{free / 2**30:.1f} GiB available",
        todo="" if enough else "a guest takes 512 MiB; free at least 1 GiB",
    )


def check_disk() -> Iterator[Line]:
    """Free space for the cache and for run folders."""
    from testbed.provision.cache import find_cache_root

    for what, path in (("cache", find_cache_root()), ("runs", Path("runs").absolute())):
        place = next(folder for folder in (path, *path.parents) if folder.exists())
        free = shutil.disk_usage(place).free
        enough = free >= _DISK_BYTES or what == "runs"
        writable = os.access(place, os.W_OK)
        todo = "" if enough else "3 GiB are needed: free some, or set TESTBED_CACHE to another disk"
        if not writable:
            todo = f"'{place}' cannot be written to: set TESTBED_CACHE or --out to a folder of yours"
        yield Line(
            level="ok" if enough and writable else "bad",
            what=what,
            found=f"{path}, {free / 2**30:.1f} GiB free",
            todo=todo,
        )


def check_programs() -> Iterator[Line]:
    """Programs of the host that setup uses."""
    from testbed.provision.process import HOST_PROGRAMS, find_missing_programs

    missing = find_missing_programs()
    packages = " ".join(sorted({HOST_PROGRAMS[program] for program in missing}))
    yield Line(
        level="bad" if missing else "ok",
        what="programs",
        found=f"missing: {', '.join(missing)}" if missing else ", ".join(HOST_PROGRAMS),
        todo=f"apt-get install {packages}" if missing else "",
    )


def check_namespaces() -> Iterator[Line]:
    """Whether namespaces can be made, in which the toolbox is entered; proved by making one."""
    from testbed.provision.process import run_program

    root = os.geteuid() == 0
    done = run_program(["unshare", *(["-m"] if root else ["-Urm"]), "true"])
    way = "as root" if root else "by an unprivileged user namespace"
    if done.status == 0:
        yield Line(level="ok", what="namespaces", found=f"the toolbox is entered {way}")
        return
    yield Line(
        level="bad",
        what="namespaces",
        found=f"none can be made {way}: {done.output.strip()}",
        todo="sysctl user.max_user_namespaces kernel.apparmor_restrict_unprivileged_userns; or run as root",
    )


def check_setup() -> Iterator[Line]:
    """What setup has made, and whether KVM works with it."""
    from testbed.errors import TestbedError
    from testbed.guest.accel import probe_accel
    from testbed.provision.cache import find_cache_root
    from testbed.provision.kernel import find_packaged_kernel
    from testbed.provision.lock import find_lock
    from testbed.provision.qemu import find_user_qemu, probe_user_qemu
    from testbed.provision.toolbox import find_toolbox
    from testbed.schedule.calibration import probe_scale
    from testbed.schedule.capacity import count_cores

    root = find_cache_root()
    try:
        lock = find_lock(root)
        toolbox = find_toolbox(root, lock.toolbox) if lock else None
        kernel = find_packaged_kernel(root, lock.kernel.key, lock.kernel_release) if lock else None
        named = find_user_qemu()
        qemu = probe_user_qemu(named) if named else toolbox.qemu if toolbox else None
    except TestbedError as error:
        yield Line(level="bad", what="toolbox", found=error.message, todo=error.hint or "testbed setup")
        return
    if toolbox is None or kernel is None or qemu is None:
        todo = "testbed setup (testbed run does it too)"
        yield Line(level="note", what="toolbox", found=f"not made yet in {root}", todo=todo)
        kvm = "there, not proved yet" if Path("/dev/kvm").exists() else "not there; guests run by TCG"
        yield Line(level="note", what="/dev/kvm", found=kvm)
        return
    version = ".".join(map(str, qemu.version))
    yield Line(level="ok", what="toolbox", found=f"{len(toolbox.packages)} packages in {toolbox.root}")
    yield Line(level="ok", what="qemu", found=f"{version} ({qemu.origin})")
    yield Line(level="ok", what="kernel", found=f"{kernel.release} ({kernel.name})")
    accel = probe_accel("auto", qemu=qemu, cache=root)
    scale = probe_scale(qemu, accel, root, jobs=count_cores())
    budgets = f"budgets of scenarios x {scale.factor:g}: {scale.reason}"
    yield Line(level="ok" if scale.factor < _SLOW else "note", what="speed", found=budgets)
    found = "works: a test guest ran" if accel.name == "kvm" else f"guests run by TCG: {accel.reason}"
    yield Line(level="ok" if accel.name == "kvm" else "note", what="kvm", found=found)


CHECKS: tuple[Callable[[], Iterator[Line]], ...] = (
    check_python,
    check_machine,
    check_disk,
    check_programs,
    check_namespaces,
    check_setup,
)
