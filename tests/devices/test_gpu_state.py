"""What keeps an engine's thread and the thread that serves MMIO in order, moment by moment."""

import threading
import time
from collections.abc import Callable

import pytest

from vfiodev.gpu.state import AbortedError, EngineState

LONG = 10.0


def test_settle_waits_for_the_chunk_in_hand() -> None:
    state = EngineState()
    inside, leave, settled = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with state.effect(state.epoch):
            inside.set()
            leave.wait(LONG)

    def reset() -> None:
        state.abort()
        state.settle()
        settled.set()

    threads = [threading.Thread(target=work), threading.Thread(target=reset)]
    threads[0].start()
    assert inside.wait(LONG)
    threads[1].start()
    assert not settled.wait(0.05)
    leave.set()
    assert settled.wait(LONG)
    for thread in threads:
        thread.join(LONG)


def test_nothing_begins_after_an_abort() -> None:
    state = EngineState()
    before = state.epoch
    state.abort()
    with pytest.raises(AbortedError), state.effect(before):
        pytest.fail("an effect of an aborted command")
    with pytest.raises(AbortedError):
        state.retire(before, 1, 1)
    with state.effect(state.epoch):
        pass


def test_a_frozen_engine_begins_nothing_until_it_is_thawed_or_aborted() -> None:
    state = EngineState()
    state.set_frozen(True)
    outcomes: list[str] = []

    def work() -> None:
        try:
            with state.effect(epoch):
                outcomes.append("effect")
        except AbortedError:
            outcomes.append("aborted")

    releases: list[Callable[[], None]] = [lambda: state.set_frozen(False), state.abort]
    for release in releases:
        state.set_frozen(True)
        epoch = state.epoch
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(0.03)
        assert thread.is_alive()
        release()
        thread.join(LONG)
    assert outcomes == ["effect", "aborted"]


def test_a_kick_between_look_and_sleep_is_not_lost() -> None:
    state = EngineState()
    seen = state.kicks
    state.kick()
    begin = time.monotonic()
    state.pause(state.epoch, time.monotonic_ns() + int(LONG * 1e9), seen)
    assert time.monotonic() - begin < LONG


def test_a_kick_ends_a_sleep() -> None:
    state = EngineState()
    begin = time.monotonic()
    timer = threading.Timer(0.02, state.kick)
    timer.start()
    state.pause(state.epoch, time.monotonic_ns() + int(LONG * 1e9), state.kicks)
    assert time.monotonic() - begin < LONG
    timer.join()
