"""Provoked failures of real servers: what doctor says of each, beside what the server's own log says."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from glasshell.aio.doctor import Doctor
from glasshell.aio.login import Asking
from glasshell.cli.ssh import facts
from glasshell.config.ssh_config import load, option
from glasshell.explain.failure import RULES
from glasshell.wire import Secret
from tests.cli.kit import Commands
from tests.interop.conftest import Start
from tests.interop.doctoring import (
    AccountServer,
    Found,
    Speak,
    User,
    answering,
    examine,
    identity,
    known_hosts,
    packet,
    run_all_in,
    run_in,
    saying,
)
from tests.interop.peers import LOOPBACK, Keys, OpenSSHServer, Server, require_peer

USERS = [
    User("anna"),
    User("bert", mode=0o775),
    User("carl"),
    User("dora", shell="/no/such/shell"),
    User("emil", shell="/usr/sbin/nologin"),
    User("fred", expires="1"),
    User("gina", options='from="192.0.2.7"'),
    User("hugo", options="restrict"),
    User("ida", options='command="echo not yours"'),
    User("jan", match=("ForceCommand echo welcome; exit 3",)),
    User("kim", match=("ForceCommand internal-sftp",)),
    User("lea", match=("PermitTTY no",)),
    User("max", shell="~/broken", files={"broken": "\x7fELF and no more"}),
    User("nora", match=("ChrootDirectory %h",)),
    User("otto", match=("AuthenticationMethods publickey,password",)),
    User("paul", password="!"),
    User("rosa", options='expiry-time="20200101"'),
    User("sam", match=("PubkeyAuthentication no",)),
    User("tess", match=("MaxAuthTries 2",)),
    User("ulla", match=("MaxSessions 0",)),
    User("vera", shell="~/slow", files={"slow": "#!/bin/sh\nexec sleep 60\n"}),
    User("willi", shell="~/lost", files={"lost": "#!/bin/sh\nexec /no/such/program\n"}),
    User("xena", shell="~/mute", files={"mute": "#!/bin/sh\nkill -KILL $$\n"}),
    User("yves", shell="~/no-interpreter", files={"no-interpreter": "#!/no/such/interpreter\n"}),
    User("zoe", match=("AllowUsers zoe@192.0.2.1",)),
    User("ugo", options="no-pty"),
    User("tom", match=("AuthorizedKeysFile none",)),
    User("root", shell="/bin/sh"),
    User("sue", shell="~/denied", files={"denied": "#!/bin/sh\nexec /usr\n"}),
]


@dataclass(frozen=True)
class Case:
    """One failure: what is said to doctor, the rule that must explain it, and what must be said.

    `log` is what sshd's own log says of it, which a client cannot know: the same reason must be among the
    causes, in the words `known`.
    """

    name: str
    rule: str
    user: str = "anna"
    words: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    log: str = ""
    status: int = 1
    ssh: tuple[str, ...] = field(default=())
    """What `glasshell ssh` says of it, in stderr."""


ACCOUNTS = [
    Case("all is well", "", status=0, says=("logged in as anna by publickey", "exit status 0")),
    Case("home that others can write", "keys-refused", "bert", log="bad ownership or modes for directory",
         says=("StrictModes", "bad ownership or modes", "chmod go-w ~bert"),
         ssh=("why: The server took none of the keys that were offered for bert",)),
    Case("DenyUsers", "keys-refused", "carl", log="listed in DenyUsers",
         says=("DenyUsers", "sshd -T -C user=carl")),
    Case("shell that is not there", "keys-refused", "dora", log="shell /no/such/shell does not exist",
         says=("the account's shell does not exist",)),
    Case("nologin as shell", "account-not-available", "emil",
         says=("emil has no shell to log in with", "This account is currently not available"),),
    Case("account that has expired", "keys-refused", "fred", log="Account fred has expired",
         says=("the account is locked",)),
    Case("from= of another place", "keys-refused", "gina", log="not from a permitted host", says=("from=",)),
    Case("restricted key", "pty-refused", "hugo", says=("gives hugo no terminal", "no-pty or restrict"),
         ssh=()),
    Case("forced command of a key", "", "ida", status=0, says=("nothing was run: the key has a command",)),
    Case("ForceCommand", "forced-command", "jan", log="", says=("ForceCommand", 'welcome', "exit status 3")),
    Case("sftp only", "sftp-only", "kim", says=("may transfer files there, and run nothing",)),
    Case("PermitTTY no", "pty-refused", "lea", says=("PermitTTY is no",)),
    Case("shell that is no program", "shell-broken", "max", says=("cannot be executed", "Exec format error")),
    Case("chroot of the wrong owner", "closed-after-login", "nora", log="bad ownership or modes for chroot",
         says=("let nora in and closed the connection at once", "ChrootDirectory")),
    Case("second factor", "more-methods-needed", "otto", ("-o", "BatchMode=yes"),
         says=("One step of the login succeeded (publickey)", "wants another: password"),
         ssh=("why: One step of the login succeeded (publickey)",)),
    Case("locked account", "keys-refused", "paul", log="account is locked", says=("the account is locked",)),
    Case("key that has run out", "keys-refused", "rosa", log="Refused by key options",
         says=("expiry-time=",)),
    Case("no keys taken", "no-method-in-common", "sam", ("-o", "BatchMode=yes"),
         says=("The server takes password", "PubkeyAuthentication is no", "BatchMode"),
         ssh=("why: The server takes password",)),
    Case("too many keys", "too-many-failures", "tess", ("-i", "{stranger-rsa}", "-i", "{stranger-ecdsa}"),
         log="maximum authentication attempts exceeded",
         says=("Too many authentication failures", "MaxAuthTries", "IdentitiesOnly=yes"),
         ssh=("why: The server gave up", "try: offer only the right key: -i FILE -o IdentitiesOnly=yes")),
    Case("MaxSessions 0", "session-refused", "ulla", says=("opens no session", "MaxSessions"),
         ssh=("likely: MaxSessions in sshd_config is 0",)),
    Case("startup that hangs", "session-hangs", "vera", ("--timeout", "1"),
         says=("did not come in time", "a startup file waits")),
    Case("command that is not there", "command-not-found", "willi", says=("exit status 127",)),
    Case("command that may not be executed", "command-not-executable", "sue", says=("exit status 126",)),
    Case("shell that is killed", "program-killed", "xena", says=("killed by the signal KILL",)),
    Case("shell without interpreter", "shell-missing", "yves", says=("No such file or directory",)),
    Case("AllowUsers of another place", "keys-refused", "zoe", log="not listed in AllowUsers",
         says=("AllowUsers",)),
    Case("no-pty of a key", "pty-refused", "ugo", says=("key options",)),
    Case("no authorized_keys", "keys-refused", "tom", says=("AuthorizedKeysFile",)),
    Case("unknown user", "keys-refused", "nobody-there", log="Invalid user nobody-there",
         says=("the user name is wrong",)),
    Case("wrong key", "keys-refused", words=("-i", "{stranger-only}"),
         says=("SHA256:", "ssh-keygen -lf ~anna"),
         ssh=("why: The server took none of the keys", "stranger")),
    Case("root may not", "refused-after-signature", "root", log="ROOT LOGIN REFUSED",
         says=("PermitRootLogin is no", "the key was accepted, the login of root was not"),
         ssh=("likely: root may not log in this way: PermitRootLogin is no",)),
    # The keys at hand
    Case("key that others can read", "key-unusable", words=("-i", "{open}"), says=("chmod 600", "too open"),
         ssh=("why: The server takes keys, but", "likely: other users of this machine could read")),
    Case("file that is no key", "key-unusable", words=("-i", "{junk}"), says=("not a private key",)),
    Case("key file that is gone", "no-key", words=("-o", "IdentityFile=/no/such/key"),
         says=("not there: /no/such/key",)),
    Case("locked key, known by its .pub", "key-locked", words=("-i", "{locked}"),
         says=("would take the key", "under a passphrase", "ssh-add"),
         ssh=("why: The server would take the key",)),
    Case("locked key", "key-unusable", words=("-i", "{shut}"), says=("under a passphrase",)),
    Case("no key at all", "no-key", words=("-o", "IdentityFile=none"), says=("there was no key to try",)),
    Case("agent that is gone", "no-key",
         words=("-o", "IdentityFile=none", "-o", "IdentityAgent=/no/such/agent"),
         says=("the agent could not be asked", "no agent at /no/such/agent")),
    # The host key
    Case("changed host key", "host-key-changed", words=("{known-changed}",),
         says=("shows another host key", "ssh-keygen -f", "-R", "somebody is in the middle"),
         ssh=("REMOTE HOST IDENTIFICATION HAS CHANGED!", "why: [127.0.0.1]:")),
    Case("unknown host, strict", "host-key-unknown",
         words=("{known-empty}", "-o", "StrictHostKeyChecking=yes"),
         says=("is not known", "StrictHostKeyChecking is yes", "ssh-keyscan"), ssh=("why: The host key of",)),
    Case("unknown host, nobody to ask", "host-key-unknown",
         words=("{known-empty}", "-o", "BatchMode=yes"),
         says=("nobody can be asked here",)),
    Case("unknown host", "", words=("{known-empty}",), status=0,
         says=("ssh would ask whether it is the right one",)),
    Case("line that cannot be read", "host-key-unknown",
         words=("{known-damaged}", "-o", "StrictHostKeyChecking=yes"),
         says=("its line in known_hosts cannot be read", "damaged:1")),
    Case("key known by another name", "host-key-unknown",
         words=("{known-other}", "-o", "StrictHostKeyChecking=yes"),
         says=("the same key is known by another name", "old-name.example")),
    Case("revoked host key", "host-key-revoked", words=("{known-revoked}",),
         says=("marked as revoked", "@revoked at"),
         ssh=("why: The host key that",)),
    Case("known_hosts that cannot be read", "known-hosts-unreadable", words=("-o", "UserKnownHostsFile=/etc"),
         says=("cannot read known_hosts /etc",)),
    # Negotiation
    Case("no key exchange in common", "no-matching-kex", words=("-o", "KexAlgorithms=mlkem768x25519-sha256"),
         says=("-o KexAlgorithms=+sntrup761x25519-sha512", "which is sound"),
         ssh=("no matching key exchange method found",
              "why: The two sides have no key exchange method in common",
              "try: -o KexAlgorithms=+sntrup761x25519-sha512")),
    Case("no host key in common", "no-matching-host-key",
         words=("-o", "HostKeyAlgorithms=ecdsa-sha2-nistp521"),
         says=("the server offers ssh-ed25519",)),
]  # fmt: skip


@pytest.fixture(scope="module")
def accounts(keys: Keys) -> Iterator[AccountServer]:
    config = "DenyUsers carl\nPasswordAuthentication yes\nPermitRootLogin no"
    with AccountServer(keys, USERS, extra_config=config) as one:
        yield one


@pytest.fixture
def desk(tmp_path: Path, keys: Keys, accounts: Server) -> dict[str, tuple[str, ...]]:
    """The placeholders of the cases: key files and known_hosts, good and bad."""
    port, (key,) = accounts.target.port, accounts.target.host_keys
    name = f"[{LOOPBACK}]:{port}"
    junk = tmp_path / "junk"
    junk.write_text("junk\n")
    junk.chmod(0o600)
    locked = keys.folder / "locked"
    if not locked.exists():
        locked.write_bytes(keys.user().private.read_bytes())
        locked.chmod(0o600)
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(locked)], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
    for place, public in (("locked", True), ("shut", False)):
        (tmp_path / place).write_bytes(locked.read_bytes())
        (tmp_path / place).chmod(0o600)
        if public:
            (tmp_path / "locked.pub").write_text(keys.user().public)

    def known(text: str, file: str) -> tuple[str, ...]:
        return ("-o", f"UserKnownHostsFile={known_hosts(tmp_path, text, file)}")

    return {
        "stranger-rsa": (identity(keys.stranger("rsa"), tmp_path),),
        "stranger-ecdsa": (identity(keys.stranger("ecdsa"), tmp_path),),
        "stranger-only": (identity(keys.stranger(), tmp_path),),
        "open": (identity(keys.user(), tmp_path, name="open", mode=0o644, public=False),),
        "junk": (str(junk),), "locked": (str(tmp_path / "locked"),), "shut": (str(tmp_path / "shut"),),
        "known-changed": known(f"{name} {keys.stranger().public}\n", "changed"),
        "known-empty": known("", "empty"),
        "known-damaged": known(f"{name} ssh-ed25519 AAAA\n", "damaged"),
        "known-other": known(f"old-name.example {key}\n", "other"),
        "known-revoked": known(f"@revoked * {key}\n", "revoked"),
    }  # fmt: skip


def words_of(
    case: Case, desk: dict[str, tuple[str, ...]], target: Server, keys: Keys, folder: Path
) -> list[str]:
    """The command line of a case, up to and with the host."""
    words: list[str] = []
    for word in case.words:
        words += desk[word[1:-1]] if word.startswith("{") else [word]
    known = known_hosts(folder, target.target.known_hosts(), "usual")
    usual = ["-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=none"]
    # A case that names keys has no other; the right one comes last, where patience may have run out.
    named = {"{open}", "{junk}", "{locked}", "{shut}", "{stranger-only}"} & set(case.words)
    if not named and not any("IdentityFile" in word for word in words):
        usual += ["-i", identity(keys.user(), folder)]
    return [*words, "-F", "none", *usual, "-p", str(target.target.port), f"{case.user}@{LOOPBACK}"]


@pytest.mark.parametrize("case", ACCOUNTS, ids=lambda case: case.name)
def test_a_login(
    case: Case, accounts: AccountServer, desk: dict[str, tuple[str, ...]], keys: Keys, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    before = len(accounts.log)
    found = examine(*words_of(case, desk, accounts, keys, tmp_path))
    assert (found.rule, found.status) == (case.rule, case.status), found.text
    for text in case.says:
        assert text in found.text
    if case.log:
        logged(accounts, before, case.log)


def logged(server: Server, before: int, pattern: str) -> None:
    """Waits until the server's log says it, which it does when it likes."""
    deadline = time.monotonic() + 5
    while not re.search(pattern, server.log[before:]):
        assert time.monotonic() < deadline, server.log[before:]
        time.sleep(0.01)


