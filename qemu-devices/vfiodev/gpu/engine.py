"""One engine: fetches entries from its ring, executes them in order, completes them.

The engine is a thread of its own; registers and locks are in `state`, completions in `pipeline`, data in
`ops`.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import NoReturn, Protocol

from vfiodev.gpu.commands import (
    ENTRY_SIZE,
    Command,
    CommandError,
    Compare,
    ErrorCode,
    Opcode,
    Space,
    parse_command,
)
from vfiodev.gpu.memory import Memory
from vfiodev.gpu.ops import start_transfer
from vfiodev.gpu.pipeline import Agenda, Batch, Completion, Fault, Pipeline
from vfiodev.gpu.state import AbortedError, EngineState, Slot
from vfiodev.work import Worker

SEMAPHORE_POLL_NS = 1_000_000
HANG_POLL_NS = 1_000_000_000

_TRANSFERS = frozenset({Opcode.FILL, Opcode.COPY, Opcode.CHECKSUM, Opcode.VECTOR})


class _HaltedError(Exception):
    """The engine is in error; unwinds to its loop, whatever executes ends."""


class Ports(Protocol):
    """What an engine needs from its device. Called by the engine's thread."""

    def count(self, engine: int, counter: str, amount: int = 1) -> None: ...

    def trace(self, event: str, **fields: object) -> None: ...

    def take_fault(self, engine: int, knob: str) -> Fault | None: ...

    def flag_completion(self, engine: int) -> bool:
        """Set the engine's completion bit in INTR_STATUS; True when a message shall be sent for it."""
        ...

    def flag_error(self, engine: int) -> None:
        """Set the engine's error bit in INTR_STATUS and send vector 0 if it is enabled."""
        ...

    def send_completion(self, engine: int) -> None:
        """Send the engine's vector."""
        ...

    def semaphore_released(self, engine: int) -> None:
        """Let the other engines look at their semaphores."""
        ...


