"""``testbed run``: from scenario files to a table of verdicts."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.errors import LabError, ScenarioError, UsageError
from testbed.outcome import ExitCode, Status, exit_code
from testbed.verdict.reports import STDOUT, add_report_options, get_targets, write_reports

if TYPE_CHECKING:
    from rich.console import Console

    from testbed.evidence.run import RunFolder
    from testbed.plan.model import CasePlan, Options
    from testbed.provision.model import Kernel
    from testbed.scenario.document import Scenario
    from testbed.steps.runner import Bench
    from testbed.verdict.live import View
    from testbed.verdict.model import Verdict

_GOOD = (Status.PASS, Status.DONE, Status.SKIP)
_EPILOG = """\
What is missing (toolbox, kernel, guest image, modules) is made first.

examples:
  testbed run                                 all of scenarios/
  testbed run scenarios/fence -k held         cases whose name or tags match
  testbed run my.yaml --repeat 100 --until-fail --keep failed
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
    parser.add_argument("-j", dest="jobs", metavar="N", type=_positive, default=1, help="cases at once")
    parser.add_argument("-k", dest="select", metavar="EXPR", default="", help="only cases that match")
    parser.add_argument("--kernel", metavar="NAME|TREE", default="default", help="kernel (default: default)")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="accelerator")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of every case (default: from its name)")
    parser.add_argument("--repeat", type=_positive, metavar="N", default=1, help="run everything N times")
    parser.add_argument("--until-fail", action="store_true", help="stop at the first case that is not good")
    parser.add_argument(
        "--keep",
        choices=("never", "failed", "always"),
        default="always",
        help="which run folders stay (default: always)",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="(default: runs)")
    add_report_options(parser)
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Load, provision, run, judge, report. Raises `UsageError`, `ScenarioError`, `LabError`."""
    from testbed.cli.interrupt import interrupts_once
    from testbed.verdict.terminal import build_console, print_reasons, print_table

    targets = get_targets(args)
    scenarios = load_all(args.paths)
    options = build_options(args)
    console = build_console(stderr=STDOUT in targets.values())
    if not select_cases(scenarios, options):
        console.print("no case matches: nothing was run")
        return ExitCode.NOTHING_RAN
    if args.jobs > 1:
        console.print(f"note: -j {args.jobs} is taken, but cases run one at a time in this version")
    verdicts: list[Verdict] = []
    interrupted = False
    with interrupts_once():
        try:
            bench, cases = _prepare(args, scenarios, options, console)
            run_all(cases, bench, args, console, verdicts)
        except KeyboardInterrupt:
            interrupted = True
    if verdicts or not interrupted:
        for verdict in verdicts:
            if verdict.status not in _GOOD:
                print_reasons(console, verdict)
        print_table(console, verdicts)
        write_reports(targets, verdicts)
    if interrupted:
        raise KeyboardInterrupt
    return exit_code(verdict.status for verdict in verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case and the text of the scenario that it comes from."""

    plan: CasePlan
    text: str


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


def _prepare(
    args: argparse.Namespace, scenarios: Sequence[Scenario], options: Options, console: Console
) -> tuple[Bench, list[Case]]:
    from testbed.guest.accel import probe_accel
    from testbed.plan.build import build_cases
    from testbed.plan.host import Host
    from testbed.provision.progress import start_reporter
    from testbed.provision.setup import setup
    from testbed.steps.calibration import probe_scale
    from testbed.steps.runner import Bench

    with start_reporter(console) as reporter:
        provisioned = setup(reporter, kernel=args.kernel)
    accel = probe_accel(args.accel, qemu=provisioned.qemu, cache=provisioned.cache)
    host = Host(
        kernel_release=provisioned.kernel.release,
        kernel_config=provisioned.kernel.config,
        modules=list_modules(provisioned.kernel),
        accel=accel.name,
        accel_reason=accel.reason,
    )
    cases = [
        Case(plan=plan, text=scenario.text)
        for scenario in scenarios
        for plan in build_cases(scenario, host=host, options=options)
    ]
    bench = Bench(provisioned=provisioned, accel=accel, out=args.out.absolute(), scale=probe_scale())
    return bench, cases


def list_modules(kernel: Kernel) -> frozenset[str]:
    """Return the names of all modules of ``kernel``, those built in included."""
    names: set[str] = set()
    for index in ("modules.order", "modules.builtin"):
        path = kernel.modules_dir / index
        if path.exists():
            names |= {Path(line).name.split(".", 1)[0] for line in path.read_text().splitlines()}
    return frozenset(names)


def run_all(
    cases: Sequence[Case], bench: Bench, args: argparse.Namespace, console: Console, verdicts: list[Verdict]
) -> None:
    """Run the cases one at a time and append their verdicts, that of an interrupted case too."""
    from testbed.verdict.live import start_view

    total = len(cases) * args.repeat
    with start_view(console) as view:

        def take(verdict: Verdict) -> None:
            view.end(verdict)
            verdicts.append(verdict)
            _dispose(verdict, args.keep)

        for number in range(total):
            case = cases[number % len(cases)]
            view.begin(case.plan.name, number + 1, total)
            run_one(case, bench, view, take)
            if args.until_fail and verdicts[-1].status not in _GOOD:
                return


def run_one(case: Case, bench: Bench, view: View, take: Callable[[Verdict], None]) -> None:
    """Run one case, judge it, and ``take`` the verdict; may be called from several threads.

    Ctrl-C goes on after that. Raises `UsageError` and `LabError` when there can be no run folder.
    """
    from testbed.steps.runner import run_case

    folders: list[RunFolder] = []
    trouble: LabError | None = None
    try:
        run_case(case.plan, bench, scenario_text=case.text, subscribers=(view.see,), started=folders.append)
    except LabError as error:
        if not folders:
            raise
        trouble = error
    finally:
        if folders:
            verdict = judge_and_save(folders[0], trouble)
            take(replace(verdict, name=case.plan.name))


def judge_and_save(folder: RunFolder, trouble: LabError | None) -> Verdict:
    """Judge a run folder and save the verdict; ``trouble`` is what could not be written into it."""
    from testbed.verdict.judge import judge_run
    from testbed.verdict.model import save_verdict, with_reason

    verdict = judge_run(folder)
    if trouble is not None:
        return with_reason(verdict, Status.MISS, str(trouble))
    try:
        save_verdict(verdict, folder.verdict)
    except OSError as error:
        text = f"verdict.json cannot be written: {error.strerror}"
        return with_reason(verdict, Status.MISS, text, last=True)
    return verdict


def _dispose(verdict: Verdict, keep: str) -> None:
    if keep == "never" or (keep == "failed" and verdict.status in _GOOD):
        shutil.rmtree(verdict.run_dir, ignore_errors=True)


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f"'{text}' is not a number of at least 1")
    return number
