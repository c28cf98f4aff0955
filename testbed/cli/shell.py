"""``testbed shell``: a shell in a fresh guest, with a scenario's devices when one is given."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.errors import UsageError
from testbed.outcome import ExitCode

if TYPE_CHECKING:
    from testbed.plan.model import CasePlan
    from testbed.provision.model import Provisioned

_MEMORY_MIB, _CPUS = 512, 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser("shell", help="open a shell in a fresh guest")
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


def main(args: argparse.Namespace) -> ExitCode:
    """Boot, hand the terminal to the guest's shell, and end the guest with it."""
    from testbed.evidence.events import EventLog
    from testbed.evidence.run import create_run_folder
    from testbed.guest.accel import probe_accel
    from testbed.guest.lab import Lab
    from testbed.guest.session import guest_session
    from testbed.guest.terminal import run_shell

    case = _plan(args)
    guests = {guest.name: guest for guest in case.guests}
    name = args.guest or case.guests[0].name
    if name not in guests:
        raise UsageError(f"guest '{name}' is not in the scenario", hint=f"one of {', '.join(guests)}")
    provisioned = _provide(args.kernel)
    accel = probe_accel(args.accel, qemu=provisioned.qemu, cache=provisioned.cache)
    folder = create_run_folder(args.out, "shell")
    folder.plan.write_text(case.model_dump_json(indent=2), encoding="utf-8")
    sys.stderr.write(f"booting {provisioned.kernel.release} under {accel.name} ({accel.reason})\n")
    with EventLog(folder.events) as events:
        lab = Lab(
            provisioned=provisioned, accel=accel, folder=folder.guest(name), events=events, seed=case.seed
        )
        with guest_session(guests[name], lab) as guest:
            for device in guests[name].devices:
                where = guest.bdf(device.name) if device.plug == "start" else "not plugged in"
                sys.stderr.write(f"device {device.name}: {where}\n")
            sys.stderr.write(f"evidence in {folder.path}; the guest ends with its shell\n")
            run_shell(guest)
    return ExitCode.OK


def _plan(args: argparse.Namespace) -> CasePlan:
    from testbed.plan.build import build_cases
    from testbed.plan.host import Host
    from testbed.plan.model import CasePlan, GuestPlan, Options
    from testbed.scenario import load_scenario

    if args.scenario is None:
        bare = GuestPlan(name="vm", memory_mib=_MEMORY_MIB, cpus=_CPUS)
        return CasePlan(
            name="shell",
            scenario="",
            about="A shell in a bare guest.",
            seed=0,
            kernel=args.kernel,
            accel=args.accel,
            guests=(bare,),
            steps=(),
            timeout=0,
        )
    options = Options(kernel=args.kernel, accel=args.accel)
    return build_cases(load_scenario(args.scenario), host=Host(), options=options)[0]


def _provide(kernel: str) -> Provisioned:
    from rich.console import Console

    from testbed.provision.progress import start_reporter
    from testbed.provision.setup import setup

    with start_reporter(Console(stderr=True)) as reporter:
        return setup(reporter, kernel=kernel)
