"""Private keys in PEM: PKCS#1 and SEC 1, plain or in OpenSSL's old encryption, and PKCS#8 (RFC 5958).

What OpenSSH wrote before 7.8, and what other programs write. The parsing is the crypto library's.
"""

from __future__ import annotations

from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from ..crypto.signatures import MAX_RSA_BITS, PrivateKey
from ..errors import KeyFormatError, PassphraseError
from ..wire import Secret

__all__ = ["LABELS", "load_pem", "rsa_key"]

LABELS: Final = frozenset({b"RSA PRIVATE KEY", b"EC PRIVATE KEY", b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"})
"""The labels of PEM (RFC 7468) that hold a private key of ours."""


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
    encrypted = label == b"ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in data
    if encrypted and not passphrase:
        raise PassphraseError("the private key is encrypted: a passphrase is needed", reason="needed")
    password = passphrase.reveal() if encrypted and passphrase else None
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
