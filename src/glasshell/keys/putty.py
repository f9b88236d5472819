"""Private keys of PuTTY, versions 2 and 3 (PuTTY manual, appendix C), read and never written.

PuTTY-User-Key-File-3: ssh-ed25519
Encryption: aes256-cbc
Comment: me@here
Public-Lines: 2
...
Key-Derivation: Argon2id     (and its parameters, of version 3 with a passphrase)
Private-Lines: 1
...
Private-MAC: ...
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any, Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ..crypto.signatures import PrivateKey, PublicKey
from ..errors import KeyFormatError, MalformedMessage, PassphraseError
from ..wire import Reader, Secret, string, uint32, visible
from .pem import rsa_key
from .public import MAX_FILE, as_text

__all__ = ["MAX_MEMORY", "MAX_WORK", "load_ppk"]

MAX_MEMORY: Final = 256 * 1024
"""Most memory of Argon2 taken from a file, in KiB; PuTTY's own is 8 MiB."""

MAX_WORK: Final = 8 << 20
"""Most memory times passes taken, in KiB: a few seconds."""

MAX_LANES: Final = 64

_FIRST: Final = re.compile(r"PuTTY-User-Key-File-([23]): (\S+)")
_CLAUSE: Final = "PuTTY manual C"


class _File(NamedTuple):
    """What stands in the file: its headers, and both halves of the key."""

    version: int
    key_type: str
    headers: dict[str, str]
    public: bytes
    private: bytes

    @property
    def encrypted(self) -> bool:
        return self.headers["Encryption"] != "none"


def load_ppk(data: bytes, passphrase: Secret | None = None) -> PrivateKey:
    """The private key in a file of PuTTY's.

    Raises PassphraseError where it is encrypted and the passphrase is missing or wrong, else KeyFormatError.
    """
    if len(data) > MAX_FILE:
        raise KeyFormatError(f"a private key file of {len(data)} bytes; {MAX_FILE} are allowed")
    file = _read(as_text(data))
    if file.encrypted and not passphrase:
        raise PassphraseError("the private key is encrypted: a passphrase is needed", reason="needed")
    cipher_key, iv, mac_key = _keys(file, passphrase)
    private = file.private
    if file.encrypted:
        decryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(iv)).decryptor()
        private = decryptor.update(private) + decryptor.finalize()
    _verify(file, private, mac_key)
    try:
        key = PrivateKey(_handle(file, private), file.headers["Comment"])
    except MalformedMessage as error:
        raise KeyFormatError(f"a private key that is damaged: {error}", clause=_CLAUSE) from None
    if key.public != PublicKey.from_blob(file.public):
        raise KeyFormatError("a private key that does not belong to the public key beside it")
    return key


# ---- the file


def _read(text: str) -> _File:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = _FIRST.fullmatch(lines[0])
    if first is None:
        raise KeyFormatError(
            "not a private key of PuTTY, version 2 or 3", hint="puttygen KEY -O private-openssh"
        )
    headers: dict[str, str] = {}
    blobs: dict[str, bytes] = {}
    pos = 1
    while pos < len(lines):
        name, colon, value = lines[pos].partition(": ")
        pos += 1
        if not colon:
            continue
        headers.setdefault(name, value)
        if name in ("Public-Lines", "Private-Lines"):
            count = int(value) if value.isascii() and value.isdigit() and len(value) < 6 else len(lines)
            body = "".join(lines[pos : pos + count])
            pos += count
            if pos > len(lines):
                raise KeyFormatError("a private key that is cut short", clause=_CLAUSE)
            blobs[name] = _base64(body)
    wanted = ("Encryption", "Comment", "Private-MAC", "Public-Lines", "Private-Lines")
    if missing := [name for name in wanted if name not in headers]:
        raise KeyFormatError(f"a private key without {missing[0]}", clause=_CLAUSE)
    if headers["Encryption"] not in ("none", "aes256-cbc"):
        raise KeyFormatError(
            f'a private key encrypted by "{visible(headers["Encryption"])}"; aes256-cbc is known'
        )
    private = blobs["Private-Lines"]
    if headers["Encryption"] != "none" and (not private or len(private) % 16):
        raise KeyFormatError("a private half that is not whole blocks of its cipher", clause=_CLAUSE)
    return _File(int(first[1]), first[2], headers, blobs["Public-Lines"], private)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error, or text that is not ASCII
        raise KeyFormatError("a private key that is not base64", clause=_CLAUSE) from None


