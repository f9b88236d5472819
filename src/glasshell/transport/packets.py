"""RFC 4253 §6: binary packets [hot]. One object per direction; its keys are replaced whole at NEWKEYS.

    uint32    packet_length      of what follows, MAC left out
    byte      padding_length     4 to 255
    byte[]    payload            compressed, where that was agreed
    byte[]    padding            random, to a multiple of the cipher's block (8 at least)
    byte[]    mac

Where packet_length is not encrypted (AEAD and encrypt-then-MAC) the multiple counts from
padding_length on, else from packet_length on.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from ..crypto.compression import Compressor, Decompressor
from ..crypto.packet_ciphers import Null, Opener, Sealer
from ..errors import LimitExceeded, MalformedMessage, ProtocolViolation

MAX_PACKET_LENGTH: Final = 256 * 1024
"""Largest packet_length taken: OpenSSH's bound; RFC 4253 §6.1 asks for 35,000 at least."""
MAX_SEQUENCE: Final = 1 << 32
_HEAD: Final = struct.Struct(">IB")
_PADDING_POOL: Final = 256
"""Random bytes drawn at once: a call for each packet would cost more, a page for each connection too."""
_LARGE: Final = 32 * 1024
"""Bytes of output from which on memory is used again: fresh pages cost as much as sealing what fills them."""
_BLOCK: Final = 768 * 1024
"""Bytes of such a block: a turn's data, and what comes beside it."""
_NOTHING: Final = memoryview(b"")
_NO_BLOCK: Final = bytearray()
_MOST_SPARES: Final = 4
_spares: list[bytearray] = []
"""Blocks that were given out; all connections share them, so that one that is idle keeps none."""


