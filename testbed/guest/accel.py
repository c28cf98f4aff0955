"""Accel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Accel:
    """The accelerator that guests run under, and why."""

    name: Literal["kvm", "tcg"]
    reason: str
