"""YAML text to plain values, with the position of every key and value: str -> `Tree`.

Scalars follow the core schema of YAML 1.2, so ``on``, ``yes`` and ``off`` are text. Anchors, aliases and tags
are refused: a scenario has parameters for what repeats, and without aliases its size bounds its meaning.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from testbed.errors import Problem, ScenarioError

Loc = tuple[str | int, ...]
"""Where a value is: keys and indices from the top."""
Mark = tuple[int, int]
"""Line and column, from 1."""

MAX_DEPTH = 32
MAX_PROBLEMS = 50
_INT = re.compile(r"[-+]?[0-9]{1,20}|0o[0-7]{1,22}|0x[0-9a-fA-F]{1,16}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}


@dataclass(slots=True, kw_only=True)
class Tree:
    """Plain values of a file, where each of them is, and what was wrong so far."""

    path: Path
    value: Any = None
    values: dict[Loc, Mark] = field(default_factory=dict)
    keys: dict[Loc, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def report(self, mark: Mark, message: str, suggestion: str | None = None) -> None:
        """Note a mistake at ``mark``; the same one is noted once."""
        problem = Problem(
            file=self.path, line=mark[0], column=mark[1], message=message, suggestion=suggestion
        )
        if problem not in self.problems:
            self.problems.append(problem)

    def at(self, loc: Loc, *, key: bool = False) -> Mark:
        """Return the position of the value (or its key) at ``loc``, or of the nearest thing around it."""
        if key and loc in self.keys:
            return self.keys[loc]
        while loc and loc not in self.values:
            loc = loc[:-1]
        return self.values.get(loc, (1, 1))

    def check(self) -> None:
        """Raise `ScenarioError` with all problems in file order, if there are any."""
        if not self.problems:
            return
        ordered = sorted(self.problems, key=lambda problem: (problem.line, problem.column))
        if len(ordered) > MAX_PROBLEMS:
            more = len(ordered) - MAX_PROBLEMS
            last = ordered[MAX_PROBLEMS - 1]
            note = Problem(
                file=self.path, line=last.line, column=last.column, message=f"... and {more} more mistakes"
            )
            ordered = [*ordered[:MAX_PROBLEMS], note]
        raise ScenarioError(ordered)


class _Builder:
    """Puts events together without recursion, so that depth is our limit and not the interpreter's."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.stack: list[tuple[Loc, dict[str, Any] | list[Any]]] = []
        self.key: str | None = None
        self.ignored: dict[str, Any] = {}
        self.documents = 0
        self.nodes = 0

    def feed(self, event: Event) -> None:
        if isinstance(event, DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.tree.report(_mark(event), "one file holds one scenario; a second document starts here")
                raise ScenarioError(self.tree.problems)
        elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
            self.stack.pop()
        elif isinstance(event, NodeEvent):
            self._node(event)

    def _node(self, event: NodeEvent) -> None:
        mark = _mark(event)
        if isinstance(event, AliasEvent) or event.anchor is not None:
            self.tree.report(mark, "anchors and aliases (& and *) are not part of scenarios", "use params")
        elif getattr(event, "tag", None) not in (None, "!"):
            self.tree.report(mark, f"tags are not part of scenarios: {event.tag}")  # type: ignore[attr-defined]
        container = self.stack[-1][1] if self.stack else None
        if isinstance(container, dict) and self.key is None:
            self._take_key(event, mark, container)
            return
        value = _build_value(event)
        loc = self._place(value, mark)
        if isinstance(value, (dict, list)):
            if len(self.stack) >= MAX_DEPTH:
                self.tree.report(mark, f"nested more than {MAX_DEPTH} levels deep")
                raise ScenarioError(self.tree.problems)
            self.stack.append((loc, value))

    def _take_key(self, event: NodeEvent, mark: Mark, container: dict[str, Any]) -> None:
        if not isinstance(event, ScalarEvent):
            self.tree.report(mark, "a key is a word, not a list or a mapping")
            raise ScenarioError(self.tree.problems)
        self.key = event.value
        loc = (*self.stack[-1][0], self.key)
        if self.key in container:
            first = self.tree.keys[loc][0]
            self.tree.report(mark, f"duplicate key '{self.key}'", f"the first one is on line {first}")
        else:
            self.tree.keys[loc] = mark

    def _place(self, value: Any, mark: Mark) -> Loc:
        if not self.stack:
            self.tree.value = value
            self.tree.values[()] = mark
            return ()
        loc, container = self.stack[-1]
        if isinstance(container, list):
            container.append(value)
            here: Loc = (*loc, len(container) - 1)
        else:
            key, self.key = self.key or "", None
            here = (*loc, key)
            if key in container:
                return here
            container[key] = value
        self.tree.values[here] = mark
        return here


def _mark(event: Event) -> Mark:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _build_value(event: NodeEvent) -> Any:
    if isinstance(event, MappingStartEvent):
        return {}
    if isinstance(event, SequenceStartEvent):
        return []
    if isinstance(event, ScalarEvent):
        return parse_scalar(event.value) if event.implicit[0] else event.value
    return None


def parse_scalar(text: str) -> str | int | float | bool | None:
    """Return what an unquoted scalar stands for in YAML 1.2's core schema."""
    if text.lower() in _WORDS and text in (text.lower(), text.title(), text.upper()):
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    number = float(text) if _FLOAT.fullmatch(text) else math.inf
    return number if math.isfinite(number) else text


def parse_tree(path: Path, text: str) -> Tree:
    """Read the YAML of ``path``. Raises `ScenarioError` where it is no YAML at all; the rest is noted."""
    tree = Tree(path=path)
    builder = _Builder(tree)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.feed(event)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        tree.report(place, f"not YAML: {_reason(error)}", _advice(text, place))
        tree.check()
    except ReaderError as error:
        before = text[: error.position]
        place = (before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1)
        tree.report(place, f"the character {text[error.position]!r} is not allowed in YAML")
        tree.check()
    except (YAMLError, ValueError, AttributeError, IndexError, OverflowError) as error:
        # Malformed directives and escapes leave the scanner by these.
        tree.report((1, 1), f"not YAML: {error}")
        tree.check()
    return tree


def _reason(error: MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    return ": ".join(str(part).splitlines()[0] for part in parts) or "syntax error"


def _advice(text: str, place: Mark) -> str | None:
    lines = text.splitlines()
    line = lines[place[0] - 1] if place[0] <= len(lines) else ""
    if "\t" in line[: place[1]]:
        return "indent with spaces, not tabs"
    if ": " in line and line.count(": ") > 1:
        return "put text that holds ': ' in quotes"
    return None
