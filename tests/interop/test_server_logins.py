"""`glasshell.serve` with an application's own verdicts on the logins of other people's clients."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import glasshell
from glasshell.aio.gatekeeper import Gatekeeper, Peer
from glasshell.aio.session import Handler, ServerSession
from glasshell.crypto.signatures import PublicKey
from glasshell.events import Prompts, PromptText, Verdict
from glasshell.keys.openssh import load_private_key
from glasshell.wire import Secret
from tests.interop.conftest import CLIENTS
from tests.interop.kit import talk
from tests.interop.peers import LOOPBACK, Client, KeyPair, Keys, Target, require_peer

Clients = Callable[[str], Client]

WORD = "Sésame, ouvre-toi"
OPENSSH = ("openssh-9.2", "openssh-10.6")


class Steps(Gatekeeper):
    """Users by how they log in: `word` by password, `ask` by two rounds of prompts, `key`, and `both`: a key,
    then the password."""

    methods = ("publickey", "password", "keyboard-interactive")

    def __init__(self, key: PublicKey) -> None:
        self._key = key
        self.rounds: list[list[str]] = []

    async def key(self, user: str, key: PublicKey, peer: Peer, *, signed: bool) -> Verdict:
        right = key == self._key and user in ("key", "both")
        more = ("password",) if user == "both" else None
        return Verdict(right, partial=right and user == "both", methods=more)

    async def password(self, user: str, password: Secret, peer: Peer, new: Secret | None) -> Verdict:
        return Verdict(user in ("word", "both") and password == Secret(WORD))

    async def interactive(self, user: str, submethods: str, peer: Peer) -> Verdict | Prompts:
        if user != "ask":
            return Verdict(False)
        self.rounds.append([])
        return Prompts((PromptText("Name: ", True), PromptText("Word: ", False)), "Who", "Two questions.")

    async def answers(self, user: str, answers: Sequence[Secret], peer: Peer) -> Verdict | Prompts:
        said = [answer.reveal().decode() for answer in answers]
        self.rounds[-1] += said
        if said == ["ask", WORD]:
            return Prompts((PromptText("Once more: ", False),))
        return Verdict(said == ["yes"] and len(self.rounds[-1]) == 3)


async def greet(session: ServerSession) -> int:
    session.stdout.write(f"hello {session.login.user} by {session.login.method}\n".encode())
    return 3


@asynccontextmanager
async def serving(
    keys: Keys, handler: Handler = greet
) -> AsyncIterator[tuple[Callable[[str], Target], Steps]]:
    """A server in this process: how each user reaches it, and its gatekeeper."""
    host_key, user_key = (load_private_key(pair.private.read_bytes()) for pair in (keys.host(), keys.user()))
    steps = Steps(user_key.public)
    async with glasshell.serve(
        LOOPBACK, 0, host_keys=[host_key], gatekeeper=steps, handler=handler
    ) as server:
        yield lambda user: Target(server.port, user, (keys.host().public,)), steps


# -- programs ------------------------------------------------------------------------------------


def asking(line: list[str], script: str) -> list[str]:
    """`line` with ssh's questions, each $1, answered by a shell script; env(1) is in it as `env -i`."""
    at = line.index("-i") + 1
    return [*line[:at], "SSH_ASKPASS_REQUIRE=force", f"SSH_ASKPASS={script}", *line[at:]]


def run(line: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, check=False,
        start_new_session=True,
    )  # fmt: skip


def askpass(client: Client, line: list[str], text: str) -> str:
    """A program that answers as `text`, a case of sh(1), says; beside the known_hosts file of `line`."""
    (known,) = [word for word in line if word.startswith("UserKnownHostsFile=")]
    path = client.place.root / Path(known.partition("=/")[2]).parent
    (path / "ask").write_text(f"#!/bin/sh\ncase $1 in\n{text}\nesac\n")
    (path / "ask").chmod(0o755)
    return client.place.inside(path / "ask")


@pytest.mark.parametrize("name", OPENSSH)
@pytest.mark.parametrize(
    ("user", "method", "answers"),
    [
        ("word", "password", f"*password*) echo '{WORD}';;"),
        ("ask", "keyboard-interactive", f"*Name*) echo ask;; *Word*) echo '{WORD}';; *more*) echo yes;;"),
        ("both", "password", f"*password*) echo '{WORD}';;"),
        ("key", "publickey", ""),
    ],
    ids=["word", "ask", "both", "key"],
)
def test_openssh(name: str, user: str, method: str, answers: str, client: Clients, keys: Keys) -> None:
    identity = keys.user() if user in ("both", "key") else None

    async def check() -> None:
        async with serving(keys) as (target, _):
            peer = client(name)
            options = ("-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1")
            line = peer.argv(target(user), *options, identity=identity)
            line = asking(line, askpass(peer, line, answers or "*) exit 1;;"))
            done = await asyncio.to_thread(run, [*line, "x"])
            assert (done.stdout, done.returncode) == (f"hello {user} by {method}\n", 3), done.stderr
            line = peer.argv(target(user), *options)
            line = asking(line, askpass(peer, line, "*) echo wrong;;"))
            done = await asyncio.to_thread(run, [*line, "x"])
            assert (done.stdout, done.returncode) == ("", 255)
            assert "Permission denied" in done.stderr

    talk(check())


