"""What a login has the server connect to and listen to: the server's half of forwarding (RFC 4254 §7)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from ..errors import CannotConnect, ChannelOpenFailed, SSHError
from ..events import ChannelOffered
from ..messages.connection import (
    CancelStreamlocalForward,
    CancelTcpipForward,
    DirectStreamlocal,
    DirectTcpip,
    ForwardedStreamlocal,
    ForwardedTcpip,
    OpenFailure,
    StreamlocalForward,
    TcpipForward,
    TcpipForwardReply,
)
from ..messages.declare import Struct
from ..wire import visible
from .forward import CHUNK, Place, close_listener, dial_out, listen, port_of, pump, show
from .gatekeeper import LoggedIn

if TYPE_CHECKING:
    from .server import ServerConnection

__all__ = ["Relays"]

MAX_LISTENERS: Final = 64
"""Most places that one login may have the server listen on."""

Direct: TypeAlias = DirectTcpip | DirectStreamlocal
Asked: TypeAlias = TcpipForward | StreamlocalForward
Cancelled: TypeAlias = CancelTcpipForward | CancelStreamlocalForward


class Relays:
    """The forwardings of one connection; the gatekeeper says what is allowed."""

    __slots__ = ("_connection", "_listeners", "_login", "_opening")

    def __init__(self, connection: ServerConnection, login: LoggedIn) -> None:
        self._connection = connection
        self._login = login
        self._listeners: dict[Place, Callable[[], None]] = {}
        """What ends each, by the place as it was asked for."""
        self._opening = 0
        """Listeners that are being opened."""

    async def connect(self, question: ChannelOffered, body: Direct) -> None:
        """Answers a channel that is to lead to a place here, and carries what it brings."""
        connection = self._connection
        try:
            streams = await self._dial(body)
        except SSHError as error:
            self._tell(body, question, allowed=True, reason=str(error))
            self._refuse(question, OpenFailure.CONNECT_FAILED, str(error))
            return
        if streams is None:
            self._tell(body, question, allowed=False, reason="not allowed")
            self._refuse(question, OpenFailure.ADMINISTRATIVELY_PROHIBITED, "open failed")
            return
        self._tell(body, question, allowed=True)
        io = connection.adopt(question.channel)
        connection.link.answer(question, True)
        await pump(io, *streams)

    async def _dial(self, body: Direct) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Connected streams; None: it is not allowed. Raises CannotConnect."""
        gate = self._connection.gatekeeper
        if isinstance(body, DirectTcpip):
            if not gate.may_connect(self._login, body.host, body.port):
                return None
            return await dial_out((body.host, body.port))
        try:
            sock = await gate.connect_path(self._login, body.socket_path)
            if sock is None:
                return None
            return await asyncio.open_unix_connection(sock=sock, limit=CHUNK)
        except OSError as error:
            raise CannotConnect(f"connect to {body.socket_path}: {error.strerror or error}") from error

    def _refuse(self, question: ChannelOffered, reason: OpenFailure, text: str) -> None:
        self._connection.link.answer(question, ChannelOpenFailed(text, reason=reason.value))

    async def listen(self, body: Asked) -> bool | bytes:
        """Listens where the client asks for it; the answer to its global request."""
        place = _place(body)
        facts = {"kind": "remote", "listen": show(place), "target": "client"}
        state = self._connection.link.state
        if place in self._listeners or len(self._listeners) + self._opening >= MAX_LISTENERS:
            self._tell(body, allowed=False, reason="taken")
            state("forward", **facts, ok=False)
            return False
        self._opening += 1
        try:
            server = await self._bind(body, place)
        except SSHError as error:
            self._tell(body, allowed=True, reason=str(error))
            state("forward", **facts, ok=False)
            raise
        finally:
            self._opening -= 1
        if server is None:
            self._tell(body, allowed=False, reason="not allowed")
            state("forward", **facts, ok=False)
            return False
        port = 0 if isinstance(place, str) else port_of(server)
        key = place if isinstance(place, str) else (place[0], port)
        self._listeners[key] = close_listener(self._connection, server, remove=False)
        if self._connection.closed:
            self._listeners.pop(key)()
        self._tell(body, allowed=True)
        state("forward", **facts, ok=True)
        return TcpipForwardReply(port).encode() if isinstance(body, TcpipForward) and not body.port else True

    async def _bind(self, body: Asked, place: Place) -> asyncio.Server | None:
        """Listens; None: it is not allowed. Raises CannotConnect where it cannot be."""
        connection, gate = self._connection, self._connection.gatekeeper
        server: asyncio.Server

        async def hand_over(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(SSHError):
                opened = _forwarded(body, 0 if isinstance(place, str) else port_of(server), writer)
                await pump(await connection.open_channel(*opened), reader, writer)

        if isinstance(body, TcpipForward):
            address = gate.listen_address(self._login, body.address, body.port)
            if address is None:
                return None
            server = await listen(connection, (address, body.port), hand_over)
        else:
            try:
                sock = await gate.bind_path(self._login, body.socket_path)
            except OSError as error:
                raise CannotConnect(f"cannot listen to {place}: {error.strerror or error}") from error
            if sock is None:
                return None
            server = await listen(connection, sock, hand_over)
        return server

    def cancel(self, body: Cancelled) -> bool:
        """Ends a listening; whether there was one."""
        close = self._listeners.pop(_place(body), None)
        if close is not None:
            close()
        return close is not None

    def _tell(
        self, wanted: Direct | Asked, question: ChannelOffered | None = None, *, allowed: bool,
        reason: str = "",
    ) -> None:  # fmt: skip
        where, port = _place(wanted), 0
        if not isinstance(where, str):
            where, port = where
        self._connection.link.state(
            "forward_request", kind=_KINDS[type(wanted)], channel=question.channel.id if question else None,
            host=visible(where), port=port, allowed=allowed, reason=visible(reason),
        )  # fmt: skip


_KINDS: Final[dict[type[Struct], str]] = {
    DirectTcpip: "direct-tcpip",
    DirectStreamlocal: "direct-streamlocal",
    TcpipForward: "tcpip-forward",
    StreamlocalForward: "streamlocal-forward",
}


def _place(body: Direct | Asked | Cancelled) -> Place:
    match body:
        case DirectTcpip(host=host, port=port):
            return host, port
        case TcpipForward(address=address, port=port) | CancelTcpipForward(address=address, port=port):
            return address, port
        case _:
            return body.socket_path


def _forwarded(body: Asked, port: int, writer: asyncio.StreamWriter) -> tuple[str, Struct]:
    """The channel that carries a connection to the client."""
    if isinstance(body, StreamlocalForward):
        return "forwarded-streamlocal@openssh.com", ForwardedStreamlocal(body.socket_path)
    origin = writer.get_extra_info("peername") or ("", 0)
    return "forwarded-tcpip", ForwardedTcpip(body.address, port, origin[0], origin[1])
