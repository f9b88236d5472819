"""Servers of several processes: real forks, real sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from glasshell.aio.server import Server, serve
from glasshell.aio.session import ServerSession
from glasshell.errors import CannotConnect, UsageError

from .kit import HOST_KEY, Users, connecting, run

WORKERS = 3


async def who(session: ServerSession) -> int:
    """Says which process serves."""
    session.stdout.write(str(os.getpid()).encode())
    return 0


def serving(**options: object) -> object:
    given = {"host_keys": [HOST_KEY], "gatekeeper": Users(), "handler": who, "workers": WORKERS, **options}
    return serve("127.0.0.1", 0, **given)  # type: ignore[arg-type]


async def ask(server: Server) -> int:
    async with connecting(server.port) as connection:
        return int((await connection.run("who")).stdout)


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - another process changes it
        await asyncio.sleep(0.01)


def test_each_connection_is_a_worker_s_and_the_parent_has_none() -> None:
    async def main() -> None:
        async with serving() as server:  # type: ignore[attr-defined]
            assert server.workers is not None
            pids = set(server.workers.pids)
            seen = set()
            while len(seen) < 2:  # the kernel shares them out by a hash of the ports
                seen.add(await ask(server))
            assert seen <= pids
            assert len(pids) == WORKERS
            assert os.getpid() not in pids
            assert not server.connections
            port = server.port
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))

    run(main())


def test_one_that_dies_is_replaced_and_said() -> None:
    reported: list[str] = []

    async def main() -> None:
        async with serving(workers=1) as server:  # type: ignore[attr-defined]
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: reported.append(context["message"]))
            assert server.workers is not None
            for _ in range(2):
                before = await ask(server)
                os.kill(before, signal.SIGKILL)
                await until(lambda gone=before: server.workers.pids not in ([gone], []))
                await until(lambda: listens(server.port))
                assert await ask(server) != before
            pid = server.workers.pids[0]
        assert [text.partition(";")[0].partition(")")[2] for text in reported] == [" ended with signal 9"] * 2
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    run(main())


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_connections_end_in_order_when_the_server_closes() -> None:
    async def main() -> None:
        async with serving(workers=1) as server:  # type: ignore[attr-defined]
            connection = await connecting(server.port)
        await connection.wait_closed()
        assert "server shutting down" in str(connection.error)

    run(main())


def test_one_that_cannot_serve_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(CannotConnect, match=r"no status socket: .*No such file or directory"):
            await serving(status=str(tmp_path / "none" / "sock"))  # type: ignore[misc]

    run(main())


def test_an_address_that_is_taken_is_an_error() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CannotConnect):
            await serve(
                "127.0.0.1", taken.getsockname()[1], host_keys=[HOST_KEY], gatekeeper=Users(), workers=1
            )

    run(main())


def test_an_address_that_other_workers_have_is_an_error() -> None:
    async def main() -> None:
        async with serving() as server:  # type: ignore[attr-defined]
            with pytest.raises(CannotConnect):
                await serve("127.0.0.1", server.port, host_keys=[HOST_KEY], gatekeeper=Users(), workers=1)

    run(main())


def test_workers_listen_for_themselves() -> None:
    async def main() -> None:
        with pytest.raises(UsageError):
            await serving(listen=False)  # type: ignore[misc]

    run(main())


PARENT = """
import asyncio, sys
from tests.aio.test_workers import serving
async def main():
    async with serving() as server:
        print(server.port, *server.workers.pids, flush=True)
        await server.wait_closed()
asyncio.run(main())
"""


def test_workers_do_not_outlive_their_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    port, *pids = map(int, parent.stdout.readline().split())
    assert len(pids) == WORKERS
    assert listens(port)
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == ""  # the end: nobody holds the pipe any more
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while listens(port) and time.monotonic() < deadline:
        pass
    assert not listens(port)
