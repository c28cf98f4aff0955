"""``testbed setup``: make what runs need, before they need it."""

from __future__ import annotations

import argparse

from testbed.outcome import ExitCode

_EPILOG = """\
Everything goes to $TESTBED_CACHE (default ~/.cache/testbed); nothing is installed on this machine, and
`testbed run` makes on demand what is not there. An interrupted setup goes on where it was.

examples:
  testbed setup
  testbed setup --kernel ~/linux          a kernel tree of your own
  testbed setup --refresh                 look on the mirror for newer packages
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the program's parser."""
    parser = subparsers.add_parser(
        "setup",
        help="make toolbox, kernel, guest image, modules and tools",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kernel", metavar="NAME|TREE", default="default", help="kernel (default: default)")
    parser.add_argument("--mirror", metavar="URL", help="Debian mirror (default: the one that apt uses)")
    parser.add_argument("--refresh", action="store_true", help="look for newer packages")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> ExitCode:
    """Make it all, and say what there is. Raises `UsageError`, `ProvisionError`."""
    from testbed.cli.interrupt import interrupts_once
    from testbed.provision.programs import build_programs
    from testbed.provision.progress import start_reporter
    from testbed.provision.setup import setup
    from testbed.verdict.terminal import build_console

    console = build_console()
    with interrupts_once(), start_reporter(console) as reporter:
        made = setup(reporter, kernel=args.kernel, mirror=args.mirror, refresh=args.refresh)
        build_programs(reporter, made)
    version = ".".join(map(str, made.qemu.version))
    console.print(f"QEMU {version} ({made.qemu.origin}), kernel {made.kernel.release}, cache {made.cache}")
    return ExitCode.OK
