"""Shared connections: ours by OpenSSH's masters, OpenSSH's by ours, and ours by ours."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import commands, login
from tests.cli.kit import PATIENCE, Login
from tests.interop.peers import Client, Keys, OpenSSHClient, Server

__all__ = ["commands", "login"]

VERSIONS = ("9.2", "10.6")
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(params=VERSIONS)
def ssh(request: pytest.FixtureRequest, client: Callable[[str], Client]) -> OpenSSHClient:
    found = client(f"openssh-{request.param}")
    assert isinstance(found, OpenSSHClient)
    return found


@pytest.fixture
def path(ssh: OpenSSHClient) -> Iterator[Path]:
    """A ControlPath that both programs can reach."""
    with tempfile.TemporaryDirectory(prefix="glasshell-", dir=ssh.place.root / "tmp") as folder:
        yield Path(folder) / "control"


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def exchange(run: Run) -> None:
    """What a session has to carry: both ways, both outputs, the status; much of it."""
    done = run("cat; echo err >&2; exit 7", stdin=b"in\n")
    assert (done.stdout, done.returncode) == (b"in\n", 7)
    assert b"err\n" in done.stderr
    data = os.urandom(3_000_000)
    assert run("cat", stdin=data).stdout == data
    assert run("kill -9 $$").returncode == 255


@pytest.fixture
def theirs(ssh: OpenSSHClient, path: Path, server: Callable[[str], Server], keys: Keys) -> Iterator[Path]:
    """OpenSSH's master."""
    target = server("openssh-9.2").target
    line = ssh.argv(target, "-M", "-N", "-S", ssh.place.inside(path), identity=keys.user())
    with subprocess.Popen(line, stderr=subprocess.PIPE) as master:
        try:
            until(path.exists, "the master has no socket")
            yield path
        finally:
            master.terminate()


def test_our_sessions_by_their_master(theirs: Path, login: Login) -> None:
    flags = ("-S", str(theirs))
    exchange(lambda command, **more: login.run(command, flags=flags, **more))
    check = login.run(flags=(*flags, "-O", "check"))
    assert re.fullmatch(rb"Master running \(pid=\d+\)\r\n", check.stderr)
    assert check.returncode == 0
    port = login.target.port
    direct = login.run(flags=(*flags, "-W", f"127.0.0.1:{port}"), stdin=b"\n")
    assert direct.stdout.startswith(b"SSH-2.0-OpenSSH_9.2")


def test_our_terminal_by_their_master(theirs: Path, login: Login) -> None:
    screen = login.shell("-S", str(theirs))
    screen.type(b"until stty size | grep 30; do sleep 0.02; stty size; done\r")
    screen.expect(rb"\n24 80\r\n")
    screen.resize(30, 100)
    screen.expect(rb"30 100\r\n")
    screen.type(b"exit 3\r")
    screen.expect(rb"Shared connection to \S+ closed\.")
    assert screen.wait() == 3


def test_our_forwardings_by_their_master(theirs: Path, login: Login) -> None:
    flags = ("-S", str(theirs))
    asked = login.run(flags=(*flags, "-O", "forward", "-R", f"0:127.0.0.1:{login.target.port}"))
    assert asked.returncode == 0, asked.stderr
    port = int(asked.stdout)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        assert connection.recv(8) == b"SSH-2.0-"
    refused = login.run(flags=(*flags, "-O", "cancel", "-L", "1:127.0.0.1:1"))
    assert refused.returncode == 255
    assert b"forwarding request failed: port not forwarded" in refused.stderr


def test_their_master_is_stopped_and_ended(theirs: Path, login: Login) -> None:
    flags = ("-S", str(theirs))
    stopped = login.run(flags=(*flags, "-O", "stop"))
    assert (stopped.stderr, stopped.returncode) == (b"Stop listening request sent.\r\n", 0)
    until(lambda: not theirs.exists(), "the socket is still there")
    gone = login.run(flags=(*flags, "-O", "exit"))
    assert gone.stderr == f"Control socket connect({theirs}): No such file or directory\r\n".encode()
    assert gone.returncode == 255


@pytest.fixture
def ours(path: Path, login: Login) -> Iterator[Path]:
    """Our master."""
    master = login.start(flags=("-M", "-N", "-S", str(path)))
    until(path.exists, "the master has no socket")
    yield path
    master.kill()


