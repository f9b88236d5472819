"""--pcap, --pcap-secrets, --keylog and $SSHKEYLOGFILE; a server's --trace DIR; all with real programs."""

from __future__ import annotations

import json
import re
import socket
import stat
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.kit import Commands, Login
from tests.interop.conftest import client
from tests.interop.glass import COMMAND, GlassServer, environment
from tests.interop.peers import LOOPBACK, Client, Keys
from tests.interop.wireshark import Tshark

__all__ = ["client"]

PATIENCE = 20.0
LIMIT = b"channel packets carry at most 32,000 bytes, so that Wireshark can follow them\n"


CLASSICAL = ("KexAlgorithms=curve25519-sha256",)
"""Of hybrids a key log has one line and no private value."""


def warning(path: Path | str) -> bytes:
    text = f"warning: {path} holds this connection's secrets: "
    return f"{text}with it and a capture anybody can read everything that was sent\n".encode()


def counted(trace: Path) -> Counter[int]:
    """How often each message stands in a trace."""
    records = [json.loads(line) for line in trace.read_text().splitlines()]
    return Counter(record["number"] for record in records if record["type"] == "message")


def test_a_capture_with_its_secrets(login: Login) -> None:
    capture, trace = login.commands.home / "x.pcapng", login.commands.home / "x.jsonl"
    done = login.run(
        "cat >/dev/null; head -c 500000 /dev/zero", stdin=bytes(500_000),
        flags=("--pcap", str(capture), "--pcap-secrets", "--trace", str(trace)),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, bytes(500_000))
    assert done.stderr == warning(capture) + LIMIT
    assert stat.S_IMODE(capture.stat().st_mode) == 0o600
    tshark = Tshark("4.6", login.target.port)
    assert tshark.complaints(capture) == ""
    assert tshark.messages(capture) == counted(trace)


def test_a_capture_without_them_says_nothing_and_changes_nothing(login: Login) -> None:
    capture, trace = login.commands.home / "x.pcapng", login.commands.home / "x.jsonl"
    done = login.run("exit 3", flags=("--pcap", str(capture), "--trace", str(trace)))
    assert (done.returncode, done.stderr) == (3, b"")
    assert '"maximum_packet_size":32768' in trace.read_text().replace(" ", "")
    assert set(Tshark("4.6", login.target.port).messages(capture)) == {20, 21, 30, 31}


def test_a_key_log_by_flag_and_by_environment(login: Login) -> None:
    home = login.commands.home
    capture, named, by_flag = home / "x.pcapng", home / "named keys", home / "keys"
    variable = {"SSHKEYLOGFILE": str(named)}
    done = login.run("exit 0", options=CLASSICAL, flags=("--pcap", str(capture)), environment=variable)
    assert done.stderr == warning(named) + LIMIT
    assert stat.S_IMODE(named.stat().st_mode) == 0o600
    first = named.read_text()
    assert re.fullmatch(r"[0-9a-f]{32} [0-9a-f]{64}\n[0-9a-f]{32} SHARED_SECRET [0-9a-f]{62,64}\n", first)
    assert Tshark("4.6", login.target.port).messages(capture, key_log=named)[94] >= 0
    assert login.run("exit 0", options=CLASSICAL, environment=variable).returncode == 0
    assert named.read_text().startswith(first)
    assert len(named.read_text().splitlines()) == 4
    done = login.run("exit 0", options=CLASSICAL, flags=("--keylog", str(by_flag)), environment=variable)
    assert done.stderr == warning(by_flag) + LIMIT
    assert len(named.read_text().splitlines()) == 4, "the flag stands for the variable"
    assert len(by_flag.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--pcap-secrets",), b"--pcap-secrets goes with --pcap FILE"),
        (("--pcap", "/nowhere/x.pcapng"), b"cannot write the capture /nowhere/x.pcapng: No such file"),
        (("--keylog", "/nowhere/keys"), b"cannot write the key log /nowhere/keys: No such file"),
    ],
)
def test_what_cannot_be(flags: tuple[str, ...], complaint: bytes, commands: Commands) -> None:
    done = commands.run("ssh", "-F", "none", *flags, "h")
    assert done.returncode == 255
    assert complaint in done.stderr
    assert b"Traceback" not in done.stderr


