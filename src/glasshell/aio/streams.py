"""The streams of a channel, shaped like asyncio's own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from ..errors import ConnectionClosed, LimitExceeded, SSHError, UsageError

__all__ = ["LINE_LIMIT", "Reader", "Writer"]

LINE_LIMIT: Final = 1 << 20
"""Longest line or `readuntil` piece, in bytes: a peer that never ends its line fills no memory."""

HIGH_WATER: Final = 64 * 1024
"""`drain` waits while more bytes than this are kept back."""


class _Waiters:
    """Futures of tasks that wait for the next change."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        await future

    def wake(self) -> None:
        futures, self._futures = self._futures, []
        for future in futures:
            if not future.done():
                future.set_result(None)


class Reader:
    """Bytes that come in, like `asyncio.StreamReader`.

    What is not read stays in the channel, whose window then closes: a slow reader slows the peer down
    and nobody else. Every call raises the error that ended the connection, after the data before it, so
    that a stream that was cut off is never taken for one that ended.
    """

    def __init__(self, take: Callable[[int], bytes | bytearray]) -> None:
        """`take(n)` hands over at most `n` bytes that have arrived, and opens the window by as much."""
        self._take = take
        self._kept = bytearray()
        self._ended = False
        self._error: SSHError | None = None
        self._changed = _Waiters()

    # What the channel's owner calls

    def feed(self) -> None:
        """Data has come."""
        self._changed.wake()

    def end(self, error: SSHError | None = None) -> None:
        """No more data comes; `error` where that is no orderly end. The first call counts."""
        if not self._ended:
            self._ended = True
            self._error = error
        self._changed.wake()

    # What the application calls

    def at_eof(self) -> bool:
        """Whether everything has been read."""
        return self._ended and not self._kept and not self._fill(1)

    async def read(self, n: int = -1) -> bytes:
        """At least one and at most `n` bytes, b"" at the end; with -1 everything until the end."""
        if n < 0:
            return await self._read_all()
        if n == 0:
            return b""
        while True:
            if not self._kept:
                data = bytes(self._take(n))
                if data:
                    return data
            else:
                return self._cut(min(n, len(self._kept)))
            if self._ended:
                return self._end_of_data()
            await self._changed.wait()

    async def readexactly(self, n: int) -> bytes:
        """Exactly `n` bytes. Raises asyncio.IncompleteReadError at the end."""
        while len(self._kept) < n:
            if not self._fill(n - len(self._kept)):
                if self._ended:
                    self._end_of_data()
                    raise asyncio.IncompleteReadError(self._cut(len(self._kept)), n)
                await self._changed.wait()
        return self._cut(n)

    async def readuntil(self, separator: bytes = b"\n", limit: int = LINE_LIMIT) -> bytes:
        """Up to and with `separator`. Raises asyncio.IncompleteReadError at the end.

        Raises LimitExceeded where `limit` bytes hold no separator; they can still be read.
        """
        start = 0
        while True:
            found = self._kept.find(separator, start)
            if found >= 0:
                return self._cut(found + len(separator))
            start = max(0, len(self._kept) - len(separator) + 1)
            if len(self._kept) >= limit:
                raise LimitExceeded(f"{limit} bytes without a {separator!r}")
            if not self._fill(limit - len(self._kept)):
                if self._ended:
                    self._end_of_data()
                    raise asyncio.IncompleteReadError(self._cut(len(self._kept)), None)
                await self._changed.wait()

    async def readline(self) -> bytes:
        """One line with its line feed; the last one may lack it; b"" at the end."""
        try:
            return await self.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def _fill(self, n: int) -> bool:
        """Moves at most `n` bytes from the channel to what is kept; whether anything is kept or came."""
        data = self._take(n)
        self._kept += data
        return bool(data)

    def _cut(self, n: int) -> bytes:
        data = bytes(memoryview(self._kept)[:n])
        del self._kept[:n]
        return data

    def _end_of_data(self) -> bytes:
        if self._error is not None:
            raise self._error
        return b""

    async def _read_all(self) -> bytes:
        pieces = [self._cut(len(self._kept))]
        while piece := await self.read(1 << 30):
            pieces.append(piece)
        return b"".join(pieces)


class Writer:
    """Bytes that go out, like `asyncio.StreamWriter`: `write`, then `await drain()`."""

    def __init__(self, send: Callable[[memoryview], int], finish: Callable[[], None]) -> None:
        """`send(data)` says how many bytes the channel took; `finish()` is the end of the stream."""
        self._send = send
        self._finish = finish
        self._kept: deque[memoryview] = deque()
        self._kept_bytes = 0
        self._eof = False
        self._ended = False
        self._error: SSHError | None = None
        self._changed = _Waiters()

    # What the channel's owner calls

    def push(self) -> None:
        """The channel takes more."""
        while self._kept:
            piece = self._kept[0]
            try:
                taken = self._send(piece)
            except ConnectionClosed as error:  # the peer's reader is gone
                self.end(error)
                return
            self._kept_bytes -= taken
            if taken < len(piece):
                self._kept[0] = piece[taken:]
                break
            self._kept.popleft()
        if self._eof and not self._kept and not self._ended:
            self._ended = True
            self._finish()
        self._changed.wake()

    def end(self, error: SSHError | None = None) -> None:
        """Nothing more can be sent. The first call counts."""
        if self._error is None:
            self._error = error or ConnectionClosed("the channel is closed: nothing can be written to it")
        self._ended = True
        self._kept.clear()
        self._kept_bytes = 0
        self._changed.wake()

    # What the application calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends `data`, or keeps what the channel does not take now; `drain` waits until it has.

        `data` must not be changed before then. Raises ConnectionClosed where the channel is over.
        """
        if self._error is not None:
            raise self._error
        if self._eof:
            raise UsageError("write after write_eof")
        view = memoryview(data).cast("B")
        try:
            taken = 0 if self._kept else self._send(view)
        except ConnectionClosed as error:
            self.end(error)
            raise
        if taken < len(view):
            self._kept.append(view[taken:])
            self._kept_bytes += len(view) - taken

    def write_eof(self) -> None:
        """Ends the stream once everything written has been sent; a second call does nothing."""
        if not self._eof:
            self._eof = True
            self.push()

    async def drain(self) -> None:
        """Waits until little is kept back. Raises ConnectionClosed where the channel is over."""
        while self._kept_bytes > HIGH_WATER and self._error is None:
            await self._changed.wait()
        if self._error is not None and not self._eof:
            raise self._error

    async def flushed(self) -> None:
        """Waits until nothing is kept back. Raises ConnectionClosed where the channel is over before."""
        while self._kept and self._error is None:
            await self._changed.wait()
        if self._error is not None and not self._eof:
            raise self._error

    @property
    def kept(self) -> int:
        """Bytes written that the channel has not taken yet."""
        return self._kept_bytes

    def is_closing(self) -> bool:
        """Whether the stream has ended, by `write_eof` or with its channel."""
        return self._eof or self._ended
