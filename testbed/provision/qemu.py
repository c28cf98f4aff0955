"""Which QEMU: the toolbox's, started by the toolbox's own loader, or one that the user names."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from testbed.errors import ProvisionError, UsageError
from testbed.provision.model import Qemu
from testbed.provision.process import run_program

OLDEST = (10, 1, 0)
"""First QEMU with ``vfio-user-pci``."""
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_HINT = "unset TESTBED_QEMU to use the toolbox's QEMU, or name one: TESTBED_QEMU=PATH testbed run"


def loader_argv(root: Path, program: str) -> tuple[str, ...]:
    """Return how ``program`` (a path below ``root``) runs on this host with the libraries of ``root``."""
    loader = root / "lib64" / "ld-linux-x86-64.so.2"
    return (str(loader), "--library-path", str(root / _LIBRARIES), str(root / program))


def build_toolbox_qemu(root: Path, version: str) -> Qemu:
    """Return the QEMU of the toolbox at ``root``; ``version`` is that of its package."""
    share = root / "usr" / "share"
    firmware = ("-L", str(share / "qemu"), "-L", str(share / "seabios"))
    return Qemu(
        argv=(*loader_argv(root, "usr/bin/qemu-system-x86_64"), *firmware),
        img_argv=loader_argv(root, "usr/bin/qemu-img"),
        env={"QEMU_MODULE_DIR": str(root / _LIBRARIES / "qemu")},
        version=parse_version(version.removeprefix("1:")),
        origin="toolbox",
    )


def find_user_qemu() -> str | None:
    """Return the QEMU that the user named by ``$TESTBED_QEMU``."""
    return os.environ.get("TESTBED_QEMU") or None


def probe_user_qemu(named: str) -> Qemu:
    """Return the QEMU called ``named`` (program or path) after asking it for its version and devices.

    Raises `UsageError` when it is not there, is too old, or lacks ``vfio-user-pci``.
    """
    found = shutil.which(named)
    if found is None:
        raise UsageError(f"QEMU '{named}' is not a program", hint=_HINT)
    version = parse_version(run_program([found, "-version"]).output)
    if version < OLDEST:
        raise UsageError(f"QEMU '{named}' is {_dotted(version)}; 10.1 or newer is needed", hint=_HINT)
    if "vfio-user-pci" not in run_program([found, "-device", "help"]).output:
        raise UsageError(f"QEMU '{named}' was built without vfio-user-pci", hint=_HINT)
    image_tool = Path(found).with_name("qemu-img")
    tool = str(image_tool) if image_tool.exists() else shutil.which("qemu-img")
    if tool is None:
        raise UsageError(f"there is no qemu-img beside QEMU '{named}'", hint=_HINT)
    return Qemu(argv=(found,), img_argv=(tool,), env={}, version=version, origin=found)


def parse_version(text: str) -> tuple[int, int, int]:
    """Return the first version number in ``text``. Raises `ProvisionError` when there is none."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    if not found:
        raise ProvisionError(f"QEMU's version cannot be read from {text.strip()[:80]!r}", hint=_HINT)
    return int(found[1]), int(found[2]), int(found[3] or 0)


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
