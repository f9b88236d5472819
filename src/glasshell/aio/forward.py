"""Forwarding: listeners and pumps between sockets and channels (RFC 4254 §7; -L, -R, -D and -W of ssh(1))."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from ..connection.socks import REFUSED, Socks
from ..errors import CannotConnect, DeadlineExceeded, PeerError, SSHError
from ..messages.connection import DirectStreamlocal, DirectTcpip
from ..messages.declare import Struct
from ..system.asuser import PRIVATE, bind
from .channels import ChannelIO
from .dial import reason

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = [
    "PRIVATE", "Listener", "Place", "ask_target", "close_listener", "dial_out", "finish", "listen",
    "listen_local", "port_of", "pump", "show",
]  # fmt: skip

Place: TypeAlias = tuple[str, int] | str
"""Where something listens, or a connection leads to: host and port, or the path of a Unix domain socket."""

CHUNK: Final = 256 * 1024
"""Bytes that a pump moves at once."""

LOOPBACK: Final = ("127.0.0.1", "::1")
"""What "localhost" is to who listens: as with OpenSSH both, whatever a table of names says."""

SOCKS_SECONDS: Final = 30.0
"""How long a program may take to say by SOCKS where it wants to go."""


class Listener:
    """A listening socket of a forwarding: its `place`; closing it lets open connections live."""

    def __init__(self, place: Place, close: Callable[[], Awaitable[None]]) -> None:
        self.place = place
        self._close = close

    @property
    def port(self) -> int:
        """The port it has got; 0 for a socket in the file system."""
        return 0 if isinstance(self.place, str) else self.place[1]

    async def close(self) -> None:
        """Listens no more."""
        await self._close()

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def show(place: Place | None) -> str:
    """A place for people: `host:port`, or the path; None is where SOCKS asks."""
    if place is None:
        return "SOCKS"
    return place if isinstance(place, str) else f"{place[0]}:{place[1]}"


async def pump(
    io: ChannelIO, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, first: bytes = b"",
    inward_first: bytes = b"",
) -> None:  # fmt: skip
    """Moves bytes both ways until the channel is over; each end of one direction is passed on by itself.

    A socket that fails closes the channel; the end of the channel closes the socket. `first` goes to the
    channel before what is read of the socket, `inward_first` to the socket before what the channel brings.
    """

    async def outward() -> None:
        try:
            io.writer.write(first)
            while data := await reader.read(CHUNK):
                io.writer.write(data)
                await io.writer.drain()
            io.writer.write_eof()
            await io.writer.flushed()  # what the peer's window does not take yet would be lost by closing
        except OSError:
            io.close()
        except SSHError:
            pass  # the channel is over, and says so to `inward`

    async def inward() -> None:
        try:
            writer.write(inward_first)
            while data := await io.reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            io.close()
        except SSHError:
            pass

    sending = asyncio.ensure_future(outward())
    receiving = asyncio.ensure_future(inward())
    try:
        await asyncio.wait([receiving])
        await asyncio.wait([sending, io.closed], return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
        receiving.cancel()
        io.close()
        writer.close()
        await asyncio.wait([sending, receiving])


async def finish(io: ChannelIO) -> None:
    """Ends a channel whose last words are still on their way."""
    try:
        io.writer.write_eof()
        await io.writer.flushed()
    except SSHError:
        pass
    finally:
        io.close()


async def dial_out(place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to where a forwarding leads. Raises CannotConnect."""
    try:
        if isinstance(place, str):
            return await asyncio.open_unix_connection(place, limit=CHUNK)
        return await asyncio.open_connection(*place, limit=CHUNK)
    except (OSError, UnicodeError, ValueError) as error:
        where = f"{place}" if isinstance(place, str) else f"host {place[0]} port {place[1]}"
        raise CannotConnect(f"connect to {where}: {_why(error)}") from error


def _why(error: Exception) -> str:
    return reason(error) if isinstance(error, OSError) and error.errno else str(error)


async def listen(
    endpoint: Endpoint, place: Place | socket.socket,
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], *,
    mask: int = PRIVATE, unlink: bool = False,
) -> asyncio.Server:  # fmt: skip
    """Listens at `place` (host "": every address; port 0: any), or by a Unix domain socket that is bound;
    `serve` runs as a task of the endpoint.

    `mask` and `unlink` (whether a socket that is there already is taken away) are for one in the file
    system. Raises CannotConnect where nothing can be bound there.
    """

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if endpoint.crowded:
            writer.transport.abort()
            return

        async def work() -> None:
            try:
                await serve(reader, writer)
            finally:
                writer.close()

        endpoint.spawn(work())

    try:
        if not isinstance(place, tuple):
            bound = bind(place, mask=mask, unlink=unlink) if isinstance(place, str) else place
            return await asyncio.start_unix_server(accepted, sock=bound, limit=CHUNK)
        host, port = place
        # Every address has two families, and each would get a port of its own.
        port = port or (0 if host else _free_port())
        hosts: str | Sequence[str] | None = LOOPBACK if host == "localhost" and port else host or None
        try:
            return await asyncio.start_server(accepted, hosts, port, limit=CHUNK)
        except OSError:
            free = await _bindable(endpoint, host, port)
            if not free:
                raise
            return await asyncio.start_server(accepted, free, port, limit=CHUNK)
    except (OSError, OverflowError, UnicodeError, ValueError) as error:
        where = f"port {place[1]}" if isinstance(place, tuple) else place
        raise CannotConnect(f"cannot listen to {where}: {_why(error)}") from error


