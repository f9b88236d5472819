"""Streamlined NTRU Prime with p = 761, q = 4591, w = 286: the KEM inside sntrup761x25519-sha512.

RFC 9941 §2 names it; parameters, encodings and hashes are those of the NTRU Prime submission to NIST (round
3, 2020), which OpenSSH and tinyssh speak. No library in reach has it, so that it is computed here, and Python
is made fast by giving it large integers:

- A polynomial is one integer with a lane of bits for each coefficient, and a product of polynomials is one
  product of integers (Kronecker's substitution).
- The inverse modulo q is found by division steps (Bernstein and Yang, "Fast constant-time gcd computation and
  modular inversion", 2019), halved again and again, so that nearly all of it is such products. Lanes are
  reduced all at once, as Montgomery does it; the powers of two that leaves are taken out in the end.
- The inverse modulo 3 takes the same steps with two integers of one bit a coefficient.

Nothing of this takes constant time: Python's integers do not, and the steps branch on secrets. A key here is
made for one key exchange, on the side that asks for it, and is thrown away after one decapsulation, which
leaves an attacker one measurement of it; do not keep a key for a second one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from struct import pack, unpack
from typing import Final, TypeAlias

P: Final = 761
Q: Final = 4591
WEIGHT: Final = 286
"""How many coefficients of a short polynomial are not 0."""

PUBLIC_SIZE: Final = 1158
SECRET_SIZE: Final = 1763
CIPHERTEXT_SIZE: Final = 1039
"""Sizes in bytes; the shared secret has 32."""

_SMALL_SIZE: Final = 191
_HASH_SIZE: Final = 32
_HALF: Final = Q // 2
"""Coefficients modulo q stand for -2295 to 2295."""

_ROUNDED: Final = (Q + 2) // 3
"""How many multiples of 3 there are among them."""

Random: TypeAlias = Callable[[int], bytes]
"""So many random bytes."""

Small: TypeAlias = Sequence[int]
"""A polynomial whose coefficients are -1, 0 and 1, the lowest first."""


class PrivateKey:
    """A private key, good for one decapsulation: `f` and `g_inverse` are small, `rho` answers what is false.

    `public` has PUBLIC_SIZE bytes.
    """

    __slots__ = ("_f", "_g_inverse", "_h", "_rho", "public")

    def __init__(self, f: Small, g_inverse: Small, rho: bytes, public: bytes) -> None:
        self._f = _signed(f)
        self._g_inverse = _signed(g_inverse)
        self._rho = rho
        self._h = _lanes(_decode(public, Q, -_HALF))
        self.public = public

    @classmethod
    def generate(cls, random: Random = secrets.token_bytes) -> PrivateKey:
        """A new key."""
        g_inverse = None
        while g_inverse is None:
            g = [(word % 2**30 * 3 >> 30) - 1 for word in _words(random)]
            g_inverse = invert_modulo_3(g)
        f = _short(random)
        h = _product(_lanes(invert_3f(f)), _signed(g))
        return cls(f, g_inverse, random(_SMALL_SIZE), _encode([(x + _HALF) % Q for x in h], Q))

    @classmethod
    def from_bytes(cls, data: bytes) -> PrivateKey:
        """The key of SECRET_SIZE bytes, in the form in which the submission writes it."""
        parts = (data[:_SMALL_SIZE], data[_SMALL_SIZE : 2 * _SMALL_SIZE])
        f, g_inverse = map(_decode_small, parts)
        public, rho = data[2 * _SMALL_SIZE :][:PUBLIC_SIZE], data[2 * _SMALL_SIZE + PUBLIC_SIZE :]
        return cls(f, g_inverse, rho[:_SMALL_SIZE], public)

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared secret, 32 bytes, of CIPHERTEXT_SIZE bytes; where these were not made for this key, one
        that nobody else has: what is false is not told from what is right (implicit rejection)."""
        c = [3 * x - _HALF for x in _decode(ciphertext[:-_HASH_SIZE], _ROUNDED)]
        e = [(3 * x + _HALF) % Q % 3 for x in _product(_signed(c), self._f)]
        r = [(x + 1) % 3 - 1 for x in _product(_lanes(e), self._g_inverse)]
        if P - r.count(0) != WEIGHT:
            r = [1] * WEIGHT + [0] * (P - WEIGHT)
        inputs = _encode_small(r)
        if hmac.compare_digest(_hide(r, inputs, self._h, self.public), ciphertext):
            return _hash(1, _hash(3, inputs) + ciphertext)
        return _hash(0, _hash(3, self._rho) + ciphertext)


