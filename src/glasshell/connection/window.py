"""Flow control of one channel in both directions (RFC 4254 §5.2), and the bound on all of them.

Of a window that we advertised, every byte is in one of three places: `left` for the peer to send,
waiting in a `Buffer`, or `consumed` and about to be granted again.

A window that may hold the peer up grows: where what is read in a round trip is about half of it or more, it
becomes twice as large, much as TCP sizes its own. The round trip is the shortest of the key exchanges
and the opening of channels.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final, TypeAlias

from ..errors import ProtocolViolation

MAX_WINDOW: Final = (1 << 32) - 1
"""A window never grows beyond this (RFC 4254 §5.2)."""

SMALL: Final = 512
"""Data shorter than this is copied together: a view of one byte would cost us two hundred."""

COLLECT: Final = 32 * 1024
"""Short data is copied together up to about this many bytes."""

GRANT: Final = 1024 * 1024
"""Most bytes that are read before they are granted again: of a large window much less than half."""

_LIMITED: Final = 0.45
"""The part of a window that is read in a round trip where the window may be the limit. It grants in halves at
worst, and then no more than half of it is on its way."""

_PROGRAMS: Final = 0.001
"""Seconds of a round trip that two programs may take, and no path. Where that is all, a larger window would
only put more data into queues, beyond what the processor's cache holds."""

Chunk: TypeAlias = memoryview | bytearray


class Budget:
    """What all windows of one connection may advertise together (`Policy.receive_budget`).

    Half of it is set aside in equal shares, so that each of `channels` channels gets at least its
    share; of what is spare a channel gets a quarter at most, so that the first do not take it all.
    Windows grow out of the spare half as well, and leave an eighth of it to channels that are to come;
    where that does not do, the large ones give back what is beyond an equal part.
    """

    __slots__ = ("_channels", "_share", "_short", "_total", "held")

    def __init__(self, total: int, channels: int) -> None:
        self._total = total
        self._channels = channels
        self._share = max(1, total // (2 * max(1, channels)))
        self._short = False
        self.held = 0

    def take(self, wanted: int, already: int) -> int:
        """The window, in bytes, of a channel beside `already` others; 0: there is no room for it."""
        free = self._total - self.held
        if wanted <= 0 or free < min(wanted, self._share):
            return 0
        spare = free - self._share * max(0, self._channels - already)
        granted = min(wanted, max(self._share, spare // 4))
        self.held += granted
        return granted

    def more(self, wanted: int, size: int, open_channels: int) -> int:
        """How many bytes of `wanted` a window of `size` may grow by while `open_channels` are open."""
        spare = self._total - self.held - self._share * max(0, self._channels - open_channels)
        granted = min(wanted, spare - self._total // 16)
        self._short = granted < wanted
        if self._short:
            granted = min(granted, self._fair(open_channels) - size)
        granted = max(0, granted)
        self.held += granted
        return granted

    def excess(self, size: int, open_channels: int) -> int:
        """How much of a window of `size` is wanted back, since another channel's found no room to grow."""
        return max(0, size - self._fair(open_channels)) if self._short else 0

    def _fair(self, open_channels: int) -> int:
        return self._share + (self._total // 2 - self._total // 16) // max(1, open_channels)

    def give(self, count: int) -> None:
        """`count` bytes can neither arrive nor wait any more."""
        self.held -= count


class Buffer:
    """Received bytes in the order of their arrival, waiting to be read."""

    __slots__ = ("chunks", "size")

    def __init__(self) -> None:
        self.chunks: deque[Chunk] = deque()
        self.size = 0

    def append(self, data: memoryview) -> None:
        """Keeps `data`, whose bytes must not change any more."""
        size = len(data)
        self.size += size
        if size >= SMALL:
            self.chunks.append(data)
            return
        last = self.chunks[-1] if self.chunks else None
        if isinstance(last, bytearray) and len(last) < COLLECT:
            last += data
        elif size:
            self.chunks.append(bytearray(data))

    def take(self, max_bytes: int = -1) -> list[Chunk]:
        """Up to `max_bytes` bytes (-1: all), as they came, without joining them."""
        if max_bytes < 0 or max_bytes >= self.size:
            taken = list(self.chunks)
            self.clear()
            return taken
        taken = []
        self.size -= max_bytes
        while max_bytes:
            chunk = self.chunks.popleft()
            if len(chunk) > max_bytes:
                view = memoryview(chunk)
                self.chunks.appendleft(view[max_bytes:])
                chunk = view[:max_bytes]
            max_bytes -= len(chunk)
            taken.append(chunk)
        return taken

    def clear(self) -> None:
        """Drops everything."""
        self.chunks.clear()
        self.size = 0


class Incoming:
    """The window that we advertised: `size` bytes at most on their way or unread.

    `holds_up` says that it may have been too small for the path.
    """

    __slots__ = ("_count", "_since", "began", "consumed", "granted", "holds_up", "left", "max_packet", "size")

    def __init__(self, size: int, max_packet: int, now: float) -> None:
        self.began = now
        self.size = size
        self.left = size
        self.consumed = 0
        self.granted = size
        self.max_packet = max_packet
        self.holds_up = False
        self._since = -inf
        self._count = 0
        """Bytes read since then."""

    @property
    def received(self) -> int:
        """Bytes received in all."""
        return self.granted - self.left

    def spend(self, count: int) -> None:
        """The peer sent `count` bytes. Raises ProtocolViolation past a bound of ours."""
        if count > self.max_packet:
            raise ProtocolViolation(
                f"the peer sent {count} bytes of data in one packet; {self.max_packet} are allowed",
                clause="RFC 4254 5.1",
            )
        if count > self.left:
            raise ProtocolViolation(
                f"the peer sent {count} bytes into a window of {self.left}", clause="RFC 4254 5.2"
            )
        self.left -= count

    def consume(self, count: int, now: float, round_trip: float) -> bool:
        """`count` bytes were read: whether it is time to `grant`, as it is once half the window was read."""
        self.consumed += count
        self._count += count
        passed = now - self._since
        if passed >= round_trip:
            path = round_trip - _PROGRAMS
            self.holds_up = self._count * path > self.size * passed * _LIMITED
            self._since, self._count = now, 0
        return self.consumed >= GRANT or self.consumed * 2 >= self.size

    def resize(self, by: int, now: float) -> None:
        """The window is `by` bytes larger, or smaller by at most what is consumed, from the next grant on."""
        self.size += by
        self.consumed += by
        self.holds_up = False
        self._since, self._count = now, 0

    def grant(self) -> int:
        """What is consumed is the peer's again: how many bytes that is."""
        granted, self.consumed = self.consumed, 0
        self.left += granted
        self.granted += granted
        return granted


class Outgoing:
    """The window that the peer advertised."""

    __slots__ = ("left", "max_packet", "sent")

    def __init__(self, left: int = 0, max_packet: int = 0) -> None:
        self.left = left
        self.max_packet = max_packet
        self.sent = 0

    def grow(self, count: int) -> None:
        """The peer granted `count` bytes more. Raises ProtocolViolation past 2^32 - 1."""
        if self.left + count > MAX_WINDOW:
            raise ProtocolViolation(
                f"the peer let a window of {self.left} grow by {count}, past 2^32 - 1",
                clause="RFC 4254 5.2",
            )
        self.left += count
