"""AuthenticationMethods with real clients: several steps, each of which restricts the login."""

from __future__ import annotations

import asyncio
import getpass
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest

import glasshell
from glasshell.aio.shellgate import AccountGatekeeper
from glasshell.aio.shellserver import run_program
from glasshell.aio.ways import Candidate, Outcome, Passed, Way, enabled_ways
from glasshell.config.options import ServerOptions
from glasshell.events import Prompts, PromptText
from glasshell.keys.authorized_keys import Permissions
from glasshell.keys.openssh import load_private_key
from glasshell.wire import Secret
from tests.interop.kit import talk
from tests.interop.peers import LOOPBACK, Client, Keys, Target

Clients = Callable[[str], Client]
OPENSSH = ("openssh-9.2", "openssh-10.6")
ME = getpass.getuser()
WORD = "correct horse"


class Word(Way):
    """One password for everybody, whose logins get no terminal."""

    method: ClassVar[str] = "password"

    async def password(self, who: Candidate, password: Secret, new: Secret | None) -> Outcome:
        return Passed(Permissions(pty=False)) if password == Secret(WORD) else None


class Code(Way):
    """Two rounds; whoever comes this way may forward nothing."""

    method: ClassVar[str] = "keyboard-interactive"
    submethod: ClassVar[str] = "pam"

    def __init__(self, gate: AccountGatekeeper) -> None:
        super().__init__(gate)
        self._round = 0

    async def interactive(self, who: Candidate, submethods: str) -> Outcome:
        self._round = 1
        return Prompts((PromptText("Code: ", False),))

    async def answers(self, who: Candidate, answers: Sequence[Secret]) -> Outcome:
        if answers[0] != Secret(str(self._round)):
            return None
        self._round += 1
        return Prompts((PromptText("Code: ", False),)) if self._round == 2 else Passed()


@asynccontextmanager
async def serving(keys: Keys, folder: Path, *methods: str, authorized: str = "") -> AsyncIterator[Target]:
    (folder / "authorized_keys").write_text(authorized or keys.authorized())
    options = ServerOptions(
        authentication_methods=methods, root_login="yes", strict_modes=False,
        authorized_keys=(str(folder / "authorized_keys"),), print_motd=False,
    )  # fmt: skip
    ways = {**enabled_ways(options), "password": Word, "keyboard-interactive": Code}
    gate = AccountGatekeeper(options, ways=ways)
    host_key = load_private_key(keys.host().private.read_bytes())
    async with glasshell.serve(
        LOOPBACK, 0, host_keys=[host_key], gatekeeper=gate, handler=run_program
    ) as server:
        yield Target(server.port, ME, (keys.host().public,))


async def ssh(
    peer: Client,
    target: Target,
    keys: Keys,
    kinds: Sequence[str] = (),
    *options: str,
    command: str = "echo in",
) -> subprocess.CompletedProcess[str]:
    """ssh(1) with these kinds of keys, whose questions are answered: the word, and 1 and 2 to the codes."""
    words = ["-v", "-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1", *options]
    line = peer.argv(target, *words, identity=keys.user(kinds[0]) if kinds else None)
    (known,) = [word for word in line if word.startswith("UserKnownHostsFile=")]
    home = peer.place.root / Path(known.partition("=/")[2]).parent.parent
    more = [keys.user(kind).copy_to(home) for kind in kinds[1:]]
    at = line.index("-F")
    line[at:at] = [word for path in more for word in ("-i", peer.place.inside(path))]
    script = home / "ask"
    script.write_text(
        f"#!/bin/sh\ncase $1 in\n*assword*) echo '{WORD}';;\n*Code*) echo x >> {peer.place.inside(home)}/n;"
        f" wc -l < {peer.place.inside(home)}/n;;\nesac\n"
    )
    script.chmod(0o755)
    at = line.index("-i", next(i for i, word in enumerate(line) if word.endswith("/env"))) + 1
    line[at:at] = ["SSH_ASKPASS_REQUIRE=force", f"SSH_ASKPASS={peer.place.inside(script)}"]
    return await asyncio.to_thread(
        subprocess.run, [*line, command], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        timeout=30, check=False, start_new_session=True,
    )  # type: ignore[return-value]  # fmt: skip


