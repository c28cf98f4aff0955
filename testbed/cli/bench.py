"""``testbed bench``: figures for people, and as JSON for comparison between versions."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.table import Table

from testbed.bench.rows import Row
from testbed.errors import UsageError
from testbed.outcome import ExitCode

_EPILOG = """\
examples:
  testbed bench                       every benchmark
  testbed bench guest -n 5            boot, hot-plug, MMIO, submit and teardown, five guests
  testbed bench clones                a fresh guest's first answer, cloned, booted and by virtme-ng
  testbed bench suite -n 1            100 short cases: time, memory, leaks, our share of the processor
  testbed bench guest --json f.json   the rows as [{name, unit, median, min, max, n}]

Machines are shared and noisy: compare ratios of one run, not figures of two.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb ``bench``."""
    parser = subparsers.add_parser(
        "bench",
        help="measure the lab itself",
        description="Measure the lab itself: boot, hot-plug, MMIO, job submission, teardown.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", default="all", help="guest, clones or suite (default: all)")
    parser.add_argument("-n", "--rounds", type=int, default=3, metavar="N", help="how often (3)")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="accelerator (auto)")
    parser.add_argument("--kernel", default="default", metavar="NAME|TREE", help="kernel of the guests")
    parser.add_argument("--json", metavar="F", help="write the rows to F, - for standard output")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Run the benchmarks that ``args.name`` names and print their rows."""
    from testbed.bench.clones import bench_clones
    from testbed.bench.guest import bench_guest
    from testbed.bench.suite import bench_suite
    from testbed.cli.interrupt import interrupts_once
    from testbed.guest.accel import probe_accel
    from testbed.provision.progress import start_reporter
    from testbed.provision.setup import setup
    from testbed.verdict.terminal import build_console

    benchmarks = {"guest": bench_guest, "clones": bench_clones, "suite": bench_suite}
    if args.name not in ("all", *benchmarks):
        raise UsageError(f"benchmark '{args.name}' is not known", hint=f"one of: {', '.join(benchmarks)}")
    if args.rounds < 1:
        raise UsageError(f"-n takes a number of 1 or more, not {args.rounds}")
    console = build_console(stderr=True)
    rows: list[Row] = []
    with interrupts_once():
        with start_reporter(console) as reporter:
            provisioned = setup(reporter, kernel=args.kernel)
        accel = probe_accel(args.accel, qemu=provisioned.qemu, cache=provisioned.cache)
        console.print(f"accelerator {accel.name}: {accel.reason}")
        for name in benchmarks if args.name == "all" else (args.name,):
            rows += benchmarks[name](provisioned, accel, rounds=args.rounds, say=console.print)
    _report(rows, args.json)
    return ExitCode.OK


def _report(rows: list[Row], target: str | None) -> None:
    from testbed.verdict.terminal import build_console

    if target != "-":
        build_console().print(_build_table(rows))
    if target is not None:
        text = json.dumps([row.as_json() for row in rows], indent=1) + "\n"
        if target == "-":
            sys.stdout.write(text)
        else:
            Path(target).write_text(text, encoding="utf-8")


def _build_table(rows: list[Row]) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("benchmark")
    for column in ("median", "min", "max", "unit", "n"):
        table.add_column(column, justify="left" if column == "unit" else "right")
    for row in rows:
        figures = (f"{value:.3f}" for value in (row.median, row.min, row.max))
        table.add_row(row.name, *figures, row.unit, str(row.n))
    return table
