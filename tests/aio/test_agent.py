"""Where an agent is, and what its client makes of answers over a socket."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import glasshell
from glasshell.aio import agent as module
from glasshell.aio.agent import WINDOWS_PIPE, Agent, Binding, usable
from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import ConnectionLost, LimitExceeded, PeerError, RequestFailed
from glasshell.wire import string, uint32

KEY = PrivateKey.generate("ssh-ed25519")
EMPTY = b"\x0c" + uint32(0)


class Fake:
    """An agent that answers what it is told to, and keeps what it was asked."""

    def __init__(self, path: Path, *answers: bytes) -> None:
        self.path = path
        self.asked: list[bytes] = []
        self._answers = list(answers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while self._answers:
                size = int.from_bytes(await reader.readexactly(4), "big")
                self.asked.append(await reader.readexactly(size))
                writer.write(self._answers.pop(0))
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    def run(self, work: Callable[[Agent], Any], **settings: Any) -> Any:
        async def main() -> Any:
            async with await asyncio.start_unix_server(self._serve, self.path), asyncio.timeout(10):
                return await work(Agent(self.path, **settings))

        return asyncio.run(main())


def test_a_binding_goes_before_the_request_and_its_refusal_stops_nothing(tmp_path: Path) -> None:
    where = Binding(KEY.public.blob, b"session", b"signature", forwarding=True)
    for answer in (b"\x06", b"\x05", b"\x1c"):
        fake = Fake(tmp_path / "agent", string(answer), string(EMPTY))
        assert fake.run(lambda agent: agent.identities(), binding=where) == ()
        bind = (
            b"\x1b" + string(b"session-bind@openssh.com") + string(KEY.public.blob) + string(b"session")
            + string(b"signature") + b"\x01"
        )  # fmt: skip
        assert fake.asked == [bind, b"\x0b"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", ConnectionLost),
        (b"\0\0", ConnectionLost),
        (string(EMPTY)[:-1], ConnectionLost),
        (b"\xff" * 4, LimitExceeded),
        (bytes(4), PeerError),
        (string(b"\x05"), RequestFailed),
        (string(b"\x0e" + string(b"")), PeerError),
        (string(EMPTY + b"\0"), PeerError),
        (string(b"\x0c" + uint32(2**32 - 1)), LimitExceeded),
    ],
)
def test_g2_answers_that_are_none(tmp_path: Path, answer: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        Fake(tmp_path / "agent", answer).run(lambda agent: agent.identities())


def test_what_is_meant_by_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert usable(None) is usable(False) is usable(True) is usable(tmp_path / "none") is None
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "agent"))
        for path in (tmp_path / "agent", str(tmp_path / "agent"), Agent(tmp_path / "agent")):
            assert usable(path) is not None
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        found = usable(True)
        assert found is not None
        assert found.path == str(tmp_path / "agent")
    assert glasshell.Agent is Agent


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost, match="no agent at"):
        asyncio.run(Agent(tmp_path / "none").identities())


def test_the_pipe_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the proactor's own call, of which a loop here is given one; no Windows has seen this."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    agent = Agent()
    assert (agent.path, agent.present) == (WINDOWS_PIPE, True)
    monkeypatch.undo()
    assert not Agent(WINDOWS_PIPE).present
    ours, theirs = socket.socketpair()
    asked: list[str] = []

    async def work() -> tuple[Any, ...]:
        loop = asyncio.get_running_loop()

        async def create_pipe_connection(factory: Any, path: str) -> Any:
            asked.append(path)
            return await loop.create_connection(factory, sock=ours)

        monkeypatch.setattr(loop, "create_pipe_connection", create_pipe_connection, raising=False)
        theirs.sendall(string(EMPTY))
        return await agent.identities()

    with theirs:
        assert asyncio.run(work()) == ()
        assert theirs.recv(5) == b"\0\0\0\x01\x0b"
    assert asked == [WINDOWS_PIPE]
    with pytest.raises(ConnectionLost, match="no named pipes"):
        asyncio.run(agent.identities())
    assert module.WINDOWS_PIPE == r"\\.\pipe\openssh-ssh-agent"
