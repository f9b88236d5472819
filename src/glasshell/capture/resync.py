"""After a hole in what is encrypted: where the next packet begins, and how many were lost.

Where packet_length is in clear, few places of a ciphertext look like the beginning of a packet, and the
tag proves the right one. What the tag also needs is the number of packets that the hole swallowed: it is
tried, from one on. That number tells how far the key stream has run, too: of the bytes between two known
boundaries, all are ciphertext but the lengths and the tags.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ..crypto.packet_ciphers import GcmOpener, Opener
from ..crypto.readonly import RunningEtm
from ..errors import IntegrityError

MAX_SOUGHT: Final = 256 * 1024
"""Bytes after a hole in which a packet is looked for."""
MAX_LOST: Final = 1024
"""Packets that one hole may have swallowed."""
MAX_TRIES: Final = 20_000
"""Tags that are checked for one direction of a connection, all its holes together."""
_FIRST: Final = b"\0\0"
"""How a packet_length below 65,536 begins; longer packets are not looked for."""


@dataclass(slots=True)
class Piece:
    """Bytes after a hole, as they came."""

    data: bytes
    time: float
    frame: int


@dataclass(slots=True)
class Seeker:
    """Looks for the next packet of one direction; `distance` is from the last known boundary on."""

    opener: Opener
    seq: int
    distance: int
    tries: int = MAX_TRIES
    pieces: list[Piece] = field(default_factory=list)
    lost: int = 0
    """Packets between the last known boundary and the one found."""
    _data: bytearray = field(default_factory=bytearray)
    _from: int = 0
    """No packet begins before here."""

    def feed(self, piece: Piece) -> int | None:
        """Takes more bytes; the offset of the packet found in all that was fed, or None."""
        self.pieces.append(piece)
        self._data += piece.data
        data, waiting = self._data, -1
        at = data.find(_FIRST, self._from)
        while 0 <= at <= len(data) - 4 and self.tries > 0:
            length = data[at + 2] << 8 | data[at + 3]
            if length >= self.opener.block_size and length % self.opener.block_size == 0:
                if at + 4 + length + self.opener.tag_size > len(data):
                    waiting = at if waiting < 0 else waiting
                elif self._proven(at, length):
                    return at
            at = data.find(_FIRST, at + 1)
        self._from = waiting if waiting >= 0 else max(0, len(data) - 3)
        return None

    @property
    def size(self) -> int:
        """Bytes that are kept, twice."""
        return 2 * len(self._data)

    @property
    def hopeless(self) -> bool:
        """Whether it is time to give up."""
        return self.tries <= 0 or len(self._data) > MAX_SOUGHT

    def _proven(self, at: int, length: int) -> bool:
        opener, span = self.opener, self.distance + at
        least = 4 + opener.block_size + opener.tag_size
        for lost in range(1, min(span // least, MAX_LOST) + 1):
            self.tries -= 1
            if self.tries <= 0:
                return False
            if isinstance(opener, GcmOpener):
                found = self._gcm(opener, at, length, lost)
            else:
                assert isinstance(opener, RunningEtm)
                found = opener.matches(self.seq + lost & 0xFFFFFFFF, self._data, at, length)
                if found:
                    opener.leap(span - lost * (4 + opener.tag_size))
            if found:
                self.lost = lost
                return True
        return False

    def _gcm(self, opener: GcmOpener, at: int, length: int, lost: int) -> bool:
        opener.leap(lost)
        try:
            opener.open(0, self._data, at, length)
        except IntegrityError:
            opener.leap(-lost - 1)
            return False
        opener.leap(-1)  # it is opened again where all packets are
        return True


def can_seek(opener: Opener, cipher: str) -> bool:
    """Whether a boundary can be found again: lengths in clear, and no chain of blocks."""
    return isinstance(opener, GcmOpener) or (isinstance(opener, RunningEtm) and not cipher.endswith("-cbc"))
