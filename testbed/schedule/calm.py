"""Work that Ctrl-C ends in order rather than in the middle of something."""

from __future__ import annotations

import threading
from collections.abc import Callable

from testbed.deadline import Stop

INTERRUPTED = "interrupted"


def run_calmly(work: Callable[[], None], stop: Stop) -> None:
    """Call ``work`` in a thread of its own and wait for it; raises what it raises.

    Python delivers signals to the main thread, at any instruction; so that one does only the waiting. On
    Ctrl-C ``stop`` is set, ``work`` is waited for all the same, and KeyboardInterrupt goes on.
    """
    done = threading.Event()
    errors: list[BaseException] = []

    def body() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - a thread's edge; raised again below
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=body, name="schedule").start()
    try:
        done.wait()
    except KeyboardInterrupt:
        stop.set(INTERRUPTED)
        done.wait()
        raise
    if errors:
        raise errors[0]
