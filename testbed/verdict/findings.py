"""What the logs of a guest say: splats and panics, against what the scenario expects. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.evidence.kmsg import Gap, find_gaps
from testbed.evidence.splats import Splat, find_splats, parse_log, user_messages
from testbed.outcome import Status
from testbed.scenario.document import ExpectedWarning
from testbed.verdict.model import Reason

_LOGS = ("kmsg.log", "console.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A splat and where it is."""

    splat: Splat
    pointer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLogs:
    """The kernel's words in one guest."""

    guest: str
    findings: tuple[Finding, ...]
    """Each once, whether kmsg, the console or both show it."""
    lines: tuple[str, ...]
    """All messages without prefixes, of both logs."""
    gaps: tuple[Gap, ...]
    """What is missing in kmsg.log."""
    kmsg_size: int
    """Bytes of kmsg.log."""

    @property
    def panic(self) -> str | None:
        """Reason of the panic that the logs show."""
        for finding in self.findings:
            if finding.splat.kind == "panic":
                return finding.splat.title
            if finding.splat.panic:
                return finding.splat.panic
        return None


def load_logs(folder: Path, guest: str) -> GuestLogs:
    """Read the logs of ``guest`` in the run folder ``folder``; a log that is not there says nothing."""
    raw_kmsg, raw_console = (_read(folder / guest / name) for name in _LOGS)
    text = raw_kmsg.decode("utf-8", "replace")
    kmsg, console = list(parse_log(text)), list(parse_log(raw_console.decode("utf-8", "replace")))
    from_users = user_messages(kmsg)
    in_kmsg = [Finding(splat=splat, pointer=_pointer(guest, _LOGS[0], splat)) for splat in find_splats(kmsg)]
    seen = {splat.message for splat in (finding.splat for finding in in_kmsg)} | from_users
    in_console = [
        Finding(splat=splat, pointer=_pointer(guest, _LOGS[1], splat)) for splat in find_splats(console)
    ]
    only_console = [finding for finding in in_console if finding.splat.message not in seen]
    return GuestLogs(
        guest=guest,
        findings=tuple(_add_panics(in_kmsg, in_console)) + tuple(only_console),
        lines=tuple(line.text for line in (*kmsg, *console)),
        gaps=tuple(find_gaps(text)),
        kmsg_size=len(raw_kmsg),
    )


def judge_logs(logs: GuestLogs, expected: Sequence[ExpectedWarning]) -> Iterator[Reason]:
    """Yield a FAIL for each splat that is not expected; the same title is told once, with its count."""
    counts: dict[str, int] = {}
    first: dict[str, Finding] = {}
    for finding in logs.findings:
        if is_expected([*finding.splat.text, finding.splat.full_title], expected):
            continue
        title = finding.splat.full_title
        counts[title] = counts.get(title, 0) + 1
        first.setdefault(title, finding)
    for title, finding in first.items():
        times = f" ({counts[title]} times)" if counts[title] > 1 else ""
        yield Reason(status=Status.FAIL, text=f"{title}{times}", pointer=finding.pointer)


def find_missing_messages(logs: GuestLogs) -> Iterator[Reason]:
    """Yield a MISS for what the kernel said and the log does not have: a splat can have been in it."""
    if logs.gaps:
        missing = sum(gap.missing for gap in logs.gaps)
        text = (
            f"{missing} kernel messages of guest '{logs.guest}' were overwritten before they could be read\n"
            f"give it a longer log: guests: {{{logs.guest}: {{cmdline: [log_buf_len=4M]}}}}"
        )
        yield Reason(status=Status.MISS, text=text, pointer=f"{logs.guest}/{_LOGS[0]}:{logs.gaps[0].line}")


def is_expected(lines: Iterable[str], expected: Sequence[ExpectedWarning]) -> bool:
    """Whether any of ``lines`` matches an expected warning."""
    patterns = [re.compile(warning.match) for warning in expected]
    return any(pattern.search(line) for pattern in patterns for line in lines)


def find_absent(logs: Sequence[GuestLogs], expected: Sequence[ExpectedWarning]) -> list[ExpectedWarning]:
    """Return the expected warnings, optional ones left out, that no log shows."""
    return [
        warning
        for warning in expected
        if not warning.optional
        and not any(re.search(warning.match, line) for log in logs for line in log.lines)
    ]


def _add_panics(in_kmsg: list[Finding], in_console: list[Finding]) -> Iterator[Finding]:
    """The last words of a dying kernel reach the console only: an oops takes its panic from there."""
    panics = {finding.splat.message: finding.splat for finding in in_console if finding.splat.panic}
    for finding in in_kmsg:
        told = panics.get(finding.splat.message)
        better = told is not None and finding.splat.panic is None
        yield Finding(splat=told, pointer=finding.pointer) if better and told else finding


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _pointer(guest: str, log: str, splat: Splat) -> str:
    return f"{guest}/{log}:{splat.first_line}"
