"""Programs of the host."""

from __future__ import annotations

import pytest

from testbed.provision.process import find_missing_programs, run_program


def test_a_users_path_without_sbin_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert find_missing_programs() == []
    assert run_program(["chroot", "--version"]).status == 0


def test_a_program_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.provision.process.HOST_PROGRAMS", {"tar": "tar", "no-such": "nothing"})
    assert find_missing_programs() == ["no-such"]
