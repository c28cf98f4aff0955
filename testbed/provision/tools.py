"""Programs that run in the guest: our own tools, and anything else that is built by ``make OUT=dir``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from testbed.errors import ProvisionError
from testbed.provision.cache import build_key, find_entry, get_entry, hash_tree
from testbed.provision.enter import run_inside
from testbed.provision.model import Provisioned
from testbed.provision.sources import TOOLS, UAPI

_KIND = "tools"


def find_tools(provisioned: Provisioned, source: Path = TOOLS) -> Path | None:
    """Return what `build_tools` would, if it is built already."""
    return find_entry(provisioned.cache, _KIND, _key(provisioned, source))


def build_tools(provisioned: Provisioned, source: Path = TOOLS) -> Path:
    """Return a directory that holds exactly the programs that ``make`` builds in ``source``.

    Raises `ProvisionError` with the compiler's output when one does not compile.
    """
    toolbox = provisioned.toolbox

    def build(directory: Path) -> None:
        shutil.copytree(source, directory / "tools")
        shutil.copytree(UAPI, directory / "uapi")
        (directory / "out").mkdir()
        argv = ["make", f"-j{os.cpu_count() or 1}", "-C", "/build/tools", "OUT=/build/out", "CC=gcc"]
        done = run_inside(toolbox.root, argv, binds={"/build": directory})
        if done.status != 0:
            raise ProvisionError(f"guest tools do not compile:\n{done.output.strip()}", where=str(source))
        for path in list((directory / "out").iterdir()):
            if path.is_file():
                path.rename(directory / path.name)
        for used in ("tools", "uapi", "out"):
            shutil.rmtree(directory / used)

    return get_entry(provisioned.cache, _KIND, _key(provisioned, source), build)


def _key(provisioned: Provisioned, source: Path) -> str:
    return build_key(provisioned.toolbox.key, hash_tree(source), hash_tree(UAPI))
