"""An interactive shell in a guest, on our own terminal."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko

from testbed.deadline import Deadline
from testbed.errors import UsageError
from testbed.guest.session import Guest

_OPEN_SECONDS = 20.0
_TICK = 0.25
_STATUS_SECONDS = 2.0
_NO_STATUS = 255


def require_terminal() -> None:
    """Raise `UsageError` when there is no terminal to hand to a guest."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("'testbed shell' needs a terminal", hint="a scenario's 'run' step needs none")


def run_shell(guest: Guest) -> int:
    """Connect our terminal to a login shell of the guest until that ends; return its exit status.

    255, as ssh has it, for a shell that ended without one. Raises `GuestPanicked` or `GuestDied` when the
    guest is lost.
    """
    channel = guest.ssh.open_session(Deadline.after(_OPEN_SECONDS, "a shell in the guest"))
    with contextlib.closing(channel):
        columns, lines = shutil.get_terminal_size()
        channel.get_pty(os.environ.get("TERM", "linux"), columns, lines)
        channel.invoke_shell()
        with _raw_terminal(), _following_size(channel):
            _copy(guest, channel)
        channel.status_event.wait(_STATUS_SECONDS)
        guest.check_alive()
        return channel.exit_status if channel.exit_status >= 0 else _NO_STATUS


def _copy(guest: Guest, channel: paramiko.Channel) -> None:
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    sources: list[int | paramiko.Channel] = [keyboard, channel]
    while True:
        ready, _, _ = select.select(sources, [], [], _TICK)
        guest.check_alive()
        if channel in ready:
            data = channel.recv(1 << 16)
            if not data:
                return
            _write_all(screen, data)
        if keyboard in ready:
            typed = os.read(keyboard, 4096)
            if typed:
                channel.sendall(typed)
            else:
                sources.remove(keyboard)
                channel.shutdown_write()


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@contextmanager
def _raw_terminal() -> Iterator[None]:
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSADRAIN)  # what was typed ahead stays
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _following_size(channel: paramiko.Channel) -> Iterator[None]:
    def resize(*_: object) -> None:
        columns, lines = shutil.get_terminal_size()
        with contextlib.suppress(paramiko.SSHException, OSError):
            channel.resize_pty(columns, lines)

    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
