"""ssh-agent over its socket: list its keys, let one of them sign."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from ..errors import ConnectionLost, UsageError
from ..keys.agent import (
    Identity,
    parse_identities,
    parse_signature,
    request_identities,
    sign_request,
    take_frame,
)
from .tasks import deadline

__all__ = ["Agent"]

LIST_SECONDS: Final = 10.0
"""An agent that does not list its keys within this time is passed over; signing may wait for a person."""


class Agent:
    """A client of the agent that listens at `path`, by default at $SSH_AUTH_SOCK.

    Each request has a connection of its own, so that two never wait for each other. Errors are SSHErrors:
    ConnectionLost where nobody listens, RequestFailed where the agent refused.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = os.fspath(path) if path is not None else os.environ.get("SSH_AUTH_SOCK", "")

    @property
    def present(self) -> bool:
        """Whether there is a socket to ask at."""
        return bool(self.path) and hasattr(asyncio, "open_unix_connection") and Path(self.path).exists()

    async def identities(self) -> tuple[Identity, ...]:
        """The keys that the agent holds, in its order."""
        async with deadline(LIST_SECONDS, "listing the agent's keys"):
            return parse_identities(await self._ask(request_identities()))

    async def sign(self, blob: bytes, algorithm: str, data: bytes) -> bytes:
        """The signature blob of `data` by the key `blob`; the agent may ask its owner first."""
        return parse_signature(await self._ask(sign_request(blob, data, algorithm)), algorithm)

    async def _ask(self, request: bytes) -> bytes:
        if not hasattr(asyncio, "open_unix_connection"):
            raise UsageError("this system has no Unix domain sockets for an agent")
        try:
            reader, writer = await asyncio.open_unix_connection(self.path)
        except (OSError, ValueError) as error:
            raise ConnectionLost(f"no agent at {self.path}: {error}") from error
        try:
            writer.write(request)
            return await _answer(reader)
        except OSError as error:
            raise ConnectionLost(f"the agent at {self.path} is gone: {error}") from error
        finally:
            writer.transport.abort()  # nothing is ever left to send: each request waits for its answer


async def _answer(reader: asyncio.StreamReader) -> bytes:
    buffer = bytearray()
    while (message := take_frame(buffer)) is None:
        data = await reader.read(65536)
        if not data:
            raise ConnectionLost("the agent closed its connection without an answer")
        buffer += data
    return message


def usable(agent: Agent | bool | str | os.PathLike[str] | None) -> Agent | None:
    """The agent that is meant by `True` (the user's own), a path, an Agent, or None where there is none."""
    if agent is None or agent is False:
        return None
    found = agent if isinstance(agent, Agent) else Agent() if agent is True else Agent(agent)
    return found if found.present else None
