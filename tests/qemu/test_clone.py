"""Clones: each a machine of its own, as good as one that booted, and what happens when none comes up."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed.deadline import Deadline
from testbed.errors import IdentityError
from testbed.evidence.events import EventLog
from testbed.evidence.run import RunFolder
from testbed.guest import clone, snapshot_make
from testbed.guest.accel import Accel
from testbed.guest.lab import Lab
from testbed.guest.session import Guest, guest_session
from testbed.guest.snapshot import ABOUT_FILE, KIND, RAM_FILE, digest_ram
from testbed.outcome import Status
from testbed.plan.build import build_cases
from testbed.plan.host import Host
from testbed.plan.model import GuestPlan, Options
from testbed.provision.model import Provisioned
from testbed.scenario import load_scenario
from testbed.steps.runner import Bench, run_case
from testbed.verdict.judge import judge_run

pytestmark = pytest.mark.qemu

_ROOT = Path(__file__).parents[2]
_PLAN = GuestPlan(name="vm", memory_mib=256, cpus=2)


@pytest.fixture(scope="module")
def stock(provisioned: Provisioned, accel: Accel, tmp_path_factory: pytest.TempPathFactory) -> Provisioned:
    """A cache with one good base in it, that of `_PLAN`."""
    folder = tmp_path_factory.mktemp("stock")
    stocked = replace(provisioned, cache=folder / "cache")
    with start(folder / "first", stocked, accel):
        pass
    assert [event["event"] for event in load(folder / "first") if "base" in event["event"]] == ["base_made"]
    return stocked


@pytest.fixture
def lab(stock: Provisioned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Provisioned:
    """A copy of the stock for a test that spoils it."""
    argv = ["cp", "-a", "--sparse=always", str(stock.cache), str(tmp_path / "cache")]
    subprocess.run(argv, check=True, timeout=60)
    monkeypatch.setattr(snapshot_make, "_given_up", snapshot_make._GivenUp())
    return replace(stock, cache=tmp_path / "cache")


@contextmanager
def start(
    folder: Path, provisioned: Provisioned, accel: Accel, plan: GuestPlan = _PLAN, **changes: Any
) -> Iterator[Guest]:
    folder.mkdir()
    with EventLog(folder / "events.jsonl") as events:
        lab = Lab(
            provisioned=provisioned, accel=accel, folder=folder / "vm", events=events, scale=4.0, **changes
        )
        with guest_session(plan, lab) as guest:
            yield guest


def load(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def names(folder: Path) -> list[str]:
    return [event["event"] for event in load(folder)]


def origin(folder: Path) -> str:
    (ready,) = (event for event in load(folder) if event["event"] == "guest_ready")
    assert ready["nonce_ok"] is True
    return str(ready["origin"])


def soon(seconds: float = 60.0) -> Deadline:
    return Deadline.after(seconds, "the test")


def read(guest: Guest, command: str) -> str:
    result = guest.run(command, deadline=soon())
    assert result.exit == 0, result
    return result.stdout.decode().strip()


def base_folder(provisioned: Provisioned) -> Path:
    (path,) = (path for path in (provisioned.cache / KIND).iterdir() if path.is_dir())
    return path


def restamp(path: Path, change: Any) -> None:
    """Change a file of a base so that the cache does not see it: size and time stay."""
    status = path.stat()
    change(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_two_clones_of_one_base_are_two_machines(stock: Provisioned, accel: Accel, tmp_path: Path) -> None:
    command = (
        "cat /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | md5sum; "
        "cat /sys/class/net/eth0/address; cat /run/testbed/nonce; echo; md5sum < /root/.ssh/authorized_keys; "
        "date +%s; cat /run/testbed/clone"
    )
    with start(tmp_path / "a", stock, accel) as one, start(tmp_path / "b", stock, accel) as two:
        assert (origin(tmp_path / "a"), origin(tmp_path / "b")) == ("clone", "clone")
        said = [read(guest, command).splitlines() for guest in (one, two)]
        (boot_id, *mine), (other_boot_id, *others) = said
        assert boot_id == other_boot_id == one.boot_id
        assert all(own != other for own, other in zip(mine[:4], others[:4], strict=True))
        assert mine[2] == one.nonce
        assert abs(int(mine[4]) - time.time()) < 30
        base, name = mine[5:]
        assert base == others[5]
        assert name == f"clone {one.nonce[:12]}"
        one.sync_kmsg(soon())
        assert one.kmsg.search(f"^testbed: {name} of {base}$")
        assert one.kmsg.search("^Linux version")
        assert one.console.search("a clone of base")
    ready = [event for event in load(tmp_path / "a") if event["event"] == "guest_ready"]
    assert f"base {ready[0]['base']}" == base


def test_files_are_there_from_the_start_and_not_pushed_again(
    stock: Provisioned, accel: Accel, tmp_path: Path
) -> None:
    data = os.urandom(3_000_001)
    (tmp_path / "data").write_bytes(data)
    (tmp_path / "empty").write_bytes(b"")
    files = {"/opt/new folder/data": tmp_path / "data", "/opt/empty": tmp_path / "empty"}
    with start(tmp_path / "a", stock, accel, files=files) as guest:
        result = guest.run('cat "/opt/new folder/data"; stat -c %a:%s /opt/empty >&2', deadline=soon())
        assert result.stdout == data
        assert result.stderr == b"755:0\n"
        guest.push(files, deadline=soon())
        last = json.loads((tmp_path / "a" / "vm" / "ssh.jsonl").read_text().splitlines()[-1])
        assert last["command"].startswith("cat ")
        guest.push({"/opt/empty": b"changed"}, deadline=soon())
        assert read(guest, "cat /opt/empty") == "changed"


def test_a_large_guest_is_cloned_too(lab: Provisioned, accel: Accel, tmp_path: Path) -> None:
    large = GuestPlan(name="vm", memory_mib=2048, cpus=1)
    with start(tmp_path / "a", lab, accel, plan=large) as guest:
        assert int(read(guest, "sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) > 1_800_000
    assert origin(tmp_path / "a") == "clone"


def test_cold_boots(stock: Provisioned, accel: Accel, tmp_path: Path) -> None:
    with start(tmp_path / "a", stock, accel, cold=True) as guest:
        assert guest.run("test -e /run/testbed/clone", deadline=soon()).exit == 1
    assert origin(tmp_path / "a") == "boot"


@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone"])
def test_a_damaged_base_is_made_again(lab: Provisioned, accel: Accel, tmp_path: Path, damage: str) -> None:
    ram = base_folder(lab) / RAM_FILE
    before = json.loads((base_folder(lab) / ABOUT_FILE).read_text())["id"]

    def flip(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"\x55" * 64)

    if damage == "flipped":
        restamp(ram, flip)
    elif damage == "truncated":
        os.truncate(ram, ram.stat().st_size // 2)
    else:
        ram.unlink()
    with start(tmp_path / "a", lab, accel):
        pass
    expected = ["base_damaged", "base_made"] if damage == "flipped" else ["base_made"]
    assert [name for name in names(tmp_path / "a") if name.startswith("base_")] == expected
    assert origin(tmp_path / "a") == "clone"
    assert json.loads((base_folder(lab) / ABOUT_FILE).read_text())["id"] != before


def spoil(lab: Provisioned, **facts: str) -> None:
    """Have the base say something else of itself than what is in its RAM."""

    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **facts}, indent=1) + "\n")

    restamp(base_folder(lab) / ABOUT_FILE, change)


@pytest.mark.parametrize(
    "facts", [{"id": "0" * 12}, {"boot_id": "0" * 36}], ids=["another base", "another boot"]
)
def test_a_clone_of_something_else_is_no_guest(
    lab: Provisioned, accel: Accel, tmp_path: Path, facts: dict[str, str]
) -> None:
    spoil(lab, **facts)
    with (
        pytest.raises(IdentityError, match="not the machine that was saved"),
        start(tmp_path / "a", lab, accel),
    ):
        pass
    assert "guest_ready" not in names(tmp_path / "a")


def test_a_guest_that_keeps_another_nonce_is_no_guest(
    stock: Provisioned, accel: Accel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = clone.build_words
    monkeypatch.setattr(clone, "build_words", lambda identity: words(identity).replace("nonce ", "nonce 0"))
    with pytest.raises(IdentityError, match="not the machine"), start(tmp_path / "a", stock, accel):
        pass


def test_a_file_that_qemu_cannot_load_ends_in_a_boot(lab: Provisioned, accel: Accel, tmp_path: Path) -> None:
    ram = base_folder(lab) / RAM_FILE

    def blank(path: Path) -> None:
        with path.open("r+b") as file:
            file.write(bytes(4096))

    restamp(ram, blank)
    with ram.open("rb") as file:
        spoil(lab, digest=digest_ram(file.fileno()))
    with start(tmp_path / "a", lab, accel) as guest:
        assert read(guest, "uname -r") == guest.release
    assert origin(tmp_path / "a") == "boot"
    (failed,) = (event for event in load(tmp_path / "a") if event["event"] == "clone_failed")
    assert "Not a migration stream" in failed["message"]
    assert (tmp_path / "a" / "vm" / "failed-clone" / "qemu.log").exists()
    assert "guest_died" not in names(tmp_path / "a")
    with start(tmp_path / "b", lab, accel):
        pass
    assert "base_made" in names(tmp_path / "b")
    assert origin(tmp_path / "b") == "clone"


def test_a_clone_that_never_answers_is_replaced_by_a_boot(
    lab: Provisioned, accel: Accel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clone, "build_words", lambda identity: "")
    monkeypatch.setattr(clone, "_CLONE_SECONDS", 1.5)
    with start(tmp_path / "a", lab, accel):
        pass
    assert origin(tmp_path / "a") == "boot"
    assert "clone_failed" in names(tmp_path / "a")
    assert not (lab.cache / KIND).exists() or not list((lab.cache / KIND).glob("*.json"))


_ON_A_SMALL_DISK = """
import sys
from dataclasses import replace
from pathlib import Path
root, folder, accel, needs = sys.argv[1:]
sys.path.insert(0, root + "/tests/qemu")
from rich.console import Console
from test_clone import start
from testbed.guest import snapshot_make
from testbed.guest.accel import Accel
from testbed.provision.progress import start_reporter
from testbed.provision.setup import setup
with start_reporter(Console(stderr=True)) as reporter:
    provisioned = replace(setup(reporter), cache=Path(folder, "small"))
