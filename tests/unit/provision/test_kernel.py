"""Kernel names, configs and the closure of modules, on trees made by hand."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from testbed.errors import ProvisionError, UsageError
from testbed.provision.kernel import (
    is_kernel_package,
    load_tree_kernel,
    module_closure,
    parse_config,
    parse_depends,
)
from testbed.provision.model import Kernel

CONFIG = '# CONFIG_KASAN is not set\nCONFIG_SMP=y\nCONFIG_DRM=m\nCONFIG_LOCALVERSION="-x"\nCONFIG_HZ=250\n'


def make_tree(root: Path) -> Path:
    (root / "arch/x86/boot").mkdir(parents=True)
    (root / "include/config").mkdir(parents=True)
    (root / "arch/x86/boot/bzImage").write_bytes(b"image")
    (root / ".config").write_text(CONFIG)
    (root / "Module.symvers").write_text("")
    (root / "include/config/kernel.release").write_text("7.2.0-x\n")
    return root


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    modules = make_tree(tmp_path / "modules")
    depends = {"drm": "", "gpu-sched": "drm", "drm_exec": "drm", "top": "gpu-sched,drm_exec,built-in"}
    for name, needs in depends.items():
        content = b"\x7fELF\0license=GPL\0depends=" + needs.encode() + b"\0name=x\0"
        (modules / f"{name}.ko.xz").write_bytes(lzma.compress(content))
    (modules / "modules.order").write_text("".join(f"{name}.ko\n" for name in depends))
    (modules / "modules.builtin").write_text("kernel/lib/built-in.ko\n")
    return load_tree_kernel(str(modules))


def names(files: list[Path]) -> list[str]:
    return [file.name for file in files]


def test_closure_is_in_load_order_and_uncompressed(kernel: Kernel) -> None:
    files = module_closure(kernel, ["top"])
    assert names(files) == ["drm.ko", "gpu-sched.ko", "drm_exec.ko", "top.ko"]
    assert files[0].read_bytes().startswith(b"\x7fELF")


def test_closure_of_several_names_each_module_once(kernel: Kernel) -> None:
    assert names(module_closure(kernel, ["drm-exec", "gpu_sched", "drm"])) == [
        "drm.ko",
        "drm_exec.ko",
        "gpu-sched.ko",
    ]


def test_builtin_module_needs_no_file(kernel: Kernel) -> None:
    assert module_closure(kernel, ["built_in"]) == []


def test_unknown_module_suggests_a_known_one(kernel: Kernel) -> None:
    with pytest.raises(ProvisionError, match=r"kernel '7\.2\.0-x' has no module 'gpu_shed'") as caught:
        module_closure(kernel, ["gpu-shed"])
    assert "gpu_sched" in str(caught.value)


def test_a_module_that_is_like_none_points_to_ours(kernel: Kernel) -> None:
    with pytest.raises(ProvisionError, match=r"has no module '\./bla\.c'") as caught:
        module_closure(kernel, ["./bla.c"])
    assert caught.value.hint == "testbed list modules"


def test_modules_of_an_unpacked_tree_are_taken_in_place(kernel: Kernel) -> None:
    plain = kernel.modules_dir / "drm.ko"
    plain.write_bytes(b"\0depends=\0")
    assert module_closure(kernel, ["drm"]) == [plain]


def test_depends_field() -> None:
    assert parse_depends(b"x\0depends=a,b\0y") == ["a", "b"]
    assert parse_depends(b"x\0depends=\0y") == []
    assert parse_depends(b"nothing") == []


def test_config_keeps_what_is_on() -> None:
    assert parse_config(CONFIG) == {
        "CONFIG_SMP": "y",
        "CONFIG_DRM": "m",
        "CONFIG_LOCALVERSION": "-x",
        "CONFIG_HZ": "250",
    }


def test_tree_and_its_image_are_the_same_kernel(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    by_tree = load_tree_kernel(str(tree))
    by_image = load_tree_kernel(str(tree / "arch/x86/boot/bzImage"))
    assert by_tree.release == "7.2.0-x"
    assert by_tree.tree == tree
    assert by_tree.key == by_image.key
    (tree / "arch/x86/boot/bzImage").write_bytes(b"other")
    assert load_tree_kernel(str(tree)).key != by_tree.key


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"kernel 'linus' is not known \(known: default\)"):
        load_tree_kernel("linus")


def test_empty_name_is_no_tree() -> None:
    with pytest.raises(UsageError, match="kernel '' is not known"):
        load_tree_kernel("")


@pytest.mark.parametrize("missing", [".config", "Module.symvers", "arch/x86/boot/bzImage"])
def test_tree_that_is_not_built(tmp_path: Path, missing: str) -> None:
    (make_tree(tmp_path) / missing).unlink()
    with pytest.raises(UsageError, match=f"is not built: no '{missing}'"):
        load_tree_kernel(str(tmp_path))


@pytest.mark.parametrize("path", ["/etc/passwd", "/dev/null", "/usr"])
def test_path_that_is_no_kernel(path: str) -> None:
    with pytest.raises(UsageError, match=f"'{path}' is neither a kernel tree nor its arch/x86/boot/bzImage"):
        load_tree_kernel(path)


def test_file_that_is_no_image_of_a_tree(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(b"")
    with pytest.raises(UsageError, match="is neither a kernel tree"):
        load_tree_kernel(str(tmp_path / "vmlinuz"))


def test_packages_of_the_kernel_itself() -> None:
    release = "7.2.12+deb13-amd64"
    assert is_kernel_package(f"linux-modules-{release}", release)
    assert not is_kernel_package(f"linux-headers-{release}", release)
    assert not is_kernel_package("linux-modules-7.2.12xdeb13-amd64", release)
