"""SSH into the guest: one transport with a pinned host key, and a channel for each command."""

from __future__ import annotations

import base64
import io
import json
import logging
import secrets
import shlex
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import paramiko

from testbed.deadline import Deadline
from testbed.errors import DeadlineExceeded, GuestDied, IdentityError, LabError, ScenarioFault
from testbed.evidence.run import disk_full_is_a_miss
from testbed.guest import leftovers
from testbed.guest.liveness import Liveness
from testbed.provision.identity import Identity

T = TypeVar("T")
MAX_OUTPUT = 16 << 20
"""Bytes of one stream that are kept; the rest is read and dropped, with a note at the end."""
_TICK = 0.1
_LOSS_EXPLAINED = 1.0
_LOG = "testbed.guest.ssh"

logging.getLogger(_LOG).addHandler(logging.NullHandler())
logging.getLogger(_LOG).propagate = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """What a command left."""

    exit: int
    """Exit status; 128 plus the number of the signal that ended it; -1 when its shell itself was killed."""
    stdout: bytes
    stderr: bytes
    seconds: float
    pointer: str
    """``ssh/N``: where its output is, relative to the guest's folder."""


class Transcript:
    """``ssh.jsonl`` and the files of output beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._count = 0
        (folder / "ssh").mkdir(mode=0o700, exist_ok=True)

    def next(self) -> int:
        """Return the number of a new command."""
        with self._lock:
            self._count += 1
            return self._count

    def write(self, number: int, fields: Mapping[str, Any], stdout: bytes, stderr: bytes) -> None:
        """Write one command down; a stream without output gets no file."""
        line = json.dumps({"t": time.monotonic_ns(), "n": number, **fields}, ensure_ascii=True)
        with disk_full_is_a_miss(self._folder):
            for suffix, data in (("out", stdout), ("err", stderr)):
                if data:
                    (self._folder / "ssh" / f"{number}.{suffix}").write_bytes(data)
            with self._lock, (self._folder / "ssh.jsonl").open("a", encoding="ascii") as file:
                file.write(line + "\n")


class _Stream:
    """One output stream of a channel, up to `MAX_OUTPUT`."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._dropped = 0

    def add(self, data: bytes) -> None:
        room = MAX_OUTPUT - len(self._data)
        self._data += data[:room]
        self._dropped += max(0, len(data) - room)

    def text(self) -> bytes:
        note = f"\n[testbed: {self._dropped} more bytes were dropped]\n" if self._dropped else ""
        return bytes(self._data) + note.encode()


class Ssh:
    """A connection to one guest; safe to use from several threads. `start_ssh` makes one."""

    def __init__(self, transport: paramiko.Transport, transcript: Transcript, liveness: Liveness) -> None:
        self.transport = transport
        self._transcript = transcript
        self._liveness = liveness
        # Unlike that of another connection, also of one to the machine that this one is a clone of.
        self._id = secrets.token_hex(4)

    def run(self, command: str, *, deadline: Deadline, stdin: bytes = b"") -> CommandResult:
        """Run ``command`` in the guest's shell and return what it left.

        Raises `DeadlineExceeded` (its processes in the guest are ended), `GuestPanicked` or `GuestDied`.
        """
        number = self._transcript.next()
        mark = leftovers.build_mark(f"{self._id}-{number}")
        try:
            return self._run(number, command, leftovers.mark_command(command, mark), deadline, stdin)
        except DeadlineExceeded as error:
            left = self._end_leftovers(mark)
            if left is None:
                raise
            raise DeadlineExceeded(f"{error.message}; {left}") from error

    def _run(self, number: int, command: str, marked: str, deadline: Deadline, stdin: bytes) -> CommandResult:
        began = time.monotonic()
        out, err = _Stream(), _Stream()
        status: int | str = "lost"
        try:
            channel = self._open(marked, deadline)
            try:
                status = self._converse(channel, stdin, (out, err), deadline)
            except DeadlineExceeded:
                status = "deadline"
                raise
            finally:
                channel.close()
        finally:
            seconds = time.monotonic() - began
            fields = {"command": command, "stdin": len(stdin), "exit": status, "seconds": round(seconds, 4)}
            self._transcript.write(number, fields, out.text(), err.text())
        return CommandResult(
            exit=status, stdout=out.text(), stderr=err.text(), seconds=seconds, pointer=f"ssh/{number}"
        )

    def _end_leftovers(self, mark: str) -> str | None:
        """End what a command left running; return why there may be something left, None if there is nothing.

        Raises `GuestPanicked` or `GuestDied`: that is then why the command did not end.
        """
        number, deadline = self._transcript.next(), Deadline.after(leftovers.SECONDS, "the guest to clean up")
        try:
            result = self._run(number, "(end of a command)", leftovers.END, deadline, f"{mark}\n".encode())
        except DeadlineExceeded:
            return "the guest does not answer, so what it left running is not ended"
        left = result.stdout.decode("ascii", "replace").strip()
        return f"{left} of its processes cannot be killed" if left else None

    def push(self, files: Mapping[str, Path | bytes], *, deadline: Deadline, mode: int = 0o755) -> None:
        """Put files into the guest, whole folders included where they are missing, and check their sizes.

        ``files`` maps absolute paths in the guest to content. Raises `ScenarioFault` when a path is not
        absolute or a file of ours cannot be read, `LabError` when the guest did not take them.
        """
        if not files:
            return
        contents = {path: _read_content(path, source) for path, source in files.items()}
        names = " ".join(shlex.quote(path) for path in contents)
        result = self.run(
            f"tar -xf - -C / && stat -c %s {names}", deadline=deadline, stdin=_pack(contents, mode)
        )
        sizes = result.stdout.split()
        wanted = [str(len(data)).encode() for data in contents.values()]
        if result.exit != 0 or sizes != wanted:
            said = result.stderr.decode("utf-8", "replace").strip()
            raise LabError(f"the guest did not take {names}: exit {result.exit}, {said or 'sizes differ'}")

    def open_session(self, deadline: Deadline) -> paramiko.Channel:
        """Return a new channel, for an interactive shell."""
        return self._bounded(lambda: self.transport.open_session(timeout=3600), deadline)

    def _open(self, command: str, deadline: Deadline) -> paramiko.Channel:
        def start() -> paramiko.Channel:
            channel = self.transport.open_session(timeout=3600)
            # The last line keeps the shell from replacing itself, so that a signal becomes 128 + number.
            channel.exec_command(f"{command}\nexit $?")
            return channel

        return self._bounded(start, deadline)

    def _converse(
        self, channel: paramiko.Channel, stdin: bytes, streams: tuple[_Stream, _Stream], deadline: Deadline
    ) -> int:
        threading.Thread(target=_feed, args=(channel, stdin), name="guest-stdin", daemon=True).start()
        news = threading.Event()
        channel.in_buffer.set_event(news)
        channel.in_stderr_buffer.set_event(news)
        while True:
            ended = channel.closed or (channel.eof_received and channel.exit_status_ready())
            _drain(channel, *streams)
            if ended:
                break
            self._liveness.check()
            deadline.check()
            if not (channel.recv_ready() or channel.recv_stderr_ready()):
                news.wait(min(_TICK if not channel.eof_received else 0.005, deadline.left))
        if channel.exit_status < 0 and not self.transport.is_active():
            raise self._lost("a command ended without an exit status")
        return channel.exit_status

    def _bounded(self, action: Callable[[], T], deadline: Deadline) -> T:
        """Run a call of paramiko's that has no deadline in a thread that may be left behind."""
        done = threading.Event()
        results: list[T] = []
        errors: list[Exception] = []

        def body() -> None:
            try:
                results.append(action())
            except (paramiko.SSHException, EOFError, OSError) as error:
                errors.append(error)
            finally:
                done.set()

        self._liveness.check()
        threading.Thread(target=body, name="guest-ssh-call", daemon=True).start()
        self._liveness.wait_for(done, deadline)
        if not results:
            raise self._lost(str(errors[0]) if errors else "no reason") from (errors[0] if errors else None)
        return results[0]

    def _lost(self, why: str) -> LabError:
        self._liveness.settle(_LOSS_EXPLAINED)
        return GuestDied(f"SSH to the guest broke: {why}")


