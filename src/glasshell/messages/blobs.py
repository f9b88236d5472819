"""What stands inside the strings that hold a key or a signature: RFC 4253 §6.6 and its followers.

For showing them. Who uses a key reads it by `crypto.signatures`, which refuses what is unfit; what is
declared here says what each byte is, of keys that are out of use or of no use to us as well.
"""

from typing import Annotated, Final, TypeAlias

from .declare import (
    U8,
    U32,
    U64,
    Body,
    Bytes,
    Holding,
    Items,
    MPInt,
    Nested,
    Struct,
    Text,
    body,
    by_name,
    doc,
)

PLAIN_KEYS: Final[dict[str, type[Struct]]] = {}
"""What follows the type in the blob of a public key."""

KEY_TYPES: Final[dict[str, type[Struct]]] = {}
"""What follows the type in the blob of a public key or certificate."""

SIGNATURE_TYPES: Final[dict[str, type[Struct]]] = {}
"""What follows the algorithm in the blob of a signature."""

CERTIFICATES: Final = "OpenSSH PROTOCOL.certkeys"
SECURITY_KEYS: Final = "OpenSSH PROTOCOL.u2f"


@body(None, clause="RFC 4253 6.6")
class PublicKeyBlob(Struct):
    """A public key, or a certificate of one."""

    type: Text
    body: Body = by_name("type", KEY_TYPES)


@body(None, clause="RFC 4253 6.6")
class SignatureBlob(Struct):
    """A signature, and by which algorithm it was made."""

    algorithm: Text
    body: Body = by_name("algorithm", SIGNATURE_TYPES)


@body(None, clause="RFC 4253 6.6")
class PlainKeyBlob(Struct):
    """A public key. An authority's is never a certificate, so none can be wrapped in another without end."""

    type: Text
    body: Body = by_name("type", PLAIN_KEYS)


KeyBlob: TypeAlias = Annotated[bytes, Holding(PublicKeyBlob)]
Signature: TypeAlias = Annotated[bytes, Holding(SignatureBlob)]


@body(PLAIN_KEYS, "ssh-ed25519", clause="RFC 8709 4")
class Ed25519Key(Struct):
    """A point of edwards25519."""

    key: Bytes


@body(PLAIN_KEYS, "ssh-mldsa44-ed25519", clause="draft-miller-sshm-mldsa44-ed25519")
class CompositeKey(Struct):
    """A key of ML-DSA-44, then a point of edwards25519."""

    key: Bytes


@body(PLAIN_KEYS, "ssh-rsa", clause="RFC 4253 6.6")
class RsaKey(Struct):
    """An RSA key."""

    e: MPInt = doc("public exponent")
    n: MPInt = doc("modulus")


@body(PLAIN_KEYS, "ssh-dss", clause="RFC 4253 6.6")
class DssKey(Struct):
    """A DSA key."""

    p: MPInt = doc("prime modulus")
    q: MPInt = doc("prime divisor")
    g: MPInt = doc("generator of the subgroup")
    y: MPInt = doc("public key")


@body(PLAIN_KEYS, "ecdsa-sha2-nistp256", clause="RFC 5656 3.1")
class EcdsaKey(Struct):
    """A point of a NIST curve."""

    curve: Text
    q: Bytes = doc("the point, as an octet string (SEC 1)")


@body(PLAIN_KEYS, "sk-ssh-ed25519@openssh.com", clause=SECURITY_KEYS)
class SkEd25519Key(Struct):
    """An Ed25519 key inside a security key."""

    key: Bytes
    application: Text


@body(PLAIN_KEYS, "sk-ecdsa-sha2-nistp256@openssh.com", clause=SECURITY_KEYS)
class SkEcdsaKey(Struct):
    """An ECDSA key inside a security key."""

    curve: Text
    q: Bytes = doc("the point, as an octet string (SEC 1)")
    application: Text


@body(None, clause=CERTIFICATES)
class Principal(Struct):
    """One user or host name."""

    name: Text


@body(None, clause=CERTIFICATES)
class Option(Struct):
    """One critical option or extension."""

    name: Text
    data: Bytes


Principals: TypeAlias = Annotated[tuple[Principal, ...], Items(Principal, counted=False)]
Options: TypeAlias = Annotated[tuple[Option, ...], Items(Option, counted=False)]


@body(None, clause=CERTIFICATES)
class PrincipalList(Struct):
    """Whom a certificate is for; nobody is named: for everybody."""

    principals: Principals


@body(None, clause=CERTIFICATES)
class OptionList(Struct):
    """What a certificate allows or demands."""

    options: Options


