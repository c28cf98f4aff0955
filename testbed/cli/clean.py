"""``testbed clean``: remove what dead runs left behind; runs and cache only when asked."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from testbed.errors import UsageError
from testbed.outcome import ExitCode

T = TypeVar("T")
_RUN_NAME = re.compile(r"^\d{8}-\d{6}-")  # docs/evidence.md

_EPILOG = """\
examples:
  testbed clean -n                       only say what would be removed
  testbed clean --runs 20                keep the newest 20 run folders
  testbed clean --bases                  all base snapshots
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "clean",
        help="remove what dead runs left; on request old runs, base snapshots, the cache",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument(
        "--runs",
        type=_count,
        metavar="KEEP",
        nargs="?",
        const=10,
        help="remove run folders but the newest KEEP (default 10)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="where runs are (default: runs)"
    )
    parser.add_argument(
        "--bases",
        type=_size,
        metavar="SIZE",
        nargs="?",
        const=0,
        help="remove base snapshots, those used last staying, until SIZE is left, for example 2G "
        "(without SIZE: all of them; without --bases: 4G are left)",
    )
    parser.add_argument("--cache", action="store_true", help="empty the cache; setup makes it again")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Remove, and print one line for each thing."""
    clean = _Clean(dry_run=args.dry_run)
    clean.remove_leftovers()
    if args.runs is not None:
        clean.remove_runs(args.out, keep=args.runs)
    clean.remove_bases(args.bases)
    clean.prune(everything=args.cache)
    if not clean.count:
        sys.stdout.write("nothing to clean\n")
    return ExitCode.OK


class _Clean:
    def __init__(self, *, dry_run: bool) -> None:
        self.count = 0
        self._dry_run = dry_run

    def remove_leftovers(self) -> None:
        from testbed.guest.census import find_processes, find_stale_folders
        from testbed.guest.reaper import kill_process, remove_folder

        for tenant in find_processes():
            if tenant.stale:
                self._do(f"{tenant.kind} {tenant.pid} ({tenant.where})", kill_process, tenant.pid)
        for path in find_stale_folders():
            self._do(str(path), remove_folder, str(path))

    def remove_runs(self, out: Path, keep: int) -> None:
        from testbed.guest.census import find_processes

        busy = {Path(tenant.where).parent for tenant in find_processes() if tenant.where}
        runs = sorted(path for path in out.glob("*") if _RUN_NAME.match(path.name) and path.is_dir())
        for path in runs[: max(0, len(runs) - keep)]:
            if path.resolve() not in busy:
                self._do(str(path), shutil.rmtree, path)

    def remove_bases(self, keep: int | None) -> None:
        from testbed.guest.snapshot import KEEP_BYTES, discard_base, find_surplus
        from testbed.provision.cache import find_cache_root

        root = find_cache_root()
        for entry in find_surplus(root, KEEP_BYTES if keep is None else keep):
            self._do(str(entry.path), lambda key: discard_base(root, key), entry.key)

    def prune(self, *, everything: bool) -> None:
        from testbed.provision.cache import find_cache_root, list_entries, prune_cache

        root = find_cache_root()
        if not root.is_dir():
            return
        doomed = list_entries(root) if everything else []
        names = [str(entry.path) for entry in doomed] + [str(path) for path in root.glob("*/.*.tmp")]
        for name in names:
            self._do(name, lambda _: None, None)
        if names and not self._dry_run:
            prune_cache(root, lambda _: not everything)

    def _do(self, name: str, remove: Callable[[T], object], what: T) -> None:
        self.count += 1
        sys.stdout.write(f"{'would remove' if self._dry_run else 'removed'} {name}\n")
        if not self._dry_run:
            remove(what)


def _size(text: str) -> int:
    from testbed.scenario.values import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"'{text}' is not a size", hint="testbed clean --bases 2G") from error


def _count(text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"'{text}' is not a number of runs to keep", hint="testbed clean --runs 10")
    return int(text)
