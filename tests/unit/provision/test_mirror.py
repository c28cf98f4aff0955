"""The mirror comes from the host's apt configuration in either of its formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import ProvisionError, UsageError
from testbed.provision.mirror import get_mirror, load_sources, parse_deb822, parse_one_line

DEB822 = """\
# a comment
Types: deb deb-src
# http://commented.example/debian
URIs: http://one.example/debian/
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/x.gpg

Types: deb
URIs: http://two.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: trixie
Components: main

Types: deb-src
URIs: http://src.example/debian
Suites: trixie
Components: main
"""


def test_deb822_stanzas() -> None:
    found = [(source.uri, source.suite, source.components) for source in parse_deb822(DEB822)]
    assert found == [
        ("http://one.example/debian/", "bookworm", ("main", "contrib")),
        ("http://one.example/debian/", "bookworm-updates", ("main", "contrib")),
        ("http://two.example/debian-security", "bookworm-security", ("main",)),
    ]


def test_one_line_format() -> None:
    text = (
        "# deb http://commented.example/debian sid main\n"
        "deb cdrom:[Debian GNU/Linux]/ bookworm main\n"
        "deb-src http://src.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/x.gpg] http://one.example/debian bookworm main non-free # why\n"
    )
    [source] = parse_one_line(text)
    assert (source.uri, source.suite, source.components) == (
        "http://one.example/debian",
        "bookworm",
        ("main", "non-free"),
    )


def make_apt(tmp_path: Path, sources_list: str) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(sources_list)
    return tmp_path


def test_first_debian_archive_wins(tmp_path: Path) -> None:
    apt = make_apt(tmp_path, "deb http://sec.example/debian-security bookworm-security main\n")
    (apt / "sources.list.d" / "a.list").write_text("deb http://vendor.example/apt nodistro main\n")
    (apt / "sources.list.d" / "b.sources").write_text(DEB822)
    (apt / "sources.list.d" / "c.list.disabled").write_text("deb http://no.example/debian sid main\n")
    assert len(load_sources(apt)) == 5
    assert get_mirror(None, apt_dir=apt) == "http://one.example/debian"


def test_override_is_taken_as_it_is(tmp_path: Path) -> None:
    assert get_mirror("file:///srv/debian/", apt_dir=tmp_path) == "file:///srv/debian"
    with pytest.raises(UsageError, match="'trixie' is not the address of a mirror"):
        get_mirror("trixie", apt_dir=tmp_path)


def test_no_debian_archive_is_said_with_what_to_do(tmp_path: Path) -> None:
    apt = make_apt(tmp_path, "deb http://ubuntu.example/ubuntu noble main\n")
    with pytest.raises(ProvisionError, match="names no Debian archive") as caught:
        get_mirror(None, apt_dir=apt)
    assert "--mirror" in str(caught.value)
