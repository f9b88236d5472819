"""Logins by Kerberos: a real KDC, ssh and sshd (9.2; Debian's 10.6 has no GSS-API) and ours."""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glasshell.errors import AuthenticationFailed
from glasshell.system.gss import KERBEROS, Acceptor, Initiator
from tests.interop.glass import GlassServer
from tests.interop.kerberos import NAME, Realm
from tests.interop.peers import Keys, OpenSSHClient, OpenSSHServer, Server, Target

ME = getpass.getuser()
SERVER = (
    "GSSAPIAuthentication yes\nPubkeyAuthentication no\nGSSAPIStrictAcceptorCheck no\nLogLevel VERBOSE\n"
    "PermitRootLogin yes"
)
CLIENT = ("GSSAPIAuthentication=yes", "PreferredAuthentications=gssapi-with-mic")


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    with Realm(tmp_path_factory.mktemp("realm")) as made:
        made.add(ME)
        made.add("mallory")
        yield made


class KerberosGlass(GlassServer):
    """`glasshell sshd` that knows the realm."""

    def __init__(self, keys: Keys, realm: Realm, config: str = SERVER) -> None:
        super().__init__(keys, config)
        self._realm = realm

    def _line(self, port: int) -> list[str]:
        line = super()._line(port)
        return [*line[:2], *(f"{name}={value}" for name, value in self._realm.environment.items()), *line[2:]]


class KerberosSshd(OpenSSHServer):
    """sshd that knows the realm."""

    def __init__(self, keys: Keys, realm: Realm) -> None:
        super().__init__("9.2", keys, extra_config=SERVER)
        self._realm = realm

    def _line(self, port: int) -> list[str]:
        settings = [f"{name}={value}" for name, value in self._realm.environment.items()]
        return ["env", *settings, *super()._line(port)]


@pytest.fixture(scope="module")
def glass(keys: Keys, realm: Realm) -> Iterator[Server]:
    with KerberosGlass(keys, realm) as server:
        yield server


@pytest.fixture(scope="module")
def sshd(keys: Keys, realm: Realm) -> Iterator[Server]:
    with KerberosSshd(keys, realm) as server:
        yield server


def at(server: Server) -> Target:
    """By name: tickets are for names."""
    return replace(server.target, host="localhost")


Done = subprocess.CompletedProcess[str]


def ours(
    server: Server, folder: Path, tickets: dict[str, str], *options: str, command: str = "echo in"
) -> Done:  # fmt: skip
    """`glasshell ssh`, with nothing but tickets."""
    target = at(server)
    known = folder / "known_hosts"
    known.write_text(target.known_hosts())
    said = [*options, *CLIENT, f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=none", "BatchMode=yes",
            "IdentityFile=none", "IdentityAgent=none"]  # fmt: skip
    words = [word for option in said for word in ("-o", option)]
    line = [sys.executable, "-m", "glasshell", "ssh", "-vvv", "-F", "none", *words]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8", **tickets}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2] / "src")
    line += ["-p", str(target.port), "-l", target.user, target.host, command]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=30, check=False)


def theirs(server: Server, tickets: dict[str, str], *options: str, command: str = "echo in") -> Done:
    """ssh(1), with nothing but tickets."""
    with OpenSSHClient("9.2") as client:
        words = [word for option in (*options, *CLIENT) for word in ("-o", option)]
        line = client.argv(at(server), "-v", *words)
        place = line.index("-i") + 1
        line[place:place] = [f"{name}={value}" for name, value in tickets.items()]
        return subprocess.run([*line, command], capture_output=True, text=True, timeout=30, check=False)


def test_our_client_and_sshd(sshd: Server, realm: Realm, tmp_path: Path) -> None:
    done = ours(sshd, tmp_path, realm.tickets(ME))
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
    assert f"Authorized to {ME}, krb5 principal {ME}@{NAME} (krb5_kuserok)" in sshd.log
    assert f"Accepted gssapi-with-mic for {ME}" in sshd.log


