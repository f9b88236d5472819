"""UnusedConnectionTimeout: who has logged in and uses nothing is not kept for ever."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from glasshell.aio.gatekeeper import LoggedIn
from tests.aio.kit import Users, connecting, run, serving


class Impatient(Users):
    def unused_timeout(self, login: LoggedIn) -> float:
        return 0.2


def test_a_connection_without_channels_is_ended_and_one_with_is_not() -> None:
    async def work() -> None:
        async with serving(gatekeeper=Impatient()) as server, connecting(server.port) as connection:
            running = asyncio.ensure_future(connection.run("wait"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.6):
                    await connection.wait_closed()
            assert len(server.connections) == 1  # the program still runs
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await connection.wait_closed()  # nobody has closed it on this side
            assert "UnusedConnectionTimeout" in str(connection.error)

    run(work())


def test_nor_is_one_kept_that_never_opens_any() -> None:
    async def work() -> None:
        async with serving(gatekeeper=Impatient()) as server, connecting(server.port) as connection:
            await connection.wait_closed()
            assert "UnusedConnectionTimeout" in str(connection.error)

    run(work())
