"""`glasshell sshd` before the clients of other languages: net-ssh, phpseclib, JSch, ssh2, libssh2, libssh.

Each is a small program in clients/; `make peers-all` installs what they need. A client that is not there is
skipped by name, in CI too: it is heavier than what `make peers` brings.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .glass import GlassServer
from .peers import LOOPBACK, Keys, Server

HERE = Path(__file__).with_name("clients")
FOLDER = Path(os.environ.get("GLASSHELL_CLIENTS", "/opt/glasshell-peers/clients"))
JAR = Path("/usr/share/java/jsch.jar")
PYTHON = FOLDER / "python/bin/python"

LINES = {
    "netssh": ["ruby", str(HERE / "netssh.rb")],
    "phpseclib": ["php", str(HERE / "phpseclib.php")],
    "jsch": ["java", "-XX:TieredStopAtLevel=1", "-cp", str(JAR), str(HERE / "Jsch.java")],
    "node": ["node", str(HERE / "node.js")],
    "libssh2": [str(PYTHON), str(HERE / "libssh2.py")],
    "libssh": [str(PYTHON), str(HERE / "libssh.py")],
}
NEEDS = {
    "netssh": ["ruby", "-e", 'require "net/ssh"'],
    "phpseclib": ["php", "-r", 'require "phpseclib/autoload.php";'],
    "jsch": [sys.executable, "-c", f"open({str(JAR)!r})"],
    "node": ["node", "-e", 'require("ssh2")'],
    "libssh2": [str(PYTHON), "-c", "import ssh2.session"],
    "libssh": [str(PYTHON), "-c", "import ssh.session"],
}
OLD = {"netssh", "phpseclib", "jsch"}
"""Those that have neither X25519 nor a MAC of ours: what they have is on request here."""

OLD_SETTINGS = """KexAlgorithms +ecdh-sha2-nistp256
MACs +hmac-sha2-256
HostKeyAlgorithms +ecdsa-sha2-nistp256"""

SETTINGS = {**os.environ, "NODE_PATH": str(FOLDER / "node_modules")}


class At:
    """One client before one server."""

    def __init__(self, name: str, server: Server, key: Path) -> None:
        self.name, self._server, self._key = name, server, key

    def run(self, what: str, argument: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """What becomes of a command, or of a forwarding to a port."""
        target = self._server.target
        line = [*LINES[self.name], str(target.port), target.user, str(self._key), what, argument]
        return subprocess.run(line, input=stdin, capture_output=True, timeout=60, check=False, env=SETTINGS)


@pytest.fixture(scope="module")
def servers(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Server]]:
    """One at its defaults, and one for old clients."""
    # JSch signs by SHA-1 where a key is RSA, and so do the host keys that it takes.
    ecdsa = keys.host("ecdsa").copy_to(tmp_path_factory.mktemp("host"))
    with GlassServer(keys) as server, GlassServer(keys, f"{OLD_SETTINGS}\nHostKey {ecdsa}") as old:
        yield {False: server, True: old}


@pytest.fixture(params=list(LINES))
def at(request: pytest.FixtureRequest, keys: Keys, servers: dict[bool, Server], tmp_path: Path) -> At:
    """Each client that is there, with a key in the form that all of them read."""
    name = request.param
    there = (
        shutil.which(NEEDS[name][0])
        and not subprocess.run(NEEDS[name], env=SETTINGS, capture_output=True, check=False).returncode
    )
    if not there:
        pytest.skip(f"{name} (make peers-all)")
    key = keys.user("ecdsa" if name == "jsch" else "rsa").copy_to(tmp_path)
    line = ["ssh-keygen", "-q", "-p", "-m", "PEM", "-N", "", "-f", str(key)]
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    return At(name, servers[name in OLD], key)


def test_output_errors_and_status(at: At) -> None:
    done = at.run("exec", "echo out; echo wrong >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"wrong\n", 7)


def test_what_it_sends_comes_back_whole(at: At) -> None:
    if at.name == "phpseclib":
        pytest.skip("phpseclib 2 has no input of commands")
    data = os.urandom(300_000)
    done = at.run("exec", "cat", data)
    assert done.returncode == 0, done.stderr
    assert done.stdout == data


def test_more_output_than_a_window(at: At) -> None:
    done = at.run("exec", "head -c 5000000 /dev/zero")
    assert done.returncode == 0, done.stderr
    assert done.stdout == bytes(5_000_000)


def test_forwarding(at: At) -> None:
    if at.name == "phpseclib":
        pytest.skip("phpseclib 2 has no forwarding")
    with socket.create_server((LOOPBACK, 0)) as listener:
        answering = threading.Thread(target=_answer, args=(listener,))
        answering.start()
        done = at.run("forward", str(listener.getsockname()[1]))
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # accept() returns
        answering.join()
    assert (done.stdout, done.returncode) == (b"PING\n", 0), done.stderr


def _answer(listener: socket.socket) -> None:
    try:
        connection, _ = listener.accept()
    except OSError:  # nobody came
        return
    with connection, connection.makefile("rb") as lines:
        connection.sendall(lines.readline().upper())
