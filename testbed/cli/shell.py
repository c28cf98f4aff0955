"""``testbed shell``: a shell in a fresh guest, with a scenario's devices when one is given."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.errors import UsageError
from testbed.outcome import exit_code

if TYPE_CHECKING:
    from testbed.plan.model import CasePlan
    from testbed.steps.base import StepContext

_MEMORY_MIB, _CPUS, _SECONDS = 512, 2, 60
_EPILOG = """\
The scenario's modules are loaded and the guest tools are in the guest. The exit status is the shell's.

examples:
  testbed shell                                  a bare guest
  testbed shell scenarios/fence/job-fence.yaml   with the GPU: tb-gpu info, tb-fence all
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "shell",
        help="open a shell in a fresh guest",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "scenario",
        metavar="SCENARIO",
        nargs="?",
        type=Path,
        help="a scenario file, for its first case's guest and devices (default: a bare guest)",
    )
    parser.add_argument("--guest", metavar="NAME", help="which of the scenario's guests (default: its first)")
    parser.add_argument("--kernel", metavar="NAME|TREE", default="default", help="kernel (default: default)")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="accelerator")
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="where the run folder goes"
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Boot, load the modules, hand the terminal to the guest's shell, and end the guest with it.

    Returns the shell's exit status, or what `testbed run` would when there is none.
    """
    from testbed.guest.terminal import require_terminal
    from testbed.schedule.prepare import prepare_bench
    from testbed.steps.runner import run_case
    from testbed.verdict.judge import judge_run
    from testbed.verdict.terminal import build_console, print_reasons

    require_terminal()
    case, text = _plan(args)
    console = build_console(stderr=True)
    bench = prepare_bench(console, kernel=args.kernel, accel=args.accel, out=args.out, jobs=1)
    sys.stderr.write(
        f"booting {bench.provisioned.kernel.release} under {bench.accel.name} ({bench.accel.reason})\n"
    )
    desk = _Desk()
    folder = run_case(case, bench, scenario_text=text, body=desk.work)
    if desk.exit is not None:
        return desk.exit
    verdict = judge_run(folder)
    print_reasons(console, verdict)
    return exit_code([verdict.status])


class _Desk:
    """Who sits in front of the guest, in place of steps."""

    def __init__(self) -> None:
        self.exit: int | None = None

    def work(self, context: StepContext) -> None:
        from testbed.guest.terminal import run_shell
        from testbed.steps.runner import run_setup

        plan = context.case.guests[0]
        guest = context.guests[plan.name]
        for result in run_setup(context):
            sys.stderr.write(f"{result.detail}\n")
        context.assets.push_tools(guest, context.deadline)
        for device in plan.devices:
            where = guest.bdf(device.name) if device.plug == "start" else "not plugged in"
            sys.stderr.write(f"device {device.name}: {where}\n")
        sys.stderr.write(f"evidence in {context.folder.path}; the guest ends with its shell\n")
        self.exit = run_shell(guest)
        context.events.emit("shell_finished", guest=plan.name, exit=self.exit)


def _plan(args: argparse.Namespace) -> tuple[CasePlan, str]:
    """Return what of the scenario's first case is there for a shell: one guest, and the modules."""
    from testbed.plan.build import build_cases
    from testbed.plan.host import Host
    from testbed.plan.model import CasePlan, GuestPlan, Options
    from testbed.scenario import load_scenario

    if args.scenario is None:
        bare = GuestPlan(name="vm", memory_mib=_MEMORY_MIB, cpus=_CPUS)
        case = CasePlan(
            name="shell",
            scenario="",
            about="A shell in a bare guest.",
            seed=0,
            kernel=args.kernel,
            accel=args.accel,
            guests=(bare,),
            steps=(),
            timeout=_SECONDS,
        )
        return _choose(case, args.guest), ""
    options = Options(kernel=args.kernel, accel=args.accel)
    scenario = load_scenario(args.scenario)
    case = build_cases(scenario, host=Host(), options=options)[0]
    changes = {
        "name": "shell",
        "steps": (),
        "expected_warnings": tuple(
            warning.model_copy(update={"optional": True}) for warning in case.expected_warnings
        ),
        "expect_verdict": None,
        "skip_reason": None,
    }
    return _choose(case.model_copy(update=changes), args.guest), scenario.text


def _choose(case: CasePlan, name: str | None) -> CasePlan:
    guests = {guest.name: guest for guest in case.guests}
    wanted = name or case.guests[0].name
    if wanted not in guests:
        raise UsageError(f"guest '{wanted}' is not in the scenario", hint=f"one of {', '.join(guests)}")
    return case.model_copy(update={"guests": (guests[wanted],)})
