"""Agent forwarding: a program on a server uses the agent of who logged in there (ssh(1), -A)."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import ChannelOpenFailed, SSHError
from ..events import ChannelOffered
from ..messages.connection import AgentOpen, OpenFailure
from ..system.agentsocket import PrivateSocket
from ..system.status import peer_credentials
from .agent import Agent
from .forward import listen, pump

if TYPE_CHECKING:
    from .endpoint import Endpoint
    from .server import ServerConnection

__all__ = ["Lent", "lend_agent"]


async def lend_agent(endpoint: Endpoint, question: ChannelOffered, agent: Agent) -> None:
    """The client: a program on the server talks to `agent`, which is told first where it is."""
    answered = False
    try:
        async with agent.connected() as streams:
            io = endpoint.adopt(question.channel)
            endpoint.link.answer(question, True)
            answered = True
            await pump(io, *streams)
    except SSHError as error:
        if not answered:
            failed = OpenFailure.CONNECT_FAILED.value
            endpoint.link.answer(question, ChannelOpenFailed(str(error), reason=failed))


class Lent:
    """The server: a socket for the programs of one login, whose clients reach the agent of who logged in."""

    def __init__(self, connection: ServerConnection, uid: int, gid: int) -> None:
        """Listens, for the user `uid`. Raises OSError."""
        self._connection = connection
        self._uid = uid
        self._place = PrivateSocket(f"agent.{os.getpid()}", uid, gid)
        self.path = self._place.path
        connection.on_end[self._place.remove] = None
        connection.spawn(self._listen())

    async def _listen(self) -> None:
        connection = self._connection
        try:
            server = await listen(connection, self._place.sock, self._take)
        except BaseException:
            self._place.sock.close()
            raise
        connection.on_end[server.close] = None
        if connection.closed:
            server.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, uid = peer_credentials(writer.get_extra_info("socket")) or (0, self._uid)
        if uid in (0, self._uid):
            with suppress(SSHError):  # the client has no agent any more, or is gone
                io = await self._connection.open_channel("auth-agent@openssh.com", AgentOpen())
                await pump(io, reader, writer)
