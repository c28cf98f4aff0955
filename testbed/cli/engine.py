"""Where cases run: options of ``testbed run`` and ``testbed worker``, and the engine that they name."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from testbed.plan.host import Host
    from testbed.schedule.task import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An engine, and what is known about where it runs cases."""

    engine: Engine
    host: Host
    at_once: bool
    """Whether it may run several cases at the same time."""


def add_capacity_options(parser: argparse.ArgumentParser) -> None:
    """Add ``-j`` and ``--memory``."""
    parser.add_argument(
        "-j", dest="jobs", metavar="N", type=parse_count, help="guests at once (default: one per core)"
    )
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        type=_parse_memory,
        help="memory for all guests together (default: what is free, less a tenth)",
    )


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add what says where cases run."""
    group = parser.add_argument_group("where")
    group.add_argument(
        "--engine",
        choices=("local", "dask"),
        default="local",
        help="this machine, or others (default: local)",
    )
    group.add_argument("--scheduler", metavar="ADDRESS", help="Dask's, such as tcp://10.0.0.1:8786")


def get_dask() -> None:
    """Raise `UsageError` when the package that the Dask engine needs is not installed."""
    from importlib.util import find_spec

    if find_spec("distributed") is None:
        raise UsageError(
            "the Dask engine needs the package 'distributed'", hint="pip install 'testbed[dask]'"
        )


@contextmanager
def start_place(args: argparse.Namespace, console: Console) -> Iterator[Place]:
    """Yield the place that the command line names, ready to run cases."""
    if (args.engine == "dask") != (args.scheduler is not None):
        raise UsageError(
            "--engine dask and --scheduler belong together",
            hint="testbed run --engine dask --scheduler tcp://HOST:8786",
        )
    if args.engine == "local":
        yield _start_local(args, console)
        return
    if args.jobs or args.memory:
        raise UsageError("-j and --memory are said to each worker", hint="testbed worker -j N --memory SIZE")
    get_dask()
    from testbed.plan.host import Host
    from testbed.provision.cache import find_cache_root
    from testbed.schedule.dask_engine import Conditions, DaskEngine, start_client
    from testbed.schedule.durations import load_durations

    conditions = Conditions(kernel=args.kernel, accel=args.accel, out=args.out.absolute(), cold=args.cold)
    with start_client(args.scheduler) as client:
        engine = DaskEngine(client, conditions, load_durations(find_cache_root()))
        yield Place(engine=engine, host=Host(), at_once=True)


def _start_local(args: argparse.Namespace, console: Console) -> Place:
    from testbed.provision.cache import find_cache_root
    from testbed.schedule.capacity import probe_capacity
    from testbed.schedule.durations import load_durations
    from testbed.schedule.local import LocalEngine
    from testbed.schedule.prepare import build_host, prepare_bench

    capacity = probe_capacity(slots=args.jobs, memory_mib=args.memory)
    bench = prepare_bench(
        console,
        kernel=args.kernel,
        accel=args.accel,
        out=args.out,
        jobs=capacity.slots,
        cold=args.cold,
    )
    engine = LocalEngine(bench, capacity, load_durations(find_cache_root()))
    return Place(engine=engine, host=build_host(bench), at_once=capacity.slots > 1)


def parse_count(text: str) -> int:
    """Return ``text`` as a number of at least 1. Raises `UsageError`."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f"'{text}' is not a number of at least 1")
    return number


def _parse_memory(text: str) -> int:
    from testbed.scenario.values import parse_size

    try:
        mib = parse_size(text) >> 20
    except ValueError:
        mib = 0
    if mib < 1:
        raise UsageError(f"'{text}' is not a size of memory", hint="--memory 8G, --memory 900M")
    return mib
