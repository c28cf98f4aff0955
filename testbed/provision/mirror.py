"""Which mirror: the one that the host's own apt uses, unless the user names another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import ProvisionError, UsageError

_DEBIAN_SUITES = frozenset(
    {
        "oldoldstable",
        "oldstable",
        "stable",
        "testing",
        "unstable",
        "sid",
        "buster",
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "duke",
    }
)
_URI = re.compile(r"[a-z][a-z0-9+]*:/\S*")
_HINT = "testbed setup --mirror URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place that apt takes packages from."""

    uri: str
    suite: str
    components: tuple[str, ...]


def get_mirror(override: str | None, *, apt_dir: Path = Path("/etc/apt")) -> str:
    """Return the URI of the Debian archive: ``override``, or the first that the host's apt names.

    Raises `UsageError` for an override that is no URI, `ProvisionError` when apt names no Debian archive.
    """
    if override is not None:
        if not _URI.fullmatch(override):
            raise UsageError(f"'{override}' is not the address of a mirror", hint=_HINT)
        return override.rstrip("/")
    for source in load_sources(apt_dir):
        base = source.suite.split("-")[0].split("/")[0]
        if base in _DEBIAN_SUITES and "main" in source.components and "security" not in source.suite:
            return source.uri.rstrip("/")
    raise ProvisionError(
        "the host's apt configuration names no Debian archive", where=str(apt_dir), hint=_HINT
    )


def load_sources(apt_dir: Path) -> list[Source]:
    """Return all enabled binary sources below ``apt_dir``, in apt's own order of files."""
    parts = apt_dir / "sources.list.d"
    files = [apt_dir / "sources.list", *sorted(parts.glob("*"))]
    sources: list[Source] = []
    for file in files:
        if file.suffix == ".list" and file.is_file():
            sources.extend(parse_one_line(_read(file)))
        elif file.suffix == ".sources" and file.is_file():
            sources.extend(parse_deb822(_read(file)))
    return sources


def parse_one_line(text: str) -> Iterator[Source]:
    """Yield the sources of a ``sources.list`` file (``deb [options] URI suite component...``)."""
    for raw in text.splitlines():
        line = re.sub(r"\[[^\]]*\]", " ", raw.split("#")[0])
        match line.split():
            case ["deb", uri, suite, *components] if not uri.startswith("cdrom:"):
                yield Source(uri=uri, suite=suite, components=tuple(components))


def parse_deb822(text: str) -> Iterator[Source]:
    """Yield the sources of a ``.sources`` file (stanzas of fields, sources.list(5))."""
    for fields in _stanzas(text):
        if "deb" not in fields.get("types", "").split():
            continue
        if fields.get("enabled", "yes").lower() in ("no", "false", "0", "off", "without", "disable"):
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri=uri, suite=suite, components=tuple(fields.get("components", "").split()))


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for block in _split_on_blank(lines):
        fields: dict[str, str] = {}
        name = ""
        for line in block:
            if line[0] in " \t":
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        yield fields


def _split_on_blank(lines: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
