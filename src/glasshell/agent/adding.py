"""How keys are given to an agent (RFC 9987 §3.2, §3.3): with what restricts their use.

What a constraint says is held to, or the key is refused: one that is not known is of unknown length, and
takes the rest of the message with it.
"""

import enum
from typing import Annotated, Any, Final, TypeAlias, cast

from ..messages.blobs import KeyBlob
from ..messages.declare import (
    U8,
    U32,
    Body,
    Bool,
    Bytes,
    Holding,
    Items,
    Message,
    MPInt,
    Name,
    SecretBytes,
    Struct,
    Table,
    Text,
    body,
    by_name,
    doc,
    message,
)
from .messages import CONTEXT, OPENSSH

PRIVATE_KEYS: Final[dict[str, type[Struct]]] = {}
"""What follows the type of a private key that is handed to an agent."""

CONSTRAINT_EXTENSIONS: Final[dict[str, type[Struct]]] = {}
"""What follows the name of a constraint of a kind of its own."""


class ConstraintType(enum.IntEnum):
    """RFC 9987 §3.2.6: kinds of constraints, without the prefix SSH_AGENT_CONSTRAIN_."""

    LIFETIME = 1
    CONFIRM = 2
    MAXSIGN = 3
    EXTENSION = 255


# --- private keys


@body(PRIVATE_KEYS, "ssh-ed25519", clause="RFC 9987 3.2.3")
class Ed25519Private(Struct):
    """An Ed25519 key."""

    public: Bytes
    private: SecretBytes = doc("the seed, and the public half again")


@body(PRIVATE_KEYS, "ssh-mldsa44-ed25519", clause="draft-miller-sshm-mldsa44-ed25519")
class CompositePrivate(Struct):
    """A key of ML-DSA-44 with Ed25519."""

    public: Bytes
    private: SecretBytes = doc("the seeds of both")


@body(PRIVATE_KEYS, "ssh-rsa", clause="RFC 9987 3.2.4")
class RsaPrivate(Struct):
    """An RSA key."""

    n: MPInt = doc("modulus")
    e: MPInt = doc("public exponent")
    d: SecretBytes = doc("an mpint: private exponent")
    iqmp: SecretBytes = doc("an mpint: inverse of q modulo p")
    p: SecretBytes = doc("an mpint")
    q: SecretBytes = doc("an mpint")


@body(PRIVATE_KEYS, "ecdsa-sha2-nistp256", clause="RFC 9987 3.2.2")
class EcdsaPrivate(Struct):
    """A key on a NIST curve."""

    curve: Text
    q: Bytes = doc("the point, as an octet string (SEC 1)")
    d: SecretBytes = doc("an mpint: private scalar")


@body(PRIVATE_KEYS, "sk-ssh-ed25519@openssh.com", clause="OpenSSH PROTOCOL.u2f")
class SkEd25519Private(Struct):
    """An Ed25519 key inside a security key."""

    public: Bytes
    application: Text
    flags: U8 = doc("1: a person has to be there; 4: and to be verified")
    handle: SecretBytes = doc("by which the security key finds, or makes, the private half")
    reserved: Bytes = b""


@body(PRIVATE_KEYS, "sk-ecdsa-sha2-nistp256@openssh.com", clause="OpenSSH PROTOCOL.u2f")
class SkEcdsaPrivate(Struct):
    """An ECDSA key inside a security key."""

    curve: Text
    q: Bytes = doc("the point, as an octet string (SEC 1)")
    application: Text
    flags: U8 = doc("1: a person has to be there; 4: and to be verified")
    handle: SecretBytes = doc("by which the security key finds, or makes, the private half")
    reserved: Bytes = b""


@body(PRIVATE_KEYS, "ssh-ed25519-cert-v01@openssh.com", clause=OPENSSH)
class Ed25519CertificatePrivate(Struct):
    """An Ed25519 key with its certificate."""

    certificate: KeyBlob
    public: Bytes
    private: SecretBytes = doc("the seed, and the public half again")


@body(PRIVATE_KEYS, "ssh-rsa-cert-v01@openssh.com", clause=OPENSSH)
class RsaCertificatePrivate(Struct):
    """An RSA key with its certificate, which has the modulus and the public exponent."""

    certificate: KeyBlob
    d: SecretBytes = doc("an mpint: private exponent")
    iqmp: SecretBytes = doc("an mpint: inverse of q modulo p")
    p: SecretBytes = doc("an mpint")
    q: SecretBytes = doc("an mpint")


@body(PRIVATE_KEYS, "ecdsa-sha2-nistp256-cert-v01@openssh.com", clause=OPENSSH)
class EcdsaCertificatePrivate(Struct):
    """A key on a NIST curve with its certificate, which has curve and point."""

    certificate: KeyBlob
    d: SecretBytes = doc("an mpint: private scalar")


@body(PRIVATE_KEYS, "sk-ssh-ed25519-cert-v01@openssh.com", clause=OPENSSH)
class SkEd25519CertificatePrivate(Struct):
    """An Ed25519 key inside a security key, with its certificate."""

    certificate: KeyBlob
    public: Bytes
    application: Text
    flags: U8
    handle: SecretBytes
    reserved: Bytes = b""


@body(PRIVATE_KEYS, "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", clause=OPENSSH)
class SkEcdsaCertificatePrivate(Struct):
    """An ECDSA key inside a security key, with its certificate."""

    certificate: KeyBlob
    application: Text
    flags: U8
    handle: SecretBytes
    reserved: Bytes = b""


