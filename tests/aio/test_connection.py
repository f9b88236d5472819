"""Our client and our server over a loopback socket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from typing import Any

import pytest

import glasshell
from glasshell.aio.doorkeeper import Limits
from glasshell.aio.gatekeeper import Peer
from glasshell.aio.process import Terminal
from glasshell.aio.session import ServerSession
from glasshell.connection.requests import pty_req
from glasshell.errors import (
    AuthenticationFailed,
    CannotConnect,
    ChannelOpenFailed,
    CommandFailed,
    ConnectionClosed,
    ConnectionLost,
    DeadlineExceeded,
    HostKeyRefused,
    RequestFailed,
)
from glasshell.events import Prompts
from glasshell.keys.known_hosts import format_entry
from glasshell.messages.connection import Exec, Keepalive, SessionOpen, StreamlocalForward
from glasshell.observe.record import MessageRecord, Record, StateRecord
from glasshell.policy import Policy
from tests.aio.kit import HOST_KEY, STRANGER, USER_KEY, Users, connecting, run, serving


def test_a_command_and_all_that_comes_of_it() -> None:
    async def main() -> None:
        async with serving() as server, connecting(server.port) as connection:
            env, pty = {"LANG": "C", "EVIL": "1"}, Terminal("vt100", 81, 25)
            done = await connection.run("anything", env=env, pty=pty)
            assert done.stdout.startswith("exec anything ['LANG'] Terminal(term='vt100', columns=81, rows=25")
            assert (done.stderr, done.status, done.signal, done.ok) == ("to stderr", 0, "", True)
            assert (await connection.run("exit 3")).status == 3
            died = await connection.run("die")
            assert (died.status, died.signal, died.core_dumped, died.message) == (None, "SEGV", True, "oops")
            with pytest.raises(CommandFailed, match='"exit 4" ended with exit status 4') as caught:
                await connection.run("exit 4", check=True)
            assert caught.value.completed.status == 4
            assert (await connection.run("cat", input="é", encoding=None)).stdout == "é".encode()
            assert server.connections

    run(main())


def test_awaited_it_stays_open_until_it_is_closed() -> None:
    async def main() -> None:
        server = await serving()
        connection = await connecting(server.port)
        assert (await connection.run("exit 0")).ok
        await connection.close()
        await connection.close()
        assert connection.closed
        with pytest.raises(ConnectionClosed):
            await connection.run("exit 0")
        await server.close()

    run(main())


def test_both_outputs_are_read_so_that_neither_blocks_the_other() -> None:
    size = 5_000_000  # more than two windows of either stream

    async def main() -> None:
        async with serving() as server, connecting(server.port) as connection:
            done = await connection.run(f"both {size}", deadline=15)
            assert (len(done.stdout), len(done.stderr)) == (size, size)

    run(main())


def test_many_channels_at_once_under_rekeying() -> None:
    policy = Policy.client(rekey_bytes=300_000)

    async def main() -> None:
        async with serving() as server, connecting(server.port, policy=policy) as connection:
            inputs = [bytes([n]) * 200_000 for n in range(8)]
            works = [connection.run("cat", input=data, encoding=None) for data in inputs]
            assert [done.stdout for done in await asyncio.gather(*works)] == inputs

    run(main())


def test_a_process_with_streams() -> None:
    async def main() -> None:
        async with serving() as server, connecting(server.port) as connection:
            process = await connection.open("cat")
            process.stdin.write(b"one\ntwo\n")
            await process.stdin.drain()
            assert await process.stdout.readline() == b"one\n"
            assert await process.stdout.readexactly(4) == b"two\n"
            process.stdin.write_eof()
            assert [line async for line in process.stdout] == []
            assert await process.wait() == 0

    run(main())


def test_window_changes_and_signals_reach_the_handler() -> None:
    async def handler(session: ServerSession) -> int:
        heard: asyncio.Queue[object] = asyncio.Queue()
        session.on_resize = heard.put_nowait
        session.on_signal = heard.put_nowait
        session.stdout.write(b"ready")
        size = await heard.get()
        assert isinstance(size, Terminal)
        session.stdout.write(f" {size.columns}x{size.rows} {await heard.get()}".encode())
        return 0

    async def main() -> None:
        async with serving(handler=handler) as server, connecting(server.port) as connection:
            process = await connection.open(pty=Terminal())
            assert await process.stdout.readexactly(5) == b"ready"
            process.resize(132, 43)
            process.send_signal("SIGINT")
            assert await process.stdout.read() == b" 132x43 INT"
            assert await process.wait() == 0

    run(main())


def test_what_is_not_served_is_refused() -> None:
    async def main() -> None:
        async with serving() as server, connecting(server.port) as connection:
            with pytest.raises(RequestFailed, match="subsystem request failed on channel"):
                await connection.open(subsystem="sftp")
            with pytest.raises(ChannelOpenFailed) as caught:
                await connection.open_tcp("192.0.2.1", 1)
            assert caught.value.reason == 1
            with pytest.raises(RequestFailed):
                await connection.forward_remote(("192.0.2.1", 0), ("127.0.0.1", 1))
            request = StreamlocalForward("/tmp/x")
            granted, _ = await connection.global_request("streamlocal-forward@openssh.com", request)
            assert not granted
            assert (await connection.run("exit 0")).ok

    run(main())


def test_a_handler_that_fails_ends_its_session_and_nothing_else() -> None:
    async def main() -> None:
        async with serving() as server, connecting(server.port) as connection:
            assert (await connection.run("fail")).status == 255
            assert (await connection.run("exit 0")).ok

    run(main(), defects=["the handler of a exec failed"])


# --- deadlines and cancellation


def test_a_deadline_names_the_call_and_ends_the_channel_only() -> None:
    async def main() -> None:
        async with serving() as server, connecting(server.port) as connection:
            for command in ("wait", "forever"):
                with pytest.raises(DeadlineExceeded, match=f'running "{command}" on 127.* 0.2 seconds'):
                    await connection.run(command, deadline=0.2)
            assert (await connection.run("exit 0")).ok

    run(main())


def test_the_deadline_of_connect_covers_a_server_that_says_nothing() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            port = mute.getsockname()[1]
            late = f"connecting to 127.0.0.1 port {port} .* 0.2 seconds"
            with pytest.raises(DeadlineExceeded, match=late) as c:
                await connecting(port, deadline=0.2)
            assert [r.name for r in c.value.records if isinstance(r, StateRecord)][:4] == [
                "started", "resolving", "resolved", "connecting",
            ]  # fmt: skip

    run(main())


def test_a_cancelled_connect_and_a_cancelled_run_leave_nothing_behind() -> None:
    async def main() -> None:
        async with serving() as server:
            for turns in range(0, 40, 3):
                task = asyncio.ensure_future(_connect_and_close(server.port))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            async with connecting(server.port) as connection:
                for turns in range(0, 20, 2):
                    task = asyncio.ensure_future(_run(connection, "forever"))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
                assert (await connection.run("exit 0")).ok

    async def _connect_and_close(port: int) -> None:
        async with connecting(port):
            pass

    async def _run(connection: glasshell.Connection, command: str) -> None:
        await connection.run(command)

    run(main())


# --- errors


def test_a_refused_login_tells_every_attempt_in_order() -> None:
    async def main() -> None:
        async with serving() as server:
            with pytest.raises(AuthenticationFailed) as caught:
                await connecting(server.port, user="bob", keys=["/absent/key", STRANGER], password="wrong")
        error = caught.value
        assert str(error) == "bob@127.0.0.1: Permission denied (publickey,password)."
        assert [(a.method, a.answer) for a in error.attempts] == [
            ("none", "refused"), ("publickey", "skipped: No such file or directory"),
            ("publickey", "refused"), ("password", "refused"),
        ]  # fmt: skip
        assert any(isinstance(r, MessageRecord) and r.number == 51 for r in error.records)
        assert b"wrong" not in b"".join(r.payload for r in error.records if isinstance(r, MessageRecord))

    run(main())


def test_a_changed_host_key_is_refused_before_any_credential_is_shown() -> None:
    async def main() -> None:
        seen: list[Any] = []
        async with serving(on_close=lambda connection: seen.append(connection.login)) as server:
            with pytest.raises(HostKeyRefused, match="REMOTE HOST IDENTIFICATION HAS CHANGED") as caught:
                await connecting(server.port, known_hosts=STRANGER.public)
        numbers = [r.number for r in caught.value.records if isinstance(r, MessageRecord)]
        assert max(numbers) < 50, "no message of authentication"
        assert seen == [None]

    run(main())


def test_nobody_listens_and_nobody_is_called_that() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        refused = f"connect to host 127.0.0.1 port {port}: Connection refused"
        with pytest.raises(CannotConnect, match=refused) as c:
            await connecting(port)
        assert [(address, type(error)) for address, error in c.value.failures] == [
            ("127.0.0.1", ConnectionRefusedError)
        ]

    run(main())


def test_a_connection_that_is_cut_is_an_error_everywhere() -> None:
    async def main() -> None:
        async with serving() as server, connecting(server.port) as connection:
            process = await connection.open("wait")
            reading = asyncio.ensure_future(process.stdout.read())
            running = asyncio.ensure_future(connection.run("wait"))
            await connection.run("exit 0")
            next(iter(server.connections)).link.abort()
            for call in (reading, running, process.wait()):
                with pytest.raises(ConnectionLost) as caught:
                    await call
            assert any(r.name == "authenticated" for r in caught.value.records if isinstance(r, StateRecord))
            with pytest.raises(ConnectionLost):
                await connection.open_tcp("127.0.0.1", 1)

    run(main())


def test_an_error_of_the_caller_s_own_prompt_comes_out_of_connect() -> None:
    async def ask(new: object) -> bool:
        raise ZeroDivisionError("in the prompt")

    async def main() -> None:
        async with serving() as server:
            with pytest.raises(ZeroDivisionError):
                await connecting(server.port, known_hosts=None, ask_host_key=ask)

    run(main())


# --- the server


def test_connections_that_wait_to_log_in_are_capped() -> None:
    async def main() -> None:
        async with serving(limits=Limits(begin=2, full=2, penalties={})) as server:
            async with connecting(server.port) as one, connecting(server.port) as two:
                assert (await one.run("exit 0")).ok
                assert (await two.run("exit 0")).ok
                waiting = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
                for reader, _ in waiting:
                    assert (await reader.readline()).startswith(b"SSH-2.0-")
                with pytest.raises(ConnectionLost):
                    await connecting(server.port)
                assert server.refused == 1
                for _, writer in waiting:
                    writer.close()
                    await writer.wait_closed()
            async with connecting(server.port) as three:
                assert (await three.run("exit 0")).ok

    run(main())


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n" + b"\xff" * 1000, b""])
def test_what_is_no_ssh_client_harms_nobody(noise: bytes) -> None:
    async def main() -> None:
        errors: list[Any] = []
        async with serving(on_close=lambda connection: errors.append(connection.error)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(noise)
            writer.write_eof()
            await reader.read()
            writer.close()
            async with connecting(server.port) as connection:
                assert (await connection.run("exit 0")).ok
        assert errors[0] is not None

    run(main())


def test_closing_the_server_tells_its_clients() -> None:
    async def main() -> None:
        async with serving() as server:
            connection = await connecting(server.port)
            running = asyncio.ensure_future(connection.run("wait"))
            await connection.run("exit 0")
        with pytest.raises(ConnectionClosed, match="server shutting down"):
            await running
        await connection.wait_closed()
        with pytest.raises(CannotConnect):
            await connecting(server.port if server.addresses else connection.port)

    run(main())


def test_a_slow_reader_holds_the_sender_back() -> None:
    sent = 0

    async def handler(session: ServerSession) -> int:
        nonlocal sent
        while sent < 50_000_000:
            session.stdout.write(bytes(65536))
            await session.stdout.drain()
            sent += 65536
        return 0

    async def main() -> None:
        async with serving(handler=handler) as server, connecting(server.port) as connection:
            process = await connection.open("flood")
            before = -1
            while before != sent:  # until the window is full and nothing moves any more
                before = sent
                await connection.global_request("keepalive@openssh.com", Keepalive())
            assert sent < 4 * Policy.client().window
            assert len(await process.stdout.read()) == sent

    run(main())


def test_connections_leave_no_objects_behind() -> None:
    async def main() -> None:
        async with serving() as server:
            for _ in range(3):
                async with connecting(server.port) as connection:
                    await connection.run("exit 0")
            gc.collect()
            before = len(gc.get_objects())
            for _ in range(20):
                async with connecting(server.port) as connection:
                    await connection.run("exit 0")
            del connection
            gc.collect()
            assert len(gc.get_objects()) - before < 500
            assert not server.connections or len(server.connections) == 1

    run(main())


def test_records_of_both_sides_and_none_without_sinks() -> None:
    client: list[Record] = []
    served: list[list[Record]] = []

    def sinks(peer: Peer) -> list[Any]:
        served.append([])
        return [served[-1].append]

    async def main() -> None:
        async with serving(sinks=sinks) as server:
            async with connecting(server.port, sinks=[client.append]) as connection:
                await connection.run("exit 0")
            async with connecting(server.port) as unheard:
                assert unheard.core.hub is None
                assert unheard.link.hub is None
        server_side = served[0]
        for records, role, first in ((client, "client", "resolving"), (server_side, "server", "accepted")):
            states = [r for r in records if isinstance(r, StateRecord)]
            assert states[0].name == "started"
            assert states[0].facts["role"] == role
            assert states[1].name in (first, "identity_file")
            # What waited for an answer has the time at which it came: order holds for each direction.
            for kind in (True, False, None):
                times = [r.time for r in records if getattr(r, "sent", None) is kind]
                assert times == sorted(times)
        ended = next(r for r in server_side if isinstance(r, StateRecord) and r.name == "session_ended")
        assert ended.facts["user"] == "ada"

    run(main())


# --- forwarding


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says everything again, once it has been said in full."""
    writer.write(await reader.read())
    await writer.drain()
    writer.close()


