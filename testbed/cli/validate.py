"""``testbed validate``: every mistake in scenario files, as ``file:line:column: message``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from testbed.errors import ScenarioError
from testbed.outcome import ExitCode
from testbed.scenario import load_scenario
from testbed.scenario.find import find_scenarios

_EPILOG = """\
examples:
  testbed validate                       all of scenarios/
  testbed validate my.yaml more/         files and folders, every mistake of each
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "validate",
        help="check scenario files, without QEMU",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        type=Path,
        default=[Path("scenarios")],
        help="scenario files or folders (default: scenarios)",
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Print the mistakes to standard output and a summary to standard error."""
    files = find_scenarios(args.paths)
    mistakes = cases = 0
    for path in files:
        try:
            cases += len(load_scenario(path).variants)
        except ScenarioError as error:
            mistakes += len(error.problems)
            sys.stdout.write(f"{error.message}\n")
    found = ", ".join((_count(len(files), "file"), _count(cases, "valid case"), _count(mistakes, "mistake")))
    sys.stderr.write(f"{found}\n")
    return ExitCode.USAGE if mistakes else ExitCode.OK


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