def _read_content(path: str, source: Path | bytes) -> bytes:
    if not path.startswith("/"):
        raise ScenarioFault(f"'{path}' is not an absolute path in the guest")
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise ScenarioFault(f"'{source}' cannot be pushed: {error.strerror}") from error


def _pack(contents: Mapping[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, data in contents.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size, info.mode, info.mtime = len(data), mode, int(time.time())
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _feed(channel: paramiko.Channel, stdin: bytes) -> None:
    try:
        channel.sendall(stdin)
        channel.shutdown_write()
    except (OSError, EOFError, paramiko.SSHException):
        return  # the command did not read all of its input, which is its right


def _drain(channel: paramiko.Channel, out: _Stream, err: _Stream) -> None:
    while channel.recv_ready():
        out.add(channel.recv(1 << 16))
    while channel.recv_stderr_ready():
        err.add(channel.recv_stderr(1 << 16))


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock


def _authenticate(
    transport: paramiko.Transport, identity: Identity, liveness: Liveness, deadline: Deadline
) -> None:
    met = threading.Event()
    transport.start_client(met)
    liveness.wait_for(met, deadline)
    if not transport.is_active():
        raise transport.get_exception() or paramiko.SSHException("no connection")
    offered = transport.get_remote_server_key().asbytes()
    if offered != base64.b64decode(identity.host_public):
        raise IdentityError("the SSH host key is not the one that this guest was given")
    key = paramiko.Ed25519Key(file_obj=io.StringIO(identity.client_key))
    let_in = threading.Event()
    transport.auth_publickey("root", key, let_in)
    liveness.wait_for(let_in, deadline)
    if not transport.is_authenticated():
        raise transport.get_exception() or paramiko.SSHException("the key was refused")


@contextmanager
def start_ssh(
    path: Path, identity: Identity, *, folder: Path, liveness: Liveness, deadline: Deadline
) -> Iterator[Ssh]:
    """Connect to the guest behind the unix socket ``path``; it has said that its sshd listens.

    Raises `IdentityError` when another machine answers, `GuestDied` when none does.
    """
    try:
        transport = paramiko.Transport(_connect(path))
    except (OSError, EOFError, paramiko.SSHException) as error:
        liveness.settle(_LOSS_EXPLAINED)
        raise GuestDied(f"no SSH connection to the guest: {error}") from error
    transport.set_log_channel(_LOG)
    transport.daemon = True
    options = transport.get_security_options()
    options.key_types = ("ssh-ed25519",)
    liveness.on_failure(transport.close)
    try:
        try:
            _authenticate(transport, identity, liveness, deadline)
        except (OSError, EOFError, paramiko.SSHException) as error:
            liveness.settle(_LOSS_EXPLAINED)
            raise GuestDied(f"no SSH connection to the guest: {error}") from error
        yield Ssh(transport, Transcript(folder), liveness)
    finally:
        transport.close()
