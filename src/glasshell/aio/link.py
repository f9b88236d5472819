"""One socket and one core: bytes in, events out, one socket write a loop turn, one timer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from ..events import Event, Question
from ..observe.hub import Hub, Sink
from ..protocol import Protocol

__all__ = ["Link"]

READ_SIZE: Final = 512 * 1024
"""Most bytes taken from the socket at once."""

ROUNDS: Final = 8
"""How often one turn asks for more to tell and to write; what is left is for the next, after the others'."""

CORKED: Final = 0.2
"""Seconds for which what is sent may wait for what is to go with it."""

QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)
"""Linux: acknowledge at once, until the kernel decides anew."""

LINGER: Final = 5.0
"""Seconds that the last bytes may take to leave once the connection is over."""

# The allocator of glibc gives what is freed at its top back to the system, page by page, and fetches it
# again for the next packet, unless larger blocks have come and gone (mallopt(3), M_MMAP_THRESHOLD). Half the
# time of a transfer went there. This block is never touched: it takes no memory.
bytes(8 << 20)

_buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()


def _buffer_of(loop: asyncio.AbstractEventLoop) -> memoryview:
    """Where the sockets of `loop` are read to. One will do for all of its links: what is read is handed to
    the core before the next read, and one each would be most of what an idle connection costs."""
    if loop not in _buffers:
        _buffers[loop] = memoryview(bytearray(READ_SIZE))
    return _buffers[loop]


