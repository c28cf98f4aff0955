"""Who notices that a guest is lost, and what everybody is told."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.deadline import Deadline
from testbed.errors import DeadlineExceeded, GuestDied, GuestPanicked, GuestReset, TestbedError
from testbed.guest.liveness import Liveness, Watcher, start_watcher
from testbed.guest.process import Grace, Process, spawn


class Rig:
    def __init__(self, folder: Path) -> None:
        self.reported: list[TestbedError] = []
        self.liveness = Liveness(self.reported.append)
        self.console = folder / "console.log"
        self.console.touch()
        self.watcher: Watcher


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    with start_watcher(rig.liveness, rig.console) as rig.watcher:
        yield rig


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    argv = [sys.executable, "-S", "-c", "import time; print('words', flush=True); time.sleep(60)"]
    with spawn(argv, log=tmp_path / "log", grace=Grace(terminate=1.0)) as process:
        while "words" not in process.log_tail():
            time.sleep(0.01)
        yield process


def soon(seconds: float = 5.0) -> Deadline:
    return Deadline.after(seconds, "the guest")


def wait_for_loss(rig: Rig) -> None:
    assert rig.liveness.failed.wait(5)


def test_a_live_guest_lets_waits_run_into_their_deadline(rig: Rig) -> None:
    rig.liveness.check()
    with pytest.raises(DeadlineExceeded):
        rig.liveness.wait_for(threading.Event(), soon(0.2))


def test_panic_on_the_console(rig: Rig) -> None:
    text = "[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n"
    rig.console.write_text("booting\n" + text)
    with pytest.raises(GuestPanicked) as caught:
        rig.liveness.wait_for(threading.Event(), soon())
    assert caught.value.reason == "VFS: Unable to mount root fs"
    assert [str(error) for error in rig.reported] == [str(caught.value)]


def test_panic_by_qmp_takes_its_words_from_the_console(rig: Rig) -> None:
    rig.watcher.note_qmp_event("GUEST_PANICKED", None)
    rig.console.write_text("[ 1.0] Kernel panic - not syncing: Fatal exception\n")
    wait_for_loss(rig)
    with pytest.raises(GuestPanicked, match="Fatal exception"):
        rig.liveness.check()


def test_panic_without_words_is_a_panic(rig: Rig) -> None:
    rig.watcher.note_qmp_event("GUEST_PANICKED", None)
    wait_for_loss(rig)
    with pytest.raises(GuestPanicked, match="no text"):
        rig.liveness.check()


def test_end_of_a_process(rig: Rig, process: Process) -> None:
    with rig.watcher.watch("QEMU", process):
        rig.watcher.note_qmp_event("SHUTDOWN", "guest-shutdown")
        rig.watcher.note_qmp_closed()
        began = time.monotonic()
        process.end(None, Grace(terminate=1.0))
        with pytest.raises(GuestDied) as caught:
            rig.liveness.wait_for(threading.Event(), soon())
        assert time.monotonic() - began < 2.0
    assert caught.value.message == "QEMU was killed by SIGTERM after 'guest-shutdown'"
    assert caught.value.hint == "words"


def test_a_reset_without_a_panic_is_the_kernels_doing(rig: Rig, process: Process) -> None:
    with rig.watcher.watch("QEMU", process):
        rig.watcher.note_qmp_event("SHUTDOWN", "guest-reset")
        rig.watcher.note_qmp_closed()
        process.end(None, Grace(terminate=1.0))
        wait_for_loss(rig)
    with pytest.raises(GuestReset) as caught:
        rig.liveness.check()
    assert caught.value.message == (
        "the guest reset itself without a panic: a triple fault, or a reboot command"
    )


def test_a_panic_that_took_qemu_with_it_is_a_panic(rig: Rig, process: Process) -> None:
    with rig.watcher.watch("QEMU", process):
        rig.console.write_text("Kernel panic - not syncing: Attempted to kill init!\n")
        process.end(None, Grace(terminate=1.0))
        wait_for_loss(rig)
    with pytest.raises(GuestPanicked, match="kill init"):
        rig.liveness.check()


def test_internal_error_is_told_from_a_stop_that_was_asked_for(rig: Rig) -> None:
    states = ["paused", "internal-error"]
    asked = threading.Event()

    def ask() -> str:
        asked.set()
        return states.pop(0)

    rig.watcher.ask_status_by(ask)
    rig.watcher.note_qmp_event("STOP", None)
    assert asked.wait(5)
    assert not rig.liveness.failed.wait(0.2)
    rig.watcher.note_qmp_event("STOP", None)
    wait_for_loss(rig)
    with pytest.raises(GuestDied, match="internal-error"):
        rig.liveness.check()


def test_an_expected_end_is_no_loss(rig: Rig, process: Process) -> None:
    with rig.watcher.watch("QEMU", process):
        rig.liveness.expect_end()
        process.end(None, Grace(terminate=1.0))
        assert not rig.liveness.failed.wait(0.5)
    rig.liveness.check()
    assert not rig.reported


def test_the_first_fact_stays(rig: Rig) -> None:
    called: list[str] = []
    rig.liveness.on_failure(lambda: called.append("early"))
    rig.liveness.fail(lambda: GuestDied("first"))
    rig.liveness.fail(lambda: GuestDied("second"))
    rig.liveness.on_failure(lambda: called.append("late"))
    assert called == ["early", "late"]
    assert [error.message for error in rig.reported] == ["first"]
    with pytest.raises(GuestDied, match="first"):
        rig.liveness.settle(0.0)
