"""`glasshell ssh -Q`: which algorithms there are, one a line, in the words of ssh(1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ..crypto.kinds import Kind
from ..crypto.registry import find, names
from ..crypto.signatures import CERTIFIED, KEY_TYPES
from ..errors import UsageError
from ..wire import visible

__all__ = ["QUERIES", "answer"]


def _cipher_auth() -> Iterable[str]:
    return (name for name in names(Kind.CIPHER) if find(Kind.CIPHER, name).aead)


def _signatures() -> Iterable[str]:
    return (name for name in names(Kind.HOST_KEY) if "-cert" not in name)


QUERIES: Final[dict[str, Callable[[], Iterable[str]]]] = {
    "cipher": lambda: names(Kind.CIPHER),
    "cipher-auth": _cipher_auth,
    "compression": lambda: names(Kind.COMPRESSION),
    "kex": lambda: names(Kind.KEX),
    "key": lambda: (*KEY_TYPES, *CERTIFIED),
    "key-ca-sign": _signatures,
    "key-cert": lambda: CERTIFIED,
    "key-plain": lambda: KEY_TYPES,
    "key-sig": lambda: names(Kind.HOST_KEY),
    "mac": lambda: names(Kind.MAC),
    "protocol-version": lambda: ("2",),
    "sig": _signatures,
}
"""What may be asked for."""

_KEYWORDS: Final = {
    "ciphers": "cipher", "macs": "mac", "kexalgorithms": "kex", "casignaturealgorithms": "key-ca-sign",
    "hostkeyalgorithms": "key-sig", "pubkeyacceptedalgorithms": "key-sig",
    "pubkeyacceptedkeytypes": "key-sig", "hostbasedacceptedalgorithms": "key-sig",
    "hostbasedkeytypes": "key-sig",
}  # fmt: skip
"""Keywords of ssh_config(5), in any case, for the lists that they take."""


def answer(query: str) -> list[str]:
    """The lines that answer `query`. Raises UsageError."""
    if query == "help":
        return list(QUERIES)
    rows = QUERIES.get(_KEYWORDS.get(query.lower(), query))
    if rows is None:
        raise UsageError(f'Unsupported query "{visible(query)}"', hint="-Q help lists what may be asked for")
    return list(rows())
