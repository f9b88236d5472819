"""Key exchange methods as KEMs: a client value, a server value, and the K both derive (RFC 4253 §8).

`Classical` and `Hybrid` are the two shapes; `X25519`, `Ecdh` and `FiniteField` are the Diffie-Hellman
agreements inside them. Who sends which message, the exchange hash and the signature belong to the
driver in `transport`.

Finite-field Diffie-Hellman is computed with Python's `pow`. `cryptography` has deprecated its own and
will take it out, and an optional method should not be what breaks an upgrade. `pow` is not constant-time,
which matters little for an exponent that is drawn at random, used for one exchange and thrown away: a
remote attacker has two samples of it, not thousands. The family is still offered on request only
(RFC 9142 §3.2): it costs a server much and a client nothing (DHEat, CVE-2002-20001).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from functools import cached_property
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519

from ..errors import ProtocolViolation, UsageError
from ..wire import Secret, mpint, mpint_body, string
from .groups import Group
from .signatures import uncompressed

EXPONENT_BITS: Final = 512
"""Size of a finite-field exponent: twice the longest cipher key (RFC 4419 §6.2)."""


class KeyExchange(Protocol):
    """One key exchange, seen from either side; an object serves one exchange only.

    Public values are the body of their field: octets, or for finite fields the body of the mpint.
    K is returned as it enters the exchange hash and the key derivation: an mpint or a string, with its
    length. A peer's value that may not be used raises ProtocolViolation.
    """

    def init(self) -> bytes:
        """Client: the public value to send."""
        ...

    def respond(self, client_public: bytes) -> tuple[bytes, Secret]:
        """Server: the public value to answer with, and K."""
        ...

    def finish(self, server_public: bytes) -> Secret:
        """Client: K, from the server's answer; after `init`."""
        ...

    def private(self) -> Secret | None:
        """Our private value, for a key log, where that and the peer's public value alone make K.

        The scalar of X25519 or the exponent, big endian; None where key logs have no form for it.
        """
        ...


class Agreement(Protocol):
    """A Diffie-Hellman primitive: both sides do the same."""

    @property
    def public(self) -> bytes:
        """Our public value."""
        ...

    def shared(self, peer: bytes) -> bytes:
        """The shared secret, big endian. Raises ProtocolViolation for a peer's value out of bounds."""
        ...

    def private(self) -> Secret | None:
        """As `KeyExchange.private`."""
        ...


def _refuse(what: str, clause: str) -> ProtocolViolation:
    return ProtocolViolation(f"the peer's key exchange value {what}", clause=clause)


class X25519:
    """RFC 7748 §6.1 as RFC 8731 uses it."""

    size: Final = 32

    def __init__(self, private: bytes | None = None) -> None:
        self._private = (
            x25519.X25519PrivateKey.generate()
            if private is None
            else x25519.X25519PrivateKey.from_private_bytes(private)
        )
        self.public = self._private.public_key().public_bytes_raw()

    def shared(self, peer: bytes) -> bytes:
        """See `Agreement.shared`; the all-zero result of a low-order point is refused (RFC 8731 §3)."""
        if len(peer) != self.size:
            raise _refuse(f"has {len(peer)} bytes instead of {self.size}", "RFC 8731 3")
        try:
            return self._private.exchange(x25519.X25519PublicKey.from_public_bytes(peer))
        except ValueError:
            raise _refuse("is a point of low order", "RFC 8731 3") from None

    def private(self) -> Secret | None:
        """See `KeyExchange.private`."""
        return Secret(self._private.private_bytes_raw())


class Ecdh:
    """ECDH on a NIST curve (RFC 5656 §4); points travel uncompressed."""

    def __init__(self, curve: ec.EllipticCurve, private: int | None = None) -> None:
        self._curve = curve
        self._private = (
            ec.generate_private_key(curve) if private is None else ec.derive_private_key(private, curve)
        )
        self.public = uncompressed(self._private.public_key())

    def shared(self, peer: bytes) -> bytes:
        """See `Agreement.shared`; compressed points, infinity and points off the curve are refused."""
        # The library also takes compressed points, which no SSH program sends (RFC 5656 §3.1 MAY).
        if len(peer) != len(self.public) or peer[0] != 4:
            raise _refuse("is not an uncompressed point of the curve's size", "RFC 5656 4")
        try:
            return self._private.exchange(
                ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(self._curve, peer)
            )
        except ValueError:
            raise _refuse("is not a point of the curve", "RFC 5656 4") from None

    def private(self) -> Secret | None:
        """See `KeyExchange.private`: Wireshark computes nothing on these curves."""
        return None


