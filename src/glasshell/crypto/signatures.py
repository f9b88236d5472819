"""Keys that sign: the blobs of public keys, signatures made and checked.

RFC 4253 §6.6 (the shape of both blobs), RFC 5656 (ECDSA), RFC 8332 (RSA with SHA-2), RFC 8709 (Ed25519),
OpenSSH PROTOCOL.u2f (keys inside security keys: checked here, made and used by their hardware).
What the crypto library below does not check is checked here: Ed25519 points of small order or in a
second encoding, compressed EC points, the sizes of RSA keys. A `PublicKey` that exists passed all of it.

A key type ("ssh-rsa") names the blob of a key; a signature algorithm ("rsa-sha2-512") names how it signs.
For all but RSA the two names are equal. Either has a second name where the key comes with a certificate
(`keys.certificate`), which signs no differently.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final, Generic, NoReturn, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ..errors import CryptoError, KeyFormatError, MalformedMessage, UsageError
from ..values import field, slotted
from ..wire import Reader, mpint, string, uint32
from .edwards import ORDER, check_point, check_root
from .handles import COMPOSITE_PUBLIC, COMPOSITE_SIGNATURE, CompositeKey, CompositePublic, SecurityKey

__all__ = [
    "CERTIFIED", "COMPOSITE", "KEY_TYPES", "MAX_RSA_BITS", "MIN_RSA_BITS", "SIGNATURE_ALGORITHMS",
    "SIGNING_ALGORITHMS", "SIGNING_TYPES", "PrivateKey", "PublicKey", "algorithms_for", "certified_name",
    "key_type_of", "plain_algorithm",
]  # fmt: skip

MIN_RSA_BITS: Final = 2048
"""Shortest RSA modulus taken (RFC 9142 §1.1 takes less than 112 bits of strength for broken)."""

MAX_RSA_BITS: Final = 16384
"""Longest RSA modulus taken: OpenSSH's limit, and OpenSSL's."""

MAX_RSA_EXPONENT_BITS: Final = 64
"""Longest RSA public exponent taken: what OpenSSL verifies with a modulus above 3072 bits."""

DEFAULT_RSA_BITS: Final = 3072

COMPOSITE: Final = "ssh-mldsa44-ed25519"
"""The key type of OpenSSH 10.6 that a quantum computer cannot forge. Its certificates are not known here."""

Pub = TypeVar("Pub")
Priv = TypeVar("Priv")


class _Scheme(Generic[Pub, Priv]):
    """One key type: its blob, its signatures. Handles are the objects of the crypto library."""

    type: str
    label: str
    algorithms: tuple[str, ...]

    def decode(self, reader: Reader) -> tuple[Pub, int]:
        """Reads what follows the type in a key blob: the handle and the key's size in bits."""
        raise NotImplementedError

    def prove(self, public: Pub) -> None:
        """What `decode` leaves out because it is dear. Raises KeyFormatError."""

    def encode(self, public: Pub) -> bytes:
        """What follows the type in a key blob."""
        raise NotImplementedError

    def check(self, public: Pub, algorithm: str, reader: Reader, data: bytes, flags: int) -> None:
        """Verifies what follows the algorithm in a signature blob; `flags`: those that a security key must
        have set. Raises InvalidSignature or MalformedMessage."""
        signature = reader.string()
        reader.done()
        self.verify(public, algorithm, signature, data)

    def verify(self, public: Pub, algorithm: str, signature: bytes, data: bytes) -> None:
        """Raises InvalidSignature, or MalformedMessage, unless `signature` is one of `data`."""
        raise NotImplementedError

    def sign(self, private: Priv, algorithm: str, data: bytes) -> bytes:
        """The inner string of the signature blob."""
        raise NotImplementedError

    def generate(self, bits: int | None) -> Priv:
        """A new private key."""
        raise NotImplementedError


