"""``testbed report``: the reports of runs that are over."""

from __future__ import annotations

import argparse
from pathlib import Path

from testbed.errors import UsageError
from testbed.outcome import ExitCode
from testbed.verdict.reports import STDOUT, add_report_options, get_targets, write_reports

_EPILOG = """\
examples:
  testbed report runs/2026* --html report.html
  testbed report runs/latest --json -
  testbed report runs/2026*-fence-* --svg verdict.svg     a picture of the table
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "report",
        help="write reports of run folders: HTML, JUnit, JSON, KTAP, SVG",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders")
    add_report_options(parser)
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Write what is asked for; a report that says FAIL is still a report, so the exit code is 0."""
    from testbed.evidence.run import open_run_folder
    from testbed.verdict.judge import judge_run
    from testbed.verdict.terminal import build_console, print_table

    targets = get_targets(args)
    if not targets:
        raise UsageError("no report was asked for", hint="testbed report RUN --html report.html")
    verdicts = [judge_run(open_run_folder(path)) for path in args.runs]
    write_reports(targets, verdicts)
    if STDOUT not in targets.values():
        print_table(build_console(), verdicts)
    return ExitCode.OK
