"""Private keys in OpenSSH's format, "openssh-key-v1" (OpenSSH, PROTOCOL.key), and the way to any of them.

    "openssh-key-v1\\0"  string cipher  string kdf  string kdf options  uint32 1
    string public key blob   string private section (encrypted)   tag of an AEAD cipher

The private section holds a number twice, by which a wrong passphrase shows, then the key with its
comment, then the padding 1, 2, 3, ...
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305

from ..crypto.handles import CompositeKey, SecurityKey
from ..crypto.signatures import COMPOSITE, KEY_TYPES, SIGNING_TYPES, PrivateKey, PublicKey
from ..errors import KeyFormatError, MalformedMessage, PassphraseError, UsageError
from ..wire import Reader, Secret, mpint, string, uint32, visible
from . import pem
from .public import MAX_FILE

__all__ = [
    "CIPHERS",
    "DEFAULT_ROUNDS",
    "MAX_ROUNDS",
    "dump_private_key",
    "load_private_key",
    "private_fields",
    "private_from_fields",
    "public_half",
]  # fmt: skip

MAX_ROUNDS: Final = 2048
"""Most rounds of bcrypt_pbkdf taken from a file: more is a file that wants to stop the program."""

DEFAULT_ROUNDS: Final = 24
"""Rounds of bcrypt_pbkdf when writing: ssh-keygen's own number since 9.8."""

_MAGIC: Final = b"openssh-key-v1\0"
_LABEL: Final = b"OPENSSH PRIVATE KEY"
_COLUMNS: Final = 70


def load_private_key(data: bytes, passphrase: Secret | None = None, *, hardware: bool = False) -> PrivateKey:
    """The private key in a file's bytes: OpenSSH's format, PKCS#1, SEC 1, PKCS#8 or PuTTY's.

    With `hardware` also that of a security key, which cannot sign here, but be written anew or given away.

    Raises PassphraseError, whose `reason` is "needed" or "wrong", where it is encrypted; KeyFormatError
    for everything else, saying what is wrong. A passphrase for a key that is not encrypted is not used.
    """
    if len(data) > MAX_FILE:
        raise KeyFormatError(f"a private key file of {len(data)} bytes; {MAX_FILE} are allowed")
    data = data.lstrip(b" \t\r\n")
    if data.startswith(b"PuTTY-User-Key-File"):
        from .putty import load_ppk  # late: hardly anybody has one

        return load_ppk(data, passphrase)
    label = _label(data)
    if label == _LABEL:
        return _parse(_unarmor(data), passphrase, hardware)
    if label in pem.LABELS:
        return pem.load_pem(data, label, passphrase)
    raise KeyFormatError(f"private keys in the format {visible(label)} are not supported")


def public_half(data: bytes) -> bytes:
    """The blob of the public key in a private key's file of OpenSSH's format, which needs no passphrase.

    Raises KeyFormatError, for the other formats as well: what they have of it is encrypted.
    """
    data = data.lstrip(b" \t\r\n")
    if len(data) > MAX_FILE or _label(data) != _LABEL:
        raise KeyFormatError("a private key whose public half is not to be seen")
    try:
        return _read_head(Reader(_unarmor(data)))[3]
    except MalformedMessage as error:
        raise KeyFormatError(f"a private key that is cut short or damaged: {error}") from None


def _label(data: bytes) -> bytes:
    """The label of the armor; for what is no armor of a private key, a sentence about what it is."""
    first = data.split(b"\n", 1)[0].strip()
    if first.startswith(b"-----BEGIN ") and first.endswith(b"-----") and b"PRIVATE KEY" in first:
        return first[11:-5]
    if first.startswith(b"---- BEGIN SSH2"):
        raise KeyFormatError("a key in the format of SSH.COM", hint="convert it: ssh-keygen -i -f KEY")
    if first.split(b" ")[0].decode("latin-1") in KEY_TYPES:
        raise KeyFormatError("a public key where a private key belongs", hint="name the file without .pub")
    raise KeyFormatError("not a private key: the first line is no -----BEGIN ... PRIVATE KEY-----")


