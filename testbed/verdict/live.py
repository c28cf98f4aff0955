"""What is happening now: a live line per case on a terminal, a line per step anywhere else.

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
_DEFAULTS = {
    "guest": "",
    "seconds": 0.0,
    "reason": "",
    "device": "",
    "message": "",
    "status": "",
    "name": "",
    "what": "",
}
_LINES = {
    "building": "building {what} ...",
    "prepared": "modules and tools are built ({seconds:.1f} s)",
    "guest_ready": "guest {guest} is up ({seconds:.1f} s)",
    "guest_panicked": "guest {guest} panicked: {reason}",
    "guest_reset": "guest {guest}: {reason}",
    "guest_died": "guest {guest} died: {reason}",
    "violation": "violation by {device}: {message}",
    "step_finished": "{status} {index} {name:.90} ({seconds:.1f} s){tail}",
    "error": "{status} {message}",
}


_LOSSES = ("guest_panicked", "guest_reset", "guest_died")
_AFTERMATH = {"step_finished": "detail", "error": "message"}
"""Events that tell once more how a guest was lost, and where."""


class View(Protocol):
    """How a run is shown while it runs. All methods may be called from several threads.

    ``number`` tells cases apart, from 0 in the order of the run.
    """

    def begin(self, number: int, name: str) -> None:
        """Show that case ``name`` begins, or that it begins anew."""

    def see(self, number: int, event: Event) -> None:
        """Show an event of a case that runs."""

    def end(self, number: int, verdict: Verdict | None) -> None:
        """Show how the case ended; without a verdict it only disappears."""

    def note(self, text: str) -> None:
        """Show something about the run as a whole."""


class PlainView:
    """Lines, for logs of CI. ``at_once``: a case's lines come together, when it has ended."""

    def __init__(self, console: Console, total: int, *, at_once: bool) -> None:
        self._console = console
        self._total = total
        self._at_once = at_once
        self._lock = threading.Lock()
        self._blocks: dict[int, list[str]] = {}
        self._losses: dict[int, set[str]] = {}

    def begin(self, number: int, name: str) -> None:
        """Print the case's line; what was said of an earlier attempt is dropped with it."""
        with self._lock:
            self._blocks.pop(number, None)
            self._losses.pop(number, None)
        self._add(number, f"[{number + 1}/{self._total}] {name}")

    def see(self, number: int, event: Event) -> None:
        """Print guests that are ready, steps that ended, and errors."""
        with self._lock:
            fresh = _drop_repeats(event, self._losses.setdefault(number, set()))
        text = describe_event(fresh) if fresh is not None else None
        if text is not None:
            self._add(number, f"    {text}")

    def end(self, number: int, verdict: Verdict | None) -> None:
        """Print the verdict's line."""
        if verdict is not None:
            reason = short_reason(verdict)
            tail = f": {reason}" if reason else ""
            self._add(number, f"    {verdict.status} {verdict.name} ({verdict.seconds:.1f} s){tail}")
        with self._lock:
            block = self._blocks.pop(number, [])
            if verdict is not None:
                self._print(block)

    def note(self, text: str) -> None:
        """Print it between the cases."""
        with self._lock:
            self._print([text])

    def _add(self, number: int, line: str) -> None:
        with self._lock:
            if self._at_once:
                self._blocks.setdefault(number, []).append(line)
            else:
                self._print([line])

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)


class _Picture:
    """What a live view shows of one case."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.step = "building modules and tools"
        self.guests: dict[str, str] = {}
        self.spinner = Spinner("dots")
        self._began = time.monotonic()

    def see(self, event: Event) -> None:
        guest = str(event.get("guest", ""))
        match event["event"]:
            case "building":
                self.step = f"building {event.get('what')} ..."
            case "guest_started":
                self.guests[guest], self.step = "booting", f"booting {guest}"
            case "guest_ready":
                self.guests[guest] = f"up in {event.get('seconds', 0):.1f} s"
            case "guest_panicked" | "guest_reset" | "guest_died":
                self.guests[guest] = str(event.get("reason", "lost"))[:_MAX_STEP]
            case "step_started":
                self.step = f"{event['index']} {event['name']}"[:_MAX_STEP]
            case "teardown_finished":
                self.guests.pop(guest, None)

    def line(self) -> Spinner:
        seconds = time.monotonic() - self._began
        self.spinner.update(
            text=Text.assemble((f"{self.title}  ", "bold"), (f"{seconds:.0f} s  ", "cyan"), self.step)
        )
        return self.spinner


class LiveView:
    """A line for each case that runs, with step and time; finished cases scroll by above."""

    def __init__(self, live: Live, total: int) -> None:
        self._live = live
        self._total = total
        self._lock = threading.Lock()
        self._pictures: dict[int, _Picture] = {}

    def begin(self, number: int, name: str) -> None:
        """Show the case."""
        with self._lock:
            self._pictures[number] = _Picture(f"[{number + 1}/{self._total}] {name}")

    def see(self, number: int, event: Event) -> None:
        """Take the event into the next picture."""
        with self._lock:
            if number in self._pictures:
                self._pictures[number].see(event)

    def end(self, number: int, verdict: Verdict | None) -> None:
        """Let the finished case scroll by."""
        with self._lock:
            self._pictures.pop(number, None)
        if verdict is None:
            return
        reason = short_reason(verdict)
        line = Text.assemble(
            status_text(verdict.status), f"  {verdict.name}", (f"  {verdict.seconds:.1f} s", "dim")
        )
        if reason:
            line.append(f"  {reason}", style="dim")
        self._live.console.print(line, overflow="ellipsis", no_wrap=True)

    def note(self, text: str) -> None:
        """Let it scroll by."""
        self._live.console.print(Text(text, style="dim"), overflow="ellipsis", no_wrap=True)

    def __rich__(self) -> Group:
        with self._lock:
            pictures = [self._pictures[number] for number in sorted(self._pictures)]
            lines: list[Any] = [picture.line() for picture in pictures]
            if len(pictures) == 1 and pictures[0].guests:
                guests = ", ".join(f"{name}: {state}" for name, state in pictures[0].guests.items())
                lines.append(Text(f"    {guests}", style="dim"))
            return Group(*lines)


def _drop_repeats(event: Event, losses: set[str]) -> Event | None:
    """Return ``event`` without a reason that is in ``losses``; None if there is nothing else in it."""
    name = str(event["event"])
    if name in _LOSSES:
        losses.add(str(event.get("reason", "")))
    elif name in _AFTERMATH:
        text = str(event.get(_AFTERMATH[name], ""))
        if any(loss and text.endswith(loss) for loss in losses):
            return None if name == "error" else {**event, _AFTERMATH[name]: ""}
    return event


def describe_event(event: Event) -> str | None:
    """Return an event in one line for people, None for those that say nothing to them."""
    pattern = _LINES.get(str(event["event"]))
    if pattern is None:
        return None
    detail = f": {event['detail']}" if event.get("detail") else ""
    return pattern.format_map({**_DEFAULTS, **event, "tail": detail}).split("\n", 1)[0].rstrip(":")


@contextmanager
def start_view(console: Console, total: int, *, at_once: bool = False) -> Iterator[View]:
    """Yield the view of ``total`` cases that fits ``console``; ``at_once``: several run at the same time."""
    if not console.is_terminal:
        yield PlainView(console, total, at_once=at_once)
        return
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        view = LiveView(live, total)
        live.update(view)
        yield view
