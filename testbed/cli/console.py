"""``testbed console``: the serial console of a guest, live or from a finished run."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from testbed.errors import UsageError
from testbed.evidence.run import open_run_folder
from testbed.outcome import ExitCode

_LOOK_EVERY = 0.1

_EPILOG = """\
examples:
  testbed console                        the guest of runs/latest, live while it runs
  testbed console runs/latest --guest peer
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "console",
        help="print and follow a guest's console",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        nargs="?",
        type=Path,
        default=Path("runs/latest"),
        help="run folder (default: runs/latest)",
    )
    parser.add_argument("--guest", metavar="NAME", help="which guest, when the run has several")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Print what there is, and what comes for as long as the guest runs."""
    from testbed.guest.census import find_processes

    folder = _find_guest(args.run, args.guest)
    with (folder / "console.log").open("rb") as file:
        while True:
            # Asked before the rest is read: what a guest says last is printed too.
            running = any(
                tenant.kind == "guest" and Path(tenant.where) == folder for tenant in find_processes()
            )
            while data := file.read(1 << 16):
                sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            if not running:
                return ExitCode.OK
            time.sleep(_LOOK_EVERY)


def _find_guest(run: Path, name: str | None) -> Path:
    path = open_run_folder(run).path
    names = sorted(log.parent.name for log in path.glob("*/console.log"))
    if name is None and len(names) == 1:
        return path / names[0]
    if name in names:
        return path / str(name)
    if not names:
        raise UsageError(f"'{run}' has no guest's console (yet)", hint="testbed console RUN")
    asked = f"has no guest '{name}'" if name else "has several guests"
    raise UsageError(f"'{run}' {asked}", hint=f"--guest, one of {', '.join(names)}")
