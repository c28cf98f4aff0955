"""A guest session from boot to nothing left, and each way in which it can be lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed.deadline import Deadline
from testbed.errors import (
    DeadlineExceeded,
    GuestDied,
    GuestPanicked,
    GuestReset,
    IdentityError,
    LaunchError,
    ScenarioFault,
)
from testbed.evidence.events import EventLog
from testbed.guest.accel import Accel
from testbed.guest.lab import Lab
from testbed.guest.qmp import QmpError
from testbed.guest.reaper import read_start_time
from testbed.guest.session import Guest, guest_session
from testbed.plan.model import DevicePlan, GuestPlan
from testbed.provision.model import Provisioned

pytestmark = pytest.mark.qemu

_ROOT = Path(__file__).parents[2]
_EDU = DevicePlan(name="edu0", model=None, qemu={"driver": "edu"}, port="rp0", plug="later")
_TEMPLATE = DevicePlan(name="t0", model="template", port="rp1", plug="later")


class Bed:
    """Starts guests with their evidence in a folder of the test."""

    def __init__(self, provisioned: Provisioned, accel: Accel, folder: Path) -> None:
        self.provisioned = provisioned
        self.accel = accel
        self.folder = folder

    @contextmanager
    def guest(self, *devices: DevicePlan, **changes: Any) -> Iterator[Guest]:
        plan = GuestPlan(name="vm", memory_mib=512, cpus=2, devices=devices)
        with EventLog(self.folder / "events.jsonl") as events:
            values = {"provisioned": self.provisioned, "accel": self.accel, "events": events, **changes}
            with guest_session(plan, Lab(folder=self.folder / "vm", scale=4.0, **values)) as guest:
                yield guest

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (self.folder / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]


@pytest.fixture
def bed(provisioned: Provisioned, accel: Accel, tmp_path: Path) -> Bed:
    return Bed(provisioned, accel, tmp_path)


@pytest.fixture(scope="module")
def shared(
    provisioned: Provisioned, accel: Accel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    """One guest for all tests that leave it as it was."""
    bed = Bed(provisioned, accel, tmp_path_factory.mktemp("shared"))
    with bed.guest(_EDU, _TEMPLATE) as guest:
        yield guest


def soon(seconds: float = 60.0) -> Deadline:
    return Deadline.after(seconds, "the test")


def is_gone(pid: int) -> bool:
    return read_start_time(pid) is None


@contextmanager
def ends_within(seconds: float, after: threading.Event) -> Iterator[None]:
    """Check that the body ends within ``seconds`` of the moment that sets ``after``."""
    times: list[float] = []

    def note() -> None:
        after.wait()
        times.append(time.monotonic())

    thread = threading.Thread(target=note)
    thread.start()
    try:
        yield
        ended = time.monotonic()
        # Whoever sets it may learn of the moment just after the body did.
        assert after.wait(seconds)
        thread.join()
        assert ended - times[0] < seconds
    finally:
        after.set()


def test_identity_and_environment(shared: Guest) -> None:
    result = shared.run("cat /run/testbed/nonce; echo; uname -r; id -u", deadline=soon())
    assert result.stdout.decode().split() == [shared.nonce, shared.release, "0"]
    assert len(shared.boot_id) == 36


def test_exit_status_output_and_stdin(shared: Guest) -> None:
    result = shared.run("cat; echo sad >&2; exit 7", stdin=b"glad\0\xff", deadline=soon())
    assert (result.exit, result.stdout, result.stderr) == (7, b"glad\0\xff", b"sad\n")
    assert shared.run("sh -c 'kill -SEGV $$'", deadline=soon()).exit == 128 + signal.SIGSEGV


def test_transcript(shared: Guest) -> None:
    result = shared.run("echo kept", deadline=soon())
    folder = shared.console.path.parent
    assert (folder / f"{result.pointer}.out").read_bytes() == b"kept\n"
    assert not (folder / f"{result.pointer}.err").exists()
    last = json.loads((folder / "ssh.jsonl").read_text().splitlines()[-1])
    assert (last["command"], last["exit"], last["stdin"]) == ("echo kept", 0, 0)


def test_output_is_bounded(shared: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.guest.ssh.MAX_OUTPUT", 100_000)
    result = shared.run("head -c 3000000 /dev/zero; echo end >&2", deadline=soon())
    assert (result.exit, result.stderr) == (0, b"end\n")
    assert result.stdout == bytes(100_000) + b"\n[testbed: 2900000 more bytes were dropped]\n"


def test_push_is_binary_safe_and_makes_folders(shared: Guest, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    (tmp_path / "file").write_bytes(data)
    shared.push({"/tmp/a b/c'd": data, "/tmp/empty": b"", "/tmp/x": tmp_path / "file"}, deadline=soon())
    result = shared.run('cat "/tmp/a b/c\'d" /tmp/x; stat -c %a:%s /tmp/x /tmp/empty >&2', deadline=soon())
    assert result.stdout == data * 2
    assert result.stderr.split() == [f"755:{len(data)}".encode(), b"755:0"]
    with pytest.raises(ScenarioFault, match="not an absolute path"):
        shared.push({"tmp/x": b""}, deadline=soon())


_ENDLESS = {
    "a program": "sleep 98765",
    "the shell itself": "while :; do : 98765; done",
    "one behind the other": "sh -c 'sh -c \"sleep 98765; true\"; true'",
    "a subshell in the background": "(while :; do : 98765; done) & sleep 98765",
    "a daemon": "setsid sleep 98765 </dev/null >/dev/null 2>&1 & sleep 98765",
    "deaf to signals": "trap '' TERM HUP INT; sleep 98765; sleep 98765",
    "an environment with newlines": "export A='x\ny'; sleep 98765",
}


@pytest.mark.parametrize("command", _ENDLESS.values(), ids=_ENDLESS)
def test_nothing_of_a_command_past_its_deadline_is_left(shared: Guest, command: str) -> None:
    seen = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o '9876[5]' | wc -l"
    with pytest.raises(DeadlineExceeded, match=r"^timed out: the test$"):
        shared.run(command, deadline=soon(1.0))
    assert shared.run(seen, deadline=soon()).stdout == b"0\n"


def test_a_command_that_ends_may_leave_a_daemon(shared: Guest) -> None:
    daemon = shared.run("sleep 54321 >/dev/null 2>&1 </dev/null & echo $!", deadline=soon()).stdout.decode()
    with pytest.raises(DeadlineExceeded):
        shared.run("sleep 98765", deadline=soon(1.0))
    assert shared.run(f"kill {daemon}", deadline=soon()).exit == 0


def test_deadline_hangs_up_and_the_guest_goes_on(shared: Guest) -> None:
    with pytest.raises(DeadlineExceeded):
        shared.run("echo before; sleep 60", deadline=soon(1.0))
    assert shared.run("echo after", deadline=soon()).stdout == b"after\n"


def test_commands_run_side_by_side(shared: Guest) -> None:
    results: list[bytes] = []

    def run(number: int) -> None:
        results.append(shared.run(f"sleep 0.5; echo {number}", deadline=soon()).stdout)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(text) for text in results) == list(range(8))


def test_kmsg_is_live_and_synchronous(shared: Guest) -> None:
    for number in range(20):
        shared.run(f"echo '<4>test line {number}' > /dev/kmsg", deadline=soon())
    end = shared.sync_kmsg(soon())
    found = shared.kmsg.search("^test line 19$")
    assert found is not None
    assert found.end <= end


def test_qmp_refusal_and_answer(shared: Guest) -> None:
    assert shared.qmp("query-status", deadline=soon())["status"] == "running"
    with pytest.raises(QmpError, match="CommandNotFound"):
        shared.qmp("query-nonsense", deadline=soon())


@pytest.mark.parametrize(("device", "identity"), [("edu0", "0x1234 0x11e8"), ("t0", "0x1234 0x7e57")])
def test_plug_and_unplug_again_and_again(shared: Guest, device: str, identity: str) -> None:
    for _ in range(3):
        address = shared.plug(device, deadline=soon())
        assert shared.bdf(device) == address
        place = f"/sys/bus/pci/devices/{address}"
        told = shared.run(f"cat {place}/vendor {place}/device", deadline=soon())
        assert told.stdout.decode().split() == identity.split()
        shared.unplug(device, deadline=soon())
        assert shared.run(f"test -e {place}", deadline=soon()).exit == 1
        with pytest.raises(ScenarioFault, match="not plugged in"):
            shared.bdf(device)


def test_surprise_removal(shared: Guest) -> None:
    address = shared.plug("t0", deadline=soon())
    shared.unplug("t0", deadline=soon(), surprise=True)
    assert shared.run(f"test -e /sys/bus/pci/devices/{address}", deadline=soon()).exit == 1
    shared.plug("t0", deadline=soon())
    told = shared.run(f"cat /sys/bus/pci/devices/{shared.bdf('t0')}/vendor", deadline=soon())
    assert told.stdout == b"0x1234\n"
    shared.unplug("t0", deadline=soon())


def test_device_requests(shared: Guest) -> None:
    assert "doorbells" in shared.device("t0", "stats", deadline=soon())
    with pytest.raises(ScenarioFault, match="'t0', 'inject'"):
        shared.device("t0", "inject", {"fault": "no such knob"}, deadline=soon())
    with pytest.raises(ScenarioFault, match="QEMU's own"):
        shared.device("edu0", "stats", deadline=soon())
    with pytest.raises(ScenarioFault, match="known: edu0, t0"):
        shared.plug("gpu7", deadline=soon())


def lose_by_panic(bed: Bed) -> None:
    with bed.guest() as guest:
        panicked = threading.Event()

        def crash() -> None:
            with pytest.raises(GuestPanicked):
                guest.run("sleep 1; echo c > /proc/sysrq-trigger", deadline=soon())

        def watch() -> None:
            with suppress(GuestPanicked):  # QMP may be faster than the console
                guest.console.wait("Kernel panic", soon())
            panicked.set()

        threads = [threading.Thread(target=body) for body in (crash, watch)]
        for thread in threads:
            thread.start()
        with ends_within(2.0, panicked), pytest.raises(GuestPanicked):
            guest.run("sleep 60", deadline=soon())
        for thread in threads:
            thread.join()
        guest.check_alive()


def test_panic_ends_a_blocked_command(bed: Bed) -> None:
    with pytest.raises(GuestPanicked, match="sysrq triggered crash"):
        lose_by_panic(bed)
    assert [event["reason"] for event in bed.events("guest_panicked")] == ["sysrq triggered crash"]
    assert bed.events("teardown_finished")[0]["graceful"] is True


def lose_by_kill(bed: Bed, victim: str) -> None:
    with bed.guest(_TEMPLATE) as guest:
        assert guest.host_process is not None
        pid = (guest.process if victim == "QEMU" else guest.host_process).pid
        killed = threading.Event()
        counter = {"counter": "doorbells", "at_least": 1, "timeout": 60}
        waits: list[Callable[[], object]] = [
            lambda: guest.run("sleep 60", deadline=soon()),
            lambda: guest.kmsg.wait("never said", soon()),
            lambda: guest.wait_qmp("NEVER", deadline=soon()),
            lambda: guest.device("t0", "wait", counter, deadline=soon()),
        ]
        ends: list[str] = []

        def expect_end(wait: Callable[[], object]) -> None:
            with pytest.raises(GuestDied) as caught:
                wait()
            ends.append(caught.value.message)

        threads = [threading.Thread(target=expect_end, args=(wait,)) for wait in waits]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        with ends_within(2.0, killed):
            os.kill(pid, signal.SIGKILL)
            killed.set()
            for thread in threads:
                thread.join()
        assert ends == [f"{victim} was killed by SIGKILL"] * len(waits)
        guest.check_alive()


@pytest.mark.parametrize("victim", ["QEMU", "the device host"])
def test_death_of_a_process_ends_every_wait(bed: Bed, victim: str) -> None:
    with pytest.raises(GuestDied, match=f"{victim} was killed by SIGKILL"):
        lose_by_kill(bed, victim)
    assert victim in bed.events("guest_died")[0]["reason"]


def test_a_reset_is_told_from_a_death(bed: Bed) -> None:
    with pytest.raises(GuestReset, match="reset itself without a panic"), bed.guest() as guest:
        guest.run("echo b > /proc/sysrq-trigger; sleep 60", deadline=soon())
    assert "triple fault" in bed.events("guest_reset")[0]["reason"]


def test_a_guest_with_another_kernel_is_refused(bed: Bed, provisioned: Provisioned) -> None:
    other = replace(provisioned, kernel=replace(provisioned.kernel, release="1.2.3"))
    with pytest.raises(IdentityError, match=r"not '1\.2\.3'"), bed.guest(provisioned=other):
        pass
    assert bed.events("teardown_finished")[0]["graceful"] is True


def test_a_device_host_that_does_not_start_shows_its_words(bed: Bed) -> None:
    bad = DevicePlan(name="t0", model="template", port="rp0", params={"nonsense": 1})
    with pytest.raises(GuestDied, match="device host ended with status 2") as caught, bed.guest(bad):
        pass
    assert "nonsense" in str(caught.value.hint)


def test_a_qemu_that_does_not_start_shows_its_words(bed: Bed, provisioned: Provisioned) -> None:
    argv = (*provisioned.qemu.argv, "-no-such-option")
    broken = replace(provisioned, qemu=replace(provisioned.qemu, argv=argv))
    with pytest.raises(LaunchError, match="ended with status 1") as caught, bed.guest(provisioned=broken):
        pass
    assert "no-such-option" in caught.value.log_tail
    assert "-no-such-option" in caught.value.argv


_RUNNER = """
import sys, time
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]) / "tests/qemu"))
from rich.console import Console
from test_guest import Bed, _TEMPLATE
from testbed.guest.accel import Accel
from testbed.provision.progress import start_reporter
from testbed.provision.setup import setup
with start_reporter(Console(stderr=True)) as reporter:
    provisioned = setup(reporter)
bed = Bed(provisioned, Accel(name=sys.argv[3], reason="the test"), Path(sys.argv[2]))
with bed.guest(_TEMPLATE) as guest:
    print(guest.process.pid, guest.host_process.pid, guest._machine.ssh_socket.parent, flush=True)
    guest.run("sleep 600", deadline=__import__("testbed.deadline").deadline.Deadline.after(600, "x"))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_runner_ends(
    tmp_path: Path, accel: Accel, provisioned: Provisioned, number: signal.Signals
) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'qemu-devices'}"}
    runner = subprocess.Popen(
        [sys.executable, "-c", _RUNNER, str(_ROOT), str(tmp_path), accel.name],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert runner.stdout is not None
    qemu, host, private = runner.stdout.readline().split()
    assert not is_gone(int(qemu))
    assert Path(private).is_dir()
    runner.send_signal(number)
    runner.wait(timeout=10)
    runner.stdout.close()
    time.sleep(2.0)
    assert is_gone(int(qemu))
    assert is_gone(int(host))
    assert not Path(private).exists()
