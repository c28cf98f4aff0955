"""Kernels by name or path, and the modules that a module needs.

``default`` is what the lock file says about Debian's newest. Anything else is a path: a built kernel tree,
or the ``bzImage`` inside of one.
"""

from __future__ import annotations

import difflib
import gzip
import lzma
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from testbed.errors import ProvisionError, UsageError
from testbed.provision.apt import Archive, Deb, find_dependencies
from testbed.provision.cache import build_key, find_cache_root, find_entry, get_entry
from testbed.provision.debs import unpack_packages
from testbed.provision.model import Kernel
from testbed.provision.progress import Advance

DEFAULT = "default"
KNOWN = (DEFAULT,)
KIND = "kernel"
_BZIMAGE = Path("arch/x86/boot/bzImage")
_META_PACKAGE = "linux-image-amd64"
_HEADERS = "/usr/src/linux-headers-{release}"
_DEPENDS = re.compile(rb"(?:^|\0)depends=([^\0]*)\0")
_UNPACK: Mapping[str, Callable[[bytes], bytes]] = {
    ".ko": bytes,
    ".xz": lzma.decompress,
    ".gz": gzip.decompress,
}


def find_release(archive: Archive) -> str:
    """Return the release (``uname -r``) of the newest kernel that the archive has."""
    for name in find_dependencies(archive, _META_PACKAGE):
        if name.startswith("linux-image-"):
            return name.removeprefix("linux-image-")
    raise ProvisionError(f"'{_META_PACKAGE}' depends on no kernel image")


def kernel_packages(archive: Archive) -> list[str]:
    """Return the packages that hold the files of the newest kernel, without what they would pull in."""
    release = find_release(archive)
    parts = find_dependencies(archive, f"linux-image-{release}")
    found = [name for name in parts if is_kernel_package(name, release) and name != f"linux-image-{release}"]
    return found or [f"linux-image-{release}"]


def is_kernel_package(name: str, release: str) -> bool:
    """Whether package ``name`` holds files of kernel ``release`` itself (headers do not)."""
    return re.fullmatch(rf"linux-(image|modules|binary|base)-{re.escape(release)}", name) is not None


def kernel_key(debs: Sequence[Deb]) -> str:
    """Return the key of the kernel made of ``debs``."""
    return build_key(*(f"{deb.file} {deb.digest}" for deb in debs))


def build_kernel(root: Path, archive: Archive, debs: Sequence[Deb], advance: Advance) -> Path:
    """Return the directory of a packaged kernel in the cache at ``root``, unpacking ``debs`` when needed."""
    needs = 2 * sum(deb.size for deb in debs)

    def build(directory: Path) -> None:
        unpack_packages(archive, debs, directory, advance)

    return get_entry(root, KIND, kernel_key(debs), build, needs=needs)


def find_packaged_kernel(root: Path, key: str, release: str) -> Kernel | None:
    """Return the kernel ``default`` from the cache, or None when it is not there or damaged."""
    path = find_entry(root, KIND, key)
    if path is None:
        return None
    modules = next(path.glob(f"**/lib/modules/{release}"))
    config = _first(modules / "config", path / "boot" / f"config-{release}")
    return Kernel(
        name=DEFAULT,
        key=key,
        release=release,
        image=_first(modules / "vmlinuz", path / "boot" / f"vmlinuz-{release}"),
        modules_dir=modules,
        build_dir=Path(_HEADERS.format(release=release)),
        tree=None,
        config=parse_config(config.read_text()),
    )


