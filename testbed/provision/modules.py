"""Out-of-tree kernel modules, built for one kernel inside the toolbox."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from testbed.errors import ProvisionError, UsageError
from testbed.provision.cache import build_key, find_entry, get_entry, hash_tree
from testbed.provision.enter import run_inside
from testbed.provision.model import Provisioned
from testbed.provision.sources import UAPI

_KIND = "module"
_RECIPE = "2"  # part of the key: how a module is built, not what from


def find_module(provisioned: Provisioned, source: Path) -> Path | None:
    """Return what `build_module` would, if it is built already."""
    found = find_entry(provisioned.cache, _KIND, _key(provisioned, source))
    return found / f"{source.name}.ko" if found else None


def build_module(provisioned: Provisioned, source: Path) -> Path:
    """Return ``NAME.ko`` built from the directory ``source`` (with ``Kbuild``; NAME is the directory's name).

    The headers of ``guest-images/uapi`` are at ``../../uapi`` seen from the sources. Warnings are errors.
    Debug information is left out: SSH pushes the file into every guest. Raises `UsageError` when ``source``
    holds no ``Kbuild``, `ProvisionError` with the compiler's output when it does not compile.
    """
    if not (source / "Kbuild").exists():
        raise UsageError(f"'{source}' is no kernel module: it holds no Kbuild file")
    kernel, toolbox = provisioned.kernel, provisioned.toolbox
    name = f"{source.name}.ko"

    def build(directory: Path) -> None:
        shutil.copytree(source, directory / "modules" / source.name)
        shutil.copytree(UAPI, directory / "uapi")
        inside = f"/build/modules/{source.name}"
        where = shlex.quote(str(kernel.build_dir))
        make = f"make -j{os.cpu_count() or 1} -C {where} M={inside} W=1 KCFLAGS=-Werror modules"
        binds = {"/build": directory} | ({str(kernel.tree): kernel.tree} if kernel.tree else {})
        script = f"{make} && strip --strip-debug {inside}/{name}"
        done = run_inside(toolbox.root, ["sh", "-c", script], binds=binds)
        built = directory / "modules" / source.name / name
        if done.status != 0:
            what = f"module '{source.name}' does not compile for kernel '{kernel.release}'"
            raise ProvisionError(f"{what}:\n{done.output.strip()}", where=str(source))
        built.rename(directory / name)
        (directory / "build.log").write_text(done.output)
        shutil.rmtree(directory / "modules")
        shutil.rmtree(directory / "uapi")

    return get_entry(provisioned.cache, _KIND, _key(provisioned, source), build) / name


def _key(provisioned: Provisioned, source: Path) -> str:
    kernel, toolbox = provisioned.kernel, provisioned.toolbox
    return build_key(_RECIPE, kernel.key, toolbox.key, source.name, hash_tree(source), hash_tree(UAPI))
