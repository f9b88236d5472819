"""Private keys in PEM: PKCS#1 and SEC 1, plain or in OpenSSL's old encryption, and PKCS#8 (RFC 5958).

What OpenSSH wrote before 7.8, and what other programs write. The parsing is the crypto library's; how much
work a file may ask for before its passphrase is tried is read here, as that library knows no limit.
"""

from __future__ import annotations

import binascii
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from ..crypto.signatures import MAX_RSA_BITS, PrivateKey
from ..errors import KeyFormatError, PassphraseError
from ..wire import Secret

__all__ = ["LABELS", "MAX_ITERATIONS", "MAX_SCRYPT_BYTES", "dump_pem", "load_pem", "rsa_key"]

LABELS: Final = frozenset({b"RSA PRIVATE KEY", b"EC PRIVATE KEY", b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"})
"""The labels of PEM (RFC 7468) that hold a private key of ours."""

MAX_ITERATIONS: Final = 4_000_000
"""Most iterations of PBKDF2, or of the older schemes, taken from a file: a few seconds."""

MAX_SCRYPT_BYTES: Final = 64 << 20
"""Most memory that scrypt may take for a file, in bytes, and how much it may go over in all, times eight."""


def rsa_key(n: int, e: int, d: int, iqmp: int, p: int, q: int) -> rsa.RSAPrivateKey:
    """The RSA key of these numbers (RFC 8017 §3.2), which have to belong together.

    Whether p and q are prime is not asked: a file of 8,192-bit primes would hold the program for
    minutes, a key whose factors are composite harms its owner alone, and no signature that fails to
    verify ever leaves. Raises KeyFormatError.
    """
    numbers = (n, e, d, iqmp, p, q)
    if min(numbers) <= 1 or max(x.bit_length() for x in numbers) > MAX_RSA_BITS:
        raise KeyFormatError("an RSA private key with a number out of range")
    if p * q != n or iqmp * q % p != 1 or e * d % (p - 1) != 1 or e * d % (q - 1) != 1:
        raise KeyFormatError("an RSA private key whose numbers do not belong together", clause="RFC 8017 3.2")
    private = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), iqmp, rsa.RSAPublicNumbers(e, n))
    try:
        return private.private_key(unsafe_skip_rsa_key_validation=True)
    except ValueError as error:
        raise KeyFormatError(f"an RSA private key that is refused: {error}") from None


def load_pem(data: bytes, label: bytes, passphrase: Secret | None) -> PrivateKey:
    """The private key in `data`, whose PEM label is `label`, one of LABELS.

    Raises PassphraseError where it is encrypted and `passphrase` is None or wrong, else KeyFormatError.
    """
    data, found, _ = data.partition(b"-----END " + label + b"-----")
    if not found:
        raise KeyFormatError("a PEM private key without its last line: the file is cut short")
    data += found + b"\n"  # this block and nothing after it, so that the one that is checked is the one read
    encrypted = label == b"ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in data
    if encrypted and not passphrase:
        raise PassphraseError("the private key is encrypted: a passphrase is needed", reason="needed")
    password = passphrase.reveal() if encrypted and passphrase else None
    if label == b"ENCRYPTED PRIVATE KEY":
        _check_cost(data)
    return PrivateKey(_checked(_parse(data, password)))


def _parse(data: bytes, password: bytes | None) -> Any:
    # Imported late: it brings half of the crypto library, and most keys are in OpenSSH's format.
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(data, password, unsafe_skip_rsa_key_validation=True)
    except UnsupportedAlgorithm as error:
        raise KeyFormatError(f"a PEM private key of a kind not supported: {error}") from None
    except (ValueError, TypeError, OverflowError) as error:
        if password is not None:
            raise PassphraseError("a wrong passphrase, or a damaged private key", reason="wrong") from None
        raise KeyFormatError(f"a PEM private key that cannot be read: {error}") from None


def _checked(handle: Any) -> Any:
    """RSA numbers are checked by our own rule, the same for every file format."""
    if not isinstance(handle, rsa.RSAPrivateKey):
        return handle
    numbers = handle.private_numbers()
    public = numbers.public_numbers
    return rsa_key(public.n, public.e, numbers.d, numbers.iqmp, numbers.p, numbers.q)


