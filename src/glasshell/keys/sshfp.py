"""SSHFP: fingerprints of host keys in DNS (RFC 4255; RFC 6594 and RFC 7479 for what came later)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

from ..crypto.signatures import PublicKey
from ..values import slotted

__all__ = ["HASHES", "Fingerprint", "algorithm_of", "fingerprints", "matches", "zone_line"]

_ALGORITHMS: Final = {"ssh-rsa": 1, "ecdsa": 3, "ssh-ed25519": 4}
_HASHES: Final = {1: "sha1", 2: "sha256"}

HASHES: Final = {name: number for number, name in _HASHES.items()}
"""The hashes of records, with their numbers."""


@slotted(frozen=True)
class Fingerprint:
    """One record: the numbers of the key's algorithm and of the hash, and the hash of the key's blob."""

    algorithm: int
    hash: int
    digest: bytes


def algorithm_of(key: PublicKey) -> int:
    """The number of the key's algorithm; 0 for a kind that has none, as keys of security keys."""
    return _ALGORITHMS.get("ecdsa" if key.type.startswith("ecdsa-") else key.type, 0)


def fingerprints(key: PublicKey) -> tuple[Fingerprint, ...]:
    """The records of `key`, as `ssh-keygen -r` makes them."""
    number = algorithm_of(key)
    return tuple(
        Fingerprint(number, code, hashlib.new(name, key.blob, usedforsecurity=False).digest())
        for code, name in _HASHES.items()
        if number
    )


def zone_line(name: str, record: Fingerprint, *, generic: bool = False) -> str:
    """A record as a line of a zone file; `generic` for name servers that do not know the type (RFC 3597)."""
    if generic:
        size = 2 + len(record.digest)
        return f"{name} IN TYPE44 \\# {size} {record.algorithm:02x} {record.hash:02x} {record.digest.hex()}"
    return f"{name} IN SSHFP {record.algorithm} {record.hash} {record.digest.hex()}"


def matches(key: PublicKey, records: Iterable[Fingerprint]) -> bool:
    """Whether the records are of `key`: one is, and none of its algorithm and a hash that is known differs.

    Records of other algorithms belong to the host's other keys. Where there is a SHA-256 hash of this
    algorithm, SHA-1 proves nothing (RFC 6594 §4.1).
    """
    ours = {each.hash: each.digest for each in fingerprints(key)}
    mine = [each for each in records if ours and each.algorithm == algorithm_of(key) and each.hash in ours]
    if any(each.hash == 2 for each in mine):
        mine = [each for each in mine if each.hash == 2]
    return bool(mine) and all(hmac.compare_digest(each.digest, ours[each.hash]) for each in mine)
