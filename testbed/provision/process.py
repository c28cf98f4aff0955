"""Short-lived host programs (apt, tar, make): output to a file, killed with us, never left behind.

`testbed.guest.process` starts long-lived ones; it sits above this package and cannot be used here.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
HOST_PROGRAMS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "tar": "tar",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "chroot": "coreutils",
}
"""What is taken from the host, and the packages that hold it."""
_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended. ``output`` is standard output and standard error in the order written."""

    argv: tuple[str, ...]
    status: int
    output: str

    @property
    def tail(self) -> str:
        """The last lines of the output, for error messages."""
        return "\n".join(self.output.strip().splitlines()[-15:])


def find_missing_programs() -> list[str]:
    """Return those of `HOST_PROGRAMS` that this host lacks."""
    return [program for program in HOST_PROGRAMS if shutil.which(program, path=_search_path()) is None]


def run_program(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    status_lines: Callable[[str], None] | None = None,
) -> Finished:
    """Run ``argv`` to its end and return how it ended; a non-zero status is not an exception.

    ``status_lines`` gets each line that the program writes to the file descriptor whose number stands where
    ``argv`` says ``{STATUS_FD}``. When the caller is interrupted, the program's whole group is killed.
    """
    words = [str(word) for word in argv]
    environment = {**os.environ, "PATH": _search_path(), "LC_ALL": "C.UTF-8", **(env or {})}
    reader, writer = os.pipe() if status_lines else (-1, -1)
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [*_DIE_WITH_US, *(word.replace("{STATUS_FD}", str(writer)) for word in words)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=cwd,
            start_new_session=True,
            pass_fds=[writer] if status_lines else [],
        )
        _running.add(child)
        try:
            if status_lines:
                os.close(writer)
                with open(reader, encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
                    for line in lines:
                        status_lines(line.rstrip("\n"))
            status = child.wait()
        except BaseException:
            _kill_group(child)
            raise
        finally:
            _running.discard(child)
        log.seek(0)
        output = log.read().decode("utf-8", errors="replace")
    return Finished(argv=tuple(words), status=status, output=output)


def _search_path() -> str:
    """``$PATH`` and the administrator's folders, where chroot is and which Debian leaves out for a user."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def kill_programs() -> None:
    """Kill what other threads are running, so that they can be joined at once after an interrupt."""
    for child in list(_running):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
