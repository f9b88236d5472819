"""The agent's socket: clients of one user, each served by the keyring of `glasshell.agent`."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from ..agent.client import take_frame
from ..agent.held import SecurityKey
from ..agent.keyring import FAILURE, Ask, Client, Keyring, Touch, Wait
from ..errors import SSHError
from ..system.status import peer_credentials
from ..wire import string

__all__ = ["AgentServer"]

MAX_CLIENTS: Final = 512
"""Most clients at a time; more are hung up on."""

Confirm = Callable[[str], Awaitable[bool]]
SecurityKeySign = Callable[[SecurityKey, bytes], bytes]
"""Has a security key sign; blocks until it is touched. Raises SSHError."""


class AgentServer:
    """Serves `keyring` to the clients of a socket.

    `confirm(text)` asks the owner; `notice(text)` is shown while a security key waits to be touched, which
    `sign` does in a thread. `tell(level, text)` is the log.
    """

    def __init__(
        self, keyring: Keyring, *, confirm: Confirm,
        notice: Callable[[str], AbstractAsyncContextManager[None]], sign: SecurityKeySign,
        tell: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self.keyring = keyring
        self._confirm = confirm
        self._notice = notice
        self._sign = sign
        self._tell = tell
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._one_touch = asyncio.Lock()

    async def serve(self, sock: socket.socket) -> None:
        """Takes the clients of a listening Unix socket, until `close`."""
        self._server = await asyncio.start_unix_server(self._take, sock=sock)

    async def close(self) -> None:
        """Takes no clients any more, hangs up on those that there are, and waits for the end of that."""
        if self._server is not None:
            self._server.close()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._clients:
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        # Where the system does not tell, the modes of socket and folder are what keeps others out.
        _, uid = peer_credentials(sock) or (0, os.getuid())
        if uid not in (0, os.getuid()) or len(self._clients) >= MAX_CLIENTS:
            self._tell("error", f"a client of uid {uid} is hung up on")
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await self._attend(reader, writer)
        except (OSError, SSHError) as error:
            self._tell("debug1", f"a client is hung up on: {error}")
        except asyncio.CancelledError:
            pass  # `close`: the streams' own callback would report it
        finally:
            self._clients.discard(task)
            writer.transport.abort()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client, buffer = Client(), bytearray()
        while data := await reader.read(65536):
            buffer += data
            while (message := take_frame(buffer)) is not None:
                writer.write(string(await self._answer(client, message)))
                await writer.drain()

    async def _answer(self, client: Client, message: bytes) -> bytes:
        answer = self.keyring.handle(client, message, time.monotonic(), time.time())
        self._forget_in_time()
        while not isinstance(answer, bytes):
            match answer:
                case Ask(text=text, then=then):
                    answer = then(await self._confirm(text))
                case Wait(seconds=seconds, answer=later):
                    await asyncio.sleep(seconds)
                    answer = later
                case Touch():
                    answer = await self._touch(answer)
        return answer

    async def _touch(self, wanted: Touch) -> bytes:
        async with self._one_touch, self._notice(wanted.text):
            try:
                return wanted.then(await asyncio.to_thread(self._sign, wanted.key, wanted.data))
            except SSHError as error:
                self._tell("error", f"the security key does not sign: {error}")
                return FAILURE

    def _forget_in_time(self) -> None:
        """A key's time is over when it is over, and not when somebody asks next."""
        due = self.keyring.expire(time.monotonic())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            delay = max(0.0, due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._forget_in_time)
