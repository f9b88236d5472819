"""`glasshell sshd` as asyncssh's and paramiko's clients see it, and what its host key is to each client."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from glasshell.policy import MIB
from tests.interop.conftest import CLIENTS
from tests.interop.glass import GlassServer
from tests.interop.kit import TEN_MB, digest, echo, file_with, payload, talk, there_and_back
from tests.interop.peers import LOOPBACK, Client, Keys, Server, Target, require_peer

Clients = Callable[[str], Client]


@pytest.fixture(scope="module")
def glass(keys: Keys) -> Iterator[Server]:
    """The server at its defaults, so that it is the client that changes keys."""
    with GlassServer(keys, "AcceptEnv GLASS_*") as server:
        yield server


@pytest.fixture(scope="module")
def rekeying(keys: Keys) -> Iterator[Server]:
    """The server that changes keys after each mebibyte."""
    with GlassServer(keys, "RekeyLimit 1M") as server:
        yield server


# -- asyncssh ------------------------------------------------------------------------------------


def asyncssh_at(target: Target, keys: Keys, **changes: Any) -> Any:
    """asyncssh's client at its defaults, with a key that is accepted and host keys that are known."""
    require_peer("asyncssh")
    import asyncssh

    settings: dict[str, Any] = {
        "port": target.port, "username": target.user, "client_keys": [str(keys.user().private)],
        "known_hosts": asyncssh.import_known_hosts(target.known_hosts()), "config": None, "agent_path": None,
        "encoding": None, **changes,
    }  # fmt: skip
    return asyncssh.connect(target.host, **settings)


def test_asyncssh_runs_a_command(glass: Server, keys: Keys) -> None:
    async def check() -> None:
        async with asyncssh_at(glass.target, keys) as connection:
            done = await connection.run("cat; echo wrong >&2; exit 7", input=b"in\n")
            assert (done.stdout, done.stderr, done.exit_status) == (b"in\n", b"wrong\n", 7)
            done = await connection.run("kill -TERM $$")
            assert done.exit_signal[0] == "TERM"
            done = await connection.run('echo "$GLASS_WORD"', env={"GLASS_WORD": "word"})
            assert done.stdout == b"word\n"

    talk(check())


@pytest.mark.parametrize("kex", ["mlkem768nistp256-sha256", "mlkem1024nistp384-sha384"])
def test_asyncssh_has_the_hybrids_with_nist_curves(kex: str, keys: Keys) -> None:
    async def check(target: Target) -> None:
        async with asyncssh_at(target, keys, kex_algs=[kex]) as connection:
            assert (await connection.run("echo ok")).stdout == b"ok\n"

    with GlassServer(keys, f"KexAlgorithms {kex}") as server:
        talk(check(server.target))


@pytest.mark.parametrize("who", ["client", "server", "both"])
def test_asyncssh_moves_ten_megabytes_each_way_under_new_keys(
    who: str, glass: Server, rekeying: Server, keys: Keys
) -> None:
    server = glass if who == "client" else rekeying
    data = payload(TEN_MB)

    async def check() -> None:
        changes = {} if who == "server" else {"rekey_bytes": MIB}
        async with asyncssh_at(server.target, keys, **changes) as connection:
            assert (await connection.run("sha256sum", input=data)).stdout.decode() == digest(data)
            done = await connection.run(f"cat {file_with(server, data)}")
            assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
            done = await connection.run("cat", input=data)
            assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()

    talk(check())


def test_asyncssh_has_a_terminal_that_changes_its_size(glass: Server, keys: Keys) -> None:
    async def check() -> None:
        async with asyncssh_at(glass.target, keys) as connection:
            command = 'stty -echo; echo "$TERM"; stty size; read _; stty size; tty'
            process = await connection.create_process(command, term_type="vt220", term_size=(101, 37))
            assert await process.stdout.readuntil(b"37 101\r\n") == b"vt220\r\n37 101\r\n"
            process.change_terminal_size(132, 50)
            process.stdin.write(b"\n")
            shown = await process.stdout.read()
            assert re.fullmatch(rb"50 132\r\n/dev/pts/\d+\r\n", shown)

    talk(check())


def test_asyncssh_signals_a_program(glass: Server, keys: Keys) -> None:
    async def check() -> None:
        async with asyncssh_at(glass.target, keys) as connection:
            process = await connection.create_process("trap 'echo caught; exit 5' USR1; echo ready; read _")
            assert await process.stdout.readline() == b"ready\n"
            process.send_signal("USR1")
            done = await process.wait()
            assert (done.stdout, done.exit_status) == (b"caught\n", 5)

    talk(check())


def test_asyncssh_has_many_channels_at_once(glass: Server, keys: Keys) -> None:
    async def check() -> None:
        async with asyncssh_at(glass.target, keys) as connection:
            command = "read word; echo $word; cat | wc -c"
            processes = [await connection.create_process(command) for _ in range(8)]
            for number, process in reversed(list(enumerate(processes))):
                process.stdin.write(b"%d\n" % number + bytes(100_000 + number))
                process.stdin.write_eof()
                done = await process.wait()
                assert done.stdout.split() == [b"%d" % number, b"%d" % (100_000 + number)]

    talk(check())


