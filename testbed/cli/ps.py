"""``testbed ps``: what we left running, or have running, anywhere on this host."""

from __future__ import annotations

import argparse
import sys

from testbed.outcome import ExitCode

_EPILOG = """\
examples:
  testbed ps
  testbed ps | grep stale                what `testbed clean` would remove
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "ps",
        help="list guests, device hosts and private folders of this user",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:  # noqa: ARG001 - every verb's signature
    """Print a table; nothing when there is nothing."""
    from testbed.guest.census import Tenant, find_folders, find_processes

    tenants: list[Tenant] = [*find_processes(), *find_folders()]
    if not tenants:
        return ExitCode.OK
    rows = [("PID", "KIND", "AGE", "STATE", "WHERE")]
    for tenant in tenants:
        state = "stale" if tenant.stale else "in use"
        rows.append((str(tenant.pid), tenant.kind, describe_age(tenant.age), state, tenant.where))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(f"{line.rstrip()}\n")
    return ExitCode.OK


def describe_age(seconds: float) -> str:
    """Return ``12s``, ``3m05s`` or ``2h07m``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
