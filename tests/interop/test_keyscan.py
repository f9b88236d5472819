"""`glasshell keyscan` beside ssh-keyscan: the same servers, the same lines."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from glasshell.keys.known_hosts import KnownHosts
from tests.cli.conftest import commands
from tests.cli.kit import Commands
from tests.interop.conftest import Start
from tests.interop.peers import LOOPBACK, Keys, OpenSSHServer, Server, require_peer

__all__ = ["commands"]


def theirs(*words: str, stdin: str = "") -> tuple[int, list[str]]:
    """ssh-keyscan of 9.2, and what 10.6 prints: what the server says it is belongs to standard output."""
    line = require_peer("openssh-9.2").command("ssh-keyscan", *words)
    done = subprocess.run(line, input=stdin, capture_output=True, text=True, check=False)
    told = {text for text in done.stderr.splitlines() if text[:1] in "#;"}
    return done.returncode, sorted([*done.stdout.splitlines(), *told])


def ours(commands: Commands, *words: str, stdin: str = "") -> tuple[int, list[str]]:
    done = commands.run("keyscan", *words, stdin=stdin.encode())
    lines = done.stdout.decode().splitlines()
    told = {line for line in lines if line[:1] in "#;"}  # once for each type, of which 9.2 has one less
    return done.returncode, sorted([*(line for line in lines if line not in told), *told])


@pytest.mark.parametrize("name", ["openssh-9.2", "openssh-10.6", "dropbear", "tinysshd", "asyncssh"])
def test_every_server_shows_the_same_keys(
    name: str, commands: Commands, server: Callable[[str], Server]
) -> None:
    running = server(name)
    port = str(running.target.port)
    words = ("-T", "10", "-p", port, LOOPBACK)
    status, lines = ours(commands, *words)
    real = theirs(*words)
    # tinysshd says something else each time.
    lines, expected = (
        sorted({re.sub(r"(tinyssh\S+) .*", r"\1", line) for line in seen}) for seen in (lines, real[1])
    )
    assert (status, lines) == (real[0], expected)
    known = KnownHosts.parse("\n".join(lines)).lookup(LOOPBACK, running.target.port)
    assert {f"{entry.key_type} {entry.key.blob.hex()}" for entry in known if entry.key} == {
        f"{entry.key_type} {entry.key.blob.hex()}"
        for entry in KnownHosts.parse(running.target.known_hosts()).lookup(LOOPBACK, running.target.port)
        if entry.key and entry.key_type.startswith(("ssh-", "ecdsa-"))
    }


@pytest.fixture
def port(server: Callable[[str], Server]) -> str:
    return str(server("openssh-9.2").target.port)


def test_types_names_and_records(commands: Commands, port: str, tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(f"# hosts\n{LOOPBACK} one.example,TWO\n\n{LOOPBACK} # none\n")
    for words in (("-t", "ed25519"), ("-t", "ecdsa,rsa"), ("-t", "ed25519-sk"), ("-4", "-t", "rsa")):
        assert ours(commands, *words, "-p", port, LOOPBACK) == theirs(*words, "-p", port, LOOPBACK)
    for words in (("-f", str(file)), ("-D", "-t", "ed25519", "-f", str(file)), ("-f", "-", "127.0.0.1/32")):
        stdin = file.read_text()
        said = ours(commands, "-p", port, *words, stdin=stdin)
        if words[-1].endswith("/32"):  # of newer releases
            assert sum(f"[127.0.0.1]:{port} " in line for line in said[1]) == 6
        else:
            assert said == theirs("-p", port, *words, stdin=stdin)
    status, lines = ours(commands, "-q", "-H", "-t", "ed25519", "-p", port, LOOPBACK)
    assert status == 0
    assert len(KnownHosts.parse("\n".join(lines)).lookup(LOOPBACK, int(port))) == 1


def test_certificates(commands: Commands, start: Start, keys: Keys, tmp_path: Path) -> None:
    key = keys.host("ed25519").copy_to(tmp_path)
    ca = keys.stranger("ed25519").private
    words = ["-q", "-s", str(ca), "-h", "-I", "id", "-n", "h", f"{key}.pub"]
    subprocess.run(["ssh-keygen", *words], check=True)
    with OpenSSHServer("9.2", keys, extra_config=f"HostCertificate {key}-cert.pub") as running:
        where = ("-p", str(running.target.port), LOOPBACK)
        said = ours(commands, "-c", "-t", "ed25519", *where)
    assert said[0] == 0
    shown = next(line for line in said[1] if line[0] != "#")
    assert shown.split()[:2] == Path(f"{key}-cert.pub").read_text().split()[:2]


def test_who_does_not_answer(commands: Commands, port: str) -> None:
    free = str(int(port) - 1)
    done = commands.run("keyscan", "-p", free, LOOPBACK)
    assert done.returncode == theirs("-p", free, LOOPBACK)[0] == 1
    assert b"Connection refused" in done.stderr
    done = commands.run("keyscan", "no.such.host.invalid")
    assert done.returncode == 1
    assert done.stderr.startswith(b"getaddrinfo no.such.host.invalid: ")
    bad = {(): 1, ("-x",): 1, ("-T", "0", "h"): 1, ("-p", "0", "h"): 1, ("-t", "dsa2", "h"): 255}
    for words, status in bad.items():
        assert theirs(*words)[0] == status
        done = commands.run("keyscan", *words)
        assert done.returncode == status, words
        assert done.stderr
        assert b"Traceback" not in done.stderr


def test_a_list_of_hosts_that_cannot_be_read(commands: Commands, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        done = commands.run("keyscan", "-f", str(path))
        assert done.returncode == 255
        assert done.stderr.startswith(f"glasshell keyscan: {path}: ".encode())
        assert len(done.stderr.splitlines()) == 1