class FiniteField:
    """Diffie-Hellman modulo a prime (RFC 4253 §8)."""

    def __init__(self, group: Group, private: int | None = None) -> None:
        self._group = group
        if private is None:
            private = secrets.randbits(EXPONENT_BITS) | 1 << (EXPONENT_BITS - 1)
        self._private = private

    @cached_property
    def public(self) -> bytes:
        """Our public value, the body of an mpint; nothing is computed before it is asked for."""
        return mpint_body(pow(self._group.g, self._private, self._group.p))

    def shared(self, peer: bytes) -> bytes:
        """See `Agreement.shared`; values outside 2 to p-2 are refused (RFC 4253 §8, RFC 8268 §4)."""
        value = int.from_bytes(peer, "big", signed=True)
        if not 1 < value < self._group.p - 1:
            raise _refuse("is outside 2 to p-2", "RFC 4253 8")
        secret = pow(value, self._private, self._group.p)
        if secret == 1:
            raise _refuse("lies in a small subgroup", "RFC 4253 8")
        return mpint_body(secret)

    def private(self) -> Secret | None:
        """See `KeyExchange.private`."""
        return Secret(self._private.to_bytes((self._private.bit_length() + 7) // 8, "big"))


class Classical:
    """An agreement alone: K is the shared secret, read as a big-endian integer, as an mpint."""

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement

    def init(self) -> bytes:
        """See `KeyExchange.init`."""
        return self._agreement.public

    def respond(self, client_public: bytes) -> tuple[bytes, Secret]:
        """See `KeyExchange.respond`."""
        # The client's value is judged before ours costs anything.
        secret = self.finish(client_public)
        return self._agreement.public, secret

    def finish(self, server_public: bytes) -> Secret:
        """See `KeyExchange.finish`."""
        return Secret(mpint(int.from_bytes(self._agreement.shared(server_public), "big")))

    def private(self) -> Secret | None:
        """See `KeyExchange.private`."""
        return self._agreement.private()


class Hybrid:
    """RFC 10042: ML-KEM-768 and X25519 together; safe as long as one of the two is.

    Q_C is the encapsulation key and the client's point, Q_S the ciphertext and the server's point;
    K is SHA-256 of both shared secrets, the post-quantum one first, as a string.
    """

    KEY_SIZE: Final = 1184
    CIPHERTEXT_SIZE: Final = 1088

    def __init__(self, agreement: X25519 | None = None, seed: bytes | None = None) -> None:
        self._agreement = agreement or X25519()
        self._seed = seed
        self._decapsulation: mlkem.MLKEM768PrivateKey | None = None

    def init(self) -> bytes:
        """See `KeyExchange.init`."""
        key = (
            mlkem.MLKEM768PrivateKey.generate()
            if self._seed is None
            else mlkem.MLKEM768PrivateKey.from_seed_bytes(self._seed)
        )
        self._decapsulation = key
        return key.public_key().public_bytes_raw() + self._agreement.public

    def respond(self, client_public: bytes) -> tuple[bytes, Secret]:
        """See `KeyExchange.respond`; a key with unreduced coefficients is refused (FIPS 203 §7.2)."""
        key, point = self._split(client_public, self.KEY_SIZE)
        try:
            post_quantum, ciphertext = mlkem.MLKEM768PublicKey.from_public_bytes(key).encapsulate()
        except ValueError:
            raise _refuse("is not a key of ML-KEM-768", "FIPS 203 7.2") from None
        return ciphertext + self._agreement.public, self._combine(post_quantum, point)

    def finish(self, server_public: bytes) -> Secret:
        """See `KeyExchange.finish`.

        An altered ciphertext is not noticed here: ML-KEM answers it with another secret, so that the
        exchange hash and with it the signature come out wrong (FIPS 203 §6.3, implicit rejection).
        """
        if self._decapsulation is None:
            raise UsageError("finish() needs the key that init() makes")
        ciphertext, point = self._split(server_public, self.CIPHERTEXT_SIZE)
        return self._combine(self._decapsulation.decapsulate(ciphertext), point)

    def private(self) -> Secret | None:
        """See `KeyExchange.private`: two private values, and no form for them."""
        return None

    def _split(self, value: bytes, size: int) -> tuple[bytes, bytes]:
        expected = size + X25519.size
        if len(value) != expected:
            raise _refuse(f"has {len(value)} bytes instead of {expected}", "RFC 10042")
        return value[:size], value[size:]

    def _combine(self, post_quantum: bytes, point: bytes) -> Secret:
        return Secret(string(hashlib.sha256(post_quantum + self._agreement.shared(point)).digest()))


def curve25519() -> KeyExchange:
    """curve25519-sha256 (RFC 8731)."""
    return Classical(X25519())


def nist(curve: ec.EllipticCurve) -> Callable[[], KeyExchange]:
    """ecdh-sha2-* on `curve` (RFC 5656)."""
    return lambda: Classical(Ecdh(curve))


def fixed_group(number: Callable[[], Group]) -> Callable[[], KeyExchange]:
    """diffie-hellman-group*, in the group that `number` computes when it is first used."""
    return lambda: Classical(FiniteField(number()))


def group_exchange(group: Group) -> KeyExchange:
    """diffie-hellman-group-exchange-*: in the group the two sides settled on (RFC 4419)."""
    return Classical(FiniteField(group))