@pytest.mark.parametrize("user", ["word", "both"])
def test_plink(user: str, client: Clients, keys: Keys) -> None:
    async def check() -> None:
        async with serving(keys) as (target, _):
            peer, identity = client("plink"), keys.user() if user == "both" else None
            for word, wanted in ((WORD, (f"hello {user} by password\n", 3)), ("wrong", ("", 1))):
                line = peer.argv(target(user), "-pw", word, identity=identity)
                line[line.index("LC_ALL=C")] = "LC_ALL=C.UTF-8"  # passwords are UTF-8 (RFC 4252 §8)
                done = await asyncio.to_thread(run, [*line, "x"])
                assert (done.stdout, done.returncode) == wanted, done.stderr

    talk(check())


@pytest.mark.parametrize("name", ["dbclient", "dbclient-newest"])
@pytest.mark.parametrize("user", ["word", "both"])
def test_dbclient(name: str, user: str, client: Clients, keys: Keys) -> None:
    async def check() -> None:
        async with serving(keys) as (target, _):
            peer, identity = client(name), keys.user() if user == "both" else None
            for word, said in ((WORD, f"hello {user} by password\n"), ("wrong", "")):
                line = peer.argv(target(user), identity=identity)
                line.insert(line.index("-i") + 1, f"DROPBEAR_PASSWORD={word}")
                done = await asyncio.to_thread(run, [*line, "x"])
                assert done.stdout == said, done.stderr
                if said:
                    assert done.returncode == 3
                else:  # it tries the same one again, and calls it no error to be disconnected
                    assert "exited: Disconnect received" in done.stderr

    talk(check())


# -- libraries -----------------------------------------------------------------------------------


def test_asyncssh(keys: Keys) -> None:
    require_peer("asyncssh")
    import asyncssh

    shown: list[Any] = []

    class Person(asyncssh.SSHClient):
        def kbdint_auth_requested(self) -> str:
            return ""

        def kbdint_challenge_received(self, name: str, instructions: str, lang: str, prompts: Any) -> Any:
            shown.append((name, instructions, list(prompts)))
            return ["ask", WORD] if len(prompts) == 2 else ["yes"] * len(prompts)

    async def check() -> None:
        async with serving(keys) as (target, steps):

            def settings(user: str) -> dict[str, Any]:
                own = [str(keys.user().private)] if user in ("both", "key") else []
                trusted = asyncssh.import_known_hosts(target(user).known_hosts())
                return {"port": target(user).port, "username": user, "known_hosts": trusted, "config": None,
                        "client_keys": own, "agent_path": None}  # fmt: skip

            for user, more in (("word", {"password": WORD}), ("both", {"password": WORD}), ("key", {}),
                               ("ask", {"client_factory": Person})):  # fmt: skip
                async with asyncssh.connect(LOOPBACK, **settings(user), **more) as connection:
                    done = await connection.run("x")
                    assert str(done.stdout).startswith(f"hello {user} by ")
                    assert done.exit_status == 3
            assert shown == [("Who", "Two questions.", [("Name: ", True), ("Word: ", False)]),
                             ("", "", [("Once more: ", False)])]  # fmt: skip
            assert steps.rounds == [["ask", WORD, "yes"]]
            with pytest.raises(asyncssh.PermissionDenied):
                await asyncssh.connect(LOOPBACK, **settings("word"), password="wrong")

    talk(check())


def test_paramiko(keys: Keys) -> None:
    require_peer("paramiko")
    import paramiko

    def answer(name: str, text: str, prompts: Any) -> list[str]:
        return ["ask", WORD] if len(prompts) == 2 else ["yes"]

    def log_in(target: Callable[[str], Target]) -> list[Any]:
        """The methods that are left after each step, then the session's output and status."""
        results: list[Any] = []
        for user in ("word", "ask", "both"):
            transport = paramiko.Transport((LOOPBACK, target(user).port))
            try:
                transport.start_client(timeout=20)
                if user == "word":
                    with pytest.raises(paramiko.AuthenticationException):
                        transport.auth_password(user, "wrong", fallback=False)
                    results.append(transport.auth_password(user, WORD, fallback=False))
                elif user == "ask":
                    results.append(transport.auth_interactive(user, answer))
                else:
                    own = paramiko.Ed25519Key.from_private_key_file(str(keys.user().private))
                    results.append(transport.auth_publickey(user, own))
                    results.append(transport.auth_password(user, WORD, fallback=False))
                channel = transport.open_session(timeout=20)
                channel.exec_command("x")
                with channel.makefile("rb") as output:
                    results.append(output.read().decode())
                results.append(channel.recv_exit_status())
            finally:
                transport.close()
        return results

    async def check() -> None:
        async with serving(keys) as (target, _):
            assert await asyncio.to_thread(log_in, target) == [
                [], "hello word by password\n", 3,
                [], "hello ask by keyboard-interactive\n", 3,
                ["password"], [], "hello both by password\n", 3,
            ]  # fmt: skip

    talk(check())


# -- what a handler leaves behind ----------------------------------------------------------------


@pytest.mark.parametrize("name", CLIENTS)
def test_what_a_handler_wrote_arrives_after_it_has_returned(name: str, client: Clients, keys: Keys) -> None:
    """Both streams are far longer than the client's window."""

    async def verbose(session: ServerSession) -> int:
        session.stdout.write(b"o" * 1_000_000)
        session.stderr.write(b"e" * 3_000_000)
        return 5

    async def check() -> None:
        async with serving(keys, verbose) as (target, _):
            own: KeyPair = keys.user()
            done = await asyncio.to_thread(client(name).run, target("key"), "x", identity=own)
            assert (done.returncode, len(done.stdout)) == (5, 1_000_000)
            assert done.stderr.count(b"e" * 1000) == 3000

    talk(check())
