"""A page over HTTP for those who scrape it: GET, one path, and nothing else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

from ..errors import CannotConnect

__all__ = ["Exposition"]

Page: TypeAlias = Callable[[str], tuple[str, bytes]]
"""Takes what the asker accepts; gives the content type and the page."""

PATHS: Final = ("/metrics", "/")
MAX_REQUEST: Final = 8192
"""Bytes of a request's head."""
MAX_AT_ONCE: Final = 16
"""Askers served at the same time; more are shut at once."""
SECONDS: Final = 5.0
"""What one asker gets, from the connection to the last byte."""


class Exposition:
    """Serves `page` at `host` and `port` until `close`; it runs in the loop that made it."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(
        self, host: str = "127.0.0.1", port: int = 0, *, sock: socket.socket | None = None
    ) -> int:
        """Begins; `sock` is a listening socket to take instead. The port. Raises CannotConnect."""
        try:
            if sock is not None:
                self._server = await asyncio.start_server(self._accepted, sock=sock, limit=MAX_REQUEST)
            else:
                self._server = await asyncio.start_server(self._accepted, host, port, limit=MAX_REQUEST)
        except (OSError, OverflowError) as error:
            raise CannotConnect(f"cannot listen at {host} port {port}: {error}") from error
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Ends it, and whoever is being served."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= MAX_AT_ONCE:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(SECONDS):
                    writer.write(await self._answer(reader))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.LimitOverrunError:
            return _response("431 Request Header Fields Too Large")
        first, *lines = head.split("\r\n")
        method, _, rest = first.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed")
        if path not in PATHS:
            return _response("404 Not Found")
        fields = (line.partition(":") for line in lines)
        accept = ",".join(value.strip() for name, _, value in fields if name.lower() == "accept")
        content_type, page = self._page(accept)
        return _response("200 OK", content_type, page, body=method == "GET")


def _response(
    status: str, content_type: str = "text/plain", page: bytes = b"", *, body: bool = True
) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(page)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode("latin-1") + (page if body else b"")
