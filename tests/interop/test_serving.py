"""What `glasshell sshd` tells those who run it: metrics, the audit log and recordings, with real clients."""

from __future__ import annotations

import json
import re
import shutil
import socket
import stat
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.kit import Screen
from tests.interop.glass import COMMAND, GlassServer, environment
from tests.interop.peers import LOOPBACK, Client, Keys, OpenSSHClient, fingerprint
from tests.needs import absent
from tests.views.asciicast import check_v2

PATIENCE = 20.0
GetClient = Callable[[str], Client]


class Watched(GlassServer):
    """A server with everything on; `records` is where its recordings go."""

    def __init__(self, keys: Keys, folder: Path) -> None:
        self.audit = folder / "audit.log"
        self.records = folder / "records"
        self.records.mkdir()
        flags = ("--audit-log", str(self.audit), "--prometheus", "0", "--record", str(self.records))
        config = "AllowTcpForwarding yes\nMaxAuthTries 2"
        super().__init__(keys, config, *flags)

    @property
    def url(self) -> str:
        found = re.search(r"^Serving metrics at (\S+)\.\r?$", self.log, re.MULTILINE)
        assert found, self.log
        return found[1]

    def scrape(self) -> str:
        with urllib.request.urlopen(self.url, timeout=PATIENCE) as page:
            return str(page.read().decode())

    def events(self, until: str, count: int = 1) -> list[dict[str, Any]]:
        """The audit log, once `count` events of one kind are in it, of those who asked to log in."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            text = self.audit.read_text() if self.audit.exists() else ""
            read = [json.loads(line) for line in text.splitlines()]
            known = {event["connection"] for event in read if event["event"] == "login"}
            if sum(event["event"] == until and event["connection"] in known for event in read) >= count:
                return read
            with socket.create_connection((LOOPBACK, self.target.port)):  # the server gets its turn
                pass
        raise AssertionError(f"no {until} in {self.audit.read_text()}")


@pytest.fixture
def watched(keys: Keys, tmp_path: Path) -> Iterator[Watched]:
    with Watched(keys, tmp_path) as server:
        yield server


def samples(page: str) -> dict[str, float]:
    """The samples of a page in the text format: name with labels -> value."""
    lines = (line.rpartition(" ") for line in page.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_promtool_takes_the_metrics_of_real_logins(watched: Watched, client: GetClient, keys: Keys) -> None:
    ssh = client("openssh-9.2")
    assert ssh.run(watched.target, "exit 3", identity=keys.user()).returncode == 3
    assert ssh.run(watched.target, "true", identity=keys.stranger()).returncode == 255
    with socket.create_connection((LOOPBACK, watched.target.port)) as dropped:
        dropped.recv(4)
    line = ssh.argv(watched.target, identity=keys.user())
    with subprocess.Popen([*line, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as open_one:
        assert open_one.stdin
        assert open_one.stdout
        open_one.stdin.write(b"x" * 100_000 + b"\n")
        open_one.stdin.flush()
        open_one.stdout.readline()
        page = watched.scrape()
        open_one.stdin.close()
        open_one.wait(PATIENCE)
    found = samples(page)
    attempts = {
        name: value for name, value in found.items() if name.startswith("glasshell_auth_attempts_total")
    }
    assert attempts == {
        'glasshell_auth_attempts_total{method="none",result="refused",role="server"}': 3,
        'glasshell_auth_attempts_total{method="publickey",result="accepted",role="server"}': 2,
        'glasshell_auth_attempts_total{method="publickey",result="refused",role="server"}': 1,
    }  # fmt: skip
    assert found['glasshell_connections_open{role="server"}'] == 1
    assert found['glasshell_handshake_seconds_count{role="server"}'] == 3
    assert found['glasshell_login_seconds_count{role="server"}'] == 2
    assert found['glasshell_sessions_total{kind="exec"}'] == 2
    assert found['glasshell_received_bytes_total{role="server"}'] > 100_000  # of a connection that is open
    after = samples(watched.scrape())
    assert (
        after['glasshell_sent_bytes_total{role="server"}']
        >= found['glasshell_sent_bytes_total{role="server"}']
    )
    # Whoever asked whether the server is there, the stranger and the dropped one went without a word.
    assert {name: n for name, n in found.items() if name.startswith("glasshell_errors_total")} == {
        'glasshell_errors_total{role="server",type="ConnectionLost"}': 3,
    }  # fmt: skip
    program = shutil.which("promtool")
    if program is None:
        absent("promtool is not installed")
    checked = subprocess.run(
        [program, "check", "metrics"], input=page.encode(), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_bytes_are_those_of_the_connections(watched: Watched, client: GetClient, keys: Keys) -> None:
    done = client("openssh-9.2").run(watched.target, "true", "-v", identity=keys.user())
    told = re.search(rb"Transferred: sent (\d+), received (\d+) bytes", done.stderr)
    assert told
    sent, received = int(told[1]), int(told[2])
    (event,) = [e for e in watched.events("disconnect") if e["event"] == "disconnect" and e.get("user")]
    # ssh(1) counts packets only, and what it sends last it does not count: its DISCONNECT.
    assert 0 < event["sent_bytes"] - received < 700
    assert 0 < event["received_bytes"] - sent < 300


def test_what_is_no_scrape(watched: Watched) -> None:
    for path, code in (("/secrets", 404), ("/metrics/", 404)):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(watched.url.replace("/metrics", path), timeout=PATIENCE)
        error.value.close()
        assert error.value.code == code
    host, port = watched.url.split("/")[2].split(":")
    for sent, answer in (
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"), (b"GET /" + b"x" * 20_000, b"431"),
        (b"\x00\xff\r\n\r\n", b"405"), (b"HEAD /metrics HTTP/1.0\r\n\r\n", b"200"), (b"GET", b""),
    ):  # fmt: skip
        with closing(socket.create_connection((host, int(port)), timeout=PATIENCE)) as asker:
            asker.sendall(sent)
            asker.shutdown(socket.SHUT_WR)
            heard = b""
            try:
                while more := asker.recv(65536):
                    heard += more
            except ConnectionResetError:
                pass
        assert heard[9:12] == answer
        assert b"glasshell_" not in heard
    assert "glasshell_connections_total" in watched.scrape()


def test_the_audit_log(watched: Watched, client: GetClient, keys: Keys) -> None:
    ssh = client("openssh-9.2")
    assert ssh.run(watched.target, "exit 3", identity=keys.user()).returncode == 3
    ssh.run(watched.target, "true", identity=keys.stranger())
    host, port = watched.url.split("/")[2].split(":")
    forwarded = ssh.run(
        watched.target, None, "-W", f"{host}:{port}", identity=keys.user(), stdin=b"x\r\n\r\n"
    )
    assert b"405" in forwarded.stdout
    listened = ssh.argv(
        watched.target, "-R", f"0:{host}:{port}", "-o", "ExitOnForwardFailure=yes", identity=keys.user()
    )
    subprocess.run([*listened, "true"], check=True, capture_output=True, timeout=PATIENCE)
    events = watched.events("disconnect", 4)
    assert stat.S_IMODE(watched.audit.stat().st_mode) == 0o600
    for event in events:
        assert list(event)[:3] == ["time", "event", "connection"]
        assert datetime.fromisoformat(event["time"]).tzinfo is not None
        assert re.fullmatch(r"[0-9a-f]{16}", event["connection"])
        assert event["peer_address"] == LOOPBACK
    by_connection: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        by_connection.setdefault(event["connection"], []).append(event)
    stories = [story for story in by_connection.values() if any(e["event"] == "login" for e in story)]
    good, bad, through, back = stories
    assert [e["event"] for e in good] == ["connect", "login", "session_start", "session_end", "disconnect"]
    assert (good[1]["result"], good[1]["user"]) == ("success", watched.target.user)
    assert good[1]["fingerprint"] == fingerprint(keys.user().public)
    assert good[2]["command"] == good[3]["command"] == "exit 3"
    assert good[3]["status"] == 3
    assert (good[4]["by"], good[4]["reason"], good[4]["error"]) == ("client", 11, "")
    assert [e["event"] for e in bad] == ["connect", "login", "disconnect"]
    assert (bad[1]["result"], bad[1]["method"], bad[1]["known_user"]) == ("failure", "publickey", True)
    (asked,) = [e for e in through if e["event"] == "forward"]
    assert (asked["kind"], asked["host"], asked["port"], asked["allowed"]) == (
        "direct-tcpip",
        host,
        int(port),
        True,
    )
    (asked,) = [e for e in back if e["event"] == "forward"]
    assert (asked["kind"], asked["allowed"]) == ("tcpip-forward", True)


def test_the_audit_log_is_rotated_by_renaming_it(watched: Watched, client: GetClient, keys: Keys) -> None:
    ssh = client("openssh-9.2")
    ssh.run(watched.target, "true", identity=keys.user())
    watched.events("disconnect")
    old = watched.audit.rename(watched.audit.with_suffix(".1"))
    before = old.read_text()
    ssh.run(watched.target, "echo new", identity=keys.user())
    assert any(e.get("command") == "echo new" for e in watched.events("disconnect"))
    assert old.read_text() == before


def test_what_a_terminal_showed_at_our_server(watched: Watched, keys: Keys, tmp_path: Path) -> None:
    with OpenSSHClient("9.2") as ssh:
        line = ssh.argv(watched.target, "-tt", identity=keys.user())
        command = "exec env PS1='ready> ' sh"
        screen = Screen([*line, command], {"PATH": "/usr/bin:/bin", "TERM": "vt220"}, tmp_path, 31, 97)
        try:
            screen.expect(rb"ready> ")
            screen.type(b"stty -echo; printf 'h\\303\\251llo sec''ret? '; read word; stty echo\r")
            screen.expect(rb"secret\? ")
            screen.type(b"s3cret\r")
            screen.expect(rb"ready> ")
            screen.type(b"exit 6\r")
            assert screen.wait() == 6
        finally:
            screen.close()
    shown = re.sub(rb"(Connection to|Shared connection) [^\r\n]* closed\.\r\r?\n", b"", screen.seen)
    watched.events("session_end")
    (cast,) = watched.records.iterdir()
    assert re.fullmatch(r"\d{8}T\d{6}Z-root-[0-9a-f]{16}-0\.cast", cast.name)
    assert stat.S_IMODE(cast.stat().st_mode) == 0o600
    text = cast.read_text("utf-8")
    read = check_v2(text)
    assert (read.header["width"], read.header["height"]) == (97, 31)
    assert read.output.encode() == shown
    assert "s3cret" not in text


@pytest.mark.parametrize("there", [True, False])
def test_a_session_that_cannot_be_recorded_is_said(there: bool, watched: Watched, keys: Keys) -> None:
    """The folder is gone, or cannot be written any more."""
    shutil.rmtree(watched.records)
    if there:
        watched.records.write_text("a file")
    with OpenSSHClient("9.2") as ssh:
        assert ssh.run(watched.target, "echo hi", "-tt", identity=keys.user()).stdout == b"hi\r\n"
    assert re.search(r"^--record: .*: this connection is not heard\r?$", watched.log, re.MULTILINE)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--prometheus", "x"], "--prometheus x: no port"),
        (["-i", "--prometheus", "9"], "--prometheus is for a server that stays"),
        (["--prometheus", "203.0.113.9:9"], "--prometheus: cannot listen at 203.0.113.9 port 9"),
        (["--audit-log", "/no/such/folder/log"], "cannot write the audit log"),
        (["--record", "/no/such.cast"], "--record FILE is for one connection: add -d, or -i"),
    ],
)
def test_what_cannot_be_is_said_before_anybody_is_served(
    flags: list[str], complaint: str, keys: Keys, tmp_path: Path
) -> None:
    key = keys.host().copy_to(tmp_path)
    line = [*COMMAND, "-D", "-e", "-f", "none", "-h", str(key), "-p", "1", *flags]
    done = subprocess.run(line, env=environment(), capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 255
    assert complaint in done.stderr.decode()
    assert b"Traceback" not in done.stderr
