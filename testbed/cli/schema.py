"""``testbed schema``: a JSON Schema of the scenario language, for editors."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from testbed.errors import UsageError
from testbed.outcome import ExitCode
from testbed.scenario.reference import build_reference, refresh_reference
from testbed.scenario.schema import build_schema

_EPILOG = """\
examples:
  testbed schema scenario.schema.json    for an editor's YAML support
  testbed schema | less
  testbed schema --reference docs/scenario.md
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "schema",
        help="write the JSON Schema that editors check scenarios with",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", metavar="FILE", nargs="?", type=Path, help="default: standard output")
    parser.add_argument(
        "--reference", action="store_true", help="write the reference into a page (docs/scenario.md) instead"
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Write the schema. Raises `UsageError` when the file cannot be written."""
    if args.reference:
        text = refresh_reference(_read(args.output)) if args.output else build_reference()
    else:
        text = json.dumps(build_schema(), indent=2) + "\n"
    if args.output is None:
        sys.stdout.write(text)
        return ExitCode.OK
    try:
        args.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write '{args.output}': {error.strerror}") from error
    return ExitCode.OK


def _read(page: Path) -> str:
    try:
        return page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read '{page}': {error}") from error