for _curve in ("nistp384", "nistp521"):
    PRIVATE_KEYS[f"ecdsa-sha2-{_curve}"] = EcdsaPrivate
    PRIVATE_KEYS[f"ecdsa-sha2-{_curve}-cert-v01@openssh.com"] = EcdsaCertificatePrivate


# --- constraints


@body(None, clause="RFC 9987 3.2.6")
class Lifetime(Struct):
    """The agent forgets the key after a time."""

    seconds: U32


@body(None, clause="RFC 9987 3.2.6")
class Confirm(Struct):
    """The agent asks its owner before each use."""


@body(None, clause=OPENSSH)
class MaxSign(Struct):
    """How often an XMSS key may sign."""

    signatures: U32


@body(None, clause="RFC 9987 3.2.6")
class ConstraintExtension(Struct):
    """A constraint that the protocol itself does not have."""

    name: Name
    contents: Body = by_name("name", CONSTRAINT_EXTENSIONS)


CONSTRAINTS: Final[dict[int, type[Struct]]] = {
    ConstraintType.LIFETIME: Lifetime,
    ConstraintType.CONFIRM: Confirm,
    ConstraintType.MAXSIGN: MaxSign,
    ConstraintType.EXTENSION: ConstraintExtension,
}


@body(None, clause="RFC 9987 3.2.6")
class Constraint(Struct):
    """One restriction of a key's use."""

    type: U8 = doc("1 lifetime, 2 confirm, 3 signatures of XMSS, 255 extension")
    contents: Body = by_name("type", cast("Table", CONSTRAINTS))


Constraints: TypeAlias = Annotated[tuple[Constraint, ...], Items(Constraint, counted=False)]


@body(None, clause=OPENSSH)
class HopKey(Struct):
    """A host key of a hop, or the key of an authority for it."""

    key: KeyBlob
    authority: Bool


@body(None, clause=OPENSSH)
class Hop(Struct):
    """One end of a destination; without host and keys it is where the agent runs."""

    user: Text
    hostname: Text
    reserved: Bytes = b""
    keys: Annotated[tuple[HopKey, ...], Items(HopKey, counted=False)] = ()


@body(None, clause=OPENSSH)
class Destination(Struct):
    """From where to where, and as whom, a key may be used."""

    origin: Annotated[bytes, Holding(Hop)]
    target: Annotated[bytes, Holding(Hop)]
    reserved: Bytes = b""


@body(None, clause=OPENSSH)
class DestinationItem(Struct):
    """A destination in its string."""

    destination: Annotated[bytes, Holding(Destination)]


@body(None, clause=OPENSSH)
class Destinations(Struct):
    """The destinations of a key, one after the other."""

    items: Annotated[tuple[DestinationItem, ...], Items(DestinationItem, counted=False)]


@body(CONSTRAINT_EXTENSIONS, "restrict-destination-v00@openssh.com", clause=OPENSSH)
class RestrictDestination(Struct):
    """The key may be used for these destinations alone."""

    destinations: Annotated[bytes, Holding(Destinations)]


@body(CONSTRAINT_EXTENSIONS, "sk-provider@openssh.com", clause="OpenSSH PROTOCOL.u2f")
class SkProvider(Struct):
    """The library that reaches the security key."""

    provider: Text


@body(CONSTRAINT_EXTENSIONS, "associated-certs-v00@openssh.com", clause=OPENSSH)
class AssociatedCertificates(Struct):
    """Certificates for the keys of a token."""

    only: Bool = doc("whether the keys are of use with them alone")
    certificates: Bytes = doc("one string after the other")


# --- the messages


@message(17, "SSH_AGENTC_ADD_IDENTITY", clause="RFC 9987 3.2", context=CONTEXT)
class AddIdentity(Message):
    """Gives the agent a key."""

    type: Name
    key: Body = by_name("type", PRIVATE_KEYS, guarded=True)
    comment: Text


@message(25, "SSH_AGENTC_ADD_ID_CONSTRAINED", clause="RFC 9987 3.2", context=CONTEXT)
class AddIdConstrained(Message):
    """Gives the agent a key, and says how it may be used."""

    type: Name
    key: Body = by_name("type", PRIVATE_KEYS, guarded=True)
    comment: Text
    constraints: Constraints


@message(20, "SSH_AGENTC_ADD_SMARTCARD_KEY", clause="RFC 9987 3.3", context=CONTEXT)
class AddSmartcardKey(Message):
    """Has the agent use the keys of a token."""

    provider: Text = doc("the PKCS#11 library")
    pin: SecretBytes


@message(26, "SSH_AGENTC_ADD_SMARTCARD_KEY_CONSTRAINED", clause="RFC 9987 3.3", context=CONTEXT)
class AddSmartcardKeyConstrained(Message):
    """The same, with constraints."""

    provider: Text = doc("the PKCS#11 library")
    pin: SecretBytes
    constraints: Constraints


@message(21, "SSH_AGENTC_REMOVE_SMARTCARD_KEY", clause="RFC 9987 3.4", context=CONTEXT)
class RemoveSmartcardKey(Message):
    """Takes the keys of a token out of the agent."""

    provider: Text = doc("the PKCS#11 library")
    pin: SecretBytes = doc("not needed")


def constraint(contents: Any) -> Constraint:
    """A structure of CONSTRAINTS, or of CONSTRAINT_EXTENSIONS, as it stands in a message."""
    for number, kind in CONSTRAINTS.items():
        if type(contents) is kind:
            return Constraint(int(number), contents)
    name = next(name for name, kind in CONSTRAINT_EXTENSIONS.items() if type(contents) is kind)
    return Constraint(int(ConstraintType.EXTENSION), ConstraintExtension(name, contents))