def dump_pem(key: PrivateKey, form: str, passphrase: Secret | None = None) -> bytes:
    """`key` in PEM, `form` being "PEM" (PKCS#1, SEC 1) or "PKCS8"; with `passphrase` encrypted.

    There is no place for a comment. Raises KeyFormatError where the form has no way to write such a key.
    """
    from cryptography.hazmat.primitives import serialization as s

    # Ed25519 has no form of its own from before PKCS#8.
    old = form == "PEM" and key.public.type != "ssh-ed25519"
    lock: s.KeySerializationEncryption = s.NoEncryption()
    if passphrase:
        lock = s.BestAvailableEncryption(passphrase.reveal())
    try:
        written: bytes = key.reveal().private_bytes(
            s.Encoding.PEM, s.PrivateFormat.TraditionalOpenSSL if old else s.PrivateFormat.PKCS8, lock
        )
    except (ValueError, AttributeError):
        raise KeyFormatError(f"a key of type {key.public.type} has no form in {form}") from None
    return written


# ---- what an encrypted file costs


_PBES2: Final = bytes.fromhex("2a864886f70d01050d")
_PBKDF2: Final = bytes.fromhex("2a864886f70d01050c")
_SCRYPT: Final = bytes.fromhex("2b06010401da47040b")
_SEQUENCE, _INTEGER, _OCTETS, _OID = 0x30, 0x02, 0x04, 0x06


class _Der:
    """As much of DER (X.690 §10) as it takes to read the parameters of an encryption."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.pos = 0

    def take(self, tag: int) -> bytes:
        """The content of the next value, which has to be of this type."""
        head = self.data[self.pos : self.pos + 2]
        start = self.pos + 2
        if len(head) < 2 or head[0] != tag:
            raise ValueError("another type")
        size = head[1]
        if size >= 0x80:
            count = size - 0x80
            size = int.from_bytes(self.data[start : start + count], "big")
            start += count
        if size > len(self.data) - start:
            raise ValueError("cut short")
        self.pos = start + size
        return self.data[start : self.pos]

    def inside(self) -> _Der:
        return _Der(self.take(_SEQUENCE))

    def number(self) -> int:
        return int.from_bytes(self.take(_INTEGER), "big", signed=True)


def _check_cost(data: bytes) -> None:
    """Raises KeyFormatError where the file asks for more work than is taken, or does not say how much."""
    body = b"".join(data.split(b"\n")[1:-2])
    try:
        algorithm = _Der(binascii.a2b_base64(body)).inside().inside()
        scheme, parameters = algorithm.take(_OID), algorithm.inside()
        if scheme == _PBES2:
            derivation = parameters.inside()
            scheme, parameters = derivation.take(_OID), derivation.inside()
            if scheme not in (_PBKDF2, _SCRYPT):
                raise KeyFormatError("a private key whose passphrase goes through an unknown function")
        parameters.take(_OCTETS)
        numbers = [parameters.number() for _ in range(3 if scheme == _SCRYPT else 1)]
    except ValueError as error:  # binascii.Error too
        if isinstance(error, KeyFormatError):
            raise
        raise KeyFormatError(
            "an encrypted PEM private key that cannot be read", clause="RFC 5958 3"
        ) from None
    if min(numbers) < 1:
        raise KeyFormatError("an encrypted private key with a count that is not positive")
    if scheme != _SCRYPT:
        if numbers[0] > MAX_ITERATIONS:
            raise KeyFormatError(
                f"a private key with {numbers[0]} iterations; {MAX_ITERATIONS} are taken",
                clause="RFC 8018 4.2",
            )
        return
    n, r, p = numbers
    if 128 * n * r > MAX_SCRYPT_BYTES or 128 * n * r * p > 8 * MAX_SCRYPT_BYTES:
        raise KeyFormatError(
            f"a private key whose scrypt asks for too much: N={n}, r={r}, p={p}", clause="RFC 7914 6"
        )
