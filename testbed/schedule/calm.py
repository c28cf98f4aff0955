"""Work that Ctrl-C ends in order rather than in the middle of something."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable

from testbed.deadline import Stop
from testbed.errors import TestbedError

INTERRUPTED = "interrupted"


def run_calmly(work: Callable[[], None], stop: Stop) -> None:
    """Call ``work`` in a thread of its own and wait for it; raises what it raises.

    Python delivers signals to the main thread, at any instruction; so that one does only the waiting. On
    Ctrl-C ``stop`` is set, ``work`` is waited for all the same, and KeyboardInterrupt goes on; what ``work``
    raised is printed then.
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
        for error in errors:
            _tell(error)
        raise
    if errors:
        raise errors[0]


def _tell(error: BaseException) -> None:
    if isinstance(error, TestbedError):
        sys.stderr.write(f"testbed: {error}\n")
    else:
        traceback.print_exception(error)