@body(None, clause=CERTIFICATES)
class Certified(Struct):
    """What an authority has signed about a key."""

    serial: U64
    type: U32 = doc("1 of a user, 2 of a host")
    key_id: Text
    valid_principals: Annotated[bytes, Holding(PrincipalList)]
    valid_after: U64 = doc("seconds since 1970")
    valid_before: U64 = doc("seconds since 1970")
    critical_options: Annotated[bytes, Holding(OptionList)]
    extensions: Annotated[bytes, Holding(OptionList)]
    reserved: Bytes
    signature_key: Annotated[bytes, Holding(PlainKeyBlob)]
    signature: Signature


Rights: TypeAlias = Annotated[Certified, Nested(Certified)]


@body(KEY_TYPES, "ssh-ed25519-cert-v01@openssh.com", clause=CERTIFICATES)
class Ed25519Certificate(Struct):
    """An Ed25519 key with a certificate."""

    nonce: Bytes
    key: Annotated[Ed25519Key, Nested(Ed25519Key)]
    certified: Rights


@body(KEY_TYPES, "ssh-rsa-cert-v01@openssh.com", clause=CERTIFICATES)
class RsaCertificate(Struct):
    """An RSA key with a certificate."""

    nonce: Bytes
    key: Annotated[RsaKey, Nested(RsaKey)]
    certified: Rights


@body(KEY_TYPES, "ecdsa-sha2-nistp256-cert-v01@openssh.com", clause=CERTIFICATES)
class EcdsaCertificate(Struct):
    """An ECDSA key with a certificate."""

    nonce: Bytes
    key: Annotated[EcdsaKey, Nested(EcdsaKey)]
    certified: Rights


@body(KEY_TYPES, "sk-ssh-ed25519-cert-v01@openssh.com", clause=CERTIFICATES)
class SkEd25519Certificate(Struct):
    """An Ed25519 key inside a security key, with a certificate."""

    nonce: Bytes
    key: Annotated[SkEd25519Key, Nested(SkEd25519Key)]
    certified: Rights


@body(KEY_TYPES, "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", clause=CERTIFICATES)
class SkEcdsaCertificate(Struct):
    """An ECDSA key inside a security key, with a certificate."""

    nonce: Bytes
    key: Annotated[SkEcdsaKey, Nested(SkEcdsaKey)]
    certified: Rights


for _curve in ("nistp384", "nistp521"):
    PLAIN_KEYS[f"ecdsa-sha2-{_curve}"] = EcdsaKey
    KEY_TYPES[f"ecdsa-sha2-{_curve}-cert-v01@openssh.com"] = EcdsaCertificate
KEY_TYPES.update(PLAIN_KEYS)


@body(SIGNATURE_TYPES, "ssh-rsa", clause="RFC 8332 3")
class RsaSignature(Struct):
    """An RSA signature (PKCS #1 v1.5)."""

    signature: Bytes


@body(SIGNATURE_TYPES, "ssh-dss", clause="RFC 4253 6.6")
class DssSignature(Struct):
    """A DSA signature: r and s, 160 bits each."""

    signature: Bytes


@body(SIGNATURE_TYPES, "ssh-ed25519", clause="RFC 8709 6")
class Ed25519Signature(Struct):
    """An Ed25519 signature."""

    signature: Bytes


@body(SIGNATURE_TYPES, "ssh-mldsa44-ed25519", clause="draft-miller-sshm-mldsa44-ed25519")
class CompositeSignature(Struct):
    """A signature of ML-DSA-44, then one of Ed25519."""

    signature: Bytes


@body(None, clause="RFC 5656 3.1.2")
class EcdsaPair(Struct):
    """The two numbers of an ECDSA signature."""

    r: MPInt
    s: MPInt


@body(SIGNATURE_TYPES, "ecdsa-sha2-nistp256", clause="RFC 5656 3.1.2")
class EcdsaSignature(Struct):
    """An ECDSA signature."""

    signature: Annotated[bytes, Holding(EcdsaPair)]


@body(SIGNATURE_TYPES, "sk-ssh-ed25519@openssh.com", clause=SECURITY_KEYS)
class SkEd25519Signature(Struct):
    """The signature of a security key."""

    signature: Bytes
    flags: U8 = doc("1: a person was there; 4: the person was verified")
    counter: U32 = doc("how often the key has signed")


@body(SIGNATURE_TYPES, "sk-ecdsa-sha2-nistp256@openssh.com", clause=SECURITY_KEYS)
class SkEcdsaSignature(Struct):
    """The signature of a security key."""

    signature: Annotated[bytes, Holding(EcdsaPair)]
    flags: U8 = doc("1: a person was there; 4: the person was verified")
    counter: U32 = doc("how often the key has signed")


SIGNATURE_TYPES["rsa-sha2-256"] = SIGNATURE_TYPES["rsa-sha2-512"] = RsaSignature
SIGNATURE_TYPES["ecdsa-sha2-nistp384"] = SIGNATURE_TYPES["ecdsa-sha2-nistp521"] = EcdsaSignature
