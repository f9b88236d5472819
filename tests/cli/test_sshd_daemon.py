"""`glasshell sshd` as a daemon: syslog, the PID file, SIGHUP, and what a service manager gives and hears."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from glasshell.cli import sshd
from glasshell.system.daemon import PidFile, Syslog, handed_sockets
from tests.cli.test_sshd import PATIENCE, configured, free_port, greeting, host_key
from tests.interop.glass import COMMAND, environment
from tests.needs import absent

__all__ = ["host_key"]

FILTER = "/etc/fail2ban/filter.d/sshd.conf"


@contextmanager
def datagrams(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(PATIENCE)
        yield sock


# -- flags


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (["-4"], "addressfamily inet"),
        (["-6"], "addressfamily inet6"),
        (["-g", "33"], "logingracetime 33"),
        (["-g", "2m"], "logingracetime 120"),
        (["-u", "0", "-q"], "port 22"),
    ],
)
def test_flags_that_are_keywords(
    flags: list[str], shown: str, host_key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sshd.main(["-G", "-f", configured(tmp_path, host_key), *flags]) == 0
    assert shown in capsys.readouterr().out.lower().splitlines()


# -- syslog


@pytest.mark.parametrize(
    ("line", "head"),
    [("Accepted", "<38>"), ("error: x", "<35>"), ("fatal: x", "<34>"), ("debug1: x", "<39>")],
)
def test_syslog_lines(line: str, head: str, tmp_path: Path) -> None:
    """RFC 3164 §4.1: facility AUTH is 4, and the severity is what the line says of itself."""
    with datagrams(tmp_path / "log") as log:
        Syslog("sshd", "AUTH", str(tmp_path / "log")).write(f"{line}\r\n")
        said = log.recv(4096).decode()
    assert said.startswith(head)
    assert said.endswith(f" sshd[{os.getpid()}]: {line}")


def test_a_log_that_is_not_there_or_is_begun_anew(tmp_path: Path) -> None:
    syslog = Syslog("sshd", "LOCAL7", str(tmp_path / "log"))
    syslog.write("lost")
    for _ in range(2):
        with datagrams(tmp_path / "log") as log:
            syslog.write("found")
            assert log.recv(4096).startswith(b"<190>")
        (tmp_path / "log").unlink()


def test_fail2bans_own_filter_finds_failed_logins(tmp_path: Path, host_key: Path) -> None:
    regex = shutil.which("fail2ban-regex")
    if regex is None or not Path(FILTER).exists():
        absent("fail2ban is not installed")
    log, port = tmp_path / "log", free_port()
    config = configured(tmp_path, host_key, "ListenAddress 127.0.0.1")
    start = (
        f"import sys; from glasshell.system import daemon; "
        f"daemon.Syslog.__init__.__defaults__ = ({str(log)!r},);"
        "from glasshell.cli.sshd import main; sys.exit(main(sys.argv[1:]))"
    )
    line = [sys.executable, "-c", start, "-f", config, "-p", str(port), "-o", f"PidFile={tmp_path / 'pid'}"]
    with datagrams(log) as syslogd:
        subprocess.run(line, check=True, env=environment(), timeout=PATIENCE, stdin=subprocess.DEVNULL)
        said = [syslogd.recv(4096).decode()]
        assert f"Server listening on 127.0.0.1 port {port}." in said[0]
        ssh = ["ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
               "-o", "BatchMode=yes", "-i", str(host_key), "-p", str(port), "nosuch@127.0.0.1",
               "true"]  # fmt: skip
        assert subprocess.run(ssh, capture_output=True, timeout=PATIENCE).returncode == 255
        while "Invalid user nosuch" not in said[-1]:
            said.append(syslogd.recv(4096).decode())
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        while "terminating" not in said[-1]:
            said.append(syslogd.recv(4096).decode())
    # What a syslog daemon makes of it: the priority goes, the host comes.
    lines = [f"{text[4:19]} host {text[20:]}" for text in said]
    (tmp_path / "auth.log").write_text("".join(f"{each}\n" for each in lines))
    done = subprocess.run(
        [regex, "-v", str(tmp_path / "auth.log"), FILTER], capture_output=True, text=True, timeout=60
    )
    assert " 1 matched," in done.stdout, (lines, done.stdout)
    assert " 127.0.0.1 " in done.stdout


# -- the PID file, SIGHUP


def test_a_pid_file_is_taken_away_by_its_process_only(tmp_path: Path) -> None:
    mine = PidFile(str(tmp_path / "pid"))
    mine.write()
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"
    mine.remove()
    assert not (tmp_path / "pid").exists()
    (tmp_path / "pid").write_text("1\n")
    mine.remove()
    assert (tmp_path / "pid").exists()
    PidFile("none").write()


def test_sighup_reads_the_configuration_again_and_keeps_who_is_connected(
    tmp_path: Path, host_key: Path
) -> None:
    port, other = free_port(), free_port()
    text = f"ListenAddress 127.0.0.1\nPidFile {tmp_path / 'pid'}\nPort {port}"
    config = configured(tmp_path, host_key, f"{text}\nVersionAddendum before")
    with datagrams(tmp_path / "notify") as manager:
        os.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        daemon = subprocess.Popen(
            [*COMMAND, "-D", "-f", config, "-E", str(tmp_path / "log")],
            env=environment(NOTIFY_SOCKET=os.environ.pop("NOTIFY_SOCKET")), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert manager.recv(100).decode().splitlines() == ["READY=1", f"MAINPID={daemon.pid}"]
        assert (tmp_path / "pid").read_text() == f"{daemon.pid}\n"
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as early:
            stream = early.makefile("rb")
            assert stream.readline().endswith(b" before\r\n")

            def hup(text: str) -> None:
                configured(tmp_path, host_key, text)
                daemon.send_signal(signal.SIGHUP)
                assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
                assert manager.recv(100) == b"READY=1"

            (tmp_path / "log").rename(tmp_path / "log.1")
            hup(f"{text}\nPort {other}\nVersionAddendum after")
            assert greeting(port).endswith(b" after\r\n")
            assert greeting(other).endswith(b" after\r\n")
            assert f"port {other}" in (tmp_path / "log").read_text()  # opened again: the old one was moved
            hup("Port nonsense")
            assert greeting(port).endswith(b" after\r\n")
            assert "holds on" in (tmp_path / "log").read_text()
            hup(text)
            assert greeting(port).endswith(b"\r\n")
            with pytest.raises(ConnectionRefusedError):
                greeting(other)
            early.sendall(b"SSH-2.0-early\r\n")  # it is answered still
            assert stream.read(5)
        daemon.terminate()
        assert manager.recv(100) == b"STOPPING=1"
        assert daemon.wait(PATIENCE) == 0
    assert not (tmp_path / "pid").exists()


# -- sockets that are handed down


def test_socket_activation(tmp_path: Path, host_key: Path) -> None:
    config = configured(tmp_path, host_key)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        # The variable names the process that is meant: this one becomes the server.
        start = (
            f"import os, sys; os.dup2({sock.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid());"
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        daemon = subprocess.Popen(
            [sys.executable, "-c", start, *COMMAND, "-D", "-f", config], pass_fds=[sock.fileno()],
            env=environment(LISTEN_FDS="1"), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert daemon.stderr is not None
    assert daemon.stderr.readline().strip() == f"Server listening on 127.0.0.1 port {port}."
    assert greeting(port).startswith(b"SSH-2.0-")
    daemon.terminate()
    daemon.communicate(timeout=PATIENCE)
    assert daemon.returncode == 0


def test_variables_for_another_process_are_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert handed_sockets() == []
    assert not {"LISTEN_PID", "LISTEN_FDS"} & set(os.environ)
