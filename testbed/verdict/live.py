"""What is happening now: a live line on a terminal, a line per step anywhere else.

Both are subscribers of the event log; they see events and verdicts, and decide nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from testbed.evidence.events import Event
from testbed.verdict.model import Verdict
from testbed.verdict.terminal import short_reason, status_text

_MAX_STEP = 90
_DEFAULTS = {"guest": "", "seconds": 0.0, "reason": "", "device": "", "message": "", "status": "", "name": ""}
_LINES = {
    "prepared": "modules and tools are built ({seconds:.1f} s)",
    "guest_ready": "guest {guest} is up ({seconds:.1f} s)",
    "guest_panicked": "guest {guest} panicked: {reason}",
    "guest_died": "guest {guest} died: {reason}",
    "violation": "violation by {device}: {message}",
    "step_finished": "{status} {index} {name:.90} ({seconds:.1f} s){tail}",
    "error": "{status} {message}",
}


class View(Protocol):
    """How a run is shown while it runs. All methods may be called from several threads."""

    def begin(self, name: str, number: int, total: int) -> None:
        """Show that case ``name`` begins."""

    def see(self, event: Event) -> None:
        """Show an event of the case that runs."""

    def end(self, verdict: Verdict) -> None:
        """Show how the case ended."""


class PlainView:
    """One line for each thing; for logs of CI."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def begin(self, name: str, number: int, total: int) -> None:
        """Print the case's line."""
        self._print(f"[{number}/{total}] {name}")

    def see(self, event: Event) -> None:
        """Print guests that are ready, steps that ended, and errors."""
        text = describe_event(event)
        if text is not None:
            self._print(f"    {text}")

    def end(self, verdict: Verdict) -> None:
        """Print the verdict's line."""
        reason = short_reason(verdict)
        tail = f": {reason}" if reason else ""
        self._print(f"    {verdict.status} {verdict.name} ({verdict.seconds:.1f} s){tail}")

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


class LiveView:
    """A spinner with case, step and time; finished cases scroll by above it."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._lock = threading.Lock()
        self._spinner = Spinner("dots")
        self._title = ""
        self._step = ""
        self._guests: dict[str, str] = {}
        self._began = time.monotonic()

    def begin(self, name: str, number: int, total: int) -> None:
        """Show the case."""
        with self._lock:
            self._title, self._step = f"[{number}/{total}] {name}", "building modules and tools"
            self._guests = {}
            self._began = time.monotonic()

    def see(self, event: Event) -> None:
        """Take the event into the next picture."""
        with self._lock:
            guest = str(event.get("guest", ""))
            match event["event"]:
                case "guest_started":
                    self._guests[guest], self._step = "booting", f"booting {guest}"
                case "guest_ready":
                    self._guests[guest] = f"up in {event.get('seconds', 0):.1f} s"
                case "guest_panicked" | "guest_died":
                    self._guests[guest] = str(event.get("reason", "lost"))[:_MAX_STEP]
                case "step_started":
                    self._step = f"{event['index']} {event['name']}"[:_MAX_STEP]
                case "teardown_finished":
                    self._guests.pop(guest, None)

    def end(self, verdict: Verdict) -> None:
        """Let the finished case scroll by."""
        reason = short_reason(verdict)
        line = Text.assemble(
            status_text(verdict.status), f"  {verdict.name}", (f"  {verdict.seconds:.1f} s", "dim")
        )
        if reason:
            line.append(f"  {reason}", style="dim")
        self._live.console.print(line, overflow="ellipsis", no_wrap=True)
        with self._lock:
            self._title = self._step = ""

    def __rich__(self) -> Group:
        with self._lock:
            if not self._title:
                return Group()
            guests = ", ".join(f"{name}: {state}" for name, state in self._guests.items())
            seconds = time.monotonic() - self._began
            text = Text.assemble(
                (f"{self._title}  ", "bold"),
                (f"{seconds:.0f} s  ", "cyan"),
                self._step,
            )
            self._spinner.update(text=text)
            lines: list[Any] = [self._spinner]
            if guests:
                lines.append(Text(f"    {guests}", style="dim"))
            return Group(*lines)


def describe_event(event: Event) -> str | None:
    """Return an event in one line for people, None for those that say nothing to them."""
    pattern = _LINES.get(str(event["event"]))
    if pattern is None:
        return None
    detail = f": {event['detail']}" if event.get("detail") else ""
    return pattern.format_map({**_DEFAULTS, **event, "tail": detail}).split("\n", 1)[0].rstrip(":")


@contextmanager
def start_view(console: Console) -> Iterator[View]:
    """Yield the view that fits ``console``."""
    if not console.is_terminal:
        yield PlainView(console)
        return
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        view = LiveView(live)
        live.update(view)
        yield view
