"""What both ends of a connection share: its link, channels, requests, tasks, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from ..connection.channel import Channel
from ..errors import ConnectionClosed, ConnectionLost, SSHError
from ..events import (
    Closed,
    Event,
    GlobalReplied,
    GlobalRequested,
    Negotiated,
    Question,
)
from ..keys.public import AnyKey
from ..messages.declare import Struct
from ..observe.hub import Hub
from ..protocol import ClientProtocol, ServerProtocol
from .channels import ChannelIO, quiet_future
from .link import Link

__all__ = ["Endpoint"]

Handler: TypeAlias = Callable[[Any], None]


class Endpoint:
    """One end of a connection. `handlers` of a subclass say what it does with each kind of event."""

    def __init__(self, core: ClientProtocol | ServerProtocol, hub: Hub | None) -> None:
        self.core = core
        self.link = Link(core, self._told, hub)
        self.error: SSHError | None = None
        """The error that ended the connection."""
        self.on_end: dict[Callable[[], None], None] = {}
        """Called once when the connection is over: listeners are closed so."""
        self._over = False
        self._channels: dict[Channel | None, ChannelIO] = {}
        self._replies: list[tuple[str, asyncio.Future[Any]]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def handlers(self) -> dict[type[Event], Handler]:
        """What to do with events beyond those of channels; the rest is not listened to."""
        raise NotImplementedError

    # What the connection is

    @property
    def negotiated(self) -> Negotiated:
        """The algorithms in use, and why each was chosen."""
        return self.core.negotiated

    @property
    def peer_software(self) -> str:
        """Software version and comments of the peer's identification."""
        return self.core.peer_software

    @property
    def host_key(self) -> AnyKey:
        """The server's host key."""
        return self.core.host_key

    @property
    def session_id(self) -> bytes:
        """The session identifier (RFC 4253 §7.2)."""
        return self.core.session_id

    def rekey(self) -> None:
        """Begins a key re-exchange (RFC 4253 §9), if none is under way."""
        self.core.rekey(self.link.now)
        self.link.wake()

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self.core.closed

    def failure(self) -> SSHError:
        """Why nothing can be done any more: the connection's error, or that it was closed."""
        return self.error or self.core.error or ConnectionClosed("the connection is closed")

    # Channels and requests

    def adopt(self, channel: Channel) -> ChannelIO:
        """The streams of a channel, from here on."""
        streams = ChannelIO(self, channel)
        self._channels[channel] = streams
        return streams

    def ask_channel(self, type: str, body: Struct, *, peer_id: int | None = None) -> ChannelIO:
        """Asks for a channel, and waits for nothing: see `opened`. Where `peer_id` is given, the number that
        the peer is expected to give it, it can be asked things at once. Raises as `open_channel`."""
        if self.core.closed:
            raise self.failure()
        self.link.touch()
        streams = self.adopt(self.core.mux.open(type, body, peer_id=peer_id))
        self.link.wake()
        return streams

    async def open_channel(self, type: str, body: Struct) -> ChannelIO:
        """Opens a channel. Raises ChannelOpenFailed, or the connection's error."""
        streams = self.ask_channel(type, body)
        try:
            await streams.opened
        except asyncio.CancelledError:
            streams.close()
            raise
        return streams

    async def idle(self) -> None:
        """Waits until no channel is left."""
        while self._channels:
            await asyncio.wait([streams.closed for streams in self._channels.values()])

    async def global_request(self, name: str, body: Struct) -> tuple[bool, bytes]:
        """Asks a global request: whether it was granted, and what was said with that."""
        answer: tuple[bool, bytes] = await self.ask_globally(name, body)
        return answer

    def ask_globally(self, name: str, body: Struct) -> asyncio.Future[tuple[bool, bytes]]:
        """As `global_request`; the answer comes later. What is asked stands behind what was sent before."""
        if self.core.closed:
            raise self.failure()
        self.link.touch()
        self.core.mux.global_request(name, body, want_reply=True)
        reply = quiet_future()
        self._replies.append((name, reply))
        self.link.wake()
        return reply

    # Events

    def _told(self, event: Event) -> None:
        streams = self._channels.get(getattr(event, "channel", None))
        if streams is not None:
            streams.told(event)
            if streams.closed.done():
                del self._channels[streams.channel]
                if not self._channels:
                    self.on_idle()
            return
        handler = self._handler(event)
        if handler is not None:
            handler(event)
        elif isinstance(event, Question) and hasattr(event, "channel"):
            self.link.answer(event, False)

    def _handler(self, event: Event) -> Handler | None:
        """Looked up each time: such events are few, and a table for each of many connections is not small."""
        if type(event) is Closed:
            return self._on_closed
        if type(event) is GlobalReplied:
            return self._on_global_replied
        found = self.handlers().get(type(event))
        if found is None and type(event) is GlobalRequested:
            return self._not_granted
        return found

    def _not_granted(self, question: GlobalRequested) -> None:
        self.link.answer(question, False)

    def _on_global_replied(self, event: GlobalReplied) -> None:
        if not self._replies or self._replies[0][0] != event.type:
            return  # a keepalive of the core's own
        _, reply = self._replies.pop(0)
        if not reply.done():
            reply.set_result((event.ok, event.body))

    def _on_closed(self, event: Closed) -> None:
        self.error = event.error
        if isinstance(event.error, ConnectionLost) and self.link.lost is not None:
            event.error.__cause__ = self.link.lost
        if type(event.error) is SSHError:  # nobody's fault but ours, or the application's: not to be missed
            report = {"message": "a defect ended a connection", "exception": event.error}
            self.link.loop.call_exception_handler(report)
        self._over = True
        for streams in tuple(self._channels.values()):
            streams.end(self.failure())
        self._channels.clear()
        for _, reply in self._replies:
            if not reply.done():
                reply.set_exception(self.failure())
        self._replies.clear()
        for action in tuple(self.on_end):
            action()
        self.on_over()
        for task in tuple(self._tasks):
            task.cancel()

    def on_over(self) -> None:
        """The connection is over: for a subclass to act on."""

    def on_idle(self) -> None:
        """The last channel is gone: for a subclass to act on."""

    # Tasks

    @property
    def crowded(self) -> bool:
        """Whether as much runs as there may be channels: what a channel that is closed leaves behind, like
        bytes that its socket does not take, holds descriptors until it is done."""
        return len(self._tasks) >= self.core.policy.max_channels

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs `work` beside; it is cancelled when the connection is over."""
        task = self.link.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._over:
            task.cancel()
        return task

    def answer_later(
        self, question: Question, answer: Callable[[], Coroutine[Any, Any, Any]], refusal: Any
    ) -> None:
        """Answers with what `answer()` returns, or with `refusal` where it raises; a defect is reported."""

        async def work() -> None:
            try:
                value = await answer()
            except SSHError:
                value = refusal
            except Exception as error:
                value = refusal
                self.link.loop.call_exception_handler(
                    {"message": f"answering {type(question).__name__} failed", "exception": error}
                )
            self.link.answer(question, value)

        self.spawn(work())

    # The end

    async def close(self, description: str = "disconnected by user") -> None:
        """Ends the connection: DISCONNECT, then the socket. Channels still open end with an error."""
        if not self.core.closed:
            for streams in self._channels.values():
                streams.end(ConnectionClosed("the connection was closed on this side"))
            self.core.close(self.link.now, description=description)
            self.link.wake()
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Waits until the connection is over and nothing of it is left running."""
        await asyncio.shield(self.link.over)
        me = asyncio.current_task()
        if tasks := [task for task in self._tasks if task is not me]:
            await asyncio.wait(tasks)
