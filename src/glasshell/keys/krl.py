"""Key revocation lists, without I/O (OpenSSH, PROTOCOL.krl): which keys and certificates count no more.

Certificates are revoked by serial number or key ID, for one authority or for all; keys as they are or by
a hash.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

from ..crypto.signatures import PublicKey
from ..errors import KeyFormatError, MalformedMessage, UsageError
from ..wire import Reader, mpint, string, uint32, uint64, visible
from .public import AnyKey

__all__ = ["MAGIC", "MAX_BYTES", "MAX_RANGES", "MAX_SERIAL", "Issued", "Krl"]

MAGIC: Final = b"SSHKRL\n\0"
"""What every list starts with."""

MAX_BYTES: Final = 32 << 20
"""Largest list taken, in bytes."""

MAX_RANGES: Final = 1 << 20
"""Most ranges of serial numbers taken from one list: bitmaps hold thousands in a kilobyte."""

MAX_SERIAL: Final = (1 << 64) - 1

_VERSION: Final = 1
_BITMAP_BITS: Final = 16384
"""Longest bitmap, in bits: what OpenSSH reads as one number."""

_CERTIFICATES: Final = 1
_KEYS: Final = 2
_SHA1: Final = 3
_SIGNATURE: Final = 4
_SHA256: Final = 5
_EXTENSION: Final = 255

_SERIALS: Final = 0x20
_RANGE: Final = 0x21
_BITMAP: Final = 0x22
_KEY_IDS: Final = 0x23
_CERTIFICATE_EXTENSION: Final = 0x39

_RUN: Final = re.compile("1+")


class Issued:
    """What is revoked of the certificates of one authority: serial numbers and key IDs."""

    __slots__ = ("_highs", "_lows", "_sorted", "key_ids")

    def __init__(self) -> None:
        self._lows = array("Q")
        self._highs = array("Q")
        self._sorted = True
        self.key_ids: set[str] = set()

    def __len__(self) -> int:
        return len(self._lows)

    def add(self, low: int, high: int) -> None:
        """Revokes the serials `low` to `high`. Raises KeyFormatError for none, and for 0: a certificate
        has that serial where its authority gave none."""
        if not 0 < low <= high <= MAX_SERIAL:
            raise KeyFormatError(f"no range of serial numbers: {low} to {high}", clause="PROTOCOL.krl 2.2")
        if self._highs and low <= self._highs[-1] + 1:
            self._sorted = False
        self._lows.append(low)
        self._highs.append(high)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The serial numbers, in order, as ranges with a gap between each two."""
        self._sort()
        return zip(self._lows, self._highs, strict=True)

    def has(self, serial: int) -> bool:
        """Whether this serial number is revoked; never the number 0."""
        self._sort()
        at = bisect_right(self._lows, serial) - 1
        return at >= 0 and serial <= self._highs[at]

    def _sort(self) -> None:
        if self._sorted:
            return
        pairs = sorted(zip(self._lows, self._highs, strict=True))
        lows, highs = array("Q"), array("Q")
        for low, high in pairs:
            if highs and low <= highs[-1] + 1:
                highs[-1] = max(high, highs[-1])
            else:
                lows.append(low)
                highs.append(high)
        self._lows, self._highs, self._sorted = lows, highs, True


