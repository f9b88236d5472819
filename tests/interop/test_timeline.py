"""The brief's complete timeline of a connection, as our timeline shows it, for both roles."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable

import pytest

import glasshell
from glasshell.aio.gatekeeper import KnownUsers, Peer
from glasshell.aio.process import Terminal
from glasshell.aio.session import ServerSession
from glasshell.keys.openssh import load_private_key
from glasshell.keys.public import load_public_key
from glasshell.views.timeline import Timeline
from tests.interop.kit import connect, talk
from tests.interop.peers import Client, Keys, Server, Target

VERSIONS = ("openssh-9.2", "openssh-10.6")

FROM_CLIENT = [
    "identification", "SSH_MSG_KEXINIT", "INIT", "SSH_MSG_NEWKEYS", "SSH_MSG_SERVICE_REQUEST",
    "SSH_MSG_USERAUTH_REQUEST probe", "SSH_MSG_USERAUTH_REQUEST signed", "SSH_MSG_CHANNEL_OPEN session",
    "SSH_MSG_CHANNEL_REQUEST pty-req", "SSH_MSG_CHANNEL_REQUEST shell", "SSH_MSG_CHANNEL_CLOSE",
    "SSH_MSG_DISCONNECT BY_APPLICATION",
]  # fmt: skip
FROM_SERVER = [
    "identification", "SSH_MSG_KEXINIT", "REPLY", "SSH_MSG_NEWKEYS", "SSH_MSG_SERVICE_ACCEPT",
    "SSH_MSG_USERAUTH_PK_OK", "SSH_MSG_USERAUTH_SUCCESS", "SSH_MSG_CHANNEL_OPEN_CONFIRMATION",
    "SSH_MSG_CHANNEL_SUCCESS", "SSH_MSG_CHANNEL_SUCCESS", "SSH_MSG_CHANNEL_DATA", "SSH_MSG_CHANNEL_EOF",
    "SSH_MSG_CHANNEL_CLOSE",
]  # fmt: skip


def missing(timeline: Timeline, sent: bool, wanted: list[str]) -> list[str]:
    """What of `wanted` does not stand in this direction's lines, in this order."""
    lines = [f"{row.name} {row.facts}" for row in timeline.lines.rows if row.sent is sent]
    left = list(wanted)
    for line in lines:
        if left and all(word in line for word in left[0].split()):
            del left[0]
    return left


def drawn(timeline: Timeline) -> str:
    page = io.StringIO()
    timeline.render(100, False, page)
    return page.getvalue()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_at_openssh(version: str, server: Callable[[str], Server], keys: Keys) -> None:
    timeline = Timeline()

    async def shell() -> None:
        async with connect(server(version).target, keys, sinks=[timeline], memory=None) as connection:
            process = await connection.open(pty=Terminal())
            process.stdin.write(b"exit 3\n")
            await process.communicate()
            assert process.status == 3

    talk(shell())
    assert missing(timeline, True, FROM_CLIENT) == []
    assert missing(timeline, False, FROM_SERVER) == []
    names = [row.name for row in timeline.lines.rows]
    assert names.index("connect begun") < names.index("connect done") < names.index("identification")
    page = drawn(timeline)
    assert page.index("SSH_MSG_NEWKEYS") < page.index("EVERYTHING ENCRYPTED") < page.index("SERVICE_REQUEST")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_with_openssh(version: str, client: Callable[[str], Client], keys: Keys) -> None:
    timeline = Timeline()
    host = keys.host()

    async def shell(session: ServerSession) -> int:
        assert session.kind == "shell"
        session.stdout.write(b"ready\r\n")
        await session.stdout.drain()
        return 3

    def sinks(peer: Peer) -> list[Timeline]:
        return [timeline]

    async def serve() -> None:
        users = KnownUsers({"ada": [load_public_key(keys.user().public)[0]]})
        async with glasshell.serve(
            "127.0.0.1", 0, host_keys=[load_private_key(host.private.read_bytes())], gatekeeper=users,
            handler=shell, sinks=sinks,
        ) as running:  # fmt: skip
            target = Target(running.port, "ada", (host.public,))
            done = await asyncio.to_thread(
                client(version).run, target, None, "-tt", identity=keys.user(), stdin=None
            )
            assert done.returncode == 3
            assert b"ready" in done.stdout

    talk(serve())
    assert missing(timeline, False, FROM_CLIENT) == []
    assert missing(timeline, True, FROM_SERVER) == []
    names = [row.name for row in timeline.lines.rows]
    assert names.index("connection accepted") < names.index("identification")
