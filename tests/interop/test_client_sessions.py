"""Programs run by our client on real servers at their defaults: output, status, bulk, terminals, channels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from glasshell.aio.connecting import Connecting
from glasshell.aio.process import Terminal
from glasshell.errors import ChannelOpenFailed, ConnectionClosed, NegotiationFailed, RequestFailed
from glasshell.policy import MIB, Policy
from tests.interop.conftest import SERVERS, Start
from tests.interop.kit import (
    TEN_MB,
    Exchanges,
    connect,
    digest,
    file_with,
    payload,
    talk,
)
from tests.interop.peers import Keys, OpenSSHServer, PythonServer, Server

Servers = Callable[[str], Server]

OPENSSH = ("openssh-9.2", "openssh-10.6")
ONE_CHANNEL = ("tinysshd", "tinysshd-newest")
"""Servers that end the connection with its first session."""
MANY_CHANNELS = [name for name in SERVERS if name not in ONE_CHANNEL]
SIGNALS = [name for name in SERVERS if name not in ("paramiko", *ONE_CHANNEL)]
"""Servers that tell a signal from a status (RFC 4254 §6.10)."""


def dial(name: str, server: Servers, keys: Keys, **changes: Any) -> Connecting:
    """Our client at its defaults, but for Debian 12's tinysshd, which has nothing that is safe."""
    policy = Policy.client(allow_terrapin=name == "tinysshd", login_grace=0.0)
    return connect(server(name).target, keys, **{"policy": policy, **changes})


@pytest.mark.parametrize("name", SERVERS)
def test_a_command_gives_output_errors_and_status(name: str, server: Servers, keys: Keys) -> None:
    async def check() -> None:
        async with dial(name, server, keys) as connection:
            done = await connection.run("cat; echo wrong >&2; exit 7", input="in\n")
            assert (done.stdout, done.stderr, done.status, done.signal) == ("in\n", "wrong\n", 7, "")

    talk(check())


@pytest.mark.parametrize("name", MANY_CHANNELS)
def test_output_that_never_ends_can_be_left(name: str, server: Servers, keys: Keys) -> None:
    """The channel is closed while its window is full."""

    async def check() -> None:
        async with dial(name, server, keys) as connection:
            async with await connection.open("cat /dev/zero") as process:
                assert await process.stdout.readexactly(100_000) == bytes(100_000)
            if "dropbear" not in name:  # it answers CLOSE when the program has ended, and that waits for it
                await process.io.wait_closed()
            assert (await connection.run("echo ok")).stdout == "ok\n"

    talk(check())


@pytest.mark.parametrize("name", SIGNALS)
def test_the_signal_that_ended_a_program(name: str, server: Servers, keys: Keys) -> None:
    async def check() -> None:
        async with dial(name, server, keys) as connection:
            done = await connection.run("kill -TERM $$")
            assert (done.status, done.signal) == (None, "TERM")

    talk(check())


def test_a_signal_reaches_the_program(server: Servers, keys: Keys) -> None:
    """10.6; older ones do not signal the programs of root."""

    async def check() -> None:
        async with dial("openssh-10.6", server, keys) as connection:
            process = await connection.open("trap 'echo caught; exit 5' USR1; echo ready; read _")
            assert await process.stdout.readexactly(6) == b"ready\n"
            process.send_signal("USR1")
            assert await process.stdout.read() == b"caught\n"
            assert await process.wait() == 5

    talk(check())


@pytest.mark.parametrize("name", [*OPENSSH, "asyncssh", "paramiko"])
def test_the_environment_is_passed_on(name: str, server: Servers, keys: Keys) -> None:
    async def check() -> None:
        async with dial(name, server, keys) as connection:
            done = await connection.run("echo $GLASSHELL_WORD", env={"GLASSHELL_WORD": "ümlaut"})
            assert done.stdout == "ümlaut\n"

    talk(check())


# -- ten megabytes -------------------------------------------------------------------------------


def rekeying(name: str, keys: Keys) -> Server:
    """A server that exchanges keys anew after each mebibyte; those that cannot be told so as they are."""
    if name in OPENSSH:
        return OpenSSHServer(name.removeprefix("openssh-"), keys, extra_config="RekeyLimit 1M")
    if name in ("asyncssh", "paramiko"):
        return PythonServer(name, keys, rekey_bytes=MIB)
    return SERVERS[name](keys)


