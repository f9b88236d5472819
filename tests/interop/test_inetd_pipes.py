"""`glasshell sshd -i` below a ProxyCommand: two pipes in the place of inetd's socket."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .peers import Keys, OpenSSHClient, Target

BYTES = 3_000_000


if os.geteuid():
    pytest.skip("root: the server looks the account of root up", allow_module_level=True)


@pytest.fixture
def command(tmp_path: Path, keys: Keys) -> str:
    """The ProxyCommand, with a configuration of its own."""
    authorized = tmp_path / "authorized_keys"
    authorized.write_text(keys.authorized())
    config = tmp_path / "sshd_config"
    config.write_text(
        f"HostKey {keys.host().copy_to(tmp_path)}\nAuthorizedKeysFile {authorized}\n"
        "StrictModes no\nPermitRootLogin yes\nUsePAM no\n"
    )
    return f"{sys.executable} -m glasshell sshd -i -f {config} -E {tmp_path / 'log'} --status none"


def run(
    command: str, keys: Keys, what: str, stdin: bytes = b"", user: str = "root"
) -> subprocess.CompletedProcess[bytes]:
    """What `what` says when ssh 9.2 reaches the server by its pipes."""
    target = Target(22, user, (keys.host().public,))
    with OpenSSHClient("9.2") as client:
        options = ["-o", f"ProxyCommand={command}", "-o", "StrictHostKeyChecking=no"]
        return client.run(target, what, *options, identity=keys.user(), stdin=stdin)


def test_exit_status_and_the_names_of_the_ends(command: str, keys: Keys) -> None:
    """What is no TCP socket has the names that sshd gives it."""
    done = run(command, keys, "echo $SSH_CONNECTION; exit 44")
    assert (done.stdout, done.returncode) == (b"UNKNOWN 65535 UNKNOWN 65535\n", 44), done.stderr


def test_bytes_both_ways_are_whole(command: str, keys: Keys) -> None:
    data = os.urandom(BYTES)
    done = run(command, keys, "cat", data)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_a_client_that_hangs_up_ends_the_server(command: str) -> None:
    """The end of the input comes through, and nothing stays behind."""
    done = subprocess.run(
        command.split(), input=b"SSH-2.0-x\r\n", capture_output=True, timeout=20, check=False
    )
    assert done.stdout.startswith(b"SSH-2.0-glasshell")


def test_a_style_behind_the_name_of_a_user_is_taken_off(command: str, keys: Keys) -> None:
    """OpenSSH's proxy-connect.sh: user:style."""
    done = run(command, keys, "id -un", user="root:style")
    assert (done.stdout, done.returncode) == (b"root\n", 0), done.stderr


@pytest.mark.parametrize("said", [b"SSH-1.5-HALLO\r\n", b""])
def test_who_never_logs_in_leaves_status_255(command: str, said: bytes) -> None:
    """OpenSSH's proto-mismatch.sh."""
    done = subprocess.run(command.split(), input=said, capture_output=True, timeout=20, check=False)
    assert done.returncode == 255
