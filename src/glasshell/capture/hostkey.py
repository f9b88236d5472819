"""What can be said of a host key by its blob alone, also where the key is too weak or too odd to be used."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from ..crypto.signatures import plain_algorithm
from ..errors import KeyFormatError, MalformedMessage
from ..keys.public import read_key
from ..wire import Reader, string, visible

_CERTIFIED: Final = "-cert-v0"
_CURVE_BITS: Final = {"nistp256": 256, "nistp384": 384, "nistp521": 521}
_FIELDS: Final = {"ssh-rsa": 2, "ssh-dss": 4, "ssh-ed25519": 1, "ecdsa-sha2-": 2, "sk-": 2}
"""How many strings of a certificate are those of the key inside (OpenSSH PROTOCOL.certkeys)."""


def describe(blob: bytes) -> tuple[str, int, str]:
    """Type, size in bits and fingerprint (SHA256) of a key blob, as `ssh-keygen -l` has them.

    The fingerprint of a certificate is that of the key inside. The size is 0 where it cannot be read.
    """
    reader = Reader(blob)
    try:
        key_type = visible(reader.string())
    except MalformedMessage:
        return "", 0, fingerprint(blob)
    plain = plain_key(key_type, blob)
    return key_type, _bits(key_type.partition(_CERTIFIED)[0], plain), fingerprint(plain)


def fingerprint(blob: bytes) -> str:
    """`SHA256:` and the hash in base64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def plain_key(key_type: str, blob: bytes) -> bytes:
    """The blob of the key inside a certificate; `blob` itself where it is none or cannot be read."""
    base, dash, _ = key_type.partition(_CERTIFIED)
    count = next((n for prefix, n in _FIELDS.items() if base.startswith(prefix)), 0)
    if not dash or not count:
        return blob
    reader = Reader(blob)
    try:
        reader.string()
        reader.string()  # the nonce
        return string(base.encode()) + b"".join(string(reader.string()) for _ in range(count))
    except MalformedMessage:
        return blob


def _bits(key_type: str, plain: bytes) -> int:
    reader = Reader(plain)
    try:
        reader.string()
        if key_type == "ssh-rsa":
            reader.string()
            return int.from_bytes(reader.string(), "big").bit_length()
        if key_type == "ssh-dss":
            return int.from_bytes(reader.string(), "big").bit_length()
        if key_type.startswith("ecdsa-sha2-"):
            return _CURVE_BITS.get(reader.text(), 0)
    except MalformedMessage:
        return 0
    return {"ssh-ed25519": 256, "sk-ssh-ed25519@openssh.com": 256, "ssh-ed448": 456}.get(key_type, 0)


def verify(blob: bytes, algorithm: str, signature: bytes, h: bytes) -> bool | None:
    """Whether `signature` is one of `h` by the key; None where key or algorithm cannot be checked here.

    Old servers sign with SHA-1 whatever was agreed on, so what the signature calls itself counts.
    """
    try:
        key = read_key(blob)
        named = Reader(signature).text()
    except (KeyFormatError, MalformedMessage):
        return None
    if named != plain_algorithm(algorithm) or algorithm not in key.algorithms:
        return None
    return key.verify(algorithm, signature, h, touch_required=False)