def _unarmor(data: bytes) -> bytes:
    lines = [line.strip() for line in data.split(b"\n")]
    end = b"-----END " + _LABEL + b"-----"
    if end not in lines:
        raise KeyFormatError("a private key without its last line: the file is cut short")
    try:
        return base64.b64decode(b"".join(lines[1 : lines.index(end)]), validate=True)
    except ValueError:
        raise KeyFormatError("a private key that is not base64", clause="PROTOCOL.key 1") from None


# ---- ciphers

_Seal: TypeAlias = Callable[[bytes, bytes, bytes], tuple[bytes, bytes]]


class _Cipher(NamedTuple):
    """One way to encrypt the private section; `open` takes (key, iv, data, tag), `seal` (key, iv, data) and
    gives the data and the tag."""

    key: int
    iv: int
    block: int
    tag: int
    open: Callable[[bytes, bytes, bytes, bytes], bytes]
    seal: _Seal


def _block(key: int, mode: Callable[[bytes], Any]) -> _Cipher:
    """AES without a tag."""

    def decrypt(key: bytes, iv: bytes, data: bytes, tag: bytes) -> bytes:
        context = Cipher(algorithms.AES(key), mode(iv)).decryptor()
        return context.update(data) + context.finalize()

    def encrypt(key: bytes, iv: bytes, data: bytes) -> tuple[bytes, bytes]:
        context = Cipher(algorithms.AES(key), mode(iv)).encryptor()
        return context.update(data) + context.finalize(), b""

    return _Cipher(key, 16, 16, 0, decrypt, encrypt)


def _open_3des(key: bytes, iv: bytes, data: bytes, tag: bytes) -> bytes:
    # Late: the library below has put it away, and so should whoever has such a key.
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

    context = Cipher(TripleDES(key), modes.CBC(iv)).decryptor()
    return context.update(data) + context.finalize()


def _seal_never(key: bytes, iv: bytes, data: bytes) -> tuple[bytes, bytes]:
    raise UsageError("nothing is encrypted by this cipher any more")


def _gcm(key: int) -> _Cipher:
    def encrypt(key: bytes, iv: bytes, data: bytes) -> tuple[bytes, bytes]:
        sealed = AESGCM(key).encrypt(iv, data, None)
        return sealed[:-16], sealed[-16:]

    return _Cipher(key, 12, 16, 16, lambda k, iv, data, tag: AESGCM(k).decrypt(iv, data + tag, None), encrypt)


def _chacha(key: bytes) -> tuple[bytes, Any]:
    """The key of Poly1305 and the stream for the data.

    PROTOCOL.chacha20poly1305 with sequence number 0 and nothing but payload: the first half of the key
    alone is used; block 0 of its stream is the Poly1305 key, the data starts at block 1.
    """
    stream = Cipher(algorithms.ChaCha20(key[:32], bytes(16)), None).encryptor()
    return stream.update(bytes(64))[:32], stream


def _open_chacha(key: bytes, iv: bytes, data: bytes, tag: bytes) -> bytes:
    poly_key, stream = _chacha(key)
    Poly1305.verify_tag(poly_key, data, tag)
    return bytes(stream.update(data))


def _seal_chacha(key: bytes, iv: bytes, data: bytes) -> tuple[bytes, bytes]:
    poly_key, stream = _chacha(key)
    sealed = bytes(stream.update(data))
    return sealed, Poly1305.generate_tag(poly_key, sealed)