class _Ed25519(_Scheme[ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey]):
    """RFC 8709."""

    type = "ssh-ed25519"
    label = "ED25519"
    algorithms = ("ssh-ed25519",)

    def decode(self, reader: Reader) -> tuple[ed25519.Ed25519PublicKey, int]:
        raw = reader.string()
        if len(raw) != 32:
            raise KeyFormatError(f"an Ed25519 key of {len(raw)} bytes; it has 32", clause="RFC 8709 4")
        check_point(raw)
        return ed25519.Ed25519PublicKey.from_public_bytes(raw), 256

    def prove(self, public: ed25519.Ed25519PublicKey) -> None:
        check_root(public.public_bytes_raw())

    def encode(self, public: ed25519.Ed25519PublicKey) -> bytes:
        return string(public.public_bytes_raw())

    def verify(self, public: ed25519.Ed25519PublicKey, algorithm: str, signature: bytes, data: bytes) -> None:
        # S below the group order, or anybody could derive a second signature (RFC 8032 §5.1.7).
        if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= ORDER:
            raise InvalidSignature
        public.verify(signature, data)

    def sign(self, private: ed25519.Ed25519PrivateKey, algorithm: str, data: bytes) -> bytes:
        return private.sign(data)

    def generate(self, bits: int | None) -> ed25519.Ed25519PrivateKey:
        _fixed_size("Ed25519", 256, bits)
        return ed25519.Ed25519PrivateKey.generate()


def _fixed_size(name: str, size: int, bits: int | None) -> None:
    if bits not in (None, size):
        raise UsageError(f"{name} keys have {size} bits, not {bits}")


def uncompressed(public: ec.EllipticCurvePublicKey) -> bytes:
    """The point of a key as SSH writes it (SEC 1 §2.3.3)."""
    # Imported late: it brings half of the crypto library, and most logins have no use for it.
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


