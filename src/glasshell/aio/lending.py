"""Agent forwarding: a program on a server uses the agent of who is logged in there (RFC 9987 §4; ssh(1) -A)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ChannelOpenFailed, SSHError
from ..events import ChannelOffered
from ..messages.connection import OpenFailure
from .agent import Agent
from .forward import pump

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = ["lend_agent"]


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