def test_asyncssh_forwards_both_ways(glass: Server, keys: Keys) -> None:
    import asyncssh

    data = payload(300_000)

    async def check() -> None:
        async with echo() as port, asyncssh_at(glass.target, keys) as connection:
            local = await connection.forward_local_port(LOOPBACK, 0, LOOPBACK, port)
            assert await there_and_back(local.get_port(), data) == data
            remote = await connection.forward_remote_port(LOOPBACK, 0, LOOPBACK, port)
            assert await there_and_back(remote.get_port(), data) == data
        async with asyncssh_at(glass.target, keys) as connection:
            with pytest.raises(asyncssh.ChannelOpenError) as caught:
                await connection.open_connection(LOOPBACK, port)
            assert caught.value.code == 2  # SSH_OPEN_CONNECT_FAILED

    talk(check())


def test_asyncssh_moves_files(glass: Server, keys: Keys) -> None:
    data = payload(1_000_000)

    async def check() -> None:
        async with asyncssh_at(glass.target, keys) as connection, connection.start_sftp_client() as sftp:
            async with sftp.open(str(glass.folder / "there"), "wb") as file:
                await file.write(data)
            async with sftp.open(str(glass.folder / "there"), "rb") as file:
                assert await file.read() == data

    talk(check())


def test_asyncssh_with_a_wrong_key_and_a_changed_host_key(glass: Server, keys: Keys) -> None:
    import asyncssh

    changed = replace(glass.target, host_keys=(keys.stranger().public,))

    async def check() -> None:
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh_at(glass.target, keys, client_keys=[str(keys.stranger().private)])
        with pytest.raises(asyncssh.HostKeyNotVerifiable):
            await asyncssh_at(changed, keys)

    talk(check())


# -- paramiko ------------------------------------------------------------------------------------


@pytest.fixture
def paramiko_client(keys: Keys, tmp_path: Any) -> Iterator[Callable[..., Any]]:
    """paramiko_client(target, key): paramiko's client at its defaults, connected."""
    require_peer("paramiko")
    import paramiko

    clients = []

    def connect(target: Target, key: str | list[str] | None = None) -> Any:
        made = paramiko.SSHClient()
        clients.append(made)
        (tmp_path / "known_hosts").write_text(target.known_hosts())
        made.load_host_keys(str(tmp_path / "known_hosts"))
        made.set_missing_host_key_policy(paramiko.RejectPolicy())
        made.connect(
            target.host, target.port, target.user, key_filename=key or str(keys.user().private),
            allow_agent=False, look_for_keys=False, timeout=20,
        )  # fmt: skip
        return made

    yield connect
    for made in clients:
        made.close()


def test_paramiko_runs_a_command(glass: Server, paramiko_client: Callable[..., Any]) -> None:
    client = paramiko_client(glass.target)
    stdin, stdout, stderr = client.exec_command("cat; echo wrong >&2; exit 7", timeout=20)
    stdin.write("in\n")
    stdin.channel.shutdown_write()
    assert (stdout.read(), stderr.read()) == (b"in\n", b"wrong\n")
    assert stdout.channel.recv_exit_status() == 7


@pytest.mark.parametrize("who", ["client", "server"])
def test_paramiko_moves_ten_megabytes_each_way_under_new_keys(
    who: str, glass: Server, rekeying: Server, paramiko_client: Callable[..., Any]
) -> None:
    """What paramiko begins while it receives is left out, and both sides at once: now and then it waits
    in vain for the end of such an exchange, with OpenSSH's sshd as with ours. OpenSSH and asyncssh do both.
    """
    server = glass if who == "client" else rekeying
    client = paramiko_client(server.target)
    if who == "client":
        client.get_transport().packetizer.REKEY_BYTES = MIB
    data = payload(TEN_MB)
    stdin, stdout, _ = client.exec_command("sha256sum", timeout=60)
    stdin.write(data)
    stdin.channel.shutdown_write()
    assert stdout.read().decode() == digest(data)
    if who == "server":
        _, stdout, _ = client.exec_command(f"cat {file_with(server, data)}", timeout=60)
        assert hashlib.sha256(stdout.read()).digest() == hashlib.sha256(data).digest()


def test_paramiko_has_a_terminal_that_changes_its_size(
    glass: Server, paramiko_client: Callable[..., Any]
) -> None:
    channel = paramiko_client(glass.target).get_transport().open_session(timeout=20)
    channel.settimeout(20)
    channel.get_pty("vt220", 101, 37)
    channel.exec_command('stty -echo; echo "$TERM"; stty size; read _; stty size; tty')
    with closing(channel.makefile("rb")) as shown:
        assert [shown.readline(), shown.readline()] == [b"vt220\r\n", b"37 101\r\n"]
        channel.resize_pty(132, 50)
        channel.sendall(b"\n")
        assert shown.readline() == b"50 132\r\n"
        assert shown.readline().startswith(b"/dev/pts/")
    assert channel.recv_exit_status() == 0


