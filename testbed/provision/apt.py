"""Packages of another Debian release, by the host's apt in a directory of its own.

Nothing of the host's package database is read or written; only its network settings (proxies, credentials)
are taken over. Downloads are resumed by apt where an earlier attempt stopped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from testbed.errors import ProvisionError
from testbed.provision.process import Finished, run_program
from testbed.provision.progress import Advance

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MIRROR_HINT = "check the network, or name another mirror: testbed setup --mirror URL"
_URI_LINE = re.compile(r"'(?P<uri>[^']*)' (?P<file>\S+) (?P<size>\d+) ?(?P<hash>\S*)")
_PINNED_ATTEMPTS = 4

_CONFIG = """\
Dir "{root}";
Dir::State "state";
Dir::State::status "{root}/status";
Dir::Cache "cache";
Dir::Etc "etc";
Dir::Etc::netrc "/etc/apt/auth.conf";
Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Default-Release "{release}";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::http::Timeout "20";
Acquire::Retries "2";
{network}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A private apt directory at ``root``, prepared by `build_archive`."""

    root: Path

    @property
    def env(self) -> dict[str, str]:
        """What makes apt use this directory."""
        return {"APT_CONFIG": str(self.root / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}

    @property
    def downloads(self) -> Path:
        """Where downloaded packages are."""
        return self.root / "cache" / "archives"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deb:
    """One package to download. ``digest`` is whatever hash the index has, with its name."""

    name: str
    version: str
    file: str
    size: int
    digest: str


def build_archive(
    root: Path, mirror: str, suites: Sequence[str], *, options: str = f"signed-by={KEYRING}"
) -> Archive:
    """Write the configuration of a private apt directory; the last suite is the preferred one."""
    if "signed-by" in options and not KEYRING.exists():
        raise ProvisionError(
            "the keys of the Debian archive are missing",
            where=str(KEYRING),
            hint="apt-get install debian-archive-keyring",
        )
    for part in (
        "state/lists/partial",
        "cache/archives/partial",
        "nowhere/partial",
        "etc/preferences.d",
        "etc/apt.conf.d",
    ):
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / "status").touch()
    (root / "apt.conf").write_text(
        _CONFIG.format(root=root, release=suites[-1], network=_host_network_settings())
    )
    # apt uses the packages of a file: archive where they are; we want them all in one place
    mirror = re.sub("^file:", "copy:", mirror)
    lines = [f"deb [{options}] {mirror} {suite} main\n" for suite in suites]
    (root / "etc" / "sources.list").write_text("".join(lines))
    return Archive(root=root)


def update_index(archive: Archive, advance: Advance) -> None:
    """Download the package lists. Raises `ProvisionError` when the mirror does not answer."""
    done = _apt(archive, "update", advance=advance)
    if done.status != 0:
        raise ProvisionError(f"the Debian mirror cannot be used: {_reason(done)}", hint=_MIRROR_HINT)


def find_dependencies(archive: Archive, package: str) -> list[str]:
    """Return the names that the newest ``package`` depends on, alternatives included."""
    done = run_program(["apt-cache", "depends", package], env=archive.env)
    return re.findall(r"^ +\|?Depends: ([^<\s]\S*)", done.output, re.MULTILINE)


def resolve_packages(archive: Archive, names: Sequence[str]) -> list[Deb]:
    """Return the newest versions of ``names`` and of all that they depend on, sorted by name."""
    # apt does not print what it has already downloaded, hence a place where there is nothing
    nowhere = f"Dir::Cache::archives={archive.root / 'nowhere'}"
    done = _apt(archive, "install", "--print-uris", "-o", nowhere, *names)
    if done.status != 0:
        raise ProvisionError(f"packages cannot be resolved: {_reason(done)}", hint=_MIRROR_HINT)
    debs = [_parse_uri(line) for line in _URI_LINE.finditer(done.output)]
    return sorted(debs, key=lambda deb: deb.name)


def download_packages(archive: Archive, names: Sequence[str], advance: Advance) -> list[Deb]:
    """Download what `resolve_packages` returns; return those that an index lists but no mirror delivers."""
    done = _apt(archive, "install", "--download-only", *names, advance=advance)
    missing = [deb for deb in resolve_packages(archive, names) if not (archive.downloads / deb.file).exists()]
    if done.status != 0 and not missing:
        raise ProvisionError(f"packages cannot be downloaded: {_reason(done)}", hint=_MIRROR_HINT)
    return missing


def fetch_packages(
    archive: Archive, list_names: Callable[[], Sequence[str]], advance: Advance, say: Callable[[str], None]
) -> list[Deb]:
    """Download the packages of ``list_names()`` with their dependencies and return them.

    Mirrors move: an index can list versions that cannot be had. Those are left aside and the next older ones
    are taken, with a sentence to ``say``. ``list_names`` is asked again then, as names may hold versions.
    Raises `ProvisionError` when nothing that is left can be downloaded.
    """
    for _attempt in range(_PINNED_ATTEMPTS):
        names = list_names()
        missing = download_packages(archive, names, advance)
        if not missing:
            return resolve_packages(archive, names)
        for deb in missing:
            source = _find_source(archive, deb)
            say(f"{deb.name} {deb.version} is listed but cannot be downloaded: looking for an older one")
            _refuse_version(archive, source, deb.version)
    raise ProvisionError(f"'{missing[0].name}' cannot be downloaded in any version", hint=_MIRROR_HINT)


def _refuse_version(archive: Archive, source: str, version: str) -> None:
    stanza = f"Package: src:{source}\nPin: version {version}\nPin-Priority: -1\n"
    (archive.root / "etc" / "preferences.d" / f"{source}_{version.replace(':', '_')}.pref").write_text(stanza)


def _find_source(archive: Archive, deb: Deb) -> str:
    done = run_program(["apt-cache", "show", f"{deb.name}={deb.version}"], env=archive.env)
    found = re.search(r"^Source: (\S+)", done.output, re.MULTILINE)
    return found[1] if found else deb.name


def _parse_uri(line: re.Match[str]) -> Deb:
    name, version, _architecture = line["file"].removesuffix(".deb").split("_")
    return Deb(
        name=name, version=unquote(version), file=line["file"], size=int(line["size"]), digest=line["hash"]
    )


def _apt(archive: Archive, *words: str, advance: Advance | None = None) -> Finished:
    argv = ["apt-get", "--yes", "--quiet=1", *words]
    if advance is None:
        return run_program(argv, env=archive.env)

    def follow(line: str) -> None:
        found = re.match(r"dlstatus:[^:]*:([\d.]+):", line)
        if found:
            advance(float(found[1]) / 100)

    argv[1:1] = ["-o", "APT::Status-Fd={STATUS_FD}"]
    return run_program(argv, env=archive.env, status_lines=follow)


def _reason(done: Finished) -> str:
    lines = done.output.splitlines()
    for mark in ("E: ", "W: "):
        found = next((line.removeprefix(mark) for line in lines if line.startswith(mark)), None)
        if found:
            return found.strip()
    return done.tail


def _host_network_settings() -> str:
    dump = run_program(["apt-config", "dump", "Acquire::http", "Acquire::https", "Acquire::socks"])
    if dump.status != 0:
        return ""
    return "\n".join(re.findall(r'^Acquire::[^ ]+ "[^"]+";$', dump.output, re.MULTILINE))