def passenger(ssh: OpenSSHClient, path: Path, login: Login, keys: Keys) -> Run:
    def run(command: str | None, *flags: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        where = ("-S", ssh.place.inside(path), *flags)
        return ssh.run(login.target, command, *where, identity=keys.user(), stdin=stdin)

    return run


def test_their_sessions_by_our_master(ours: Path, ssh: OpenSSHClient, login: Login, keys: Keys) -> None:
    run = passenger(ssh, ours, login, keys)
    assert ours.stat().st_mode & 0o777 == 0o600
    exchange(run)
    check = run(None, "-O", "check")
    assert re.search(rb"Master running \(pid=\d+\)", check.stderr)
    terminal = run("tty; echo $TERM", "-tt")
    assert terminal.stdout.startswith(b"/dev/pts/")
    direct = run(None, "-W", f"127.0.0.1:{login.target.port}", stdin=b"\n")
    assert direct.stdout.startswith(b"SSH-2.0-OpenSSH_9.2")


def test_their_forwardings_by_our_master(ours: Path, ssh: OpenSSHClient, login: Login, keys: Keys) -> None:
    run = passenger(ssh, ours, login, keys)
    place = f"127.0.0.1:{login.target.port}"
    port = int(run(None, "-O", "forward", "-R", f"0:{place}").stdout)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        assert connection.recv(8) == b"SSH-2.0-"
    with socket.create_server(("127.0.0.1", 0)) as free:
        mine = free.getsockname()[1]
    assert run(None, "-O", "forward", "-L", f"{mine}:{place}").returncode == 0
    with socket.create_connection(("127.0.0.1", mine), PATIENCE) as connection:
        assert connection.recv(8) == b"SSH-2.0-"
    assert run(None, "-O", "cancel", "-L", f"{mine}:{place}").returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", mine), PATIENCE)
    assert b"port not forwarded" in run(None, "-O", "cancel", "-L", f"{mine}:{place}").stderr


def test_our_master_is_stopped_and_ended(ours: Path, ssh: OpenSSHClient, login: Login, keys: Keys) -> None:
    run = passenger(ssh, ours, login, keys)
    assert b"Exit request sent." in run(None, "-O", "exit").stderr
    until(lambda: not ours.exists(), "the socket is still there")


# ---- ours with ours; what only one version has to show


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "control"


def logins(login: Login, control: Path, command: str, *more: str) -> subprocess.CompletedProcess[bytes]:
    options = ("ControlMaster=auto", f"ControlPath={control}", *more)
    return login.run(command, options=options)


def test_a_master_that_persists_serves_and_goes(login: Login, control: Path) -> None:
    first = logins(login, control, "echo $PPID", "ControlPersist=60")
    second = logins(login, control, "echo $PPID", "ControlPersist=60")
    assert first.stdout == second.stdout != b""  # one connection: one process of sshd
    assert first.returncode == second.returncode == 0
    ended = login.run(flags=("-S", str(control), "-O", "exit"))
    assert ended.returncode == 0
    until(lambda: not control.exists(), "the socket is still there")


def test_a_master_that_nobody_needs_any_more_ends(login: Login, control: Path) -> None:
    assert logins(login, control, "true", "ControlPersist=1").returncode == 0
    assert control.exists()
    until(lambda: not control.exists(), "the master did not end")


def test_what_a_dead_master_has_left_is_taken_away(login: Login, control: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(control))
    done = logins(login, control, "echo on")
    assert (done.stdout, done.stderr, done.returncode) == (b"on\n", b"", 0)
    assert not control.exists()


def test_a_place_that_is_taken(login: Login, control: Path) -> None:
    control.touch()
    done = login.run("echo on", options=("ControlMaster=yes", f"ControlPath={control}"))
    assert (done.stdout, done.returncode) == (b"on\n", 0)
    assert b"already exists, disabling multiplexing" in done.stderr


def test_a_path_that_is_too_long(login: Login, control: Path) -> None:
    done = logins(login, Path(f"{control}{'x' * 120}"), "true")
    assert done.returncode == 255
    assert b"ControlPath too long" in done.stderr


def test_a_command_for_a_master_wants_a_path(login: Login) -> None:
    done = login.run(flags=("-O", "check"))
    assert done.returncode == 255
    assert b'No ControlPath specified for "-O" command' in done.stderr
    assert b"Invalid multiplex command" in login.run(flags=("-O", "dance")).stderr


def test_who_rides_along_hears_that_the_master_is_gone(login: Login, control: Path) -> None:
    master = login.start(flags=("-M", "-N", "-S", str(control)))
    until(control.exists, "the master has no socket")
    rider = login.start("echo on; cat", flags=("-S", str(control)))
    assert rider.stdout is not None
    assert rider.stdout.readline() == b"on\n"
    master.send_signal(signal.SIGKILL)
    assert rider.wait(PATIENCE) == 255


def test_the_program_ends_with_its_rider(login: Login, control: Path, tmp_path: Path) -> None:
    master = login.start(flags=("-M", "-N", "-S", str(control)))
    until(control.exists, "the master has no socket")
    mark = tmp_path / "mark"
    rider = login.start(f"echo on; cat; touch {mark}", flags=("-S", str(control)))
    assert rider.stdout is not None
    assert rider.stdout.readline() == b"on\n"
    rider.send_signal(signal.SIGTERM)
    assert rider.wait(PATIENCE) == 255
    until(mark.exists, "the program still runs")
    assert master.poll() is None


def test_two_sessions_at_once_with_much_to_say(login: Login, control: Path) -> None:
    login.start(flags=("-M", "-N", "-S", str(control)))
    until(control.exists, "the master has no socket")
    flags = ("-S", str(control))
    riders = [login.start("head -c 5000000 /dev/zero", flags=flags) for _ in range(2)]
    assert [len(rider.communicate(timeout=PATIENCE)[0]) for rider in riders] == [5_000_000] * 2
