"""What people compare: the line of `ssh-keygen -l`, the picture of `-lv` and the word of `-B`."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from ..errors import KeyFormatError, MalformedMessage, UsageError
from ..messages import blobs
from ..messages.declare import Struct
from ..values import slotted
from ..wire import string, visible
from .hostlines import key_label
from .public import AnyKey

__all__ = ["HASHES", "Shown", "bubblebabble", "describe", "fingerprint", "randomart"]

HASHES: Final = ("sha256", "sha512", "sha384", "sha1", "md5")
"""What a fingerprint may be made by."""

_WIDTH: Final = 17
_HEIGHT: Final = 9
_MARKS: Final = " .o+=*BOX@%&#/^"


@slotted(frozen=True)
class Shown:
    """A key that is to be shown and nothing else: also one too weak to be used. `blob` is that of the key
    without its certificate."""

    bits: int
    label: str
    blob: bytes

    @classmethod
    def of(cls, blob: bytes) -> Shown:
        """What is in a key blob of any type. Raises KeyFormatError for what cannot be read."""
        try:
            outer = blobs.PublicKeyBlob.decode(blob)
        except MalformedMessage as error:
            raise KeyFormatError(f"a key blob that cannot be read: {error}", clause="RFC 4253 6.6") from None
        label = key_label(outer.type)
        if not label or not isinstance(outer.body, Struct):
            raise KeyFormatError(f'keys of type "{visible(outer.type)}" are not known')
        key = getattr(outer.body, "key", None)
        if not isinstance(key, Struct):
            return cls(_bits(outer.body), label, blob)
        plain = outer.type.replace("-cert-v01", "")
        if not plain.startswith("sk-"):
            plain = plain.removesuffix("@openssh.com")
        return cls(_bits(key), label, string(plain.encode()) + key.encode())


def _bits(body: Struct) -> int:
    """The size of a key as OpenSSH says it."""
    if isinstance(body, blobs.CompositeKey):
        return 512
    number = getattr(body, "n", getattr(body, "p", None))
    if isinstance(number, int):
        return number.bit_length()
    curve: str = getattr(body, "curve", "")
    return int(curve[-3:]) if curve.startswith("nistp") and curve[-3:].isdecimal() else 256


def fingerprint(key: AnyKey | Shown, hash: str = "sha256") -> str:
    """The fingerprint as ssh-keygen writes it: "SHA256:<base64>", or "MD5:aa:bb:...".

    Raises UsageError for a hash that is not one of HASHES.
    """
    digest = _digest(key, hash)
    if hash == "md5":
        return "MD5:" + digest.hex(":")
    return f"{hash.upper()}:" + base64.b64encode(digest).decode().rstrip("=")


def _digest(key: AnyKey | Shown, hash: str) -> bytes:
    if hash not in HASHES:
        raise UsageError(f'no fingerprint by "{visible(hash)}"; there are {", ".join(HASHES)}')
    blob = key.blob if isinstance(key, Shown) else key.plain.blob
    return hashlib.new(hash, blob, usedforsecurity=False).digest()


def describe(key: AnyKey | Shown, comment: str = "", hash: str = "sha256") -> str:
    """`key` in one line as `ssh-keygen -l` writes it: bits, fingerprint, comment, (TYPE)."""
    return f"{key.bits} {fingerprint(key, hash)} {visible(comment) or 'no comment'} ({key.label})"


def randomart(key: AnyKey | Shown, hash: str = "sha256") -> str:
    """The fingerprint as a picture of 11 lines: OpenSSH's `ssh-keygen -lv`, without a line feed at the end.

    Every two bits of the digest, least significant first, are a diagonal step of a walk from the
    middle of a 17 by 9 field; a place is drawn by how often it was visited, `S` is the start, `E` the end.
    Raises UsageError for a hash that is not one of HASHES.
    """
    digest = _digest(key, hash)
    visits = [[0] * _WIDTH for _ in range(_HEIGHT)]
    x, y = _WIDTH // 2, _HEIGHT // 2
    for step in (byte >> shift & 3 for byte in digest for shift in (0, 2, 4, 6)):
        x = min(max(x + (1 if step & 1 else -1), 0), _WIDTH - 1)
        y = min(max(y + (1 if step & 2 else -1), 0), _HEIGHT - 1)
        visits[y][x] = min(visits[y][x] + 1, len(_MARKS) - 1)
    drawn = [[_MARKS[count] for count in row] for row in visits]
    drawn[_HEIGHT // 2][_WIDTH // 2] = "S"
    drawn[y][x] = "E"
    title = f"[{key.label} {key.bits}]"
    lines = [_border((title if len(title) <= _WIDTH else f"[{key.label}]")[: _WIDTH - 1])]
    lines += ["|" + "".join(row) + "|" for row in drawn]
    return "\n".join([*lines, _border(f"[{hash.upper()}]")])


def _border(title: str) -> str:
    left = (_WIDTH - len(title)) // 2
    return "+" + "-" * left + title + "-" * (_WIDTH - left - len(title)) + "+"


_VOWELS: Final = "aeiouy"
_CONSONANTS: Final = "bcdfghklmnprstvzx"


def bubblebabble(data: bytes) -> str:
    """`data` as a word that can be said, with a checksum in its vowels (Bubble Babble, A. Huima)."""
    check = 1
    parts = []
    for i in range(0, len(data) - 1, 2):
        first, second = data[i], data[i + 1]
        parts.append(_syllable(first, check) + _CONSONANTS[second >> 4] + "-" + _CONSONANTS[second & 15])
        check = (check * 5 + first * 7 + second) % 36
    if len(data) % 2:
        last = _syllable(data[-1], check)
    else:
        last = _VOWELS[check % 6] + _CONSONANTS[16] + _VOWELS[check // 6]
    return "x" + "".join([*parts, last]) + "x"


def _syllable(value: int, check: int) -> str:
    first, last = ((value >> 6) + check) % 6, ((value & 3) + check // 6) % 6
    return _VOWELS[first] + _CONSONANTS[value >> 2 & 15] + _VOWELS[last]
