"""The command line: one module per verb, each with ``add_parser`` and ``main(args) -> ExitCode``.

Verbs import what is heavy (paramiko, qemu.qmp) inside ``main``, so that ``--help`` stays quick.
"""

from __future__ import annotations

import argparse
import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import Never

from testbed import __version__
from testbed.errors import UsageError

VERBS = (
    "setup",
    "run",
    "worker",
    "validate",
    "plan",
    "judge",
    "report",
    "list",
    "schema",
    "doctor",
    "shell",
    "console",
    "ps",
    "clean",
    "bench",
)
_EPILOG = """\
examples:
  testbed run scenarios/smoke          from nothing to a table of verdicts
  testbed validate my.yaml             every mistake with its line
  testbed judge runs/latest            the verdict again, from the evidence
  testbed doctor                       what this machine can do

exit codes: 0 pass, 1 FAIL, 2 ERROR or MISS, 3 usage or invalid scenario, 4 nothing ran, 130 interrupted
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours."""

    def error(self, message: str) -> Never:
        """Raise `UsageError`."""
        raise UsageError(message, hint=f"{self.prog} --help")


def build_parser() -> Parser:
    """Return the parser of the whole program."""
    parser = Parser(
        prog="testbed",
        description="A virtual hardware lab for Linux kernel people.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"testbed {__version__}")
    subparsers = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    there = {module.name for module in pkgutil.iter_modules(__path__)}
    for verb in VERBS:
        if verb in there:
            import_module(f"{__name__}.{verb}").add_parser(subparsers)
    return parser


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return what ``argv`` asks for. Raises `UsageError`, which points to the help of the verb."""
    parser = build_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        raise UsageError(
            f"unrecognized arguments: {' '.join(unknown)}", hint=f"{parser.prog} {args.verb} --help"
        )
    return args
