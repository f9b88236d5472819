"""RFC 4252 §7: what a signature is made over."""

from __future__ import annotations

import struct

import pytest

from glasshell.auth.methods import METHODS, fits, signed_data
from glasshell.crypto.signatures import PrivateKey
from glasshell.messages.auth import HOSTBOUND, HostboundRequest, PublickeyRequest, UserauthRequest
from glasshell.policy import Policy

from .fake_port import HOST_KEY, SESSION_ID
from .kit import key, to_sign


def test_signed_data_is_the_session_and_the_request_without_its_signature() -> None:
    public = key("a").public
    for signature in (None, b"", b"anything"):
        body = PublickeyRequest(True, public.type, public.blob, signature or b"")
        request = UserauthRequest("alice", "ssh-connection", "publickey", body)
        assert signed_data(SESSION_ID, request) == to_sign(public)


def test_hostbound_signs_the_host_key_last() -> None:
    """OpenSSH PROTOCOL, publickey-hostbound-v00."""
    public = key("a").public
    body = HostboundRequest(True, public.type, public.blob, HOST_KEY.blob, b"sig")
    request = UserauthRequest("alice", "ssh-connection", HOSTBOUND, body)
    host = struct.pack(">I", len(HOST_KEY.blob)) + HOST_KEY.blob
    assert signed_data(SESSION_ID, request) == to_sign(public, method=HOSTBOUND) + host


def test_none_is_not_listed() -> None:
    """RFC 4252 §5.2."""
    assert "none" not in METHODS


@pytest.mark.parametrize(
    ("algorithm", "bits", "good"),
    [
        ("rsa-sha2-512", 2048, True),
        ("rsa-sha2-512", 3072, False),
        ("ssh-rsa", 2048, False),
        ("ssh-ed25519", 2048, False),
    ],
)
def test_fits(algorithm: str, bits: int, good: bool) -> None:
    rsa: PrivateKey = key("r", "ssh-rsa")
    policy = Policy.server(min_rsa_bits=bits)
    assert fits(rsa.public, algorithm, policy) is good
    assert not fits(rsa.public, algorithm, policy.but(pubkey_algorithms=()))
