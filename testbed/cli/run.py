"""``testbed run``: from scenario files to a table of verdicts."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.cli.engine import add_capacity_options, add_engine_options, parse_count
from testbed.errors import LabError, ScenarioError
from testbed.outcome import ExitCode, exit_code
from testbed.verdict.reports import STDOUT, add_report_options, get_targets, write_reports

if TYPE_CHECKING:
    from rich.console import Console

    from testbed.plan.model import Options
    from testbed.scenario.document import Scenario
    from testbed.verdict.model import Verdict

_EPILOG = """\
What is missing (toolbox, kernel, guest image, modules) is made first.

examples:
  testbed run                                 all of scenarios/
  testbed run scenarios/fence -k held         cases whose name or tags match
  testbed run my.yaml --repeat 100 --until-fail --keep failed
  testbed run -j 4 --memory 4G                four guests at once, 4 GiB for all of them
  testbed run --engine dask --scheduler tcp://10.0.0.1:8786
  testbed run --kernel ~/linux --junit junit.xml --html report.html

exit codes: 0 pass, 1 FAIL, 2 ERROR or MISS, 3 usage or invalid scenario, 4 nothing ran, 130 interrupted
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "run",
        help="run scenarios and judge them",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        type=Path,
        default=[Path("scenarios")],
        help="scenario files or folders (default: scenarios)",
    )
    parser.add_argument("-k", dest="select", metavar="EXPR", default="", help="only cases that match")
    parser.add_argument("--kernel", metavar="NAME|TREE", default="default", help="kernel (default: default)")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="accelerator")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of every case (default: from its name)")
    parser.add_argument("--repeat", type=parse_count, metavar="N", default=1, help="run everything N times")
    parser.add_argument("--until-fail", action="store_true", help="stop at the first case that is not good")
    parser.add_argument(
        "--keep",
        choices=("never", "failed", "always"),
        default="always",
        help="which run folders stay (default: always)",
    )
    parser.add_argument("--cold", action="store_true", help="boot each guest instead of cloning a booted one")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="(default: runs)")
    add_capacity_options(parser)
    add_engine_options(parser)
    add_report_options(parser)
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Load, provision, run, judge, report. Raises `UsageError`, `ScenarioError`, `LabError`."""
    from testbed.cli.interrupt import interrupts_once
    from testbed.provision.cache import find_cache_root
    from testbed.schedule.durations import save_durations
    from testbed.verdict.terminal import build_console

    targets = get_targets(args)
    scenarios = load_all(args.paths)
    options = build_options(args)
    console = build_console(stderr=STDOUT in targets.values())
    if not select_cases(scenarios, options):
        console.print("no case matches: nothing was run")
        return ExitCode.NOTHING_RAN
    verdicts: list[Verdict] = []
    ended: KeyboardInterrupt | LabError | None = None
    began = time.monotonic()
    with interrupts_once():
        try:
            run_all(args, scenarios, options, console, verdicts)
        except (KeyboardInterrupt, LabError) as error:
            ended = error
    if verdicts or ended is None:
        print_result(args, console, verdicts, time.monotonic() - began)
        write_reports(targets, verdicts)
        save_durations(find_cache_root(), verdicts)
    if ended is not None:
        raise ended
    return exit_code(verdict.status for verdict in verdicts)


def print_result(
    args: argparse.Namespace, console: Console, verdicts: Sequence[Verdict], seconds: float
) -> None:
    """Print why cases did not pass, and the table; of many rounds, a line for each case."""
    from testbed.verdict.terminal import (
        GOOD,
        build_summary,
        print_reasons,
        print_rounds,
        print_table,
    )

    bad = [verdict for verdict in verdicts if verdict.status not in GOOD]
    for verdict in bad:
        print_reasons(console, verdict)
    if args.repeat == 1:
        print_table(console, verdicts, seconds)
        return
    print_rounds(console, verdicts, until_fail=args.until_fail)
    console.print(build_summary(verdicts, seconds))


def load_all(paths: Sequence[Path]) -> list[Scenario]:
    """Load all scenarios. Raises `ScenarioError` with the mistakes of all files, not of the first only."""
    from testbed.scenario import load_scenario
    from testbed.scenario.find import find_scenarios

    scenarios, problems = [], []
    for path in find_scenarios(paths):
        try:
            scenarios.append(load_scenario(path))
        except ScenarioError as error:
            problems += error.problems
    if problems:
        raise ScenarioError(problems)
    return scenarios


def build_options(args: argparse.Namespace) -> Options:
    """Return what the command line asks of all cases."""
    from testbed.plan.model import Options

    return Options(kernel=args.kernel, accel=args.accel, seed=args.seed, select=args.select)


def select_cases(scenarios: Sequence[Scenario], options: Options) -> list[str]:
    """Return the names of the cases that are selected, before anything is known about the host."""
    from testbed.plan.build import build_cases
    from testbed.plan.host import Host

    return [
        case.name for scenario in scenarios for case in build_cases(scenario, host=Host(), options=options)
    ]


def run_all(
    args: argparse.Namespace,
    scenarios: Sequence[Scenario],
    options: Options,
    console: Console,
    verdicts: list[Verdict],
) -> None:
    """Run the cases and append their verdicts in order, those of interrupted cases too."""
    from testbed.cli.engine import start_place
    from testbed.plan.build import build_cases
    from testbed.schedule.series import Series, Wish, build_tasks
    from testbed.verdict.live import start_view

    with start_place(args, console) as place:
        cases = [
            (plan, scenario.text)
            for scenario in scenarios
            for plan in build_cases(scenario, host=place.host, options=options)
        ]
        tasks = build_tasks(cases, args.repeat)
        wish = Wish(until_fail=args.until_fail, keep=args.keep)
        with start_view(console, len(tasks), at_once=place.at_once and len(tasks) > 1) as view:
            series = Series(tasks, wish, view)
            try:
                series.run(place.engine)
            finally:
                verdicts += series.verdicts
