"""A connection inside a channel of another one: how a jump host is passed (ssh_config(5), ProxyJump).

Nothing but bytes goes from one to the other, and none through the kernel: the channel stands where a socket
would, as a transport of asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..errors import CannotConnect, ChannelOpenFailed, SSHError
from .channels import ChannelIO

if TYPE_CHECKING:
    from .client import Connection
    from .link import Link

__all__ = ["ChannelTransport", "reach"]

CHUNK: Final = 64 * 1024
"""Most bytes handed on at once: no packet of SSH has to be put together of more than two."""


async def reach(
    via: Connection, host: str, port: int, *, user: str = "", state: Callable[..., None]
) -> ChannelIO:
    """A way for another connection, whose `state` hears of it: the server of `via` connects to the host.

    Raises CannotConnect, which names both, and what ended `via`.
    """
    state("jump", via=f"{via.user}@{via.host}:{via.port}")
    state("connecting", host=host, address=host, port=port, user=user)
    try:
        io = await via.open_tcp(host, port)
    except ChannelOpenFailed as error:
        state("connect_failed", host=host, address=host, port=port, error=str(error))
        failure = CannotConnect(f"connect to host {host} port {port} from {via.host}: {error}")
        raise failure from error
    state("connected", address=host, port=port, local_address=via.host, local_port=via.port)
    return io


class ChannelTransport(asyncio.Transport):
    """Drives a link by the streams of a channel that is open."""

    def __init__(self, io: ChannelIO, link: Link) -> None:
        super().__init__()
        self._io = io
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._drain: asyncio.Task[None] | None = None
        self._reading = self._loop.create_task(self._read())
        link.connection_made(self)

    async def _read(self) -> None:
        lost: Exception | None = None
        try:
            while data := await self._io.reader.read(CHUNK):
                await self._may_read.wait()
                self._link.get_buffer(len(data))[: len(data)] = data
                self._link.buffer_updated(len(data))
            self._link.eof_received()
        except SSHError as error:
            lost = error
        except asyncio.CancelledError:
            pass
        finally:
            self._over(lost)

    def _over(self, lost: Exception | None) -> None:
        self._closing = True
        if self._drain is not None:
            self._drain.cancel()
        self._io.close()
        self._link.connection_lost(lost)

    async def _drained(self) -> None:
        try:
            await self._io.writer.flushed()
        except SSHError:
            return  # the end of the channel shows in reading
        self._drain = None
        self._link.resume_writing()

    # What a link calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._io.writer.is_closing():
            return
        try:
            self._io.writer.write(bytes(data))
        except SSHError:
            return  # as above
        if self._io.writer.kept and self._drain is None:
            self._link.pause_writing()
            self._drain = self._loop.create_task(self._drained())

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.create_task(self._finish()).add_done_callback(lambda _: None)

    async def _finish(self) -> None:
        try:
            self._io.writer.write_eof()
            await self._io.writer.flushed()
        except SSHError:
            pass
        self.abort()

    def abort(self) -> None:
        self._closing = True
        self._reading.cancel()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass  # the channel's window is the limit

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default
