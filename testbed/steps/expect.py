"""``expect``: something is so now."""

from __future__ import annotations

import operator
import re
import shlex

from testbed.errors import ScenarioFault
from testbed.guest.session import Guest
from testbed.guest.tail import LogTail
from testbed.outcome import Status
from testbed.scenario.conditions import ConsoleMatch, CounterIs, FileMatch, KmsgAbsent, KmsgMatch
from testbed.scenario.model import ExpectStep
from testbed.steps.base import StepContext, StepResult
from testbed.steps.command import decode, last_line

_MAX_SHOWN = 120


def run_expect(step: ExpectStep, context: StepContext) -> StepResult:
    """Check a log, a counter of a device or a file in the guest."""
    guest = context.guest_of(step)
    match step.expect:
        case KmsgMatch(kmsg=pattern):
            guest.sync_kmsg(context.deadline)
            return _expect_line(guest.kmsg, pattern, context)
        case KmsgAbsent(not_kmsg=pattern):
            guest.sync_kmsg(context.deadline)
            return _expect_no_line(guest.kmsg, pattern, context)
        case ConsoleMatch(console=pattern):
            return _expect_line(guest.console, pattern, context)
        case CounterIs() as wanted:
            return _expect_counter(guest, wanted, context)
        case FileMatch(file=path, matches=pattern):
            return _expect_file(guest, path, pattern, context)


def _expect_line(log: LogTail, pattern: str, context: StepContext) -> StepResult:
    found = log.search(pattern)
    if found is None:
        detail = f"no line of {log.path.name} matches '{pattern}'"
        return StepResult(status=Status.FAIL, detail=detail, pointers=(context.pointer(log.path),))
    return StepResult(
        status=Status.PASS, detail=found.text.strip(), pointers=(context.pointer(log.path, found.line),)
    )


def _expect_no_line(log: LogTail, pattern: str, context: StepContext) -> StepResult:
    found = log.search(pattern)
    if found is None:
        return StepResult(status=Status.PASS, detail=f"no line of {log.path.name} matches '{pattern}'")
    return StepResult(
        status=Status.FAIL,
        detail=f"{log.path.name} has a line that matches '{pattern}': {found.text.strip()}",
        pointers=(context.pointer(log.path, found.line),),
    )


def _expect_counter(guest: Guest, wanted: CounterIs, context: StepContext) -> StepResult:
    value = read_device_counter(guest, wanted.device, wanted.counter, context)
    bounds = (
        ("", wanted.equals, operator.eq),
        ("at least ", wanted.at_least, operator.ge),
        ("at most ", wanted.at_most, operator.le),
    )
    name = f"{wanted.device}.{wanted.counter}"
    for word, bound, holds in bounds:
        if bound is not None and not holds(value, bound):
            return StepResult(status=Status.FAIL, detail=f"{name} is {value}, expected {word}{bound}")
    return StepResult(status=Status.PASS, detail=f"{name} is {value}")


def read_device_counter(guest: Guest, device: str, counter: str, context: StepContext) -> int:
    """Return a counter of a device model. Raises `ScenarioFault` with the known names."""
    stats = guest.device(device, "stats", {}, deadline=context.deadline)
    if counter not in stats:
        known = ", ".join(sorted(stats)) or "none"
        raise ScenarioFault(f"device '{device}' has no counter '{counter}' (known: {known})")
    return int(stats[counter])


def _expect_file(guest: Guest, path: str, pattern: str, context: StepContext) -> StepResult:
    result = guest.run(f"cat {shlex.quote(path)}", deadline=context.deadline)
    if result.exit != 0:
        return StepResult(
            status=Status.FAIL, detail=f"'{path}' cannot be read: {last_line(decode(result.stderr))}"
        )
    text = decode(result.stdout)
    pointers = (f"{guest.name}/{result.pointer}.out:1",) if text else ()
    if re.search(pattern, text, re.MULTILINE):
        return StepResult(status=Status.PASS, detail=f"'{path}' matches", pointers=pointers)
    shown = text.strip()[:_MAX_SHOWN] or "(empty)"
    return StepResult(
        status=Status.FAIL, detail=f"'{path}' does not match '{pattern}': {shown}", pointers=pointers
    )
