"""`Verdict`: what a run folder proves. Saved as ``verdict.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from testbed.outcome import Status, worst


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that made the verdict what it is."""

    status: Status
    text: str
    pointer: str = ""
    """``file:line`` in the run folder; empty when there is no such place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """One step that began."""

    index: str
    verb: str
    name: str
    status: Status
    seconds: float
    detail: str = ""
    pointers: tuple[str, ...] = ()
    began: float = 0.0
    """Seconds after the case began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Status of a case and why, worst reason first. Identical for the same run folder."""

    name: str
    status: Status
    run_dir: str
    reasons: tuple[Reason, ...] = ()
    steps: tuple[StepOutcome, ...] = ()
    seconds: float = 0.0
    kernel: str = ""
    accel: str = ""
    accel_reason: str = ""
    seed: int = 0
    wall: str = ""
    """UTC time at which the case began, ISO 8601."""
    about: str = ""

    @property
    def reason(self) -> str:
        """The first reason in one line; empty for a plain pass."""
        return self.reasons[0].text if self.reasons else ""


def save_verdict(verdict: Verdict, path: Path) -> None:
    """Write ``verdict.json``. It is derived, so an older one is replaced, in one step.

    Raises `OSError` when it cannot be written; then the older one stays.
    """
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_text(json.dumps(verdict_to_json(verdict), indent=1, ensure_ascii=False) + "\n", "utf-8")
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """Return the form that ``verdict.json`` and ``--json`` hold."""
    return asdict(verdict)


def with_reason(verdict: Verdict, status: Status, text: str, *, last: bool = False) -> Verdict:
    """Return ``verdict`` with one more reason: for what could not be written into the evidence.

    It comes before those that are as bad, or after them.
    """
    order = list(Status)
    reason = Reason(status=status, text=text)
    reasons = [*verdict.reasons, reason] if last else [reason, *verdict.reasons]
    reasons.sort(key=lambda reason: order.index(reason.status))
    return replace(verdict, status=worst([verdict.status, status]), reasons=tuple(reasons))
