"""Run folder and event log: private, never overwritten, and honest when the disk is full."""

from __future__ import annotations

import errno
import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from testbed.errors import LabError, UsageError
from testbed.evidence.events import EventLog, load_events
from testbed.evidence.run import build_slug, create_run_folder, disk_full_is_a_miss, open_run_folder

NOW = datetime(2026, 11, 21, 10, 15, 2, tzinfo=UTC)


def test_names_and_the_link_to_the_newest(tmp_path: Path) -> None:
    names = [create_run_folder(tmp_path, "smoke/boot", now=NOW).path.name for _ in range(3)]
    assert names == [f"20261121-101502-smoke-boot{suffix}" for suffix in ("", "-2", "-3")]
    assert (tmp_path / "latest").resolve().name == names[-1]


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path, "a")
    paths = [folder.path, folder.guest("vm"), folder.step("3.1", "tool"), folder.step("3.1", "tool")]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o700}


def test_folders_made_at_the_same_moment_are_different(tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(create_run_folder(tmp_path, "x", now=NOW).path))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("fence/hold[engine=copy]", "fence-hold-engine-copy"),
        ("../../etc/passwd", "etc-passwd"),
        ("Ünïcode", "n-code"),
        ("///", "case"),
        ("a" * 200, "a" * 80),
    ],
)
def test_slug(name: str, slug: str) -> None:
    assert build_slug(name) == slug


def test_a_latest_that_is_no_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    create_run_folder(tmp_path, "a")
    assert (tmp_path / "latest").is_dir()
    assert not (tmp_path / "latest").is_symlink()


def test_out_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(UsageError) as caught:
        create_run_folder(tmp_path / "out", "a")
    assert str(caught.value) == (
        f"no run folder can be made in '{tmp_path}/out': File exists\n"
        "  hint: name a folder that can be written to: testbed run --out DIR"
    )


def test_out_where_no_folder_can_be() -> None:
    with pytest.raises(UsageError, match="no run folder can be made in '/proc/x': No such file or directory"):
        create_run_folder(Path("/proc/x"), "a")


def test_a_file_is_never_written_twice(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path, "a")
    folder.write("plan.json", "1")
    with pytest.raises(FileExistsError):
        folder.write("plan.json", "2")


def test_full_disk_is_a_miss_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught, disk_full_is_a_miss(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value).startswith(
        f"the disk is full: evidence cannot be written to '{tmp_path}'\n  hint:"
    )


def test_other_errors_go_through(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk_full_is_a_miss(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_event_log_on_a_full_device() -> None:
    with EventLog(Path("/dev/full")) as log, pytest.raises(LabError, match="the disk is full"):
        log.emit("case_started")


def test_open_run_folder_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'.*none' is not a run folder: no such folder"):
        open_run_folder(tmp_path / "none")
    with pytest.raises(UsageError, match=r"it has neither plan.json nor events.jsonl"):
        open_run_folder(tmp_path)


def test_events_are_lines_with_a_time_and_a_number(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        assert log.emit("case_started", name="a") == 1
        assert log.emit("fault", args={"path": Path("/x")}) == 2
    assert log.emit("late") == 0
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["case_started", "fault"]
    assert lines[1]["args"] == {"path": "/x"}
    assert lines[0]["t"] <= lines[1]["t"]


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        threads = [
            threading.Thread(target=lambda: [log.emit("e", text="x" * 5000) for _ in range(50)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    events, bad = load_events(tmp_path / "events.jsonl")
    assert (len(events), bad) == (200, [])


def test_a_broken_subscriber_is_dropped_and_noted(tmp_path: Path) -> None:
    seen: list[str] = []

    def broken(_event: object) -> None:
        raise ValueError("no terminal")

    with EventLog(tmp_path / "events.jsonl") as log:
        log.subscribe(broken)
        log.subscribe(lambda event: seen.append(event["event"]))
        log.emit("one")
        log.emit("two")
    assert seen == ["one", "two"]
    assert log.subscriber_errors == ["ValueError: no terminal"]


def test_lines_that_are_no_events_are_told(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"t": 1, "event": "a"}\n[1]\n{"t": 2}\n{"t": 3, "event": "b"}\n{"t": 4, "ev')
    events, bad = load_events(path)
    assert [(number, event["event"]) for number, event in events] == [(1, "a"), (4, "b")]
    assert bad == [2, 3, 5]


@pytest.mark.parametrize(
    "field",
    [
        '"t": null',
        '"seconds": "1"',
        '"seconds": 1e400',
        '"bytes": [1]',
        '"guest": {}',
        '"index": 7',
        '"pointers": 3',
    ],
)
def test_a_field_of_the_wrong_type_spoils_its_line(tmp_path: Path, field: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(f'{{"event": "a"}}\n{{"event": "b", {field}}}\n')
    assert load_events(path) == ([(1, {"event": "a"})], [2])