def test_the_demonstration(commands: Commands) -> None:
    capture = commands.home / "demo.pcapng"
    done = commands.run("demo", "--pcap", str(capture), "--pcap-secrets")
    assert done.returncode == 0
    assert done.stderr == warning(capture) + LIMIT
    found = re.search(rb"a server on \S+ port (\d+)", done.stdout)
    assert found
    tshark = Tshark("4.6", int(found[1]))
    assert tshark.complaints(capture) == ""
    assert tshark.messages(capture)[98] >= 5


def test_a_debugging_server(tmp_path: Path, keys: Keys, client: Callable[[str], Client]) -> None:
    """One connection of a real client into one file, from the server's side."""
    capture, trace = tmp_path / "x.pcapng", tmp_path / "x.jsonl"
    with socket.create_server((LOOPBACK, 0)) as sock:
        port = sock.getsockname()[1]
    config = tmp_path / "config"
    keys.host().copy_to(tmp_path)
    (tmp_path / "authorized").write_text(keys.authorized())
    config.write_text(
        f"HostKey {tmp_path}/{keys.host().private.name}\nStrictModes no\nListenAddress {LOOPBACK}\n"
        f"AuthorizedKeysFile {tmp_path}/authorized\n"
    )
    flags = ["--pcap", str(capture), "--pcap-secrets", "--trace", str(trace)]
    line = [*COMMAND, "-d", "-f", str(config), "-p", str(port), *flags]
    with subprocess.Popen(line, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stderr is not None
        said = b""
        while b"Server will not fork" not in said:
            said += process.stderr.readline()
        with GlassServer(keys) as other:  # for what a client needs to know
            target = type(other.target)(port, other.target.user, (keys.host().public,))
        done = client("openssh-10.6").run(target, "head -c 200000 /dev/zero", identity=keys.user())
        assert (done.returncode, done.stdout) == (0, bytes(200_000))
        said += process.stderr.read()
        assert process.wait(PATIENCE) == 255
    assert warning(capture).rstrip() in said
    assert LIMIT.rstrip() in said
    tshark = Tshark("4.6", port)
    assert tshark.complaints(capture) == ""
    assert tshark.messages(capture) == counted(trace)


def test_a_server_of_many_traces_each_into_a_folder(
    tmp_path: Path, keys: Keys, client: Callable[[str], Client]
) -> None:
    folder, key_log = tmp_path / "traces", tmp_path / "keys"
    with GlassServer(keys, "", "--trace", str(folder), "--keylog", str(key_log)) as server:
        for _ in range(2):
            done = client("openssh-9.2").run(server.target, "exit 5", "-o", *CLASSICAL, identity=keys.user())
            assert done.returncode == 5
        assert warning(key_log).decode().rstrip() in server.log
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    logins = [path for path in folder.iterdir() if '"authenticated"' in path.read_text()]
    assert len(logins) == 2
    for path in folder.iterdir():
        assert re.fullmatch(r"\d{8}T\d{6}Z-127\.0\.0\.1-\d+-\d{6}\.jsonl", path.name)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in logins:
        assert json.loads(path.read_text().splitlines()[-1])["name"] == "closed"
        assert counted(path)[98] >= 1
    assert len(key_log.read_text().splitlines()) == 4


def test_a_folder_that_is_gone_stops_no_login(
    tmp_path: Path, keys: Keys, client: Callable[[str], Client]
) -> None:
    folder = tmp_path / "traces"
    with GlassServer(keys, "", "--trace", str(folder)) as server:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        done = client("openssh-9.2").run(server.target, "exit 5", identity=keys.user())
        assert done.returncode == 5
        assert f"--trace {folder}: No such file or directory: this connection is not traced" in server.log


@pytest.mark.parametrize(
    ("flag", "name", "other"),
    [("--pcap", "x", ""), ("--html", "x", ""), ("--record", "x.cast", ", or name a folder")],
)
def test_what_is_for_one_connection(
    flag: str, name: str, other: str, tmp_path: Path, commands: Commands
) -> None:
    done = commands.run("sshd", "-D", "-f", "none", flag, str(tmp_path / name))
    assert done.returncode == 255
    assert f"{flag} FILE is for one connection: add -d, or -i{other}\r\n".encode() in done.stderr
    assert not (tmp_path / name).exists()


def test_a_trace_of_many_connections_is_no_file(tmp_path: Path, commands: Commands) -> None:
    path = tmp_path / "x.jsonl"
    done = commands.run("sshd", "-D", "-f", "none", "--trace", str(path))
    assert done.returncode == 255
    assert b"is a file for one connection: add -d, or -i, or name a folder" in done.stderr
    assert not path.exists()
