"""`glasshell watch` beside stock OpenSSH: what opens and closes, what TCP does, what is said without root."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.cli.kit import Commands, Login
from tests.interop.conftest import client
from tests.interop.peers import Client, Keys, Server
from tests.needs import absent

__all__ = ["client"]

PATIENCE = 40.0
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's")
pytest.importorskip("psutil")


class Watching:
    """`glasshell watch` in a process of its own, and the events that it has told so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.said = b""
        self._changed = threading.Condition()
        # They read all the time: the whole machine is told of, and a pipe that is full loses events.
        self._threads = [threading.Thread(target=each) for each in (self._hear_events, self._hear_notes)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)

    def _hear_events(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()

    def _hear_notes(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self._changed:
                self.said += line
                self._changed.notify_all()

    def until(self, holds: Callable[[list[dict[str, Any]]], object]) -> None:
        """Waits until `holds(events)`."""
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.events), PATIENCE), (self.events, self.said)


@contextmanager
def watching(commands: Commands, *words: str) -> Iterator[Watching]:
    process = commands.start("watch", "--json", *words)
    found = Watching(process)
    try:
        found.until(lambda _: b"ports " in found.said)
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def ebpf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watching]:
    """A watch by eBPF, for all that need one; where it cannot be they are skipped, and why is said."""
    if shutil.which("bpftrace") is None:
        absent("bpftrace is not installed")
    with (
        Commands(tmp_path_factory.mktemp("watch")) as commands,
        watching(commands) as watch,
    ):
        if reason := re.search(rb"no eBPF, .*", watch.said):
            pytest.skip(reason[0].decode())
        assert b"watch: eBPF tells of states, processes, bytes, retransmits, rtt; ports 22" in watch.said
        yield watch