def test_ssh_and_our_server(glass: Server, realm: Realm) -> None:
    done = theirs(glass, realm.tickets(ME))
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
    assert f"Authorized to {ME}, krb5 principal {ME}@{NAME} (krb5_kuserok)" in glass.log
    assert f"Accepted gssapi-with-mic for {ME}" in glass.log


def test_ours_and_ours(glass: Server, realm: Realm, tmp_path: Path) -> None:
    done = ours(glass, tmp_path, realm.tickets(ME))
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr


SHOW = 'echo "$KRB5CCNAME"; stat -c "%a %U" "${KRB5CCNAME#FILE:}"; klist'


@pytest.mark.parametrize("who", ["ours", "ssh"])
def test_tickets_that_are_handed_on_are_the_users_own_and_go_with_the_connection(
    who: str, glass: Server, realm: Realm, tmp_path: Path
) -> None:
    tickets = realm.tickets(ME)
    hand_on = "GSSAPIDelegateCredentials=yes"
    done = (
        theirs(glass, tickets, hand_on, command=SHOW) if who == "ssh"
        else ours(glass, tmp_path, tickets, hand_on, command=SHOW)
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    place, mode, *listed = done.stdout.splitlines()
    assert re.fullmatch(rf"FILE:/tmp/krb5cc_{os.getuid()}_\w+", place)
    assert mode == f"600 {ME}"
    assert f"Default principal: {ME}@{NAME}" in listed
    until_gone(Path(place.removeprefix("FILE:")))


def until_gone(path: Path) -> None:
    """The client may have ended before the server has seen that."""
    deadline = time.monotonic() + 20.0
    while path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


def test_our_client_hands_tickets_on_to_sshd(sshd: Server, realm: Realm, tmp_path: Path) -> None:
    done = ours(sshd, tmp_path, realm.tickets(ME), "GSSAPIDelegateCredentials=yes", command="klist")
    assert f"Default principal: {ME}@{NAME}" in done.stdout


def test_nothing_is_handed_on_unasked(glass: Server, realm: Realm, tmp_path: Path) -> None:
    done = ours(glass, tmp_path, realm.tickets(ME), command='echo "<$KRB5CCNAME>"')
    assert done.stdout == "<>\n"


@pytest.mark.parametrize("name", ["glass", "sshd"])
def test_another_principal_is_refused(
    name: str, request: pytest.FixtureRequest, realm: Realm, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(name)
    done = ours(server, tmp_path, realm.tickets("mallory"))
    assert (done.returncode, done.stdout) == (255, "")
    assert "gssapi-with-mic" in done.stderr.partition("Permission denied (")[2]
    if name == "glass":
        assert f"mallory@{NAME} may not log in as {ME} (krb5_kuserok)" in server.log
        assert theirs(server, realm.tickets("mallory")).returncode == 255


def test_h3_openssh_10_4_who_exists_is_told_by_nothing(glass: Server, realm: Realm, tmp_path: Path) -> None:
    """Somebody else's ticket, for a user that there is, and for one that there is not."""
    tickets, target = realm.tickets("mallory"), glass.target
    seen = []
    try:
        for user in (ME, "nosuchuser"):
            glass.target = replace(target, user=user)
            done = ours(glass, tmp_path, tickets)
            assert done.returncode == 255
            seen.append(re.findall(r"receive packet: type (5\d|6\d)", done.stderr))
    finally:
        glass.target = target
    assert seen[0] == seen[1] == ["51", "60", "61", "51"]


def test_no_ticket_is_told_in_words(glass: Server, realm: Realm, tmp_path: Path) -> None:
    done = ours(glass, tmp_path, realm.environment)
    assert done.returncode == 255
    assert "there are no Kerberos tickets; kinit gets some" in done.stderr
    empty = {**realm.environment, "KRB5CCNAME": f"FILE:{tmp_path}/none"}
    done = ours(glass, tmp_path, empty)
    assert done.returncode == 255
    assert f"No Kerberos credentials available (default cache: FILE:{tmp_path}/none)" in done.stderr


def test_an_expired_ticket_is_told_in_words(glass: Server, realm: Realm, tmp_path: Path) -> None:
    tickets = realm.tickets(ME, "-l", "1s")
    ask, environment = ["kvno", "-q", "--no-store", "host/localhost"], {**os.environ, **tickets}
    while subprocess.run(ask, env=environment, capture_output=True, check=False).returncode == 0:
        pass
    done = ours(glass, tmp_path, tickets)
    assert done.returncode == 255
    assert "expired" in done.stderr


def test_a_server_that_the_realm_does_not_know_is_told_in_words(
    glass: Server, realm: Realm, tmp_path: Path
) -> None:
    tickets = realm.tickets(ME)
    done = ours(glass, tmp_path, tickets, "HostName=127.0.0.1", "HostKeyAlias=localhost")
    assert done.returncode == 255
    assert f"Server host/127.0.0.1@{NAME} not found in Kerberos database" in done.stderr


def test_a_strict_acceptor_takes_tickets_for_this_machine_alone(
    keys: Keys, realm: Realm, tmp_path: Path
) -> None:
    with KerberosGlass(keys, realm, SERVER.replace("Check no", "Check yes")) as server:
        done = ours(server, tmp_path, realm.tickets(ME))
        assert done.returncode == (0 if socket.gethostname() == "localhost" else 255), done.stderr
        assert "GSS-API: " in server.log


def test_steps_add_up(keys: Keys, realm: Realm, tmp_path: Path) -> None:
    """A ticket and a key; neither alone."""
    config = SERVER.replace("PubkeyAuthentication no", "AuthenticationMethods gssapi-with-mic,publickey")
    with KerberosGlass(keys, realm, config) as server:
        tickets = realm.tickets(ME)
        identity = keys.user().copy_to(tmp_path)
        both = ("PreferredAuthentications=gssapi-with-mic,publickey", f"IdentityFile={identity}")
        assert ours(server, tmp_path, tickets).returncode == 255
        done = theirs(server, tickets, *both)
        assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr


# --- the library's calls, without SSH


@pytest.fixture
def world(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in realm.tickets(ME).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("world")
def test_a_context_seals_what_it_was_given() -> None:
    client, server = Initiator("localhost"), Acceptor(strict=False)
    step = client.step(b"")
    answer = server.step(step.token)
    assert (step.done, answer.done, answer.error) == (False, True, "")
    assert client.step(answer.token).done
    assert (client.name, server.client) == (f"{ME}@{NAME}", f"{ME}@{NAME}")
    mic = client.seal(b"data")
    assert server.sealed(b"data", mic)
    assert not server.sealed(b"other", mic)
    assert not server.sealed(b"data", mic[:-1])
    assert not server.sealed(b"data", b"")
    assert server.may_be(ME)
    assert not any(map(server.may_be, ("", "nobody", "no such user", f"{ME}\0x")))
    assert not server.has_delegated


def tokens() -> list[Any]:
    heads = (b"\x60\xff", b"\x60\x0b", b"\x60\x82\xff\xff")
    spnego = b"\x60\x20" + bytes.fromhex("06062b0601050502") + bytes(22)
    return [b"", b"x", b"\x60", b"\x60\x80", *(head + KERBEROS for head in heads), spnego, os.urandom(5000)]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("token", tokens(), ids=range(len(tokens())))
def test_a_hostile_token_is_an_error_and_no_more(token: bytes) -> None:
    """SPNEGO's among them: only what was agreed on is tried."""
    step = Acceptor(strict=False).step(token)
    assert step.error
    assert not step.done


@pytest.mark.usefixtures("world")
def test_a_token_cut_or_altered_is_an_error() -> None:
    token = Initiator("localhost").step(b"").token
    for at in range(0, len(token), 97):
        altered = token[:at] + bytes([token[at] ^ 1]) + token[at + 1 :]
        assert Acceptor(strict=False).step(token[:at]).error
        Acceptor(strict=False).step(altered)  # what is not under the seal may be altered (RFC 4121 §4.1)
    context = Initiator("localhost")
    context.step(b"")
    with pytest.raises(AuthenticationFailed):
        context.step(b"noise")
