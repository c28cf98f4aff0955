"""The control queue: standard commands (virtio 1.3, 5.1.6.5) and the private classes of the extension."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from vfiodev.virtio_net import spec
from vfiodev.virtio_net.checksum import Toeplitz
from vfiodev.virtio_net.packet import ALL_TYPES
from vfiodev.virtio_net.steering import Rss, Steering, parse_rule

OK, ERROR = 0, 1
UNKNOWN, INVALID, MISSING, FULL = 1, 2, 3, 4
RX, MAC, MQ, GUEST_OFFLOADS = 0, 1, 4, 5
SPLIT, RULE, STATS = 0xE0, 0xE1, 0xE2
_SPLIT: Final = struct.Struct("<HHI")
_SPLIT_REPLY: Final = struct.Struct("<HHI")
_RSS_HEAD: Final = struct.Struct("<IHH")

Answer = tuple[int, bytes]
Handler = Callable[[bytes], Answer]
FAILED: Final[Answer] = (ERROR, b"")
DONE: Final[Answer] = (OK, b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSetting:
    """Header split on one pair: which types, and the size that a frame must exceed."""

    types: int = 0
    threshold: int = 0


NO_SPLIT: Final = SplitSetting()


class Control:
    """What the driver configured by commands. One thread executes them; the data path reads without a lock,
    since each setting is replaced by one assignment."""

    def __init__(
        self, params: spec.Params, statistics: Callable[[int], list[int]], features: int, max_pairs: int
    ) -> None:
        self._params = params
        self._statistics = statistics
        self._features = features
        self._max_pairs = max_pairs
        filters = bool(features >> spec.F_CTRL_RX & 1)
        self.steering = Steering(mac=params.mac, promiscuous=not filters)
        self.offloads = features & sum(1 << bit for bit in spec.OFFLOADS)
        self.split: list[SplitSetting] = [NO_SPLIT] * params.pairs
        self._handlers: Mapping[tuple[int, int], tuple[int, Handler]] = {
            (RX, 0): (spec.F_CTRL_RX, self._promiscuous),
            (RX, 1): (spec.F_CTRL_RX, self._all_multicast),
            (MAC, 0): (spec.F_CTRL_RX, self._mac_table),
            (MAC, 1): (spec.F_CTRL_MAC_ADDR, self._mac_address),
            (MQ, 0): (spec.F_MQ, self._pairs),
            (MQ, 1): (spec.F_RSS, self._rss),
            (GUEST_OFFLOADS, 0): (spec.F_CTRL_GUEST_OFFLOADS, self._offloads),
            (SPLIT, 0): (spec.F_HDR_SPLIT, self._split_set),
            (SPLIT, 1): (spec.F_HDR_SPLIT, self._split_get),
            (RULE, 0): (spec.F_NTUPLE, self._rule_insert),
            (RULE, 1): (spec.F_NTUPLE, self._rule_delete),
            (RULE, 2): (spec.F_NTUPLE, self._rule_list),
            (RULE, 3): (spec.F_NTUPLE, self._rule_get),
            (RULE, 4): (spec.F_NTUPLE, self._rule_clear),
            (STATS, 0): (spec.F_QUEUE_STATS, self._stats),
        }

    def execute(self, request: bytes) -> Answer:
        """Carry out one command; the acknowledgement and the result."""
        if len(request) < 2:
            return FAILED
        feature, handler = self._handlers.get((request[0], request[1]), (0, None))
        if handler is None or not self._features >> feature & 1:
            return FAILED
        return handler(request[2:])

    def offloaded(self, bit: int) -> bool:
        """Whether a receive offload is on now."""
        return bool(self.offloads >> bit & 1)

    def _promiscuous(self, data: bytes) -> Answer:
        if len(data) != 1:
            return FAILED
        self.steering.promiscuous = bool(data[0])
        return DONE

    def _all_multicast(self, data: bytes) -> Answer:
        if len(data) != 1:
            return FAILED
        self.steering.all_multicast = bool(data[0])
        return DONE

    def _mac_table(self, data: bytes) -> Answer:
        tables = []
        for _ in range(2):
            if len(data) < 4:
                return FAILED
            size = 6 * int.from_bytes(data[:4], "little")
            if len(data) < 4 + size:
                return FAILED
            body, data = data[4 : 4 + size], data[4 + size :]
            tables.append(frozenset(body[at : at + 6] for at in range(0, size, 6)))
        self.steering.addresses, self.steering.groups = tables
        return DONE

    def _mac_address(self, data: bytes) -> Answer:
        if len(data) != 6 or data[0] & 1:
            return FAILED
        self.steering.mac = data
        return DONE

    def _pairs(self, data: bytes) -> Answer:
        count = int.from_bytes(data, "little")
        if len(data) != 2 or not 1 <= count <= self._max_pairs:
            return FAILED
        self.steering.rss = None
        self.steering.pairs = count
        return DONE

    def _rss(self, data: bytes) -> Answer:
        if len(data) < _RSS_HEAD.size:
            return FAILED
        types, mask, unclassified = _RSS_HEAD.unpack_from(data)
        entries = mask + 1
        tail = _RSS_HEAD.size + 2 * entries
        if mask & entries or entries > spec.RSS_TABLE or len(data) < tail + 3 or types & ~spec.RSS_TYPES:
            return FAILED
        table = struct.unpack_from(f"<{entries}H", data, _RSS_HEAD.size)
        pairs, key_size = int.from_bytes(data[tail : tail + 2], "little"), data[tail + 2]
        key = data[tail + 3 : tail + 3 + key_size]
        if (
            max(*table, unclassified) >= self._max_pairs
            or not 1 <= pairs <= self._max_pairs
            or key_size > spec.RSS_KEY
            or len(key) != key_size
        ):
            return FAILED
        self.steering.pairs = pairs
        self.steering.rss = Rss(
            types=types, table=table, unclassified=unclassified, toeplitz=Toeplitz(bytes(key))
        )
        return DONE

    def _offloads(self, data: bytes) -> Answer:
        wanted = int.from_bytes(data, "little")
        if len(data) != 8 or wanted & ~self._features:
            return FAILED
        self.offloads = wanted & sum(1 << bit for bit in spec.OFFLOADS)
        return DONE

    def _split_set(self, data: bytes) -> Answer:
        if len(data) != _SPLIT.size:
            return UNKNOWN, b""
        pair, types, threshold = _SPLIT.unpack(data)
        if pair >= self._max_pairs or types & ~ALL_TYPES or threshold > 0xFFFF:
            return INVALID, b""
        self.split[pair] = replace(NO_SPLIT, types=types, threshold=threshold)
        return DONE

    def _split_get(self, data: bytes) -> Answer:
        pair = int.from_bytes(data, "little")
        if len(data) != 2:
            return UNKNOWN, b""
        if pair >= self._max_pairs:
            return INVALID, b""
        setting = self.split[pair]
        return OK, _SPLIT_REPLY.pack(setting.types, 0, setting.threshold)

    def _rule_insert(self, data: bytes) -> Answer:
        if len(data) != spec.RULE_SIZE:
            return UNKNOWN, b""
        rule = parse_rule(data, self._max_pairs)
        if rule is None:
            return INVALID, b""
        location = self.steering.insert(rule)
        return (FULL, b"") if location is None else (OK, location.to_bytes(4, "little"))

    def _rule_delete(self, data: bytes) -> Answer:
        if len(data) != 4:
            return UNKNOWN, b""
        return DONE if self.steering.delete(int.from_bytes(data, "little")) else (MISSING, b"")

    def _rule_list(self, data: bytes) -> Answer:
        if data:
            return UNKNOWN, b""
        locations = sorted(self.steering.rules)
        return OK, struct.pack(f"<{1 + len(locations)}I", len(locations), *locations)

    def _rule_get(self, data: bytes) -> Answer:
        location = int.from_bytes(data, "little")
        if len(data) != 4:
            return UNKNOWN, b""
        rule = self.steering.rules.get(location)
        return (MISSING, b"") if rule is None else (OK, location.to_bytes(4, "little") + rule.raw[4:])

    def _rule_clear(self, data: bytes) -> Answer:
        if data:
            return UNKNOWN, b""
        self.steering.clear()
        return DONE

    def _stats(self, data: bytes) -> Answer:
        pair = int.from_bytes(data, "little")
        if len(data) != 2:
            return UNKNOWN, b""
        if pair >= self._params.pairs:
            return INVALID, b""
        return OK, struct.pack(f"<{spec.STATS_COUNT}Q", *self._statistics(pair))