snapshot_make._NEEDS_BYTES = int(needs)
for name in ("a", "b"):
    with start(Path(folder, name), provisioned, Accel(name=accel, reason="the test")):
        pass
"""


@pytest.mark.parametrize(
    ("needs", "message"),
    [(256 << 20, "not enough disk space: 268 MB needed"), (0, "No space left on device")],
    ids=["before the work", "while saving"],
)
def test_a_full_disk_ends_in_a_boot(accel: Accel, tmp_path: Path, needs: int, message: str) -> None:
    small = tmp_path / "small"
    small.mkdir()
    words = [sys.executable, "-c", _ON_A_SMALL_DISK, str(_ROOT), str(tmp_path), accel.name, str(needs)]
    script = f"mount -t tmpfs -o size=40M tmpfs {shlex.quote(str(small))} && exec {shlex.join(words)}"
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'qemu-devices'}"}
    argv = ["unshare", *user, "--mount", "sh", "-c", script]
    subprocess.run(argv, env=environment, check=True, timeout=300)
    assert [origin(tmp_path / name) for name in ("a", "b")] == ["boot", "boot"]
    (failed,) = (event for event in load(tmp_path / "a") if event["event"] == "base_failed")
    assert message in failed["message"]
    assert "base_failed" not in names(tmp_path / "b"), "it is not tried again"


def test_of_two_that_want_a_base_at_once_one_makes_it(lab: Provisioned, accel: Accel, tmp_path: Path) -> None:
    shutil.rmtree(lab.cache / KIND)

    def body(name: str) -> None:
        with start(tmp_path / name, lab, accel):
            pass

    threads = [threading.Thread(target=body, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [origin(tmp_path / name) for name in ("a", "b")] == ["clone", "clone"]
    assert sum(names(tmp_path / name).count("base_made") for name in ("a", "b")) == 1


def run(name: str, provisioned: Provisioned, accel: Accel, out: Path, *, cold: bool) -> RunFolder:
    scenario = load_scenario(_ROOT / "scenarios" / name)
    (case,) = build_cases(scenario, host=Host(), options=Options(seed=7))
    bench = Bench(provisioned=provisioned, accel=accel, out=out, scale=4.0, cold=cold)
    return run_case(case, bench, scenario_text=scenario.text)


@pytest.mark.parametrize("name", ["smoke/gpu-job.yaml", "smoke/fence-dmabuf.yaml", "judge/oops-is-fail.yaml"])
def test_a_clone_gives_the_verdict_and_the_counters_of_a_boot(
    provisioned: Provisioned, accel: Accel, tmp_path: Path, name: str
) -> None:
    folders = [run(name, provisioned, accel, tmp_path, cold=cold) for cold in (True, False)]
    assert [origin(folder.path) for folder in folders] == ["boot", "clone"]
    booted, cloned = (judge_run(folder) for folder in folders)
    assert booted.status is Status.PASS
    assert cloned.status is booted.status
    assert [(step.index, step.status) for step in cloned.steps] == [
        (step.index, step.status) for step in booted.steps
    ]
    # Details hold what devices counted and which modules were inserted.
    assert [step.detail for step in cloned.steps] == [step.detail for step in booted.steps]
    worked = [kernel_work(folder) for folder in folders]
    assert worked[0] == worked[1]


def kernel_work(folder: RunFolder) -> Counter[tuple[Any, ...]]:
    """What the driver had each engine do, as the device host traced it."""
    trace = folder.path / "vm" / "devices.jsonl"
    lines = trace.read_text().splitlines() if trace.exists() else []
    return Counter(
        (event["dev"], event["ev"], event.get("engine"), event.get("op"))
        for event in map(json.loads, lines)
        if event["ev"] in ("gpu_start", "gpu_done", "gpu_fence")
    )
