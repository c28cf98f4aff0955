"""The report files of a run: which there are, and writing them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from testbed.errors import UsageError
from testbed.verdict.html import build_html
from testbed.verdict.json_report import build_json
from testbed.verdict.junit import build_junit
from testbed.verdict.ktap_report import build_ktap
from testbed.verdict.model import Verdict
from testbed.verdict.svg import build_svg

STDOUT = "-"
BUILDERS: Mapping[str, Callable[[Sequence[Verdict]], str]] = {
    "json": build_json,
    "junit": build_junit,
    "ktap": build_ktap,
    "html": build_html,
    "svg": build_svg,
}


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--json F`` and its like; ``-`` is standard output."""
    group = parser.add_argument_group("reports", "F is a file, - is standard output")
    for name in BUILDERS:
        group.add_argument(f"--{name}", metavar="F", help=f"write the verdicts as {name}")


def get_targets(args: argparse.Namespace) -> dict[str, str]:
    """Return report name to target as asked for.

    Raises `UsageError` for a target that cannot be written, before anything is run, and when two reports
    would share standard output.
    """
    targets = {name: str(getattr(args, name)) for name in BUILDERS if getattr(args, name) is not None}
    if list(targets.values()).count(STDOUT) > 1:
        raise UsageError("only one report can go to standard output", hint="give the others a file name")
    for name, target in targets.items():
        parent = Path(target).parent
        if target != STDOUT and (not parent.is_dir() or Path(target).is_dir()):
            problem = "it is a folder" if Path(target).is_dir() else f"there is no folder '{parent}'"
            raise UsageError(f"--{name} '{target}' cannot be written: {problem}")
    return targets


def write_reports(targets: Mapping[str, str], verdicts: Sequence[Verdict]) -> None:
    """Write each report. Raises `UsageError` for one that cannot be written."""
    for name, target in targets.items():
        text = BUILDERS[name](verdicts)
        if target == STDOUT:
            sys.stdout.write(text)
            continue
        try:
            Path(target).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--{name} '{target}' cannot be written: {error.strerror}") from error
