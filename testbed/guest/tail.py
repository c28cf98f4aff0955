"""Reading a log that something else is writing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testbed.deadline import Deadline, poll_until

KMSG_PREFIX = re.compile(r"^\d+,\d+,\d+,[^;]*;")
"""What a /dev/kmsg record begins with (Documentation/ABI/testing/dev-kmsg)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMatch:
    """A line that matched."""

    line: int
    """Its number, from 1."""
    text: str
    """The line, without its prefix and newline."""
    start: int
    """Offset of its first byte."""
    end: int
    """Offset of the byte after it: where to look for the next one."""


class LogTail:
    """A file that grows. A pattern is looked for in each line; ``prefix`` is cut off before that.

    A last line without newline counts as a line: it may be a prompt, or all that a dying guest wrote.
    """

    def __init__(
        self, path: Path, *, alive: Callable[[], None], prefix: re.Pattern[str] | None = None
    ) -> None:
        self.path = path
        self._alive = alive
        self._prefix = prefix

    @property
    def size(self) -> int:
        """Bytes so far: the start for "from now on"."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def search(self, pattern: str | re.Pattern[str], start: int = 0) -> LogMatch | None:
        """Return the first line from byte ``start`` on that matches, None when there is none yet."""
        return self.scan(re.compile(pattern), start)[0]

    def scan(self, regex: re.Pattern[str], start: int) -> tuple[LogMatch | None, int]:
        """Return what `search` does, and where the next scan has to start when it found nothing."""
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                data = file.read()
        except OSError:
            return None, start
        offset = 0
        for raw in data.split(b"\n"):
            text = self._text(raw)
            if regex.search(text):
                number = self._count_lines(start) + data.count(b"\n", 0, offset) + 1
                end = start + min(offset + len(raw) + 1, len(data))
                return LogMatch(line=number, text=text, start=start + offset, end=end), end
            offset += len(raw) + 1
        return None, start + data.rfind(b"\n") + 1

    def wait(self, pattern: str | re.Pattern[str], deadline: Deadline, start: int = 0) -> LogMatch:
        """Return the first line from byte ``start`` on that matches, as soon as it is there.

        Raises `DeadlineExceeded`, and `GuestPanicked` or `GuestDied` when the guest is lost first.
        """
        regex = re.compile(pattern)
        seen, size = start, -1

        def probe() -> LogMatch | None:
            nonlocal seen, size
            found = None
            if self.size != size:
                size = self.size
                found, seen = self.scan(regex, seen)
            if found is None:
                self._alive()
            return found

        return poll_until(probe, deadline)

    def _text(self, raw: bytes) -> str:
        text = raw.decode("utf-8", "replace").rstrip("\r")
        return self._prefix.sub("", text, count=1) if self._prefix else text

    def _count_lines(self, end: int) -> int:
        with self.path.open("rb") as file:
            return file.read(end).count(b"\n")
