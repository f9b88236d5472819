"""Certificates of OpenSSH: a key, and what an authority has signed about it (OpenSSH PROTOCOL.certkeys).

How a certificate lies on the wire is declared once, in `messages.blobs`; here it is read strictly, its
signature verified, and judged. A `Certificate` that exists was signed by its authority. Whether that
authority is trusted, and for what, is for whoever uses it: see `Certificate.objection`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from ..crypto.registry import AUTHORITY_ALGORITHMS
from ..crypto.signatures import (
    CERTIFIED,
    SIGNATURE_ALGORITHMS,
    PrivateKey,
    PublicKey,
    algorithms_for,
    certified_name,
    plain_algorithm,
)
from ..errors import KeyFormatError, MalformedMessage, UsageError
from ..messages import blobs
from ..messages.declare import S, Struct
from ..values import field, slotted
from ..wire import Reader, string, visible
from .patterns import match_pattern, parse_address, parse_network
from .public import AnyKey, read_key

__all__ = [
    "ALWAYS", "MAX_OPTIONS", "MAX_PRINCIPALS", "AnyKey", "Certificate", "draft_certificate",
    "finish_certificate", "read_key", "sign_certificate",
]  # fmt: skip

MAX_PRINCIPALS: Final = 256
"""Most names in a certificate: OpenSSH's own bound."""

MAX_OPTIONS: Final = 256
"""Most critical options, and most extensions; OpenSSH knows three and six."""

ALWAYS: Final = (1 << 64) - 1
"""`valid_before` of a certificate that never expires."""

CertificateKind: TypeAlias = Literal["user", "host"]

_KINDS: Final[dict[int, CertificateKind]] = {1: "user", 2: "host"}
_NUMBERS: Final = {kind: number for number, kind in _KINDS.items()}

FORCE_COMMAND: Final = "force-command"
SOURCE_ADDRESS: Final = "source-address"
VERIFY_REQUIRED: Final = "verify-required"
NO_TOUCH_REQUIRED: Final = "no-touch-required"

_WITH_VALUE: Final = {FORCE_COMMAND: True, SOURCE_ADDRESS: True, VERIFY_REQUIRED: False}
"""Critical options of a user's certificate that are known -> whether they have a value."""

EXTENSIONS: Final = (
    NO_TOUCH_REQUIRED, "permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding",
    "permit-pty", "permit-user-rc",
)  # fmt: skip
"""Extensions of a user's certificate that are known; others are ignored, as they have to be."""


