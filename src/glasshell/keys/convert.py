"""Keys in the forms of other programs: RFC 4716 (SSH.COM), public keys in PEM, SSH.COM's private RSA keys.

For `glasshell keygen -i` and `-e`. None of them says for what its key may be used, or who may see it.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ..crypto.signatures import PrivateKey, PublicKey, uncompressed
from ..errors import KeyFormatError, MalformedMessage
from ..wire import Reader, mpint, string, visible
from .pem import rsa_key
from .public import MAX_FILE, AnyKey, read_key

__all__ = ["dump_public_pem", "dump_rfc4716", "load_public_pem", "load_rfc4716"]

_BEGIN: Final = b"---- BEGIN SSH2 PUBLIC KEY ----"
_END: Final = b"---- END SSH2 PUBLIC KEY ----"
_PRIVATE: Final = b"SSH2 ENCRYPTED PRIVATE KEY"
_COLUMNS: Final = 70
_MAX_HEADER: Final = 1024
_MAGIC: Final = 0x3F6FF9EB
"""What SSH.COM's private keys start with."""


def dump_rfc4716(key: AnyKey, comment: str = "") -> str:
    """`key` as RFC 4716 §3 has it, `comment` in its header."""
    text = base64.b64encode(key.blob).decode()
    lines = [_BEGIN.decode()]
    if comment:
        lines.append(f'Comment: "{comment}"')
    lines += [text[i : i + _COLUMNS] for i in range(0, len(text), _COLUMNS)]
    return "\n".join([*lines, _END.decode(), ""])


def load_rfc4716(data: bytes) -> AnyKey | PrivateKey:
    """The key in SSH.COM's form: a public one (RFC 4716), or one of its private RSA keys without encryption.

    Raises KeyFormatError.
    """
    if len(data) > MAX_FILE:
        raise KeyFormatError(f"a key file of {len(data)} bytes; {MAX_FILE} are allowed")
    body: list[bytes] = []
    private = continued = False
    for raw in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        line = raw.strip()
        if line.startswith(b"----"):
            private = private or _PRIVATE in line
            if b" END " in line:
                break
        elif continued or b":" in line:  # a header, which a backslash carries on
            if len(line) > _MAX_HEADER:
                raise KeyFormatError("a header of more than 1024 bytes", clause="RFC 4716 3.3")
            continued = line.endswith(b"\\")
        else:
            body.append(line)
    try:
        blob = binascii.a2b_base64(b"".join(body), strict_mode=True)
        return _read_private(Reader(blob)) if private else read_key(blob)
    except (binascii.Error, MalformedMessage) as error:
        raise KeyFormatError(f"a key that cannot be read: {error}", clause="RFC 4716 3") from None


def _read_private(reader: Reader) -> PrivateKey:
    """SSH.COM has no paper about it: the order of what is in the file is what ssh-keygen reads."""
    if reader.uint32() != _MAGIC:
        raise KeyFormatError("a private key that does not start as SSH.COM's do")
    reader.uint32()
    kind, cipher = reader.text(), reader.text()
    for _ in range(3):
        reader.uint32()
    if cipher != "none":
        raise KeyFormatError(
            f'a private key encrypted by "{visible(cipher)}"',
            hint="take its passphrase away with SSH.COM's program",
        )
    if "rsa" not in kind:
        raise KeyFormatError(f'a private key of type "{visible(kind)}"; rsa is known')
    e = reader.byte()
    if e < 30:
        e = (e << 16) | (reader.byte() << 8) | reader.byte()
    d, n, iqmp, q, p = (_read_bits(reader) for _ in range(5))
    reader.done()
    return PrivateKey(rsa_key(n, e, d, iqmp, p, q))


def _read_bits(reader: Reader) -> int:
    """A number whose length stands before it in bits."""
    return int.from_bytes(reader.take((reader.uint32() + 7) // 8), "big")


# ---- public keys in PEM


def dump_public_pem(key: PublicKey, form: str) -> str:
    """`key` in PEM: "PKCS8" is a SubjectPublicKeyInfo (RFC 5280 §4.1), "PEM" the form of PKCS#1 for RSA.

    Raises KeyFormatError for a key of a kind that has no such form.
    """
    from cryptography.hazmat.primitives import serialization as s

    if key.application:  # which would be lost
        raise KeyFormatError(f"unsupported key type {key.label}: PEM has no form for it")
    try:
        handle: Any = s.load_ssh_public_key(key.type.encode() + b" " + base64.b64encode(key.blob))
        old = form == "PEM" and isinstance(handle, rsa.RSAPublicKey)
        style = s.PublicFormat.PKCS1 if old else s.PublicFormat.SubjectPublicKeyInfo
        written: bytes = handle.public_bytes(s.Encoding.PEM, style)
    except (ValueError, AttributeError, UnsupportedAlgorithm):
        raise KeyFormatError(f"unsupported key type {key.label}: PEM has no form for it") from None
    return written.decode()


def load_public_pem(data: bytes) -> PublicKey:
    """The public key in PEM, of either form. Raises KeyFormatError."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if len(data) > MAX_FILE:
        raise KeyFormatError(f"a public key file of {len(data)} bytes; {MAX_FILE} are allowed")
    try:
        handle = load_pem_public_key(data)
    except (ValueError, TypeError, OverflowError, UnsupportedAlgorithm):
        raise KeyFormatError("not a public key in PEM") from None
    if isinstance(handle, rsa.RSAPublicKey):
        numbers = handle.public_numbers()
        return PublicKey.from_blob(string(b"ssh-rsa") + mpint(numbers.e) + mpint(numbers.n))
    if isinstance(handle, ed25519.Ed25519PublicKey):
        return PublicKey.from_blob(string(b"ssh-ed25519") + string(handle.public_bytes_raw()))
    if isinstance(handle, ec.EllipticCurvePublicKey):
        name = _CURVES.get(handle.curve.name, b"")
        if name:
            return PublicKey.from_blob(
                string(b"ecdsa-sha2-" + name) + string(name) + string(uncompressed(handle))
            )
    raise KeyFormatError("a public key of a kind that SSH does not use")


_CURVES: Final = {"secp256r1": b"nistp256", "secp384r1": b"nistp384", "secp521r1": b"nistp521"}
