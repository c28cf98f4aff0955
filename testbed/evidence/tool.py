"""What a KTAP tool's text, exit status and standard error together prove. Pure; the judge uses it too."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from testbed.errors import LabError
from testbed.evidence.ktap import Flaw, KtapReport, parse_ktap
from testbed.outcome import Status

EXIT_USAGE = 2
"""The tools' exit status for a wrong command line (guest-images/tools/lib/ktap.h)."""
EXIT_NOTHING_RUN = 4
"""Theirs for "every check was skipped", as in kselftest."""
_NOT_FOUND = (126, 127)
_SIGNALLED = 128
_MAX_POINTERS = 5
TEXT, RUN = "ktap.txt", "tool.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """How a tool ended and what was asked of it; saved beside its text as ``tool.json``."""

    command: str
    exit: int
    stderr: str
    want_exit: int | str = 0
    """``any`` or a status."""
    skip: str = "refused"
    output: str | None = None
    not_output: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutcome:
    """Status, one line of reason, and the lines of the text that show it."""

    status: Status
    detail: str
    lines: tuple[int, ...] = ()


def judge_tool(text: str, run: ToolRun) -> ToolOutcome:
    """Return what a tool's output proves.

    A tool that cannot be started or was called wrongly is ERROR, missing results are FAIL, a skipped check
    that the scenario does not allow is MISS: nothing was found out.
    """
    if run.exit in _NOT_FOUND:
        return ToolOutcome(
            status=Status.ERROR, detail=f"there is no tool '{run.command.split()[0]}' in the guest"
        )
    report = parse_ktap(text)
    if not report.checks and run.exit == EXIT_USAGE:
        return ToolOutcome(
            status=Status.ERROR, detail=f"wrong arguments: {_last_line(run.stderr) or run.command}"
        )
    if report.status is Status.MISS:
        return _without_ktap(run)
    for outcome in (
        _bad_report(report),
        _bad_end(report, run),
        find_mismatch(text, run.stderr, run),
        _skipped(report, run),
    ):
        if outcome is not None:
            return outcome
    return ToolOutcome(status=report.status, detail=report.summary)


def save_tool(folder: Path, text: bytes, run: ToolRun) -> None:
    """Write what `load_tool` reads."""
    (folder / TEXT).write_bytes(text)
    (folder / RUN).write_text(json.dumps(asdict(run), indent=1) + "\n", encoding="utf-8")


def load_tool(folder: Path) -> tuple[str, ToolRun] | None:
    """Return the saved text and run of a tool step, None when ``folder`` holds none."""
    if not (folder / RUN).exists():
        return None
    try:
        fields: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
        return (folder / TEXT).read_bytes().decode("utf-8", "replace"), ToolRun(**fields)
    except (OSError, ValueError, TypeError) as error:
        raise LabError(f"what the tool left in '{folder.name}' cannot be read: {error}") from error


def find_mismatch(stdout: str, stderr: str, run: ToolRun) -> ToolOutcome | None:
    """Return how standard output and error differ from the scenario's expressions, None if they do not."""
    for name, pattern, where, wanted in (
        ("standard output", run.output, stdout, True),
        ("standard output", run.not_output, stdout, False),
        ("standard error", run.error, stderr, True),
    ):
        if pattern is None:
            continue
        found = re.search(pattern, where, re.MULTILINE)
        if (found is not None) != wanted:
            verb = "does not match" if wanted else "matches"
            line = where.count("\n", 0, found.start()) + 1 if found else None
            tail = f"; it ends with: {_last_line(where)}" if wanted and where.strip() else ""
            return ToolOutcome(
                status=Status.FAIL,
                detail=f"{name} {verb} '{pattern}'{tail or (' (it is empty)' if wanted else '')}",
                lines=(line,) if line else (),
            )
    return None


def _without_ktap(run: ToolRun) -> ToolOutcome:
    said = f": {_last_line(run.stderr)}" if run.stderr.strip() else ""
    if run.exit == 0:
        detail = "it printed no KTAP, so nothing was checked (for a plain command use 'run')"
        return ToolOutcome(status=Status.ERROR, detail=detail)
    return ToolOutcome(status=Status.FAIL, detail=f"{_how_ended(run.exit)} before it printed any KTAP{said}")


def _bad_report(report: KtapReport) -> ToolOutcome | None:
    flaws = [flaw for flaw in report.flaws if flaw.status is report.status]
    failed = [check for check in report.checks if check.status is Status.FAIL]
    if not flaws and not failed:
        return None
    return ToolOutcome(status=report.status, detail=report.summary, lines=_lines(flaws, failed))


def _lines(flaws: list[Flaw], failed: list[Any]) -> tuple[int, ...]:
    numbers = [check.line for check in failed] + [flaw.line for flaw in flaws]
    return tuple(numbers[:_MAX_POINTERS])


def _bad_end(report: KtapReport, run: ToolRun) -> ToolOutcome | None:
    allowed = {run.want_exit} if run.want_exit != "any" else set()
    if report.status is Status.SKIP:
        allowed |= {0, EXIT_NOTHING_RUN}
    if not allowed or run.exit in allowed:
        return None
    said = f": {_last_line(run.stderr)}" if run.stderr.strip() else ""
    return ToolOutcome(status=Status.FAIL, detail=f"{report.summary}, but {_how_ended(run.exit)}{said}")


def _skipped(report: KtapReport, run: ToolRun) -> ToolOutcome | None:
    skips = [check for check in report.checks if check.status is Status.SKIP]
    if not skips or run.skip == "allowed":
        return None
    reason = f": {skips[0].reason}" if skips[0].reason else ""
    return ToolOutcome(
        status=Status.MISS,
        detail=f"{len(skips)} of {len(report.checks)} checks were skipped ({skips[0].name}{reason}); "
        "allow it with expect: {skip: allowed}",
        lines=tuple(check.line for check in skips[:_MAX_POINTERS]),
    )


def _how_ended(status: int) -> str:
    return (
        f"it was ended by signal {status - _SIGNALLED}"
        if status > _SIGNALLED
        else f"it ended with status {status}"
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
