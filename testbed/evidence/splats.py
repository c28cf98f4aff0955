"""Kernel splats: oopses, warnings and sanitizer reports in a kernel log. Pure.

Reads ``/dev/kmsg`` records (``6,123,4567890,-;text``) and console text with or without time stamps and
caller ids. With caller ids (CONFIG_PRINTK_CALLER) interleaved reports are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from testbed.evidence.splat_kinds import (
    CLOSING_RULE,
    CUT_HERE,
    END_TRACE,
    FOLLOWS,
    RULE,
    SECONDARY_PANIC,
    Trigger,
    find_trigger,
    is_report_line,
)

_KMSG = re.compile(r"^(\d+),(\d+),(\d+),([^;]*);(.*)$")
_KMSG_CALLER = re.compile(r"caller=([TC]\d+)")
_CONSOLE = re.compile(r"^(?:<\d+>)?\[\s*(\d+\.\d+)\](?:\[\s*([TC]\d+)\])? ?(.*)$")
_FRAME = re.compile(r"^ ?(?!\?)\s*([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
_RIP = re.compile(r"(?:RIP: \w+:|pc : |epc : )([A-Za-z_][\w.]*)\+0x")
_NOT_THE_CULPRIT = re.compile(
    r"^(dump_stack|show_stack|show_trace|__?dump_|print_|report_|kasan_|__kasan|__asan|kfence_|check_memory"
    r"|__warn|warn_slowpath|ubsan|__ubsan|handle_|mark_lock|check_noncircular|_*lock|_*mutex|_*down_|__might"
    r"|might_|___might|sched_show|show_|rcu_|nmi_|arch_trigger|sysvec_|asm_|exc_|__schedule|schedule|panic"
    r"|vpanic|bad_page|spin_bug|do_raw|_raw_|check_irq|watchdog|refcount_warn|__list_|nobody|__report_bad)"
)
_USER_FACILITY = 8
_MAX_LINES = 300
_MAX_GAP_LINES = 12
_MAX_GAP_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Splat:
    """One report of the kernel about itself. Lines count from 1 and include both ends."""

    kind: str
    """oops, general_protection, bug, warning, kasan, lockdep, hung_task ... (`splat_kinds`)."""
    title: str
    """Like syzkaller's: ``WARNING in tb_probe``."""
    message: str
    """The line that begins it, as the kernel printed it."""
    first_line: int
    last_line: int
    text: tuple[str, ...]
    """Its lines without prefixes."""
    panic: str | None = None
    """Reason of the panic that it led to."""

    @property
    def full_title(self) -> str:
        """The title, with the panic if it led to one."""
        return f"{self.title} (then a panic: {self.panic})" if self.panic else self.title


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log, taken apart."""

    number: int
    seconds: float | None
    caller: str
    text: str
    from_user: bool = False
    """Written to /dev/kmsg by a program, so not the kernel's own words."""


@dataclass(slots=True)
class _Open:
    trigger: Trigger
    lines: list[LogLine]
    kept: int = 1
    """How many of ``lines`` belong to it for sure."""
    panic: str | None = None
    ended: bool = False
    title: str = field(default="")


def parse_log(text: str) -> Iterator[LogLine]:
    """Yield the lines of a log in either form."""
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.rstrip("\r")
        if found := _KMSG.match(line):
            caller = _KMSG_CALLER.search(found[4])
            yield LogLine(
                number,
                int(found[3]) / 1e6,
                caller[1] if caller else "",
                found[5],
                int(found[1]) >= _USER_FACILITY,
            )
        elif found := _CONSOLE.match(line):
            yield LogLine(number, float(found[1]), found[2] or "", found[3])
        elif line:
            yield LogLine(number, None, "", line)


