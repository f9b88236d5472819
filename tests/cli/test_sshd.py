"""The command line of `glasshell sshd`: what it reads, refuses and makes; its debug mode and its ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from glasshell.cli import hostkeys, sshd
from glasshell.errors import ConfigError, UsageError
from tests.interop.glass import COMMAND, environment
from tests.needs import absent

pytest.importorskip("pwd")

PATIENCE = 20.0


@pytest.fixture(scope="module")
def host_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("host") / "key"
    try:
        line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(line, check=True, timeout=PATIENCE)
    except FileNotFoundError:
        absent("ssh-keygen is not installed")
    return path


def configured(folder: Path, host_key: Path, text: str = "") -> str:
    path = folder / "sshd_config"
    path.write_text(
        f"{text}\nPidFile none\nHostKey {host_key}\nStrictModes no\nAuthorizedKeysFile {host_key}.pub\n"
    )
    return str(path)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


# -- -t


def test_a_good_configuration(tmp_path: Path, host_key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sshd.main(["-t", "-f", configured(tmp_path, host_key)]) == 0
    assert capsys.readouterr().err == ""


def test_what_has_no_effect_is_said(
    tmp_path: Path, host_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configured(tmp_path, host_key, "RSAAuthentication yes\nX11Forwarding yes")
    assert sshd.main(["-t", "-f", path]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"{path} line 1: Deprecated option RSAAuthentication",
        f"{path} line 2: X11Forwarding yes is not supported: it stays off",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Port 99999", "line 1: Port: 99999 is not within 1 to 65535"),
        ("\nMatch User x Group y all", "line 2: Bad Match condition: 'all' cannot be combined"),
        ("Frobnicate yes", ": line 1: Bad configuration option: Frobnicate"),
        ("RequiredRSASize x", 'line 1: RequiredRSASize: "x" is not a number'),
    ],
)
def test_a_bad_configuration(tmp_path: Path, host_key: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        sshd.main(["-t", "-f", configured(tmp_path, host_key, text)])


def test_no_such_file() -> None:
    with pytest.raises(ConfigError, match="/no/such: No such file or directory"):
        sshd.main(["-t", "-f", "/no/such"])


def test_options_come_before_the_file(tmp_path: Path, host_key: Path) -> None:
    path = configured(tmp_path, host_key, "MaxAuthTries 2\nPort 1\nListenAddress ::1")
    arguments = sshd.parser().parse_args(["-f", path, "-o", "MaxAuthTries=9", "-p", "7", "-p", "8"])
    config = sshd.configure(arguments)
    assert config.policy.max_auth_failures == 9
    assert config.options.ports == (7, 8)


def test_a_bad_option_is_named() -> None:
    with pytest.raises(ConfigError, match="command line: Port: "):
        sshd.main(["-t", "-f", "none", "-o", "Port=x"])


# -- host keys


@pytest.mark.parametrize("trouble", ["missing", "open to all", "garbage"])
def test_host_keys_that_cannot_be_used(
    trouble: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    if trouble != "missing":
        key.write_text("x")
        key.chmod(0o644 if trouble == "open to all" else 0o600)
    assert sshd.main(["-t", "-f", "none", "-h", str(key)]) == 255
    said = capsys.readouterr().err
    assert f"Unable to load host key {key}: " in said
    assert "no hostkeys available -- exiting" in said
    assert "glasshell keygen" in said


def test_a_key_of_no_use_to_the_policy(
    tmp_path: Path, host_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configured(tmp_path, host_key, "HostKeyAlgorithms rsa-sha2-512")
    assert sshd.main(["-t", "-f", path]) == 255
    assert "found ssh-ed25519, wanted one for rsa-sha2-512" in capsys.readouterr().err


def test_an_ordinary_users_keys_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    paths = [Path(path) for path in hostkeys.users_host_keys()]
    folder = tmp_path / "state" / "glasshell"
    assert [path.name for path in paths] == ["ssh_host_ed25519_key", "ssh_host_rsa_key"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    before = [path.read_bytes() for path in paths]
    assert [Path(path).read_bytes() for path in hostkeys.users_host_keys()] == before
    for path, size in zip(paths, ("256", "3072"), strict=True):
        shown = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(path)], capture_output=True, text=True, check=True
        )
        assert shown.stdout.startswith(f"{size} SHA256:")
        public = subprocess.run(
            ["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True, check=True
        )
        assert public.stdout.split()[:2] == path.with_name(f"{path.name}.pub").read_text().split()[:2]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        name for path in paths for name in (path.name, f"{path.name}.pub")
    )


# -- running


class Running:
    """A server in a process of its own, whose log is read line by line."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *options],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self.lines: list[str] = []

    def until(self, pattern: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\r\n"))
            if re.search(pattern, line):
                return line
        raise AssertionError(f"{pattern} did not come; it said {self.lines}")

    def end(self) -> int:
        assert self.process.stderr is not None
        self.lines += [line.rstrip("\r\n") for line in self.process.stderr]
        return self.process.wait(PATIENCE)


def greeting(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        return sock.makefile("rb").readline()


def test_debug_mode_serves_one_connection_beside_a_daemon(tmp_path: Path, host_key: Path) -> None:
    config = configured(tmp_path, host_key, "ListenAddress 127.0.0.1")
    daemon_port, port = free_port(), free_port()
    daemon = Running("-D", "-f", config, "-p", str(daemon_port))
    daemon.until("Server listening on")
    debug = Running("-ddd", "-f", config, "-p", str(port), "--trace", str(tmp_path / "t.jsonl"), "--timeline")
    debug.until("Server listening on")
    assert greeting(port).startswith(b"SSH-2.0-")
    assert debug.end() == 255
    assert "debug1: Server will not fork when running in debugging mode." in debug.lines
    assert any(re.match(r"debug3: send packet: type 20 \[preauth\]", line) for line in debug.lines)
    assert any("SSH_MSG_KEXINIT" in line for line in debug.lines)  # the timeline
    records = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert len(records) > 3
    with pytest.raises(ConnectionRefusedError):
        greeting(port)
    assert greeting(daemon_port).startswith(b"SSH-2.0-")
    daemon.process.terminate()
    assert daemon.end() == 0
    assert daemon.lines[-1].startswith(("Received signal 15; terminating.", "Connection"))


def test_workers_serve_are_replaced_and_end_together(tmp_path: Path, host_key: Path) -> None:
    config = configured(tmp_path, host_key, "ListenAddress 127.0.0.1")
    port, status, pid_file = free_port(), tmp_path / "status", tmp_path / "pid"
    daemon = Running("-D", "-f", config, "-p", str(port), "--workers", "2", "--status", str(status), "-o",
                     "LogLevel=DEBUG", "-o", f"PidFile={pid_file}")  # fmt: skip
    for _ in range(2):
        daemon.until("Status socket at")
    while not pid_file.exists():  # it is written once both have said that they serve
        assert daemon.process.poll() is None
    assert {path.name for path in tmp_path.glob("status*")} == {"status.1", "status.2"}
    assert greeting(port).startswith(b"SSH-2.0-")
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert f"(pid {children[0]}) ended with signal 9" in daemon.until("another takes its place")
    daemon.until("Status socket at")
    assert greeting(port).startswith(b"SSH-2.0-")
    second = Running("-D", "-f", config, "-p", str(port), "--workers", "2", "--status", "none")
    assert second.end() == 255  # the address is taken, by workers too
    daemon.process.terminate()
    assert daemon.end() == 0
    with pytest.raises(ConnectionRefusedError):
        greeting(port)


@pytest.mark.parametrize("count", ["0", "x", "257"])
def test_workers_that_cannot_be(count: str) -> None:
    with pytest.raises(UsageError, match="--workers"):
        sshd.main(["--workers", count])


def test_workers_are_not_for_one_connection(
    tmp_path: Path, host_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sshd.main(["-f", configured(tmp_path, host_key), "-d", "--workers", "2"]) == 255
    assert "--workers are for normal service" in capsys.readouterr().err


def test_debug_mode_that_nobody_calls_ends_by_a_signal(tmp_path: Path, host_key: Path) -> None:
    debug = Running(
        "-d", "-f", configured(tmp_path, host_key, "ListenAddress 127.0.0.1"), "-p", str(free_port())
    )
    debug.until("Server will not fork")
    debug.process.send_signal(signal.SIGINT)
    assert debug.end() == 255


def test_a_port_that_is_taken(tmp_path: Path, host_key: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        config = configured(tmp_path, host_key, "ListenAddress 127.0.0.1")
        running = Running("-D", "-f", config, "-p", str(port))
        assert running.end() == 255
    assert any(f"Bind to port {port} on 127.0.0.1 failed: " in line for line in running.lines)
    assert running.lines[-1] == "Cannot bind any address."


def test_the_log_is_appended_to_a_file(tmp_path: Path, host_key: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    port = free_port()
    config = configured(tmp_path, host_key, "ListenAddress 127.0.0.1\nLogLevel VERBOSE")
    running = Running("-D", "-f", config, "-p", str(port), "-E", str(log))
    while "Server listening" not in log.read_text():
        assert running.process.poll() is None
    greeting(port)
    while "Connection closed by" not in log.read_text():
        assert running.process.poll() is None
    running.process.terminate()
    assert running.end() == 0
    assert running.lines == []
    text = log.read_text()
    assert text.startswith("before\n")
    assert "Connection from 127.0.0.1" in text
    assert "debug1" not in text


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
        theirs, _ = listener.accept()
    with ours, theirs:
        yield ours, theirs


def test_inetd(tmp_path: Path, host_key: Path, wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    line = [*COMMAND, "-i", "-e", "-f", configured(tmp_path, host_key)]
    with subprocess.Popen(line, stdin=theirs, stderr=subprocess.PIPE, env=environment()) as process:
        theirs.close()
        assert ours.makefile("rb").readline().startswith(b"SSH-2.0-")
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(PATIENCE) == 255  # as sshd(8): nobody has logged in


def test_inetd_wants_a_socket(tmp_path: Path, host_key: Path) -> None:
    line = [*COMMAND, "-i", "-e", "-f", configured(tmp_path, host_key)]
    done = subprocess.run(
        line, stdin=subprocess.DEVNULL, capture_output=True, env=environment(), timeout=PATIENCE
    )
    assert done.returncode == 255
    assert b"-i wants a connected socket" in done.stderr


def test_the_pid_file_is_there_while_it_serves(tmp_path: Path, host_key: Path) -> None:
    named, port = tmp_path / "pid", free_port()
    config = configured(tmp_path, host_key, f"ListenAddress 127.0.0.1\nPidFile {named}")
    line = [*COMMAND, "-D", "-f", config, "-p", str(port)]
    with subprocess.Popen(line, env=environment(), stderr=subprocess.DEVNULL) as process:
        for _ in range(int(PATIENCE / 0.02)):
            if named.exists() and named.read_text():
                break
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        assert named.read_text() == f"{process.pid}\n"
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert not named.exists()


def test_it_goes_to_the_background_once_it_listens(tmp_path: Path, host_key: Path) -> None:
    log, port = tmp_path / "log", free_port()
    config = configured(tmp_path, host_key, "ListenAddress 127.0.0.1")
    line = [*COMMAND, "-f", config, "-p", str(port), "-E", str(log)]
    done = subprocess.run(line, capture_output=True, env=environment(), timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert greeting(port).startswith(b"SSH-2.0-")
    (pid,) = {int(found) for found in pids_listening(port)}
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGTERM)


def pids_listening(port: int) -> Iterator[str]:
    """The processes that have a listening socket of `port`."""
    inodes = {
        fields[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[1].endswith(f":{port:04X}") and fields[3] == "0A"
    }
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(entry.readlink()) in {f"socket:[{inode}]" for inode in inodes}:
                yield entry.parts[2]
        except OSError:
            continue
