"""Internet checksums (RFC 1071), TCP segmentation, and the Toeplitz hash of receive-side scaling."""

import struct
from collections.abc import Iterator
from typing import Final

import numpy as np

from vfiodev.virtio_net.packet import TCP, UDP, Frame, Parsed, parse

SMALL: Final = 256
FIN_PSH: Final = 0x09
CWR: Final = 0x80
CACHE_LIMIT: Final = 4096
CHECKSUM_AT: Final = {TCP: 16, UDP: 6}


def ones_sum(data: memoryview | bytes) -> int:
    """The sum of big-endian 16-bit words modulo 65535."""
    length = len(data)
    if length < SMALL:
        padded = bytes(data) + b"\0" if length & 1 else bytes(data)
        return int.from_bytes(padded, "big") % 0xFFFF
    total = int(np.frombuffer(data, dtype=">u2", count=length // 2).sum(dtype=np.uint64))
    if length & 1:
        total += data[-1] << 8
    return total % 0xFFFF


def _pseudo_sum(parsed: Parsed) -> int:
    protocol = TCP if parsed.kind & 3 else UDP
    return ones_sum(parsed.source + parsed.target) + protocol + parsed.end - parsed.transport


def verify(frame: Frame) -> bool | None:
    """Whether the TCP or UDP checksum of a frame is right; None when there is none."""
    parsed = frame.parsed
    if not parsed.kind:
        return None
    at = parsed.transport
    if parsed.kind & 12 and not frame.data[at + 6] and not frame.data[at + 7]:
        return None
    return (_pseudo_sum(parsed) + ones_sum(frame.data[at : parsed.end])) % 0xFFFF == 0


def complete(frame: Frame) -> None:
    """Finish a partial checksum, in place."""
    if not frame.partial:
        return
    at = frame.csum_start + frame.csum_offset
    value = 0xFFFF - ones_sum(frame.data[frame.csum_start : frame.parsed.end]) % 0xFFFF
    struct.pack_into(">H", frame.data, at, value)
    frame.partial = False


def segments(frame: Frame) -> Iterator[Frame]:
    """The segments of a TSO packet, checksums complete."""
    parsed, size = frame.parsed, frame.gso_size
    header = bytes(frame.data[: parsed.header_end])
    (sequence,) = struct.unpack_from(">I", header, parsed.transport + 4)
    flags = header[parsed.transport + 13]
    ident = int.from_bytes(header[parsed.network + 4 : parsed.network + 6], "big")
    for number, start in enumerate(range(parsed.header_end, parsed.end, size)):
        payload = frame.data[start : min(start + size, parsed.end)]
        last = start + size >= parsed.end
        data = bytearray(header)
        data += payload
        at = parsed.transport
        struct.pack_into(">I", data, at + 4, (sequence + number * size) & 0xFFFFFFFF)
        data[at + 13] = flags & ~((0 if last else FIN_PSH) | (CWR if number else 0))
        struct.pack_into(">H", data, at + 16, 0)
        if parsed.version == 4:
            _fix_ipv4(data, parsed, (ident + number) & 0xFFFF)
        else:
            struct.pack_into(">H", data, parsed.network + 4, len(data) - parsed.network - 40)
        made = Frame(memoryview(data), frame.number, frame.pair, parse(memoryview(data)))
        total = _pseudo_sum(made.parsed) + ones_sum(made.data[at:])
        struct.pack_into(">H", data, at + 16, 0xFFFF - total % 0xFFFF)
        yield made


def _fix_ipv4(data: bytearray, parsed: Parsed, ident: int) -> None:
    at = parsed.network
    struct.pack_into(">HH", data, at + 2, len(data) - at, ident)
    struct.pack_into(">H", data, at + 10, 0)
    struct.pack_into(">H", data, at + 10, 0xFFFF - ones_sum(bytes(data[at : at + (data[at] & 0xF) * 4])))


class Toeplitz:
    """The hash of one key; flows that were hashed are remembered."""

    def __init__(self, key: bytes) -> None:
        self._key = int.from_bytes(key.ljust(40, b"\0"), "big")
        self._known: dict[bytes, int] = {}

    def hash(self, data: bytes) -> int:
        """The 32-bit hash of up to 36 bytes."""
        found = self._known.get(data)
        if found is None:
            if len(self._known) >= CACHE_LIMIT:
                self._known.clear()
            found = self._known[data] = self._compute(data)
        return found

    def _compute(self, data: bytes) -> int:
        value, bits = int.from_bytes(data, "big"), 8 * len(data)
        made = 0
        for bit in range(bits):
            if value >> (bits - 1 - bit) & 1:
                made ^= self._key >> (288 - bit) & 0xFFFFFFFF
        return made
