"""Ports forwarded by our client through real servers: -L, -R and -W."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from glasshell.errors import ChannelOpenFailed, RequestFailed
from glasshell.policy import KIB, Policy
from tests.interop.conftest import Start
from tests.interop.kit import Exchanges, connect, echo, payload, talk, there_and_back
from tests.interop.peers import LOOPBACK, Keys, OpenSSHServer, Server

Servers = Callable[[str], Server]

FORWARDERS = ("openssh-9.2", "openssh-10.6", "dropbear", "dropbear-newest", "asyncssh")


async def is_hung_up_on(port: int) -> bool:
    """Whether the connection to `port` ends without a byte: by its end, or by a reset."""
    try:
        return await there_and_back(port, b"data") == b""
    except ConnectionResetError:
        return True


async def refuses(port: int) -> bool:
    """Whether nobody listens at `port` any more."""
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


@pytest.mark.parametrize("name", FORWARDERS)
def test_a_local_port(name: str, server: Servers, keys: Keys) -> None:
    """Several connections at once, under keys that change meanwhile."""
    exchanges = Exchanges()
    policy = Policy.client(login_grace=0.0, rekey_bytes=256 * KIB)
    many = [payload(300_000 + n) for n in range(4)]

    async def check() -> None:
        async with (
            echo() as port,
            connect(server(name).target, keys, policy=policy, sinks=[exchanges]) as connection,
        ):
            async with await connection.forward_local((LOOPBACK, 0), (LOOPBACK, port)) as listener:
                answers = await asyncio.gather(*(there_and_back(listener.port, data) for data in many))
                assert answers == many
            assert await refuses(listener.port)
        assert exchanges.by["us"] >= 2

    talk(check())


@pytest.mark.parametrize("name", FORWARDERS)
def test_a_remote_port(name: str, server: Servers, keys: Keys) -> None:
    many = [payload(300_000 + n) for n in range(4)]

    async def check() -> None:
        async with echo() as port, connect(server(name).target, keys) as connection:
            async with await connection.forward_remote((LOOPBACK, 0), (LOOPBACK, port)) as listener:
                assert listener.port != 0
                answers = await asyncio.gather(*(there_and_back(listener.port, data) for data in many))
                assert answers == many
            if name != "dropbear":  # 2022.83 finds no listener whose port it chose itself
                assert await refuses(listener.port)
            assert (await connection.run("echo ok")).stdout == "ok\n"

    talk(check())


@pytest.mark.parametrize("name", FORWARDERS)
def test_streams_through_the_server(name: str, server: Servers, keys: Keys) -> None:
    """-W: to the server's own port, whose identification arrives."""

    async def check() -> None:
        target = server(name).target
        async with (
            connect(target, keys) as connection,
            await connection.open_tcp(LOOPBACK, target.port) as io,
        ):
            assert await io.reader.readexactly(4) == b"SSH-"

    talk(check())


@pytest.mark.parametrize("name", FORWARDERS)
def test_a_login_through_a_login(name: str, server: Servers, keys: Keys) -> None:
    """SSH inside SSH: our client through a port that our client forwards."""

    async def check() -> None:
        target = server(name).target
        inner = server("openssh-10.6").target
        async with (
            connect(target, keys) as outer,
            await outer.forward_local((LOOPBACK, 0), (LOOPBACK, inner.port)) as listener,
            connect(replace(inner, port=listener.port), keys) as connection,
        ):
            assert (await connection.run("echo ok")).stdout == "ok\n"

    talk(check())


@pytest.mark.parametrize("name", FORWARDERS)
def test_where_nobody_listens(name: str, server: Servers, keys: Keys) -> None:
    async def check() -> None:
        async with echo() as port:
            pass  # it was free a moment ago
        async with connect(server(name).target, keys) as connection:
            with pytest.raises(ChannelOpenFailed) as caught:
                await connection.open_tcp(LOOPBACK, port)
            assert caught.value.reason == 2  # SSH_OPEN_CONNECT_FAILED
            async with await connection.forward_local((LOOPBACK, 0), (LOOPBACK, port)) as listener:
                assert await is_hung_up_on(listener.port)
            async with await connection.forward_remote((LOOPBACK, 0), (LOOPBACK, port)) as listener:
                assert await is_hung_up_on(listener.port)
            assert (await connection.run("echo ok")).stdout == "ok\n"

    talk(check())


@pytest.mark.parametrize("version", ["9.2", "10.6"])
def test_forwarding_that_is_not_allowed(version: str, start: Start, keys: Keys) -> None:
    server = start(OpenSSHServer(version, keys, extra_config="AllowTcpForwarding no"))

    async def check() -> None:
        async with connect(server.target, keys) as connection:
            with pytest.raises(ChannelOpenFailed) as caught:
                await connection.open_tcp(LOOPBACK, server.target.port)
            assert caught.value.reason == 1  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED
            with pytest.raises(RequestFailed, match="remote port forwarding failed for listen port 0"):
                await connection.forward_remote((LOOPBACK, 0), (LOOPBACK, server.target.port))

    talk(check())


@pytest.mark.parametrize("name", ["openssh-9.2", "openssh-10.6"])
def test_sockets_of_the_file_system(name: str, server: Servers, keys: Keys) -> None:
    """OpenSSH's streamlocal extensions, both ways."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    async def talk_to(path: str, data: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(data)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    async def check() -> None:
        peer = server(name)
        theirs, mine, ours = (str(peer.folder / part) for part in ("theirs", "mine", "ours"))
        inside = peer.place.inside
        async with (
            await asyncio.start_unix_server(serve, theirs),
            connect(peer.target, keys) as connection,
        ):  # fmt: skip
            async with await connection.forward_local(mine, inside(Path(theirs))):
                assert await talk_to(mine, b"down" * 50_000) == b"DOWN" * 50_000
            async with await connection.forward_remote(inside(Path(ours)), theirs):
                assert await talk_to(ours, b"up" * 50_000) == b"UP" * 50_000
            with pytest.raises(ChannelOpenFailed):
                await connection.open_unix("/nowhere/to/be/found")

    talk(check())
