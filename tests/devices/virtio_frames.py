"""Frames for the tests, built field by field, with checksums of their own making."""

import struct

MACS = bytes.fromhex("525400000002525400000001")
SOURCE4, TARGET4 = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
SOURCE6, TARGET6 = bytes.fromhex("fd09" + "00" * 13 + "01"), bytes.fromhex("fd09" + "00" * 13 + "02")


def fold(data: bytes) -> int:
    """The one's complement sum, word by word."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def tcp(
    payload: bytes, options: bytes = b"", sport: int = 1000, dport: int = 2000, flags: int = 0x18
) -> bytes:
    """A TCP segment with checksum 0."""
    header = struct.pack(">HHIIBBHHH", sport, dport, 7, 9, (5 + len(options) // 4) << 4, flags, 512, 0, 0)
    return header + options + payload


def udp(payload: bytes, sport: int = 1000, dport: int = 2000) -> bytes:
    """A UDP datagram with checksum 0."""
    return struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload


def ipv4(body: bytes, protocol: int = 6, options: bytes = b"", fragment: int = 0) -> bytes:
    """An IPv4 packet; the transport checksum is filled in."""
    size = 20 + len(options)
    body = _sum(body, protocol, SOURCE4 + TARGET4) if not fragment else body
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x40 | size // 4, 0, size + len(body), 1, fragment, 64, protocol, 0, SOURCE4, TARGET4,
    ) + options  # fmt: skip
    return head[:10] + struct.pack(">H", 0xFFFF - fold(head)) + head[12:] + body


def ipv6(body: bytes, protocol: int = 6, extensions: bytes = b"", first: int | None = None) -> bytes:
    """An IPv6 packet; `first` is the next-header number in front of the extensions."""
    body = _sum(body, protocol, SOURCE6 + TARGET6)
    following = protocol if first is None else first
    head = struct.pack(">IHBB16s16s", 6 << 28, len(extensions) + len(body), following, 64, SOURCE6, TARGET6)
    return head + extensions + body


def _sum(body: bytes, protocol: int, addresses: bytes) -> bytes:
    at = {6: 16, 17: 6}.get(protocol)
    if at is None:
        return body
    pseudo = addresses + struct.pack(">II", len(body), protocol)
    return body[:at] + struct.pack(">H", (0xFFFF - fold(pseudo + body)) or 0xFFFF) + body[at + 2 :]


def ethernet(packet: bytes, vlans: tuple[int, ...] = ()) -> bytes:
    """A frame, its type from the packet's version."""
    tags = b"".join(struct.pack(">HH", 0x8100, vlan) for vlan in vlans)
    kind = {4: 0x0800, 6: 0x86DD}.get(packet[0] >> 4, 0x88B5)
    return MACS + tags + struct.pack(">H", kind) + packet


def checksum_is_good(frame: bytes) -> bool:
    """Of a TCP frame over IPv4 without options or VLAN."""
    total = int.from_bytes(frame[16:18], "big")
    segment = frame[34 : 14 + total]
    pseudo = frame[26:34] + struct.pack(">II", len(segment), 6)
    return fold(frame[14:34]) == 0xFFFF and fold(pseudo + segment) == 0xFFFF
