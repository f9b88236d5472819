"""`glasshell ssh HOST COMMAND` against sshd 9.2: streams, exit status, forwardings, views."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.kit import PATIENCE, Login
from tests.needs import absent

BULK = 10_000_000


def test_output_errors_and_status_are_the_commands(login: Login) -> None:
    done = login.run("echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


@pytest.mark.parametrize("command", ["kill -9 $$", "kill -TERM $$"])
def test_a_signal_is_255_as_with_ssh(command: str, login: Login) -> None:
    assert login.run(command).returncode == 255


def test_words_are_joined_as_ssh_joins_them(login: Login) -> None:
    assert login.run("printf", "'%s.'", "a", "'b c'").stdout == b"a.b c."


def test_a_shell_reads_its_commands_from_a_pipe(login: Login) -> None:
    done = login.run(stdin=b"echo $((40 + 2)); exit 3\n")
    assert done.stdout.endswith(b"42\n")
    assert done.returncode == 3
    assert b"Pseudo-terminal will not be allocated because stdin is not a terminal." in done.stderr


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


@pytest.mark.parametrize("options", [(), ("RekeyLimit=1M",), ("Compression=yes",)])
def test_ten_megabytes_each_way_through_pipes(login: Login, options: tuple[str, ...]) -> None:
    data = os.urandom(BULK)
    done = login.run("cat", stdin=data, options=options)
    assert digest(done.stdout) == digest(data)
    assert done.returncode == 0, done.stderr


def test_ten_megabytes_each_way_through_files(login: Login, tmp_path: Path) -> None:
    data = os.urandom(BULK)
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as target:
        done = login.run("cat", stdin=source, stdout=target, capture_output=False)
    assert done.returncode == 0
    assert digest((tmp_path / "out").read_bytes()) == digest(data)


def test_the_end_of_input_is_passed_on_while_output_goes_on(login: Login) -> None:
    done = login.run("cat; echo after the end", stdin=b"input\n")
    assert done.stdout == b"input\nafter the end\n"


def test_output_comes_while_input_is_open(login: Login) -> None:
    process = login.start("head -n1; echo done")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"one\n")
    process.stdin.flush()
    assert process.stdout.read() == b"one\ndone\n"
    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("flags", [(), ("-n",)])
def test_an_empty_input(login: Login, flags: tuple[str, ...]) -> None:
    done = login.run("cat; echo ended", flags=flags, stdin=subprocess.DEVNULL)
    assert done.stdout == b"ended\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed(closed: str, login: Login) -> None:
    words = login.commands.line(*login.words(), "echo out; echo err >&2; exit 5")
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *words], env=login.commands.environment, capture_output=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 5
    assert done.stdout == (b"" if ">&- " in closed + " " and not closed.startswith("2") else b"out\n")


def test_a_reader_that_goes_away_ends_the_command(login: Login) -> None:
    process = login.start("yes")
    assert process.stdout is not None
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(PATIENCE) == 255  # yes died of SIGPIPE
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_what_writes_to_a_pipe_leaves_it_blocking(login: Login) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, True)
    done = login.run("echo x", stdout=writing, stderr=writing, capture_output=False)
    assert done.returncode == 0
    assert os.get_blocking(writing)
    assert os.read(reading, 10) == b"x\n"
    os.close(reading)
    os.close(writing)


def test_the_environment_is_sent_as_said(login: Login) -> None:
    done = login.run(
        "echo $GLASSHELL_A $GLASSHELL_B $LC_X",
        options=("SetEnv=GLASSHELL_A=set", "SendEnv=GLASSHELL_* -LC_*"),
        environment={"GLASSHELL_B": "sent", "LC_X": "kept back"},
    )
    assert done.stdout == b"set sent\n"


def test_a_subsystem(login: Login) -> None:
    process = login.start("sftp", flags=("-s",))
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\0\0\0\x05\x01\0\0\0\x03")  # SSH_FXP_INIT, version 3
    process.stdin.flush()
    assert process.stdout.read(9)[4:] == b"\x02\0\0\0\x03"
    process.stdin.close()
    process.stdout.read()
    assert process.wait(PATIENCE) == 0


def test_the_configuration_file_and_an_ssh_address(login: Login) -> None:
    target = login.target
    (login.commands.home / ".ssh").mkdir(mode=0o700)
    (login.commands.home / "kh").write_text(target.known_hosts())
    (login.commands.home / ".ssh/config").write_text(
        f"Host short\n  HostName {target.host}\n  Port {target.port}\n  User {target.user}\n"
        f"  IdentityFile {login.identity}\n  UserKnownHostsFile ~/kh\n  RemoteCommand echo by config\n"
    )
    done = login.commands.run("ssh", "short")
    assert done.stdout == b"by config\n", done.stderr
    address = f"ssh://{target.user}@{target.host}:{target.port}"
    done = login.commands.run(
        "ssh", "-i", str(login.identity), "-o", "UserKnownHostsFile=~/kh", address, "echo by address"
    )
    assert done.stdout == b"by address\n", done.stderr


# ---- what is told


def test_the_log_goes_where_it_is_sent(login: Login, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = login.run("echo x", flags=("-v", "-E", str(log)))
    assert done.stderr == b""
    assert b"debug1: Connection established.\r\n" in log.read_bytes()
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("flag", "level"), [("-v", 1), ("-vv", 2), ("-vvv", 3)])
def test_each_v_tells_more(login: Login, flag: str, level: int) -> None:
    told = login.run("true", flags=(flag,)).stderr
    assert [f"debug{n}: ".encode() in told for n in (1, 2, 3)] == [n <= level for n in (1, 2, 3)]


def test_verbose_is_v_without_its_debugging(login: Login) -> None:
    told = login.run("true", options=("LogLevel=VERBOSE",)).stderr
    assert b"Authenticated to " in told
    assert b"debug" not in told


@pytest.mark.parametrize(("level", "told"), [("INFO", True), ("ERROR", False)])
def test_a_new_host_is_no_error(level: str, told: bool, login: Login, tmp_path: Path) -> None:
    known = tmp_path / "new_hosts"
    done = login.run(
        "true",
        options=(f"LogLevel={level}", f"UserKnownHostsFile={known}", "StrictHostKeyChecking=accept-new"),
    )
    assert done.returncode == 0
    assert (b"Warning: Permanently added" in done.stderr) is told
    assert known.read_text("utf-8").startswith("[127.0.0.1]:")


def test_quiet_says_nothing_at_all(login: Login) -> None:
    done = login.commands.run("ssh", "-F", "none", "-q", "-p", "1", "127.0.0.1")
    assert (done.returncode, done.stderr) == (255, b"")


def test_the_timeline_is_drawn_at_the_end(login: Login) -> None:
    done = login.run("echo x", flags=("--timeline",))
    assert done.stdout == b"x\n"
    told = done.stderr.decode()
    for name in ("SSH_MSG_KEXINIT", "SSH_MSG_NEWKEYS", "SSH_MSG_USERAUTH_SUCCESS", "SSH_MSG_CHANNEL_CLOSE"):
        assert name in told
    assert "4 authentication" in told


def test_the_timeline_is_drawn_after_a_failure_too(login: Login) -> None:
    done = login.commands.run("ssh", "-F", "none", "--timeline", "-p", "1", "127.0.0.1")
    assert done.returncode == 255
    assert b"Connection refused" in done.stderr
    assert b"0 TCP" in done.stderr


@pytest.mark.parametrize("ending", ["jsonl", "sqlog"])
def test_a_trace_is_json_to_the_last_record(login: Login, tmp_path: Path, ending: str) -> None:
    trace = tmp_path / f"trace.{ending}"
    assert login.run("exit 4", flags=("--trace", str(trace))).returncode == 4
    lines = trace.read_text().rstrip("\n").split("\n")
    records = [json.loads(line.removeprefix("\x1e")) for line in lines]
    assert "USERAUTH_SUCCESS" in json.dumps(records)
    assert "closed" in json.dumps(records[-1])


# ---- forwardings


@contextmanager
def echo() -> Iterator[int]:
    """A server that answers in capitals and ends each connection when its peer does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while data := connection.recv(65536):
                        connection.sendall(data.upper())

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def talk(port: int, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def until(process: subprocess.Popen[bytes], text: bytes) -> bytes:
    """Reads the log until `text` is in it."""
    assert process.stderr is not None
    told = b""
    while text not in told:
        line = process.stderr.readline()
        assert line, told
        told += line
    return told


@pytest.mark.parametrize("bind", ["", "127.0.0.1:", "*:"])
def test_a_local_forwarding(login: Login, bind: str) -> None:
    with echo() as target:
        port = free_port()
        process = login.start(flags=("-v", "-N", "-L", f"{bind}{port}:127.0.0.1:{target}"))
        until(process, b"Entering interactive session.")
        assert talk(port, b"hello") == b"HELLO"
        assert talk(port, b"x" * 1_000_000) == b"X" * 1_000_000
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_a_remote_forwarding_of_a_port_that_the_server_chooses(login: Login) -> None:
    with echo() as target:
        process = login.start(flags=("-v", "-N", "-R", f"0:127.0.0.1:{target}"))
        told = until(process, b"Entering interactive session.")
        allocated = int(told.split(b"Allocated port ")[1].split()[0])
        assert talk(allocated, b"back") == b"BACK"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 255


@contextmanager
def web() -> Iterator[int]:
    """A web server whose every page says hello."""

    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def curl(way: str, proxy: int, port: int) -> bytes:
    """What curl gets of the web server by a proxy."""
    if shutil.which("curl") is None:
        absent("curl is not installed")
    line = ["curl", "-sS", "--max-time", str(PATIENCE), f"--{way}", f"127.0.0.1:{proxy}"]
    done = subprocess.run([*line, f"http://127.0.0.1:{port}/"], capture_output=True, check=False)
    return done.stdout or done.stderr


SOCKS = ("socks4", "socks4a", "socks5", "socks5-hostname")


def test_a_dynamic_forwarding(login: Login) -> None:
    with web() as target:
        port = free_port()
        process = login.start(flags=("-v", "-N", "-D", str(port)))
        until(process, b"Entering interactive session.")
        assert [curl(way, port, target) for way in SOCKS] == [b"hello"] * 4
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_a_remote_dynamic_forwarding_reaches_what_PermitRemoteOpen_names(login: Login) -> None:  # noqa: N802
    with web() as target, web() as other:
        permit = f"PermitRemoteOpen=127.0.0.1:{target}"
        process = login.start(flags=("-v", "-N", "-R", "0", "-o", permit))
        told = until(process, b"Entering interactive session.")
        allocated = int(told.split(b"Allocated port ")[1].split()[0])
        assert [curl(way, allocated, target) for way in SOCKS] == [b"hello"] * 4
        assert b"hello" not in curl("socks5", allocated, other)
        assert b"PermitRemoteOpen" in until(process, b"PermitRemoteOpen")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_sockets_of_the_file_system_forwarded(login: Login, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    with echo() as target:
        there = tmp_path / "there"
        flags = ("-v", "-N", "-R", f"{there}:127.0.0.1:{target}", "-L", f"{mine}:{there}")
        process = login.start(flags=flags)
        until(process, b"Entering interactive session.")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(mine))
            connection.sendall(b"round")
            connection.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: connection.recv(65536), b"")) == b"ROUND"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert not mine.exists()


