"""hostbased with real hosts: each side in mounts of its own, where /etc/ssh and root's home are the test's.

Both sides are this machine: the client's host is known by its address to the server.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.conftest import Start
from tests.interop.glass import GlassServer, environment
from tests.interop.peers import LOOPBACK, Keys, OpenSSHClient, OpenSSHServer, Server, require_peer

VERSIONS = ("9.2", "10.6")
MOUNTS = """
mount --bind "$1/etc" "$2/etc/ssh"
if [ "$2" = / ]  # what the tests need may lie in root's real home: there it gets another one
then mount --bind "$1/passwd" /etc/passwd
else mount --bind "$1/root" "$2/root"
fi
shift 2
exec "$@"
"""
SERVER = (
    "HostbasedAuthentication yes\nPubkeyAuthentication no\nPasswordAuthentication no\n"
    "KbdInteractiveAuthentication no\nPermitRootLogin yes\nLogLevel VERBOSE"
)
KEY = "ssh_host_ed25519_key"


@dataclass
class Host:
    """What a host has in /etc/ssh and in root's home; `within` runs a program with those."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("etc", "root/.ssh"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "root").chmod(0o700)
        self.folder.chmod(0o755)
        lines = Path("/etc/passwd").read_text().splitlines(keepends=True)
        root = f"root:x:0:0:root:{self.home}:/bin/sh\n"
        self.file("passwd", "".join(root if line.startswith("root:") else line for line in lines))

    @property
    def home(self) -> Path:
        """Root's, as programs of this machine see it."""
        return self.folder / "root"

    def file(self, path: str, text: str, mode: int = 0o644) -> None:
        (self.folder / path).write_text(text)
        (self.folder / path).chmod(mode)

    def within(self, line: Sequence[str], root: Path = Path("/")) -> list[str]:
        return ["unshare", "--mount", "sh", "-ec", MOUNTS, "sh", str(self.folder), str(root), *line]


class HostsSshd(OpenSSHServer):
    def __init__(self, version: str, keys: Keys, host: Host, config: str) -> None:
        super().__init__(version, keys, extra_config=config)
        self._host = host

    def _line(self, port: int) -> list[str]:
        return self._host.within(super()._line(port), self.place.root)


class HostsGlass(GlassServer):
    def __init__(self, keys: Keys, host: Host, config: str) -> None:
        super().__init__(keys, config)
        self._host = host

    def _line(self, port: int) -> list[str]:
        return self._host.within(super()._line(port))


@pytest.fixture
def client_host(keys: Keys, tmp_path: Path) -> Host:
    """A host with one key, and ssh-keysign allowed."""
    require_peer("openssh-10.6")  # whose tests need the same mounts
    host = Host(tmp_path / "client")
    pair = keys.stranger()
    host.file(f"etc/{KEY}", pair.private.read_text(), 0o600)
    host.file(f"etc/{KEY}.pub", f"{pair.public}\n")
    host.file("etc/ssh_config", "EnableSSHKeysign yes\n")
    return host


@pytest.fixture
def server_host(keys: Keys, tmp_path: Path) -> Host:
    """A host that knows the client's, and lets root of it in as root."""
    host = Host(tmp_path / "server")
    host.file("etc/ssh_known_hosts", f"{LOOPBACK},localhost {keys.stranger().public}\n")
    host.file("root/.shosts", f"{LOOPBACK} root\n")
    return host


NO_RHOSTS = f"{SERVER}\nIgnoreRhosts no"
ONLY_HOST = ("HostbasedAuthentication=yes", "PreferredAuthentications=hostbased", "BatchMode=yes")


def ours(server: Server, host: Host, *options: str) -> subprocess.CompletedProcess[str]:
    """`glasshell ssh` on the client's host."""
    host.file("root/.ssh/known_hosts", server.target.known_hosts())
    known = f"UserKnownHostsFile={host.home}/.ssh/known_hosts"
    said = (*options, *ONLY_HOST, known, "GlobalKnownHostsFile=none")
    words = [word for option in said for word in ("-o", option)]
    where = ["-p", str(server.target.port), f"root@{LOOPBACK}", "echo in"]
    line = [sys.executable, "-m", "glasshell", "ssh", "-v", "-F", "none", *words, *where]
    variables = environment(HOME=str(host.home))
    return subprocess.run(
        host.within(line), env=variables, capture_output=True, text=True, timeout=30, check=False
    )


