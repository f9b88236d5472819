"""RFC 4253 §6.2: compression of payloads, one stream per direction that runs on from packet to packet."""

from __future__ import annotations

import zlib
from typing import Final

from ..errors import LimitExceeded, MalformedMessage

MAX_PAYLOAD: Final = 256 * 1024
"""Longest payload that is inflated, in bytes: the bound against decompression bombs."""


class Compressor:
    """Deflates the payloads of one direction."""

    __slots__ = ("_stream", "packed", "plain")

    def __init__(self) -> None:
        self._stream = zlib.compressobj()
        self.plain = self.packed = 0
        """Bytes taken, and what became of them."""

    def compress(self, payload: bytes | bytearray | memoryview) -> bytes:
        """`payload`, compressed and flushed, so that the peer can read it at once."""
        packed = self._stream.compress(payload) + self._stream.flush(zlib.Z_PARTIAL_FLUSH)
        self.plain += len(payload)
        self.packed += len(packed)
        return packed


class Decompressor:
    """Inflates the payloads of one direction."""

    __slots__ = ("_stream", "packed", "plain")

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()
        self.plain = self.packed = 0
        """Bytes given, and what they were made of."""

    def decompress(self, data: bytes | bytearray | memoryview, limit: int = MAX_PAYLOAD) -> bytes:
        """One payload of at most `limit` bytes.

        Raises LimitExceeded past `limit`, before more than one byte too many is inflated;
        MalformedMessage for data that is not zlib's, that ends the stream, or that holds no payload.
        """
        try:
            payload = self._stream.decompress(data, limit + 1)
        except zlib.error:
            raise MalformedMessage("compressed data that cannot be inflated", clause="RFC 4253 6.2") from None
        if len(payload) > limit:
            raise LimitExceeded(f"a payload that inflates to more than {limit} bytes", clause="RFC 4253 6.2")
        if self._stream.eof or not payload:
            raise MalformedMessage("compressed data without a payload of its own", clause="RFC 4253 6.2")
        self.plain += len(payload)
        self.packed += len(data)
        return payload
