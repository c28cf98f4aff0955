"""``testbed worker``: offer this machine's guests to a Dask scheduler."""

from __future__ import annotations

import argparse
from pathlib import Path

from testbed.cli.engine import add_capacity_options, get_dask
from testbed.outcome import ExitCode

_EPILOG = """\
The machine needs nothing else: what is missing (toolbox, kernel, guest image) is made first.
Whoever reaches the scheduler can run code here: keep it in a network that you trust, or use tls://
with Dask's own settings (docs/scheduling.md).

examples:
  dask scheduler --host 10.0.0.1                          once, anywhere
  testbed worker --scheduler tcp://10.0.0.1:8786          on each machine
  testbed run --engine dask --scheduler tcp://10.0.0.1:8786
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "worker",
        help="run cases for a Dask scheduler",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", required=True, help="such as tcp://10.0.0.1:8786")
    add_capacity_options(parser)
    parser.add_argument("--kernel", metavar="NAME|TREE", default="default", help="made at once, not later")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="accelerator")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Provision, then serve until the scheduler or a signal ends it."""
    get_dask()
    from testbed.schedule.capacity import probe_capacity
    from testbed.schedule.prepare import prepare_bench
    from testbed.schedule.worker import Offer, build_name, serve
    from testbed.verdict.terminal import build_console

    console = build_console(stderr=True)
    capacity = probe_capacity(slots=args.jobs, memory_mib=args.memory)
    bench = prepare_bench(console, kernel=args.kernel, accel=args.accel, out=Path(), jobs=capacity.slots)
    offer = Offer(capacity=capacity, kvm=bench.accel.name == "kvm", name=build_name())
    serve(args.scheduler, offer, lambda text: console.print(text, highlight=False, soft_wrap=True))
    return ExitCode.OK