class Link(asyncio.BufferedProtocol):
    """Drives a core by a transport of asyncio.

    Every entry ends in a turn: events are told to `tell`, synchronously and in order, then what the
    core has to send is written. While the socket does not take more, nothing is taken from the core, so
    that its `room()` is the one measure of back-pressure, and what is taken is at the socket at once:
    the stamps of sent records are true.
    """

    __slots__ = (
        "_buffer", "_corked", "_linger", "_quick", "_reading_paused", "_scheduled", "_tell", "_timer",
        "_transport", "_turning", "_writing_paused", "core", "hub", "loop", "lost", "over", "since",
    )  # fmt: skip

    def __init__(self, core: Protocol, tell: Callable[[Event], None], hub: Hub | None) -> None:
        self.core = core
        self.hub = hub
        self.loop = asyncio.get_running_loop()
        self.since = self.loop.time()
        """When the connection began, by the loop's clock."""
        self.lost: Exception | None = None
        """The socket's error, once it has failed."""
        self.over: asyncio.Future[None] = self.loop.create_future()
        """Done when the socket is closed."""
        self._tell = tell
        self._buffer = _buffer_of(self.loop)
        self._transport: asyncio.Transport | None = None
        self._writing_paused = False
        self._corked: asyncio.TimerHandle | None = None
        self._quick: socket.socket | None = None
        self._reading_paused = False
        self._scheduled = False
        self._turning = False
        self._timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # another loop's is of no class of asyncio's
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):  # the peer may be gone already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if QUICKACK is not None:
                self._quick = sock
                self._acknowledge_now()
        self.core.start(self.loop.time())
        self._turn()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._quick is not None:
            self._acknowledge_now()
        self.core.receive_data(self._buffer[:nbytes], self.loop.time())
        self._turn()

    def eof_received(self) -> bool:
        self.core.receive_eof(self.loop.time())
        self._turn()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        self._writing_paused = True
        try:
            self.core.receive_eof(self.loop.time(), error="" if exc is None else str(exc))
            self._turn()
            if self.hub is not None:
                self.hub.abandon(self.loop.time())
        finally:
            for timer in (self._timer, self._linger, self._corked):
                if timer is not None:
                    timer.cancel()
            self._timer = self._linger = self._corked = self._transport = self._quick = None
            if not self.over.done():
                self.over.set_result(None)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self.wake()

    def _acknowledge_now(self) -> None:
        """A peer with Nagle's algorithm on (OpenSSH, until its session runs) holds its next small packet back
        until the last one is acknowledged; acknowledgements that are delayed cost it 40 ms each."""
        assert self._quick is not None
        try:
            self._quick.setsockopt(socket.IPPROTO_TCP, QUICKACK or 0, 1)
        except OSError:
            self._quick = None

    # What the shell calls

    def settled(self) -> None:
        """The session runs: from here on the kernel knows best when to acknowledge."""
        self._quick = None

    def cork(self) -> None:
        """Holds what is to be sent until `uncork`, so that it leaves in one write; for `CORKED` at most."""
        if self._corked is None:
            self._corked = self.loop.call_later(CORKED, self.uncork)

    def uncork(self) -> None:
        """The end of `cork`."""
        if self._corked is not None:
            self._corked.cancel()
            self._corked = None
            self.wake()

    @property
    def now(self) -> float:
        """The core's clock: the loop's."""
        return self.loop.time()

    def answer(self, question: Question, value: Any) -> None:
        """Answers a question of the core; what follows from it leaves in this loop turn."""
        self.core.answer(question, value, self.loop.time())
        self.wake()

    def touch(self) -> None:
        """Gives the core the time, before a call that takes none."""
        self.core.transport.now = self.loop.time()
        if self.hub is not None:
            self.hub.now = self.loop.time()

    def wake(self) -> None:
        """The core was given something: a turn follows in the next round of the loop, at the latest."""
        if not (self._scheduled or self._turning):
            self._scheduled = True
            self.loop.call_soon(self._scheduled_turn)

    def mute(self) -> None:
        """Nobody hears any more: from here on no record is made."""
        self.hub = self.core.transport.hub = None

    def hear(self, sink: Sink) -> None:
        """`sink` hears the records from here on; a connection that nobody heard makes them again."""
        if self.hub is None:
            self.hub = self.core.transport.hub = Hub(start=self.since)
        self.hub.add(sink)

    def unhear(self, sink: Sink) -> None:
        """The end of `hear`: where that was the last who heard, no record is made any more."""
        if self.hub is not None:
            self.hub.remove(sink)
            if not self.hub.heard:
                self.mute()

    def state(self, name: str, /, **facts: Any) -> None:
        """Tells of something that is no message, as `Hub.state`."""
        if self.hub is not None:
            self.hub.now = self.loop.time()
            self.hub.state(name, **facts)

    def hang_up(self) -> None:
        """Ends the connection at once: what the socket takes now is written, then it is closed."""
        if not self.core.closed:
            self.core.close(self.loop.time())
        if not self._turning:
            self._turn()
        self.abort()

    def abort(self) -> None:
        """Closes the socket at once."""
        if self._transport is not None:
            self._transport.abort()

    # A turn

    def _scheduled_turn(self) -> None:
        self._scheduled = False
        try:
            self._turn()
        except BaseException:
            self.abort()  # a defect ends this connection and no other; the loop reports it
            raise

    def _turn(self) -> None:
        self._turning = True
        try:
            for _ in range(ROUNDS):
                for event in self.core.events():
                    self._tell(event)
                self._flush()
                if not (more := self.core.pending(sending=self._sending)):
                    break
        finally:
            self._turning = False
        if more:
            self.wake()
        self._after_turn()

    @property
    def _sending(self) -> bool:
        corked = self._corked is not None and not self.core.closed
        return not self._writing_paused and self._transport is not None and not corked

    def _flush(self) -> None:
        if self._sending and (data := self.core.data_to_send(self.loop.time())):
            assert self._transport is not None
            self._transport.write(data)

    def _after_turn(self) -> None:
        transport = self._transport
        if transport is None:
            return
        if self.core.closed:
            self._finish(transport)
            return
        if self.core.reading_paused != self._reading_paused:
            self._reading_paused = self.core.reading_paused
            if self._reading_paused:
                transport.pause_reading()
            else:
                transport.resume_reading()
        self._arm()

    def _finish(self, transport: asyncio.Transport) -> None:
        if self._linger is not None or transport.is_closing():
            return
        if rest := self.core.data_to_send(self.loop.time()):
            transport.write(rest)
        self._linger = self.loop.call_later(LINGER, transport.abort)
        transport.close()

    def _arm(self) -> None:
        """A timer that stands for an earlier time stays: it looks again when it rings."""
        due = self.core.next_timeout()
        if due is None:
            return
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        due = self.core.next_timeout()
        now = self.loop.time()
        if due is not None and due <= now:
            self.core.handle_timeout(now)
        self._scheduled_turn()
