"""Connections through connections, and agents lent to programs on servers, with our own server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from glasshell.agent import messages as m
from glasshell.agent.destinations import Route, Stop
from glasshell.agent.held import add_request
from glasshell.agent.keyring import Keyring
from glasshell.aio.agent import Agent
from glasshell.aio.agentserver import AgentServer
from glasshell.aio.askpass import Notice
from glasshell.aio.connecting import Connecting, connect
from glasshell.aio.gatekeeper import LoggedIn
from glasshell.aio.server import serve
from glasshell.aio.session import ServerSession
from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import CannotConnect, ChannelOpenFailed, ConnectionClosed, RequestFailed, SSHError
from glasshell.keys.known_hosts import KnownHosts
from glasshell.keys.public import dump_public_key
from glasshell.messages.connection import AgentOpen
from tests.aio.kit import HOST_KEY, USER_KEY, Users, program, run

OTHER_HOST_KEY = PrivateKey.generate("ssh-ed25519")
KNOWN = KnownHosts.parse(
    "".join(f"[127.0.0.1]:* {dump_public_key(key.public)}" for key in (HOST_KEY, OTHER_HOST_KEY))
)


class Lenders(Users):
    """Ada's programs may use her agent."""

    def agent_owner(self, login: LoggedIn) -> tuple[int, int] | None:
        return (os.getuid(), os.getgid()) if login.user == "ada" else None


async def with_agent(session: ServerSession) -> int | None:
    """`keys` lists what the client's agent shows; `hop PORT` logs in from here with it."""
    words = (session.command or "").split()
    if not words or words[0] not in ("keys", "hop", "where"):
        return await program(session)
    if words[0] == "where":
        session.stdout.write(session.agent.encode())
        return 0 if session.agent else 1
    if words[0] == "keys":
        for identity in await Agent(session.agent).identities():
            session.stdout.write(f"{identity.comment}\n".encode())
        return 0
    try:
        async with to(int(words[1]), keys=(), agent=session.agent) as beyond:
            session.stdout.write((await beyond.run("echo beyond")).stdout.encode())
    except SSHError as error:
        session.stderr.write(str(error).encode())
        return 1
    return 0


def server(key: PrivateKey = HOST_KEY, **settings: Any) -> Any:
    return serve("127.0.0.1", 0, host_keys=[key], gatekeeper=Lenders(), handler=with_agent, **settings)


def to(port: int, **settings: Any) -> Connecting:
    usual: dict[str, Any] = {"user": "ada", "keys": [USER_KEY], "agent": False, "memory": None}
    usual["known_hosts"] = KNOWN
    return connect("127.0.0.1", port, **(usual | settings))


@asynccontextmanager
async def an_agent(
    folder: Path, *requests: Any, confirm: Callable[[str], Any] | None = None
) -> AsyncIterator[Path]:
    """Our agent, with keys."""
    import socket

    async def no(text: str) -> bool:
        return False

    path = folder / "agent"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    keyring = Keyring(random=os.urandom, tell=lambda level, text: None)
    agent = AgentServer(
        keyring,
        confirm=confirm or no,
        notice=Notice,
        sign=lambda key, data: b"",
        tell=lambda level, text: None,
    )
    await agent.serve(sock)
    try:
        for request in requests:
            await Agent(path).do(request, "take a key")
        yield path
    finally:
        await agent.close()


def modes(place: Path) -> tuple[int, int]:
    return place.stat().st_mode & 0o777, place.parent.stat().st_mode & 0o777


# ---- jumps


def test_through_two_servers_to_a_third() -> None:
    async def work() -> None:
        async with (
            server() as first, server() as second, server() as third,
            to(first.port) as one, to(second.port, via=one) as two, to(third.port, via=two) as three,
        ):  # fmt: skip
            assert three.session_id not in (one.session_id, two.session_id)
            size = 3 << 20
            done = await three.run(f"both {size}", encoding=None)
            assert (len(done.stdout), len(done.stderr)) == (size, size)
            async with await three.open("cat") as process:
                data = os.urandom(2 << 20)
                assert (await process.communicate(data)).stdout == data
            assert (await two.run("exit 3")).status == 3
            theirs = [*first.connections, *second.connections]
            for each in (three, two, one):
                await each.close()
            for connection in theirs:
                await connection.wait_closed()

    run(work())


def test_the_host_key_of_each_hop_is_checked(tmp_path: Path) -> None:
    from glasshell.errors import HostKeyRefused
    from glasshell.keys.known_hosts import format_entry

    async def work() -> None:
        async with server() as first, server(OTHER_HOST_KEY) as second, to(first.port) as one:
            known = tmp_path / "known_hosts"
            known.write_text(format_entry("127.0.0.1", second.port, HOST_KEY.public))
            with pytest.raises(HostKeyRefused):
                await to(second.port, via=one, known_hosts=known)
            known.write_text(format_entry("127.0.0.1", second.port, OTHER_HOST_KEY.public))
            async with to(second.port, via=one, known_hosts=known) as two:
                assert (await two.run("exit 0")).status == 0
            assert (await one.run("exit 0")).status == 0

    run(work())


