"""Which queue pair a received frame goes to: destination filter, n-tuple rules, receive-side scaling."""

import struct
from dataclasses import dataclass, field
from typing import Final

from vfiodev.virtio_net.checksum import Toeplitz
from vfiodev.virtio_net.packet import TCP, TCP4, TCP6, UDP, Frame, Parsed
from vfiodev.virtio_net.spec import RULE_SIZE, RULES

DROP: Final = 0xFFFF
ANYWHERE: Final = 0xFFFFFFFF
BROADCAST: Final = b"\xff" * 6
_RULE: Final = struct.Struct("<IHBB16s16s16s16s8sHHI")
_PORTS: Final = struct.Struct(">HHHH")
_ZEROS: Final = bytes(16)
HASH_IPV4, HASH_TCPV4, HASH_UDPV4, HASH_IPV6, HASH_TCPV6, HASH_UDPV6 = 1, 2, 4, 8, 16, 32
REPORTS: Final = {HASH_IPV4: 1, HASH_TCPV4: 2, HASH_UDPV4: 3, HASH_IPV6: 4, HASH_TCPV6: 5, HASH_UDPV6: 6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One n-tuple rule; values are masked already."""

    location: int
    queue: int
    version: int
    protocol: int
    source: tuple[int, int]
    target: tuple[int, int]
    ports: tuple[int, int, int, int]
    vlan: tuple[int, int]
    raw: bytes

    def matches(self, parsed: Parsed) -> bool:
        """Whether a frame is what the rule describes."""
        vlan, vlan_mask = self.vlan
        if vlan_mask and (parsed.vlan is None or parsed.vlan & vlan_mask != vlan):
            return False
        if self.version and parsed.version != self.version:
            return False
        if self.protocol and parsed.protocol != self.protocol:
            return False
        return self._matches_addresses(parsed) and self._matches_ports(parsed)

    def _matches_addresses(self, parsed: Parsed) -> bool:
        for (value, mask), raw in ((self.source, parsed.source), (self.target, parsed.target)):
            if mask and int.from_bytes(raw.ljust(16, b"\0"), "big") & mask != value:
                return False
        return True

    def _matches_ports(self, parsed: Parsed) -> bool:
        sport, sport_mask, dport, dport_mask = self.ports
        if not sport_mask and not dport_mask:
            return True
        return bool(parsed.kind) and parsed.sport & sport_mask == sport and parsed.dport & dport_mask == dport


def parse_rule(raw: bytes, pairs: int) -> Rule | None:
    """A rule from its 88 bytes, or None when it cannot be."""
    if len(raw) != RULE_SIZE:
        return None
    location, queue, version, protocol, *rest = _RULE.unpack(raw)
    source, source_mask, target, target_mask, ports, vlan, vlan_mask, reserved = rest
    sport, sport_mask, dport, dport_mask = _PORTS.unpack(ports)
    bad = (
        (location >= RULES and location != ANYWHERE)
        or (queue >= pairs and queue != DROP)
        or version not in (0, 4, 6)
        or protocol not in (0, TCP, UDP)
        or reserved
        or ((sport_mask or dport_mask) and not protocol)
        or (not version and (source_mask != _ZEROS or target_mask != _ZEROS or protocol))
        or (version == 4 and (any(source_mask[4:]) or any(target_mask[4:])))
    )
    if bad:
        return None
    return Rule(
        location=location,
        queue=queue,
        version=version,
        protocol=protocol,
        source=_masked(source, source_mask),
        target=_masked(target, target_mask),
        ports=(sport & sport_mask, sport_mask, dport & dport_mask, dport_mask),
        vlan=(vlan & vlan_mask, vlan_mask),
        raw=raw,
    )


def _masked(value: bytes, mask: bytes) -> tuple[int, int]:
    bits = int.from_bytes(mask, "big")
    return int.from_bytes(value, "big") & bits, bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Rss:
    """Receive-side scaling as the driver configured it."""

    types: int
    table: tuple[int, ...]
    unclassified: int
    toeplitz: Toeplitz

    def hash(self, parsed: Parsed) -> tuple[int, int]:
        """The hash and its report type; (0, 0) for a frame of no enabled type."""
        if not parsed.version:
            return 0, 0
        addresses = parsed.source + parsed.target
        if parsed.kind:
            tcp = parsed.kind & (TCP4 | TCP6)
            if parsed.version == 4:
                wanted = HASH_TCPV4 if tcp else HASH_UDPV4
            else:
                wanted = HASH_TCPV6 if tcp else HASH_UDPV6
            if self.types & wanted:
                ports = struct.pack(">HH", parsed.sport, parsed.dport)
                return self.toeplitz.hash(addresses + ports), REPORTS[wanted]
        wanted = HASH_IPV4 if parsed.version == 4 else HASH_IPV6
        if self.types & wanted:
            return self.toeplitz.hash(addresses), REPORTS[wanted]
        return 0, 0


@dataclass(slots=True)
class Steering:
    """What the control queue configured. Replaced as a whole at a device reset, read without a lock."""

    mac: bytes
    promiscuous: bool = True
    all_multicast: bool = False
    addresses: frozenset[bytes] = frozenset()
    groups: frozenset[bytes] = frozenset()
    pairs: int = 1
    rss: Rss | None = None
    rules: dict[int, Rule] = field(default_factory=dict)
    ordered: tuple[Rule, ...] = ()

    def accepts(self, frame: Frame) -> bool:
        """The destination filter."""
        if self.promiscuous or len(frame.data) < 6:
            return self.promiscuous
        target = bytes(frame.data[:6])
        if target[0] & 1:
            return target == BROADCAST or self.all_multicast or target in self.groups
        return target == self.mac or target in self.addresses

    def choose(self, frame: Frame) -> tuple[int, int, int]:
        """The pair (DROP for a rule that drops), the hash and its report type."""
        value, report, pair = 0, 0, frame.pair % self.pairs
        if self.rss is not None:
            value, report = self.rss.hash(frame.parsed)
            pair = self.rss.table[value & len(self.rss.table) - 1] if report else self.rss.unclassified
        for rule in self.ordered:
            if rule.matches(frame.parsed):
                return rule.queue, value, report
        return pair, value, report

    def insert(self, rule: Rule) -> int | None:
        """Put a rule into the table; its location, or None when the table is full."""
        location = rule.location
        if location == ANYWHERE:
            free = [place for place in range(RULES - 1, -1, -1) if place not in self.rules]
            if not free:
                return None
            location = free[0]
        self.rules[location] = rule
        self._order()
        return location

    def delete(self, location: int) -> bool:
        """Remove a rule; False when there is none."""
        found = self.rules.pop(location, None) is not None
        self._order()
        return found

    def clear(self) -> None:
        """Remove all rules."""
        self.rules.clear()
        self._order()

    def _order(self) -> None:
        self.ordered = tuple(self.rules[location] for location in sorted(self.rules))