def of(server: Server, events: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The events of one server's connections with a client called ssh, the client's side first."""
    port = server.target.port
    mine = [
        each for each in events
        if each["event"] == kind and port in (each["local"]["port"], each["peer"]["port"])
    ]  # fmt: skip
    clients = {
        str(each["local"]) for each in events if each.get("program") == "ssh" and each["direction"] == "out"
    }
    mine = [each for each in mine if {str(each["local"]), str(each["peer"])} & clients]
    return sorted(mine, key=lambda each: each["direction"] == "in")


def test_a_connection_of_openssh(
    ebpf: Watching,
    server: Callable[[str], Server],
    client: Callable[[str], Client],
    keys: Keys,
) -> None:
    sshd, ssh = server("openssh-9.2"), client("openssh-9.2")
    began = time.time()
    done = ssh.run(sshd.target, "echo $SSH_CONNECTION", "-v", identity=keys.user())
    ebpf.until(lambda events: len(of(sshd, events, "closed")) == 2)
    ended = time.time()
    theirs, ours = of(sshd, ebpf.events, "open")
    address, port, there, listening = done.stdout.decode().split()
    assert theirs["local"] == {"address": address, "port": int(port)} == ours["peer"]
    assert ours["local"] == {"address": there, "port": int(listening)} == theirs["peer"]
    assert (theirs["direction"], theirs["program"], ours["direction"], ours["program"]) == (
        "out",
        "ssh",
        "in",
        "sshd",
    )
    assert theirs["user"] == ours["user"] == sshd.target.user
    assert 0 < theirs["connect_ms"] < 1000
    closed, closed_here = of(sshd, ebpf.events, "closed")
    # ssh(1) counts packets, not the identification line and not its last message.
    told = re.search(rb"Transferred: sent (\d+), received (\d+) bytes, in ([\d.]+) seconds", done.stderr)
    assert told
    assert 0 < closed["sent"] - int(told[1]) < 300
    assert 0 < closed["received"] - int(told[2]) < 300
    assert (closed["sent"], closed["received"]) == (closed_here["received"], closed_here["sent"])
    assert closed["retransmits"] == 0
    assert 0 < closed["rtt_ms"] < 1000
    assert float(told[3]) < closed["seconds"] < ended - began


def test_writes_are_those_of_strace(ebpf: Watching, login: Login) -> None:
    """What strace(1) sees ssh(1) write to its socket and read from it, with `--writes`."""
    if shutil.which("strace") is None:
        absent("strace is not installed")
    log, port = login.commands.home / "strace", login.target.port
    settings = ("BatchMode=yes", "StrictHostKeyChecking=no", "GlobalKnownHostsFile=none",
                f"UserKnownHostsFile={login.commands.home}/known")  # fmt: skip
    options = [word for setting in settings for word in ("-o", setting)]
    where = ["-i", str(login.identity), "-p", str(port), f"{login.target.user}@{login.target.host}", "true"]
    traced = ["strace", "-o", str(log), "-y", "-e", "trace=write,read"]
    with watching(login.commands, "--writes") as watch:
        line = [*traced, "ssh", "-F", "none", *options, *where]
        subprocess.run(line, check=True, capture_output=True, timeout=PATIENCE)

        def of_ssh(kind: str) -> list[dict[str, Any]]:
            mine = [each for each in watch.events if each["event"] == kind and each["program"] == "ssh"]
            return [each for each in mine if each["peer"]["port"] == port]

        watch.until(lambda _: of_ssh("closed"))
    calls = re.findall(r"^(write|read)\(\d+<(?:TCP|socket):.*= (\d+)$", log.read_text(), re.MULTILINE)
    written = [int(size) for name, size in calls if name == "write"]
    assert len(written) > 5
    assert [each["bytes"] for each in of_ssh("sent")] == written
    read = [int(size) for name, size in calls if name == "read" and int(size)]
    assert [each["bytes"] for each in of_ssh("received")] == read
    (closed,) = of_ssh("closed")
    assert (closed["sent"], closed["received"]) == (sum(written), sum(read))


def test_a_connection_that_was_there_before(ebpf: Watching, login: Login) -> None:
    with login.start("echo ready; cat") as session:
        assert session.stdout
        assert session.stdin
        assert session.stdout.readline() == b"ready\n"
        with watching(login.commands, "-n", "1000") as watch:
            watch.until(lambda events: any(_is(each, "there", session.pid) for each in events))
            session.stdin.close()
            watch.until(lambda events: any(_is(each, "closed", session.pid) for each in events))
    first, last = (each for each in watch.events if each["pid"] == session.pid)
    assert first["peer"] == last["peer"] == {"address": login.target.host, "port": login.target.port}
    assert (first["event"], last["event"]) == ("there", "closed")


def test_retransmits(ebpf: Watching, tmp_path: Path) -> None:
    """The loopback interface of a network namespace is taken down under a session; ss(8) counts too."""
    if shutil.which("ip") is None or shutil.which("ss") is None:
        absent("iproute2 is not installed")
    script = Path(__file__).with_name("loopback_down.py")
    line = ["unshare", "--net", sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    port, counted = map(int, done.stdout.split())

    def of_client(kind: str) -> list[dict[str, Any]]:
        mine = [each for each in ebpf.events if each["peer"]["port"] == port and each["program"] == "ssh"]
        return [each for each in mine if each["event"] == kind]

    ebpf.until(lambda _: of_client("closed"))
    seen = of_client("retransmit")
    assert counted > 0
    assert [each["retransmits"] for each in seen] == list(range(1, len(seen) + 1))
    (closed,) = of_client("closed")
    assert closed["retransmits"] == len(seen) == counted


def test_without_ebpf_sock_diag_tells(login: Login) -> None:
    pytest.importorskip("pyroute2")
    with watching(login.commands, "--no-ebpf", "--port", str(login.target.port)) as watch:
        with login.start("cat") as session:
            watch.until(lambda events: any(_is(e, "open", session.pid) for e in events))
            assert session.stdin
            session.stdin.close()
        watch.until(lambda events: any(_is(e, "closed", session.pid) for e in events))
    (closed,) = [e for e in watch.events if _is(e, "closed", session.pid)]
    assert closed["peer"] == {"address": login.target.host, "port": login.target.port}
    assert closed["direction"] == "out"
    assert closed["sent"] > 0  # at the last look, which may have been an early one
    assert closed["retransmits"] == 0
    assert watch.said.startswith(b"glasshell watch: sock_diag alone, four times a second; ports 22, ")


def _is(event: dict[str, Any], kind: str, pid: int) -> bool:
    return (event["event"], event["pid"]) == (kind, pid)


def test_what_is_missing_is_said(commands: Commands) -> None:
    commands.environment["PATH"] = str(commands.home)
    done = commands.run("watch", "--seconds", "0.1")
    assert done.returncode == 0
    assert b"no eBPF, so sock_diag alone, four times a second: bpftrace is not installed" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_bpftrace_that_fails_says_why(commands: Commands) -> None:
    if os.geteuid() != 0:
        absent("root is needed")
    fake = commands.home / "bpftrace"
    fake.write_text("#!/bin/sh\necho 'ERROR: no BPF in this house' >&2\nexit 3\n")
    fake.chmod(0o755)
    commands.environment["PATH"] = f"{commands.home}:/usr/bin:/bin"
    done = commands.run("watch", "--seconds", "0.1")
    assert done.returncode == 0
    assert b"four times a second: " in done.stderr
    assert b"Traceback" not in done.stderr


def test_the_script_can_be_read(commands: Commands) -> None:
    done = commands.run("watch", "--script", "--port", "2022")
    assert b"tracepoint:sock:inet_sock_set_state" in done.stdout
    assert b"@port[2022] = 1;" in done.stdout


@pytest.mark.parametrize("words", [["-n", "0"], ["--seconds", "-1"], ["--seconds", "x"], ["--port", "99999"]])
def test_bad_arguments(words: list[str], commands: Commands) -> None:
    done = commands.run("watch", *words)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


# -- Python's audit events


def test_audit_events_are_heard_by_a_hook(login: Login) -> None:
    hook = login.commands.home / "hook.py"
    hook.write_text(
        "import sys\n"
        "seen = []\n"
        "def hear(name, args):\n"
        "    if name.startswith('glasshell.'): seen.append((name, args))\n"
        "sys.addaudithook(hear)\n"
        "from glasshell.cli.main import main\n"
        "status = main(sys.argv[1:])\n"
        "for name, args in seen: print(name, *args)\n"
        "sys.exit(status)\n"
    )
    trace = login.commands.home / "trace.jsonl"
    words = [*login.words("--audit-packets", "--trace", str(trace)), "true"]
    line = [sys.executable, str(hook), *words]
    done = subprocess.run(
        line, env=login.commands.environment, cwd=login.commands.home, capture_output=True, text=True,
        timeout=PATIENCE, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    told = done.stdout.splitlines()
    records = [json.loads(each) for each in trace.read_text().splitlines()]
    packets = [
        f"glasshell.packet {int(each['direction'] == 'sent')} {each['number']} {each['wire_length']}"
        for each in records if each["type"] == "message"
    ]  # fmt: skip
    assert [each for each in told if each.startswith("glasshell.packet")] == packets
    rest = [each for each in told if not each.startswith("glasshell.packet")]
    assert rest == [
        f"glasshell.connect {login.target.host} {login.target.port}",
        f"glasshell.login client {login.target.user} publickey",
    ]


def test_bpftrace_sees_them_by_the_usdt_probe(ebpf: Watching, login: Login) -> None:
    python = Path("/usr/bin/python3.11")
    notes = subprocess.run(
        ["bpftrace", "-l", f"usdt:{python}:*"], capture_output=True, text=True, check=False
    )
    if "python:audit" not in notes.stdout:
        pytest.skip(f"{python} has no probe python:audit")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the packages installed here are not for Python 3.11")
    site = next(path for path in sys.path if path.endswith("site-packages"))
    own = login.commands.environment
    settings = {**own, "PYTHONPATH": f"{own['PYTHONPATH']}:{site}", "PYTHONWARNINGS": "default"}
    words = [str(python), "-m", "glasshell", *login.words("--audit-packets"), "true"]
    script = str(files("glasshell.system") / "bpf" / "audit.bt")
    done = subprocess.run(
        ["bpftrace", "-q", "-c", " ".join(words), script], env=settings, capture_output=True, text=True,
        timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    seen = re.findall(r"^\d+ (sent|received) message (\d+), \d+ bytes$", done.stdout, re.MULTILINE)
    assert seen[:2] == [("sent", "20"), ("received", "20")], done.stderr
    assert ("received", "52") in seen  # SSH_MSG_USERAUTH_SUCCESS
    assert ("sent", "98") in seen  # SSH_MSG_CHANNEL_REQUEST
    assert "@events[glasshell.login]: 1" in done.stdout
