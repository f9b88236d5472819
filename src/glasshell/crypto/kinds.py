"""What can be agreed upon; apart from the algorithms themselves, for those who only name them."""

from __future__ import annotations

from enum import Enum

__all__ = ["Kind"]


class Kind(Enum):
    """What is negotiated in SSH_MSG_KEXINIT; the value completes OpenSSH's "no matching … found"."""

    KEX = "key exchange method"
    HOST_KEY = "host key type"
    CIPHER = "cipher"
    MAC = "MAC"
    COMPRESSION = "compression method"