class Krl:
    """A key revocation list. `generated` is in epoch seconds; `issued` goes by the blob of the authority's
    key, and holds under b"" what is revoked whoever signed it."""

    __slots__ = ("comment", "generated", "issued", "keys", "sha1", "sha256", "version")

    def __init__(self) -> None:
        self.version = 0
        self.generated = 0
        self.comment = ""
        self.keys: set[bytes] = set()
        self.sha1: set[bytes] = set()
        self.sha256: set[bytes] = set()
        self.issued: dict[bytes, Issued] = {}

    # ---- judging

    def revokes(self, key: AnyKey) -> str:
        """Why `key`, a certificate as well, counts no more; empty where the list does not have it.

        A certificate is revoked with its key and with the key of its authority.
        """
        reason = self._revokes_key(key.plain)
        if reason or isinstance(key, PublicKey):
            return reason
        for scope in (key.authority.blob, b""):
            issued = self.issued.get(scope)
            if issued is None:
                continue
            if key.key_id in issued.key_ids:
                return f'certificates with the key ID "{visible(key.key_id)}" are revoked'
            if key.serial and issued.has(key.serial):
                return f"the certificate with serial {key.serial} is revoked"
        reason = self._revokes_key(key.authority)
        return reason and f"of its authority: {reason}"

    def _revokes_key(self, key: PublicKey) -> str:
        blob = key.blob
        if self.sha1 and hashlib.sha1(blob, usedforsecurity=False).digest() in self.sha1:
            return "the key is revoked by its SHA1 hash"
        if self.sha256 and hashlib.sha256(blob).digest() in self.sha256:
            return "the key is revoked by its SHA256 hash"
        return "the key is revoked" if blob in self.keys else ""

    # ---- reading

    @classmethod
    def parse(cls, data: bytes) -> Krl:
        """Reads a list. Raises KeyFormatError for whatever it does not understand: a list that is read
        in part would let in what it revokes."""
        if len(data) > MAX_BYTES:
            raise KeyFormatError(f"a revocation list of {len(data)} bytes; {MAX_BYTES} are allowed")
        try:
            return _parse(data)
        except MalformedMessage as error:
            raise KeyFormatError(
                f"a revocation list that is cut short or damaged: {error}", clause="PROTOCOL.krl 1"
            ) from None

    # ---- making

    def issued_by(self, authority: PublicKey | None) -> Issued:
        """What is revoked of this authority's certificates, of any's where it is None; to be added to."""
        return self.issued.setdefault(authority.blob if authority is not None else b"", Issued())

    def revoke(self, key: AnyKey) -> None:
        """Adds a key; of a certificate its serial number, or its key ID where it has none."""
        if isinstance(key, PublicKey):
            self.keys.add(key.blob)
            return
        issued = self.issued_by(key.authority)
        if key.serial:
            issued.add(key.serial, key.serial)
        else:
            issued.key_ids.add(key.key_id)

    def dump(self, now: int) -> bytes:
        """The list in bytes, as generated at `now` (epoch seconds)."""
        head = [MAGIC, uint32(_VERSION), uint64(self.version), uint64(now), uint64(0), string(b"")]
        parts = [*head, string(_encoded(self.comment))]
        for authority, issued in self.issued.items():
            parts.append(_section(_CERTIFICATES, string(authority) + string(b"") + _dump_issued(issued)))
        for number, blobs in ((_KEYS, self.keys), (_SHA1, self.sha1), (_SHA256, self.sha256)):
            if blobs:
                parts.append(_section(number, b"".join(map(string, sorted(blobs)))))
        data = b"".join(parts)
        if len(data) > MAX_BYTES:
            raise UsageError(f"a revocation list of {len(data)} bytes; {MAX_BYTES} are allowed")
        return data


def _parse(data: bytes) -> Krl:
    reader = Reader(data)
    if reader.take(len(MAGIC)) != MAGIC:
        raise KeyFormatError("not a key revocation list: it does not start with SSHKRL")
    version = reader.uint32()
    if version != _VERSION:
        raise KeyFormatError(f"a revocation list of format {version}; {_VERSION} is known")
    krl = Krl()
    krl.version, krl.generated = reader.uint64(), reader.uint64()
    reader.uint64()  # flags: none are defined
    reader.string()
    krl.comment = reader.text()
    budget = MAX_RANGES
    while reader.left():
        number, section = reader.byte(), Reader(reader.string())
        if number == _CERTIFICATES:
            budget -= _read_issued(section, krl, budget)
        else:
            read = _SECTIONS.get(number)
            if read is None:
                raise KeyFormatError(f"a revocation list with an unknown section, {number}")
            read(section, krl)
        section.done()
    return krl


def _read_keys(section: Reader, krl: Krl) -> None:
    while section.left():
        krl.keys.add(section.string())


def _read_hashes(size: int, name: str) -> Callable[[Reader, Krl], None]:
    def read(section: Reader, krl: Krl) -> None:
        hashes: set[bytes] = getattr(krl, name)
        while section.left():
            value = section.string()
            if len(value) != size:
                raise KeyFormatError(f"a revocation list with a hash of {len(value)} bytes, not {size}")
            hashes.add(value)

    return read


def _read_extension(section: Reader, krl: Krl) -> None:
    name, critical = section.text(), section.boolean()
    section.string()
    if critical:
        raise KeyFormatError(f'a revocation list with the unknown critical extension "{visible(name)}"')