async def both_ways(connecting: Callable[[], Connecting], server: Server) -> None:
    """10 MB there and 10 MB back, on a connection each: some servers have one session only."""
    data = payload(TEN_MB)
    async with connecting() as connection:
        assert (await connection.run("sha256sum", input=data)).stdout == digest(data)
    async with connecting() as connection:
        done = await connection.run(f"cat {file_with(server, data)}", encoding=None)
        assert (done.status, hashlib.sha256(done.stdout).digest()) == (0, hashlib.sha256(data).digest())


@pytest.mark.parametrize("name", [*OPENSSH, "asyncssh", "paramiko"])
def test_ten_megabytes_each_way_while_the_server_changes_keys(name: str, start: Start, keys: Keys) -> None:
    server = start(rekeying(name, keys))
    exchanges = Exchanges()
    talk(both_ways(lambda: connect(server.target, keys, sinks=[exchanges]), server))
    # OpenSSH counts each direction, the others what they send.
    assert exchanges.by["peer"] >= (16 if name in OPENSSH else 8), exchanges.by
    assert exchanges.by["us"] == 0


@pytest.mark.parametrize("name", SERVERS)
def test_ten_megabytes_each_way_while_we_change_keys(name: str, server: Servers, keys: Keys) -> None:
    exchanges = Exchanges()
    policy = Policy.client(allow_terrapin=name == "tinysshd", login_grace=0.0, rekey_bytes=MIB)
    talk(both_ways(lambda: dial(name, server, keys, policy=policy, sinks=[exchanges]), server(name)))
    # A full window may arrive before the peer has answered a KEXINIT, and counts under the old keys.
    assert exchanges.by["us"] >= 6, exchanges.by


@pytest.mark.parametrize("name", [*OPENSSH, "asyncssh", "paramiko"])
def test_ten_megabytes_both_ways_at_once_while_both_change_keys(name: str, start: Start, keys: Keys) -> None:
    """KEXINITs of both sides cross, in the middle of data in both directions."""
    server = start(rekeying(name, keys))
    exchanges = Exchanges()
    policy = Policy.client(login_grace=0.0, rekey_bytes=MIB)
    data = payload(TEN_MB)

    async def check() -> None:
        async with connect(server.target, keys, policy=policy, sinks=[exchanges]) as connection:
            assert (await connection.run("cat", input=data, encoding=None)).stdout == data

    talk(check())
    assert sum(exchanges.by.values()) >= 6, exchanges.by


# -- terminals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVERS)
def test_a_terminal_has_its_type_and_size(name: str, server: Servers, keys: Keys) -> None:
    async def check() -> None:
        async with dial(name, server, keys) as connection:
            terminal = Terminal("vt220", columns=101, rows=37)
            process = await connection.open('stty size; echo "$TERM"; tty', pty=terminal)
            # The end of input would hang the terminal up at dropbear and tinysshd, so it stays open.
            shown = (await process.stdout.read()).split()
            assert shown[:3] == [b"37", b"101", b"vt220"]
            assert shown[3].startswith(b"/dev/pts/")
            assert await process.wait() == 0

    talk(check())


@pytest.mark.parametrize("name", SERVERS)
def test_a_terminal_changes_its_size(name: str, server: Servers, keys: Keys) -> None:
    async def check() -> None:
        async with dial(name, server, keys) as connection:
            process = await connection.open("stty -echo; stty size; read _; stty size", pty=Terminal())
            assert await process.stdout.readexactly(7) == b"24 80\r\n"
            process.resize(132, 50)
            process.stdin.write(b"\n")
            assert await process.stdout.readexactly(8) == b"50 132\r\n"

    talk(check())


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "paramiko"])
def test_a_shell_takes_typed_lines(name: str, server: Servers, keys: Keys) -> None:
    """What is typed is echoed, ^C interrupts, and the shell's status arrives."""

    async def check() -> None:
        async with dial(name, server, keys) as connection:
            shell = await connection.open(pty=Terminal("dumb"))
            shell.stdin.write(b"PS1='pro''mpt> '; echo 'be''gin'; cat\n")
            await shell.stdout.readuntil(b"begin\r\n")
            shell.stdin.write(b"twice\n")
            await shell.stdout.readuntil(b"twice\r\ntwice\r\n")
            shell.stdin.write(b"\x03")
            await shell.stdout.readuntil(b"prompt> ")
            shell.stdin.write(b"echo 'st''ill here'; exit 3\n")
            await shell.stdout.readuntil(b"still here\r\n")
            assert await shell.wait() == 3

    talk(check())


