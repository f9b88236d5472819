"""The status socket of a server: what it tells, whom, and that nothing a reader does is felt."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasshell.aio import status as told
from glasshell.aio.client import Connection
from glasshell.aio.server import Server
from glasshell.errors import ConfigError
from glasshell.system.status import read_status
from tests.aio.kit import connecting, run, serving

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")


@asynccontextmanager
async def reading(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 20)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def line_of(reader: asyncio.StreamReader) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(await reader.readline())
    return shown


async def until(reader: asyncio.StreamReader, **wanted: Any) -> list[dict[str, Any]]:
    """The lines up to the one that has these values."""
    lines = []
    while data := await reader.readline():
        lines.append(json.loads(data))
        if all(lines[-1].get(name) == value for name, value in wanted.items()):
            return lines
    raise AssertionError(f"{wanted} did not come in {lines}")


async def eventually(holds: Callable[[], bool]) -> None:
    """Waits until `holds()`; `run` has the deadline."""
    while not holds():  # noqa: ASYNC110 (nobody tells of it)
        await asyncio.sleep(0.005)


def hub_of(server: Server) -> Any:
    [connection] = server.connections
    return connection.link.hub


# -- what is told


def test_connections(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "s"
        async with serving(status=path) as server, connecting(server.port) as connection:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            found = await asyncio.to_thread(read_status, path)
            assert (found.pid, found.header["listening"]) == (os.getpid(), [["127.0.0.1", server.port]])
            [shown] = found.connections
            assert (shown["id"], shown["user"], shown["method"]) == (1, "ada", "publickey")
            assert (shown["state"], shown["channels"], shown["rekeys"]) == ("connection", [], 0)
            assert shown["algorithms"]["kex"] == connection.negotiated.kex
            assert shown["peer"][0] == "127.0.0.1"

            async with await connection.open("cat") as process:
                process.stdin.write(b"x" * 5000)
                assert await process.stdout.readexactly(5000) == b"x" * 5000
                connection.rekey()
                await eventually(lambda: connection.core.transport.outbound.epoch == 2)
                [shown] = (await asyncio.to_thread(read_status, path)).connections
                [channel] = shown["channels"]
                assert (channel["type"], channel["state"]) == ("session", "open")
                assert (channel["received"], channel["sent"]) == (5000, 5000)
                assert channel["peer_window"] <= 2 * 1024 * 1024 - 5000
                assert shown["rekeys"] == 1
                process.stdin.write_eof()
            assert hub_of(server) is None  # it was all counted without one record
        assert not path.exists()

    run(work())


def test_records_without_payload(tmp_path: Path) -> None:
    secret = "tell-nobody"

    async def work() -> None:
        path = tmp_path / "s"
        async with (
            serving(status=path) as server,
            connecting(server.port) as connection,
            reading(path) as (reader, writer),
        ):
            assert (await line_of(reader))["type"] == "header"
            writer.write(b"records 1\n")
            assert await line_of(reader) == {"type": "watching", "id": 1}
            assert hub_of(server) is not None
            result = await connection.run(f"exit 3 {secret}")
            assert result.status is not None or result.signal
            lines = await until(reader, name="channel_closed")
            text = json.dumps(lines)
            assert secret not in text
            assert "payload" not in text
            assert "fields" not in text
            names = [shown["name"] for shown in lines if shown["type"] == "message"]
            assert names[:3] == [
                "SSH_MSG_CHANNEL_OPEN", "SSH_MSG_CHANNEL_OPEN_CONFIRMATION", "SSH_MSG_CHANNEL_REQUEST",
            ]  # fmt: skip
            request = next(shown for shown in lines if shown.get("number") == 98)
            assert (request["direction"], request["recipient_channel"]) == ("received", 0)
            started = next(shown for shown in lines if shown["name"] == "session_started")
            assert started["facts"] == {"channel": 0, "kind": "exec", "user": "ada", "tty": ""}
            writer.write(b"connections\n")  # another view: the records end, and with them the hub
            await until(reader, type="end")
            assert hub_of(server) is None

    run(work())


def test_it_is_said_when_the_connection_ends(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "s"
        async with serving(status=path) as server, reading(path) as (reader, writer):
            async with connecting(server.port):
                writer.write(b"records 1\n")
                await until(reader, type="watching")
            last = (await until(reader, type="over"))[-2:]
            assert [shown.get("name") for shown in last] == ["closed", None]
            writer.write(b"records 1\n")
            assert (await until(reader, type="over"))[-1]["text"] == "there is no connection 1"

    run(work())


def test_bulk_is_thinned_out_and_said_to_be(tmp_path: Path) -> None:
    """Every message is told of or counted, and the server is not held up."""
    size = 64 * 1024 * 1024

    async def through(connection: Connection) -> int:
        received = 0
        async with await connection.open("cat") as process:

            async def feed() -> None:
                for _ in range(size // 65536):
                    process.stdin.write(bytes(65536))
                    await process.stdin.drain()
                process.stdin.write_eof()

            feeding = asyncio.ensure_future(feed())
            while data := await process.stdout.read(1 << 20):
                received += len(data)
            await feeding
        return received

    async def work() -> None:
        path = tmp_path / "s"
        async with serving(status=path) as server, reading(path) as (reader, writer):
            async with connecting(server.port) as connection:
                writer.write(b"records 1\n")
                await until(reader, type="watching")
                gathering = asyncio.ensure_future(until(reader, type="over"))
                assert await through(connection) == size
            lines = await gathering
        skipped = [shown for shown in lines if shown["type"] == "skipped"]
        messages = [shown for shown in lines if shown["type"] == "message"]
        assert skipped
        assert sum(shown["wire_length"] for shown in [*skipped, *messages]) > 2 * size
        assert len(messages) + sum(shown["messages"] for shown in skipped) > 2 * size // (120 << 10)

    run(work(), seconds=60)


# -- hostile readers


@pytest.mark.parametrize(
    "request_",
    [b"records x\n", b"records -1\n", b"stop\n", b"\n", b"\xff\xfe\n", b"x" * 300, b"records 1\n" * 2],
)
def test_what_is_not_a_request_ends_the_visit(tmp_path: Path, request_: bytes) -> None:
    async def work() -> None:
        path = tmp_path / "s"
        async with serving(status=path) as server, connecting(server.port) as connection:
            async with reading(path) as (reader, writer):
                writer.write(request_)
                assert [shown["type"] for shown in await until(reader, type="error")] == ["header", "error"]
                assert await reader.read() == b""
            assert (await connection.run("exit 4")).status == 4

    run(work())


@settings(max_examples=30)
@given(st.binary(max_size=600))
def test_any_bytes(data: bytes) -> None:
    async def work(path: Path) -> None:
        async with serving(status=path), reading(path) as (_, writer):
            writer.write(data)
            with suppress(OSError):
                await writer.drain()
            assert (await asyncio.to_thread(read_status, path)).connections == ()

    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        run(work(Path(folder, "s")))


def test_a_reader_who_does_not_read_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "MAX_UNREAD", 4096)

    async def work() -> None:
        path = tmp_path / "s"
        async with serving(status=path) as server, connecting(server.port) as connection:
            sock = socket.socket(socket.AF_UNIX)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with sock:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, str(path))
                await asyncio.get_running_loop().sock_sendall(sock, b"records 1\n")
                await eventually(lambda: hub_of(server) is not None)
                async with asyncio.timeout(10):
                    while hub_of(server) is not None:  # it goes when the reader has been dropped
                        await connection.run("exit 0")
            assert (await connection.run("exit 5")).status == 5

    run(work())


def test_at_most_so_many_readers(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "s"
        async with serving(status=path):
            ends = [await asyncio.open_unix_connection(str(path)) for _ in range(told.MAX_READERS)]
            for reader, _ in ends:
                assert (await line_of(reader))["type"] == "header"
            async with reading(path) as (reader, _):
                assert (await line_of(reader))["text"] == "8 readers are here already"
            for _, writer in ends:
                writer.close()
                await writer.wait_closed()
            while True:
                try:
                    await asyncio.to_thread(read_status, path)
                    break
                except ConfigError:
                    await asyncio.sleep(0.01)

    run(work())


def test_only_the_owner_and_root_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's word counts even where the file's mode would have let somebody in."""
    monkeypatch.setattr(told.status, "peer_credentials", lambda sock: (1, os.geteuid() + 1))

    async def work() -> None:
        async with serving(status=tmp_path / "s"), reading(tmp_path / "s") as (reader, _):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""

    run(work())


def test_a_library_offers_none_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told.status, "bind", lambda *_: pytest.fail("nobody asked for it"))

    async def work() -> None:
        async with serving() as server:
            assert server.port

    run(work())


def test_where_it_cannot_be(tmp_path: Path) -> None:
    async def work() -> None:
        with pytest.raises(ConfigError, match=r"no status socket: .*No such file or directory"):
            async with serving(status=tmp_path / "no" / "s"):
                pass

    run(work())