def theirs(version: str, server: Server, host: Host, *options: str) -> subprocess.CompletedProcess[str]:
    """ssh(1) on the client's host."""
    with OpenSSHClient(version) as client:
        said = (*options, *ONLY_HOST, "EnableSSHKeysign=yes")
        words = [word for option in said for word in ("-o", option)]
        line = [*client.argv(server.target, "-v", *words), "echo in"]
        return subprocess.run(
            host.within(line, client.place.root), capture_output=True, text=True, timeout=30, check=False
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_our_client_and_sshd(
    version: str, keys: Keys, client_host: Host, server_host: Host, start: Start
) -> None:
    server = start(HostsSshd(version, keys, server_host, NO_RHOSTS))
    done = ours(server, client_host)
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
    assert "Accepted hostbased for root" in server.log


@pytest.mark.parametrize("version", VERSIONS)
def test_ssh_and_our_server(
    version: str, keys: Keys, client_host: Host, server_host: Host, start: Start
) -> None:
    server = start(HostsGlass(keys, server_host, NO_RHOSTS))
    done = theirs(version, server, client_host)
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
    assert "Accepted hostbased for root" in server.log
    assert f"from root@{LOOPBACK}" in server.log


ASKED = """
import asyncio, sys
import glasshell
from glasshell.aio.otherways import HostKeys

async def main(port, folder):
    known = "~/.ssh/known_hosts"
    ways = lambda: [HostKeys(folder=folder)]
    async with glasshell.connect(
        "127.0.0.1", int(port), user="root", keys=[], agent=None, others=ways, known_hosts=known, strict="yes"
    ) as connection:
        print((await connection.run("echo in")).stdout, end="")

try:
    asyncio.run(main(*sys.argv[1:]))
except glasshell.errors.AuthenticationFailed as error:
    sys.exit(str(error.attempts))
"""


def test_ssh_keysign_signs_for_who_cannot_read_the_key(
    keys: Keys, client_host: Host, server_host: Host, start: Start, tmp_path: Path
) -> None:
    """OpenSSH's own helper, which checks our request and the connection's name before it signs."""
    server = start(HostsSshd("9.2", keys, server_host, NO_RHOSTS))
    public = tmp_path / "public"
    public.mkdir()
    (public / f"{KEY}.pub").write_text(f"{keys.stranger().public}\n")
    client_host.file("root/.ssh/known_hosts", server.target.known_hosts())
    line = client_host.within([sys.executable, "-c", ASKED, str(server.target.port), str(public)])
    variables = environment(HOME=str(client_host.home))
    run = {"env": variables, "capture_output": True, "text": True, "timeout": 30}
    done = subprocess.run(line, check=False, **run)  # type: ignore[call-overload]
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
    client_host.file("etc/ssh_config", "EnableSSHKeysign no\n")
    done = subprocess.run(line, check=False, **run)  # type: ignore[call-overload]
    assert done.returncode == 1
    assert "ssh-keysign not enabled in /etc/ssh/ssh_config" in done.stderr


def both(keys: Keys, host: Host, config: str, start: Start) -> list[Server]:
    """sshd and our server, told the same."""
    return [start(HostsSshd("9.2", keys, host, config)), start(HostsGlass(keys, host, config))]


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("by name from the packet", True), ("a certificate", True), ("of the user's own known_hosts", True),
        ("IgnoreRhosts", False), ("an unknown key", False), ("a revoked key", False), ("nobody named", False),
        ("RevokedKeys", False),
        ("another user", False), ("negated before", False), ("equiv for root", False),
        ("IgnoreUserKnownHosts", False), ("a file that others may write", False), ("an algorithm", False),
        ("a certificate for another host", False), ("one key for two steps", False),
    ],
)  # fmt: skip
def test_both_servers_judge_alike(
    name: str, good: bool, keys: Keys, client_host: Host, server_host: Host, start: Start, tmp_path: Path
) -> None:
    config, key = NO_RHOSTS, keys.stranger().public
    match name:
        case "by name from the packet":
            config += "\nHostbasedUsesNameFromPacketOnly yes"
            server_host.file("root/.shosts", "localhost root\n")
        case "a certificate" | "a certificate for another host":
            who = LOOPBACK if good else "other.example"
            authority = keys.stranger("rsa")
            public = client_host.folder / f"etc/{KEY}.pub"
            subprocess.run(
                ["ssh-keygen", "-q", "-s", str(authority.private), "-I", "box", "-h", "-n", who, str(public)],
                check=True, capture_output=True,
            )  # fmt: skip
            line = f"@cert-authority {LOOPBACK} {authority.public}\n"
            server_host.file("etc/ssh_known_hosts", line)
        case "of the user's own known_hosts" | "IgnoreUserKnownHosts":
            server_host.file("etc/ssh_known_hosts", "")
            server_host.file("root/.ssh/known_hosts", f"{LOOPBACK} {key}\n")
            config += "" if good else "\nIgnoreUserKnownHosts yes"
        case "IgnoreRhosts":
            config = SERVER
        case "an unknown key":
            server_host.file("etc/ssh_known_hosts", f"{LOOPBACK} {keys.user().public}\n")
        case "a revoked key":
            server_host.file("etc/ssh_known_hosts", f"{LOOPBACK} {key}\n@revoked * {key}\n")
        case "RevokedKeys":
            server_host.file("etc/revoked", f"{key}\n")
            config += "\nRevokedKeys /etc/ssh/revoked"
        case "nobody named":
            server_host.file("root/.shosts", "other.example root\n+ +\n")
        case "another user":
            server_host.file("root/.shosts", f"{LOOPBACK} ada\n")
        case "negated before":
            server_host.file("root/.shosts", f"-{LOOPBACK} root\n{LOOPBACK} root\n")
        case "equiv for root":
            server_host.file("root/.shosts", "")
            server_host.file("etc/shosts.equiv", f"{LOOPBACK} root\n")
        case "a file that others may write":
            server_host.file("root/.shosts", f"{LOOPBACK} root\n", 0o666)
        case "one key for two steps":
            config += "\nAuthenticationMethods hostbased,hostbased"
        case "an algorithm":
            config += "\nHostbasedAcceptedAlgorithms rsa-sha2-512"
    if name == "a file that others may write":
        config = "StrictModes yes\n" + config
    for server in both(keys, server_host, config, start):
        done = ours(server, client_host)
        assert (done.returncode == 0) is good, (type(server).__name__, done.stderr, server.log)
        assert ("Accepted hostbased" in server.log) is good


def test_a_refusal_names_each_key(keys: Keys, client_host: Host, server_host: Host, start: Start) -> None:
    server = start(HostsSshd("9.2", keys, server_host, SERVER))
    done = ours(server, client_host)
    assert done.returncode == 255
    assert "Permission denied (hostbased)" in done.stderr
    (client_host.folder / f"etc/{KEY}.pub").unlink()
    done = ours(server, client_host)
    assert "there is no host key" in done.stderr