def encapsulate(public: bytes, random: Random = secrets.token_bytes) -> tuple[bytes, bytes]:
    """The ciphertext for the owner of the key `public`, and the shared secret."""
    r = _short(random)
    inputs = _encode_small(r)
    ciphertext = _hide(r, inputs, _lanes(_decode(public, Q, -_HALF)), public)
    return ciphertext, _hash(1, _hash(3, inputs) + ciphertext)


def _hide(r: Small, inputs: bytes, h: int, public: bytes) -> bytes:
    """The ciphertext of `r`: h·r, rounded to multiples of 3, and a hash that confirms it."""
    rounded = [((x + _HALF) % Q + 1) // 3 for x in _product(h, _signed(r))]
    return _encode(rounded, _ROUNDED) + _hash(2, _hash(3, inputs) + _hash(4, public))


def _hash(prefix: int, data: bytes) -> bytes:
    return hashlib.sha512(bytes((prefix,)) + data).digest()[:_HASH_SIZE]


# --- random polynomials


def _words(random: Random) -> tuple[int, ...]:
    return unpack(f"<{P}I", random(4 * P))


def _short(random: Random) -> list[int]:
    """WEIGHT coefficients of -1 or 1, in places that sorting random numbers finds."""
    words = _words(random)
    marked = [word & ~1 for word in words[:WEIGHT]] + [word & ~3 | 1 for word in words[WEIGHT:]]
    return [(word & 3) - 1 for word in sorted(marked)]


# --- products in Z[x] / (x^p - x - 1): lanes of 32 bits

_LANE: Final = 32
_ONES: Final = int.from_bytes(pack("<I", 1) * P, "little")
_MULTIPLE: Final = 3 * Q << 9
"""Larger than any coefficient of a product, and nothing modulo 3 and q."""

_BIAS: Final = int.from_bytes(pack("<I", _MULTIPLE) * (2 * P - 1), "little")


def _lanes(coefficients: Iterable[int]) -> int:
    """The polynomial as one integer; its coefficients are not negative."""
    return int.from_bytes(pack(f"<{P}I", *coefficients), "little")


def _signed(coefficients: Iterable[int]) -> int:
    """The polynomial as one integer; negative coefficients borrow from the lane above."""
    return _lanes([x + Q for x in coefficients]) - Q * _ONES


def _product(a: int, b: int) -> tuple[int, ...]:
    """Coefficients that are right modulo 3 and modulo q, and not negative. Those of a product are below
    761·4591 in size, so that three of them and their biases fit a lane."""
    product = a * b + _BIAS
    high = product >> _LANE * P
    folded = (product & ((1 << _LANE * P) - 1)) + high + (high << _LANE)
    return unpack(f"<{P}I", folded.to_bytes(4 * P, "little"))


# --- the inverse modulo 3: two bits a coefficient, one in each of two integers


def invert_modulo_3(g: Small) -> list[int] | None:
    """1/g in F_3[x] / (x^p - x - 1); None where there is none.

    Below lie the two polynomials of the division steps, whose inputs are reversed; above them, from the power
    2p of x, what they are multiples of g by, so that one shift moves both.
    """
    top = 1 << 2 * P
    f_plus, f_minus = 1, 3 << P - 1
    g_plus = int("".join("01"[x == 1] for x in g), 2) | top
    g_minus = int("".join("01"[x == -1] for x in g), 2)
    delta = 1
    for _ in range(2 * P - 1):
        if (g_plus | g_minus) & 1:
            if delta > 0:
                delta = -delta
                f_plus, f_minus, g_plus, g_minus = g_plus, g_minus, f_plus, f_minus
            if (f_plus ^ g_plus) & 1:  # one is 1 and the other -1: the sum is divisible by x
                a, b = f_plus, f_minus
            else:
                a, b = f_minus, f_plus
            differ = (g_plus | b) ^ (g_minus | a)
            g_plus, g_minus = (g_minus | b) ^ differ, (g_plus | a) ^ differ
        delta += 1
        g_plus >>= 1
        g_minus >>= 1
    if delta:
        return None
    if f_minus & 1:
        f_plus, f_minus = f_minus, f_plus
    return [(f_plus >> i & 1) - (f_minus >> i & 1) for i in range(P + 1, 1, -1)]


# --- the inverse modulo q: lanes of 40 bits

_WIDE: Final = 40
_WIDE_MASK: Final = (1 << _WIDE) - 1
_SHIFT: Final = 14
_MONTGOMERY: Final = -pow(Q, -1, 1 << _SHIFT) % (1 << _SHIFT)
_FEW: Final = 24
"""So many division steps are done one by one."""

Matrix: TypeAlias = tuple[int, int, int, int]


def invert_3f(f: Small) -> list[int]:
    """1/(3f) in F_q[x] / (x^p - x - 1), which is a field; `f` is not 0."""
    left = _wide([1, *[0] * (P - 2), Q - 1, Q - 1])
    right = _wide([x % Q for x in reversed(f)])
    done, rest = P - 1, P
    delta, first = _steps(done, 1, left & _lowest(done), right & _lowest(done))
    left, right = _apply(first, left, right, done, rest)
    _, last = _steps(rest, delta, left, right)
    multiple = last[0] * first[1] + last[1] * first[3]
    data = multiple.to_bytes(_WIDE // 8 * 2 * P, "little")
    out = [int.from_bytes(data[5 * i : 5 * i + 5], "little") % Q for i in range(P, 0, -1)]
    # The steps leave it multiplied by a constant: that of f·out, which is constant.
    constant = f[0] * out[0] + sum(a * b for a, b in zip(f[1:], reversed(out), strict=False))
    scale = pow(3 * constant, -1, Q)
    return [x * scale % Q for x in out]


def _steps(count: int, delta: int, f: int, g: int) -> tuple[int, Matrix]:
    """`count` division steps from the lowest `count` coefficients of f and g: delta, and the matrix that
    takes f and g to x^count times what they become, up to a constant."""
    if count <= _FEW:
        return _few_steps(count, delta, f, g)
    half = count // 2
    rest = count - half
    delta, (a, b, c, d) = _steps(half, delta, f & _lowest(half), g & _lowest(half))
    f, g = _apply((a, b, c, d), f, g, half, rest)
    delta, (s, t, u, v) = _steps(rest, delta, f, g)
    mask = _mask(count + 1)
    products = (s * a + t * c, s * b + t * d, u * a + v * c, u * b + v * d)
    return delta, tuple(_reduced(x, mask) for x in products)  # type: ignore[return-value]


def _few_steps(count: int, delta: int, f: int, g: int) -> tuple[int, Matrix]:
    """As `_steps`, one by one. Above each polynomial lies its row of the matrix, which is shifted with it."""
    f |= 1 << _WIDE * 2 * count
    g |= 1 << _WIDE * (3 * count + 1)
    mask = _mask(3 * count + 2)
    for _ in range(count):
        g0 = (g & _WIDE_MASK) % Q
        if not g0:
            g >>= _WIDE
        else:
            f0 = (f & _WIDE_MASK) % Q
            if delta > 0:
                delta, f, g, f0, g0 = -delta, g, f, g0, f0
            x = f0 * g + (Q - g0) * f
            g = x + ((x & mask) * _MONTGOMERY & mask) * Q >> _SHIFT + _WIDE
        delta += 1
    low, lanes = _WIDE * count, _lowest(count + 1)
    high = _WIDE * (2 * count + 1)
    return delta, (f >> low & lanes, f >> high, g >> low & lanes, g >> high)


def _apply(matrix: Matrix, f: int, g: int, steps: int, keep: int) -> tuple[int, int]:
    a, b, c, d = matrix
    lanes, mask = _lowest(keep), _mask(keep)
    first, second = a * f + b * g, c * f + d * g
    shift = _WIDE * steps
    return _reduced(first >> shift & lanes, mask), _reduced(second >> shift & lanes, mask)


def _reduced(x: int, mask: int) -> int:
    """Each lane divided by 2^28 modulo q: from below 2^39 to below 2^13.

    A lane of a product is at most 2·761·10440² < 2^38; one of `_few_steps` stays below 10440, since
    (2·10440·4590 + 2^14·4591) / 2^14 does.
    """
    for _ in range(2):
        x = x + ((x & mask) * _MONTGOMERY & mask) * Q >> _SHIFT
    return x


def _wide(coefficients: Sequence[int]) -> int:
    return int.from_bytes(b"".join([x.to_bytes(_WIDE // 8, "little") for x in coefficients]), "little")


@lru_cache(maxsize=64)
def _lowest(lanes: int) -> int:
    return (1 << _WIDE * lanes) - 1


@lru_cache(maxsize=64)
def _mask(lanes: int) -> int:
    """The lowest bits of each lane, as many as `_reduced` takes away."""
    return int.from_bytes(((1 << _SHIFT) - 1).to_bytes(_WIDE // 8, "little") * lanes, "little")


# --- polynomials as bytes


def _encode_small(coefficients: Small) -> bytes:
    return sum([x + 1 << 2 * i for i, x in enumerate(coefficients)]).to_bytes(_SMALL_SIZE, "little")


def _decode_small(data: bytes) -> list[int]:
    return [(data[i // 4] >> i % 4 * 2 & 3) - 1 for i in range(P)]


@lru_cache(maxsize=2)
def _levels(modulus: int) -> tuple[tuple[int, int, int, int, int], ...]:
    """How numbers below `modulus`, P of them, become bytes: at each level neighbours are joined, and low
    bytes are put out while the product of their moduli has more than 14 bits.

    For each level: how many numbers, their modulus and that of the last one, how many bytes a pair puts out,
    and how many the last pair (0 where a number is left over).
    """
    levels = []
    count, last = P, modulus
    while count > 1:
        size, joined = _cut(modulus * modulus)
        last_size, last_joined = _cut(modulus * last) if count % 2 == 0 else (0, last)
        levels.append((count, modulus, last, size, last_size))
        count, modulus, last = (count + 1) // 2, joined, last_joined
    return (*levels, (1, last, last, 0, _cut(last, 1)[0]))


def _cut(modulus: int, limit: int = 1 << 14) -> tuple[int, int]:
    size = 0
    while modulus >= limit and modulus > 1:
        modulus, size = modulus + 255 >> 8, size + 1
    return size, modulus


def _encode(numbers: list[int], modulus: int) -> bytes:
    """Numbers below `modulus`, P of them, packed as the submission says ("Encode")."""
    out = []
    *levels, (*_, end) = _levels(modulus)
    for count, m, _, size, last_size in levels:
        pairs = [a + m * b for a, b in zip(numbers[::2], numbers[1::2], strict=False)]
        uniform = count // 2 - (count % 2 == 0)
        out.append(_low_bytes(pairs[:uniform], size))
        numbers = [x >> 8 * size for x in pairs[:uniform]] + (
            [numbers[-1]] if count % 2 else [pairs[-1] >> 8 * last_size]
        )
        out.append(_low_bytes(pairs[uniform:], last_size) if count % 2 == 0 else b"")
    return b"".join(out) + numbers[0].to_bytes(end, "little")


def _low_bytes(numbers: list[int], size: int) -> bytes:
    if size == 1:
        return bytes([x & 255 for x in numbers])
    return pack(f"<{len(numbers)}H", *[x & 65535 for x in numbers]) if size else b""


def _decode(data: bytes, modulus: int, offset: int = 0) -> list[int]:
    """What `_encode` packed, each number plus `offset` modulo `modulus`; bytes that nothing encodes to give
    numbers all the same."""
    levels = _levels(modulus)
    parts, at = [], 0
    for count, _, _, size, last_size in levels[:-1]:
        parts.append(at)
        at += size * (count // 2 - (count % 2 == 0)) + last_size
    numbers = [int.from_bytes(data[at:], "little") % levels[-1][1]]
    for (count, m, last, size, last_size), start in zip(levels[-2::-1], reversed(parts), strict=True):
        uniform = count // 2 - (count % 2 == 0)
        end = start + size * uniform
        lows = _numbers(data[start:end], size, uniform)
        joined = [low + (x << 8 * size) for low, x in zip(lows, numbers, strict=False)]
        below = [y for x in joined for y in (x % m, x // m % m)]
        if count % 2:
            below.append(numbers[-1])
        else:
            x = (numbers[-1] << 8 * last_size) + int.from_bytes(data[end : end + last_size], "little")
            below += (x % m, x // m % last)
        numbers = below
    return [(x + offset) % modulus for x in numbers]


def _numbers(data: bytes, size: int, count: int) -> Sequence[int]:
    return unpack(f"<{count}H", data) if size == 2 else data if size else bytes(count)
