"""Bad input: one clear sentence with what was offered and wanted, a hint, 255, and no traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from glasshell.aio.identity import read_private_file
from tests.cli.kit import Commands, Login
from tests.interop.conftest import Start
from tests.interop.peers import Keys, OpenSSHServer, Server


def failed(done: subprocess.CompletedProcess[bytes], *said: str) -> str:
    """Asserts that it failed as it should; returns what it said."""
    told = done.stderr.decode()
    assert done.returncode == 255, told
    assert done.stdout == b""
    assert "Traceback" not in told
    for text in said:
        assert text in told, told
    return told


@contextmanager
def answering(reply: bytes, *, silent: bool = False) -> Iterator[int]:
    """A server that says `reply` to each connection, then waits for its end (`silent`) or ends it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(reply)
                    while silent and connection.recv(4096):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def ssh(commands: Commands, port: int, *words: str) -> subprocess.CompletedProcess[bytes]:
    return commands.run("ssh", "-F", "none", *words, "-p", str(port), "127.0.0.1", "true")


def test_an_unknown_host(commands: Commands) -> None:
    done = commands.run("ssh", "-F", "none", "no-such-host.invalid", "true")
    failed(done, "Could not resolve hostname no-such-host.invalid: ")


def test_a_refused_port(commands: Commands) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    told = f"connect to host 127.0.0.1 port {port}: Connection refused"
    failed(ssh(commands, port), told, "nothing listens")


def test_a_web_server(commands: Commands) -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\nServer: web\r\n\r\n") as port:
        failed(ssh(commands, port), f"port {port}", "It said HTTP/1.1 400 Bad Request", "no SSH server")


def test_a_server_of_ssh_1(commands: Commands) -> None:
    with answering(b"SSH-1.5-old\r\n") as port:
        failed(ssh(commands, port), "SSH-1 only")


def test_a_silent_server(commands: Commands) -> None:
    with answering(b"", silent=True) as port:
        done = ssh(commands, port, "-o", "ConnectTimeout=1")
        failed(done, f"127.0.0.1 port {port} was not done within 1 seconds")


def test_no_common_algorithm(login: Login) -> None:
    server_side = ("Ciphers=aes128-ctr", "MACs=hmac-sha2-256")
    told = failed(login.run("true", options=("KexAlgorithms=mlkem768x25519-sha256", *server_side)))
    assert "no matching key exchange method found. Their offer: sntrup761x25519-sha512" in told
    assert "mlkem768x25519-sha256" in told.replace("Their offer", "")


def test_terrapin_is_named_with_the_option_that_allows_it(
    login: Login, server: Callable[[str], Server]
) -> None:
    old = replace(login, target=server("tinysshd").target)  # Debian 12's: chacha20 without strict kex only
    failed(old.run("true"), "Terrapin", "AllowTerrapin")
    assert old.run("echo ok", options=("AllowTerrapin=yes",)).stdout == b"ok\n"


def test_a_wrong_key(login: Login, keys: Keys) -> None:
    stranger = keys.stranger().copy_to(login.commands.home)
    done = replace(login, identity=stranger).run("true", options=("BatchMode=yes",))
    told = failed(done, "root@127.0.0.1: Permission denied (publickey", "authorized_keys", str(stranger))
    assert "SHA256:" in told


def test_a_host_that_is_not_known(login: Login) -> None:
    done = login.run("true", options=("UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes"))
    failed(done, "No ED25519 host key is known for [127.0.0.1]", "Host key verification failed.", "SHA256:")


def test_a_changed_host_key(login: Login, keys: Keys) -> None:
    changed = login.commands.home / "changed"
    changed.write_text(f"# a comment\n[127.0.0.1]:{login.target.port} {keys.stranger().public}\n")
    done = login.run("true", options=(f"UserKnownHostsFile={changed}",))
    told = failed(done, "Host key verification failed.", "REMOTE HOST IDENTIFICATION HAS CHANGED!")
    assert f"Offending ED25519 key in {changed}:2" in told
    assert "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!" in told
    assert told.count("SHA256:") >= 2  # what was shown, and what was known


def test_a_changed_host_key_is_let_pass_when_told_so(login: Login, keys: Keys) -> None:
    changed = login.commands.home / "changed"
    changed.write_text(f"[127.0.0.1]:{login.target.port} {keys.stranger().public}\n")
    options = (f"UserKnownHostsFile={changed}", "StrictHostKeyChecking=no")
    done = login.run("echo in", options=options)
    assert (done.returncode, done.stdout) == (0, b"in\n")
    assert b"REMOTE HOST IDENTIFICATION HAS CHANGED!" in done.stderr
    done = login.run("echo in", options=(*options, "ExitOnForwardFailure=yes"), flags=("-R", "0:h:1"))
    failed(done, "has changed")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"junk\n", "not a private key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "cut short"),
        (b"ssh-ed25519 AAAA x\n", "a public key where a private key belongs"),
        (b"", "not a private key"),
    ],
)
def test_a_malformed_key_file(login: Login, content: bytes, said: str) -> None:
    path = login.commands.home / "bad"
    path.write_bytes(content)
    path.chmod(0o600)
    done = replace(login, identity=path).run("true", options=("BatchMode=yes",))
    failed(done, "Permission denied", str(path), said)


