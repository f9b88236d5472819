"""The fixtures proved with peers on both sides: what fails here is not glasshell's fault."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.interop.conftest import CLIENTS, SERVERS, Start
from tests.interop.peers import (
    LIVE,
    PEERS,
    Client,
    Keys,
    OpenSSHServer,
    Peer,
    Place,
    Server,
    require_peer,
    why_not,
)

Servers = Callable[[str], Server]
Clients = Callable[[str], Client]

PAIRS = [("openssh-9.2", name) for name in SERVERS] + [(name, "openssh-9.2") for name in CLIENTS]


@pytest.mark.parametrize(("client_name", "server_name"), sorted(set(PAIRS)))
def test_a_command_runs(
    client_name: str, server_name: str, client: Clients, server: Servers, keys: Keys
) -> None:
    target, identity = server(server_name).target, keys.user()
    result = client(client_name).run(target, "cat; echo ok; exit 7", identity=identity, stdin=b"in\n")
    assert (result.stdout, result.returncode) == (b"in\nok\n", 7), result.stderr


@pytest.mark.parametrize("server_name", SERVERS)
def test_a_pseudo_terminal_is_there(server_name: str, client: Clients, server: Servers, keys: Keys) -> None:
    target, identity = server(server_name).target, keys.user()
    result = client("openssh-9.2").run(target, "tty", "-tt", identity=identity, stdin=None)
    assert result.stdout.startswith(b"/dev/pts/"), result


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("client_name", CLIENTS)
def test_every_key_kind_logs_in(
    client_name: str, kind: str, client: Clients, server: Servers, keys: Keys
) -> None:
    result = client(client_name).run(server("openssh-9.2").target, "echo ok", identity=keys.user(kind))
    assert result.stdout == b"ok\n", result.stderr


@pytest.mark.parametrize("server_name", SERVERS)
def test_a_wrong_key_is_refused(server_name: str, client: Clients, server: Servers, keys: Keys) -> None:
    result = client("openssh-9.2").run(server(server_name).target, "echo ok", identity=keys.stranger())
    assert result.returncode == 255
    assert b"Permission denied" in result.stderr


@pytest.mark.parametrize("client_name", CLIENTS)
def test_a_changed_host_key_is_refused(
    client_name: str, client: Clients, server: Servers, keys: Keys
) -> None:
    target = replace(server("openssh-9.2").target, host_keys=(keys.stranger().public,))
    result = client(client_name).run(target, "echo ok", identity=keys.user())
    assert result.returncode != 0
    assert result.stdout == b""
    assert b"host key" in result.stderr.lower()


def test_extra_config_comes_first(start: Start, client: Clients, keys: Keys) -> None:
    running = start(OpenSSHServer("9.2", keys, extra_config="ForceCommand echo forced\nMaxStartups 3"))
    result = client("openssh-9.2").run(running.target, "echo ok", identity=keys.user())
    assert result.stdout == b"forced\n", running.log
    assert "Accepted publickey" in running.log


@pytest.mark.parametrize("server_name", SERVERS)
def test_a_stopped_server_is_gone(server_name: str, keys: Keys) -> None:
    with SERVERS[server_name](keys) as running:
        assert running in LIVE
        with socket.create_connection((running.target.host, running.target.port), timeout=10) as connection:
            assert connection.recv(4) == b"SSH-"
    assert running not in LIVE
    assert not running.folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((running.target.host, running.target.port), timeout=10)


def test_a_server_that_will_not_start_says_why(keys: Keys) -> None:
    with (
        pytest.raises(RuntimeError, match="Bad configuration option: NoSuchWord"),
        OpenSSHServer("9.2", keys, extra_config="NoSuchWord yes"),
    ):
        pass


def test_an_absent_peer_is_skipped_by_name_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(PEERS, "openssh-1.2", Peer(Place(tmp_path), ("sshd1",)))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"openssh-1\.2: sshd1 not installed \(make peers\)"):
        require_peer("openssh-1.2")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"openssh-1\.2: sshd1 not installed"):
        require_peer("openssh-1.2")


def test_the_named_version_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    require_peer("openssh-9.2")
    monkeypatch.setitem(PEERS, "openssh-9.3", replace(PEERS["openssh-9.2"], openssh=(9, 3)))
    assert why_not("openssh-9.3").startswith("found OpenSSH_9.2")
