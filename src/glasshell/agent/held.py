"""The keys that an agent holds, and how they come into it and out of a program that adds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from ..crypto.signatures import PrivateKey, PublicKey
from ..errors import KeyFormatError, UsageError
from ..keys.certificate import AnyKey, Certificate, read_key
from ..keys.openssh import private_fields, private_from_fields
from ..messages.declare import Message, Struct
from ..values import field, slotted
from ..wire import Reader, Secret, string
from . import adding
from .destinations import Route, encode_routes
from .messages import SignFlag

__all__ = [
    "Held", "Private", "SecurityKey", "add_request", "read_private", "rsa_algorithm", "security_key",
]  # fmt: skip


@slotted(frozen=True, repr=False)
class SecurityKey:
    """A key inside a security key: what finds it there (OpenSSH PROTOCOL.u2f)."""

    public: PublicKey
    application: str
    flags: int
    """1: a person has to be there; 4: and to be verified."""
    handle: Secret
    reserved: bytes = b""


Private: TypeAlias = PrivateKey | SecurityKey


@slotted(eq=False, repr=False)
class Held:
    """One key of an agent. `key` is what clients call it by: the public key, or its certificate.

    `dies` is when it is forgotten, by the clock of the keyring; `routes` is where it may be used, nothing:
    anywhere.
    """

    key: AnyKey
    private: Private
    comment: str
    dies: float | None = None
    confirm: bool = False
    routes: tuple[Route, ...] = field(default=())


def read_private(key_type: str, told: Struct | bytes) -> tuple[AnyKey, Private]:
    """The key in a message that adds one. Raises KeyFormatError, MalformedMessage for one that is unfit."""
    if isinstance(told, bytes):
        raise KeyFormatError(f'keys of type "{key_type}" are not supported')
    blob = getattr(told, "certificate", None)
    if blob is None:
        private = _plain(key_type, told)
        return private.public, private
    certificate = read_key(blob)
    if not isinstance(certificate, Certificate) or certificate.type != key_type:
        raise KeyFormatError(f'a key of type "{key_type}" without a certificate of that type')
    private = _plain(certificate.key.type, _uncertified(certificate.key, told))
    if private.public != certificate.key:
        raise KeyFormatError("a certificate that belongs to another key")
    return certificate, private


def _plain(key_type: str, told: Any) -> Private:
    if not isinstance(told, adding.SkEd25519Private | adding.SkEcdsaPrivate):
        return private_from_fields(key_type, Reader(told.encode()))
    point = (
        string(told.public)
        if isinstance(told, adding.SkEd25519Private)
        else string(told.curve.encode()) + string(told.q)
    )
    application = told.application.encode("utf-8", "surrogateescape")
    public = PublicKey.from_blob(string(key_type.encode()) + point + string(application))
    return SecurityKey(public, told.application, told.flags, told.handle, told.reserved)


def _uncertified(key: PublicKey, told: Any) -> Struct:
    """The fields of the key alone; what they leave out stands in its certificate."""
    blob = Reader(key.blob)
    blob.name()
    match told:
        case adding.Ed25519CertificatePrivate():
            return adding.Ed25519Private(told.public, told.private)
        case adding.RsaCertificatePrivate():
            e, n = blob.mpint(), blob.mpint()
            return adding.RsaPrivate(n, e, told.d, told.iqmp, told.p, told.q)
        case adding.EcdsaCertificatePrivate():
            return adding.EcdsaPrivate(blob.text(), blob.string(), told.d)
        case adding.SkEd25519CertificatePrivate():
            return adding.SkEd25519Private(
                told.public, told.application, told.flags, told.handle, told.reserved
            )
        case _:
            return adding.SkEcdsaPrivate(
                blob.text(), blob.string(), told.application, told.flags, told.handle, told.reserved
            )


def _certified(certificate: Certificate, told: Any) -> Struct:
    """The fields of a key with its certificate."""
    blob = certificate.blob
    match told:
        case adding.Ed25519Private():
            return adding.Ed25519CertificatePrivate(blob, told.public, told.private)
        case adding.RsaPrivate():
            return adding.RsaCertificatePrivate(blob, told.d, told.iqmp, told.p, told.q)
        case adding.EcdsaPrivate():
            return adding.EcdsaCertificatePrivate(blob, told.d)
        case adding.SkEd25519Private():
            return adding.SkEd25519CertificatePrivate(
                blob, told.public, told.application, told.flags, told.handle, told.reserved
            )
        case _:
            return adding.SkEcdsaCertificatePrivate(
                blob, told.application, told.flags, told.handle, told.reserved
            )


def add_request(
    private: Private, comment: str, *, certificate: Certificate | None = None, lifetime: int = 0,
    confirm: bool = False, routes: Sequence[Route] = (), provider: str = "",
) -> Message:  # fmt: skip
    """The message that gives an agent a key; `lifetime` in seconds, 0: for good.

    `provider` is for security keys. Raises UsageError where `certificate` is of another key.
    """
    if certificate is not None and certificate.key != private.public:
        raise UsageError("the certificate belongs to another key")
    told: Struct = _fields(private)
    if certificate is not None:
        told = _certified(certificate, told)
    contents: list[Struct] = []
    if lifetime:
        contents.append(adding.Lifetime(lifetime))
    if confirm:
        contents.append(adding.Confirm())
    if provider and private.public.type.startswith("sk-"):
        contents.append(adding.SkProvider(provider))
    if routes:
        contents.append(encode_routes(routes))
    name = certificate.type if certificate is not None else private.public.type
    if not contents:
        return adding.AddIdentity(name, told, comment)
    return adding.AddIdConstrained(name, told, comment, tuple(map(adding.constraint, contents)))


def _fields(private: Private) -> Struct:
    key_type = private.public.type
    if isinstance(private, PrivateKey):
        return adding.PRIVATE_KEYS[key_type].decode(private_fields(private))
    blob = Reader(private.public.blob)
    blob.name()
    rest = (private.application, private.flags, private.handle, private.reserved)
    if key_type == "sk-ssh-ed25519@openssh.com":
        return adding.SkEd25519Private(blob.string(), *rest)
    return adding.SkEcdsaPrivate(blob.text(), blob.string(), *rest)


def security_key(private: PrivateKey) -> SecurityKey:
    """What a file says of a key inside a security key."""
    told: Any = _fields(private)
    return SecurityKey(private.public, told.application, told.flags, told.handle, told.reserved)


def rsa_algorithm(flags: int) -> str:
    """How an RSA key signs that is asked by these flags (RFC 9987 §3.6.1).

    Without a flag it would be SHA-1, which is broken: whoever insists on that sees another name in the
    signature, and everybody else has one that verifies.
    """
    plain = flags & SignFlag.RSA_SHA2_512 and not flags & SignFlag.RSA_SHA2_256
    return "rsa-sha2-512" if plain else "rsa-sha2-256"