def load_tree_kernel(name: str) -> Kernel:
    """Return the kernel built in the tree ``name``, or in the tree of the ``bzImage`` called ``name``.

    Raises `UsageError` when it is no path to a kernel, or when the tree is not fully built.
    """
    path = Path(name).expanduser().absolute()
    if not name or not path.exists():
        raise UsageError(
            f"kernel '{name}' is not known (known: {', '.join(KNOWN)}) and no path",
            hint="testbed list kernels",
        )
    tree = _find_tree(path)
    if tree is None:
        raise UsageError(
            f"'{path}' is neither a kernel tree nor its {_BZIMAGE}",
            hint="testbed run --kernel TREE, the folder of a kernel's source that is built",
        )
    wanted = (
        tree / _BZIMAGE,
        tree / ".config",
        tree / "Module.symvers",
        tree / "include/config/kernel.release",
    )
    for file in wanted:
        if not file.exists():
            raise UsageError(
                f"kernel tree '{tree}' is not built: no '{file.relative_to(tree)}'", hint=f"make -C {tree}"
            )
    image, config_text = tree / _BZIMAGE, (tree / ".config").read_text()
    release = (tree / "include/config/kernel.release").read_text().strip()
    return Kernel(
        name=name,
        key=build_key(release, config_text, image.read_bytes(), (tree / "Module.symvers").read_bytes()),
        release=release,
        image=image,
        modules_dir=tree,
        build_dir=tree,
        tree=tree,
        config=parse_config(config_text),
    )


def _find_tree(path: Path) -> Path | None:
    if path.is_dir():
        signs = ("Kbuild", ".config", _BZIMAGE)
        return path if any((path / sign).exists() for sign in signs) else None
    image = path.resolve()
    return (
        image.parents[len(_BZIMAGE.parts) - 1]
        if image.parts[-len(_BZIMAGE.parts) :] == _BZIMAGE.parts
        else None
    )


def parse_config(text: str) -> dict[str, str]:
    """Return the options of a kernel ``.config`` that are not off; quotes of strings are taken away."""
    options = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and name.startswith("CONFIG_"):
            options[name] = value.strip('"')
    return options


def module_closure(kernel: Kernel, names: Iterable[str]) -> list[Path]:
    """Return the files of modules ``names`` and of all that they depend on, uncompressed, in load order.

    What the kernel has built in is left out. Raises `ProvisionError` for a name that it does not have.
    """
    ordered: dict[str, Path] = {}

    def visit(name: str) -> None:
        name = _canonical(name)
        if name in ordered or name in _builtin_modules(kernel.modules_dir):
            return
        file = _plain_module(kernel, name)
        for needed in parse_depends(file.read_bytes()):
            visit(needed)
        ordered[name] = file

    for name in names:
        visit(name)
    return list(ordered.values())


def parse_depends(module: bytes) -> list[str]:
    """Return the names that an uncompressed module says it depends on."""
    found = _DEPENDS.search(module)
    return found[1].decode().split(",") if found and found[1] else []


def _plain_module(kernel: Kernel, name: str) -> Path:
    stem = _module_index(kernel.modules_dir).get(name)
    if stem is None:
        close = difflib.get_close_matches(name, _module_index(kernel.modules_dir), n=1)
        hint = f"did you mean '{close[0]}'?" if close else "testbed list modules"
        raise ProvisionError(f"kernel '{kernel.release}' has no module '{name}'", hint=hint)
    if stem.exists():
        return stem
    packed = next((path for path in stem.parent.glob(f"{stem.name}.*") if path.suffix in _UNPACK), None)
    if packed is None:
        raise ProvisionError(
            f"module '{name}' is not there, or packed in a way that is not known", where=str(stem)
        )

    def build(directory: Path) -> None:
        (directory / stem.name).write_bytes(_UNPACK[packed.suffix](packed.read_bytes()))

    return get_entry(find_cache_root(), "plain", build_key(kernel.key, name), build) / stem.name


@lru_cache(maxsize=8)
def _module_index(modules_dir: Path) -> dict[str, Path]:
    order = modules_dir / "modules.order"
    lines = order.read_text().splitlines() if order.exists() else []
    return {_canonical(Path(line).stem): modules_dir / Path(line).with_suffix(".ko") for line in lines}


@lru_cache(maxsize=8)
def _builtin_modules(modules_dir: Path) -> frozenset[str]:
    builtin = modules_dir / "modules.builtin"
    lines = builtin.read_text().splitlines() if builtin.exists() else []
    return frozenset(_canonical(Path(line).stem) for line in lines)


def _canonical(name: str) -> str:
    return name.replace("-", "_")


def _first(*paths: Path) -> Path:
    found = next((path for path in paths if path.exists()), None)
    if found is None:
        raise ProvisionError(f"the kernel's packages hold no '{paths[0].name}'", where=str(paths[0].parent))
    return found
