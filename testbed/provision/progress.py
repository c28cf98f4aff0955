"""How setup tells people what it does: bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

Advance = Callable[[float], None]
"""Called with the part done so far, 0 to 1."""


class Reporter(Protocol):
    """Where setup reports to. Both methods may be called from several threads."""

    def say(self, text: str) -> None:
        """Tell one sentence."""

    def task(self, label: str) -> AbstractContextManager[Advance]:
        """Show ``label`` as being done until the context ends."""


class TerminalReporter:
    """Bars by rich; use as a context manager."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("  {task.description:<34}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=False)

    def __enter__(self) -> TerminalReporter:
        self._progress.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, highlight=False, markup=False)

    @contextmanager
    def task(self, label: str) -> Iterator[Advance]:
        """Show a bar; it pulses until the first part is reported."""
        bar: TaskID = self._progress.add_task(label, total=None)

        def advance(part: float) -> None:
            self._progress.update(bar, total=1.0, completed=part)

        yield advance
        self._progress.update(bar, total=1.0, completed=1.0)
        self._progress.stop_task(bar)


class PlainReporter:
    """One line when a task starts; for logs and pipes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def say(self, text: str) -> None:
        """Write the sentence."""
        self._write(text)

    @contextmanager
    def task(self, label: str) -> Iterator[Advance]:
        """Write the label; parts are not shown."""
        self._write(f"  {label} ...")
        yield lambda _part: None


@contextmanager
def start_reporter(console: Console) -> Iterator[Reporter]:
    """Yield the reporter that fits ``console``."""
    if console.is_terminal:
        with TerminalReporter(console) as reporter:
            yield reporter
    else:
        yield PlainReporter(lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True))


def human_size(count: int) -> str:
    """Return ``count`` bytes for people: ``12 MB``."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}" if count < 10 * scale else f"{count / scale:.0f} {unit}"
    return f"{count} B"
