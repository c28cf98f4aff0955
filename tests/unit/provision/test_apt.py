"""The private apt directory, against a small archive in a directory and the real apt."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from testbed.errors import ProvisionError
from testbed.provision.apt import (
    Archive,
    build_archive,
    fetch_packages,
    find_dependencies,
    resolve_packages,
    update_index,
)


def ignore(_part: float) -> None:
    pass


def add_package(mirror: Path, name: str, version: str, *, depends: str = "", there: bool = True) -> None:
    content = f"{name} {version}".encode()
    file = f"pool/{name}_{version}_amd64.deb"
    (mirror / "pool").mkdir(exist_ok=True)
    if there:
        (mirror / file).write_bytes(content)
    index = mirror / "dists/s/main/binary-amd64/Packages"
    index.parent.mkdir(parents=True, exist_ok=True)
    needs = f"Depends: {depends}\n" if depends else ""
    with index.open("a") as out:
        out.write(
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n{needs}Filename: {file}\n"
            f"Size: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n\n"
        )


def open_archive(tmp_path: Path, mirror: Path) -> Archive:
    index = (mirror / "dists/s/main/binary-amd64/Packages").read_bytes()
    digest = f"{hashlib.sha256(index).hexdigest()} {len(index)} main/binary-amd64/Packages"
    (mirror / "dists/s/Release").write_text(
        f"Suite: s\nCodename: s\nComponents: main\nArchitectures: amd64\nSHA256:\n {digest}\n"
    )
    archive = build_archive(tmp_path / "apt", f"file:{mirror}", ["s"], options="trusted=yes")
    update_index(archive, ignore)
    return archive


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    path = tmp_path / "mirror"
    path.mkdir()
    return path


def test_newest_version_and_its_dependencies(tmp_path: Path, mirror: Path) -> None:
    add_package(mirror, "tool", "1.0", depends="lib")
    add_package(mirror, "tool", "2.0", depends="lib, extra")
    add_package(mirror, "lib", "1")
    add_package(mirror, "extra", "1")
    archive = open_archive(tmp_path, mirror)
    found = [(deb.name, deb.version) for deb in resolve_packages(archive, ["tool"])]
    assert found == [("extra", "1"), ("lib", "1"), ("tool", "2.0")]
    assert find_dependencies(archive, "tool") == ["lib", "extra"]


def test_version_that_cannot_be_had_gives_way_to_an_older_one(tmp_path: Path, mirror: Path) -> None:
    add_package(mirror, "tool", "1.0")
    add_package(mirror, "tool", "2.0", there=False)
    archive, said = open_archive(tmp_path, mirror), list[str]()
    [deb] = fetch_packages(archive, lambda: ["tool"], ignore, said.append)
    assert deb.version == "1.0"
    assert said == ["tool 2.0 is listed but cannot be downloaded: looking for an older one"]


def test_no_version_can_be_had(tmp_path: Path, mirror: Path) -> None:
    add_package(mirror, "tool", "1.0", there=False)
    archive = open_archive(tmp_path, mirror)
    with pytest.raises(ProvisionError, match="tool"):
        fetch_packages(archive, lambda: ["tool"], ignore, lambda _text: None)


def test_unknown_package_is_named(tmp_path: Path, mirror: Path) -> None:
    add_package(mirror, "tool", "1.0")
    with pytest.raises(ProvisionError, match="Unable to locate package nothing"):
        resolve_packages(open_archive(tmp_path, mirror), ["nothing"])


def test_mirror_that_does_not_answer_is_one_line_with_a_hint(tmp_path: Path) -> None:
    archive = build_archive(tmp_path / "apt", f"file:{tmp_path}/not-there", ["s"], options="trusted=yes")
    with pytest.raises(ProvisionError, match="the Debian mirror cannot be used") as caught:
        update_index(archive, ignore)
    assert "--mirror" in str(caught.value)
    assert "\n" not in caught.value.message
