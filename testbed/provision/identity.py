"""Identity of one guest: nonce, the key that may log in, and the host key by which we know the guest."""

from __future__ import annotations

import base64
import secrets
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

_KEY_TYPE = b"ssh-ed25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What one guest is told at boot, and the other halves that stay with us."""

    nonce: str
    """Hexadecimal, 32 digits."""
    client_key: str = field(repr=False)
    """OpenSSH private key (PEM text) that root of the guest accepts; paramiko's ``Ed25519Key`` loads it."""
    authorized_key: str
    """Public half of ``client_key``, one line without newline."""
    host_key: bytes = field(repr=False)
    """Private ed25519 host key in dropbear's file format."""
    host_public: str
    """Public half of ``host_key`` in base64, as in a ``known_hosts`` file."""


def build_identity() -> Identity:
    """Return a fresh identity from the system's random source."""
    client, host = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    pem = client.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = _public_bytes(host)
    secret = host.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return Identity(
        nonce=secrets.token_hex(16),
        client_key=pem.decode("ascii"),
        authorized_key=f"ssh-ed25519 {_ssh_blob(_public_bytes(client))} testbed",
        host_key=_string(_KEY_TYPE) + _string(secret + public),
        host_public=_ssh_blob(public),
    )


def _public_bytes(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _ssh_blob(public: bytes) -> str:
    return base64.b64encode(_string(_KEY_TYPE) + _string(public)).decode("ascii")


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