class Engine:
    """An engine of a device; a new one is made for each reset of the whole device."""

    def __init__(self, index: int, *, compute: bool, memory: Memory, ports: Ports) -> None:
        self.index = index
        self.compute = compute
        self.state = EngineState()
        self._memory = memory
        self._ports = ports
        self._epoch = 0
        self._take_fault = partial(ports.take_fault, index)
        self._pipeline = Pipeline(self._take_fault)
        self._agenda = Agenda()

    def run(self, worker: Worker) -> None:
        """The body of the engine's thread; ends after `state.abort(closing=True)`."""
        del worker
        while not self.state.closing:
            self._epoch = self.state.epoch
            self._pipeline = Pipeline(self._take_fault)
            self._agenda = Agenda()
            with suppress(AbortedError):
                self._serve_ring()

    def _serve_ring(self) -> None:
        while not self.state.closing:
            slot = self.state.take_slot(self._epoch, self._next_due(), time.monotonic_ns())
            try:
                if slot is not None:
                    self._process(slot)
                self._service()
            except _HaltedError:
                self._pipeline = Pipeline(self._take_fault)

    def _process(self, slot: Slot) -> None:
        try:
            command = self._fetch(slot)
            try:
                self._execute(slot, command)
            finally:
                self._count_bytes()
        except CommandError as error:
            self.state.finish_execution(self._epoch, failed=True)
            self._pipeline.push_failed(slot, error)
        else:
            self.state.finish_execution(self._epoch, failed=False)
            self._pipeline.push_done(slot, command, time.monotonic_ns())

    def _fetch(self, slot: Slot) -> Command:
        with self.state.effect(self._epoch):
            entry = self._memory.fetch(slot.address, ENTRY_SIZE)
        command = parse_command(entry, compute=self.compute)
        self._ports.trace(
            "gpu_start",
            engine=self.index,
            index=slot.index,
            opcode=command.opcode.name,
            size=command.size,
            seq=command.seq if command.fence else None,
        )
        return command

    def _execute(self, slot: Slot, command: Command) -> None:
        hang = self._take_fault("hang_engine")
        while hang is not None and not hang.cleared:
            self._pause(time.monotonic_ns() + HANG_POLL_NS)
        if command.opcode in _TRANSFERS:
            self._transfer(slot, command)
        elif command.opcode is Opcode.SEM_WAIT:
            self._wait_semaphore(command)
        elif command.opcode is Opcode.SEM_RELEASE:
            self._write_word(command, command.arg0)
            self._ports.semaphore_released(self.index)
        elif command.opcode is Opcode.TIMESTAMP:
            self._write_word(command, time.monotonic_ns())
        elif command.opcode is Opcode.DELAY:
            self._delay(time.monotonic_ns() + command.arg0)

    def _transfer(self, slot: Slot, command: Command) -> None:
        early = self._take_fault("early_completion")
        if early is None:
            self._advance(start_transfer(command, self._memory))
            return
        due = time.monotonic_ns() + round(early.ms * 1e6)
        self._agenda.put(due, partial(self._late_transfer, slot, command))

    def _advance(self, work: Iterator[None]) -> None:
        while True:
            with self.state.effect(self._epoch):
                if next(work, self) is self:
                    return
            self._service()

    def _late_transfer(self, slot: Slot, command: Command) -> None:
        work = start_transfer(command, self._memory)
        try:
            while True:
                with self.state.effect(self._epoch):
                    if next(work, self) is self:
                        break
        except CommandError as error:
            self._stop(slot, error)
        finally:
            self._count_bytes()
        self._ports.trace("gpu_late_data", engine=self.index, index=slot.index)

    def _wait_semaphore(self, command: Command) -> None:
        deadline = time.monotonic_ns() + command.arg1 if command.arg1 else None
        self.state.set_waiting(self._epoch, True)
        while True:
            kicks = self.state.kicks
            with self.state.effect(self._epoch):
                value = self._memory.read_word(command.dst.space, command.dst.address)
            if _compare(value, command):
                self.state.set_waiting(self._epoch, False)
                return
            now = time.monotonic_ns()
            if deadline is not None and now >= deadline:
                raise CommandError(ErrorCode.SEM_TIMEOUT, command.dst.address)
            poll = now + SEMAPHORE_POLL_NS
            self._pause(poll if deadline is None else min(poll, deadline), kicks)

    def _write_word(self, command: Command, value: int) -> None:
        with self.state.effect(self._epoch):
            self._memory.write_word(command.dst.space, command.dst.address, value)

    def _delay(self, until: int) -> None:
        while time.monotonic_ns() < until:
            self._pause(until)

    def _pause(self, until: int, kicks: int | None = None) -> None:
        due = self._next_due()
        self.state.pause(self._epoch, until if due is None else min(until, due), kicks)
        self._service()

    def _next_due(self) -> int | None:
        return min(filter(None, (self._pipeline.next_due(), self._agenda.next_due())), default=None)

    def _service(self) -> None:
        """Let out what is due."""
        while True:
            now = time.monotonic_ns()
            if batch := self._pipeline.pop_ready(now):
                self._retire(batch)
            elif action := self._agenda.pop_due(now):
                action()
            else:
                return

    def _retire(self, batch: Batch) -> None:
        for completion in batch.completions:
            try:
                if completion.error is not None:
                    raise completion.error
                self._complete(completion)
            except CommandError as error:
                self._stop(completion.slot, error)
            self._ports.trace("gpu_done", engine=self.index, index=completion.slot.index)
        self.state.retire(self._epoch, batch.head, len(batch.completions))

    def _complete(self, completion: Completion) -> None:
        command = completion.command
        with self.state.effect(self._epoch):
            # Before its fence is seen: who waited for that may ask for counters next.
            self._ports.count(self.index, "commands")
            if command is not None and command.fence:
                self._write_fence(completion.slot, command.seq)
            if command is not None and command.irq and self._ports.flag_completion(self.index):
                self._interrupt()

    def _write_fence(self, slot: Slot, seq: int) -> None:
        if slot.ring.fence_address:
            self._memory.write_word(Space.SYSTEM, slot.ring.fence_address, seq)
        with self.state.registers(self._epoch):
            self.state.fence_seq = seq
        self._ports.count(self.index, "fences")
        self._ports.trace("gpu_fence", engine=self.index, index=slot.index, seq=seq)

    def _interrupt(self) -> None:
        if self._take_fault("lose_interrupt"):
            self._ports.count(self.index, "interrupts_lost")
            return
        if delay := self._take_fault("delay_interrupt"):
            self._agenda.put(time.monotonic_ns() + round(delay.ms * 1e6), self._late_interrupt)
            return
        self._ports.send_completion(self.index)
        if self._take_fault("duplicate_interrupt"):
            self._ports.send_completion(self.index)

    def _late_interrupt(self) -> None:
        with self.state.effect(self._epoch):
            self._ports.send_completion(self.index)

    def _stop(self, slot: Slot, error: CommandError) -> NoReturn:
        with self.state.effect(self._epoch):
            self._ports.trace(
                "gpu_error",
                engine=self.index,
                index=slot.index,
                code=error.code.name,
                address=error.address,
            )
            self.state.stop(self._epoch, error.code, slot.index, error.address)
            self._ports.flag_error(self.index)
        raise _HaltedError

    def _count_bytes(self) -> None:
        memory = self._memory
        if memory.bytes_read:
            self._ports.count(self.index, "bytes_read", memory.bytes_read)
        if memory.bytes_written:
            self._ports.count(self.index, "bytes_written", memory.bytes_written)
        memory.bytes_read = memory.bytes_written = 0


def _compare(value: int, command: Command) -> bool:
    if command.arg32 == Compare.EQUAL:
        return value == command.arg0
    if command.arg32 == Compare.GREATER_EQUAL:
        return value >= command.arg0
    return value & command.arg0 != 0
