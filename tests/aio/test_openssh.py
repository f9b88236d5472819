"""Our client against sshd, and ssh against our server."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import glasshell
from glasshell.aio.connecting import Connecting
from glasshell.aio.gatekeeper import KnownUsers
from glasshell.aio.process import Terminal
from glasshell.errors import AuthenticationFailed, HostKeyRefused
from glasshell.keys.known_hosts import KnownHosts, format_entry
from glasshell.keys.public import load_public_key
from glasshell.policy import Policy
from tests.aio.kit import HOST_KEY, STRANGER, program, run, serving
from tests.interop.peers import Keys, OpenSSHServer, require_peer

pytestmark = pytest.mark.interop

DATA = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    require_peer("openssh-9.2")
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def sshd(keys: Keys) -> Iterator[OpenSSHServer]:
    with OpenSSHServer("9.2", keys) as server:
        yield server


def connecting(sshd: OpenSSHServer, made: Keys, **changes: Any) -> Connecting:
    """A client of that server."""
    target = sshd.target
    settings: dict[str, Any] = {
        "user": target.user, "keys": [made.user().private], "agent": False,
        "known_hosts": KnownHosts.parse(target.known_hosts()),
    }  # fmt: skip
    return glasshell.connect(target.host, target.port, **{**settings, **changes})


def test_a_command_its_streams_and_its_status(sshd: OpenSSHServer, keys: Keys) -> None:
    async def main() -> None:
        async with connecting(sshd, keys) as connection:
            done = await connection.run("echo out; echo err >&2; exit 3")
            assert (done.stdout, done.stderr, done.status) == ("out\n", "err\n", 3)
            killed = await connection.run("kill -TERM $$")
            assert (killed.status, killed.signal) == (None, "TERM")
            env = {"LANG": "C.UTF-8", "GLASSHELL_X": "y"}
            done = await connection.run("echo $LANG $GLASSHELL_X", env=env)
            assert done.stdout == "C.UTF-8 y\n"
            assert "OpenSSH" in connection.peer_software

    run(main())


@pytest.mark.parametrize("rekey", [1 << 30, 1 << 20])
def test_megabytes_both_ways_also_while_rekeying(sshd: OpenSSHServer, keys: Keys, rekey: int) -> None:
    async def main() -> None:
        async with connecting(sshd, keys, policy=Policy.client(rekey_bytes=rekey)) as connection:
            works = [connection.run("cat", input=DATA, encoding=None) for _ in range(3)]
            assert all(done.stdout == DATA for done in await asyncio.gather(*works))

    run(main())


def test_a_terminal_and_its_size(sshd: OpenSSHServer, keys: Keys) -> None:
    async def main() -> None:
        async with connecting(sshd, keys) as connection:
            process = await connection.open("stty size; read x; stty size", pty=Terminal("vt100", 81, 25))
            assert await process.stdout.readline() == b"25 81\r\n"
            process.resize(132, 43)
            process.stdin.write(b"\n")
            assert (await process.stdout.read()).endswith(b"43 132\r\n")
            assert await process.wait() == 0

    run(main())


def test_keys_that_sshd_does_not_take_and_a_host_key_that_changed(sshd: OpenSSHServer, keys: Keys) -> None:
    async def main() -> None:
        with pytest.raises(AuthenticationFailed) as caught:
            await connecting(sshd, keys, keys=[STRANGER])
        assert [a.answer for a in caught.value.attempts] == ["refused", "refused"]
        with pytest.raises(HostKeyRefused):
            await connecting(sshd, keys, known_hosts=STRANGER.public)

    run(main())


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_every_kind_of_user_key(sshd: OpenSSHServer, keys: Keys, kind: str) -> None:
    async def main() -> None:
        async with connecting(sshd, keys, keys=[keys.user(kind).private]) as connection:
            assert (await connection.run("true")).ok

    run(main())


def test_forwardings_through_sshd(sshd: OpenSSHServer, keys: Keys) -> None:
    port = sshd.target.port

    async def banner(at: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", at)
        line = await reader.readline()
        writer.close()
        return line

    async def main() -> None:
        async with connecting(sshd, keys) as connection:
            async with await connection.forward_local(("127.0.0.1", 0), ("127.0.0.1", port)) as local:
                assert (await banner(local.port)).startswith(b"SSH-2.0-OpenSSH")
            async with await connection.forward_remote(("localhost", 0), ("127.0.0.1", port)) as remote:
                assert (await banner(remote.port)).startswith(b"SSH-2.0-OpenSSH")
            async with await connection.open_tcp("127.0.0.1", port) as channel:
                assert (await channel.reader.readline()).startswith(b"SSH-2.0-OpenSSH")

    run(main())


# --- ssh against our server


async def ssh(
    folder: Path, port: int, keys: Keys, *words: str, stdin: bytes = b""
) -> tuple[int, bytes, bytes]:
    """ssh(1): its exit status and what it wrote."""
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(format_entry("127.0.0.1", port, HOST_KEY.public))
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/ssh", "-F", "none", "-p", str(port), "-i", str(keys.user().private), "-l", "ada",
        "-o", f"UserKnownHostsFile={known_hosts}", "-o", "BatchMode=yes", "-o", "IdentityAgent=none",
        *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(stdin)
    return process.returncode or 0, out, err


@pytest.fixture
def users(keys: Keys) -> KnownUsers:
    return KnownUsers(keys={"ada": [load_public_key(keys.user().public)[0]]})


def test_ssh_runs_a_command_here(tmp_path: Path, keys: Keys, users: KnownUsers) -> None:
    async def main() -> None:
        async with serving(gatekeeper=users, handler=program) as server:
            status, out, err = await ssh(tmp_path, server.port, keys, "127.0.0.1", "hello")
            assert (status, out[:10], err) == (0, b"exec hello", b"to stderr")
            assert (await ssh(tmp_path, server.port, keys, "127.0.0.1", "exit 9"))[0] == 9
            assert (await ssh(tmp_path, server.port, keys, "127.0.0.1", "die"))[0] == 255

    run(main())


def test_ssh_moves_megabytes_while_rekeying(tmp_path: Path, keys: Keys, users: KnownUsers) -> None:
    async def main() -> None:
        async with serving(gatekeeper=users, handler=program) as server:
            words = ("-o", "RekeyLimit=1M", "127.0.0.1", "cat")
            status, out, _ = await ssh(tmp_path, server.port, keys, *words, stdin=DATA)
            assert status == 0
            assert out == DATA

    run(main())


def test_ssh_learns_our_other_host_keys(tmp_path: Path, keys: Keys, users: KnownUsers) -> None:
    async def main() -> None:
        async with serving(gatekeeper=users, handler=program, host_keys=[HOST_KEY, STRANGER]) as server:
            words = ("-o", "UpdateHostKeys=yes", "127.0.0.1", "exit 0")
            assert (await ssh(tmp_path, server.port, keys, *words))[0] == 0
            known = KnownHosts.parse((tmp_path / "known_hosts").read_text())
            assert {entry.blob for entry in known.lookup("127.0.0.1", server.port)} == {
                HOST_KEY.public.blob, STRANGER.public.blob,
            }  # fmt: skip

    run(main())
