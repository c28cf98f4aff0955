"""What a guest session is given besides its plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from testbed.evidence.events import EventLog
from testbed.guest.accel import Accel
from testbed.provision.model import Provisioned


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """Everything around one guest."""

    provisioned: Provisioned
    accel: Accel
    folder: Path
    """``GUEST/`` in the run folder."""
    events: EventLog
    scale: float = 1.0
    """How many times slower than the reference machine; budgets are multiplied by it."""
    seed: int = 0
