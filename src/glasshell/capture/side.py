"""One direction of a captured connection: from bytes to packets, or to what can be said without keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from ..crypto.compression import Decompressor
from ..crypto.packet_ciphers import Opener
from ..crypto.registry import CipherAlgorithm, MacAlgorithm
from ..transport.ident import Identification, IdentificationReader, parse_lax
from ..transport.packets import MAX_PACKET_LENGTH, Inbound
from .kex import Kex
from .kexinit import Offer
from .resync import MAX_TRIES, Piece, Seeker

MAX_HELD: Final = 1 << 20
"""Bytes of one direction that wait for keys which the other direction has yet to show."""


class Mode(Enum):
    """What the bytes of a direction are, as far as they can be read."""

    IDENTIFICATION = "identification"
    PACKETS = "packets"
    HELD = "waiting for the other direction"
    SEALED = "encrypted"
    LOST = "lost"
    SEEKING = "looking for the next packet"


class LateDecompressor(Decompressor):
    """Inflates from the first payload on that begins as zlib does (RFC 1950 §2.2).

    Where compression begins after the login, the packets that a side had under way were not compressed.
    No message has the number 120, with which a zlib stream begins.
    """

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        super().__init__()
        self._begun = False

    def decompress(self, data: bytes | bytearray | memoryview, limit: int = MAX_PACKET_LENGTH) -> bytes:
        if not self._begun:
            if len(data) < 2 or data[0] != 0x78 or (data[0] << 8 | data[1]) % 31:
                return bytes(data)
            self._begun = True
        return super().decompress(data, limit)


class Walker:
    """Walks the packets of a direction whose packet_length is in clear, and keeps nothing of them."""

    __slots__ = ("_block", "_head", "_left", "_total", "begun", "first", "lost", "tag")

    def __init__(self, block: int, tag: int) -> None:
        self._block = block
        self.tag = tag
        self.begun = 0
        """Packets that began in the bytes fed last."""
        self.first = 0
        """packet_length of the first of them."""
        self._head = b""
        self._left = 0
        self._total = 0
        self.lost = False
        """A length was none: from there on nobody knows where a packet begins."""

    def feed(self, data: bytes) -> list[int]:
        """The bytes on the wire of each packet that ends in `data`."""
        found: list[int] = []
        position, end = 0, len(data)
        self.begun = self.first = 0
        while position < end and not self.lost:
            if not self._left:
                head = self._head + data[position : position + 4 - len(self._head)]
                position += len(head) - len(self._head)
                if len(head) < 4:
                    self._head = head
                    break
                self._head = b""
                length = int.from_bytes(head, "big")
                if length > MAX_PACKET_LENGTH or length % self._block or not length:
                    self.lost = True
                    break
                self.begun += 1
                self.first = self.first or length
                self._total = 4 + length + self.tag
                self._left = length + self.tag
            step = min(self._left, end - position)
            self._left -= step
            position += step
            if not self._left:
                found.append(self._total)
        return found

    def pass_over(self, count: int) -> None:
        """`count` bytes are missing; where more than the packet under way is, the next one is not found."""
        if count > self._left:
            self.lost = True
        else:
            self._left -= count


def walker(cipher: CipherAlgorithm | None, mac: MacAlgorithm | None) -> Walker | None:
    """A walker where the algorithms leave packet_length in clear, else None."""
    if cipher is None or (cipher.aead and cipher.iv_size == 0):  # chacha20-poly1305 hides it
        return None
    if cipher.aead:
        return Walker(cipher.block_size, 16)
    return Walker(cipher.block_size, mac.tag_size) if mac is not None and mac.etm else None


@dataclass(slots=True)
class Side:
    """One direction; `forward` is that of the sender of the connection's first frame."""

    forward: bool
    mode: Mode = Mode.IDENTIFICATION
    reader: IdentificationReader = field(default_factory=lambda: IdentificationReader("client", parse_lax))
    ident: Identification | None = None
    inbound: Inbound = field(default_factory=lambda: Inbound(lenient=True))
    offer: Offer | None = None
    """The KEXINIT of `kex`, until the roles are known."""
    kex: Kex | None = None
    """The key exchange whose NEWKEYS is due in this direction."""
    first_frame: int = 0
    """The frame in which the packet under way began."""
    damaged: bool = False
    """Bytes of the packet under way are missing."""
    bad_tags: int = 0
    """Packets in a row that could not be opened."""
    held: list[Piece] = field(default_factory=list)
    held_size: int = 0
    walker: Walker | None = None
    cipher: str = ""
    epoch: int = 0
    """NEWKEYS seen in this direction."""
    total: int = 0
    """Bytes of the stream so far, missing ones left out."""
    head: bytes = b""
    """The first bytes of it, where they are not yet known to be an identification."""
    told: int = 0
    """Lines before the identification that have been told."""
    seeker: Seeker | None = None
    ended: bool = False

    @property
    def kept(self) -> int:
        """Bytes of it that wait for more, or for keys."""
        if self.mode is Mode.IDENTIFICATION:
            return self.total
        sought = self.seeker.size if self.seeker is not None else 0
        return self.inbound.buffered() + self.held_size + sought

    def verdict(self) -> bool | None:
        """Whether the tag of the packet just opened is right; None where there is none or no primitive."""
        opener: Opener = self.inbound.opener
        wrong = getattr(opener, "wrong", None)
        if wrong is None:
            return True if opener.tag_size else None
        opener.wrong = False  # type: ignore[attr-defined]
        return not wrong if opener.checkable else None  # type: ignore[attr-defined]

    def seek(self, missing: int) -> None:
        """Looks for the next packet from here on, `missing` bytes behind the end of what came."""
        inbound, before = self.inbound, self.seeker
        tries = before.tries if before is not None else MAX_TRIES
        self.seeker = Seeker(inbound.opener, inbound.seq, inbound.buffered() + missing, tries)
        self.mode = Mode.SEEKING

    def found(self, piece: Piece) -> tuple[list[Piece], list[Piece]] | None:
        """Looks into one more piece: what comes before the packet found, and what begins with it."""
        seeker = self.seeker
        assert seeker is not None
        at = seeker.feed(piece)
        if at is None:
            return None
        before: list[Piece] = []
        after: list[Piece] = []
        for each in seeker.pieces:
            cut = min(max(at, 0), len(each.data))
            at -= len(each.data)
            before += [Piece(each.data[:cut], each.time, each.frame)] if cut else []
            after += [Piece(each.data[cut:], each.time, each.frame)] if cut < len(each.data) else []
        self.inbound.resume(seeker.lost)
        seeker.pieces = []
        return before, after

    def hold(self, data: bytes, time: float, frame: int) -> bool:
        """Keeps `data` until there are keys; False where too much waits already."""
        self.held.append(Piece(data, time, frame))
        self.held_size += len(data)
        return self.held_size <= MAX_HELD

    def release(self, receive: Callable[[bytes, float, int], None]) -> None:
        """Hands what was held to `receive`, in order."""
        held, self.held, self.held_size = self.held, [], 0
        for piece in held:
            receive(piece.data, piece.time, piece.frame)
