"""A scenario file to a valid `Scenario`, or to a `ScenarioError` with every mistake in file order."""

from __future__ import annotations

import re
import stat
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from testbed.errors import Problem, ScenarioError
from testbed.scenario.document import Document, Scenario, Variant
from testbed.scenario.prepare import build_params, fill_in, iterate_axes, iterate_raw_steps, put_in
from testbed.scenario.problems import report_errors
from testbed.scenario.rules import Finding, Known, check_document
from testbed.scenario.salvage import check_rest
from testbed.scenario.tree import Loc, Tree, parse_tree
from testbed.scenario.values import describe

MAX_BYTES = 256 * 1024
MAX_STEPS = 1000
_COMMAND_TABLE = re.compile(r"^static const struct command commands\[\].*?^};", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r'\{ "([^"]+)",')
_FREE_FORM = ("args", "data")
"""Keys below which a value may be null: what they hold goes to QEMU as it is."""


def load_scenario(path: Path) -> Scenario:
    """Read ``path`` and check every case of it. Raises `ScenarioError` with all problems."""
    return parse_scenario(read_text(path), path)


def parse_scenario(text: str, path: Path, known: Known | None = None) -> Scenario:
    """Check ``text``, which came from ``path``; ``known`` defaults to what this installation has."""
    tree = parse_tree(path, text)
    if tree.value is None:
        tree.report(tree.at(()), "the file is empty", "begin with: schema: 1")
        tree.check()
    if not isinstance(tree.value, dict):
        tree.report(
            tree.at(()), f"a scenario is a mapping, got {describe(tree.value)}", "begin with: schema: 1"
        )
        tree.check()
    variants = _build_variants(tree, known or find_known())
    tree.check()
    return Scenario(path=path, name=name_scenario(path), text=text, variants=tuple(variants))


def name_scenario(path: Path) -> str:
    """Return ``fence/hold`` for ``.../scenarios/fence/hold.yaml``, the stem for files elsewhere."""
    parts = path.absolute().with_suffix("").parts
    if "scenarios" in parts[:-1]:
        last = len(parts) - 1 - parts[::-1].index("scenarios")
        return "/".join(parts[last + 1 :])
    return path.stem


def read_text(path: Path) -> str:
    """Return the text of a scenario file. Raises `ScenarioError` when it is none."""
    data = _read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        line, column = before.count("\n") + 1, error.start - (data[: error.start].rfind(b"\n") + 1) + 1
        message = f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        raise _refuse(path, message, "save the file as UTF-8", at=(line, column)) from None


def _read_bytes(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise _refuse(path, "this is a folder", f"testbed list {path}")
        if not stat.S_ISREG(mode):
            raise _refuse(path, "this is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _refuse(path, "there is no such file", _similar(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _refuse(path, f"cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise _refuse(path, f"larger than {MAX_BYTES // 1024} KiB, which no scenario needs")
    return data


def _refuse(path: Path, message: str, hint: str | None = None, at: tuple[int, int] = (1, 1)) -> ScenarioError:
    return ScenarioError([Problem(file=path, line=at[0], column=at[1], message=message, suggestion=hint)])


def _similar(path: Path) -> str | None:
    for other in (path.with_suffix(".yaml"), path.with_suffix(".yml")):
        if other != path and other.is_file():
            return f"did you mean '{other}'?"
    return None


def _report_empty(tree: Tree) -> list[Loc]:
    """Note each key without a value; return the places, which need no second complaint."""
    places: list[Loc] = []
    told = {(problem.line, problem.column) for problem in tree.problems}
    pending: list[tuple[Loc, Any]] = [((), tree.value)]
    while pending:
        loc, value = pending.pop()
        if isinstance(value, dict):
            pending += [((*loc, key), item) for key, item in value.items() if key not in _FREE_FORM]
        elif isinstance(value, list):
            pending += [((*loc, index), item) for index, item in enumerate(value)]
        elif value is None:
            places.append(loc)
            if tree.at(loc) not in told:
                what = f"'{loc[-1]}'" if isinstance(loc[-1], str) else f"entry {loc[-1] + 1}"
                tree.report(tree.at(loc, key=True), f"{what} has no value")
    return places


def _build_variants(tree: Tree, known: Known) -> list[Variant]:
    """Return the cases that are right. A mistake that not all of them have is told with the case's name."""
    silent, general = _report_empty(tree), tree.problems
    count = sum(1 for _ in iterate_raw_steps(tree.value.get("steps")))
    if count > MAX_STEPS:
        tree.report(tree.at(("steps",), key=True), f"{count} steps; at most {MAX_STEPS} are allowed")
        return []
    combinations = list(iterate_axes(tree))
    variants: list[Variant] = []
    problems: dict[Problem, list[str]] = {}
    for axes in combinations:
        tree.problems = []
        variant = _build_variant(tree, axes, silent, known)
        if variant:
            variants.append(variant)
        for problem in tree.problems:
            problems.setdefault(problem, []).append(join_axes(axes))
    tree.problems = general
    for problem, cases in problems.items():
        where = "" if len(cases) == len(combinations) else f", in case [{cases[0]}]"
        tree.report((problem.line, problem.column), problem.message + where, problem.suggestion)
    return variants


def _build_variant(tree: Tree, axes: dict[str, Any], silent: list[Loc], known: Known) -> Variant | None:
    params = build_params(tree, axes)
    data = put_in(tree, params)
    fill_in(data)
    try:
        document = Document.model_validate(data)
    except ValidationError as error:
        report_errors(tree, error, silent)
        _report_findings(tree, check_rest(tree, data, error, known))
        return None
    _report_findings(tree, check_document(document, known))
    return Variant(axes=axes, params=params, document=document)


def _report_findings(tree: Tree, findings: list[Finding]) -> None:
    for finding in findings:
        tree.report(tree.at(finding.loc, key=finding.key), finding.message, finding.hint)


def join_axes(axes: dict[str, Any]) -> str:
    """Return ``engine=copy,size=1M``."""
    return ",".join(f"{name}={value}" for name, value in axes.items())


@cache
def find_known() -> Known:
    """Return the modules and tools under ``guest-images`` beside this package, if it is there."""
    images = Path(__file__).resolve().parents[2] / "guest-images"
    modules = sorted(entry.parent.name for entry in images.glob("modules/*/Kbuild"))
    tools = {f"tb-{entry.parent.name}": entry for entry in sorted(images.glob("tools/*/main.c"))}
    return Known(
        modules=tuple(modules) or None,
        tools=tuple(tools) or None,
        subcommands={name: find_subcommands(entry.read_text("utf-8")) for name, entry in tools.items()},
    )


def find_subcommands(source: str) -> tuple[str, ...]:
    """Return the subcommands of a tool whose ``main.c`` is ``source``; empty when it has no table of them.

    `program_main` in guest-images/tools/lib/args.c adds a few to each table.
    """
    table = _COMMAND_TABLE.search(source)
    names = _COMMAND.findall(table.group()) if table else []
    if table is None or not names:
        return ()
    everything = ("all",) if re.search(r"true\s*}", table.group()) else ()
    return (*names, *everything, "help", "list")