@pytest.mark.parametrize("name", OPENSSH)
def test_terminal_modes_are_set(name: str, server: Servers, keys: Keys) -> None:
    """VINTR (1) and ECHO (53) of RFC 4254 §8."""

    async def check() -> None:
        async with dial(name, server, keys) as connection:
            terminal = Terminal(modes={1: 0x07, 53: 0})
            shown = (await connection.run("stty -a", pty=terminal)).stdout
            assert "intr = ^G;" in shown
            assert "-echo " in shown

    talk(check())


# -- many channels -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANY_CHANNELS)
def test_many_channels_at_once(name: str, server: Servers, keys: Keys) -> None:
    """All are open before the first is answered, and they are answered in reverse."""

    async def check() -> None:
        async with dial(name, server, keys) as connection:
            processes = [await connection.open("read word; echo $word; cat | wc -c") for _ in range(8)]
            for number, process in reversed(list(enumerate(processes))):
                done = await process.communicate(b"%d\n" % number + bytes(100_000 + number))
                assert done.stdout.split() == [b"%d" % number, b"%d" % (100_000 + number)]

    talk(check())


@pytest.mark.parametrize("name", MANY_CHANNELS)
def test_a_channel_that_is_not_read_holds_up_no_other(name: str, server: Servers, keys: Keys) -> None:
    async def check() -> None:
        async with dial(name, server, keys) as connection, await connection.open("cat /dev/zero") as stuck:
            assert await stuck.stdout.readexactly(10) == bytes(10)
            data = payload(3 * MIB)
            assert (await connection.run("cat", input=data, encoding=None)).stdout == data

    talk(check())


def test_one_session_too_many_is_refused_and_the_rest_live(start: Start, keys: Keys) -> None:
    server = start(OpenSSHServer("10.6", keys, extra_config="MaxSessions 2"))

    async def check() -> None:
        async with connect(server.target, keys) as connection:
            first, second = [await connection.open("read _; echo ok") for _ in range(2)]
            with pytest.raises(ChannelOpenFailed):
                await connection.run("echo third")
            for process in (second, first):
                assert (await process.communicate(b"\n")).stdout == b"ok\n"

    talk(check())


# -- what is refused or ends ---------------------------------------------------------------------


@pytest.mark.parametrize("name", [*OPENSSH, "dropbear", "dropbear-newest"])
def test_a_subsystem_that_is_not_there(name: str, server: Servers, keys: Keys) -> None:
    async def check() -> None:
        async with dial(name, server, keys) as connection:
            with pytest.raises(RequestFailed, match="subsystem request failed on channel 0"):
                await connection.open(subsystem="no-such-thing")

    talk(check())


@pytest.mark.parametrize("name", OPENSSH)
def test_a_terminal_that_is_not_granted(name: str, start: Start, keys: Keys) -> None:
    server = start(OpenSSHServer(name.removeprefix("openssh-"), keys, extra_config="PermitTTY no"))

    async def check() -> None:
        async with connect(server.target, keys) as connection:
            with pytest.raises(RequestFailed, match="PTY allocation request failed"):
                await connection.open(pty=Terminal())
            assert (await connection.run("echo still here")).stdout == "still here\n"

    talk(check())


@pytest.mark.parametrize("name", OPENSSH)
def test_a_server_that_dies_ends_what_runs(name: str, server: Servers, keys: Keys) -> None:
    """The session's sshd is the parent of its command."""

    async def check() -> None:
        async with dial(name, server, keys) as connection:
            with pytest.raises(ConnectionClosed) as caught:
                await connection.run("kill -KILL $PPID; read _", input=None)
            assert connection.closed
            assert str(caught.value)

    talk(check())


def test_terrapin_is_refused_in_one_sentence(server: Servers, keys: Keys) -> None:
    """Debian 12's tinysshd: chacha20-poly1305 only, and no strict key exchange."""

    async def check() -> None:
        with pytest.raises(NegotiationFailed) as caught:
            await connect(server("tinysshd").target, keys)
        assert "Terrapin" in str(caught.value)
        assert "AllowTerrapin" in str(caught.value) + caught.value.hint
        assert "\n" not in str(caught.value)

    talk(check())
