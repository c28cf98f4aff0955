"""What a guest session is given besides its plan."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from testbed.deadline import CancellableDeadline, Stop
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
    cold: bool = False
    """Boot from power-on instead of cloning a base snapshot."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """What the guest has from the start: absolute path in the guest to a file of ours. All are executable."""
    stop: Stop = field(default_factory=Stop)
    """Once set, what waits for the guest gives up at its next look."""

    def deadline(self, seconds: float, what: str) -> CancellableDeadline:
        """Return a deadline ``seconds`` of the reference machine from now."""
        return CancellableDeadline(time.monotonic() + seconds * self.scale, what, self.stop)