@slotted(frozen=True, repr=False)
class Certificate:
    """A key with its certificate; equal where the blobs are equal. It stands where a `PublicKey` may stand.

    `key` is the key in it, `authority` the one that signed it, by `signature_algorithm`. `kind` says for
    whom: "user" or "host". Times are seconds since 1970: valid from `valid_after` until before
    `valid_before`. `critical` and `extensions` are the options by name, each with its bytes as they stand.
    """

    type: str
    """The key type: that of the key, with `-cert-v01` in it."""
    blob: bytes
    bits: int = field(compare=False)
    key: PublicKey = field(compare=False)
    serial: int = field(compare=False)
    kind: CertificateKind = field(compare=False)
    key_id: str = field(compare=False)
    principals: tuple[str, ...] = field(compare=False)
    valid_after: int = field(compare=False)
    valid_before: int = field(compare=False)
    critical: Mapping[str, bytes] = field(compare=False)
    extensions: Mapping[str, bytes] = field(compare=False)
    authority: PublicKey = field(compare=False)
    signature_algorithm: str = field(compare=False)

    @classmethod
    def from_blob(cls, blob: bytes) -> Certificate:
        """Reads the blob of a certificate and verifies its signature.

        Raises KeyFormatError for a type not known, a blob that is short or has bytes too many, a key or
        an authority that does not pass `PublicKey.from_blob` (so no certificate is signed by another), a
        kind that is neither user nor host, a name or option with a NUL in it, more of them than the
        bounds, options that are not sorted or occur twice, and a signature that does not verify.
        """
        try:
            return cls._read(bytes(blob))
        except MalformedMessage as error:
            raise KeyFormatError(f"a certificate that cannot be read: {error}", clause=_CLAUSE) from None

    @classmethod
    def _read(cls, blob: bytes) -> Certificate:
        outer = blobs.PublicKeyBlob.decode(blob)
        if outer.type not in CERTIFIED or isinstance(outer.body, bytes):
            raise KeyFormatError(f'certificates of type "{visible(outer.type)}" are not supported')
        inner: blobs.Ed25519Certificate = outer.body  # type: ignore[assignment]  # all have these fields
        told = inner.certified
        key = PublicKey.from_blob(string(CERTIFIED[outer.type].encode()) + inner.key.encode())
        if told.type not in _KINDS:
            raise KeyFormatError(f"a certificate of kind {told.type}; 1 is a user's, 2 a host's")
        authority = _authority(told.signature_key)
        algorithm = Reader(told.signature).name()
        signed = blob[: -len(string(told.signature))]
        # A security key that signs certificates may be made for not being touched; OpenSSH asks no more.
        if not authority.verify(algorithm, told.signature, signed, touch_required=False):
            supported = algorithm in SIGNATURE_ALGORITHMS
            why = "does not verify" if supported else f'is by "{algorithm}", which is not supported'
            raise KeyFormatError(f"a certificate whose signature {why}")
        return cls(
            outer.type, blob, key.bits, key, told.serial, _KINDS[told.type], _text(told.key_id, "key id"),
            _principals(told.valid_principals), told.valid_after, told.valid_before,
            _options(told.critical_options), _options(told.extensions), authority, algorithm,
        )  # fmt: skip

    # --- as a PublicKey

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The signature algorithms the key can be used with, best first, by their names for certificates."""
        return algorithms_for(self.type)

    @property
    def label(self) -> str:
        """The type as OpenSSH says it to people: ED25519-CERT."""
        return f"{self.key.label}-CERT"

    @property
    def plain(self) -> PublicKey:
        """The key without its certificate."""
        return self.key

    @property
    def application(self) -> str:
        """As `PublicKey.application`."""
        return self.key.application

    def verify(
        self, algorithm: str, signature: bytes, data: bytes, *, touch_required: bool = True,
        verify_required: bool = False,
    ) -> bool:  # fmt: skip
        """As `PublicKey.verify`. `algorithm` is a name for certificates; inside the signature stands the
        plain one."""
        return algorithm in self.algorithms and self.key.verify(
            plain_algorithm(algorithm), signature, data,
            touch_required=touch_required, verify_required=verify_required,
        )  # fmt: skip

    def fingerprint(self, hash: str = "sha256") -> str:
        """The fingerprint of the key without its certificate, as OpenSSH shows it."""
        return self.key.fingerprint(hash)

    @property
    def issued(self) -> str:
        """Who issued it, as OpenSSH's server logs it: ID, serial number, authority."""
        authority = self.authority
        return f"ID {self.key_id} (serial {self.serial}) CA {authority.label} {authority.fingerprint()}"

    @property
    def validity(self) -> str:
        """When it is valid, in OpenSSH's words, in the machine's time zone."""
        from .times import show_time

        if not self.valid_after:
            return "forever" if self.valid_before == ALWAYS else f"before {show_time(self.valid_before)}"
        if self.valid_before == ALWAYS:
            return f"after {show_time(self.valid_after)}"
        return f"from {show_time(self.valid_after)} to {show_time(self.valid_before)}"

    def __repr__(self) -> str:
        return f"<Certificate {self.type} {self.fingerprint()} by {self.authority.fingerprint()}>"

    # --- judged

    def objection(
        self, kind: CertificateKind, name: str | None, now: float, *, address: str | None = None,
        algorithms: Collection[str] = AUTHORITY_ALGORITHMS,
    ) -> str:  # fmt: skip
        """Why the certificate does not hold for `name` as a `kind` ("user", "host") at `now`, in OpenSSH's
        words; empty where it does. Whether its authority is trusted or revoked is the caller's.

        `name` is the user or host; None: the caller compares the principals itself, with a list of its own.
        `now` is seconds since 1970. A host's principals may be patterns, a user's never are. A certificate
        without principals is for nobody, as of OpenSSH 10.3. `address` is where the user comes from: a
        certificate for certain addresses does not hold where it is not given. `algorithms` are those by
        which the authority may have signed (CASignatureAlgorithms).
        """
        if self.kind != kind:
            return f"Certificate invalid: not a {kind} certificate"
        if now < self.valid_after:
            return "Certificate invalid: not yet valid"
        if now >= self.valid_before:
            return "Certificate invalid: expired"
        if not self.principals:
            return "Certificate lacks principal list"
        if name is not None and not any(self._names(name, principal) for principal in self.principals):
            return "Certificate invalid: name is not a listed principal"
        if self.signature_algorithm not in algorithms:
            return f"Certificate signed with disallowed algorithm {self.signature_algorithm}"
        if kind == "host":
            return "Certificate contains unsupported critical options" if self.critical else ""
        return self._option_objection() or self._address_objection(address)

    def _names(self, name: str, principal: str) -> bool:
        return match_pattern(name, principal) if self.kind == "host" else name == principal

    def _option_objection(self) -> str:
        """OpenSSH: critical options that are not known, or have what they should not, void it."""
        for name, data in self.critical.items():
            if name not in _WITH_VALUE:
                return f'Certificate critical option "{visible(name)}" is not supported'
            if (_value(data) is None) if _WITH_VALUE[name] else data:
                return f'Certificate option "{name}" corrupt'
        for name in EXTENSIONS:
            if self.extensions.get(name):
                return f'Certificate option "{name}" corrupt (extra data)'
        return ""

    def _address_objection(self, address: str | None) -> str:
        if SOURCE_ADDRESS not in self.critical:
            return ""
        try:
            networks = [parse_network(word) for word in self.source_addresses]
        except KeyFormatError:
            networks = [None]
        if None in networks:
            return "Certificate source-address contents invalid"
        peer = parse_address(address) if address is not None else None
        if peer is None or not any(peer in network for network in networks if network is not None):
            return f"Certificate is not valid from {visible(address or 'an address that is not known')}"
        return ""

    @property
    def force_command(self) -> str | None:
        """What runs whatever the user asks for (`force-command`); None: no such option."""
        return _value(self.critical[FORCE_COMMAND]) if FORCE_COMMAND in self.critical else None

    @property
    def source_addresses(self) -> tuple[str, ...]:
        """The networks a user may come from (`source-address`), empty words too; empty: no such option."""
        data = self.critical.get(SOURCE_ADDRESS)
        return tuple((_value(data) or "").split(",")) if data is not None else ()

    @property
    def verify_required(self) -> bool:
        """Whether a security key has to verify who touches it (`verify-required`)."""
        return VERIFY_REQUIRED in self.critical

    @property
    def touch_required(self) -> bool:
        """Whether a security key has to be touched: yes, but for `no-touch-required`."""
        return NO_TOUCH_REQUIRED not in self.extensions

    def permits(self, what: str) -> bool:
        """Whether an extension `permit-WHAT` is there: X11-forwarding, agent-forwarding, port-forwarding,
        pty, user-rc. What a certificate does not permit is forbidden."""
        return f"permit-{what}" in self.extensions


