"""Mutations of bytes, from a seed: what a fuzzer without instruments can do to SSH packets."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

INTERESTING = [0, 1, 2, 3, 4, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x40000,
               2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]  # fmt: skip
"""Lengths, counts and numbers at which programs go wrong."""

WORDS = [b"ssh-userauth", b"ssh-connection", b"none", b"publickey", b"password", b"session", b"exec",
         b"\xff\xfe", b"\x1b]0;x\x07", b"keepalive@openssh.com", b",,,,,", b"ssh-ed25519"]  # fmt: skip


def mutate(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """`data` with one to four changes; now and then a piece of one of `others` comes in."""
    made = bytearray(data)
    for _ in range(random.randrange(1, 5)):
        _change(made, random, others)
    return bytes(made)


def _change(made: bytearray, random: Random, others: Sequence[bytes]) -> None:
    at = random.randrange(len(made) + 1)
    size = random.choice((1, 1, 2, 4, 8, 64))
    match random.randrange(9):
        case 0 if made:
            made[at % len(made)] ^= 1 << random.randrange(8)
        case 1 if made:
            made[at % len(made)] = random.randrange(256)
        case 2:
            made[at : at + 4] = random.choice(INTERESTING).to_bytes(4, "big")
        case 3:
            del made[at : at + size]
        case 4:
            made[at:at] = random.randbytes(size)
        case 5:
            made[at:at] = made[at : at + size] * random.choice((1, 2, 100))
        case 6:
            del made[at:]
        case 7:
            word = random.choice(WORDS)
            made[at:at] = len(word).to_bytes(4, "big") + word
        case 8 if others:
            made[at:] = random.choice(others)[at:]
