"""``testbed`` and ``python -m testbed``: the only place that turns errors into text and exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from testbed.cli import parse_arguments
from testbed.cli.interrupt import ignore_interrupts
from testbed.errors import GuestPanicked, ScenarioError, TestbedError, UsageError
from testbed.outcome import ExitCode


def main(argv: Sequence[str]) -> int:
    """Run the program with ``argv`` (its own name left out) and return its exit code, an `ExitCode`.

    Only ``shell`` has others: those of the guest's shell.
    """
    try:
        args = parse_arguments(argv)
        code: int = args.main(args)
        sys.stdout.flush()
    except TestbedError as error:
        return _tell(error)
    except KeyboardInterrupt:
        sys.stderr.write("testbed: interrupted\n")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.LAB
    except Exception:  # noqa: BLE001 - the program's edge: a bug must not look like a verdict
        traceback.print_exc()
        sys.stderr.write("testbed: this is a bug in testbed; the lines above say where\n")
        return ExitCode.LAB
    return code


def _tell(error: TestbedError) -> ExitCode:
    if isinstance(error, ScenarioError):
        sys.stderr.write(f"{error.message}\n")
        return ExitCode.USAGE
    sys.stderr.write(f"testbed: {error}\n")
    if isinstance(error, UsageError):
        return ExitCode.USAGE
    return ExitCode.FAIL if isinstance(error, GuestPanicked) else ExitCode.LAB


def entry() -> None:
    """Entry point of the installed program."""
    code = main(sys.argv[1:])
    if code == ExitCode.INTERRUPTED:
        ignore_interrupts()
    sys.exit(code)


if __name__ == "__main__":
    entry()
