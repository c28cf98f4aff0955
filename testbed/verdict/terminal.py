"""Verdicts on a terminal: a table of cases, and the reasons of those that did not pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from testbed.outcome import Status
from testbed.verdict.model import Verdict

STYLES = {
    Status.PASS: "bold green",
    Status.DONE: "cyan",
    Status.SKIP: "dim",
    Status.FAIL: "bold red",
    Status.ERROR: "bold magenta",
    Status.MISS: "bold yellow",
}
_WORDS = {
    Status.PASS: "passed",
    Status.DONE: "done",
    Status.SKIP: "skipped",
    Status.FAIL: "failed",
    Status.ERROR: "wrong scenario (ERROR)",
    Status.MISS: "lost to the lab (MISS)",
}
GOOD = (Status.PASS, Status.DONE, Status.SKIP)
"""What nobody need look at."""
_PLAIN_WIDTH = 160
_MAX_REASON = 300
_WIDE = 110  # columns from which there is room for the run folder


def build_console(*, stderr: bool = False) -> Console:
    """Return a console that obeys NO_COLOR and does not squeeze tables when it is no terminal."""
    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=_PLAIN_WIDTH)
    return console


def status_text(status: Status) -> Text:
    """Return the status in its colour."""
    return Text(status.value, style=STYLES[status])


def print_table(console: Console, verdicts: Sequence[Verdict], seconds: float | None = None) -> None:
    """Print the table of verdicts and the line that sums it up; ``seconds``: that the run took in all."""
    if not verdicts:
        console.print("no case was run")
        return
    wide = console.width >= _WIDE
    table = Table(box=box.ROUNDED, border_style="dim", header_style="bold", pad_edge=True)
    table.add_column("case", overflow="fold", max_width=44)
    table.add_column("verdict", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold", ratio=1)
    if wide:
        table.add_column("run", style="dim", overflow="fold", max_width=console.width // 3)
    for verdict in verdicts:
        cells: list[str | Text] = [
            escape(verdict.name),
            status_text(verdict.status),
            f"{verdict.seconds:.1f}",
            escape(short_reason(verdict)),
        ]
        table.add_row(*cells, *([escape(short_path(verdict.run_dir))] if wide else []))
    console.print(table)
    console.print(build_summary(verdicts, seconds))
    if not wide:
        folders = sorted({short_path(str(Path(verdict.run_dir).parent)) for verdict in verdicts})
        console.print(f"evidence: {', '.join(folders)}", style="dim", markup=False)


def print_reasons(console: Console, verdict: Verdict) -> None:
    """Print all reasons of one verdict with the places in the evidence."""
    line = Text.assemble(status_text(verdict.status), f" {verdict.name} ({verdict.seconds:.1f} s)")
    console.print(line)
    for reason in verdict.reasons:
        place = f"  {verdict.run_dir}/{reason.pointer}" if reason.pointer else ""
        body = reason.text.replace("\n", "\n      ")
        console.print(Text.assemble("  ", status_text(reason.status), f" {body}"), soft_wrap=True)
        if place:
            console.print(Text(f"      {place.strip()}", style="dim"), soft_wrap=True)


def count_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Return ``3 passed, 1 failed``; empty without verdicts."""
    return ", ".join(words for _, words in _count(verdicts))


def _count(verdicts: Sequence[Verdict]) -> list[tuple[Status, str]]:
    counts = Counter(verdict.status for verdict in verdicts)
    order = (Status.PASS, Status.DONE, Status.FAIL, Status.ERROR, Status.MISS, Status.SKIP)
    return [(status, f"{counts[status]} {_WORDS[status]}") for status in order if counts[status]]


def build_summary(verdicts: Sequence[Verdict], seconds: float | None = None) -> Text:
    """Return ``3 passed, 1 failed in 24.1 s, kernel 7.2.12, tcg (reason)``."""
    text = Text()
    for status, words in _count(verdicts):
        text.append(", " if text else "")
        text.append(words, style=STYLES[status])
    text.append(f" in {sum(verdict.seconds for verdict in verdicts) if seconds is None else seconds:.1f} s")
    ran = [verdict for verdict in verdicts if verdict.kernel]
    if ran:
        text.append(f", kernel {ran[0].kernel}, {ran[0].accel}")
        if ran[0].accel_reason:
            text.append(f" ({ran[0].accel_reason})", style="dim")
    return text


def print_rounds(console: Console, verdicts: Sequence[Verdict], *, until_fail: bool) -> None:
    """Print a line for each case that was run several times: ``17 passed, then FAIL``, and where that is."""
    rounds: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        rounds.setdefault(verdict.name, []).append(verdict)
    for name, group in rounds.items():
        bad = [number for number, verdict in enumerate(group) if verdict.status not in GOOD]
        text = Text.assemble((name, "bold"), f": {len(group) - len(bad)} passed")
        if bad:
            first = group[bad[0]]
            text.append(", then " if until_fail else f", {len(bad)} did not; round {bad[0] + 1}: ")
            text.append_text(status_text(first.status))
            text.append(f" {short_reason(first)}  {short_path(first.run_dir)}", style="dim")
        console.print(text, soft_wrap=True)


def short_reason(verdict: Verdict) -> str:
    """Return the first reason in one line, with how many more there are."""
    first = verdict.reason.split("\n", 1)[0].rstrip(":")
    if len(first) > _MAX_REASON:
        first = first[: _MAX_REASON - 3] + "..."
    more = len(verdict.reasons) - 1
    return f"{first} (and {more} more)" if more > 0 else first


def short_path(path: str) -> str:
    """Return ``path`` relative to the current folder when it is below it."""
    try:
        return Path(path).relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path
