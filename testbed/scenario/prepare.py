"""Plain values of a file to plain values of one case: parameters put in, what is left out filled in."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from testbed.scenario.suggest import closest
from testbed.scenario.tree import Loc, Tree
from testbed.scenario.values import is_name

MAX_CASES = 256
MAX_GROWTH = 256 * 1024
"""Bytes of text that parameters may add to one case, against parameters that multiply."""
_PLACE = re.compile(r"\$?\$\{([^}]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_FIXED = ("params", "matrix")
"""Where no parameter is put in: they say what the parameters are."""

Params = dict[str, Any]


def iterate_axes(tree: Tree) -> Iterator[Params]:
    """Yield the values of the matrix axes of each case, in order; one empty mapping without a matrix."""
    matrix = _mapping(tree.value.get("matrix"))
    axes = {name: values for name, values in matrix.items() if isinstance(values, list) and values}
    count = 1
    for values in axes.values():
        count *= len(values)
    for name, values in axes.items():
        _report_twins(tree, ("matrix", name), values)
    if count > MAX_CASES:
        mark = tree.at(("matrix",), key=True)
        tree.report(mark, f"the matrix makes {count} cases; at most {MAX_CASES} are allowed")
        axes = {}
    for combination in itertools.product(*axes.values()):
        yield dict(zip(axes, combination, strict=True))


def _report_twins(tree: Tree, loc: Loc, values: list[Any]) -> None:
    seen: list[str] = []
    for index, value in enumerate(values):
        if str(value) in seen:
            tree.report(tree.at((*loc, index)), f"'{value}' is twice on the axis '{loc[-1]}'")
        seen.append(str(value))


def build_params(tree: Tree, axes: Params) -> Params:
    """Return all parameters of a case: the defaults, and the axes' values over them."""
    return {**_mapping(tree.value.get("params")), **axes}


def put_in(tree: Tree, params: Params) -> dict[str, Any]:
    """Return the values of the file with ``params`` put in; unknown and unused ones are noted."""
    filler = _Filler(tree, params)
    done = {key: value if key in _FIXED else filler.fill(value, (key,)) for key, value in tree.value.items()}
    for name in params:
        if name not in filler.used:
            section = "matrix" if name in _mapping(tree.value.get("matrix")) else "params"
            mark = tree.at((section, name), key=True)
            tree.report(mark, f"parameter '{name}' is not used", f"write ${{{name}}}")
    return done


class _Filler:
    """Puts parameters into values, remembers which, and how much text that made."""

    def __init__(self, tree: Tree, params: Params) -> None:
        self.tree = tree
        self.params = params
        self.used: set[str] = set()
        self.grown = 0

    def fill(self, value: Any, loc: Loc) -> Any:
        if isinstance(value, dict):
            return {key: self.fill(item, (*loc, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item, (*loc, index)) for index, item in enumerate(value)]
        return self._text(value, loc) if isinstance(value, str) and "${" in value else value

    def _text(self, text: str, loc: Loc) -> Any:
        alone = _PLACE.fullmatch(text)
        if alone and not text.startswith("$$"):
            return self._value(alone, loc)
        names = _PLACE.findall(text)
        self.grown += sum(len(_spell(self.params[name])) for name in names if name in self.params)
        if self.grown > MAX_GROWTH:
            self.used.update(self.params)
            self.tree.report(self.tree.at(loc), f"parameters make more than {MAX_GROWTH >> 10} KiB of text")
            return text
        return _PLACE.sub(lambda found: _spell(self._value(found, loc)), text)

    def _value(self, found: re.Match[str], loc: Loc) -> Any:
        whole, name = found[0], found[1]
        if whole.startswith("$$"):
            return whole[1:]
        if name in self.params:
            self.used.add(name)
            return self.params[name]
        if _NAME.fullmatch(name):
            message = f"parameter '{name}' is not defined"
            hint = (
                closest(name, self.params) or f"add it to params, or write $${{{name}}} for the shell's own"
            )
        else:
            message, hint = f"'{whole}' is not a parameter", f"write ${whole} to leave it to the shell"
        self.tree.report(self.tree.at(loc), message, hint)
        return whole


def _spell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def fill_in(data: dict[str, Any]) -> None:
    """Give each step the guest that it leaves out, and faults the only device of that guest."""
    guests = _mapping(data.get("guests"))
    first = next((name for name in guests if is_name(name)), "vm")
    for step in iterate_raw_steps(data.get("steps")):
        step.setdefault("guest", first)
        if "inject" in step or "clear" in step:
            guest = step["guest"]
            devices = _mapping(_mapping(guests.get(guest)).get("devices")) if isinstance(guest, str) else {}
            if len(devices) == 1:
                step.setdefault("device", next(iter(devices)))


def iterate_raw_steps(steps: Any) -> Iterator[dict[str, Any]]:
    """Yield each mapping that stands where a step should, groups' own steps included."""
    for step in steps if isinstance(steps, list) else []:
        if not isinstance(step, dict):
            continue
        yield step
        yield from iterate_raw_steps(step.get("always"))
        yield from iterate_raw_steps(_mapping(step.get("repeat")).get("steps"))
        if "counters" in step:
            yield from iterate_raw_steps(step.get("steps"))
        branches = step.get("parallel")
        for branch in branches if isinstance(branches, list) else []:
            yield from iterate_raw_steps(branch)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
