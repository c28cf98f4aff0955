"""What a benchmark yields: named rows of figures, and ratios between them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure over ``n`` samples. Names are stable: tools outside the project compare them."""

    name: str
    unit: str
    median: float
    min: float
    max: float
    n: int

    def as_json(self) -> dict[str, Any]:
        """Return the row as it stands in ``--json`` (design: command-line contract)."""
        return asdict(self)


def build_row(name: str, unit: str, samples: Sequence[float]) -> Row:
    """Sum up at least one sample."""
    return Row(
        name=name, unit=unit, median=median(samples), min=min(samples), max=max(samples), n=len(samples)
    )


def build_ratio(name: str, over: Sequence[float], under: Sequence[float]) -> Row:
    """Divide two series pair by pair: both were measured in turn, so a slow moment hits both."""
    return build_row(name, "ratio", [a / b for a, b in zip(over, under, strict=True)])