class Outbound:
    """What we send: seals payloads into one block of memory, which `take` hands over whole."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._block = _NO_BLOCK
        self._view = _NOTHING
        self._end = 0
        """How much of the block is filled."""
        self.seq = 0
        self.epoch = 0
        self.sealer: Sealer = Null()
        self.compressor: Compressor | None = None
        self.key_bytes = 0
        """Bytes sealed under the present keys."""
        self.key_packets = 0
        self.total_bytes = 0
        self._random = random
        self._padding = b""
        self._used = 0

    def seal(self, head: bytes, data: bytes | memoryview = b"") -> tuple[int, int, int]:
        """Seals the payload `head + data`; returns packet_length, padding_length and bytes on the wire.

        Raises LimitExceeded where the sequence number would come round under the same keys.
        """
        if self.compressor is not None:
            head, data = self.compressor.compress(b"".join((head, data))), b""
        sealer = self.sealer
        block = sealer.block_size
        size = len(head) + len(data) + 5
        padding = block - (size - sealer.aad_length) % block
        if padding < 4:
            padding += block
        if size + padding < 16:  # §6: a packet has 16 bytes at least
            padding += block
        packet = b"".join((_HEAD.pack(size + padding - 4, padding), head, data, self._pad(padding)))
        wire = size + padding + sealer.tag_size
        self._make_room(wire)
        end = self._end + wire
        sealer.seal_into(self.seq, packet, self._view[self._end : end])
        self._end = end
        self._count(wire)
        return size + padding - 4, padding, wire

    @property
    def buffer(self) -> memoryview:
        """What waits to be taken."""
        return self._view[: self._end]

    def append(self, data: bytes) -> None:
        """Adds what is no packet: the identification."""
        self._make_room(len(data))
        self._view[self._end : self._end + len(data)] = data
        self._end += len(data)
        self.total_bytes += len(data)

    def clear(self) -> None:
        """Drops what waits."""
        self._end = 0

    def install(self, sealer: Sealer, *, reset_seq: bool) -> None:
        """New keys from the next packet on; strict key exchange begins again at sequence number 0."""
        self.sealer = sealer
        self.epoch += 1
        self.key_bytes = self.key_packets = 0
        if reset_seq:
            self.seq = 0

    def take(self) -> bytes | memoryview:
        """Everything sealed so far; nothing waits after it. It stays as it is while a view of it is left."""
        if not self._end:
            return b""
        out = self._view[: self._end]
        if self._end >= _LARGE and len(_spares) < _MOST_SPARES:
            _spares.append(self._block)
        self._block, self._view, self._end = _NO_BLOCK, _NOTHING, 0
        return out

    def _make_room(self, count: int) -> None:
        """[hot] Sees that `count` bytes more fit."""
        size = self._end + count
        if size <= len(self._block):
            return
        if size < _LARGE:
            block = bytearray(max(1024, 2 * size))
        else:
            block = _recycled(size) or bytearray(max(_BLOCK, 2 * self._end, size))
        view = memoryview(block)
        view[: self._end] = self._view[: self._end]
        self._block, self._view = block, view

    def _count(self, wire: int) -> None:
        self.seq += 1
        if self.seq == MAX_SEQUENCE:
            if not self.epoch:  # Terrapin's cousin: a wrap before any MAC would go unseen
                raise LimitExceeded("the sequence number came round before the first key exchange ended")
            self.seq = 0
        self.key_bytes += wire
        self.key_packets += 1
        self.total_bytes += wire

    def _pad(self, count: int) -> bytes:
        if self._used + count > len(self._padding):
            self._padding, self._used = self._random(_PADDING_POOL), 0
        self._used += count
        return self._padding[self._used - count : self._used]


def _recycled(size: int) -> bytearray | None:
    """A block of at least `size` bytes that was given out and that nobody looks at any more."""
    try:
        spare = _spares.pop()
        spare.pop()  # what somebody looks at cannot be resized
    except (IndexError, BufferError):
        return None
    spare.append(0)
    return spare if len(spare) >= size else None


class Inbound:
    """What the peer sends: `feed` bytes, then `next()` until it returns None.

    `lenient`: a packet in clear may be of a size that is no multiple of 8, for whoever only watches.
    """

    __slots__ = (
        "_borrowed", "_buffer", "_end", "_expected", "_lenient", "_lent", "_offset", "decompressor",
        "epoch", "key_bytes", "key_packets", "lengths", "opener", "seq", "total_bytes",
    )  # fmt: skip

    def __init__(self, *, lenient: bool = False) -> None:
        self._lenient = lenient
        self.seq = 0
        self.epoch = 0
        self.opener: Opener = Null()
        self.decompressor: Decompressor | None = None
        self.key_bytes = 0
        """Bytes opened under the present keys."""
        self.key_packets = 0
        self.total_bytes = 0
        self.lengths = (0, 0, 0)
        """packet_length, padding_length and bytes on the wire of the last packet."""
        self._buffer: memoryview = _NOTHING
        """What is looked at: memory of ours, or what was lent."""
        self._offset = 0
        self._end = 0
        self._lent: memoryview = _NOTHING
        """What was lent and is not looked at yet: it follows behind a packet whose beginning is kept."""
        self._borrowed = False
        """Whether `_buffer` was lent."""
        self._expected = 0
        """packet_length of the packet under way; 0: not known yet."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Takes bytes of the socket."""
        self._append(memoryview(data))

    def lend(self, data: bytes | bytearray | memoryview) -> None:
        """As `feed`, without copying: call `keep` before `data` changes."""
        self._lent = memoryview(data)

    def keep(self) -> None:
        """Copies what was lent and is not opened."""
        if self._offset == self._end:
            self._buffer, self._offset, self._end = _NOTHING, 0, 0
        elif self._borrowed:
            rest, self._buffer = self._buffer[self._offset : self._end], _NOTHING
            self._offset = self._end = 0
            self._append(rest)
        self._borrowed = False
        if self._lent:
            lent, self._lent = self._lent, _NOTHING
            self._append(lent)

    def buffered(self) -> int:
        """Bytes taken and not yet opened."""
        return self._end - self._offset + len(self._lent)

    def _append(self, data: memoryview) -> None:
        have, count = self._end - self._offset, len(data)
        if not count:
            return
        if self._borrowed or self._end + count > len(self._buffer):
            size = max(have + count, 2 * have)
            if self._expected:
                size = max(size, 4 + self._expected + self.opener.tag_size)
            fresh = memoryview(bytearray(size))
            fresh[:have] = self._buffer[self._offset : self._end]
            self._buffer, self._offset, self._end, self._borrowed = fresh, 0, have, False
        self._buffer[self._end : self._end + count] = data
        self._end += count

    def _refill(self, wanted: int) -> bool:
        """Completes what is kept to `wanted` bytes out of what was lent, or looks at that."""
        if not self._lent:
            return False
        missing = wanted - (self._end - self._offset)
        part, self._lent = self._lent[:missing], self._lent[missing:]
        self._append(part)
        return len(part) == missing

    def next(self) -> memoryview | None:
        """The payload of the next packet, or None where more bytes are needed.

        Raises MalformedMessage, IntegrityError, LimitExceeded, ProtocolViolation.
        """
        opener = self.opener
        if self._offset == self._end:
            self._buffer, self._offset, self._end = self._lent, 0, len(self._lent)
            self._lent, self._borrowed = _NOTHING, True
        length = self._expected
        if not length:
            head = opener.head_size
            if self._end - self._offset < head and not self._refill(head):
                return None
            length = self._expected = self._checked(
                opener.packet_length(self.seq, self._buffer, self._offset)
            )
        total = 4 + length + opener.tag_size
        if self._end - self._offset < total and not self._refill(total):
            return None
        plain = opener.open(self.seq, self._buffer, self._offset, length)
        self._offset += total
        self._expected = 0
        padding = plain[0]
        self.lengths = (length, padding, total)
        self._count(total)
        if padding < 4 or padding > length - 2:
            raise MalformedMessage(
                f"padding of {padding} bytes in a packet of {length}: a payload has a byte at least",
                clause="RFC 4253 6",
            )
        payload = memoryview(plain)[1 : length - padding]
        return payload if self.decompressor is None else self._decompress(payload)

    def needed(self) -> int:
        """Bytes that complete the packet under way; 0: its length is not known yet."""
        if not self._expected:
            return 0
        return 4 + self._expected + self.opener.tag_size - self.buffered()

    def skip(self) -> None:
        """Passes the packet over that `next` refused with IntegrityError; it counts as opened.

        A connection never goes on after that; who reads a capture may, where the lengths are in clear.
        """
        total = 4 + self._expected + self.opener.tag_size
        self.lengths = (self._expected, 0, total)
        self._offset += total
        self._expected = 0
        self._count(total)

    def resume(self, lost: int) -> None:
        """The next packet comes `lost` packets later than it should: they are missing in a capture."""
        self.seq = (self.seq + lost) % MAX_SEQUENCE

    def rest(self) -> bytes:
        """Takes back what was fed and not opened."""
        left = bytes(self._buffer[self._offset : self._end]) + bytes(self._lent)
        self._buffer = self._lent = _NOTHING
        self._offset = self._end = self._expected = 0
        return left

    def install(self, opener: Opener, *, reset_seq: bool) -> None:
        """New keys from the next packet on; strict key exchange begins again at sequence number 0."""
        self.opener = opener
        self.epoch += 1
        self.key_bytes = self.key_packets = 0
        if reset_seq:
            self.seq = 0

    def _checked(self, length: int) -> int:
        opener = self.opener
        counted = length + 4 - opener.aad_length
        if length > MAX_PACKET_LENGTH or counted < opener.block_size or length < 8:
            raise ProtocolViolation(f"packet_length {length} is out of bounds", clause="RFC 4253 6.1")
        if counted % opener.block_size and not (self._lenient and not self.epoch):
            raise ProtocolViolation(
                f"packet_length {length} is no multiple of the block size", clause="RFC 4253 6"
            )
        return length

    def _decompress(self, payload: memoryview) -> memoryview:
        assert self.decompressor is not None
        plain = self.decompressor.decompress(payload)
        if not plain:
            raise MalformedMessage("an empty payload", clause="RFC 4253 6")
        return memoryview(plain)

    def _count(self, wire: int) -> None:
        self.seq += 1
        if self.seq == MAX_SEQUENCE:
            if not self.epoch:
                raise LimitExceeded("the sequence number came round before the first key exchange ended")
            self.seq = 0
        self.key_bytes += wire
        self.key_packets += 1
        self.total_bytes += wire
