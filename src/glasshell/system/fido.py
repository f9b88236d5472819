"""Security keys: signatures by FIDO authenticators that are plugged in (OpenSSH PROTOCOL.u2f, CTAP 2).

The hardware is reached by python-fido2, of the extra `fido2`, imported when a signature is asked for. What
stands between it and a signature of SSH takes any object that has the one method of `Authenticator`.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple, Protocol

from ..agent.held import SecurityKey
from ..errors import ConfigError, CryptoError, MalformedMessage, SSHError, install
from ..wire import mpint, string, uint32

__all__ = ["Assertion", "Authenticator", "attached", "sign", "signature"]

PRESENT: Final = 1
VERIFIED: Final = 4


class Assertion(NamedTuple):
    """What an authenticator answers: its raw signature, the flags it has set, and its counter."""

    signature: bytes
    flags: int
    counter: int


class Authenticator(Protocol):
    """One security key."""

    def get_assertion(self, application: str, digest: bytes, handle: bytes, flags: int) -> Assertion | None:
        """Signs `digest` by the credential `handle`; None where it is not in this authenticator.

        Blocks until it is touched. Raises SSHError.
        """


def signature(key: SecurityKey, data: bytes, authenticators: list[Authenticator]) -> bytes:
    """The signature blob of `data` by `key`, from the first of the authenticators that holds it.

    Raises CryptoError where none does, or where what it answers does not verify.
    """
    digest = hashlib.sha256(data).digest()
    for authenticator in authenticators:
        found = authenticator.get_assertion(key.application, digest, key.handle.reveal(), key.flags)
        if found is None:
            continue
        raw = found.signature
        inner = _ecdsa(raw) if "ecdsa" in key.public.type else raw
        blob = string(key.public.type.encode()) + string(inner) + bytes([found.flags]) + uint32(found.counter)
        if not key.public.verify(key.public.type, blob, data, touch_required=False):
            raise CryptoError("the security key's signature does not verify")
        return blob
    raise CryptoError("no security key that is plugged in holds this key")


def _ecdsa(raw: bytes) -> bytes:
    """A signature in DER, as CTAP has it, as the two numbers of SSH."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    try:
        r, s = decode_dss_signature(raw)
    except ValueError:
        raise MalformedMessage("a security key's signature that is no ECDSA-Sig-Value") from None
    return mpint(r) + mpint(s)


def sign(key: SecurityKey, data: bytes) -> bytes:
    """`signature` by what is plugged in. Blocks. Raises SSHError."""
    return signature(key, data, attached())


def attached() -> list[Authenticator]:
    """The security keys that are plugged in. Raises ConfigError where python-fido2 is not installed."""
    try:
        from fido2.hid import CtapHidDevice
    except ImportError:
        raise ConfigError("signing with a security key needs python-fido2", hint=install("fido2")) from None
    try:
        return [_Ctap(device) for device in CtapHidDevice.list_devices()]
    except OSError as error:
        raise ConfigError(f"security keys cannot be listed: {error.strerror or error}") from None


class _Ctap:
    """A security key as python-fido2 reaches it."""

    def __init__(self, device: Any) -> None:
        self._device = device

    def get_assertion(self, application: str, digest: bytes, handle: bytes, flags: int) -> Assertion | None:
        from fido2.ctap import CtapError
        from fido2.ctap2.base import Ctap2

        options = {"up": bool(flags & PRESENT)}
        if flags & VERIFIED:
            options["uv"] = True
        credential: list[Any] = [{"type": "public-key", "id": handle}]
        try:
            answer = Ctap2(self._device).get_assertion(application, digest, credential, options=options)
        except CtapError as error:
            if error.code == CtapError.ERR.NO_CREDENTIALS:
                return None
            raise CryptoError(f"the security key refused: {error}") from None
        except (OSError, ValueError) as error:
            raise _gone(error) from None
        told = answer.auth_data
        return Assertion(answer.signature, int(told.flags), told.counter)


def _gone(error: Exception) -> SSHError:
    return CryptoError(f"the security key cannot be reached: {error}")