_CIPHERS: Final[dict[str, _Cipher]] = {
    "none": _Cipher(0, 0, 8, 0, lambda key, iv, data, tag: data, lambda key, iv, data: (data, b"")),
    "aes256-ctr": _block(32, modes.CTR),
    "aes192-ctr": _block(24, modes.CTR),
    "aes128-ctr": _block(16, modes.CTR),
    "aes256-cbc": _block(32, modes.CBC),
    "aes192-cbc": _block(24, modes.CBC),
    "aes128-cbc": _block(16, modes.CBC),
    "aes256-gcm@openssh.com": _gcm(32),
    "aes128-gcm@openssh.com": _gcm(16),
    "3des-cbc": _Cipher(24, 8, 8, 0, _open_3des, _seal_never),
    "chacha20-poly1305@openssh.com": _Cipher(64, 0, 8, 16, _open_chacha, _seal_chacha),
}

CIPHERS: Final = tuple(name for name in _CIPHERS if name not in ("none", "3des-cbc"))
"""The ciphers that a private key may be encrypted by."""


def _derive(passphrase: Secret, salt: bytes, rounds: int, size: int) -> bytes:
    import bcrypt  # late: only encrypted keys need it

    return bcrypt.kdf(passphrase.reveal(), salt, size, rounds, ignore_few_rounds=True)


# ---- reading


def _parse(data: bytes, passphrase: Secret | None, hardware: bool) -> PrivateKey:
    try:
        return _read(data, passphrase, hardware)
    except MalformedMessage as error:
        raise KeyFormatError(f"a private key that is cut short or damaged: {error}") from None


def _read_head(reader: Reader) -> tuple[str, str, bytes, bytes]:
    """What stands before the private section: cipher, kdf, its options, the public key's blob."""
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise KeyFormatError("a private key that does not start with openssh-key-v1")
    cipher, kdf, options, count = reader.name(), reader.name(), reader.string(), reader.uint32()
    if count != 1:
        raise KeyFormatError(f"a file of {count} private keys; it has to hold one")
    return cipher, kdf, options, reader.string()


def _read(data: bytes, passphrase: Secret | None, hardware: bool) -> PrivateKey:
    reader = Reader(data)
    cipher_name, kdf_name, options, blob = _read_head(reader)
    public = PublicKey.from_blob(blob)
    if public.type not in SIGNING_TYPES and not hardware:
        raise KeyFormatError(
            f"private keys of type {public.type} are not supported: they sign in their security key",
            hint="add it to an agent: ssh-add FILE",
        )
    sealed = reader.string()
    cipher = _CIPHERS.get(cipher_name)
    if cipher is None:
        raise KeyFormatError(f'a private key encrypted by the unknown cipher "{cipher_name}"')
    tag = reader.take(cipher.tag)
    reader.done()
    if not sealed or len(sealed) % cipher.block:
        raise KeyFormatError("a private section that is not whole blocks of its cipher")
    if (cipher_name == "none") != (kdf_name == "none"):
        raise KeyFormatError(f'a private key with cipher "{cipher_name}" and kdf "{kdf_name}"')
    if kdf_name == "none":
        return _read_private(sealed, public, encrypted=False)
    plain = _decrypt(cipher, kdf_name, options, sealed, tag, passphrase)
    return _read_private(plain, public, encrypted=True)


def _decrypt(
    cipher: _Cipher, kdf: str, options: bytes, sealed: bytes, tag: bytes, passphrase: Secret | None
) -> bytes:
    if kdf != "bcrypt":
        raise KeyFormatError(f'a private key whose kdf is "{kdf}"; bcrypt is known')
    reader = Reader(options)
    salt, rounds = reader.string(), reader.uint32()
    reader.done()
    if not salt or not 1 <= rounds <= MAX_ROUNDS:
        raise KeyFormatError(f"bcrypt with {rounds} rounds and {len(salt)} bytes of salt is out of range")
    if not passphrase:
        raise PassphraseError("the private key is encrypted: a passphrase is needed", reason="needed")
    derived = _derive(passphrase, salt, rounds, cipher.key + cipher.iv)
    try:
        return cipher.open(derived[: cipher.key], derived[cipher.key :], sealed, tag)
    except (InvalidTag, InvalidSignature):
        raise _wrong_passphrase() from None