_CLAUSE: Final = blobs.CERTIFICATES


def _authority(blob: bytes) -> PublicKey:
    try:
        return PublicKey.from_blob(blob)
    except KeyFormatError as error:
        raise KeyFormatError(
            f"a certificate whose authority cannot be used: {error}", hint=error.hint
        ) from None


def _items(item: type[S], data: bytes, most: int) -> list[S]:
    """What is listed in `data`; the bound holds while it is read."""
    reader = Reader(data)
    found: list[S] = []
    while reader.left():
        if len(found) == most:
            raise KeyFormatError(f"a certificate with more than {most} of one kind: {item.__name__}")
        found.append(item.decode_from(reader))
    return found


def _text(text: str, what: str) -> str:
    if "\0" in text:
        raise KeyFormatError(f"a certificate with a NUL in its {what}")
    return text


def _principals(data: bytes) -> tuple[str, ...]:
    return tuple(_text(each.name, "principals") for each in _items(blobs.Principal, data, MAX_PRINCIPALS))


def _options(data: bytes) -> dict[str, bytes]:
    options = [(_text(each.name, "options"), each.data) for each in _items(blobs.Option, data, MAX_OPTIONS)]
    for (before, _), (name, _) in pairwise(options):
        if _order(before) >= _order(name):
            how = "twice" if before == name else "out of order"
            raise KeyFormatError(f'a certificate with the option "{visible(name)}" {how}', clause=_CLAUSE)
    return dict(options)


