"""``testbed plan``: what a scenario would do, without starting anything."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from testbed.outcome import ExitCode
from testbed.plan.build import build_cases
from testbed.plan.host import Host
from testbed.plan.model import CasePlan, MachineFiles, Options
from testbed.plan.qemu_argv import build_qemu_argv
from testbed.plan.text import describe_case
from testbed.scenario import load_scenario
from testbed.scenario.find import find_scenarios

_EPILOG = """\
examples:
  testbed plan scenarios/smoke/boot.yaml
  testbed plan scenarios -k fence        cases whose name or tags match
  testbed plan my.yaml --json            with QEMU's arguments
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "plan",
        help="show guests, devices, steps and QEMU's arguments; start nothing",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="scenario files or folders")
    parser.add_argument("-k", dest="select", metavar="EXPR", default="", help="only cases that match")
    parser.add_argument("--kernel", metavar="NAME|TREE", default="default", help="kernel (default: default)")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="accelerator")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of every case (default: from its name)")
    parser.add_argument("--json", dest="as_json", action="store_true", help="JSON, with QEMU's arguments")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Print the plans to standard output. Raises `UsageError`, `ScenarioError`."""
    options = Options(kernel=args.kernel, accel=args.accel, seed=args.seed, select=args.select)
    cases = [
        case
        for path in find_scenarios(args.paths)
        for case in build_cases(load_scenario(path), host=Host(), options=options)
    ]
    if args.as_json:
        text = json.dumps({"cases": [_build_json(case) for case in cases]}, indent=2)
    else:
        text = "\n\n".join(describe_case(case) for case in cases)
    if cases:
        sys.stdout.write(f"{text}\n")
        return ExitCode.OK
    sys.stderr.write("no case matches\n")
    return ExitCode.NOTHING_RAN


def _build_json(case: CasePlan) -> dict[str, Any]:
    argv = {guest.name: build_qemu_argv(guest, symbolic_files(case, guest.name)) for guest in case.guests}
    return {**json.loads(case.model_dump_json()), "qemu_argv": argv}


def symbolic_files(case: CasePlan, guest: str) -> MachineFiles:
    """Return the files of a machine that does not exist yet, with words in braces for what is made later."""
    run, private = Path("{run}") / guest, Path("{private}")
    names = ("nonce", "authorized_key", "host_key")
    return MachineFiles(
        qemu=("{qemu}",),
        kernel=Path(f"{{kernel {case.kernel}}}"),
        initrd=Path("{image}"),
        append=("{image cmdline}",),
        accel="{accel}" if case.accel == "auto" else case.accel,
        qmp_fd=3,
        ready_fd=4,
        ssh_socket=private / "ssh.sock",
        console_log=run / "console.log",
        kmsg_log=run / "kmsg.log",
        fw_cfg=tuple((f"opt/org.testbed/{name}", private / name) for name in names),
    )
