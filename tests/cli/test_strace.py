"""`glasshell strace`: around ssh of any make, and what it says where it cannot."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from glasshell.cli.strace import parse
from glasshell.errors import UsageError
from tests.cli.kit import Commands
from tests.interop.glass import GlassServer
from tests.interop.peers import Keys, OpenSSHClient, Server
from tests.needs import absent


@pytest.fixture
def tracing() -> None:
    if shutil.which("strace") is None:
        absent("strace is not installed (make peers)")
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    if tried.returncode:
        absent(f"strace may not trace: {tried.stderr.decode()}")


def test_the_command_line() -> None:
    asked = parse(
        ["-o", "file", "-e", "signal=none", "--as", "text", "--keylog", "k", "--", "ssh", "-o", "x", "--"]
    )
    assert asked.keep == "file"
    assert asked.form == "text"
    assert asked.keylogs == ["k"]
    assert asked.flags == ["-e", "signal=none"]
    assert asked.command == ["ssh", "-o", "x", "--"]
    assert parse(["-p", "1"]).command == []


@pytest.mark.parametrize(
    "words", [["ssh", "host"], ["--"], ["-p", "1", "--", "ssh"], ["-o"], ["--as", "pdf", "--", "ssh"]]
)
def test_command_lines_that_make_no_sense(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(words)


@pytest.mark.usefixtures("tracing")
def test_ssh_and_its_connection(
    commands: Commands, server: Callable[[str], Server], keys: Keys, tmp_path: Path
) -> None:
    target = server("openssh-9.2").target
    with OpenSSHClient("9.2") as client:
        ssh = client.argv(target, identity=keys.user())
        done = commands.run("strace", "-o", "kept", "--", *ssh, "echo hello; exit 3")
    shown = done.stdout.decode()
    assert done.returncode == 3
    assert shown.startswith("hello\n")
    assert f" → 127.0.0.1:{target.port} " in shown
    assert "SSH-2.0-OpenSSH_9.2p1" in shown
    assert "SSH_MSG_NEWKEYS" in shown
    assert b"passwords too" in done.stderr
    kept = commands.home / "kept"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    again = commands.run("inspect", "kept").stdout.decode()
    assert again == shown.removeprefix("hello\n")
    text = commands.run("inspect", "-T", "text", "kept").stdout.decode()
    assert " in process " in text, "the system call stands at the message"


@pytest.mark.usefixtures("tracing")
def test_with_a_key_log_every_message_is_that_of_sshs_own_log(
    commands: Commands, keys: Keys, tmp_path: Path
) -> None:
    """OpenSSH names no packet of data and windows (93 to 95); all else must be told in its order."""
    key_log = tmp_path / "keys"
    with GlassServer(keys, "", "--keylog", str(key_log)) as server, OpenSSHClient("9.2") as client:
        ssh = [*client.argv(server.target, "-vvv", identity=keys.user()), "echo hello"]
        done = commands.run("strace", "--as", "jsonl", "--keylog", str(key_log), "--", *ssh)
    assert done.returncode == 0, done.stderr
    seen: dict[str, list[int]] = {"send": [], "receive": []}
    for line in done.stdout.decode().splitlines():
        record = json.loads(line) if line.startswith("{") else {}
        if record.get("type") == "message":
            assert record["verified"] is not False
            assert record["call"]["name"] == ("write" if record["client"] else "read")
            if record["number"] not in (93, 94, 95):
                seen["send" if record["client"] else "receive"].append(record["number"])
    told = re.findall(r"debug3: (send|receive) packet: type (\d+)", done.stderr.decode())
    assert seen == {way: [int(number) for word, number in told if word == way] for way in seen}
    assert len(seen["receive"]) > 10


@pytest.mark.usefixtures("tracing")
def test_commands_without_a_connection(commands: Commands) -> None:
    done = commands.run("strace", "--", "sh", "-c", "exit 7")
    assert (done.returncode, done.stdout) == (7, b"")
    assert done.stderr.endswith(b"glasshell strace: no SSH connection was made or used\n")
    done = commands.run("strace", "--", "sh", "-c", "kill -TERM $$")
    assert done.returncode == 128 + signal.SIGTERM


def test_without_strace(commands: Commands) -> None:
    done = commands.run("strace", "--", "true", environment={"PATH": "/nowhere"})
    assert done.returncode == 255
    assert done.stderr.decode().splitlines()[0] == "glasshell strace: strace is not installed"


def test_a_program_that_is_not_there(commands: Commands) -> None:
    if shutil.which("strace") is None:
        absent("strace is not installed (make peers)")
    done = commands.run("strace", "--", "shh", "host")
    assert (done.returncode, done.stderr) == (255, b"glasshell strace: there is no program shh\n")


def test_where_ptrace_is_forbidden(commands: Commands, tmp_path: Path) -> None:
    """A strace that says and does what the real one does there."""
    fake = tmp_path / "strace"
    fake.write_text(
        "#!/bin/sh\necho 'strace: ptrace(PTRACE_TRACEME, ...): Operation not permitted' >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    done = commands.run(
        "strace", "--", "true", environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    )  # fmt: skip
    assert done.returncode == 255
    assert "strace could not trace (status 1)" in done.stderr.decode()
    assert "hint: " in done.stderr.decode()


def test_a_file_that_cannot_be_written(commands: Commands) -> None:
    if shutil.which("strace") is None:
        absent("strace is not installed (make peers)")
    done = commands.run("strace", "-o", "/nonexistent/file", "--", "true")
    assert done.returncode == 255
    assert b"cannot write /nonexistent/file" in done.stderr