async def _bindable(endpoint: Endpoint, host: str, port: int) -> list[str]:
    """The addresses of `host` that can be listened to, none where it has but one: as with OpenSSH one that is
    taken is told, and the others serve."""
    names = LOOPBACK if host == "localhost" else (host or None,)
    lookup = partial(asyncio.get_running_loop().getaddrinfo, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found = [each for name in names for each in await lookup(name, port)]
    addresses = list(dict.fromkeys((kind, str(address[0])) for kind, _, _, _, address in found))
    free = []
    for kind, address in addresses if len(addresses) > 1 else ():
        try:
            socket.create_server((address, port), family=kind).close()
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # a machine without IPv6
                endpoint.link.state("note", level="error", text=f"bind [{address}]:{port}: {reason(error)}")
        else:
            free.append(address)
    return free


def _free_port() -> int:
    with socket.create_server(("", 0)) as sock:
        return int(sock.getsockname()[1])


def close_listener(endpoint: Endpoint, server: asyncio.Server, *, remove: bool) -> Callable[[], None]:
    """Has `server` closed with its endpoint; returns what closes it before.

    `remove`: a socket in the file system goes with it, if it is still the one that was made.
    """
    name = server.sockets[0].getsockname()
    path = Path(name) if remove and isinstance(name, str) else None
    mine = path.stat().st_ino if path else 0

    def close() -> None:
        endpoint.on_end.pop(close, None)
        server.close()
        with contextlib.suppress(OSError):
            if path is not None and path.stat().st_ino == mine:
                path.unlink()

    endpoint.on_end[close] = None
    return close


async def listen_local(
    endpoint: Endpoint, place: Place, to: Place | None, *, mask: int = PRIVATE, unlink: bool = False
) -> Listener:
    """-L: what connects here is connected, by the server, to `to`; None (-D): where it says by SOCKS."""
    link = endpoint.link

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        origin = writer.get_extra_info("peername") or ("", 0)
        origin = origin if isinstance(origin, tuple) else ("", 0)
        target, socks = to, None
        if target is None:
            socks = await ask_target(reader, writer)
            if socks is None:
                return
            target = socks.target
        assert target is not None
        try:
            io = await endpoint.open_channel(*_opening(target, origin))
        except SSHError as error:
            link.state("note", level="error", text=f"forwarding to {show(target)}: {error}")
            if socks is None:
                writer.transport.abort()
            else:
                writer.write(socks.refused(REFUSED))
            return
        if socks is not None:
            writer.write(socks.granted())
        await pump(io, reader, writer, first=socks.rest if socks else b"")

    kind = "dynamic" if to is None else "local"
    facts = {"kind": kind, "listen": show(place), "target": show(to)}
    try:
        server = await listen(endpoint, place, serve, mask=mask, unlink=unlink)
    except SSHError:
        link.state("forward", **facts, ok=False)
        raise
    link.state("forward", **facts, ok=True)
    shut = close_listener(endpoint, server, remove=True)

    async def close() -> None:
        shut()

    return Listener(place if isinstance(place, str) else (place[0], port_of(server)), close)


def _opening(to: Place, origin: tuple[str, int]) -> tuple[str, Struct]:
    """The channel that leads to a place on the server's side."""
    if isinstance(to, str):
        return "direct-streamlocal@openssh.com", DirectStreamlocal(to)
    return "direct-tcpip", DirectTcpip(*to, origin[0], origin[1])


class _Source(Protocol):
    async def read(self, n: int) -> bytes: ...


class _Sink(Protocol):
    def write(self, data: bytes) -> object: ...


async def ask_target(reader: _Source, writer: _Sink) -> Socks | None:
    """Hears by SOCKS where a program wants to go; None: it has been told that this is no request."""
    socks = Socks()
    try:
        async with asyncio.timeout(SOCKS_SECONDS):
            while socks.target is None:
                if not (data := await reader.read(1024)):
                    return None
                writer.write(socks.receive(data))
    except (PeerError, TimeoutError, DeadlineExceeded):
        writer.write(socks.refused())
        return None
    except (OSError, SSHError):
        return None
    return socks


def port_of(server: asyncio.Server) -> int:
    """The port a server has got."""
    return int(server.sockets[0].getsockname()[1])
