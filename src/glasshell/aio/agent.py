"""ssh-agent over its socket: list its keys, let one of them sign, give it keys."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConnectionLost, RequestFailed, UsageError
from ..values import slotted
from .tasks import deadline

if TYPE_CHECKING:
    from ..agent.client import Identity
    from ..agent.destinations import Route
    from ..agent.held import Private
    from ..keys.certificate import Certificate
    from ..messages.declare import Message

__all__ = ["Agent", "Binding"]

LIST_SECONDS: Final = 10.0
"""An agent that does not list its keys within this time is passed over; signing may wait for a person."""

WINDOWS_PIPE: Final = r"\\.\pipe\openssh-ssh-agent"
"""Where the agent of Windows' own OpenSSH listens."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@slotted(frozen=True)
class Binding:
    """Where a connection leads: what an agent is told before it signs for it (OpenSSH PROTOCOL.agent §1)."""

    host_key: bytes
    session_id: bytes
    signature: bytes
    """The server's, of the session identifier."""
    forwarding: bool = False


class Agent:
    """A client of the agent that listens at `path`, by default at $SSH_AUTH_SOCK.

    Each request has a connection of its own, so that two never wait for each other. Errors are SSHErrors:
    ConnectionLost where nobody listens, RequestFailed where the agent refused.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, binding: Binding | None = None) -> None:
        self.path = os.fspath(path) if path is not None else os.environ.get("SSH_AUTH_SOCK", "")
        if not self.path and sys.platform == "win32":
            self.path = WINDOWS_PIPE
        self.binding = binding
        """What the agent is told first on every connection; an agent that does not know it goes on."""

    @property
    def present(self) -> bool:
        """Whether there is a socket to ask at."""
        if self.path.startswith("\\\\.\\pipe\\"):
            return sys.platform == "win32"
        return bool(self.path) and hasattr(asyncio, "open_unix_connection") and Path(self.path).exists()

    def bound(self, binding: Binding | None) -> Agent:
        """The same agent, for a connection that leads there."""
        return Agent(self.path, binding=binding)

    async def identities(self) -> tuple[Identity, ...]:
        """The keys that the agent holds, in its order."""
        from ..agent.client import parse_identities, request_identities  # late: most logins need no agent

        async with deadline(LIST_SECONDS, "listing the agent's keys"):
            return parse_identities(await self._ask(request_identities()))

    async def sign(self, blob: bytes, algorithm: str, data: bytes) -> bytes:
        """The signature blob of `data` by the key `blob`; the agent may ask its owner first."""
        from ..agent.client import parse_signature, sign_request

        return parse_signature(await self._ask(sign_request(blob, data, algorithm)), algorithm)

    async def add(
        self, private: Private, comment: str = "", *, certificate: Certificate | None = None,
        lifetime: int = 0, confirm: bool = False, routes: Sequence[Route] = (), provider: str = "",
    ) -> None:  # fmt: skip
        """Gives the agent a key, as ssh-add(1): for `lifetime` seconds (0: for good), to be confirmed by its
        owner at each use, for certain destinations. Raises RequestFailed where it does not take it."""
        from ..agent.held import add_request

        request = add_request(
            private, comment, certificate=certificate, lifetime=lifetime, confirm=confirm, routes=routes,
            provider=provider,
        )  # fmt: skip
        await self.do(request, "take a key")

    async def do(self, request: Message, what: str) -> None:
        """Sends a request that is answered by success alone; `what` says in words what it asks for."""
        from ..agent.client import frame, parse_done

        parse_done(await self._ask(frame(request)), what)

    async def extensions(self) -> tuple[str, ...]:
        """The extensions that the agent knows. Raises RequestFailed where it does not tell."""
        from ..agent.client import frame, parse_extensions
        from ..agent.messages import Extension, Query

        return parse_extensions(await self._ask(frame(Extension("query", Query()))))

    async def _ask(self, request: bytes) -> bytes:
        async with self.connected(request) as (reader, _):
            return await _answer(reader)

    @contextlib.asynccontextmanager
    async def connected(self, request: bytes = b"") -> AsyncIterator[Streams]:
        """A connection to the agent, told of `binding`, and then sent `request`. Raises ConnectionLost."""
        reader, writer = await self._open()
        try:
            bound = self.binding
            writer.write(_bind(bound) + request if bound is not None else request)
            if bound is not None:
                await _bound(reader)
            yield reader, writer
        except OSError as error:
            raise ConnectionLost(f"the agent at {self.path} is gone: {error}") from error
        finally:
            writer.transport.abort()  # nothing is ever left to send: each request waits for its answer

    async def _open(self) -> Streams:
        try:
            if self.path.startswith("\\\\.\\pipe\\"):
                return await _open_pipe(asyncio.get_running_loop(), self.path)
            if not hasattr(asyncio, "open_unix_connection"):
                raise UsageError("this system has no Unix domain sockets for an agent")
            return await asyncio.open_unix_connection(self.path)
        except (OSError, ValueError) as error:
            raise ConnectionLost(f"no agent at {self.path}: {error}") from error


async def _open_pipe(loop: Any, path: str) -> Streams:
    """A named pipe of Windows, by the proactor's own call; no other loop has it. Raises OSError."""
    if not hasattr(loop, "create_pipe_connection"):
        raise OSError(None, "this event loop has no named pipes")
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_pipe_connection(lambda: protocol, path)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _bind(bound: Binding) -> bytes:
    from ..agent.client import session_bind

    return session_bind(bound.host_key, bound.session_id, bound.signature, forwarding=bound.forwarding)


async def _bound(reader: asyncio.StreamReader) -> None:
    """Takes the answer to that: an older agent refuses, and has no keys that need it."""
    from ..agent.client import parse_done

    with contextlib.suppress(RequestFailed):
        parse_done(await _answer(reader), "be told of the destination")


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """One message; what follows it stays where it is. Raises SSHError."""
    from ..agent.client import take_frame

    try:
        buffer = bytearray(await reader.readexactly(4))
        size = int.from_bytes(buffer, "big")
        message = take_frame(buffer)  # judges the length before anything is waited for
        while message is None:
            buffer += await reader.readexactly(size)
            message = take_frame(buffer)
    except asyncio.IncompleteReadError:
        raise ConnectionLost("the agent closed its connection without an answer") from None
    return message


def usable(agent: Agent | bool | str | os.PathLike[str] | None) -> Agent | None:
    """The agent that is meant by `True` (the user's own), a path, an Agent, or None where there is none."""
    if agent is None or agent is False:
        return None
    found = agent if isinstance(agent, Agent) else Agent() if agent is True else Agent(agent)
    return found if found.present else None
