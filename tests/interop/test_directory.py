"""Logins by keys in an LDAP directory: one AuthorizedKeysCommand, under our sshd and two of OpenSSH's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glasshell.errors import AuthenticationFailed
from tests.interop.directory import Directory, directory
from tests.interop.kit import connect, talk
from tests.interop.machine import Machine, MachineGlass, MachineOpenSSH, machine
from tests.interop.peers import Client, Keys, OpenSSHServer, Server, Target

GetClient = Callable[[str], Client]
HOST = Path("/tmp/glasshell-host")
SERVERS = ("glasshell", "openssh-9.2", "openssh-10.6")
CONFIG = """AuthorizedKeysFile none
AuthorizedKeysCommand {script} %u
AuthorizedKeysCommandUser keeper
LogLevel VERBOSE
MaxAuthTries 4
"""


class ChrootOpenSSH(OpenSSHServer):
    """OpenSSH 10.6 in its folder, with the accounts of a machine, and this system's programs under HOST."""

    def __init__(self, where: Machine, keys: Keys, config: str) -> None:
        super().__init__("10.6", keys, extra_config=config)
        self._machine = where

    def _line(self, port: int) -> list[str]:
        line = super()._line(port)
        root, folder = self.place.root, self._machine.folder
        for each in (folder, HOST):  # outside of this process's sight they stay empty
            (root / each.relative_to("/")).mkdir(exist_ok=True)
        # A mount of its own first; the place's own namespace is a copy of this one.
        mounts = (
            f"mount --rbind / {root}{HOST}; mount --bind {self._machine.etc} {root}/etc;"
            f' mount --bind {folder} {root}{folder}; exec "$@"'
        )
        return ["unshare", "--mount", "sh", "-ec", mounts, "sh", *line]


@pytest.fixture(scope="module")
def tree() -> Iterator[Directory]:
    with directory() as running:
        yield running


@pytest.fixture(scope="module")
def here() -> Iterator[Machine]:
    with machine() as made:
        for name in ("ada", "keeper", "nokey"):
            made.add(name)
        yield made


def program(here: Machine, name: str, text: str) -> Path:
    """A command that nobody but root could have written: not below /tmp."""
    path = here.etc / name
    path.write_text(text, "utf-8")
    path.chmod(0o755)
    return Path("/etc") / name


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tree: Directory, here: Machine, keys: Keys) -> Iterator[Server]:
    if request.param == "openssh-10.6":
        # Linked against this system's libraries, and run by this system's loader.
        (linker,) = Path("/lib64").glob("ld-linux-*")
        linker = linker.resolve()  # a link would lead to the loader of that folder
        ldapsearch = f"{HOST}{linker} --library-path {HOST}{linker.parent} {HOST}/usr/bin/ldapsearch"
        config = CONFIG.format(script=program(here, "ask-newest", tree.script(ldapsearch)))
        made: Server = ChrootOpenSSH(here, keys, config)
    else:
        config = CONFIG.format(script=program(here, "ask", tree.script()))
        made = (
            MachineGlass(here, keys, config)
            if request.param == "glasshell"
            else MachineOpenSSH(here, keys, config, "sshd")
        )
    with made as running:
        yield running


def login(server: Server, client: Client, keys: Keys, user: str, kind: str = "ed25519") -> str:
    """What `ssh USER@server` prints, and when it is refused, why, as it says."""
    target = Target(server.target.port, user, server.target.host_keys)
    done = client.run(target, "echo in as $(id -un) $SSH_ORIGINAL_COMMAND", identity=keys.user(kind))
    return (done.stdout + done.stderr).decode().strip().splitlines()[-1]


DENIED = "Permission denied (publickey"


@pytest.mark.parametrize("name", ["openssh-9.2", "openssh-10.6"])
def test_keys_come_and_go_with_the_directory(
    name: str, server: Server, tree: Directory, client: GetClient, keys: Keys
) -> None:
    ssh = client(name)
    user = keys.user().public
    tree.add("ada", keys.user("ecdsa").public, user)
    try:
        assert login(server, ssh, keys, "ada") == "in as ada"
        assert login(server, ssh, keys, "ada", "ecdsa") == "in as ada"
        assert DENIED in login(server, ssh, keys, "ada", "rsa")
        assert DENIED in login(server, ssh, keys, "nokey")
        tree.keep("ada", f'restrict,command="echo held to this" {user}')
        assert login(server, ssh, keys, "ada") == "held to this"
        tree.keep("ada", f'from="192.0.2.1" {user}')
        assert DENIED in login(server, ssh, keys, "ada")
        tree.keep("ada")
        assert DENIED in login(server, ssh, keys, "ada")
    finally:
        tree.remove("ada")


def test_our_client(server: Server, tree: Directory, keys: Keys) -> None:
    async def check() -> None:
        target = Target(server.target.port, "nokey", server.target.host_keys)
        with pytest.raises(AuthenticationFailed):
            await connect(target, keys)
        tree.add("nokey", keys.user().public)
        async with connect(target, keys) as connection:
            assert (await connection.run("id -un")).stdout == "nokey\n"

    try:
        talk(check())
    finally:
        tree.remove("nokey")


def test_a_directory_that_is_down_lets_nobody_in_and_is_told_of(
    server: Server, tree: Directory, client: GetClient, keys: Keys
) -> None:
    tree.stop()
    try:
        began = time.monotonic()
        assert DENIED in login(server, client("openssh-10.6"), keys, "ada")
        assert time.monotonic() - began < 10
    finally:
        tree.start()
    assert "AuthorizedKeysCommand" in server.log
    assert "failed, status 1" in server.log
