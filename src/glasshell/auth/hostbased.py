"""Host-based authentication (RFC 4252 §9): what is signed, and by what, on both sides."""

from __future__ import annotations

from typing import Final

from ..crypto.signatures import PublicKey
from ..errors import KeyFormatError
from ..events import HostbasedMethod
from ..keys.public import AnyKey, read_key
from ..messages.auth import HostbasedRequest, UserauthRequest
from ..policy import Policy
from ..values import replace
from ..wire import string
from .methods import CONNECTION

HOSTBASED: Final = "hostbased"

__all__ = ["HOSTBASED", "algorithm_for", "data_to_sign", "host_request", "read_host_key"]


def host_request(user: str, offer: HostbasedMethod, algorithm: str) -> UserauthRequest:
    """The request for `user`, its signature still empty. The client's name ends with a dot, as OpenSSH's
    ssh-keysign wants it."""
    host = offer.host if offer.host.endswith(".") else offer.host + "."
    body = HostbasedRequest(algorithm, offer.key.blob, host, offer.user, b"")
    return UserauthRequest(user, CONNECTION, HOSTBASED, body)


def data_to_sign(session_id: bytes, request: UserauthRequest) -> bytes:
    """The session identifier as a string, then the request up to but without the signature."""
    assert isinstance(request.body, HostbasedRequest)
    empty = replace(request, body=replace(request.body, signature=b""))
    return string(session_id) + empty.encode()[: -len(string(b""))]


def algorithm_for(key: AnyKey, allowed: tuple[str, ...], min_rsa_bits: int) -> str | None:
    """The first of `allowed` that fits `key`."""
    if key.plain.type == "ssh-rsa" and key.bits < min_rsa_bits:
        return None
    return next((name for name in allowed if name in key.algorithms), None)


def read_host_key(body: HostbasedRequest, policy: Policy) -> AnyKey | None:
    """The client's host key, or None where policy or the blob itself is against it; an algorithm that is not
    allowed is refused before its blob is parsed."""
    allowed = policy.hostbased_algorithms or policy.pubkey_algorithms
    if body.algorithm not in allowed:
        return None
    try:
        key = read_key(body.host_key, prove=False)
    except KeyFormatError:
        return None
    if not isinstance(key, PublicKey) and key.signature_algorithm not in policy.ca_signature_algorithms:
        return None
    return key if algorithm_for(key, (body.algorithm,), policy.min_rsa_bits) else None