def test_a_jump_that_leads_nowhere_names_both() -> None:
    async def work() -> None:
        async with server() as first, to(first.port) as one:
            with pytest.raises(CannotConnect, match=r"127\.0\.0\.1 port 1 from 127\.0\.0\.1"):
                await to(1, via=one)
            with pytest.raises(CannotConnect, match="open failed"):
                await connect("127.0.0.2", via=one, user="ada", known_hosts=None, memory=None, agent=False)

    run(work())


def test_the_end_of_a_hop_is_the_end_of_what_goes_through_it() -> None:
    async def work() -> None:
        async with server() as first, server() as second, to(first.port) as one:
            two = await to(second.port, via=one)
            process = await two.open("wait")
            await one.close()
            with pytest.raises(SSHError):
                await process.wait()
            await two.wait_closed()
            assert isinstance(two.error, ConnectionClosed)
            await two.close()

    run(work())


def test_a_login_that_is_given_up_leaves_the_hop_as_it_was() -> None:
    async def work() -> None:
        async with server() as first, server() as second, to(first.port) as one:
            with pytest.raises(SSHError):
                await to(second.port, via=one, keys=[PrivateKey.generate("ssh-ed25519")])
            waiting = asyncio.ensure_future(to(second.port, via=one)._opening())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            await one.idle()
            assert (await one.run("exit 0")).status == 0

    run(work())


# ---- agents lent


def test_a_program_on_the_server_uses_the_agent(tmp_path: Path) -> None:
    async def work() -> None:
        async with an_agent(tmp_path, add_request(USER_KEY, "mine")) as path, server() as first:
            async with server(OTHER_HOST_KEY) as second, to(first.port) as one:
                assert (await one.run("where")).status == 1
                assert one.forward_agent(path)
                assert (await one.run("keys")).stdout == "mine\n"
                assert (await one.run(f"hop {second.port}")).stderr == ""
                place = Path((await one.run("where")).stdout)
                assert modes(place) == (0o600, 0o700)
            for connection in tuple(first.connections):
                await connection.wait_closed()
            assert not place.parent.exists()

    run(work())


def test_a_key_with_destinations_goes_hop_by_hop_through_both_our_sides(tmp_path: Path) -> None:
    here = Stop("first", ((HOST_KEY.public, False),))
    there = Stop("second", ((OTHER_HOST_KEY.public, False),))
    onward = add_request(USER_KEY, "onward", routes=[Route(Stop(), here), Route(here, there)])
    only = add_request(USER_KEY, "only", routes=[Route(Stop(), here)])

    async def work() -> None:
        async with (
            server() as first, server(OTHER_HOST_KEY) as second, an_agent(tmp_path, onward) as path,
            to(first.port, keys=(), agent=path) as one,
        ):  # fmt: skip
            one.forward_agent(path)
            done = await one.run(f"hop {second.port}")
            assert (done.stdout, done.stderr, done.status) == ("exec echo beyond [] None", "", 0)
            with pytest.raises(SSHError):  # from here there is no way to the second
                await to(second.port, keys=(), agent=path)
            await Agent(path).do(m.RemoveAllIdentities(), "")
            await Agent(path).do(only, "")
            assert (await one.run(f"hop {second.port}")).status == 1
            assert (await one.run("keys")).stdout == ""

    run(work())


def test_d8_an_agent_that_nobody_lent_is_not_lent() -> None:
    """A channel of the type auth-agent@openssh.com is refused where no session has asked for one."""

    async def work() -> None:
        async with server() as first, to(first.port) as one:
            (theirs,) = first.connections
            for _ in range(3):
                with pytest.raises(ChannelOpenFailed):
                    await theirs.open_channel("auth-agent@openssh.com", AgentOpen())
            assert (await one.run("exit 0")).status == 0

    run(work())


def test_who_may_not_lend_gets_no_socket(tmp_path: Path) -> None:
    async def work() -> None:
        async with (
            an_agent(tmp_path) as path, server() as first,
            to(first.port, user="bob", keys=(), password="open sesame") as one,
        ):  # fmt: skip
            one.forward_agent(path)
            assert (await one.run("where")).status == 1

    run(work())


def test_an_agent_that_is_gone_is_a_channel_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with server() as first, to(first.port) as one:
            async with an_agent(tmp_path) as path:
                one.forward_agent(path)
                assert (await one.run("keys")).status == 0
            path.unlink(missing_ok=True)
            assert (await one.run("keys")).status != 0
            assert not one.closed

    run(work())


def test_confirmations_are_asked_of_the_owner(tmp_path: Path) -> None:
    asked: list[str] = []

    async def yes(text: str) -> bool:
        asked.append(text)
        return len(asked) < 2

    async def work() -> None:
        async with an_agent(tmp_path, add_request(USER_KEY, "mine", confirm=True), confirm=yes) as path:
            agent = Agent(path)
            await agent.sign(USER_KEY.public.blob, "ssh-ed25519", b"data")
            with pytest.raises(RequestFailed):
                await agent.sign(USER_KEY.public.blob, "ssh-ed25519", b"data")

    run(work())
    assert asked[0].startswith("Allow use of key mine?")
