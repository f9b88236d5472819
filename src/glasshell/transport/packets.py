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
_COMPACT: Final = 256 * 1024


class Outbound:
    """What we send: seals payloads into `buffer`, which `data_to_send` hands over whole."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self.buffer = bytearray()
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
        before = len(self.buffer)
        sealer.seal_into(self.seq, packet, self.buffer)
        wire = len(self.buffer) - before
        self._count(wire)
        return size + padding - 4, padding, wire

    def install(self, sealer: Sealer, *, reset_seq: bool) -> None:
        """New keys from the next packet on; strict key exchange begins again at sequence number 0."""
        self.sealer = sealer
        self.epoch += 1
        self.key_bytes = self.key_packets = 0
        if reset_seq:
            self.seq = 0

    def take(self) -> bytes | bytearray:
        """Everything sealed so far; the buffer is empty after it."""
        if not self.buffer:
            return b""
        out, self.buffer = self.buffer, bytearray()
        return out

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


class Inbound:
    """What the peer sends: `feed` bytes, then `next()` until it returns None.

    `lenient`: a packet in clear may be of a size that is no multiple of 8, for whoever only watches.
    """

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
        self._buffer = bytearray()
        self._offset = 0
        self._expected = 0
        """packet_length of the packet under way; 0: not known yet."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Takes bytes of the socket."""
        self._buffer += data

    def buffered(self) -> int:
        """Bytes taken and not yet opened."""
        return len(self._buffer) - self._offset

    def next(self) -> memoryview | None:
        """The payload of the next packet, or None where more bytes are needed.

        Raises MalformedMessage, IntegrityError, LimitExceeded, ProtocolViolation.
        """
        opener = self.opener
        available = len(self._buffer) - self._offset
        length = self._expected
        if not length:
            if available < opener.head_size:
                self._compact()
                return None
            length = self._expected = self._checked(
                opener.packet_length(self.seq, self._buffer, self._offset)
            )
        total = 4 + length + opener.tag_size
        if available < total:
            self._compact()
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
        left = bytes(self._buffer[self._offset :])
        self._buffer.clear()
        self._offset = self._expected = 0
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

    def _compact(self) -> None:
        """Nothing more to open now: makes room, seldom enough not to move a long tail each time."""
        if self._offset == len(self._buffer):
            self._buffer.clear()
            self._offset = 0
        elif self._offset >= _COMPACT:
            del self._buffer[: self._offset]
            self._offset = 0