def test_paramiko_connects_through_the_server(glass: Server, paramiko_client: Callable[..., Any]) -> None:
    """-W: to the server's own port, whose identification arrives."""
    transport = paramiko_client(glass.target).get_transport()
    place = (LOOPBACK, glass.target.port)
    channel = transport.open_channel("direct-tcpip", place, ("127.0.0.1", 1), timeout=20)
    channel.settimeout(20)
    assert channel.recv(4) == b"SSH-"


def test_paramiko_moves_files(glass: Server, paramiko_client: Callable[..., Any]) -> None:
    data = payload(1_000_000)
    with paramiko_client(glass.target).open_sftp() as sftp:
        with sftp.open(str(glass.folder / "here"), "wb") as file:
            file.write(data)
        with sftp.open(str(glass.folder / "here"), "rb") as file:
            assert file.read() == data


def test_paramiko_tries_key_after_key(glass: Server, paramiko_client: Callable[..., Any], keys: Keys) -> None:
    """It asks for ssh-userauth again before each."""
    tried = [keys.stranger(), keys.stranger("ecdsa"), keys.user("rsa")]
    client = paramiko_client(glass.target, [str(pair.private) for pair in tried])
    _, stdout, _ = client.exec_command("echo ok", timeout=20)
    assert stdout.read() == b"ok\n"


def test_paramiko_with_a_wrong_key_and_a_changed_host_key(
    glass: Server, paramiko_client: Callable[..., Any], keys: Keys
) -> None:
    import paramiko

    with pytest.raises(paramiko.AuthenticationException):
        paramiko_client(glass.target, str(keys.stranger().private))
    with pytest.raises(paramiko.BadHostKeyException):
        paramiko_client(replace(glass.target, host_keys=(keys.stranger().public,)))


# -- every client --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIENTS)
def test_a_changed_host_key_is_refused(name: str, glass: Server, client: Clients, keys: Keys) -> None:
    target = replace(glass.target, host_keys=(keys.stranger().public,))
    result = client(name).run(target, "echo ok", identity=keys.user())
    assert result.returncode != 0
    assert result.stdout == b""
    assert b"host key" in result.stderr.lower()


@pytest.mark.parametrize("name", CLIENTS)
def test_errors_longer_than_any_window_arrive(name: str, glass: Server, client: Clients, keys: Keys) -> None:
    """Three megabytes of stderr, whose end comes after stdout has ended."""
    command = "exec >&-; head -c 3000000 /dev/zero >&2; exit 4"
    result = client(name).run(glass.target, command, identity=keys.user())
    assert (result.returncode, result.stdout) == (4, b"")
    assert result.stderr.count(0) == 3_000_000


@pytest.mark.parametrize("name", ["openssh-9.2", "openssh-10.6"])
def test_ten_megabytes_each_way_while_the_client_changes_keys(
    name: str, glass: Server, rekeying: Server, client: Clients, keys: Keys
) -> None:
    """RekeyLimit of ssh_config(5); at the second server both sides want new keys."""
    data = payload(TEN_MB)
    for server in (glass, rekeying):
        done = client(name).run(
            server.target, "cat", "-v", "-o", "RekeyLimit=1M", identity=keys.user(), stdin=data
        )
        assert (done.returncode, hashlib.sha256(done.stdout).digest()) == (0, hashlib.sha256(data).digest())
        assert done.stderr.count(b"SSH2_MSG_KEXINIT sent") >= 6


@pytest.mark.parametrize("name", ["dbclient", "dbclient-newest", "plink"])
def test_ten_megabytes_each_way_while_the_server_changes_keys(
    name: str, rekeying: Server, client: Clients, keys: Keys
) -> None:
    data = payload(TEN_MB)
    for command in ("sha256sum", f"cat {file_with(rekeying, data)}"):
        stdin = data if command == "sha256sum" else b""
        done = client(name).run(rekeying.target, command, identity=keys.user(), stdin=stdin)
        assert done.returncode == 0
        shown = done.stdout.decode() if command == "sha256sum" else digest(done.stdout)
        assert shown == digest(data)


def test_ssh_audit_finds_no_fault(glass: Server) -> None:
    require_peer("ssh-audit")
    command = [sys.executable, "-X", "utf8", "-m", "ssh_audit.ssh_audit", "--skip-rate-test", "--no-colors"]
    line = [*command, "-p", str(glass.target.port), LOOPBACK]
    done = subprocess.run(line, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode in (0, 2), done.stdout + done.stderr  # 3 is a failure; 2 only warnings
    assert "[fail]" not in done.stdout
    assert "(kex) mlkem768x25519-sha256" in done.stdout
    assert "kex-strict-s-v00@openssh.com" in done.stdout
