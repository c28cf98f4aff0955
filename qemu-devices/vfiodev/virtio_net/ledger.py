"""The device-side oracle: what each written byte is and where it went, as counters and as trace events."""

from vfiodev.stats import Stats
from vfiodev.trace import Trace
from vfiodev.virtio.queue import Piece
from vfiodev.virtio_net.spec import PAIR_COUNTERS, STATS_COUNT


class Ledger:
    """Counts of one batch are collected and added at its end, since a packet touches a dozen of them. One
    thread at a time uses one ledger; `Stats` does the locking."""

    def __init__(self, stats: Stats, trace: Trace) -> None:
        self._stats = stats
        self.trace = trace
        self._pending: dict[tuple[int, str], int] = {}

    def add(self, pair: int, name: str, amount: int = 1) -> None:
        """Count for a pair."""
        key = (pair, name)
        self._pending[key] = self._pending.get(key, 0) + amount

    def flush(self) -> None:
        """Make what was counted visible."""
        pending, self._pending = self._pending, {}
        for (pair, name), amount in pending.items():
            if amount:
                self._stats.add(f"q{pair}.{name}", amount)
                self._stats.add(name, amount)

    def wrote(self, pair: int, frame: int, kind: str, piece: Piece, *, to_peer: bool) -> None:
        """`kind`, `header` or `payload`, went to an address."""
        address, length = piece
        self.add(pair, f"{kind}_to_{'peer' if to_peer else 'host'}", length)
        self.trace.event(
            "net_piece",
            queue=pair,
            frame=frame,
            kind=kind,
            addr=address,
            len=length,
            to="peer" if to_peer else "host",
        )

    def drop(self, pair: int, frame: int, counter: str) -> None:
        """A frame ends here."""
        self.add(pair, counter)
        self.trace.event("net_drop", queue=pair, frame=frame, reason=counter)

    @staticmethod
    def statistics(stats: Stats, pair: int) -> list[int]:
        """The counters of a pair in the order of the statistics command."""
        values = [stats.get(f"q{pair}.{name}") for name in PAIR_COUNTERS]
        return values + [0] * (STATS_COUNT - len(values))
