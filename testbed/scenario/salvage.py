"""Checks the sound rest of a document that has wrong parts, so that one look shows all mistakes.

Wrong steps (groups as a whole) are replaced by one that does nothing, other wrong keys are left out;
places stay as they are.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from testbed.scenario.document import Document
from testbed.scenario.problems import strip_tags
from testbed.scenario.rules import Finding, Known, check_document
from testbed.scenario.tree import Loc, Tree

_FALLBACKS: dict[str, Any] = {"schema": 1, "about": "x", "steps": []}
"""For keys that cannot be left out."""
_LEAVE_OUT = ("tags", "requires", "timeout", "cold", "modules", "expected_warnings", "expect_verdict")


def check_rest(tree: Tree, data: dict[str, Any], error: ValidationError, known: Known) -> list[Finding]:
    """Return what does not fit together in the parts of ``data`` (from ``tree``) that ``error`` is not about.

    ``data`` is changed. Empty when what is wrong is what others refer to: guests or parameters.
    """
    for item in error.errors(include_url=False, include_input=False):
        loc = strip_tags(tree, tuple(item["loc"]))
        if not _repair(data, loc, item["type"]):
            return []
    data["steps"] = data.get("steps") or [_nothing(data)]
    try:
        document = Document.model_validate(data)
    except ValidationError:
        return []
    return check_document(document, known, whole=False)


def _repair(data: dict[str, Any], loc: Loc, kind: str) -> bool:
    """Take the value at ``loc`` out of ``data``; False when nothing can be said without it."""
    top = loc[0] if loc else None
    if kind == "extra_forbidden" and len(loc) == 1:
        data.pop(str(top), None)
        return True
    if top == "steps" and len(loc) > 1 and isinstance(loc[1], int):
        data["steps"][loc[1]] = _nothing(data)
        return True
    if top in _FALLBACKS:
        data[str(top)] = _FALLBACKS[str(top)]
        return True
    if top in _LEAVE_OUT:
        data.pop(str(top), None)
        return True
    return False


def _nothing(data: dict[str, Any]) -> dict[str, Any]:
    guests = data.get("guests")
    return {"run": "true", "guest": next(iter(guests)) if isinstance(guests, dict) and guests else "vm"}