# ---- what the passphrase gives


def _keys(file: _File, passphrase: Secret | None) -> tuple[bytes, bytes, bytes]:
    """The cipher's key and IV, and the key of the MAC."""
    word = passphrase.reveal() if file.encrypted and passphrase else b""
    if file.version == 2:
        derived = b"".join(hashlib.sha1(uint32(n) + word, usedforsecurity=False).digest() for n in (0, 1))
        mac = hashlib.sha1(b"putty-private-key-file-mac-key" + word, usedforsecurity=False).digest()
        return derived[:32], bytes(16), mac
    if not file.encrypted:
        return b"", b"", b""
    derived = _argon2(file.headers, word)
    return derived[:32], derived[32:48], derived[48:]


def _argon2(headers: dict[str, str], word: bytes) -> bytes:
    kind = headers.get("Key-Derivation", "")
    try:
        memory, passes, lanes = (int(headers[f"Argon2-{n}"]) for n in ("Memory", "Passes", "Parallelism"))
        salt = bytes.fromhex(headers["Argon2-Salt"])
    except (KeyError, ValueError):
        raise KeyFormatError("a private key whose key derivation cannot be read", clause=_CLAUSE) from None
    bounded = 8 * lanes <= memory <= MAX_MEMORY and 1 <= memory * passes <= MAX_WORK
    if not (1 <= lanes <= MAX_LANES and bounded and 8 <= len(salt) <= 1024):
        raise KeyFormatError("a private key whose Argon2 is out of range", clause="RFC 9106 3.1")
    from cryptography.hazmat.primitives.kdf import argon2  # late: hardly any key needs it

    maker: Any = getattr(argon2, kind, None) if kind in ("Argon2id", "Argon2i", "Argon2d") else None
    if maker is None:
        raise KeyFormatError(f'a private key whose key derivation is "{visible(kind)}"; Argon2id is known')
    try:
        derived: bytes = maker(
            salt=salt, length=80, iterations=passes, lanes=lanes, memory_cost=memory
        ).derive(word)
    except (UnsupportedAlgorithm, ValueError) as error:
        raise KeyFormatError(f"{kind} is not to be had here: {error}") from None
    return derived


def _verify(file: _File, private: bytes, key: bytes) -> None:
    """The MAC is over everything that counts; a wrong passphrase shows here."""
    fields = (
        file.key_type.encode(), file.headers["Encryption"].encode(),
        file.headers["Comment"].encode("utf-8", "surrogateescape"), file.public, private,
    )  # fmt: skip
    digest = "sha1" if file.version == 2 else "sha256"
    expected = hmac.digest(key, b"".join(map(string, fields)), digest)
    if hmac.compare_digest(
        expected.hex(), file.headers["Private-MAC"].strip().lower().encode("ascii", "replace").decode()
    ):
        return
    if file.encrypted:
        raise PassphraseError("the passphrase does not open the private key", reason="wrong")
    raise KeyFormatError("a private key that is damaged: its MAC does not verify", clause=_CLAUSE)


# ---- the key


def _handle(file: _File, private: bytes) -> Any:
    reader = Reader(private)
    public = Reader(file.public)
    if public.name() != file.key_type:
        raise KeyFormatError(
            f'a private key of type "{visible(file.key_type)}" beside a public key of another'
        )
    if file.key_type == "ssh-ed25519":
        seed = reader.string()
        if len(seed) != 32:
            raise KeyFormatError(f"an Ed25519 private key of {len(seed)} bytes; it has 32")
        return ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    if file.key_type == "ssh-rsa":
        e, n = public.mpint(), public.mpint()
        d, p, q, iqmp = (reader.mpint() for _ in range(4))
        return rsa_key(n, e, d, iqmp, p, q)
    curve = _CURVES.get(file.key_type)
    if curve is None:
        raise KeyFormatError(f'private keys of type "{visible(file.key_type)}" are not supported')
    scalar = reader.mpint()
    if not 0 < scalar < curve.group_order:
        raise KeyFormatError("an ECDSA private key that is out of range")
    return ec.derive_private_key(scalar, curve)


_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "ecdsa-sha2-nistp256": ec.SECP256R1(),
    "ecdsa-sha2-nistp384": ec.SECP384R1(),
    "ecdsa-sha2-nistp521": ec.SECP521R1(),
}
