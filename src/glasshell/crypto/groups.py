"""Finite-field groups: those of RFC 3526, those of a moduli file, and what is asked of a peer's (RFC 4419).

The primes of RFC 3526 are not a page of digits here: they are computed from the formula that defines
them, from which a reader sees that nothing is hidden in them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

from ..errors import ProtocolViolation, UsageError
from ..values import slotted

MIN_BITS: Final = 2048
"""Smallest modulus taken or offered (RFC 8270)."""

MAX_BITS: Final = 8192
"""Largest modulus taken or offered (RFC 4419 §3)."""

# Group number: (bits, the constant of RFC 3526 §2-§7).
_RFC3526: Final = {
    14: (2048, 124476),
    15: (3072, 1690314),
    16: (4096, 240904),
    17: (6144, 929484),
    18: (8192, 4743158),
}

_SMALL_PRIMES: Final = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79)


@slotted(frozen=True)
class Group:
    """A multiplicative group: the prime `p` and the generator `g`."""

    p: int
    g: int

    @property
    def bits(self) -> int:
        """The size of the modulus."""
        return self.p.bit_length()


def _pi(bits: int) -> int:
    """[2^bits · π], by Machin's formula: π/4 = 4·arctan(1/5) - arctan(1/239)."""
    guard = 64

    def arctan_of_inverse(x: int) -> int:
        power = total = (1 << (bits + guard)) // x
        divisor, sign = 1, 1
        while power:
            power //= x * x
            divisor, sign = divisor + 2, -sign
            total += sign * (power // divisor)
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239)) >> guard


@cache
def rfc3526(number: int) -> Group:
    """Group 14 to 18 of RFC 3526: p = 2^n - 2^(n-64) - 1 + 2^64 · ([2^(n-130) π] + constant), g = 2.

    Raises UsageError for another number.
    """
    if number not in _RFC3526:
        known = ", ".join(str(n) for n in _RFC3526)
        raise UsageError(f"RFC 3526 has no group {number} here; known: {known}", clause="RFC 3526")
    return _modp(*_RFC3526[number])


@cache
def rfc2409_second() -> Group:
    """Oakley's second group, 1024 bits (RFC 2409 §6.2): SSH's group1. For reading alone."""
    return _modp(1024, 129093)


def _modp(bits: int, constant: int) -> Group:
    return Group((1 << bits) - (1 << (bits - 64)) - 1 + ((_pi(bits - 130) + constant) << 64), 2)


def parse_moduli(text: str) -> tuple[Group, ...]:
    """The safe primes of a moduli(5) file that may be offered; lines of another kind are passed over."""
    return tuple(group for line in text.splitlines() if (group := _moduli_line(line)) is not None)


def _moduli_line(line: str) -> Group | None:
    # time, type, tests, tries, size, generator, modulus
    fields = line.split()
    if len(fields) != 7 or line.startswith("#"):
        return None
    try:
        kind, tests, tries, size = (int(field) for field in fields[1:5])
        group = Group(int(fields[6], 16), int(fields[5], 16))
    except ValueError:
        return None
    # Type 2 is a safe prime; bit 0 of tests says composite; `size` counts from zero (moduli(5)).
    proven = kind == 2 and not tests & 1 and tests > 1 and tries > 0
    in_bounds = MIN_BITS <= group.bits <= MAX_BITS and 1 < group.g < group.p - 1
    return group if proven and in_bounds and size + 1 == group.bits else None


def choose_group(
    groups: Iterable[Group],
    minimum: int,
    preferred: int,
    maximum: int,
    choice: Callable[[list[Group]], Group] = secrets.choice,
) -> Group:
    """The group a server answers SSH_MSG_KEX_DH_GEX_REQUEST with (RFC 4419 §3).

    The smallest size not below `preferred`, else the largest; among equals `choice` decides. Groups of
    RFC 3526 stand in where none of `groups` is in bounds. Raises ProtocolViolation where the request is
    contradictory, or nothing lies between `minimum` and `maximum`.
    """
    low, high = max(minimum, MIN_BITS), min(maximum, MAX_BITS)
    wanted = min(max(preferred, MIN_BITS), MAX_BITS)
    fitting: list[Group] = []
    if low <= wanted <= high:
        fitting = [group for group in groups if low <= group.bits <= high]
        fitting = fitting or [g for g in map(rfc3526, _RFC3526) if low <= g.bits <= high]
    if not fitting:
        raise ProtocolViolation(
            f"a group of {minimum} to {maximum} bits, preferably {preferred}, was asked for; "
            f"{MIN_BITS} to {MAX_BITS} are offered",
            clause="RFC 4419 3",
        )
    enough = [group.bits for group in fitting if group.bits >= wanted]
    size = min(enough) if enough else max(group.bits for group in fitting)
    return choice([group for group in fitting if group.bits == size])


def check_group(p: int, g: int, minimum: int = MIN_BITS, maximum: int = MAX_BITS) -> Group:
    """The group of SSH_MSG_KEX_DH_GEX_GROUP, checked before it is used. Raises ProtocolViolation.

    The prime is tested: in a group whose order is smooth, anyone who listens can take the logarithm.
    """
    bits = p.bit_length() if p > 0 else 0
    low, high = max(minimum, MIN_BITS), min(maximum, MAX_BITS)
    if not low <= bits <= high:
        raise _bad_group(f"a modulus of {bits} bits; {low} to {high} were asked for")
    if not 2 <= g <= p - 2:
        raise _bad_group("a generator outside 2 to p-2")
    if not is_probable_prime(p):
        raise _bad_group("a modulus that is not prime")
    return Group(p, g)


def _bad_group(what: str) -> ProtocolViolation:
    return ProtocolViolation(f"the peer's Diffie-Hellman group has {what}", clause="RFC 4419 3")


def is_probable_prime(n: int, rounds: int = 4) -> bool:
    """Miller-Rabin with `rounds` random bases; the groups of RFC 3526 are known.

    A composite passes with a chance of at most 4^-rounds. That is enough here: whoever could choose a
    composite is the server itself, whose signature covers p, and who knows K anyway; the test catches a
    broken moduli file. Every round is one full exponentiation: 0.02 s at 2048 bits, 1 s at 8192.
    """
    if n < 3 or n % 2 == 0:
        return n == 2
    for prime in _SMALL_PRIMES:
        if n % prime == 0:
            return n == prime
    if any(n == rfc3526(number).p for number, (bits, _) in _RFC3526.items() if bits == n.bit_length()):
        return True
    twos = ((n - 1) & -(n - 1)).bit_length() - 1
    return all(_passes(n, secrets.randbelow(n - 3) + 2, twos) for _ in range(rounds))


def _passes(n: int, base: int, twos: int) -> bool:
    x = pow(base, (n - 1) >> twos, n)
    if x in (1, n - 1):
        return True
    for _ in range(twos - 1):
        x = x * x % n
        if x == n - 1:
            return True
    return False
