"""What one login may take of the server's descriptors, however it goes about it."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import psutil
import pytest

from glasshell.aio.client import Connection
from glasshell.aio.gatekeeper import LoggedIn
from glasshell.aio.relays import MAX_LISTENERS
from glasshell.errors import ChannelOpenFailed
from glasshell.messages.connection import DirectTcpip, OpenFailure, TcpipForward, TcpipForwardReply
from glasshell.policy import Policy
from tests.aio.kit import Users, connecting, run, serving

CHANNELS = 6


def test_listeners_asked_for_all_at_once_are_counted_too() -> None:
    async def main() -> None:
        async with serving() as server, connecting(server.port) as connection:
            asked = [connection.global_request("tcpip-forward", TcpipForward("localhost", 0))
                     for _ in range(MAX_LISTENERS + 20)]  # fmt: skip
            answers = await asyncio.gather(*asked)
            assert sum(granted for granted, _ in answers) == MAX_LISTENERS

    run(main())


def test_any_free_port_of_every_address_is_one_port() -> None:
    """The client is told one; a second one, of the other family, would be open to whoever finds it."""

    class Everywhere(Users):
        def listen_address(self, login: LoggedIn, host: str, port: int) -> str | None:
            return ""

    async def main() -> None:
        async with serving(gatekeeper=Everywhere()) as server, connecting(server.port) as connection:
            before = _listening()
            granted, reply = await connection.global_request("tcpip-forward", TcpipForward("", 0))
            assert granted
            assert _listening() - before == {TcpipForwardReply.decode(reply).port}

    run(main())


def _listening() -> set[int]:
    """The ports that this process listens to."""
    found = psutil.Process().net_connections("tcp")
    return {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}


async def _fill_and_close(connection: Connection, port: int) -> None:
    """Leaves behind a socket that has more to take than it does."""
    channel = await connection.open_channel("direct-tcpip", DirectTcpip("127.0.0.1", port, "", 0))
    with contextlib.suppress(TimeoutError):
        while True:  # until the target, the pump and the window are full
            async with asyncio.timeout(0.3):
                channel.writer.write(bytes(1 << 16))
                await channel.writer.drain()
    channel.close()
    await channel.wait_closed()


def test_sockets_that_take_nothing_count_after_their_channels_are_closed() -> None:
    async def main() -> None:
        # Nobody accepts here: the kernel takes what its buffers hold, and no more.
        target = socket.create_server(("127.0.0.1", 0), backlog=CHANNELS + 2)
        port = target.getsockname()[1]
        policy = Policy.server(max_channels=CHANNELS)
        async with serving(policy=policy) as server, connecting(server.port) as connection:
            for _ in range(CHANNELS):
                await _fill_and_close(connection, port)
            with pytest.raises(ChannelOpenFailed) as caught:
                await _fill_and_close(connection, port)
            assert caught.value.reason == OpenFailure.RESOURCE_SHORTAGE.value
            target.close()  # whoever goes makes room
            while True:
                with contextlib.suppress(ChannelOpenFailed):
                    assert (await connection.run("exit 7")).status == 7
                    break

    run(main())
