"""Forwarding: listeners and pumps between sockets and channels (RFC 4254 §7; -L, -R and -W of ssh(1))."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from ..errors import CannotConnect, SSHError
from ..messages.connection import DirectTcpip
from .channels import ChannelIO
from .dial import reason

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = ["Listener", "dial_out", "listen", "listen_local", "pump"]

CHUNK: Final = 256 * 1024
"""Bytes that a pump moves at once."""


class Listener:
    """A listening socket of a forwarding. `port` is the port it has got; closing it lets open ones live."""

    def __init__(self, host: str, port: int, close: Callable[[], Awaitable[None]]) -> None:
        self.host = host
        self.port = port
        self._close = close

    async def close(self) -> None:
        """Listens no more."""
        await self._close()

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


async def pump(io: ChannelIO, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Moves bytes both ways until the channel is over; each end of one direction is passed on by itself.

    A socket that fails closes the channel; the end of the channel closes the socket.
    """

    async def outward() -> None:
        try:
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


async def dial_out(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to where a forwarding leads. Raises CannotConnect."""
    try:
        return await asyncio.open_connection(host, port, limit=CHUNK)
    except (OSError, UnicodeError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise CannotConnect(f"connect to host {host} port {port}: {why}") from error


async def listen(
    endpoint: Endpoint, host: str, port: int,
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> asyncio.Server:  # fmt: skip
    """Listens at `host` ("": every address) and `port` (0: any); `serve` runs as a task of the endpoint.

    Raises CannotConnect where the address cannot be bound.
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
        # Every address has two families, and each would get a port of its own.
        port = port or (0 if host else _free_port())
        return await asyncio.start_server(accepted, host or None, port, limit=CHUNK)
    except (OSError, OverflowError, UnicodeError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise CannotConnect(f"cannot listen to port {port}: {why}") from error


def _free_port() -> int:
    with socket.create_server(("", 0)) as sock:
        return int(sock.getsockname()[1])


async def listen_local(
    endpoint: Endpoint, listen_host: str, listen_port: int, host: str, port: int
) -> Listener:
    """-L: what connects here is connected, by the server, to `host` and `port`."""
    link = endpoint.link

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        origin = writer.get_extra_info("peername") or ("", 0)
        try:
            io = await endpoint.open_channel("direct-tcpip", DirectTcpip(host, port, origin[0], origin[1]))
        except SSHError as error:
            link.state("note", level="error", text=f"forwarding to {host} port {port}: {error}")
            writer.transport.abort()
            return
        await pump(io, reader, writer)

    facts = {"kind": "local", "listen": f"{listen_host}:{listen_port}", "target": f"{host}:{port}"}
    try:
        server = await listen(endpoint, listen_host, listen_port, serve)
    except SSHError:
        link.state("forward", **facts, ok=False)
        raise
    link.state("forward", **facts, ok=True)

    async def close() -> None:
        endpoint.on_end.pop(server.close, None)
        server.close()

    endpoint.on_end[server.close] = None
    return Listener(listen_host, bound_port(server), close)


def bound_port(server: asyncio.Server) -> int:
    """The port a server has got."""
    return int(server.sockets[0].getsockname()[1])