def test_standard_input_and_output_forwarded(login: Login) -> None:
    with echo() as target:
        done = login.run(flags=("-W", f"127.0.0.1:{target}"), stdin=b"through")
    assert (done.stdout, done.returncode) == (b"THROUGH", 0), done.stderr


def test_a_forwarding_that_fails(login: Login) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = ("-L", f"127.0.0.1:{port}:h:1")
        done = login.run("echo on", flags=flags)
        assert done.stdout == b"on\n"
        assert str(port).encode() in done.stderr
        done = login.run("echo on", flags=flags, options=("ExitOnForwardFailure=yes",))
        assert (done.stdout, done.returncode) == (b"", 255)
        assert str(port).encode() in done.stderr


def test_cleared_forwardings_are_not_asked_for(login: Login) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = ("-L", f"127.0.0.1:{taken.getsockname()[1]}:h:1")
        done = login.run("echo on", flags=flags, options=("ClearAllForwardings=yes",))
    assert (done.stdout, done.stderr) == (b"on\n", b"")


# ---- in the background, and killed


def test_f_goes_to_the_background_once_logged_in(login: Login, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    os.mkfifo(mark)
    done = login.run(f"cat {mark}; echo late > {mark}.done", flags=("-f",), capture_output=False)
    assert done.returncode == 0  # and the command still waits
    assert not mark.with_name("mark.done").exists()
    mark.write_text("go")
    os.mkfifo(tmp_path / "end")
    login.run(f"until test -e {mark}.done; do sleep 0.05; done")
    assert mark.with_name("mark.done").read_text() == "late\n"


def test_f_reports_what_went_wrong_before(login: Login) -> None:
    done = login.commands.run("ssh", "-F", "none", "-f", "-N", "-p", "1", "127.0.0.1")
    assert done.returncode == 255
    assert b"Connection refused" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_session_in_order(login: Login, number: signal.Signals) -> None:
    process = login.start("echo up; cat", flags=("-v",))
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(number)
    assert process.wait(PATIENCE) == 255
    assert process.stderr is not None
    assert f"Killed by signal {number.value}.".encode() in process.stderr.read()


def test_a_server_that_is_killed_is_told_about(
    login: Login, start: Callable[..., object], keys: object
) -> None:
    done = login.run("kill -9 $PPID; cat", stdin=subprocess.DEVNULL)
    assert done.returncode == 255
    assert b"Connection to 127.0.0.1 closed by remote host." in done.stderr
    assert b"Traceback" not in done.stderr