def test_a_key_file_that_others_can_read(login: Login) -> None:
    login.identity.chmod(0o644)
    login.identity.with_name(login.identity.name + ".pub").unlink()
    failed(login.run("true", options=("BatchMode=yes",)), "0644", "too open")


def test_a_malformed_known_hosts(login: Login) -> None:
    path = login.commands.home / "damaged"
    path.write_text(f"[127.0.0.1]:{login.target.port} ssh-ed25519 AAAA\n")
    done = login.run("true", options=(f"UserKnownHostsFile={path}", "StrictHostKeyChecking=yes"))
    failed(done, "No ED25519 host key is known", f"{path}:1")


def test_a_known_hosts_that_cannot_be_read(login: Login, tmp_path: Path) -> None:
    done = login.run("true", options=(f"UserKnownHostsFile={tmp_path}",))
    failed(done, f"cannot read known_hosts {tmp_path}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Port none\n", 'config line 1: Port: "none" is not a number'),
        ("Host *\nMatch exec\n", "config line 2: Bad Match condition: missing argument for Match 'exec'"),
        ("Host other\nFrobnicate 1\n", "config: line 2: Bad configuration option: Frobnicate"),
        ('User "a\n', "config line 1: "),
    ],
)
def test_a_malformed_configuration(commands: Commands, text: str, said: str) -> None:
    (commands.home / "config").write_text(text)
    failed(commands.run("ssh", "-F", "config", "h"), said)


def test_a_configuration_that_others_can_write(commands: Commands) -> None:
    (commands.home / ".ssh").mkdir(mode=0o700)
    config = commands.home / ".ssh/config"
    config.write_text("Port 1\n")
    config.chmod(0o666)
    failed(commands.run("ssh", "h"), f"Bad owner or permissions on {config}", "chmod 600")


def test_what_has_no_effect_is_a_warning(login: Login) -> None:
    done = login.run("echo ok", options=("Tunnel=yes",))
    assert (done.returncode, done.stdout) == (0, b"ok\n")
    assert done.stderr == b"command line: Tunnel is not supported: it has no effect\r\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-Z", "h"), "-Z not recognized"),
        (("-p", "0", "h"), "Port: 0 is not within 1 to 65535"),
        (("-o", "Port", "h"), 'no argument after keyword "Port"'),
        (("-L", "nonsense", "h"), "is no forwarding"),
        (("-c", "rot13", "h"), "known: aes256-gcm"),
        (("-f", "h"), "Cannot fork into background without a command"),
        (("-s", "h"), "subsystem"),
        (("-o", "RemoteCommand=x", "h", "y"), "Cannot execute command-line and remote command."),
        (("-F", "/nowhere", "h"), "Can't open user config file /nowhere: No such file or directory"),
        (("-E", "/nowhere/log", "h"), "Couldn't open logfile /nowhere/log: No such file or directory"),
        (("--trace", "/nowhere/x.jsonl", "h"), "cannot write the trace /nowhere/x.jsonl"),
        (("--trace", "x.txt", "h"), ".jsonl"),
        (("@h",), "names no host"),
        ((), "usage: glasshell ssh"),
    ],
)
def test_usage(commands: Commands, words: tuple[str, ...], said: str) -> None:
    failed(commands.run("ssh", *words), said)


def test_an_identity_file_that_is_not_there(login: Login) -> None:
    done = login.run("echo ok", flags=("-i", "/nowhere/key"))
    assert done.stdout == b"ok\n"
    assert b"Warning: Identity file /nowhere/key not accessible: No such file or directory." in done.stderr


def test_a_refused_command(start: Start, keys: Keys, login: Login) -> None:
    server = start(OpenSSHServer("9.2", keys, extra_config="MaxSessions 0"))
    failed(replace(login, target=server.target).run("true"), "refused")


def test_a_server_that_goes_away_in_the_login(login: Login, server: Callable[[str], Server]) -> None:
    with answering(b"SSH-2.0-gone\r\n") as port:
        failed(ssh(login.commands, port), f"Connection closed by 127.0.0.1 port {port}")


def test_a_key_that_is_a_fifo_is_not_waited_for(commands: Commands) -> None:
    """Nobody writes to it, and nothing could end what waits for that."""
    os.mkfifo(commands.home / "fifo", 0o600)
    with answering(b"") as port:
        words = ("-F", "none", "-i", "fifo", "-o", "CertificateFile=fifo", "-p", str(port))
        failed(commands.run("ssh", *words, "127.0.0.1", "true"))


def test_a_key_that_somebody_writes_to_a_fifo_is_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    with subprocess.Popen(["sh", "-c", 'echo one >"$0"', str(fifo)]) as writer:
        while (data := read_private_file(fifo)) == b"":  # it may not have come to that yet
            assert writer.poll() is None
    assert data == b"one\n"
