"""What people compare: the line of `ssh-keygen -l` and the picture of `ssh-keygen -lv`."""

from __future__ import annotations

import hashlib
from typing import Final

from ..crypto.signatures import PublicKey
from ..errors import UsageError
from ..wire import visible

__all__ = ["describe", "randomart"]

_WIDTH: Final = 17
_HEIGHT: Final = 9
_MARKS: Final = " .o+=*BOX@%&#/^"


def describe(key: PublicKey, comment: str = "", hash: str = "sha256") -> str:
    """`key` in one line as `ssh-keygen -l` writes it: bits, fingerprint, comment, (TYPE)."""
    return f"{key.bits} {key.fingerprint(hash)} {visible(comment) or 'no comment'} ({key.label})"


def randomart(key: PublicKey, hash: str = "sha256") -> str:
    """The fingerprint as a picture of 11 lines: OpenSSH's `ssh-keygen -lv`, without a line feed at the end.

    Every two bits of the digest, least significant first, are a diagonal step of a walk from the
    middle of a 17 by 9 field; a place is drawn by how often it was visited, `S` is the start, `E` the end.
    Raises UsageError for a hash that is not "sha256" or "md5".
    """
    if hash not in ("sha256", "md5"):
        raise UsageError(f'no picture by "{hash}"; there are sha256 and md5')
    digest = hashlib.new(hash, key.blob, usedforsecurity=False).digest()
    visits = [[0] * _WIDTH for _ in range(_HEIGHT)]
    x, y = _WIDTH // 2, _HEIGHT // 2
    for step in (byte >> shift & 3 for byte in digest for shift in (0, 2, 4, 6)):
        x = min(max(x + (1 if step & 1 else -1), 0), _WIDTH - 1)
        y = min(max(y + (1 if step & 2 else -1), 0), _HEIGHT - 1)
        visits[y][x] = min(visits[y][x] + 1, len(_MARKS) - 1)
    drawn = [[_MARKS[count] for count in row] for row in visits]
    drawn[_HEIGHT // 2][_WIDTH // 2] = "S"
    drawn[y][x] = "E"
    lines = [_border(f"[{key.label} {key.bits}]")]
    lines += ["|" + "".join(row) + "|" for row in drawn]
    return "\n".join([*lines, _border(f"[{hash.upper()}]")])


def _border(title: str) -> str:
    left = (_WIDTH - len(title)) // 2
    return "+" + "-" * left + title + "-" * (_WIDTH - left - len(title)) + "+"
