"""The reaper: a small process that cleans up after a runner that could not (``kill -9``, OOM).

Runs as ``python -I -S reaper.py testbed-reaper RUN_ID`` with the read end of a pipe as standard input; only
the runner holds the other end. Lines: ``pid N START``, ``dir PATH``, and either with ``forget`` before it.
At end of file it kills what is registered, then every process that carries ``TESTBED_RUN=RUN_ID`` in its
environment (so also one that was being started when the runner died), and removes the folders.

Standard library only, and nothing of ours: it must start fast and outlive any mistake of the rest.
Source: proc(5) for the fields of ``/proc/PID/stat``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time

RUN_VARIABLE = "TESTBED_RUN"
"""Environment variable that marks each process of a run; its value is the run's id."""
ARGV_MARKER = "testbed-reaper"
DISMISSAL = b"dismissed\n"
PRIVATE_PREFIX = "testbed-"
"""Only folders whose name begins so are ever removed."""
_SCAN_AT = (0.0, 0.05, 0.2, 0.5)  # seconds after the end: a fork that was under way shows up late


def read_start_time(pid: int) -> int | None:
    """Return when ``pid`` started, in clock ticks since boot; None when it is gone.

    With the pid it names a process for as long as the host runs.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs start-up time
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def find_marked(run_id: str) -> list[int]:
    """Return the pids of our own processes that carry ``run_id`` in their environment."""
    wanted = f"{RUN_VARIABLE}={run_id}".encode()
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - as above
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
            if wanted in file.read().split(b"\0"):
                found.append(int(name))
    return found


def kill_process(pid: int) -> None:
    """Kill ``pid``, with its process group when it leads one; a process that is gone is no error."""
    with contextlib.suppress(OSError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def remove_folder(path: str) -> None:
    """Remove a private folder of ours; anything else is left alone."""
    with contextlib.suppress(OSError):
        if os.path.basename(path).startswith(PRIVATE_PREFIX) and os.lstat(path).st_uid == os.geteuid():  # noqa: PTH119
            shutil.rmtree(path, ignore_errors=True)


def _follow(lines: list[str], pids: dict[int, int], folders: dict[str, None]) -> None:
    for line in lines:
        words = line.split(" ", 1)
        forget = words[0] == "forget"
        kind, _, rest = (words[1] if forget else line).partition(" ")
        if kind == "pid":
            pid, _, start = rest.partition(" ")
            pids.pop(int(pid), None)
            if not forget:
                pids[int(pid)] = int(start)
        elif kind == "dir":
            folders.pop(rest, None)
            if not forget:
                folders[rest] = None


def _listen(pids: dict[int, int], folders: dict[str, None]) -> bool:
    """Return whether we were dismissed; False when the runner is gone."""
    rest = b""
    while data := os.read(0, 65536):
        if (rest + data).endswith(DISMISSAL):
            return True
        *whole, rest = (rest + data).split(b"\n")
        _follow([os.fsdecode(line) for line in whole], pids, folders)
    return False


def _kill_marked(run_id: str) -> None:
    for pid in find_marked(run_id):
        kill_process(pid)


def _clean(run_id: str, pids: dict[int, int], folders: dict[str, None]) -> None:
    began = time.monotonic()
    for pid, start in pids.items():
        if read_start_time(pid) == start:
            kill_process(pid)
    for at in _SCAN_AT:
        time.sleep(max(0.0, began + at - time.monotonic()))
        _kill_marked(run_id)
        for path in folders:
            remove_folder(path)


def main() -> None:
    """Listen until the runner is gone, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    pids: dict[int, int] = {}
    folders: dict[str, None] = {}
    if _listen(pids, folders):
        _kill_marked(sys.argv[2])
    else:
        _clean(sys.argv[2], pids, folders)


if __name__ == "__main__":
    main()
