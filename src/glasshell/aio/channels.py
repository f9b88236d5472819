"""One channel as asyncio sees it: its streams, the answers that are awaited, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..connection.channel import STDERR, Channel, State
from ..errors import ChannelOpenFailed, ConnectionClosed, RequestFailed, SSHError
from ..events import (
    ChannelClosed,
    ChannelEof,
    ChannelExit,
    ChannelOpened,
    ChannelReadable,
    ChannelRefused,
    ChannelReplied,
    ChannelRequested,
    ChannelWritable,
    Event,
)
from ..messages.declare import Struct
from .streams import Reader, Writer

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = ["ChannelIO", "quiet_future"]


def quiet_future() -> asyncio.Future[Any]:
    """A future whose exception nobody has to fetch."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return future


class ChannelIO:
    """A channel's streams: `reader` and `writer`, and `errors` and `error_writer` for stderr.

    `opened` is done when the peer has confirmed, `closed` when the channel is over; both fail with the
    error that prevented it.
    """

    def __init__(self, endpoint: Endpoint, channel: Channel) -> None:
        self.endpoint = endpoint
        self.channel = channel
        self.reader = Reader(self._take)
        self.errors = Reader(self._take_errors)
        self.writer = Writer(self._send, self._finish)
        self.error_writer = Writer(self._send_errors, lambda: None)
        self.opened = quiet_future()
        self.closed = quiet_future()
        self.exit: ChannelExit | None = None
        self.requested: Callable[[ChannelRequested], None] | None = None
        """Called with each ChannelRequested, which it answers; None: all are refused."""
        self._replies: list[asyncio.Future[Any]] = []
        self._output_over = False

    # What the application calls

    def ask(self, name: str, body: Struct) -> asyncio.Future[bool]:
        """Asks something of the channel; the answer, True or False, comes later."""
        self.endpoint.link.touch()
        self.channel.request(name, body, want_reply=True)
        self.endpoint.link.wake()
        reply = quiet_future()
        self._replies.append(reply)
        return reply

    async def request(self, name: str, body: Struct) -> None:
        """Asks something of the channel and waits for the answer. Raises RequestFailed."""
        if not await self.ask(name, body):
            raise RequestFailed(f'the peer refused the request "{name}"')

    def tell(self, name: str, body: Struct) -> None:
        """Sends a request that wants no answer; after the end of the channel nothing."""
        if self.channel.state is State.OPEN or self.channel.assumed:
            self.endpoint.link.touch()
            self.channel.request(name, body, want_reply=False)
            self.endpoint.link.wake()

    def close(self) -> None:
        """Closes the channel at once; what was not read is thrown away."""
        self.endpoint.link.touch()
        self.channel.close()
        self.endpoint.link.wake()

    async def wait_closed(self) -> None:
        """Waits until the channel is over, however it ended."""
        await asyncio.wait([self.closed])

    async def __aenter__(self) -> ChannelIO:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    # What the endpoint calls

    def told(self, event: Event) -> None:
        """Takes an event of this channel."""
        match event:
            case ChannelReadable():
                self.reader.feed()
                self.errors.feed()
            case ChannelWritable():
                self.writer.push()
                self.error_writer.push()
                self._end_output()
            case ChannelReplied(ok=ok):
                self._reply(ok)
            case ChannelEof():
                self.reader.end()
                self.errors.end()
            case ChannelExit():
                self.exit = event
            case ChannelRequested():
                self._asked(event)
            case ChannelOpened():
                if not self.opened.done():  # whoever opened it may have been cancelled just now
                    self.opened.set_result(None)
            case ChannelRefused(reason=reason, description=text):
                self.end(ChannelOpenFailed(f"the channel was refused: {text}", reason=reason))
            case ChannelClosed():
                error = self.channel.error
                self.end(self.endpoint.failure() if error is not None else None)

    def end(self, error: SSHError | None) -> None:
        """The channel is over; `error` where that is no orderly end. The first call counts."""
        if self.closed.done():
            return
        failure = error or ConnectionClosed("the channel is closed")
        self.reader.end(error)
        self.errors.end(error)
        self.writer.end(error)
        self.error_writer.end(error)
        for future in (*self._replies, self.opened):
            if not future.done():
                future.set_exception(failure)
        self._replies.clear()
        if error is None:
            self.closed.set_result(None)
        else:
            self.closed.set_exception(error)

    def _reply(self, ok: bool) -> None:
        future = self._replies.pop(0)
        if not future.done():  # its asker may have been cancelled
            future.set_result(ok)

    def _asked(self, question: ChannelRequested) -> None:
        if self.requested is not None:
            self.requested(question)
        else:
            self.endpoint.link.answer(question, False)

    # The streams' way to the core

    def _take(self, n: int) -> bytes | bytearray:
        self.endpoint.link.touch()  # a window's size is a matter of time
        data = self.channel.read(n)
        if data:
            self.endpoint.link.wake()  # the window may have grown
        return data

    def _take_errors(self, n: int) -> bytes | bytearray:
        data = self.channel.read(n, STDERR)
        if data:
            self.endpoint.link.wake()
        return data

    def _send(self, data: memoryview) -> int:
        self.endpoint.link.wake()
        return self.channel.send(data)

    def _send_errors(self, data: memoryview) -> int:
        self.endpoint.link.wake()
        return self.channel.send_stderr(data)

    def _finish(self) -> None:
        self._output_over = True
        self._end_output()

    def _end_output(self) -> None:
        """EOF ends stderr as well (RFC 4254 §5.3): it waits for what is kept of it."""
        if self._output_over and not self.error_writer.kept:
            self.channel.send_eof()
            self.endpoint.link.wake()
