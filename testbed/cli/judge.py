"""``testbed judge``: verdicts again, from the evidence alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from testbed.errors import LabError
from testbed.outcome import ExitCode, exit_code

_EPILOG = """\
The verdict is computed from the run folder alone: no guest, no QEMU, no cache. It replaces RUN/verdict.json.

examples:
  testbed judge runs/latest
  testbed judge runs/2026*
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "judge",
        help="compute verdicts again from run folders",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Judge each folder, print the verdict with all its reasons and save it. Raises `LabError`."""
    from testbed.evidence.run import open_run_folder
    from testbed.verdict.judge import judge_run
    from testbed.verdict.model import save_verdict
    from testbed.verdict.terminal import build_console, print_reasons

    folders = [open_run_folder(path) for path in args.runs]
    console = build_console()
    verdicts = []
    for folder in folders:
        verdict = judge_run(folder)
        print_reasons(console, verdict)
        try:
            save_verdict(verdict, folder.verdict)
        except OSError as error:
            raise LabError(
                f"the verdict above cannot be saved: {error.strerror}",
                where=str(folder.verdict),
                hint="make room there, or judge a copy of the folder",
            ) from error
        verdicts.append(verdict)
    return exit_code(verdict.status for verdict in verdicts)
