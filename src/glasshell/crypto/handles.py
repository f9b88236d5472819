"""Keys that the crypto library below has no object for: each stands where one of its objects would."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Final, NoReturn

from cryptography.hazmat.primitives.asymmetric import ed25519

__all__ = [
    "COMPOSITE_PUBLIC", "COMPOSITE_SECRET", "COMPOSITE_SIGNATURE", "CompositeKey", "CompositePublic",
    "SecurityKey",
]  # fmt: skip


class SecurityKey:
    """What a file has of a key that is inside a security key: enough to ask it for a signature, no secret.

    Stands where a private key of the crypto library stands. `public` is of that library, `flags` say whether
    it wants to be touched (1) and to verify who does (4), `handle` is the key's own.
    """

    __slots__ = ("application", "flags", "handle", "public", "reserved", "type")

    def __init__(
        self, type: str, public: Any, application: bytes, flags: int, handle: bytes, reserved: bytes
    ) -> None:
        self.type = type
        self.public = public
        self.application = application
        self.flags = flags
        self.handle = handle
        self.reserved = reserved

    def public_key(self) -> tuple[Any, bytes]:
        """The public half as `PublicKey` holds it."""
        return self.public, self.application

    def __repr__(self) -> str:
        return f"<SecurityKey {self.type}>"


# ---- ML-DSA-44 with Ed25519: draft-ietf-lamps-pq-composite-sigs §3, draft-miller-sshm-mldsa44-ed25519

_MLDSA_PUBLIC: Final = 1312
_MLDSA_SIGNATURE: Final = 2420
_SEED: Final = 32

COMPOSITE_PUBLIC: Final = _MLDSA_PUBLIC + 32
COMPOSITE_SECRET: Final = 2 * _SEED
COMPOSITE_SIGNATURE: Final = _MLDSA_SIGNATURE + 64
"""Sizes of both halves together, in bytes."""

_LABEL: Final = b"COMPSIG-MLDSA44-Ed25519-SHA512"


def _message(data: bytes) -> bytes:
    """What both halves sign; the byte before the hash is the length of a context, which SSH has none of."""
    return b"CompositeAlgorithmSignatures2025" + _LABEL + b"\0" + hashlib.sha512(data).digest()


class CompositePublic:
    """A public key of both: a signature is good where both halves are."""

    __slots__ = ("_classical", "_quantum", "raw")

    def __init__(self, raw: bytes) -> None:
        """Raises ValueError for bytes that are no keys."""
        # Imported late, here and below: nobody has such keys who did not ask for them.
        from cryptography.hazmat.primitives.asymmetric import mldsa

        self.raw = raw
        self._quantum = mldsa.MLDSA44PublicKey.from_public_bytes(raw[:_MLDSA_PUBLIC])
        self._classical = ed25519.Ed25519PublicKey.from_public_bytes(raw[_MLDSA_PUBLIC:])

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raises InvalidSignature, of the crypto library."""
        message = _message(data)
        self._quantum.verify(signature[:_MLDSA_SIGNATURE], message, _LABEL)
        self._classical.verify(signature[_MLDSA_SIGNATURE:], message)


class CompositeKey:
    """A private key of both, made from its two seeds."""

    __slots__ = ("_classical", "_quantum", "_seeds")

    def __init__(self, seeds: bytes) -> None:
        """Raises ValueError for another number of bytes than COMPOSITE_SECRET."""
        from cryptography.hazmat.primitives.asymmetric import mldsa

        if len(seeds) != COMPOSITE_SECRET:
            raise ValueError("two seeds of 32 bytes")
        self._seeds = seeds
        self._quantum = mldsa.MLDSA44PrivateKey.from_seed_bytes(seeds[:_SEED])
        self._classical = ed25519.Ed25519PrivateKey.from_private_bytes(seeds[_SEED:])

    @classmethod
    def generate(cls) -> CompositeKey:
        """A new key."""
        return cls(os.urandom(COMPOSITE_SECRET))

    def public_key(self) -> CompositePublic:
        """The public half."""
        raw = self._quantum.public_key().public_bytes_raw() + self._classical.public_key().public_bytes_raw()
        return CompositePublic(raw)

    def private_bytes_raw(self) -> bytes:
        """The two seeds."""
        return self._seeds

    def sign(self, data: bytes) -> bytes:
        """The signatures of both, one after the other."""
        message = _message(data)
        return self._quantum.sign(message, _LABEL) + self._classical.sign(message)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled")
