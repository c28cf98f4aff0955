"""Did you mean ...?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return "did you mean 'X'?" for the known word that is most like ``word``, or None."""
    found = difflib.get_close_matches(word[:64], list(known), n=1, cutoff=cutoff)
    return f"did you mean '{found[0]}'?" if found else None


def suggest(word: str, known: Iterable[str]) -> str | None:
    """Return the closest known word, else the list of all, or None when there is none."""
    names = list(known)
    return closest(word, names) or (f"known: {join(names)}" if names else None)


def join(names: Iterable[str], *, most: int = 20) -> str:
    """Return names in one line, cut after ``most``."""
    listed = list(names)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")