def _refuse_signature(section: Reader, krl: Krl) -> None:
    # What cannot be checked must not look as if it had been.
    raise KeyFormatError(
        "a revocation list with a signature inside, which is not supported",
        hint="sign it as a file: glasshell keygen -Y sign", clause="PROTOCOL.krl 6",
    )  # fmt: skip


_SECTIONS: Final[dict[int, Callable[[Reader, Krl], None]]] = {
    _KEYS: _read_keys,
    _SHA1: _read_hashes(20, "sha1"),
    _SHA256: _read_hashes(32, "sha256"),
    _SIGNATURE: _refuse_signature,
    _EXTENSION: _read_extension,
}


def _read_issued(section: Reader, krl: Krl, budget: int) -> int:
    """Reads a section about one authority's certificates; returns how many ranges it brought."""
    authority = section.string()
    if authority:
        Reader(authority).name()
    section.string()
    issued = krl.issued.setdefault(authority, Issued())
    before = len(issued)
    while section.left():
        number, inside = section.byte(), Reader(section.string())
        read = _ISSUED.get(number)
        if read is None:
            raise KeyFormatError(f"a revocation list with an unknown section about certificates, {number}")
        read(inside, krl, issued)
        inside.done()
        if len(issued) - before > budget:
            raise KeyFormatError(f"a revocation list with more than {MAX_RANGES} ranges of serial numbers")
    return len(issued) - before


def _read_serials(section: Reader, krl: Krl, issued: Issued) -> None:
    while section.left():
        serial = section.uint64()
        issued.add(serial, serial)


def _read_range(section: Reader, krl: Krl, issued: Issued) -> None:
    issued.add(section.uint64(), section.uint64())


def _read_bitmap(section: Reader, krl: Krl, issued: Issued) -> None:
    offset, bits = section.uint64(), section.mpint()
    if bits < 0 or bits.bit_length() > _BITMAP_BITS:
        raise KeyFormatError(f"a revocation list with a bitmap that is not of 0 to {_BITMAP_BITS} bits")
    for run in _RUN.finditer(f"{bits:b}"[::-1]):
        issued.add(offset + run.start(), offset + run.end() - 1)


def _read_key_ids(section: Reader, krl: Krl, issued: Issued) -> None:
    while section.left():
        issued.key_ids.add(section.text())


def _skip_extension(section: Reader, krl: Krl, issued: Issued) -> None:
    _read_extension(section, krl)


_ISSUED: Final[dict[int, Callable[[Reader, Krl, Issued], None]]] = {
    _SERIALS: _read_serials,
    _RANGE: _read_range,
    _BITMAP: _read_bitmap,
    _KEY_IDS: _read_key_ids,
    _CERTIFICATE_EXTENSION: _skip_extension,
}


# ---- writing


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _section(number: int, data: bytes) -> bytes:
    return bytes([number]) + string(data)


def _dump_issued(issued: Issued) -> bytes:
    """Long ranges as they are; what lies close together as bitmaps, what lies alone in a list."""
    parts: list[bytes] = []
    lone: list[int] = []
    group: list[tuple[int, int]] = []
    for low, high in issued.ranges():
        if high - low >= 256:
            parts.append(_section(_RANGE, uint64(low) + uint64(high)))
            continue
        if group and (low - group[-1][1] > 64 or high - group[0][0] >= _BITMAP_BITS):
            _flush(group, parts, lone)
            group = []
        group.append((low, high))
    _flush(group, parts, lone)
    if lone:
        parts.append(_section(_SERIALS, b"".join(map(uint64, lone))))
    if issued.key_ids:
        ids = sorted(map(_encoded, issued.key_ids))
        parts.append(_section(_KEY_IDS, b"".join(map(string, ids))))
    return b"".join(parts)


def _flush(group: list[tuple[int, int]], parts: list[bytes], lone: list[int]) -> None:
    """Writes a group of ranges that lie close together; single numbers are left for the list."""
    if len(group) == 1:
        low, high = group[0]
        if low == high:
            lone.append(low)
        else:
            parts.append(_section(_RANGE, uint64(low) + uint64(high)))
    elif group:
        start = group[0][0]
        bits = 0
        for low, high in group:
            bits |= ((1 << (high - low + 1)) - 1) << (low - start)
        parts.append(_section(_BITMAP, uint64(start) + mpint(bits)))
