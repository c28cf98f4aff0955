"""``testbed list``: scenarios with their cases, and the words that scenarios can use."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from testbed.errors import ScenarioError
from testbed.outcome import ExitCode
from testbed.plan.build import name_case
from testbed.scenario import load_scenario
from testbed.scenario.catalog import MODELS, Arg
from testbed.scenario.find import find_scenarios
from testbed.scenario.load import find_known

Row = tuple[str, ...]

_EPILOG = """\
examples:
  testbed list                           the cases in scenarios/
  testbed list my.yaml more/             those of files and folders
  testbed list faults                    what can be injected, and its arguments
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    words = ", ".join(_LISTS)
    parser = subparsers.add_parser(
        "list",
        help=f"list scenarios, or: {words}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what",
        metavar="PATH|WORD",
        nargs="*",
        default=["scenarios"],
        help=f"files or folders, or one of {words}",
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Print one line for each thing. Raises `UsageError` for a path that is not there."""
    if len(args.what) == 1 and args.what[0] in _LISTS and not Path(args.what[0]).exists():
        _write(_LISTS[args.what[0]]())
        return ExitCode.OK
    rows: list[Row] = []
    problems: list[str] = []
    for path in find_scenarios(Path(each) for each in args.what):
        try:
            scenario = load_scenario(path)
        except ScenarioError as error:
            problems.append(error.message)
            continue
        tags = ",".join(scenario.tags)
        rows += [(name_case(scenario, variant), tags, scenario.about) for variant in scenario.variants]
    _write(rows)
    if problems:
        sys.stderr.write("\n".join(problems) + "\n")
        return ExitCode.USAGE
    return ExitCode.OK


def _write(rows: Iterable[Row]) -> None:
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(f"{line.rstrip()}\n")


def _list_kernels() -> list[Row]:
    return [
        ("default", "the newest that the Debian mirror has, as packaged"),
        (
            "TREE",
            "the path of a kernel tree that is built; its config decides on KASAN, lockdep and the like",
        ),
    ]


def _list_models() -> list[Row]:
    return [(model.name, _spell(model.params), model.about) for model in MODELS.values()]


def _list_faults() -> list[Row]:
    return [
        (model.name, fault.name, _spell(fault.args), fault.about)
        for model in MODELS.values()
        for fault in model.faults
    ]


def _spell(args: Iterable[Arg]) -> str:
    return " ".join(arg.name if arg.default is None else f"{arg.name}={arg.default}" for arg in args) or "-"


def _list_tools() -> list[Row]:
    return [(name,) for name in find_known().tools or ()]


def _list_modules() -> list[Row]:
    return [(name,) for name in find_known().modules or ()]


_LISTS: dict[str, Callable[[], list[Row]]] = {
    "kernels": _list_kernels,
    "models": _list_models,
    "faults": _list_faults,
    "tools": _list_tools,
    "modules": _list_modules,
}
