"""Paths on the command line to scenario files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from testbed.errors import UsageError

SUFFIXES = (".yaml", ".yml")
_HINT = "name a scenario file (*.yaml) or a folder that holds some"


def find_scenarios(paths: Iterable[Path]) -> list[Path]:
    """Return the files that ``paths`` name: files as they are, folders searched, each once, in order.

    Raises `UsageError` for a path that is not there and a folder that holds no scenario.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES and each.is_file())
            if not inside:
                raise UsageError(f"the folder '{path}' holds no scenario (*.yaml)", hint=_HINT)
            found.update(dict.fromkeys(inside))
        elif not path.exists():
            raise UsageError(f"'{path}' is not there", hint=_HINT)
        else:
            found[path] = None
    return list(found)
