"""A guest's identity in the formats of paramiko and dropbear."""

from __future__ import annotations

import base64
import io

import paramiko

from testbed.provision.identity import build_identity


def test_identities_differ() -> None:
    one, other = build_identity(), build_identity()
    assert one.nonce != other.nonce
    assert one.host_key != other.host_key
    assert len(one.nonce) == 32


def test_paramiko_loads_the_client_key_whose_public_half_is_authorized() -> None:
    identity = build_identity()
    key = paramiko.Ed25519Key.from_private_key(io.StringIO(identity.client_key))
    assert identity.authorized_key.split()[:2] == ["ssh-ed25519", key.get_base64()]


def test_host_key_is_in_dropbears_format() -> None:
    identity = build_identity()
    public = base64.b64decode(identity.host_public)[-32:]
    assert identity.host_key[:15] == b"\0\0\0\x0bssh-ed25519"
    assert identity.host_key[15:19] == (64).to_bytes(4, "big")
    assert identity.host_key[-32:] == public
    assert len(identity.host_key) == 15 + 4 + 64


def test_secrets_do_not_show() -> None:
    identity = build_identity()
    assert "PRIVATE" not in repr(identity)
    assert repr(identity.host_key) not in repr(identity)
