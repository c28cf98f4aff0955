"""Numbers of `docs/devices/virtio-net.md` and of virtio 1.3, 5.1, and the parameters of a device."""

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vfiodev.device import check_params, int_param
from vfiodev.errors import ConfigError
from vfiodev.ranges import is_power_of_two
from vfiodev.virtio.transport import CONFIG_SIZE, TRANSPORT_FEATURES

F_CSUM, F_GUEST_CSUM, F_CTRL_GUEST_OFFLOADS, F_MTU, F_MAC = 0, 1, 2, 3, 5
F_GUEST_TSO4, F_GUEST_TSO6, F_GUEST_ECN = 7, 8, 9
F_HOST_TSO4, F_HOST_TSO6, F_HOST_ECN = 11, 12, 13
F_MRG_RXBUF, F_STATUS, F_CTRL_VQ, F_CTRL_RX, F_MQ, F_CTRL_MAC_ADDR = 15, 16, 17, 18, 22, 23
F_RSS, F_SPEED_DUPLEX = 60, 63
F_HDR_SPLIT, F_NTUPLE, F_QUEUE_STATS = 100, 101, 102
STANDARD: Final = (
    *(F_CSUM, F_GUEST_CSUM, F_CTRL_GUEST_OFFLOADS, F_MTU, F_MAC, F_GUEST_TSO4, F_GUEST_TSO6, F_GUEST_ECN),
    *(
        F_HOST_TSO4,
        F_HOST_TSO6,
        F_HOST_ECN,
        F_MRG_RXBUF,
        F_STATUS,
        F_CTRL_VQ,
        F_CTRL_RX,
        F_MQ,
        F_CTRL_MAC_ADDR,
    ),
    *(F_RSS, F_SPEED_DUPLEX, *TRANSPORT_FEATURES),
)
EXTENSION: Final = (F_HDR_SPLIT, F_NTUPLE, F_QUEUE_STATS)
NEEDS: Final = {
    F_GUEST_TSO4: (F_GUEST_CSUM,),
    F_GUEST_TSO6: (F_GUEST_CSUM,),
    F_HOST_TSO4: (F_CSUM,),
    F_HOST_TSO6: (F_CSUM,),
    F_CTRL_RX: (F_CTRL_VQ,),
    F_CTRL_GUEST_OFFLOADS: (F_CTRL_VQ,),
    F_MQ: (F_CTRL_VQ,),
    F_CTRL_MAC_ADDR: (F_CTRL_VQ,),
    F_RSS: (F_CTRL_VQ,),
    F_HDR_SPLIT: (F_CTRL_VQ, F_MRG_RXBUF),
    F_NTUPLE: (F_CTRL_VQ,),
    F_QUEUE_STATS: (F_CTRL_VQ,),
}
NEEDS_ANY: Final = {F_GUEST_ECN: (F_GUEST_TSO4, F_GUEST_TSO6), F_HOST_ECN: (F_HOST_TSO4, F_HOST_TSO6)}
OFFLOADS: Final = (F_GUEST_CSUM, F_GUEST_TSO4, F_GUEST_TSO6, F_GUEST_ECN)

HDR_NEEDS_CSUM, HDR_DATA_VALID = 1, 2
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_ECN = 0, 1, 4, 0x80
TX_HEADER: Final = struct.Struct("<BBHHHHH")
LONG_HEADER: Final = struct.Struct("<BBHHHHHHBBIHH")
SPLIT_DONE, HDR_VALID = 1, 2
MAX_FRAME: Final = 65_550
VLAN_FRAME: Final = 18

MAX_PAIRS: Final = 16
RSS_KEY: Final = 40
RSS_TABLE: Final = 128
RSS_TYPES: Final = 0x3F
RULES: Final = 128
RULE_SIZE: Final = 88
MAGIC: Final = 0x534E4254
_CONFIG: Final = struct.Struct("<6sHHHIBBHI")
_EXTENSION: Final = struct.Struct("<IHHHHIHH")
_EXTENSION_AT: Final = 0x40

