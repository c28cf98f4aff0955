"""`python -m vfiodev host --config FILE --control-fd N`, and `python -m vfiodev registers MODEL`."""

import argparse
import sys
from pathlib import Path

from vfiodev.config import find_model
from vfiodev.errors import ConfigError
from vfiodev.host import USAGE, end_process, run_host


def main(argv: list[str]) -> int:
    """Run a command; the exit status."""
    parser = argparse.ArgumentParser(prog="vfiodev", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    host = commands.add_parser("host", help="run the devices of one guest")
    host.add_argument("--config", type=Path, required=True, help="JSON file, see docs/devices/protocol.md")
    host.add_argument("--control-fd", type=int, required=True, help="inherited end of a stream socket pair")
    registers = commands.add_parser("registers", help="print a model's registers as Markdown")
    registers.add_argument("model")
    args = parser.parse_args(argv)
    if args.command == "host":
        return run_host(args.config, args.control_fd)
    return _print_registers(args.model)


def _print_registers(name: str) -> int:
    try:
        description = find_model(name).describe({})
    except ConfigError as error:
        sys.stderr.write(f"vfiodev: {error}\n")
        return USAGE
    for bar in description.bars:
        if bar.registers is not None:
            sys.stdout.write(bar.registers.markdown())
    return 0


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
