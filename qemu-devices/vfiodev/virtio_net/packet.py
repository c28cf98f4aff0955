"""What the device reads in a frame: Ethernet, VLAN, IPv4, IPv6, TCP, UDP, and where the headers end."""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

ETH_HEADER: Final = 14
ETH_IPV4: Final = 0x0800
ETH_IPV6: Final = 0x86DD
VLAN_TYPES: Final = (0x8100, 0x88A8)
MAX_VLANS: Final = 2
MAX_EXTENSIONS: Final = 8
TCP: Final = 6
UDP: Final = 17
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
TCP4, TCP6, UDP4, UDP6 = 1, 2, 4, 8
ALL_TYPES: Final = TCP4 | TCP6 | UDP4 | UDP6
_PORTS: Final = struct.Struct(">HH")
_IPV4: Final = struct.Struct(">BxHxxHxBxx4s4s")
_IPV6: Final = struct.Struct(">B3xHBx16s16s")


class Reason(IntEnum):
    """Why a packet is not split: `split_reason`."""

    SPLIT = 0
    DISABLED = 1
    NO_TRANSPORT = 2
    FRAGMENT = 3
    MALFORMED = 4
    NO_ROOM = 5
    EXTENSIONS = 6
    THRESHOLD = 7


@dataclass(slots=True)
class Parsed:
    """A frame's structure.

    `kind` is one of TCP4, TCP6, UDP4, UDP6, or 0, and then `reason` says why; only with a kind are
    `transport`, `header_end` and the ports valid. `end` is where the IP packet ends, without padding.
    """

    kind: int = 0
    reason: Reason = Reason.NO_TRANSPORT
    version: int = 0
    protocol: int = 0
    vlan: int | None = None
    network: int = ETH_HEADER
    transport: int = 0
    header_end: int = 0
    end: int = 0
    source: bytes = b""
    target: bytes = b""
    sport: int = 0
    dport: int = 0


@dataclass(slots=True)
class Frame:
    """A frame on the wire.

    `partial`: the checksum field at `csum_start + csum_offset` holds the sum of the pseudo-header, the rest
    is left to whoever receives it. `gso_size` not 0: a packet to be cut into segments.
    """

    data: memoryview
    number: int
    pair: int
    parsed: Parsed
    partial: bool = False
    csum_start: int = 0
    csum_offset: int = 0
    gso_type: int = 0
    gso_size: int = 0


def parse(data: memoryview) -> Parsed:
    """The structure of a frame; never raises."""
    found = Parsed(end=len(data))
    if len(data) < ETH_HEADER:
        return found
    at, ethertype = ETH_HEADER, data[12] << 8 | data[13]
    tags = 0
    while ethertype in VLAN_TYPES and tags < MAX_VLANS and at + 4 <= len(data):
        if found.vlan is None:
            found.vlan = data[at] << 8 | data[at + 1]
        ethertype = data[at + 2] << 8 | data[at + 3]
        at += 4
        tags += 1
    found.network = at
    if ethertype == ETH_IPV4:
        _parse_ipv4(data, at, found)
    elif ethertype == ETH_IPV6:
        _parse_ipv6(data, at, found)
    return found


def _parse_ipv4(data: memoryview, at: int, found: Parsed) -> None:
    if at + 20 > len(data):
        found.reason = Reason.MALFORMED
        return
    first, total, fragment, protocol, found.source, found.target = _IPV4.unpack_from(data, at)
    header = (first & 0xF) * 4
    if first >> 4 != 4 or header < 20 or total < header or at + max(total, header) > len(data):
        found.reason = Reason.MALFORMED
        return
    found.version = 4
    found.protocol = protocol
    found.end = at + total
    if fragment & 0x3FFF:
        found.reason = Reason.FRAGMENT
        return
    _parse_transport(data, at + header, protocol, found)


def _parse_ipv6(data: memoryview, at: int, found: Parsed) -> None:
    if at + 40 > len(data):
        found.reason = Reason.MALFORMED
        return
    first, length, following, found.source, found.target = _IPV6.unpack_from(data, at)
    if first >> 4 != 6 or at + 40 + length > len(data):
        found.reason = Reason.MALFORMED
        return
    found.version = 6
    found.end = at + 40 + length
    at += 40
    for _ in range(MAX_EXTENSIONS + 1):
        if following not in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION):
            found.protocol = following
            _parse_transport(data, at, following, found)
            return
        if at + 8 > found.end:
            found.reason = Reason.MALFORMED
            return
        if following == FRAGMENT:
            if (data[at + 2] << 8 | data[at + 3]) & 0xFFF9:
                found.protocol = data[at]
                found.reason = Reason.FRAGMENT
                return
            following, at = data[at], at + 8
        else:
            following, at = data[at], at + 8 * (data[at + 1] + 1)
    found.reason = Reason.EXTENSIONS


def _parse_transport(data: memoryview, at: int, protocol: int, found: Parsed) -> None:
    if protocol not in (TCP, UDP):
        return
    if at + (20 if protocol == TCP else 8) > found.end:
        found.reason = Reason.MALFORMED
        return
    header = (data[at + 12] >> 4) * 4 if protocol == TCP else 8
    if header < 8 or (protocol == TCP and header < 20) or at + header > found.end:
        found.reason = Reason.MALFORMED
        return
    found.sport, found.dport = _PORTS.unpack_from(data, at)
    found.transport = at
    found.header_end = at + header
    found.reason = Reason.SPLIT
    if found.version == 4:
        found.kind = TCP4 if protocol == TCP else UDP4
    else:
        found.kind = TCP6 if protocol == TCP else UDP6
