"""Ctrl-C and SIGTERM: the first ends the run in order, the others wait for that."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ignore_interrupts() -> None:
    """From here on the program ends by itself, with its own exit code.

    Python gives the signals their default action back while it shuts down, and that kills; what is ignored
    stays ignored (CPython, Modules/signalmodule.c, _PySignal_Fini).
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def interrupts_once() -> Iterator[None]:
    """Inside, the first of SIGINT, SIGTERM and SIGHUP raises KeyboardInterrupt; later ones only say why not.

    A second Ctrl-C in the middle of taking a guest down would leave things behind.
    """
    seen = False

    def take(_number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            os.write(
                sys.stderr.fileno(), f"testbed: already stopping; kill -9 {os.getpid()} if stuck\n".encode()
            )
            return
        seen = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, take) for number in _SIGNALS}
    try:
        yield
    finally:
        if not seen:  # else the program ends now, and a second Ctrl-C must not spoil its exit code
            for number, handler in before.items():
                signal.signal(number, handler)
