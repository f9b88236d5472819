"""`glasshell agent` as a program: what it tells a shell, beside ssh-agent, and how it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cli.kit import Commands
from tests.needs import absent


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    with Commands(tmp_path) as made:
        made.environment["TMPDIR"] = str(tmp_path)
        yield made


def told(done: subprocess.CompletedProcess[bytes]) -> dict[str, str]:
    """The variables that a shell would have."""
    return dict(re.findall(r"(SSH_\w+)[= ]([^;\s]+);", done.stdout.decode()))


def shape(text: bytes) -> bytes:
    """What is said, without the names and numbers of one run."""
    return re.sub(rb"\d+", b"N", re.sub(rb"/\S+/agent\.\d+", b"SOCKET", text))


def test_what_a_shell_is_told(commands: Commands) -> None:
    if not shutil.which("ssh-agent"):
        absent("ssh-agent is not installed")
    for flags in ([], ["-s"], ["-c"]):
        ours = commands.run("agent", *flags)
        theirs = subprocess.run(
            ["ssh-agent", *flags], capture_output=True, env=commands.environment, check=False
        )
        assert ours.returncode == theirs.returncode == 0
        assert shape(ours.stdout) == shape(theirs.stdout)
        end = [commands.run("agent", "-k", *flags, environment=told(ours)),
               subprocess.run(["ssh-agent", "-k", *flags], capture_output=True, check=False,
                              env=commands.environment | told(theirs))]  # fmt: skip
        assert shape(end[0].stdout) == shape(end[1].stdout)
        assert end[0].returncode == end[1].returncode == 0


def test_an_agent_that_nobody_is_told_of_does_not_stay(commands: Commands, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = commands.run("agent", capture_output=False, stdout=full, stderr=-1)
    said = b"glasshell agent: cannot write the output: No space left on device\n"
    assert (done.returncode, done.stderr) == (255, said)
    deadline = time.monotonic() + 10
    while list(tmp_path.glob("**/ssh-*")):  # it removes its folder last
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_socket_and_folder_are_their_owners_alone_and_go_with_the_agent(commands: Commands) -> None:
    variables = told(commands.run("agent", "-s"))
    path, pid = Path(variables["SSH_AUTH_SOCK"]), int(variables["SSH_AGENT_PID"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    os.kill(pid, signal.SIGINT)  # from a terminal: it stays
    assert commands.run("add", "-l", environment=variables).returncode == 1
    descriptor = os.pidfd_open(pid)
    assert commands.run("agent", "-k", environment=variables).returncode == 0
    import select

    assert select.select([descriptor], [], [], 10)[0]
    os.close(descriptor)
    assert not path.parent.exists()


def test_a_command_has_an_agent_as_long_as_it_runs(commands: Commands, tmp_path: Path) -> None:
    script = 'echo "$SSH_AUTH_SOCK"; echo "$SSH_AGENT_PID"; test -S "$SSH_AUTH_SOCK"; echo "$1"; exit 7'
    done = commands.run("agent", "sh", "-c", script, "sh", "-k")
    path, pid, ok = done.stdout.decode().split()
    assert (ok, done.returncode) == ("-k", 7)
    try:
        descriptor = os.pidfd_open(int(pid))
    except ProcessLookupError:
        pass
    else:
        import select

        assert select.select([descriptor], [], [], 10)[0]
        os.close(descriptor)
    assert not Path(path).parent.exists()
    missing = commands.run("agent", "/nonexistent")
    assert (missing.returncode, missing.stderr) == (1, b"/nonexistent: No such file or directory\n")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["-c", "-s"], b"exclude"),
        (["-D", "-d"], b"exclude"),
        (["-t", "soon"], b"usage"),
        (["-O", "what"], b"Unknown -O option"),
        (["-E", "sha1"], b'Invalid hash algorithm "sha1"'),
        (["-P", "a", "-P", "b"], b"already specified"),
        (["-D", "true"], b"usage"),
        (["-Z"], b"usage"),
        (["-k"], b"SSH_AGENT_PID not set, cannot kill agent"),
    ],
)
def test_flags_that_do_not_fit(commands: Commands, flags: Sequence[str], says: bytes) -> None:
    done = commands.run("agent", *flags)
    assert done.returncode == 1
    assert says in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("pid", ["0", "1", "-5", "x", "99999999999"])
def test_numbers_that_are_no_agents_are_not_killed(commands: Commands, pid: str) -> None:
    done = commands.run("agent", "-k", environment={"SSH_AGENT_PID": pid})
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_socket_that_is_in_use_or_too_long(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    done = commands.run("agent", "-a", str(tmp_path / "there"))
    assert (done.returncode, (tmp_path / "there").read_text()) == (255, "mine")
    assert b"cannot listen" in done.stderr
    long = commands.run("agent", "-a", str(tmp_path / ("x" * 120)))
    assert long.returncode == 255
    assert b"longer than 107 bytes" in long.stderr


def foreground(commands: Commands, path: Path, **more: object) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        commands.line("agent", "-D", "-a", str(path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=commands.environment, **more,  # type: ignore[call-overload]
    )  # fmt: skip
    assert process.stdout.readline().startswith(b"SSH_AUTH_SOCK=")
    assert process.stdout.readline().startswith(b"echo Agent pid")
    return process


def test_whoever_else_connects_is_hung_up_on(commands: Commands, tmp_path: Path) -> None:
    if os.geteuid() != 0 or sys.platform != "linux":
        absent("root on Linux")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    sock = folder / "sock"
    process = foreground(commands, sock)
    try:
        sock.chmod(0o777)
        code = (
            "import os, socket; s = socket.socket(socket.AF_UNIX); s.settimeout(10); os.setuid(65534);"
            f" s.connect({str(sock)!r}); s.sendall(bytes([0, 0, 0, 1, 11])); print(len(s.recv(9)))"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert other.stdout in (b"0\n", b""), other.stderr
        hung_up = (b"ConnectionReset", b"BrokenPipe")
        assert any(name in other.stderr for name in hung_up) or other.stdout == b"0\n"
        with socket.socket(socket.AF_UNIX) as own:
            own.settimeout(10)
            own.connect(str(sock))
            own.sendall(bytes([0, 0, 0, 1, 11]))
            assert own.recv(9) == bytes([0, 0, 0, 5, 12, 0, 0, 0, 0])
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=10)
        folder.rmdir()
    assert errors == b"a client of uid 65534 is hung up on\n"


def test_the_memory_of_an_agent_is_hidden_from_its_user(commands: Commands, tmp_path: Path) -> None:
    """PR_SET_DUMPABLE: /proc/PID of a process that may not be dumped belongs to root."""
    if os.geteuid() != 0 or sys.platform != "linux":
        absent("root on Linux")
    # Whoever changes the uid may not be dumped either, until it says otherwise.
    code = (
        "import ctypes, os, resource; from glasshell.system.hardening import hide_memory; os.setuid(65534);"
        " ctypes.CDLL(None).prctl(4, 1, 0, 0, 0); print('open', flush=True); input();"
        " hide_memory(); print('hidden', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=commands.environment
    )
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        for said, owner in ((b"open\n", 65534), (b"hidden\n", 0)):
            assert process.stdout.readline() == said
            assert Path(f"/proc/{process.pid}/mem").stat().st_uid == owner
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            process.stdin.write(b"\n")
            process.stdin.flush()
        (core,) = [line for line in limits.splitlines() if line.startswith("Max core")]
        assert core.split()[4:6] == ["0", "0"]
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_frames_that_lie(commands: Commands, tmp_path: Path) -> None:
    """G2: a length of 2^32-1, an empty frame, half a frame: that client ends, the agent goes on."""
    process = foreground(commands, tmp_path / "sock")
    try:
        for data in (b"\xff" * 4, bytes(4), b"\0\4\0\1", b"\0\0\0\5\x0b"):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(str(tmp_path / "sock"))
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(100) == b""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(tmp_path / "sock"))
            client.sendall(bytes([0, 0, 0, 1, 200]))
            assert client.recv(5) == bytes([0, 0, 0, 1, 5])
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=10)
    assert b"Traceback" not in errors