PAIR_COUNTERS: Final = (
    *("rx_packets", "rx_bytes", "rx_split", "rx_unsplit", "rx_header_bytes", "rx_payload_bytes"),
    *("rx_drop_no_buffer", "rx_drop_queue", "rx_drop_rule", "rx_drop_error", "rx_csum_partial"),
    *("rx_csum_valid", "rx_csum_bad", "rx_gso", "rx_interrupts", "rx_buffers", "tx_packets", "tx_bytes"),
    *("tx_gso", "tx_csum", "tx_malformed", "tx_drop", "tx_interrupts"),
)
LEDGER_COUNTERS: Final = (
    *("header_to_host", "header_to_peer", "payload_to_host", "payload_to_peer"),
    *("outside_buffer", "after_stop"),
)
DEVICE_COUNTERS: Final = (
    *("tx_frames_lost", "tx_frames_corrupted", "tx_frames_duplicated", "tx_frames_reordered"),
    *("config_interrupts", "queue_resets", "control_commands", "control_errors", "faults_used"),
)
STATS_COUNT: Final = 24
PARAMS: Final = ("pairs", "queue_size", "mac", "mtu", "link", "extension", "speed")
_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """The parameters of a device, checked."""

    pairs: int
    queue_size: int
    mac: bytes
    mtu: int
    link: str
    extension: bool
    speed: int

    @property
    def features(self) -> int:
        """The bits that the device offers."""
        bits = STANDARD + (EXTENSION if self.extension else ())
        return sum(1 << bit for bit in bits)


def parse_params(params: Mapping[str, object], name: str = "") -> Params:
    """Raise ConfigError for what is not possible. Without `mac` the address comes from the name."""
    check_params(params, PARAMS)
    queue_size = int_param(params, "queue_size", 512, 16, 4096)
    if not is_power_of_two(queue_size):
        raise ConfigError(f"parameter 'queue_size' must be a power of two, not {queue_size}")
    link, extension = params.get("link", ""), params.get("extension", True)
    if not isinstance(link, str):
        raise ConfigError(f"parameter 'link' must be a name, not {link!r}")
    if not isinstance(extension, bool):
        raise ConfigError(f"parameter 'extension' must be true or false, not {extension!r}")
    return Params(
        pairs=int_param(params, "pairs", 4, 1, MAX_PAIRS),
        queue_size=queue_size,
        mac=_mac(params.get("mac"), name),
        mtu=int_param(params, "mtu", 1500, 68, 65535),
        link=link,
        extension=extension,
        speed=int_param(params, "speed", 10_000, 1, 1_000_000),
    )


def _mac(value: object, name: str) -> bytes:
    if value is None:
        return b"\x52\x54\x00" + zlib.crc32(name.encode()).to_bytes(4, "big")[1:]
    if not isinstance(value, str) or not _MAC.fullmatch(value) or int(value[:2], 16) & 1:
        raise ConfigError(f"parameter 'mac' must be a unicast address like 52:54:00:12:34:56, not {value!r}")
    return bytes.fromhex(value.replace(":", ""))


def build_config(params: Params, mac: bytes, *, link_up: bool) -> bytes:
    """The device configuration space."""
    standard = _CONFIG.pack(
        mac, int(link_up), params.pairs, params.mtu, params.speed, 1, RSS_KEY, RSS_TABLE, RSS_TYPES
    )
    if not params.extension:
        return standard.ljust(CONFIG_SIZE, b"\0")
    extension = _EXTENSION.pack(MAGIC, 0x0100, LONG_HEADER.size, 0xF, 65535, RULES, RULE_SIZE, STATS_COUNT)
    return (standard.ljust(_EXTENSION_AT, b"\0") + extension).ljust(CONFIG_SIZE, b"\0")


def features_fit(features: int) -> bool:
    """Whether what each accepted bit needs was accepted too."""

    def has(bit: int) -> bool:
        return bool(features >> bit & 1)

    return all(not has(bit) or all(has(other) for other in needed) for bit, needed in NEEDS.items()) and all(
        not has(bit) or any(has(other) for other in needed) for bit, needed in NEEDS_ANY.items()
    )