def _wrong_passphrase() -> PassphraseError:
    return PassphraseError("the passphrase does not open the private key", reason="wrong")


def _read_private(plain: bytes, public: PublicKey, *, encrypted: bool) -> PrivateKey:
    reader = Reader(plain)
    if reader.uint32() != reader.uint32():
        if encrypted:
            raise _wrong_passphrase()
        raise KeyFormatError("a private section that is damaged: its two check numbers differ")
    key_type = reader.name()
    if key_type != public.type:
        raise KeyFormatError(f'a private key of type "{key_type}" beside a public key of type {public.type}')
    handle = _read_handle(key_type, reader)
    key = PrivateKey(handle, reader.text())
    padding = reader.rest()
    if len(padding) > 255 or padding != bytes(range(1, len(padding) + 1)):
        raise KeyFormatError("a private section with wrong padding")
    if key.public != public:
        raise KeyFormatError("a private key that does not belong to the public key beside it")
    return key


def _read_handle(key_type: str, reader: Reader) -> Any:
    if key_type == "ssh-ed25519":
        return _read_ed25519(reader.string(), reader.string())
    if key_type == COMPOSITE:
        return _read_composite(reader.string(), reader.string())
    if key_type == "ssh-rsa":
        n, e, d, iqmp, p, q = (reader.mpint() for _ in range(6))
        return pem.rsa_key(n, e, d, iqmp, p, q)
    if key_type.startswith("sk-"):
        return _read_security_key(key_type, reader)
    return _read_ecdsa(reader.name(), reader.string(), reader.mpint())


def _read_composite(public: bytes, seeds: bytes) -> CompositeKey:
    try:
        handle = CompositeKey(seeds)
    except ValueError as error:
        raise KeyFormatError(f"an ML-DSA-44-Ed25519 private key that is refused: {error}") from None
    if handle.public_key().raw != public:
        raise KeyFormatError("an ML-DSA-44-Ed25519 private key whose public half is not its own")
    return handle


def _read_security_key(key_type: str, reader: Reader) -> SecurityKey:
    """The public key once more, then what its security key needs (OpenSSH PROTOCOL.u2f)."""
    point: Any
    if key_type.startswith("sk-ecdsa-"):
        curve = _CURVES.get(reader.name(), ec.SECP256R1())
        encoded = reader.string()
    else:
        curve, encoded = None, reader.string()
    try:
        if curve is None:
            point = ed25519.Ed25519PublicKey.from_public_bytes(encoded)
        else:
            point = ec.EllipticCurvePublicKey.from_encoded_point(curve, encoded)
    except ValueError:
        raise KeyFormatError("a security key whose public half cannot be read") from None
    application, flags = reader.string(), reader.byte()
    return SecurityKey(key_type, point, application, flags, reader.string(), reader.string())


def _read_ed25519(point: bytes, secret: bytes) -> ed25519.Ed25519PrivateKey:
    if len(secret) != 64:
        raise KeyFormatError(f"an Ed25519 private key of {len(secret)} bytes; it has 64")
    handle = ed25519.Ed25519PrivateKey.from_private_bytes(secret[:32])
    # The public half stands here twice; signing with one that is not the seed's would give the key away.
    if not handle.public_key().public_bytes_raw() == point == secret[32:]:
        raise KeyFormatError("an Ed25519 private key whose public half is not its own")
    return handle


_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "nistp256": ec.SECP256R1(),
    "nistp384": ec.SECP384R1(),
    "nistp521": ec.SECP521R1(),
}


def _read_ecdsa(name: str, point: bytes, scalar: int) -> ec.EllipticCurvePrivateKey:
    curve = _CURVES.get(name)
    if curve is None or not 0 < scalar < curve.group_order:
        raise KeyFormatError(f'an ECDSA private key on the curve "{name}" that is out of range')
    try:
        handle = ec.derive_private_key(scalar, curve)
    except ValueError:
        raise KeyFormatError("an ECDSA private key that is refused") from None
    if _point(handle) != point:
        raise KeyFormatError("an ECDSA private key whose public half is not its own")
    return handle