async def _through(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("way", ["local", "remote"])
def test_forwarding_passes_both_ends_on(way: str) -> None:
    async def main() -> None:
        echo = await asyncio.start_server(_echo, "127.0.0.1", 0)
        target = echo.sockets[0].getsockname()[1]
        async with serving() as server, connecting(server.port) as connection:
            forward = connection.forward_local if way == "local" else connection.forward_remote
            async with await forward(("127.0.0.1", 0), ("127.0.0.1", target)) as listener:
                sizes = (0, 1, 3_000_000)
                answers = await asyncio.gather(*(_through(listener.port, b"x" * size) for size in sizes))
                assert [len(answer) for answer in answers] == list(sizes)
                port = listener.port
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
        echo.close()

    run(main())


def test_a_channel_to_a_host_and_port() -> None:
    async def main() -> None:
        echo = await asyncio.start_server(_echo, "127.0.0.1", 0)
        target = echo.sockets[0].getsockname()[1]
        async with (
            serving() as server,
            connecting(server.port) as connection,
            await connection.open_tcp("127.0.0.1", target) as channel,
        ):
            channel.writer.write(b"hello")
            channel.writer.write_eof()
            assert await channel.reader.read() == b"hello"
        echo.close()
        await echo.wait_closed()

    run(main())


def test_a_forwarding_to_nowhere_closes_the_socket_that_came() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        async with serving() as server, connecting(server.port) as connection:
            with pytest.raises(ChannelOpenFailed, match="Connection refused") as caught:
                await connection.open_tcp("127.0.0.1", port)
            assert caught.value.reason == 2
            async with await connection.forward_local(("127.0.0.1", 0), ("127.0.0.1", port)) as listener:
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()

    run(main())


def test_no_forwarding_for_a_host_whose_key_has_changed(tmp_path: Any) -> None:
    async def main() -> None:
        async with serving() as server:
            file = tmp_path / "known_hosts"
            file.write_text(format_entry("127.0.0.1", server.port, STRANGER.public))
            async with connecting(server.port, known_hosts=file, strict="no") as connection:
                assert connection.host_key == HOST_KEY.public
                assert (await connection.run("exit 0")).ok
                with pytest.raises(HostKeyRefused):
                    await connection.open_tcp("127.0.0.1", 1)
            password = "open sesame"
            with pytest.raises(AuthenticationFailed):
                await connecting(server.port, "bob", known_hosts=file, strict="no", password=password)

    run(main())


def test_a_password_login() -> None:
    async def main() -> None:
        async with serving() as server:
            async with connecting(server.port, user="bob", keys=[], password="open sesame") as connection:
                assert (await connection.run("exit 0")).ok
            for user, password in (("bob", "open"), ("nobody", "open sesame")):
                with pytest.raises(AuthenticationFailed):
                    await connecting(server.port, user=user, keys=[USER_KEY], password=password)

    run(main())


def test_a_second_terminal_is_refused_and_the_first_one_stays() -> None:
    class Once(Users):
        def may_have_terminal(self, session: ServerSession, terminal: Terminal) -> bool:
            return session.terminal is None

    async def main() -> None:
        async with serving(gatekeeper=Once()) as server, connecting(server.port) as connection:
            channel = await connection.open_channel("session", SessionOpen())
            assert await channel.ask("pty-req", pty_req("vt100", 80, 24))
            assert not await channel.ask("pty-req", pty_req("xterm", 90, 34))
            assert await channel.ask("exec", Exec("anything"))
            assert b"Terminal(term='vt100', columns=80, rows=24" in await channel.reader.read()

    run(main())


def test_a_defect_of_the_application_is_reported_and_not_only_the_end_of_a_connection() -> None:
    class Wrong(Users):
        async def interactive(self, user: str, submethods: str, peer: Peer) -> Prompts:
            return Prompts(("no PromptText",))  # type: ignore[arg-type]

    async def main() -> None:
        gatekeeper = Wrong()
        gatekeeper.methods = ("keyboard-interactive",)
        async with serving(gatekeeper=gatekeeper) as server:
            with pytest.raises(ConnectionLost):
                async with connecting(server.port, keys=[], password="x"):
                    pass

    run(main(), defects=["a defect ended a connection"])
