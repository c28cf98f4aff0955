"""The toolbox in the cache is taken only while it holds every package that this version asks for."""

from pathlib import Path

from testbed.provision import toolbox
from testbed.provision.cache import get_entry
from testbed.provision.lock import LockedPackage, LockedSet


def _locked(names: tuple[str, ...]) -> LockedSet:
    package = LockedPackage(version="1:11.1.3+ds-1", size=1, sha256="0" * 64)
    return LockedSet(key="a" * 32, packages=dict.fromkeys(names, package))


def test_a_toolbox_made_for_an_older_list_of_packages_is_not_taken(tmp_path: Path) -> None:
    get_entry(tmp_path, toolbox.KIND, "a" * 32, lambda folder: (folder / "usr").mkdir(), needs=0)

    found = toolbox.find_toolbox(tmp_path, _locked(toolbox.PACKAGES))
    assert found is not None
    assert found.qemu.version == (11, 1, 3)
    assert toolbox.find_toolbox(tmp_path, _locked(toolbox.PACKAGES[1:])) is None
