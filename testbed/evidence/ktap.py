"""KTAP: from a tool's text to what it proved. Pure.

Reads KTAP version 1 (Documentation/dev-tools/ktap.rst) and, tolerantly, TAP 12 to 14. Pessimistic: a
report is born crashed, and only a plan with all of its results makes it better.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from testbed.outcome import Status

_STAMP = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\](?:\[\s*[CT]\d+\])? ?")
_VERSION = re.compile(r"K?TAP version \d+\s*$", re.IGNORECASE)
_PLAN = re.compile(r"1\.\.(\d+)\s*(?:#\s*(.*))?$")
_RESULT = re.compile(r"(not )?ok\b(?:\s+(\d+))?(?:\s+-\s|\s+|$)(.*)$")
_DIRECTIVE = re.compile(r"(?:^|\s)#\s*(SKIP|TODO|XFAIL|TIMEOUT|ERROR)\b:?\s*(.*)$", re.IGNORECASE)
_BAIL = re.compile(r"Bail out!\s*(.*)$", re.IGNORECASE)
_MAX_NOTES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One result line without results inside it. ``name`` has those of its parents in front."""

    name: str
    status: Status
    """PASS, FAIL or SKIP."""
    line: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Something wrong with the report itself: FAIL when results are missing, ERROR when it is nonsense."""

    status: Status
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KtapReport:
    """What a tool's output proves. ``status`` is the worst of all, MISS when there was no KTAP."""

    status: Status
    checks: tuple[Check, ...]
    flaws: tuple[Flaw, ...]

    def count(self, status: Status) -> int:
        """Return how many checks have ``status``."""
        return sum(check.status is status for check in self.checks)

    @property
    def summary(self) -> str:
        """One line: what failed first, or how many passed."""
        if self.flaws:
            return self.flaws[0].text
        bad = [check for check in self.checks if check.status is Status.FAIL]
        if bad:
            reason = f": {bad[0].reason}" if bad[0].reason else ""
            return f"{len(bad)} of {len(self.checks)} checks failed: {bad[0].name}{reason}"
        skips = [check for check in self.checks if check.status is Status.SKIP]
        tail = f", {len(skips)} skipped ({skips[0].reason or skips[0].name})" if skips else ""
        passed = self.count(Status.PASS)
        return f"{passed} check{'' if passed == 1 else 's'} passed{tail}"


def parse_ktap(text: str) -> KtapReport:
    """Return what ``text`` proves. Lines that are no KTAP are passed over; lines count from 1."""
    parser = _Parser()
    for number, line in enumerate(text.split("\n"), start=1):
        parser.take(number, _STAMP.sub("", line.rstrip("\r")))
    return parser.finish()


@dataclass(slots=True)
class _Frame:
    """Results at one depth."""

    indent: int
    line: int
    subtest: str = ""
    plan: int | None = None
    plan_skip: str | None = None
    seen: int = 0
    checks: list[Check] = field(default_factory=list)


