"""Points of Ed25519 that the crypto library below takes and nobody should."""

from __future__ import annotations

from typing import Final

from ..errors import KeyFormatError

__all__ = ["ORDER", "check_point", "check_root"]

# Ed25519: RFC 8032 §5.1 names the constants of the curve -x² + y² = 1 + d·x²·y² over the field of p.
_P: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""Of the group: the S of a signature is below it."""
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ORDER_8: Final = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
_SMALL_ORDER: Final = frozenset({0, 1, _P - 1, _ORDER_8, _P - _ORDER_8})
"""The y of the eight points whose order divides 8; the sign of x does not matter."""


def check_point(raw: bytes) -> None:
    """RFC 8032 §5.1.3, canonical; and no point of small order: such a key verifies signatures nobody made."""
    y = int.from_bytes(raw, "little") & (1 << 255) - 1
    if y >= _P:
        raise KeyFormatError("an Ed25519 point that is not in its canonical form", clause="RFC 8032 5.1.3")
    if y in _SMALL_ORDER:
        raise KeyFormatError("an Ed25519 point of small order", clause="RFC 8032 5.1.7")


def check_root(raw: bytes) -> None:
    """That there is an x to this y: what costs most of all checks, and what every verification finds out."""
    y = int.from_bytes(raw, "little") & (1 << 255) - 1
    # x² = u/v has a root exactly where u·v is a square (Euler's criterion).
    u, v = y * y - 1, _D * y * y + 1
    if pow(u * v, (_P - 1) // 2, _P) != 1:
        raise KeyFormatError("bytes that are no point of Ed25519", clause="RFC 8032 5.1.3")
