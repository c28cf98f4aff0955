"""``testbed shell`` on a terminal, as somebody at a desk has it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.evidence.run import open_run_folder
from testbed.outcome import Status
from testbed.verdict.judge import judge_run

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("provisioned")]

_ROOT = Path(__file__).parents[2]
_SECONDS = 240.0


class Desk:
    """A terminal with ``testbed shell`` on it."""

    def __init__(self, out: Path, scenario: str) -> None:
        self.screen = ""
        self._end = time.monotonic() + _SECONDS
        self._terminal, theirs = pty.openpty()
        self.program = subprocess.Popen(
            [sys.executable, "-m", "testbed", "shell", scenario, "--out", str(out)],
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'qemu-devices'}"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def wait(self, pattern: str) -> None:
        """Wait until the screen shows it."""
        while not re.search(pattern, self.screen):
            assert time.monotonic() < self._end, self.screen
            try:
                self.screen += os.read(self._terminal, 4096).decode("utf-8", "replace")
            except OSError:
                raise AssertionError(self.screen) from None

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._terminal, f"{text}\n".encode())


def test_a_shell_has_modules_and_tools_and_its_exit_status_is_ours(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "scenarios/fence/job-fence.yaml")
    desk.wait("the guest ends with its shell")
    desk.type("tb-gpu info; echo ended with $?.")
    desk.wait(r"ended with \d+\.")
    assert re.search(r"^ok 1 ", desk.screen, re.MULTILINE), desk.screen
    assert "ended with 0." in desk.screen
    desk.type("exit 7")
    assert desk.program.wait(60) == 7
    verdict = judge_run(open_run_folder(tmp_path / "latest"))
    assert (verdict.status, verdict.reasons) == (Status.DONE, ())