class _Parser:
    def __init__(self) -> None:
        self._frames: list[_Frame] = []
        self._flaws: list[Flaw] = []
        self._done: list[Check] = []
        self._notes: list[str] = []
        self._line = 0

    def take(self, number: int, line: str) -> None:
        text = line.lstrip(" ")
        indent = len(line) - len(text)
        self._line = number
        if _VERSION.match(text):
            self._open(indent, fresh=True)
        elif plan := _PLAN.match(text):
            self._take_plan(indent, int(plan[1]), plan[2] or "")
        elif text.startswith("#"):
            self._take_note(text.lstrip("# ").strip())
        elif result := _RESULT.match(text):
            self._take_result(indent, result)
        elif bail := _BAIL.match(text):
            self._flaw(Status.FAIL, f"bailed out: {bail[1] or 'no reason given'}")

    def finish(self) -> KtapReport:
        if not self._frames and not self._done and not self._flaws:
            flaw = Flaw(status=Status.MISS, line=self._line, text="there is no KTAP in the output")
            return KtapReport(status=Status.MISS, checks=(), flaws=(flaw,))
        while self._frames:
            frame = self._close()
            if self._frames:
                self._flaw(Status.FAIL, f"results{_inside(frame)} end without the result they belong to")
            self._done += frame.checks
        return KtapReport(status=self._status(), checks=tuple(self._done), flaws=tuple(self._flaws))

    def _status(self) -> Status:
        statuses = [flaw.status for flaw in self._flaws] + [check.status for check in self._done]
        for status in (Status.FAIL, Status.ERROR, Status.MISS, Status.PASS):
            if status in statuses:
                return status
        return Status.SKIP

    def _open(self, indent: int, *, fresh: bool = False) -> _Frame:
        """Return the frame at ``indent``; ``fresh`` starts a new report at that depth."""
        while self._frames and self._frames[-1].indent > indent:
            self._merge_orphan()
        if self._frames and self._frames[-1].indent == indent:
            top = self._frames[-1]
            if not fresh or (top.plan is None and not top.seen):
                return top
            self._merge_orphan()
        frame = _Frame(indent=indent, line=self._line)
        self._frames.append(frame)
        return frame

    def _merge_orphan(self) -> None:
        """End a frame whose own result line never came."""
        frame = self._close()
        if frame.indent:
            self._flaw(Status.FAIL, f"results{_inside(frame)} end without the result they belong to")
        self._done += frame.checks

    def _close(self) -> _Frame:
        frame = self._frames.pop()
        if frame.plan is None:
            if frame.seen:
                self._flaw(Status.FAIL, f"no plan{_inside(frame)}: nobody knows whether results are missing")
            else:
                self._flaw(Status.FAIL, f"the report{_inside(frame)} ends before its plan")
        elif frame.seen < frame.plan:
            missing = frame.plan - frame.seen
            self._flaw(Status.FAIL, f"{missing} of {frame.plan} planned results are missing{_inside(frame)}")
        elif frame.seen > frame.plan:
            self._flaw(Status.ERROR, f"{frame.seen} results where {frame.plan} were planned{_inside(frame)}")
        elif frame.plan == 0:
            self._close_empty(frame)
        return frame

    def _close_empty(self, frame: _Frame) -> None:
        if frame.plan_skip is None:
            self._flaw(Status.ERROR, f"no check was run{_inside(frame)}")
        else:
            name = frame.subtest or "everything"
            reason = frame.plan_skip
            frame.checks.append(Check(name=name, status=Status.SKIP, line=frame.line, reason=reason))

    def _take_plan(self, indent: int, count: int, comment: str) -> None:
        frame = self._open(indent)
        if frame.plan is not None:
            self._flaw(Status.ERROR, f"a second plan{_inside(frame)}")
        skip = re.match(r"SKIP\S*\s*(.*)", comment, re.IGNORECASE)
        frame.plan, frame.plan_skip = count, skip[1] if skip else None

    def _take_note(self, note: str) -> None:
        if note.lower().startswith("subtest:"):
            if self._frames:
                self._frames[-1].subtest = note.split(":", 1)[1].strip()
        elif note:
            self._notes = [*self._notes, note][-_MAX_NOTES:]

    def _take_result(self, indent: int, match: re.Match[str]) -> None:
        children = self._take_children(indent)
        frame = self._open(indent)
        frame.seen += 1
        if match[2] is not None and int(match[2]) != frame.seen:
            self._flaw(Status.ERROR, f"result {match[2]} came where {frame.seen} was due{_inside(frame)}")
        check = self._build_check(match, frame.seen)
        self._notes = []
        if children is None:
            frame.checks.append(check)
            return
        frame.checks += [_below(check.name, child) for child in children.checks]
        if check.status is Status.FAIL and not _any_failed(children):
            frame.checks.append(check)
        elif check.status is Status.PASS and _any_failed(children):
            self._flaw(Status.FAIL, f"'{check.name}' says ok, but a result inside it failed")

    def _take_children(self, indent: int) -> _Frame | None:
        """Close the frames deeper than ``indent``; they belong to the result that comes now."""
        if not self._frames or self._frames[-1].indent <= indent:
            return None
        frame = self._close()
        while self._frames and self._frames[-1].indent > indent:
            outer = self._close()
            outer.checks += frame.checks
            frame = outer
        return frame

    def _build_check(self, match: re.Match[str], number: int) -> Check:
        description = match[3].strip()
        directive = _DIRECTIVE.search(description)
        name = (description[: directive.start()] if directive else description).strip() or f"result {number}"
        word = directive[1].upper() if directive else ""
        if word in ("SKIP", "TODO", "XFAIL"):
            status = Status.SKIP
        else:
            status = Status.FAIL if match[1] or word else Status.PASS
        reason = (directive[2] if directive else "") or "; ".join(self._notes)
        return Check(name=name, status=status, line=self._line, reason=reason)

    def _flaw(self, status: Status, text: str) -> None:
        self._flaws.append(Flaw(status=status, line=self._line, text=text))


def _below(parent: str, check: Check) -> Check:
    return Check(name=f"{parent}: {check.name}", status=check.status, line=check.line, reason=check.reason)


def _any_failed(frame: _Frame) -> bool:
    return any(check.status is Status.FAIL for check in frame.checks)


def _inside(frame: _Frame) -> str:
    return f" in '{frame.subtest}'" if frame.subtest else ""