def find_splats(log: str | Iterable[LogLine]) -> list[Splat]:
    """Return the splats in a log (its text, or what `parse_log` made of it), in order.

    One cause is one splat: an oops takes its panic with it.
    """
    found: list[_Open] = []
    current: dict[str, _Open] = {}
    before: dict[str, list[LogLine]] = {}
    for line in _lines(log):
        if line.from_user:
            continue
        opened = current.get(line.caller)
        if opened is not None and not opened.ended and _is_over(opened, line):
            opened.ended = True
        trigger = find_trigger(line.text)
        if trigger is not None and not _absorb(trigger, line, opened, found):
            heading = _heading(before.get(line.caller, []))
            if opened is not None and heading and not opened.ended:
                _give_back(opened, heading[0])
            opened = _Open(trigger, [*heading, line])
            opened.kept = len(opened.lines)
            found.append(opened)
            current[line.caller] = opened
        elif opened is not None and not opened.ended:
            _extend(opened, line)
        before[line.caller] = [*before.get(line.caller, []), line][-3:]
    return [_finish(item) for item in found]


def user_messages(log: str | Iterable[LogLine]) -> frozenset[str]:
    """Return what programs wrote to /dev/kmsg: on the console it looks like the kernel's own words."""
    return frozenset(line.text for line in _lines(log) if line.from_user)


def _lines(log: str | Iterable[LogLine]) -> Iterable[LogLine]:
    return parse_log(log) if isinstance(log, str) else log


def _absorb(trigger: Trigger, line: LogLine, opened: _Open | None, found: list[_Open]) -> bool:
    """Whether ``line`` is part of an earlier splat instead of beginning one; it is added to that."""
    if trigger.kind == "panic" and found and SECONDARY_PANIC.search(trigger.subject):
        cause = found[-1]
        if cause.panic is None:
            cause.panic = trigger.subject
            cause.lines = [*cause.lines[: cause.kept], line]
            cause.kept = len(cause.lines)
            cause.ended = True
        return True
    if opened is None or opened.ended:
        return False
    if trigger.kind in FOLLOWS.get(opened.trigger.kind, ()):
        _extend(opened, line, sure=True)
        return True
    if opened.trigger.kind in trigger.headings:
        # The cause was named first ("refcount_t: underflow"), then came the WARNING that reports it.
        _extend(opened, line, sure=True)
        return True
    return False


def _heading(before: list[LogLine]) -> list[LogLine]:
    """Return the ruler or "cut here" line that stands above a trigger."""
    for position in reversed(range(len(before))):
        if CUT_HERE in before[position].text or RULE.match(before[position].text):
            return before[position:]
    return []


def _give_back(opened: _Open, first: LogLine) -> None:
    """Take the heading of the next splat, and what follows it, out of this one."""
    opened.lines = [line for line in opened.lines if line.number < first.number] or opened.lines[:1]
    opened.kept = min(opened.kept, len(opened.lines))


def _extend(opened: _Open, line: LogLine, *, sure: bool = False) -> None:
    opened.lines.append(line)
    if sure or is_report_line(line.text):
        opened.kept = len(opened.lines)
    if END_TRACE.search(line.text) or (opened.trigger.kind in CLOSING_RULE and RULE.match(line.text)):
        opened.kept = len(opened.lines)
        opened.ended = True


def _is_over(opened: _Open, line: LogLine) -> bool:
    last = opened.lines[-1]
    if len(opened.lines) >= _MAX_LINES or len(opened.lines) - opened.kept >= _MAX_GAP_LINES:
        return True
    if last.seconds is None or line.seconds is None:
        return False
    return line.seconds - last.seconds > _MAX_GAP_SECONDS


def _finish(opened: _Open) -> Splat:
    lines = opened.lines[: opened.kept]
    trigger = opened.trigger
    place = trigger.place or _culprit(line.text for line in lines)
    title = trigger.title if not place or trigger.complete else f"{trigger.title} in {place}"
    return Splat(
        kind=trigger.kind,
        title=title,
        message=trigger.message,
        first_line=lines[0].number,
        last_line=max(line.number for line in lines),
        text=tuple(line.text for line in lines),
        panic=opened.panic,
    )


def _culprit(texts: Iterable[str]) -> str | None:
    """Return the function to blame: where the instruction pointer was, else the top of the call trace."""
    in_trace = False
    frame = None
    for text in texts:
        if (rip := _RIP.search(text)) and not _NOT_THE_CULPRIT.match(rip[1]) and frame is None:
            return rip[1]
        if "Call Trace:" in text or "Call trace:" in text:
            in_trace = True
        elif in_trace and frame is None and (found := _FRAME.match(text)):
            frame = None if _NOT_THE_CULPRIT.match(found[1]) else found[1]
    return frame
