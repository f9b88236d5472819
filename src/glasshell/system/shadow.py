"""Passwords where no PAM is used: shadow(5) and crypt(3), by ctypes, as Python 3.13 has dropped both."""

from __future__ import annotations

import ctypes
import hmac
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError

__all__ = ["check_password"]

SHADOW: Final = Path("/etc/shadow")
OWN: Final = "$6$glasshell"
"""The salt for nobody's password where the machine has no password at all: SHA-512, crypt(5)."""


def check_password(user: str, password: bytes, *, empty_passwords: bool, shadow: Path = SHADOW) -> bool:
    """Whether this is the password of `user`. Somebody unknown, or without one, costs the same work.

    Raises ConfigError where shadow(5) cannot be read, or the system has no libcrypt.
    """
    fields = _fields(shadow)
    wanted = fields.get(user)
    if wanted == "":
        return empty_passwords and not password
    usable = wanted is not None and wanted[0] not in "*!"
    # As sshd: nobody's password is hashed like the machine's own, so that time does not tell who exists.
    setting = (
        wanted if usable and wanted else next((each for each in fields.values() if each[:1] == "$"), OWN)
    )
    hashed = _crypt(password, setting.encode("utf-8", "surrogateescape"))
    return hmac.compare_digest(hashed, setting.encode("utf-8", "surrogateescape")) and usable


def _fields(shadow: Path) -> dict[str, str]:
    """User -> password field, for those who have a line."""
    try:
        lines = shadow.read_text("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise ConfigError(
            f"{shadow}: {error.strerror}: passwords cannot be checked", hint="UsePAM yes"
        ) from None
    split = (line.split(":") for line in lines)
    return {parts[0]: parts[1] for parts in split if len(parts) > 1}


def _crypt(password: bytes, setting: bytes) -> bytes:
    """The hash; empty where crypt(3) knows no such setting ("*0" and "*1" are its failures)."""
    hashed: bytes | None = _library().crypt(password, setting)
    return b"" if hashed is None or hashed.startswith(b"*") else hashed


def _library() -> Any:
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.crypt.restype = ctypes.c_char_p
        library.crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        return library
    raise ConfigError("there is no libcrypt on this system: passwords cannot be checked", hint="UsePAM yes")
