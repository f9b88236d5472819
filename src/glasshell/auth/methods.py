"""What both sides of authentication share: names, bounds, and what a signature is made over."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeAlias

from ..keys.public import AnyKey
from ..messages.auth import HostboundRequest, PublickeyRequest, UserauthRequest
from ..policy import Policy
from ..wire import string

USERAUTH: Final = "ssh-userauth"
CONNECTION: Final = "ssh-connection"

NONE: Final = "none"
PUBLICKEY: Final = "publickey"
PASSWORD: Final = "password"
INTERACTIVE: Final = "keyboard-interactive"

METHODS: Final = (PUBLICKEY, "gssapi-with-mic", PASSWORD, INTERACTIVE, "hostbased")
"""The methods that can be listed as able to continue, in OpenSSH's order; `none` must not be (RFC 4252 §5.2).
"""

HOSTBOUND_EXTENSION: Final = "publickey-hostbound@openssh.com"
"""The extension of EXT_INFO whose value "0" announces host-bound public keys (OpenSSH PROTOCOL)."""

MAX_PROMPTS: Final = 100
"""Most prompts in one round. RFC 4256 has no bound; OpenSSH's server takes 100 responses."""

MAX_PASSWORD: Final = 1024
"""Longest password judged, in bytes, as OpenSSH: hashing a long one costs the server (CVE-2016-6515)."""

KeyRequest: TypeAlias = PublickeyRequest | HostboundRequest


def signed_data(session_id: bytes, request: UserauthRequest) -> bytes:
    """What the signature of a `publickey` or host-bound `request` is made over (RFC 4252 §7).

    The session identifier as a string, then the request, message number included, up to but without
    the signature. The signature in `request`, or its absence, makes no difference.
    """
    assert isinstance(request.body, KeyRequest)
    empty = replace(request, body=replace(request.body, has_signature=True, signature=b""))
    return string(session_id) + empty.encode()[: -len(string(b""))]


def fits(key: AnyKey, algorithm: str, policy: Policy) -> bool:
    """Whether `policy` takes signatures of `key` by `algorithm`."""
    short = key.plain.type == "ssh-rsa" and key.bits < policy.min_rsa_bits
    known = algorithm in key.algorithms or algorithm in getattr(key, "legacy_algorithms", ())
    return known and algorithm in policy.pubkey_algorithms and not short