def _order(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _value(data: bytes) -> str | None:
    """The one string in the data of an option; None where that is not what it has."""
    try:
        reader = Reader(data)
        text = reader.text()
        reader.done()
    except MalformedMessage:
        return None
    return None if "\0" in text else text


# --- made


def draft_certificate(
    key: PublicKey, authority: PublicKey, *, kind: CertificateKind, key_id: str,
    principals: Sequence[str], serial: int = 0, valid_after: int = 0, valid_before: int = ALWAYS,
    critical: Mapping[str, str] | None = None, extensions: Mapping[str, str] | None = None,
    nonce: bytes | None = None,
) -> bytes:  # fmt: skip
    """What `authority` has to sign: the blob of a certificate without its signature.

    An option whose value is "" has none. Raises UsageError for what no certificate may hold, and for a key
    of a type that has none.
    """
    if kind not in _NUMBERS:
        raise UsageError(f'a certificate is for a "user" or a "host", not for "{kind}"')
    if len(principals) > MAX_PRINCIPALS:
        raise UsageError(f"{len(principals)} principals; a certificate has at most {MAX_PRINCIPALS}")
    if not 0 <= valid_after < valid_before <= ALWAYS:
        raise UsageError("a certificate that is valid at no time")
    texts = [key_id, *principals, *(critical or {}), *(extensions or {})]
    if any("\0" in text for text in texts) or "" in principals:
        raise UsageError("a certificate with an empty principal, or a NUL in a name")
    type = certified_name(key.type)
    if type not in CERTIFIED:
        raise UsageError(f"there are no certificates of keys of type {key.type}")
    certified = blobs.Certified(
        serial, _NUMBERS[kind], key_id, b"".join(blobs.Principal(name).encode() for name in principals),
        valid_after, valid_before, _encode_options(critical or {}), _encode_options(extensions or {}),
        b"", authority.blob, b"",
    )  # fmt: skip
    layout = blobs.KEY_TYPES[type]
    plain = blobs.PlainKeyBlob.decode(key.blob).body
    assert isinstance(plain, Struct)
    body = layout(os.urandom(32) if nonce is None else nonce, plain, certified)  # type: ignore[call-arg]
    return blobs.PublicKeyBlob(type, body).encode()[: -len(string(b""))]


def _encode_options(options: Mapping[str, str]) -> bytes:
    def data(value: str) -> bytes:
        return string(value.encode("utf-8", "surrogateescape")) if value else b""

    return b"".join(blobs.Option(name, data(options[name])).encode() for name in sorted(options, key=_order))


def finish_certificate(draft: bytes, signature: bytes) -> Certificate:
    """The certificate of `draft_certificate` with its authority's `signature` blob: where an agent signs.

    Raises KeyFormatError where the signature does not verify.
    """
    return Certificate.from_blob(draft + string(signature))


def sign_certificate(
    key: PublicKey, authority: PrivateKey, *, kind: CertificateKind, key_id: str,
    principals: Sequence[str], serial: int = 0, valid_after: int = 0, valid_before: int = ALWAYS,
    critical: Mapping[str, str] | None = None, extensions: Mapping[str, str] | None = None,
    algorithm: str = "", nonce: bytes | None = None,
) -> Certificate:  # fmt: skip
    """A certificate of `key`, signed by `authority` with `algorithm`, by default its best.

    Raises UsageError for what no certificate may hold, KeyFormatError for more than its bounds.
    """
    draft = draft_certificate(
        key, authority.public, kind=kind, key_id=key_id, principals=principals, serial=serial,
        valid_after=valid_after, valid_before=valid_before, critical=critical, extensions=extensions,
        nonce=nonce,
    )  # fmt: skip
    return finish_certificate(draft, authority.sign(algorithm or authority.public.algorithms[0], draft))
