"""`LogTail`: lines, offsets and waiting, while something else writes."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from testbed.deadline import Deadline
from testbed.errors import DeadlineExceeded, GuestDied
from testbed.guest.tail import KMSG_PREFIX, LogTail


def soon(seconds: float = 5.0) -> Deadline:
    return Deadline.after(seconds, "a line")


def tail_of(path: Path) -> LogTail:
    return LogTail(path, alive=lambda: None)


def test_search_gives_line_and_offsets(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\r\nthree two\n")
    tail = tail_of(path)
    first = tail.search("two")
    assert first is not None
    assert (first.line, first.text, first.start, first.end) == (2, "two", 4, 9)
    second = tail.search("two", first.end)
    assert second is not None
    assert (second.line, second.text, second.end) == (3, "three two", tail.size)
    assert tail.search("two", second.end) is None


def test_missing_file_is_empty(tmp_path: Path) -> None:
    tail = tail_of(tmp_path / "none")
    assert tail.size == 0
    assert tail.search("x") is None


def test_line_without_newline_counts(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"boot\nlogin: ")
    found = tail_of(path).search("^login: $")
    assert found is not None
    assert found.line == 2


def test_kmsg_prefix_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(
        b"6,12,345678,-;tbgpu 0000:01:00.0: ready\n SUBSYSTEM=pci\n4,13,345679,c,caller=T1;x;y\n"
    )
    tail = LogTail(path, alive=lambda: None, prefix=KMSG_PREFIX)
    assert tail.search("^tbgpu .*: ready$") is not None
    found = tail.search("^x;y$")
    assert found is not None
    assert found.line == 3


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xff\xfe\0bad\n\x80good\n")
    assert tail_of(path).search("good") is not None


def test_waits_for_a_line_that_comes_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old match\n")
    tail = tail_of(path)
    start = tail.size

    def write() -> None:
        for piece in (b"new ", b"ma", b"tch 7\nmore\n"):
            time.sleep(0.05)
            with path.open("ab") as file:
                file.write(piece)

    thread = threading.Thread(target=write)
    thread.start()
    found = tail.wait(r"match \d$", soon(), start)
    thread.join()
    assert (found.line, found.text) == (2, "new match 7")


def test_a_line_between_two_looks_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()

    def write() -> None:
        for number in range(1, 200):
            with path.open("ab") as file:
                file.write(f"line {number} of many\n".encode() * 50)

    thread = threading.Thread(target=write)
    thread.start()
    tail, offset = tail_of(path), 0
    for number in range(1, 200, 5):
        found = tail.wait(f"^line {number} ", soon(), offset)
        assert found.line == (number - 1) * 50 + 1
        offset = found.end
    thread.join()


def test_wait_ends_at_the_deadline(tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceeded, match="a line"):
        tail_of(tmp_path / "log").wait("never", soon(0.1))


def test_wait_ends_with_the_guest(tmp_path: Path) -> None:
    def alive() -> None:
        raise GuestDied("QEMU ended with status 1")

    with pytest.raises(GuestDied, match="status 1"):
        LogTail(tmp_path / "log", alive=alive).wait("never", soon())


def test_last_words_are_found_although_the_guest_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"last words")

    def alive() -> None:
        raise GuestDied("gone")

    assert LogTail(path, alive=alive).wait("last words", soon()).line == 1
