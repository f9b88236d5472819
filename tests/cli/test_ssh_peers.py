"""`glasshell ssh` on every server: a shell on a terminal, a command, an agent."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.kit import Login
from tests.interop.peers import Server
from tests.needs import absent

Servers = Callable[[str], Server]

PEERS = ("openssh-9.2", "openssh-10.6", "dropbear", "dropbear-newest", "tinysshd-newest")


@pytest.mark.parametrize("name", PEERS)
def test_a_command(name: str, login: Login, server: Servers) -> None:
    done = replace(login, target=server(name).target).run("cat; echo done; exit 3", stdin=b"in\n")
    assert (done.stdout, done.returncode) == (b"in\ndone\n", 3), done.stderr


@pytest.mark.parametrize("name", PEERS)
def test_a_shell_on_a_terminal(name: str, login: Login, server: Servers) -> None:
    screen = replace(login, target=server(name).target).shell(rows=33, columns=99)
    screen.type(b"stty size; exit 5\r")
    screen.expect(rb"\n33 99\r\n")
    assert screen.wait() == 5
    assert screen.as_before


def test_mlkem_is_agreed_with_the_newest(login: Login, server: Servers) -> None:
    done = replace(login, target=server("openssh-10.6").target).run("true", flags=("-v",))
    assert b"debug1: kex: algorithm: mlkem768x25519-sha256\r\n" in done.stderr


@contextmanager
def agent(folder: Path, key: Path) -> Iterator[Path]:
    """ssh-agent with one key."""
    for program in ("ssh-agent", "ssh-add"):
        if shutil.which(program) is None:
            absent(f"{program} (OpenSSH) is not installed")
    path = folder / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it listens
            environment = {"SSH_AUTH_SOCK": str(path), "PATH": "/usr/bin:/bin"}
            subprocess.run(["ssh-add", "-q", str(key)], env=environment, check=True, timeout=20)
            yield path
        finally:
            process.terminate()


def test_a_key_that_only_the_agent_has(login: Login, tmp_path: Path) -> None:
    with agent(tmp_path, login.identity) as path:
        login.identity.unlink()
        public = replace(login, identity=login.identity.with_name(login.identity.name + ".pub"))
        done = public.run("echo in", options=(f"IdentityAgent={path}",))
        assert done.stdout == b"in\n", done.stderr
        options = (f"IdentityFile={login.identity}",)
        done = login.run("echo in", options=options, environment={"SSH_AUTH_SOCK": str(path)})
        assert done.stdout == b"in\n", done.stderr
        done = public.run("true", options=("IdentityAgent=none", "BatchMode=yes"))
        assert done.returncode == 255
