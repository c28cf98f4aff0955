"""The cache: whole entries or none, whoever builds, dies or damages."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from testbed.errors import ProvisionError
from testbed.provision.cache import (
    build_key,
    check_free_space,
    find_cache_root,
    find_entry,
    get_entry,
    hash_tree,
    hold_lock,
    list_entries,
    prune_cache,
)

FORK = multiprocessing.get_context("fork")


def write_one(directory: Path) -> None:
    (directory / "sub").mkdir()
    (directory / "sub" / "file").write_text("content")


def refuse(_directory: Path) -> None:
    raise AssertionError("the entry was there and must not be built")


class SlowBuild:
    """Counts its calls in a file that all processes share."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def __call__(self, directory: Path) -> None:
        with self.log.open("a") as out:
            out.write("built\n")
        time.sleep(0.2)
        write_one(directory)


class HangingBuild:
    """Says that it has begun and never ends."""

    def __init__(self, begun: Path) -> None:
        self.begun = begun

    def __call__(self, directory: Path) -> None:
        (directory / "half").write_text("half")
        self.begun.touch()
        time.sleep(60)


def want(root: Path, build: SlowBuild | HangingBuild) -> None:
    get_entry(root, "kind", "key", build)


def test_entry_is_built_once_and_found_again(tmp_path: Path) -> None:
    path = get_entry(tmp_path, "kind", "key", write_one)
    assert (path / "sub" / "file").read_text() == "content"
    assert get_entry(tmp_path, "kind", "key", refuse) == path


def test_processes_at_once_build_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    children = [FORK.Process(target=want, args=(tmp_path / "cache", SlowBuild(log))) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert log.read_text() == "built\n"


def test_entry_of_a_killed_builder_is_built_again(tmp_path: Path) -> None:
    root, begun = tmp_path / "cache", tmp_path / "begun"
    child = FORK.Process(target=want, args=(root, HangingBuild(begun)))
    child.start()
    while not begun.exists():
        assert child.is_alive()
        time.sleep(0.01)
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    [leftover] = (root / "kind").iterdir()
    assert (leftover / "half").exists()
    assert find_entry(root, "kind", "key") is None
    path = get_entry(root, "kind", "key", write_one)
    assert [child.name for child in path.iterdir()] == ["sub"]
    assert not leftover.exists()


def test_entry_without_manifest_is_built_again(tmp_path: Path) -> None:
    path = get_entry(tmp_path, "kind", "key", write_one)
    (tmp_path / "kind" / "key.json").unlink()
    (path / "sub" / "file").write_text("half")
    assert (get_entry(tmp_path, "kind", "key", write_one) / "sub" / "file").read_text() == "content"


@pytest.mark.parametrize("damage", ["truncate", "same size", "delete", "add", "manifest"])
def test_damaged_entry_is_built_again(tmp_path: Path, damage: str) -> None:
    path = get_entry(tmp_path, "kind", "key", write_one)
    file = path / "sub" / "file"
    if damage == "truncate":
        file.write_text("")
    elif damage == "same size":
        file.write_text("CONTENT")
    elif damage == "delete":
        file.unlink()
    elif damage == "add":
        (path / "more").touch()
    else:
        (tmp_path / "kind" / "key.json").write_text('{"files": 3')
    assert find_entry(tmp_path, "kind", "key") is None
    assert (get_entry(tmp_path, "kind", "key", write_one) / "sub" / "file").read_text() == "content"
    assert not (path / "more").exists()


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        write_one(directory)
        raise ProvisionError("no")

    with pytest.raises(ProvisionError, match="no"):
        get_entry(tmp_path, "kind", "key", fail)
    assert list((tmp_path / "kind").iterdir()) == []


def test_build_that_cannot_write_names_the_entry(tmp_path: Path) -> None:
    def fail(_directory: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ProvisionError, match="No space left") as caught:
        get_entry(tmp_path, "kind", "key", fail)
    assert caught.value.where == str(tmp_path / "kind" / "key")
    assert list((tmp_path / "kind").iterdir()) == []


def test_full_disk_is_seen_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError) as caught:
        check_free_space(tmp_path / "not" / "there", 5_000_000_000, free_bytes=lambda _path: 12_000_000)
    text = str(caught.value)
    assert "5.0 GB needed, 12 MB free" in text
    assert str(tmp_path) in text
    assert "TESTBED_CACHE" in text
    check_free_space(tmp_path, 12, free_bytes=lambda _path: 12)


def test_get_entry_checks_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match="not enough disk space"):
        get_entry(tmp_path, "kind", "key", refuse, needs=1 << 62)


def test_unwritable_cache_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProvisionError, match="the cache cannot be written"):
        get_entry(tmp_path / "file", "kind", "key", write_one)


def test_prune_keeps_what_is_wanted_and_sweeps_leftovers(tmp_path: Path) -> None:
    kept = get_entry(tmp_path, "kind", "keep", write_one)
    gone = get_entry(tmp_path, "kind", "drop", write_one)
    leftover = tmp_path / "kind" / ".dead.123.tmp"
    leftover.mkdir()
    assert [(entry.key, entry.size) for entry in list_entries(tmp_path)] == [("drop", 7), ("keep", 7)]
    removed = prune_cache(tmp_path, lambda entry: entry.key == "keep")
    assert [entry.key for entry in removed] == ["drop"]
    assert not gone.exists()
    assert not leftover.exists()
    assert get_entry(tmp_path, "kind", "keep", refuse) == kept


def test_keys_tell_borders_and_order_apart() -> None:
    keys = {build_key("ab", "c"), build_key("a", "bc"), build_key("c", "ab"), build_key("abc")}
    assert len(keys) == 4
    assert build_key("x") == build_key(b"x")


def test_hash_tree_sees_names_modes_and_content(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("1")
    seen = {hash_tree(tmp_path)}
    file.write_text("2")
    seen.add(hash_tree(tmp_path))
    file.chmod(0o755)
    seen.add(hash_tree(tmp_path))
    file.rename(tmp_path / "other")
    seen.add(hash_tree(tmp_path))
    assert len(seen) == 4


def test_cache_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TESTBED_CACHE", raising=False)
    assert find_cache_root() == tmp_path / "testbed"
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "own"))
    assert find_cache_root() == tmp_path / "own"


def test_who_waits_for_a_lock_says_so(tmp_path: Path) -> None:
    said = threading.Event()
    got = threading.Event()

    def second() -> None:
        with hold_lock(tmp_path, "setup", said.set):
            got.set()

    thread = threading.Thread(target=second)
    with hold_lock(tmp_path, "setup", lambda: pytest.fail("nobody holds it")):
        thread.start()
        assert said.wait(5)
        assert not got.is_set()
    thread.join(5)
    assert got.is_set()
