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
import io
import secrets
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, Protocol

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


class Kem(Protocol):
    """A post-quantum key encapsulation mechanism; sizes in bytes. A key of it serves one exchange only."""

    name: str
    clause: str
    key_size: int
    ciphertext_size: int

    def generate(self, seed: bytes | None = None) -> tuple[bytes, Callable[[bytes], bytes]]:
        """A new key: its public half, and what decapsulates with the other one."""
        ...

    def encapsulate(self, key: bytes) -> tuple[bytes, bytes]:
        """The shared secret and its ciphertext for `key`. Raises ValueError for bytes that are no key."""
        ...


class MlKem:
    """ML-KEM (FIPS 203); `seed`, 64 bytes, makes its key."""

    clause = "FIPS 203 7.2"

    def __init__(self, name: str, private: Any, public: Any, key_size: int, ciphertext_size: int) -> None:
        self.name = name
        self.key_size = key_size
        self.ciphertext_size = ciphertext_size
        self._private = private
        self._public = public

    def generate(self, seed: bytes | None = None) -> tuple[bytes, Callable[[bytes], bytes]]:
        """See `Kem.generate`."""
        key = self._private.generate() if seed is None else self._private.from_seed_bytes(seed)
        return key.public_key().public_bytes_raw(), key.decapsulate

    def encapsulate(self, key: bytes) -> tuple[bytes, bytes]:
        """See `Kem.encapsulate`; a key with unreduced coefficients is none (FIPS 203 §7.2)."""
        secret, ciphertext = self._public.from_public_bytes(key).encapsulate()
        return secret, ciphertext


class Sntrup761:
    """Streamlined NTRU Prime (RFC 9941 §2); its arithmetic is loaded where it is first needed."""

    name = "sntrup761"
    clause = "RFC 9941 2"
    key_size = 1158
    ciphertext_size = 1039

    def generate(self, seed: bytes | None = None) -> tuple[bytes, Callable[[bytes], bytes]]:
        """See `Kem.generate`; what is drawn at random comes of `seed`, where there is one."""
        from . import sntrup761

        drawn = b"" if seed is None else hashlib.shake_256(seed).digest(1 << 16)
        key = sntrup761.PrivateKey.generate(io.BytesIO(drawn).read if drawn else secrets.token_bytes)
        return key.public, key.decapsulate

    def encapsulate(self, key: bytes) -> tuple[bytes, bytes]:
        """See `Kem.encapsulate`; all bytes of its length are a key."""
        from . import sntrup761

        ciphertext, secret = sntrup761.encapsulate(key)
        return secret, ciphertext


MLKEM768: Final = MlKem("ML-KEM-768", mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey, 1184, 1088)
MLKEM1024: Final = MlKem("ML-KEM-1024", mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey, 1568, 1568)
SNTRUP761: Final = Sntrup761()


class Hybrid:
    """A KEM and an elliptic curve together; safe as long as one of the two is (RFC 9941, RFC 10042).

    Q_C is the KEM's public key and the client's point, Q_S the ciphertext and the server's point;
    K is the hash of both shared secrets, the post-quantum one first, as a string.
    """

    def __init__(
        self, agreement: Agreement | None = None, seed: bytes | None = None, *, kem: Kem = MLKEM768,
        hash_name: str = "sha256",
    ) -> None:  # fmt: skip
        self._agreement = agreement or X25519()
        self._seed = seed
        self._kem = kem
        self._hash_name = hash_name
        self._decapsulate: Callable[[bytes], bytes] | None = None

    def init(self) -> bytes:
        """See `KeyExchange.init`."""
        key, self._decapsulate = self._kem.generate(self._seed)
        return key + self._agreement.public

    def respond(self, client_public: bytes) -> tuple[bytes, Secret]:
        """See `KeyExchange.respond`."""
        key, point = self._split(client_public, self._kem.key_size)
        # The point is judged before the KEM costs anything.
        classical = self._agreement.shared(point)
        try:
            post_quantum, ciphertext = self._kem.encapsulate(key)
        except ValueError:
            raise _refuse(f"is not a key of {self._kem.name}", self._kem.clause) from None
        return ciphertext + self._agreement.public, self._combine(post_quantum, classical)

    def finish(self, server_public: bytes) -> Secret:
        """See `KeyExchange.finish`.

        An altered ciphertext is not noticed here: the KEM answers it with another secret, so that the
        exchange hash and with it the signature come out wrong (FIPS 203 §6.3, implicit rejection).
        """
        if self._decapsulate is None:
            raise UsageError("finish() needs the key that init() makes")
        ciphertext, point = self._split(server_public, self._kem.ciphertext_size)
        classical = self._agreement.shared(point)
        return self._combine(self._decapsulate(ciphertext), classical)

    def private(self) -> Secret | None:
        """See `KeyExchange.private`: two private values, and no form for them."""
        return None

    def _split(self, value: bytes, size: int) -> tuple[bytes, bytes]:
        expected = size + len(self._agreement.public)
        if len(value) != expected:
            raise _refuse(f"has {len(value)} bytes instead of {expected}", "RFC 10042 2")
        return value[:size], value[size:]

    def _combine(self, post_quantum: bytes, classical: bytes) -> Secret:
        return Secret(string(hashlib.new(self._hash_name, post_quantum + classical).digest()))


def sntrup761x25519() -> KeyExchange:
    """sntrup761x25519-sha512 (RFC 9941)."""
    return Hybrid(kem=SNTRUP761, hash_name="sha512")


def mlkem_nist(kem: Kem, curve: ec.EllipticCurve, hash_name: str) -> Callable[[], KeyExchange]:
    """mlkem768nistp256-sha256 and mlkem1024nistp384-sha384 (RFC 10042)."""
    return lambda: Hybrid(Ecdh(curve), kem=kem, hash_name=hash_name)


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
