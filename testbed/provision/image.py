"""The guest image: a RAM disk with busybox, dropbear, and our init, for one kernel.

The archive is not compressed: unpacking it costs more under emulation than reading it.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from testbed.errors import ProvisionError
from testbed.provision.cache import build_key, find_entry, get_entry, hash_tree
from testbed.provision.cpio import Entry, character_device, directory, regular, symlink, write_archive
from testbed.provision.enter import run_inside
from testbed.provision.kernel import module_closure
from testbed.provision.model import Image, Kernel, Toolbox
from testbed.provision.process import run_program
from testbed.provision.qemu import loader_argv
from testbed.provision.sources import INIT, RECIPE

_KIND = "image"
_ARCHIVE = "initramfs.cpio"
_DESCRIPTION = "image.json"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_LOADER = "lib64/ld-linux-x86-64.so.2"
_INTERPRETER = b"/lib64/ld-linux-x86-64.so.2"


def image_key(toolbox: Toolbox, kernel: Kernel) -> str:
    """Return the key of the image for ``kernel``: it changes with the recipe, init, and both of them."""
    here = hash_tree(Path(__file__).parent, "image.py")
    return build_key(toolbox.key, kernel.key, RECIPE.read_bytes(), hash_tree(INIT), here)


def find_image(root: Path, toolbox: Toolbox, kernel: Kernel) -> Image | None:
    """Return the image from the cache at ``root``, or None when it is not there or damaged."""
    key = image_key(toolbox, kernel)
    path = find_entry(root, _KIND, key)
    return _load(path, key) if path else None


def build_image(root: Path, toolbox: Toolbox, kernel: Kernel) -> Image:
    """Return the image for ``kernel``, made when needed."""
    key = image_key(toolbox, kernel)

    def build(target: Path) -> None:
        recipe = tomllib.loads(RECIPE.read_text())
        modules = module_closure(kernel, recipe["modules"])
        entries = [
            *_skeleton(recipe),
            *_programs(toolbox.root, recipe["programs"]),
            *_modules(modules),
            regular("init", _compile_init(toolbox, target), 0o755),
        ]
        with (target / _ARCHIVE).open("wb") as out:
            write_archive(out, entries)
        names = [path.stem.replace("-", "_") for path in modules]
        (target / _DESCRIPTION).write_text(json.dumps({"cmdline": recipe["cmdline"], "modules": names}))

    return _load(get_entry(root, _KIND, key, build), key)


def _load(path: Path, key: str) -> Image:
    description = json.loads((path / _DESCRIPTION).read_text())
    return Image(
        key=key,
        initramfs=path / _ARCHIVE,
        cmdline=tuple(description["cmdline"]),
        modules=tuple(description["modules"]),
    )


def _skeleton(recipe: dict[str, Any]) -> list[Entry]:
    merged = (
        "usr",
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        _LIBRARIES,
        "etc",
        "etc/testbed",
        "usr/local",
    )
    links = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
    return [
        *(directory(name) for name in merged),
        *(directory(name, 0o700 if name.startswith("root") else 0o755) for name in recipe["directories"]),
        *(symlink(name, target) for name, target in links.items()),
        *(regular(name, text.encode()) for name, text in recipe["files"].items()),
        character_device("dev/console", 5, 1),
    ]


def _programs(toolbox: Path, programs: list[str]) -> list[Entry]:
    entries: list[Entry] = []
    libraries: dict[str, Path] = {}
    for name in programs:
        entries.append(regular(name, (toolbox / name).read_bytes(), 0o755))
        libraries |= _libraries(toolbox, name)
    entries += [regular(f"{_LIBRARIES}/{name}", path.read_bytes(), 0o755) for name, path in libraries.items()]
    entries.append(regular(f"usr/{_LOADER}", (toolbox / _LOADER).read_bytes(), 0o755))
    return entries + _applets(toolbox, {entry.name for entry in entries})


def _applets(toolbox: Path, taken: set[str]) -> list[Entry]:
    listed = run_program([toolbox / "usr/bin/busybox", "--list-full"]).output.split()
    names = {name if name.startswith("usr/") else f"usr/{name}" for name in listed}
    return [symlink(name, "/usr/bin/busybox") for name in sorted(names - taken)]


def _libraries(toolbox: Path, program: str) -> dict[str, Path]:
    if _INTERPRETER not in (toolbox / program).read_bytes()[:4096]:
        return {}
    loader, *rest = loader_argv(toolbox, program)
    listed = run_program([loader, "--list", *rest])
    if listed.status != 0 or "not found" in listed.output:
        raise ProvisionError(f"'{program}' lacks a library: {listed.tail}", where=str(toolbox))
    found = re.findall(r"^\s*(\S+) => (\S+)", listed.output, re.MULTILINE)
    return {name: Path(path) for name, path in found if "/" not in name}


def _modules(files: list[Path]) -> list[Entry]:
    names = [f"usr/lib/modules/{file.name}" for file in files]
    listing = regular("etc/testbed/modules", "".join(f"/{name}\n" for name in names).encode())
    folder = directory("usr/lib/modules")
    return [
        folder,
        listing,
        *(regular(name, file.read_bytes()) for name, file in zip(names, files, strict=True)),
    ]


def _compile_init(toolbox: Toolbox, scratch: Path) -> bytes:
    out = scratch / "init"
    flags = ("-std=gnu17", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror")
    sources = [f"/src/{path.name}" for path in sorted(INIT.glob("*.c"))]
    argv = ["gcc", *flags, "-o", "/out/init", *sources]
    done = run_inside(toolbox.root, argv, binds={"/src": INIT, "/out": scratch})
    if done.status != 0:
        raise ProvisionError(
            f"init of the guest image does not compile:\n{done.output.strip()}", where=str(INIT)
        )
    program = out.read_bytes()
    out.unlink()
    return program