class _Ecdsa(_Scheme[ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey]):
    """RFC 5656 §3: one curve, with the hash that §6.2.1 gives it."""

    label = "ECDSA"

    def __init__(self, name: str, curve: ec.EllipticCurve, digest: hashes.HashAlgorithm) -> None:
        self.name = name
        self.type = f"ecdsa-sha2-{name}"
        self.algorithms = (self.type,)
        self.curve = curve
        self.scheme = ec.ECDSA(digest)
        self.order = curve.group_order

    def decode(self, reader: Reader) -> tuple[ec.EllipticCurvePublicKey, int]:
        name = reader.name()
        if name != self.name:
            raise KeyFormatError(f'a key of type {self.type} on the curve "{name}"', clause="RFC 5656 3.1")
        point = reader.string()
        # RFC 5656 §3.1 lets point compression be offered; nobody does, and OpenSSH refuses it.
        if len(point) != 1 + 2 * ((self.curve.key_size + 7) // 8) or point[0] != 4:
            raise KeyFormatError(f"a key of type {self.type} whose point is not in uncompressed form")
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(self.curve, point), self.curve.key_size
        except ValueError:
            raise KeyFormatError(f"a point that is not on the curve {self.name}") from None

    def encode(self, public: ec.EllipticCurvePublicKey) -> bytes:
        return string(self.name.encode()) + string(uncompressed(public))

    def verify(
        self, public: ec.EllipticCurvePublicKey, algorithm: str, signature: bytes, data: bytes
    ) -> None:
        reader = Reader(signature)
        r, s = reader.mpint(), reader.mpint()
        reader.done()
        if not (0 < r < self.order and 0 < s < self.order):
            raise InvalidSignature
        public.verify(encode_dss_signature(r, s), data, self.scheme)

    def sign(self, private: ec.EllipticCurvePrivateKey, algorithm: str, data: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(data, self.scheme))
        return mpint(r) + mpint(s)

    def generate(self, bits: int | None) -> ec.EllipticCurvePrivateKey:
        _fixed_size(self.type, self.curve.key_size, bits)
        return ec.generate_private_key(self.curve)


LEGACY_ALGORITHMS: Final = {"ssh-rsa": ("ssh-rsa",)}
"""Key type -> algorithms that its keys can sign with, too, where a Policy names them: with SHA-1."""

_RSA_DIGESTS: Final[dict[str, hashes.HashAlgorithm]] = {
    "ssh-rsa": hashes.SHA1(),
    "rsa-sha2-512": hashes.SHA512(),
    "rsa-sha2-256": hashes.SHA256(),
}


class _Rsa(_Scheme[rsa.RSAPublicKey, rsa.RSAPrivateKey]):
    """RFC 4253 §6.6 for the blob of the key, RFC 8332 §3 for the signatures: RSASSA-PKCS1-v1_5."""

    type = "ssh-rsa"
    label = "RSA"
    algorithms = ("rsa-sha2-512", "rsa-sha2-256")

    def decode(self, reader: Reader) -> tuple[rsa.RSAPublicKey, int]:
        e, n = reader.mpint(), reader.mpint()
        bits = n.bit_length()
        if n <= 0 or not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            raise KeyFormatError(
                f"an RSA key of {bits} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are allowed",
                hint="make a new key, best of type ed25519",
            )
        if e < 3 or not e & 1 or e.bit_length() > MAX_RSA_EXPONENT_BITS:
            raise KeyFormatError("an RSA key whose public exponent is even, below 3 or above 64 bits")
        if not n & 1:
            raise KeyFormatError("an RSA key whose modulus is even")
        return rsa.RSAPublicNumbers(e, n).public_key(), bits

    def encode(self, public: rsa.RSAPublicKey) -> bytes:
        numbers = public.public_numbers()
        return mpint(numbers.e) + mpint(numbers.n)

    def verify(self, public: rsa.RSAPublicKey, algorithm: str, signature: bytes, data: bytes) -> None:
        size = (public.key_size + 7) // 8
        if not 0 < len(signature) <= size:
            raise InvalidSignature
        # Old peers send the signature as a number, without its leading zeros; OpenSSH puts them back.
        public.verify(signature.rjust(size, b"\0"), data, padding.PKCS1v15(), _RSA_DIGESTS[algorithm])

    def sign(self, private: rsa.RSAPrivateKey, algorithm: str, data: bytes) -> bytes:
        signature = private.sign(data, padding.PKCS1v15(), _RSA_DIGESTS[algorithm])
        # One faulty signature made by CRT gives the factors of the modulus away: check before it leaves.
        self.verify(private.public_key(), algorithm, signature, data)
        return signature

    def generate(self, bits: int | None) -> rsa.RSAPrivateKey:
        bits = DEFAULT_RSA_BITS if bits is None else bits
        if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            raise UsageError(f"RSA keys have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, not {bits}")
        return rsa.generate_private_key(65537, bits)


_PRESENT: Final = 0x01
_VERIFIED: Final = 0x04
_ATTESTED_DATA: Final = 0x40
_EXTENSION_DATA: Final = 0x80
"""Flags of an authenticator's data (WebAuthn §6.1), which PROTOCOL.u2f takes over."""

MAX_APPLICATION: Final = 1024
"""Longest application of a security key taken, in bytes; there is hardly any but "ssh:"."""


class _SecurityKey(_Scheme[tuple[Any, bytes], Any]):
    """OpenSSH PROTOCOL.u2f: a key of another scheme that never leaves its hardware, with the name of the
    application that it was made for. The handle is the public key and that name."""

    def __init__(self, inner: _Scheme[Any, Any], type: str, *more: str) -> None:
        self.inner = inner
        self.type = type
        self.label = f"{inner.label}-SK"
        self.algorithms = (type, *more)

    def decode(self, reader: Reader) -> tuple[tuple[Any, bytes], int]:
        public, bits = self.inner.decode(reader)
        application = reader.string()
        if len(application) > MAX_APPLICATION or b"\0" in application:
            raise KeyFormatError("a security key whose application is no name", clause="OpenSSH PROTOCOL.u2f")
        return (public, application), bits

    def prove(self, public: tuple[Any, bytes]) -> None:
        self.inner.prove(public[0])

    def encode(self, public: tuple[Any, bytes]) -> bytes:
        return self.inner.encode(public[0]) + string(public[1])

    def check(
        self, public: tuple[Any, bytes], algorithm: str, reader: Reader, data: bytes, flags: int
    ) -> None:
        signature, given, counter = reader.string(), reader.byte(), reader.uint32()
        extensions = b""
        if algorithm.startswith("webauthn-"):
            data, extensions = _client_data(reader, given, data)
        reader.done()
        if given & flags != flags:
            raise InvalidSignature
        key, application = public
        signed = b"".join((
            hashlib.sha256(application).digest(), bytes((given,)), uint32(counter), extensions,
            hashlib.sha256(data).digest(),
        ))  # fmt: skip
        self.inner.verify(key, self.inner.type, signature, signed)

    def sign(self, private: Any, algorithm: str, data: bytes) -> bytes:
        raise UsageError(f"{self.type} signs inside its security key alone")

    def generate(self, bits: int | None) -> Any:
        raise UsageError(f"{self.type} is made inside a security key", hint="ssh-keygen -t ed25519-sk")


def _client_data(reader: Reader, flags: int, data: bytes) -> tuple[bytes, bytes]:
    """What a browser had signed in place of `data`, which has to stand in it, and the extensions."""
    origin, wrapped, extensions = reader.string(), reader.string(), reader.string()
    challenge = base64.urlsafe_b64encode(data).rstrip(b"=")
    begin = b'{"type":"webauthn.get","challenge":"%s","origin":"%s"' % (challenge, origin)
    flags_fit = not flags & _ATTESTED_DATA and bool(flags & _EXTENSION_DATA) == bool(extensions)
    if b'"' in origin or not flags_fit or not wrapped.startswith(begin):
        raise InvalidSignature
    return wrapped, extensions


class _Composite(_Scheme[CompositePublic, CompositeKey]):
    """draft-miller-sshm-mldsa44-ed25519: both in one key, of which neither alone will do."""

    label = "MLDSA44-ED25519"

    def __init__(self, type: str) -> None:
        self.type = type
        self.algorithms = (type,)

    def decode(self, reader: Reader) -> tuple[CompositePublic, int]:
        raw = reader.string()
        if len(raw) != COMPOSITE_PUBLIC:
            raise KeyFormatError(f"a {self.label} key of {len(raw)} bytes; it has {COMPOSITE_PUBLIC}")
        check_point(raw[-32:])
        return CompositePublic(raw), 512

    def prove(self, public: CompositePublic) -> None:
        check_root(public.raw[-32:])

    def encode(self, public: CompositePublic) -> bytes:
        return string(public.raw)

    def verify(self, public: CompositePublic, algorithm: str, signature: bytes, data: bytes) -> None:
        if len(signature) != COMPOSITE_SIGNATURE or int.from_bytes(signature[-32:], "little") >= ORDER:
            raise InvalidSignature
        public.verify(signature, data)

    def sign(self, private: CompositeKey, algorithm: str, data: bytes) -> bytes:
        return private.sign(data)

    def generate(self, bits: int | None) -> CompositeKey:
        return CompositeKey.generate()


_ED25519: Final = _Ed25519()
_NISTP256: Final = _Ecdsa("nistp256", ec.SECP256R1(), hashes.SHA256())

_SCHEMES: Final[dict[str, _Scheme[Any, Any]]] = {
    scheme.type: scheme
    for scheme in (
        _ED25519,
        _NISTP256,
        _Ecdsa("nistp384", ec.SECP384R1(), hashes.SHA384()),
        _Ecdsa("nistp521", ec.SECP521R1(), hashes.SHA512()),
        _Rsa(),
        _SecurityKey(_ED25519, "sk-ssh-ed25519@openssh.com"),
        _SecurityKey(_NISTP256, "sk-ecdsa-sha2-nistp256@openssh.com",
                     "webauthn-sk-ecdsa-sha2-nistp256@openssh.com"),
        _Composite(COMPOSITE),
    )
}  # fmt: skip

KEY_TYPES: Final = tuple(_SCHEMES)
"""Every key type that can be read, certificates aside, in order of preference."""

SIGNING_TYPES: Final = tuple(name for name, s in _SCHEMES.items() if not isinstance(s, _SecurityKey))
"""The key types that are made, and sign, here: without hardware."""

_TYPE_OF: Final = {name: scheme.type for scheme in _SCHEMES.values() for name in scheme.algorithms}

SIGNATURE_ALGORITHMS: Final = tuple(_TYPE_OF)
"""Every signature algorithm, in order of preference."""

SIGNING_ALGORITHMS: Final = tuple(name for name, key_type in _TYPE_OF.items() if key_type in SIGNING_TYPES)
"""Those of the types that sign here."""


def certified_name(name: str) -> str:
    """The second name of a key type or algorithm, for keys with a certificate (OpenSSH PROTOCOL.certkeys)."""
    return f"{name.removesuffix('@openssh.com')}-cert-v01@openssh.com"


CERTIFIED: Final = {certified_name(name): name for name in KEY_TYPES if name != COMPOSITE}
"""The key types of certificates, each with that of the key in it."""

_PLAIN: Final = {certified_name(name): name for name in SIGNATURE_ALGORITHMS if name != COMPOSITE}


def plain_algorithm(algorithm: str) -> str:
    """The name that `algorithm` has inside a signature: its own, or that without the certificate."""
    return _PLAIN.get(algorithm, algorithm)


def algorithms_for(key_type: str) -> tuple[str, ...]:
    """The signature algorithms of a key type, best first; empty for a type not known (RFC 8332 §2)."""
    if key_type in CERTIFIED:
        return tuple(map(certified_name, _SCHEMES[CERTIFIED[key_type]].algorithms))
    scheme = _SCHEMES.get(key_type)
    return scheme.algorithms if scheme else ()


def key_type_of(algorithm: str) -> str | None:
    """The key type that `algorithm` signs with, or None for an algorithm not known."""
    if algorithm in _PLAIN:
        return certified_name(_TYPE_OF[_PLAIN[algorithm]])
    return _TYPE_OF.get(algorithm, algorithm if algorithm in LEGACY_ALGORITHMS else None)


@slotted(frozen=True, repr=False)
class PublicKey:
    """A public key that passed every check; equal where the blobs are equal.

    `type` is the key type ("ssh-rsa"), `blob` the bytes of RFC 4253 §6.6, `bits` its size. Made by
    `from_blob`, or by a `PrivateKey`.
    """

    type: str
    blob: bytes
    bits: int = field(compare=False)
    _handle: Any = field(compare=False)

    @classmethod
    def from_blob(cls, blob: bytes, *, prove: bool = True) -> PublicKey:
        """Reads a key blob (RFC 4253 §6.6, 5656 §3.1, 8709 §4).

        Without `prove` bytes that are no point of Ed25519 may pass, by which nothing verifies: for a server,
        which takes a key only where it finds it among those it knows, and then has its signature checked.

        Raises KeyFormatError for a type not known, a blob that is short or has bytes too many, a point
        that is off its curve, compressed, of small order or not canonical, and an RSA key out of bounds.
        """
        reader = Reader(blob)
        try:
            key_type = reader.name()
            scheme = _SCHEMES.get(key_type)
            if scheme is None:
                raise KeyFormatError(f'keys of type "{key_type}" are not supported')
            handle, bits = scheme.decode(reader)
            reader.done()
            if prove:
                scheme.prove(handle)
        except MalformedMessage as error:
            raise KeyFormatError(f"a key blob that cannot be read: {error}", clause="RFC 4253 6.6") from None
        return cls(key_type, bytes(blob), bits, handle)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The signature algorithms this key can be used with, best first."""
        return _SCHEMES[self.type].algorithms

    @property
    def legacy_algorithms(self) -> tuple[str, ...]:
        """Those that it can also be used with, and is where a Policy names them, and nowhere else."""
        return LEGACY_ALGORITHMS.get(self.type, ())

    @property
    def label(self) -> str:
        """The type as OpenSSH says it to people: ED25519, RSA, ECDSA, ED25519-SK, ECDSA-SK."""
        return _SCHEMES[self.type].label

    @property
    def plain(self) -> PublicKey:
        """The key without a certificate: itself."""
        return self

    @property
    def issued(self) -> str:
        """Who issued its certificate: nobody did."""
        return ""

    @property
    def application(self) -> str:
        """What a security key was made for, mostly "ssh:"; empty for a key that is in none."""
        in_hardware = isinstance(_SCHEMES[self.type], _SecurityKey)
        return self._handle[1].decode("utf-8", "surrogateescape") if in_hardware else ""

    def verify(
        self, algorithm: str, signature: bytes, data: bytes, *, touch_required: bool = True,
        verify_required: bool = False, legacy: bool = False,
    ) -> bool:  # fmt: skip
        """Whether `signature` is this key's signature of `data` by `algorithm`.

        `signature` is the whole blob of RFC 4253 §6.6: the algorithm's name, then the signature. The
        name inside has to be `algorithm`, so that a peer cannot swap in a weaker hash (RFC 8332 §3.2).
        A security key must say that it was touched, unless the caller can do without (`touch_required`);
        with `verify_required` that it verified who touched it, by a PIN or a finger (OpenSSH PROTOCOL.u2f).
        `legacy` takes its `legacy_algorithms`, too. Never raises: what cannot be read is not a signature.
        """
        if algorithm not in self.algorithms and not (legacy and algorithm in self.legacy_algorithms):
            return False
        flags = _PRESENT * touch_required | _VERIFIED * verify_required
        try:
            reader = Reader(signature)
            if reader.string() != algorithm.encode():
                return False
            _SCHEMES[self.type].check(self._handle, algorithm, reader, data, flags)
        except (MalformedMessage, InvalidSignature, ValueError):
            return False
        return True

    def fingerprint(self, hash: str = "sha256") -> str:
        """The fingerprint as ssh-keygen writes it: "SHA256:<base64>", or "MD5:aa:bb:..." on "md5".

        Raises UsageError for another hash.
        """
        if hash == "sha256":
            digest = hashlib.sha256(self.blob).digest()
            return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
        if hash == "md5":
            return "MD5:" + hashlib.md5(self.blob, usedforsecurity=False).digest().hex(":")
        raise UsageError(f'no fingerprint by "{hash}"; there are sha256 and md5')

    def __repr__(self) -> str:
        return f"<PublicKey {self.type} {self.fingerprint()}>"


def _scheme_of(handle: Any) -> _Scheme[Any, Any] | None:
    """The scheme of a private key of the crypto library; None for a kind that SSH has no use for."""
    if isinstance(handle, SecurityKey):
        return _SCHEMES.get(handle.type)
    if isinstance(handle, CompositeKey):
        return _SCHEMES[COMPOSITE]
    if isinstance(handle, ed25519.Ed25519PrivateKey):
        return _SCHEMES["ssh-ed25519"]
    if isinstance(handle, rsa.RSAPrivateKey):
        return _SCHEMES["ssh-rsa"]
    if isinstance(handle, ec.EllipticCurvePrivateKey):
        curve = handle.curve.name
        return next((s for s in _SCHEMES.values() if isinstance(s, _Ecdsa) and s.curve.name == curve), None)
    return None


class PrivateKey:
    """A private key, its public half and its comment. It is never shown, copied or pickled."""

    __slots__ = ("_handle", "comment", "public")

    def __init__(self, handle: Any, comment: str = "") -> None:
        """Takes a private key of `cryptography`: Ed25519, RSA, or EC on a NIST curve of RFC 5656.

        Raises KeyFormatError for another kind, or where the public half does not pass `from_blob`.
        """
        scheme = _scheme_of(handle)
        if scheme is None:
            raise KeyFormatError("a private key of a kind that SSH does not use")
        self._handle = handle
        self.comment = comment
        self.public = PublicKey.from_blob(string(scheme.type.encode()) + scheme.encode(handle.public_key()))

    @classmethod
    def generate(cls, key_type: str, bits: int | None = None, comment: str = "") -> PrivateKey:
        """A new key of `key_type`, one of SIGNING_TYPES; `bits` is for RSA (default 3072).

        Raises UsageError for a type or size not known, and for one that only hardware makes.
        """
        scheme = _SCHEMES.get(key_type)
        if scheme is None:
            raise UsageError(f'no key type "{key_type}"; there are {", ".join(SIGNING_TYPES)}')
        return cls(scheme.generate(bits), comment)

    def sign(self, algorithm: str, data: bytes) -> bytes:
        """The signature of `data`: the blob of RFC 4253 §6.6, the algorithm's name first.

        Raises UsageError where `algorithm` is not one of the key's, CryptoError where no valid
        signature came out; a faulty one never leaves.
        """
        if algorithm not in (*self.public.algorithms, *self.public.legacy_algorithms):
            raise UsageError(f"a key of type {self.public.type} does not sign with {algorithm}")
        try:
            inner = _SCHEMES[self.public.type].sign(self._handle, algorithm, data)
        except (InvalidSignature, ValueError):
            raise CryptoError(f"signing with {algorithm} failed: the signature does not verify") from None
        return string(algorithm.encode()) + string(inner)

    def reveal(self) -> Any:
        """The private key as an object of `cryptography`: for writing it to a file, nothing else."""
        return self._handle

    def __repr__(self) -> str:
        return f"<PrivateKey {self.public.type} {self.public.fingerprint()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PrivateKey is not pickled")