SSH = [case for case in ACCOUNTS if case.ssh]


@pytest.mark.parametrize("case", SSH, ids=lambda case: case.name)
def test_ssh_says_it_in_short(
    case: Case, accounts: AccountServer, desk: dict[str, tuple[str, ...]], keys: Keys, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from glasshell.cli.main import main

    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    words = words_of(case, desk, accounts, keys, tmp_path)
    # That the key would do, and was refused all the same, is known only where it was asked about first.
    ahead = "no" if case.rule == "refused-after-signature" else "yes"
    words += ["-o", f"Speculation={ahead}"]
    assert main(["ssh", "-o", "BatchMode=yes", *words, "true"]) == 255
    told = capfd.readouterr().err
    for text in case.ssh:
        assert text in told
    assert len([line for line in told.splitlines() if line.startswith("  ") and ": " in line[:10]]) <= 4
    assert main(["ssh", "-q", "-o", "BatchMode=yes", *words, "true"]) == 255
    assert capfd.readouterr().err == ""


# ---- the server's configuration, and other servers


def at(server: Server, keys: Keys, folder: Path, *words: str, key: str = "", user: str = "") -> Found:
    """Doctor at a server that is all right but for one thing."""
    known = known_hosts(folder, server.target.known_hosts())
    given = ["-i", key or identity(keys.user(), folder)]
    files = ["-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=none"]
    where = ["-p", str(server.target.port), f"{user or server.target.user}@{LOOPBACK}"]
    return examine(*words, "-F", "none", *files, *given, *where)


@pytest.mark.parametrize(
    ("config", "rule", "says"),
    [
        ("KexAlgorithms diffie-hellman-group14-sha1", "no-matching-kex",
         ("-o Profile=legacy", "is weak: SHA-1", "upgrade the server")),
        ("Ciphers aes256-cbc", "no-matching-cipher", ("the server offers aes256-cbc", "CBC")),
        ("Ciphers aes192-ctr", "no-matching-cipher", ("-o Ciphers=+aes192-ctr", "which is sound")),
        ("Ciphers aes256-ctr\nMACs hmac-sha1", "no-matching-mac", ("the server offers hmac-sha1", "SHA-1")),
        ("Ciphers aes256-ctr\nMACs hmac-sha2-256", "no-matching-mac",
         ("-o MACs=+hmac-sha2-256", "for this host only, though it is weak")),
        ("HostKeyAlgorithms ssh-rsa", "no-matching-host-key", ("ssh-rsa is broken: signs with SHA-1",)),
        ("PubkeyAcceptedAlgorithms ssh-ed25519", "keys-refused", ("PubkeyAcceptedAlgorithms",)),
    ],
)  # fmt: skip
def test_a_configuration(
    config: str, rule: str, says: tuple[str, ...], start: Start, keys: Keys, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    server = start(OpenSSHServer("9.2", keys, extra_config=config))
    key = identity(keys.user("rsa"), tmp_path) if rule == "keys-refused" else ""
    found = at(server, keys, tmp_path, key=key)
    assert (found.rule, found.status) == (rule, 1), found.text
    for text in says:
        assert text in found.text


class Crowded(OpenSSHServer):
    """sshd that takes one connection before its login; of this keyword sshd takes the last value."""

    def _config(self, port: int) -> str:
        return super()._config(port).replace("MaxStartups 100", "MaxStartups 1:100:1")


def test_a_full_queue_of_logins(start: Start, keys: Keys, tmp_path: Path) -> None:
    server = start(Crowded("9.2", keys))
    deadline = time.monotonic() + 20
    found = Found(0, {})
    while not found.document and time.monotonic() < deadline:
        # Whoever looked whether the server answers has to be forgotten first.
        with socket.create_connection((LOOPBACK, server.target.port)) as other:
            if other.recv(4) == b"SSH-":
                found = at(server, keys, tmp_path)
    assert found.rule == "max-startups", found.text
    assert "LoginGraceTime" in found.text


def test_a_signature_that_the_server_does_not_take(
    start: Start, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSH 10.6 tells what it takes (server-sig-algs); 9.2 tells everything that it knows."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    server = start(OpenSSHServer("10.6", keys, extra_config="PubkeyAcceptedAlgorithms ssh-ed25519"))
    found = at(server, keys, tmp_path, key=identity(keys.user("rsa"), tmp_path))
    assert found.rule == "no-signature-algorithm", found.text
    assert "it takes ssh-ed25519" in found.text


def test_a_penalty(start: Start, keys: Keys, tmp_path: Path) -> None:
    config = "PerSourcePenalties authfail:100s min:1s"
    server = start(OpenSSHServer("10.6", keys, extra_config=config))
    stranger = identity(keys.stranger(), tmp_path)
    assert at(server, keys, tmp_path, key=stranger).rule == "keys-refused"
    found = at(server, keys, tmp_path)
    while found.rule in ("", "keys-refused"):  # the penalty is dealt out when the first process has ended
        found = at(server, keys, tmp_path)
    assert found.rule == "penalised"
    assert "PerSourcePenaltyExemptList 127.0.0.1" in found.text


def test_a_login_that_takes_too_long(start: Start, keys: Keys, tmp_path: Path) -> None:
    server = start(OpenSSHServer("9.2", keys, extra_config="LoginGraceTime 1\nPubkeyAuthentication no"))

    async def never(_: str) -> Secret | None:
        await asyncio.Event().wait()
        return None

    found = asyncio.run(_ask(server, tmp_path, Asking(password=never)))
    assert found.rule == "login-closed"
    assert any("LoginGraceTime" in cause.text for cause in found.causes)


def test_a_wrong_password(start: Start, keys: Keys, tmp_path: Path) -> None:
    server = start(OpenSSHServer("9.2", keys, extra_config="PubkeyAuthentication no"))

    async def wrong(_: str) -> Secret | None:
        return Secret("wrong")

    found = asyncio.run(_ask(server, tmp_path, Asking(password=wrong)))
    assert found.rule == "password-refused"
    assert "root may not log in with a password" in str(found.causes)


async def _ask(server: Server, folder: Path, asking: Asking):  # type: ignore[no-untyped-def]
    known = known_hosts(folder, server.target.known_hosts())
    lines = [option("UserKnownHostsFile", known), option("Port", str(server.target.port)),
             option("User", "root"), option("IdentityFile", "none"), option("NumberOfPasswordPrompts", "1"),
             option("KbdInteractiveAuthentication", "no")]  # fmt: skip
    options = load(LOOPBACK, facts(), command_line=lines, file="none")
    found = await Doctor(options, lambda step: None, asking=asking).examine()
    assert found is not None
    return found


def test_no_password_for_a_host_that_is_not_known(start: Start, keys: Keys, tmp_path: Path) -> None:
    server = start(OpenSSHServer("9.2", keys, extra_config="PubkeyAuthentication no"))
    asked = []

    async def ask(prompt: str) -> Secret | None:
        asked.append(prompt)
        return Secret("glass")

    (tmp_path / "known").write_text("")
    lines = [option("UserKnownHostsFile", str(tmp_path / "known")), option("Port", str(server.target.port))]
    options = load(LOOPBACK, facts(), command_line=lines, file="none")

    async def walk() -> None:
        await Doctor(options, lambda step: None, asking=Asking(password=ask)).examine()

    asyncio.run(walk())
    assert asked == []
    assert (tmp_path / "known").read_text() == ""


@pytest.mark.parametrize(
    ("name", "words", "rule", "says"),
    [
        ("dropbear", (), "keys-refused", ("authorized_keys of root",)),
        ("tinysshd", (), "terrapin", ("CVE-2023-48795", "AllowTerrapin=yes")),
        ("tinysshd", ("-o", "AllowTerrapin=yes"), "refused-after-signature",
         ("this server looks only after",)),
        ("openssh-10.6", (), "keys-refused", ("takes: publickey",)),
    ],
)  # fmt: skip
def test_other_servers(
    name: str, words: tuple[str, ...], rule: str, says: tuple[str, ...], server: Callable[[str], Server],
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    found = at(server(name), keys, tmp_path, *words, key=identity(keys.stranger(), tmp_path))
    assert (found.rule, found.status) == (rule, 1), found.text
    for text in says:
        assert text in found.text


def test_nologin(keys: Keys, tmp_path: Path) -> None:
    with AccountServer(keys, [User("anna")], nologin="back at noon\n") as server:
        found = at(server, keys, tmp_path, user="anna")
    assert found.rule == "nologin-file"
    assert "back at noon" in found.text


# ---- who is no SSH server, or none that answers

OURS = b"SSH-2.0-test\r\n"
KEXINIT_DISCONNECT = OURS + packet(b"\x01" + (11).to_bytes(4, "big") + b"\0\0\0\x06go off" + b"\0\0\0\0")

WIRE = [
    ("HTTP", saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "other-protocol", "speaks HTTP (a web server)"),
    ("TLS", saying(b"\x15\x03\x01\x00\x02\x02\x46"), "other-protocol", "speaks TLS"),
    ("SMTP", saying(b"220 mx.example ESMTP Postfix\r\n", wait=True), "other-protocol", "speaks SMTP"),
    ("FTP", saying(b"220 ready\r\n"), "other-protocol", "FTP"),
    ("IMAP", saying(b"* OK [CAPABILITY IMAP4rev1] ready\r\n"), "other-protocol", "IMAP"),
    ("VNC", saying(b"RFB 003.008\n"), "other-protocol", "VNC"),
    ("MySQL", saying(b"J\0\0\0\n8.0.36\0caching_sha2_password"), "other-protocol", "MySQL"),
    ("Telnet", saying(b"\xff\xfd\x18\xff\xfd\x20"), "other-protocol", "Telnet"),
    ("a refusal in words", saying(b"You are not welcome.\r\n"), "no-ssh", "You are not welcome."),
    ("bytes without end", saying(b"\0" * 9000), "bad-identification", "no identification of SSH"),
    ("a tarpit", saying(b"x1\r\n", b"yQ\r\n", b"z&\r\n", wait=True), "tarpit", "endlessh"),
    ("silence", saying(wait=True), "silence", "then says nothing"),
    ("an end at once", saying(), "closed-before-identification", "MaxStartups"),
    ("a reset at once", saying(reset=True, first=1), "reset-before-identification", "was reset before"),
    ("SSH-1", saying(b"SSH-1.5-old\r\n"), "ssh-1-only", "differ: 2 vs. 1"),
    ("a name and the end", saying(OURS, first=1), "kex-closed", "named itself and closed"),
    ("a name and silence", saying(OURS, wait=True), "kex-timeout", "stopped answering"),
    ("a name and a reset", saying(OURS, reset=True, first=1), "kex-reset", "reset in the middle"),
    ("a name and garbage", saying(OURS, b"\0\0\0\x0c" + b"\xff" * 12, wait=True), "kex-broken", "failed:"),
    ("a name and good-bye", saying(KEXINIT_DISCONNECT, wait=True), "kex-refused", "go off"),
]


@pytest.mark.parametrize(("name", "speak", "rule", "says"), WIRE, ids=[row[0] for row in WIRE])
def test_who_answers(name: str, speak: Speak, rule: str, says: str, tmp_path: Path) -> None:
    with answering(speak) as port:
        found = examine("-F", "none", "--timeout", "0.5", "-p", str(port), f"x@{LOOPBACK}")
    assert (found.rule, found.status) == (rule, 1), found.text
    assert says in found.text


def test_nobody_listens() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    found = examine("-F", "none", "-p", str(port), LOOPBACK)
    assert (found.rule, found.status) == ("tcp-refused", 1)
    assert f"Nothing listens on port {port} of 127.0.0.1" in found.text
    found = examine("-F", "none", "-6", "-p", str(port), "::1")
    assert found.rule in ("tcp-refused", "tcp-bind", "tcp-network-unreachable")


def test_a_queue_that_is_full() -> None:
    """What the kernel does where the queue of connections is full is what a firewall that drops does."""
    with socket.socket() as listener, ExitStack() as held:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        for _ in range(3):
            other = held.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        found = examine("-F", "none", "--timeout", "0.5", "-p", str(listener.getsockname()[1]), LOOPBACK)
    assert (found.rule, found.status) == ("tcp-timeout", 1)
    assert "firewall" in found.text


@pytest.mark.parametrize(
    ("words", "rule", "says"),
    [
        (("no-such-host.invalid",), "name-unknown", "does not resolve"),
        (("-6", LOOPBACK), "no-address-of-family", "AddressFamily"),
        (("-b", "192.0.2.9", LOOPBACK), "tcp-bind", "BindAddress"),
    ],
)
def test_the_way(words: tuple[str, ...], rule: str, says: str) -> None:
    found = examine("-F", "none", "-p", "9", *words)
    if rule == "name-unknown" and found.rule == "dns-unreachable":
        return  # without a network nobody can be asked, which is another answer and as true
    assert (found.rule, found.status) == (rule, 1), found.text
    assert says in found.text


ROUTES = [
    ("", "tcp-network-unreachable", "no route to 192.0.2.1"),
    ("ip link set lo up; ip route add unreachable 192.0.2.1;", "tcp-host-unreachable", "cannot be reached"),
    ("ip link set lo up; ip route add prohibit 192.0.2.1;", "tcp-forbidden", "itself forbids"),
]


@pytest.mark.parametrize(("routes", "rule", "says"), ROUTES)
def test_routes(routes: str, rule: str, says: str) -> None:
    require_peer("dropbear")  # root, who may have a network of his own
    namespace = ["unshare", "--net", "sh", "-ec", f'{routes} exec "$@"', "sh"]
    found = run_in(namespace, "-F", "none", "192.0.2.1")
    assert (found.rule, found.status) == (rule, 1), found.text
    assert says in found.text


# ---- the command


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    with Commands(tmp_path) as made:
        yield made


def test_bad_input_cannot_begin(commands: Commands) -> None:
    for words in ((), ("-Z", "h"), ("--timeout", "soon", "h"), ("-F", "/nowhere", "h"), ("h", "command")):
        done = commands.run("doctor", *words)
        assert done.returncode == 255, words
        assert b"Traceback" not in done.stderr


def test_what_is_printed(commands: Commands) -> None:
    done = commands.run("doctor", "-F", "none", "-p", "1", LOOPBACK)
    told = done.stdout.decode()
    assert done.returncode == 1
    assert "✗ tcp            127.0.0.1 port 1: Connection refused" in told
    assert "likely causes, most likely first:\n  1. no SSH server runs there\n" in told
    assert "\x1b" not in told
    ascii_only = commands.run("doctor", "-F", "none", "-p", "1", LOOPBACK, environment={"LC_ALL": "C",
                              "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})  # fmt: skip
    assert ascii_only.stdout.isascii()
    assert b"x tcp " in ascii_only.stdout


def test_a_password_that_is_asked_for(
    commands: Commands, server: Callable[[str], Server], tmp_path: Path
) -> None:
    peer = server("openssh-10.6")  # whose account glass has the password glass
    known = known_hosts(tmp_path, peer.target.known_hosts())
    options = ("PubkeyAuthentication=no", "KbdInteractiveAuthentication=no", f"UserKnownHostsFile={known}")
    words = [word for option in options for word in ("-o", option)]
    where = ("-p", str(peer.target.port), f"glass@{LOOPBACK}")
    screen = commands.on_terminal("doctor", "--ask", "--brief", "-F", "none", *words, *where)
    screen.expect(rb"glass@127.0.0.1's password: ")
    screen.type(b"glass\r")
    screen.expect(rb"logged in as glass by password")
    assert screen.wait() == 0


def test_enough_failures_are_provoked() -> None:
    """Every rule that has a test here is one of the table's, and there are at least forty failures."""
    names = {case.rule for case in ACCOUNTS if case.rule} | {row[2] for row in WIRE}
    assert names <= set(RULES)
    assert len([case for case in ACCOUNTS if case.rule]) + len(WIRE) >= 60


# ---- on the server itself: the same accounts, and the reason that sshd's own log gives

ON_SERVER = [
    ("anna", "", ""),
    ("bert", "server-files", "bad ownership or modes for directory"),
    ("carl", "server-lists", "listed in DenyUsers"),
    ("dora", "server-account", "shell /no/such/shell does not exist"),
    ("fred", "server-account", "account has expired"),
    ("gina", "server-key-options", "but not from a permitted host (host=127.0.0.1"),
    ("paul", "server-account", "account is locked"),
    ("rosa", "server-key-options", "entry expired at"),
    ("sam", "server-no-keys", "PubkeyAuthentication is no"),
    ("zoe", "server-lists", "not listed in AllowUsers"),
    ("tom", "server-no-file", "AuthorizedKeysFile is none"),
    ("root", "server-root", "PermitRootLogin is no"),
    ("nobody-there", "server-no-account", "There is no account nobody-there"),
]


@pytest.fixture(scope="module")
def on_server(accounts: AccountServer, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What doctor says of each of them, of a key that is not there, and of a configuration that is none."""
    bad = tmp_path_factory.mktemp("bad") / "sshd_config"
    bad.write_text("Nonsense yes\n")
    config = ["--sshd-config", str(accounts.folder / "sshd_config")]
    key = ["-i", str(keys.user().private)]
    lines = [["--server", user, *config, *key] for user, _, _ in ON_SERVER]
    lines.append(["--server", "anna", *config, "-i", str(keys.stranger().private)])
    lines.append(["--server", "anna", "--sshd-config", str(bad)])
    return run_all_in(accounts.namespace(), lines)


@pytest.mark.parametrize(("place", "user"), list(enumerate(row[0] for row in ON_SERVER)))
def test_on_the_server(place: int, user: str, on_server: list[Found]) -> None:
    _, rule, says = ON_SERVER[place]
    found = on_server[place]
    assert (found.rule, found.status) == (rule, 1 if rule else 0), found.text
    assert says in found.text


def test_a_key_that_is_not_on_the_server(on_server: list[Found]) -> None:
    assert on_server[-2].rule == "server-key"
    assert on_server[-1].rule == "server-config"
    assert "Nonsense" in on_server[-1].text
