"""``wait``: until something is so."""

from __future__ import annotations

from dataclasses import replace

from testbed.deadline import poll_until
from testbed.errors import DeadlineExceeded, ScenarioFault
from testbed.guest.session import Guest
from testbed.guest.ssh import CommandResult
from testbed.guest.tail import LogTail
from testbed.outcome import Status
from testbed.scenario.conditions import (
    CommandSucceeds,
    ConsoleMatch,
    CounterReached,
    KmsgMatch,
    QmpEvent,
)
from testbed.scenario.model import WaitStep
from testbed.steps.base import StepContext, StepResult
from testbed.steps.command import decode, last_line

_LOST_ANSWER = 1.0  # the device host answers at its timeout; this much later it counts as lost
_COMMAND_EVERY = 0.1


def run_wait(step: WaitStep, context: StepContext) -> StepResult:
    """Wait for a log line, a QMP event, a counter or a command; what was there before counts too."""
    guest = context.guest_of(step)
    match step.wait:
        case KmsgMatch(kmsg=pattern):
            return _wait_log(guest.kmsg, pattern, context)
        case ConsoleMatch(console=pattern):
            return _wait_log(guest.console, pattern, context)
        case QmpEvent(qmp=event, data=data):
            found = guest.wait_qmp(event, match=data, deadline=context.deadline)
            return StepResult(status=Status.PASS, detail=f"{event} came (event {found.position})")
        case CounterReached() as wanted:
            return _wait_counter(guest, wanted, context)
        case CommandSucceeds(command=command):
            return _wait_command(guest, command, context)


def _wait_log(log: LogTail, pattern: str, context: StepContext) -> StepResult:
    found = log.wait(pattern, context.deadline)
    return StepResult(
        status=Status.PASS, detail=found.text.strip(), pointers=(context.pointer(log.path, found.line),)
    )


def _wait_counter(guest: Guest, wanted: CounterReached, context: StepContext) -> StepResult:
    seconds = context.deadline.left
    args = {"counter": wanted.counter, "at_least": wanted.at_least, "timeout": seconds}
    name = f"{wanted.device}.{wanted.counter}"
    late = replace(context.deadline, at=context.deadline.at + _LOST_ANSWER)
    try:
        answer = guest.device(wanted.device, "wait", args, deadline=late)
    except ScenarioFault as error:
        # The host refuses an unknown counter at once and a known one at the timeout; it says which.
        if context.deadline.left > _LOST_ANSWER:
            raise
        raise DeadlineExceeded(
            f"timed out: {name} did not reach {wanted.at_least}: {error.message}"
        ) from error
    return StepResult(status=Status.PASS, detail=f"{name} is {answer.get('value')}")


def _wait_command(guest: Guest, command: str, context: StepContext) -> StepResult:
    last: CommandResult | None = None

    def probe() -> CommandResult | None:
        nonlocal last
        last = guest.run(command, deadline=context.deadline)
        return last if last.exit == 0 else None

    try:
        done = poll_until(probe, context.deadline, every=_COMMAND_EVERY)
    except DeadlineExceeded as error:
        if last is None:
            raise
        said = last_line(decode(last.stderr)) or last_line(decode(last.stdout))
        tail = f", saying: {said}" if said else ""
        raise DeadlineExceeded(
            f"{error.message}; the last try ended with status {last.exit}{tail}"
        ) from error
    return StepResult(status=Status.PASS, detail=last_line(decode(done.stdout)))
