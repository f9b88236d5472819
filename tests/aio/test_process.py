"""A process whose server tells its end before its beginning."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from glasshell.aio.process import Process
from glasshell.errors import ConnectionClosed
from glasshell.events import ChannelExit
from glasshell.messages.connection import Exec


def process(ended: ChannelExit | None) -> Process:
    """Its channel has been closed, and the request to start it was never answered."""

    def ask(name: str, body: Exec) -> asyncio.Future[bool]:
        unanswered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        unanswered.set_exception(ConnectionClosed("the channel is closed"))
        return unanswered

    io: Any = SimpleNamespace(ask=ask, exit=ended, channel=SimpleNamespace(id=0))
    return Process(io, "true")


def test_a_program_that_has_ended_has_begun() -> None:
    asyncio.run(process(ChannelExit(None, 3)).start("exec", Exec("true"), env={}, pty=None))


def test_a_channel_that_closes_without_a_word_is_an_error() -> None:
    with pytest.raises(ConnectionClosed):
        asyncio.run(process(None).start("exec", Exec("true"), env={}, pty=None))
