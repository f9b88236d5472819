"""`glasshell ps` beside ss(8) and /proc, over connections of real SSH programs."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from glasshell.errors import ConfigError
from glasshell.system.connections import Connection, survey
from glasshell.system.sockets import Place
from glasshell.system.status import Status, places, read_status
from tests.interop.glass import GlassServer, environment
from tests.interop.peers import LOOPBACK, SYSTEM, Client, Keys, Server, Target
from tests.needs import absent

PATIENCE = 20.0

GetServer = Callable[[str], Server]
GetClient = Callable[[str], Client]


@pytest.fixture(scope="module")
def glass(keys: Keys) -> Iterator[Server]:
    with GlassServer(keys) as running:
        yield running


class Named(NamedTuple):
    """What `session` needs of a server."""

    target: Target


@contextmanager
def session(
    client: Client, server: Server | Named, keys: Keys, *options: str, command: str = "echo up; cat"
) -> Iterator[subprocess.Popen[bytes]]:
    """A login that lasts as long as the block; it has said its first line."""
    line = client.argv(server.target, *options, identity=keys.user())
    process = subprocess.Popen([*line, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def ps(*words: str, wrap: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = [*wrap, sys.executable, "-m", "glasshell", "ps", *words]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=PATIENCE, check=False,
        env=environment(PYTHONWARNINGS="error", PYTHONDONTWRITEBYTECODE="1"),
    )  # fmt: skip


def ours(port: int) -> list[Connection]:
    found = survey().connections
    return [each for each in found if port in ports(each)]


def ports(each: Connection) -> set[int]:
    return {each.socket.local.port, each.socket.peer.port}


# -- beside ss


def ss(port: int) -> dict[tuple[str, str], dict[str, str]]:
    """What ss(8) says of each connection at `port`, by its two ends."""
    if shutil.which("ss") is None:
        absent("ss is not installed (make peers)")
    line = ["ss", "-tinpH", f"( sport = :{port} or dport = :{port} )"]
    out = subprocess.run(line, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    found = {}
    for head, more in re.findall(r"^(\S.*)\n\s(.*)$", out, re.MULTILINE):
        words = head.split()
        facts = dict(word.split(":", 1) for word in more.split() if re.match(r"[a-z_]+:[\d./]+$", word))
        facts = {name: value for name, value in facts.items() if not name.startswith(("last", "busy"))}
        facts |= {"state": words[0], "pids": ",".join(re.findall(r"pid=(\d+)", head)), "cc": more.split()[0]}
        found[words[3], words[4]] = facts
    return found


@pytest.mark.parametrize("name", ["openssh-9.2", "openssh-10.6"])
def test_what_ss_says_of_the_same_connection(
    name: str, server: GetServer, client: GetClient, keys: Keys
) -> None:
    running = server(name)
    port = running.target.port
    with session(client("openssh-9.2"), running, keys, command="echo up; exec cat >/dev/null") as process:
        assert process.stdin is not None
        process.stdin.write(bytes(3_000_000))
        process.stdin.flush()
        for _ in range(100):  # until nothing moves between two looks of ss, ours between them
            before = ss(port)
            found = ours(port)
            if before == ss(port):
                break
        else:
            pytest.fail("the connection never came to rest")
        assert len(found) == len(before) == 2
        for each in found:
            truth, info = before[str(each.socket.local), str(each.socket.peer)], each.socket.info
            assert info is not None
            assert (truth["state"], each.socket.state) == ("ESTAB", "ESTABLISHED")
            assert {one.process.pid for one in each.holders} == set(map(int, truth["pids"].split(",")))
            assert info.rtt is not None
            assert info.rttvar is not None
            assert f"{info.rtt:g}/{info.rttvar:g}" == truth["rtt"]
            assert info.min_rtt == float(truth["minrtt"])
            assert info.rto == float(truth["rto"])
            assert info.cwnd == int(truth["cwnd"])
            assert info.mss == int(truth["mss"])
            assert info.bytes_sent == int(truth.get("bytes_sent", 0))
            assert info.bytes_acked == int(truth["bytes_acked"])
            assert info.bytes_received == int(truth["bytes_received"])
            assert info.segments_out == int(truth["segs_out"])
            assert info.segments_in == int(truth["segs_in"])
            assert info.retransmits == int(truth.get("retrans", "0/0").split("/")[1])
            assert each.socket.congestion == truth["cc"]
        assert max(each.socket.info.bytes_received for each in found if each.socket.info) > 3_000_000


def test_who_and_which_way(server: GetServer, client: GetClient, keys: Keys) -> None:
    running = server("openssh-9.2")
    with session(client("openssh-9.2"), running, keys) as process:
        found = {each.direction: each for each in ours(running.target.port)}
        assert set(found) == {"in", "out"}
        there, here = found["out"], found["in"]
        assert there.process is not None
        assert here.process is not None
        assert (there.process.pid, there.process.program) == (process.pid, "ssh")
        assert here.process.program == "sshd"
        assert here.process.command.startswith(f"sshd: {running.target.user}@")
        assert there.socket.peer == here.socket.local == Place(LOOPBACK, running.target.port)
        assert there.age is not None
        assert 0 <= there.age < PATIENCE
    assert [each for each in ours(running.target.port) if each.what == "ssh"] == []


def test_what_is_forwarded_is_no_ssh_connection(server: GetServer, client: GetClient, keys: Keys) -> None:
    """ssh and sshd hold the forwarded connections too: they are shown on request only."""
    running = server("openssh-9.2")
    with socket.create_server((LOOPBACK, 0)) as target, socket.create_server((LOOPBACK, 0)) as probe:
        port, way_in = target.getsockname()[1], probe.getsockname()[1]
        probe.close()
        forward = f"{way_in}:{LOOPBACK}:{port}"
        with (
            session(client("openssh-9.2"), running, keys, "-L", forward),
            socket.create_connection((LOOPBACK, way_in)),
        ):
            target.settimeout(PATIENCE)
            accepted, _ = target.accept()
            with accepted:
                found = survey(all=True).connections
        told = sorted(
            (each.process.program, each.what, {way_in, port} & ports(each)) for each in found
            if each.process and each.socket.state == "ESTABLISHED" and each.process.program in ("ssh", "sshd")
            and {running.target.port, way_in, port} & ports(each)
        )  # fmt: skip
    assert told == [
        ("ssh", "forwarded", {way_in}), ("ssh", "ssh", set()),
        ("sshd", "forwarded", {port}), ("sshd", "ssh", set()),
    ]  # fmt: skip


def test_our_own_server_tells_who_is_logged_in(glass: Server, client: GetClient, keys: Keys) -> None:
    with session(client("openssh-9.2"), glass, keys):
        shown = json.loads(ps("--json").stdout)
        [here] = [each for each in shown["connections"] if each["local"]["port"] == glass.target.port]
    assert here["process"]["program"] == "glasshell-sshd"
    assert here["user"] == glass.target.user
    assert here["server"]["peer_software"].startswith("OpenSSH_9.2")
    assert [channel["type"] for channel in here["server"]["channels"]] == ["session"]
    # The peer's identification line is no packet, and is all that TCP counts beyond them.
    line = len(f"SSH-2.0-{here['server']['peer_software']}\r\n")
    assert here["tcp"]["bytes_received"] == here["server"]["received"] + line
    assert here["tcp"]["bytes_sent"] == here["server"]["sent"]


# -- the command


def test_columns_for_programs(glass: Server, client: GetClient, keys: Keys) -> None:
    with session(client("openssh-9.2"), glass, keys):
        done = ps("--listen")
    assert done.returncode == 0
    head, *lines = done.stdout.splitlines()
    names = head.split()
    assert head == "PID PROGRAM USER DIR LOCAL PEER AGE STATE RTT CWND SENT RECV RETR"
    rows = [dict(zip(names, row.split(" "), strict=True)) for row in lines]
    end = f"{LOOPBACK}:{glass.target.port}"
    mine = {row["DIR"]: row for row in rows if end in (row["LOCAL"], row["PEER"])}
    assert set(mine) == {"listen", "in", "out"}
    assert mine["listen"]["RTT"] == "-"
    assert mine["in"]["SENT"] == mine["out"]["RECV"]
    assert float(mine["in"]["RTT"]) > 0
    assert "\x1b" not in done.stdout


def test_without_root(glass: Server, client: GetClient, keys: Keys) -> None:
    """Somebody else sees figures, not whose they are, and is told so; nothing of the status socket."""
    if os.geteuid() != 0:
        absent("needs root to become somebody else")
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    readable = subprocess.run([*nobody, sys.executable, "-c", "import glasshell"], check=False,
                              capture_output=True, env=environment())  # fmt: skip
    if readable.returncode:
        absent("this checkout or its interpreter cannot be read by nobody")
    with session(client("openssh-9.2"), glass, keys):
        done = ps("--port", str(glass.target.port), "--json", wrap=nobody)
    shown: dict[str, Any] = json.loads(done.stdout)
    mine = [each for each in shown["connections"] if each["local"]["port"] == glass.target.port]
    assert [(each["process"], each["server"], each["direction"]) for each in mine] == [(None, None, "in")]
    assert mine[0]["tcp"]["bytes_received"] > 1000
    assert re.search(r"\d+ processes of other users cannot be looked into", shown["notes"][0])


def test_bad_words() -> None:
    done = ps("--port", "99999")
    assert done.returncode == 2
    assert "'99999' is no port" in done.stderr


# -- the status socket of `glasshell sshd`


def status_at(port: int) -> Status | None:
    """The status of the server that listens at `port`."""
    for path in places():
        with suppress(ConfigError):
            found = read_status(path)
            if [LOOPBACK, port] in found.header["listening"]:
                return found
    return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_goes_with_the_server(keys: Keys, number: int) -> None:
    with GlassServer(keys) as running:
        found = status_at(running.target.port)
        assert found is not None
        assert found.path.name == f"{found.pid}.sock"
        assert stat.S_IMODE(found.path.stat().st_mode) == 0o600
        os.kill(found.pid, number)
        deadline = time.monotonic() + PATIENCE
        while found.path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_none_where_none_is_wanted(keys: Keys, client: GetClient) -> None:
    with GlassServer(keys, "", "--status", "none") as running:
        assert status_at(running.target.port) is None


def test_a_server_that_cannot_have_one_serves(keys: Keys, client: GetClient) -> None:
    with GlassServer(keys, "", "--status", "/nowhere/s") as running:
        assert client("openssh-9.2").run(running.target, "exit 5", identity=keys.user()).returncode == 5
        assert "no status socket: /nowhere/s: No such file or directory" in running.log


def test_debug_mode_and_the_background(keys: Keys, client: GetClient, tmp_path: Path) -> None:
    """-d has one while its one connection lasts; a daemon that of the process it has become."""

    class Debug(GlassServer):
        def _line(self, port: int) -> list[str]:
            return [word for word in super()._line(port) if word not in ("-D", "-e")]

    with socket.create_server((LOOPBACK, 0)) as probe:
        port = probe.getsockname()[1]
    server = Debug(keys)
    server.place, server.folder = SYSTEM, tmp_path
    line = server._line(port)
    target = Target(port, pwd.getpwuid(os.geteuid()).pw_name, server._host_keys())
    path = tmp_path / "status"

    with subprocess.Popen([*line, "-d", "--status", str(path)], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while b"will not fork" not in process.stderr.readline():
            pass
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        assert not path.exists()
        with session(client("openssh-9.2"), Named(target), keys):
            assert [each["user"] for each in read_status(path).connections] == [target.user]
        assert process.wait(PATIENCE) == 255
        drain.join()
    assert not path.exists()

    subprocess.run([*line, "--status", str(path)], check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(ConfigError):
            found = read_status(path)
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert found.header["listening"] == [[LOOPBACK, port]]
    assert found.header["pid"] == found.pid
    os.kill(found.pid, signal.SIGTERM)
    while path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