def continuing(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the server said could continue, each time."""
    mark = "Authentications that can continue: "
    return [line.partition(mark)[2].strip() for line in done.stderr.splitlines() if mark in line]


@pytest.mark.parametrize("name", OPENSSH)
@pytest.mark.parametrize(
    ("methods", "kinds", "told"),
    [
        (["publickey,password"], ["ed25519"], ["publickey", "password"]),
        (["publickey,publickey"], ["ed25519", "ecdsa"], ["publickey", "publickey"]),
        (["publickey,keyboard-interactive"], ["ed25519"], ["publickey", "keyboard-interactive"]),
        (["publickey,keyboard-interactive:pam"], ["ed25519"], ["publickey", "keyboard-interactive"]),
        (["password,publickey", "keyboard-interactive"], ["ed25519"],
         ["password,keyboard-interactive"]),
        (["any"], ["ed25519"], ["publickey,password,keyboard-interactive"]),
    ],
    ids=lambda value: value[0].replace(",", "+") if isinstance(value, list) else "",
)  # fmt: skip
def test_steps(
    name: str, methods: list[str], kinds: list[str], told: list[str], client: Clients, keys: Keys,
    tmp_path: Path,
) -> None:  # fmt: skip
    async def check() -> None:
        async with serving(keys, tmp_path, *methods) as target:
            done = await ssh(client(name), target, keys, kinds)
            assert (done.stdout, done.returncode) == ("in\n", 0), done.stderr
            assert continuing(done) == told

    talk(check())


@pytest.mark.parametrize(
    ("methods", "kinds", "options"),
    [
        (["publickey,publickey"], ["ed25519"], ()),  # one key counts once
        (["publickey,password"], ["ed25519"], ("-o", "PreferredAuthentications=publickey")),
        (["publickey,password"], [], ()),
        (["publickey,keyboard-interactive:bsdauth"], ["ed25519"], ()),
        (["publickey,hostbased"], ["ed25519"], ()),  # not to be had: nobody gets in
    ],
    ids=lambda value: value[0].replace(",", "+") if isinstance(value, list) and value else "",
)
def test_half_the_steps_are_none(
    methods: list[str], kinds: list[str], options: Sequence[str], client: Clients, keys: Keys, tmp_path: Path
) -> None:
    async def check() -> None:
        async with serving(keys, tmp_path, *methods) as target:
            done = await ssh(client("openssh-10.6"), target, keys, kinds, *options)
            assert (done.stdout, done.returncode) == ("", 255), done.stderr

    talk(check())


def test_c16_restrictions_of_every_step_hold(client: Clients, keys: Keys, tmp_path: Path) -> None:
    """The command of the first key, the second one's ban on forwarding, and that of the word on terminals."""
    lines = (
        f'command="echo forced; env",no-agent-forwarding {keys.user("ed25519").public}\n'
        f"no-port-forwarding {keys.user('ecdsa').public}\n"
    )

    async def check() -> None:
        async with serving(keys, tmp_path, "publickey,publickey,password", authorized=lines) as target:
            forward = ("-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9")
            peer = client("openssh-10.6")
            done = await ssh(peer, target, keys, ["ed25519", "ecdsa"])
            assert done.stdout.startswith("forced\n"), done.stderr
            assert "SSH_ORIGINAL_COMMAND=echo in" in done.stdout
            done = await ssh(peer, target, keys, ["ed25519", "ecdsa"], "-tt")
            assert "PTY allocation request failed" in done.stderr
            done = await ssh(peer, target, keys, ["ecdsa", "ed25519"], *forward)
            assert (done.stdout, done.returncode) == ("", 255)
            assert "remote port forwarding failed" in done.stderr

    talk(check())