def _point(handle: ec.EllipticCurvePrivateKey) -> bytes:
    numbers = handle.public_key().public_numbers()
    size = (handle.curve.key_size + 7) // 8
    return b"\x04" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")


# ---- writing


def dump_private_key(
    key: PrivateKey,
    passphrase: Secret | None = None,
    rounds: int = DEFAULT_ROUNDS,
    random: Callable[[int], bytes] = os.urandom,
    *,
    cipher: str = "aes256-ctr",
) -> bytes:
    """`key` as ssh-keygen writes it; with `passphrase` encrypted by `cipher` under bcrypt_pbkdf.

    Raises UsageError where `rounds` is not 1 to MAX_ROUNDS, and for a cipher that is not one of CIPHERS. The
    file has to be its owner's alone, mode 0600 from the moment it is created; that is the caller's part.
    """
    if not 1 <= rounds <= MAX_ROUNDS:
        raise UsageError(f"{rounds} rounds of bcrypt; 1 to {MAX_ROUNDS} are allowed")
    if cipher not in CIPHERS:
        raise UsageError(f'no cipher "{visible(cipher)}" for private keys; there are {", ".join(CIPHERS)}')
    name = cipher if passphrase else "none"
    chosen = _CIPHERS[name]
    check = random(4)
    plain = check + check + _private_fields(key) + string(key.comment.encode("utf-8", "surrogateescape"))
    plain += bytes(range(1, -len(plain) % chosen.block + 1))
    kdf, options, tag = b"none", b"", b""
    if passphrase:
        salt = random(16)
        kdf, options = b"bcrypt", string(salt) + uint32(rounds)
        derived = _derive(passphrase, salt, rounds, chosen.key + chosen.iv)
        plain, tag = chosen.seal(derived[: chosen.key], derived[chosen.key :], plain)
    head = _MAGIC + string(name.encode()) + string(kdf) + string(options) + uint32(1)
    return _armor(head + string(key.public.blob) + string(plain) + tag)


def _private_fields(key: PrivateKey) -> bytes:
    handle = key.reveal()
    head = string(key.public.type.encode())
    if isinstance(handle, ed25519.Ed25519PrivateKey):
        point = handle.public_key().public_bytes_raw()
        return head + string(point) + string(handle.private_bytes_raw() + point)
    if isinstance(handle, rsa.RSAPrivateKey):
        x = handle.private_numbers()
        n, e = x.public_numbers.n, x.public_numbers.e
        return head + b"".join(mpint(number) for number in (n, e, x.d, x.iqmp, x.p, x.q))
    if isinstance(handle, CompositeKey):
        return key.public.blob + string(handle.private_bytes_raw())
    if isinstance(handle, SecurityKey):
        # As for ECDSA: the blob's fields come first, the application among them.
        return key.public.blob + bytes([handle.flags]) + string(handle.handle) + string(handle.reserved)
    # The blob of an ECDSA key is its type, curve and point: the fields that come first here too.
    return key.public.blob + mpint(handle.private_numbers().private_value)


def _armor(data: bytes) -> bytes:
    text = base64.b64encode(data)
    lines = [text[i : i + _COLUMNS] for i in range(0, len(text), _COLUMNS)]
    return b"\n".join([b"-----BEGIN " + _LABEL + b"-----", *lines, b"-----END " + _LABEL + b"-----", b""])


# ---- as agents are given keys


def private_from_fields(key_type: str, reader: Reader) -> PrivateKey:
    """The private key whose fields, without the type, come next: as in the private section (RFC 9987 §3.2).

    Raises KeyFormatError, MalformedMessage. No comment is read.
    """
    return PrivateKey(_read_handle(key_type, reader))


def private_fields(key: PrivateKey) -> bytes:
    """The fields of a private key without its type: what `private_from_fields` reads."""
    return _private_fields(key)[len(string(key.public.type.encode())) :]
