"""Forwarding beyond ports: SOCKS both ways, and sockets of the file system."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from glasshell.aio.gatekeeper import LoggedIn
from glasshell.errors import CannotConnect, ChannelOpenFailed, RequestFailed
from tests.aio.kit import Users, connecting, run, serving

LOOPBACK = "127.0.0.1"
SOCKS5 = bytes.fromhex("050100")


class Paths(Users):
    """Sockets of the file system may be used below one folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    async def connect_path(self, login: LoggedIn, path: str) -> socket.socket | None:
        if Path(path).parent != self.folder:
            return None
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            raise
        return sock

    async def bind_path(self, login: LoggedIn, path: str) -> socket.socket | None:
        if Path(path).parent != self.folder:
            return None
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        return sock


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read())
    await writer.drain()
    writer.close()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def through(streams: Streams, data: bytes, head: bytes = b"", answer: int = 0) -> tuple[bytes, bytes]:
    """What answers `head`, and what comes back of `data` once it has ended."""
    reader, writer = streams
    writer.write(head + data)
    writer.write_eof()
    first = await reader.readexactly(answer)
    rest = await reader.read()
    writer.close()
    return first, rest


def by_socks5(port: int) -> bytes:
    return SOCKS5 + bytes.fromhex("05010001 7f000001") + port.to_bytes(2, "big")


GRANTED = bytes.fromhex("0500 05000001000000000000")


@pytest.mark.parametrize("way", ["local", "remote"])
def test_socks_leads_where_it_says_and_loses_no_byte(way: str) -> None:
    async def main() -> None:
        async with (
            await asyncio.start_server(echo, LOOPBACK, 0) as target,
            serving() as server, connecting(server.port) as connection,
        ):  # fmt: skip
            port = target.sockets[0].getsockname()[1]
            if way == "local":
                listening = connection.forward_dynamic((LOOPBACK, 0))
            else:
                listening = connection.forward_remote((LOOPBACK, 0), None)
            async with await listening as listener:
                data = bytes(range(256)) * 2000
                streams = await asyncio.open_connection(LOOPBACK, listener.port)
                assert await through(streams, data, by_socks5(port), len(GRANTED)) == (GRANTED, data)
                closed = socket.create_server((LOOPBACK, 0))
                free = closed.getsockname()[1]
                closed.close()
                streams = await asyncio.open_connection(LOOPBACK, listener.port)
                refused = bytes.fromhex("0500 05050001000000000000")
                assert await through(streams, b"", by_socks5(free), len(refused)) == (refused, b"")
                streams = await asyncio.open_connection(LOOPBACK, listener.port)
                assert await through(streams, b"", b"GET / HTTP/1.1") == (b"", b"")

    run(main())


def test_the_server_reaches_by_socks_what_is_permitted_and_nothing_else() -> None:
    async def main() -> None:
        async with (
            await asyncio.start_server(echo, LOOPBACK, 0) as target,
            serving() as server, connecting(server.port) as connection,
        ):  # fmt: skip
            port = target.sockets[0].getsockname()[1]
            listening = connection.forward_remote((LOOPBACK, 0), None, permit=lambda host, port: False)
            async with await listening as listener:
                streams = await asyncio.open_connection(LOOPBACK, listener.port)
                refused = bytes.fromhex("0500 05020001000000000000")
                assert await through(streams, b"data", by_socks5(port), len(refused)) == (refused, b"")

    run(main())


def is_there(path: str) -> bool:
    return Path(path).exists()


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def test_sockets_of_the_file_system_at_both_ends(tmp_path: Path) -> None:
    async def main() -> None:
        end, here, there = (str(tmp_path / name) for name in ("end", "here", "there"))
        async with (
            await asyncio.start_unix_server(echo, end),
            serving(gatekeeper=Paths(tmp_path)) as server, connecting(server.port) as connection,
        ):  # fmt: skip
            async with await connection.forward_local(here, end):
                assert mode(here) == 0o600
                streams = await asyncio.open_unix_connection(here)
                assert await through(streams, b"x" * 300_000) == (b"", b"x" * 300_000)
            assert not is_there(here)
            async with await connection.forward_remote(there, end):
                streams = await asyncio.open_unix_connection(there)
                assert await through(streams, b"y" * 300_000) == (b"", b"y" * 300_000)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_unix_connection(there)

    run(main())


def test_a_path_that_is_not_allowed_or_is_taken(tmp_path: Path) -> None:
    async def main() -> None:
        taken = tmp_path / "taken"
        taken.touch()
        async with (
            serving(gatekeeper=Paths(tmp_path)) as server, connecting(server.port) as connection,
        ):  # fmt: skip
            with pytest.raises(ChannelOpenFailed, match="open failed"):
                await connection.open_unix("/run/docker.sock")
            with pytest.raises(ChannelOpenFailed, match="No such file"):
                await connection.open_unix(str(tmp_path / "missing"))
            with pytest.raises(RequestFailed, match="listen path"):
                await connection.forward_remote("/run/mine", (LOOPBACK, 1))
            with pytest.raises(RequestFailed):
                await connection.forward_remote(str(taken), (LOOPBACK, 1))
            with pytest.raises(CannotConnect, match="Address already in use"):
                await connection.forward_local(str(taken), (LOOPBACK, 1))
            async with await connection.forward_local(str(taken), (LOOPBACK, 1), unlink=True):
                assert taken.is_socket()

    run(main())


def test_an_embedded_server_gives_no_socket_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving() as server, connecting(server.port) as connection:
            with pytest.raises(ChannelOpenFailed):
                await connection.open_unix(str(tmp_path / "any"))
            with pytest.raises(RequestFailed):
                await connection.forward_remote(str(tmp_path / "any"), (LOOPBACK, 1))

    run(main())
