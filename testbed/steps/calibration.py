"""How slow this machine is now, compared with the one that budgets are written for."""

from __future__ import annotations

import time

_ROUNDS = 5
_REFERENCE_SECONDS = 0.0105
"""Best of `_ROUNDS` of `_work` on the reference machine (2 cores, Python 3.11) while it is idle."""
_LARGEST = 20.0


def probe_scale() -> float:
    """Return by how much budgets are multiplied: 1 on the reference machine and on faster ones.

    Takes some 50 ms. The machine's load of the moment counts, since it slows guests down as well.
    """
    seconds = sorted(_measure() for _ in range(_ROUNDS))[_ROUNDS // 2]
    return round(min(_LARGEST, max(1.0, seconds / _REFERENCE_SECONDS)), 2)


def _measure() -> float:
    began = time.perf_counter()
    _work()
    return time.perf_counter() - began


def _work() -> int:
    total = 0
    for number in range(150_000):
        total = (total * 31 + number) & 0xFFFFFFFF
    return total
