"""Records that ``kmsg.log`` lacks: the kernel numbers them, so a hole can be seen. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Documentation/ABI/testing/dev-kmsg: level and facility, sequence number, microseconds, flags.
_SEQUENCE = re.compile(r"^\d+,(\d+),\d+,[^;]*;")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Kernel messages that are not there."""

    line: int
    """The line of the log that follows them, from 1."""
    missing: int


def find_gaps(text: str) -> Iterator[Gap]:
    """Yield the holes in a log of ``/dev/kmsg`` records, the first of which has the number 0.

    A number that comes again is no hole: the log of a clone begins with a note of ours.
    """
    expected = 0
    for line, record in enumerate(text.split("\n"), start=1):
        found = _SEQUENCE.match(record)
        if found is None:
            continue
        number = int(found[1])
        if number > expected:
            yield Gap(line=line, missing=number - expected)
        expected = max(expected, number + 1)
