"""Through jump hosts: sshd of 9.2 and 10.6, and ours, logged in to by a key of an agent."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.glass import GlassServer, environment
from tests.interop.peers import Keys, Server
from tests.interop.test_agents import our_agent

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def hops(server: Callable[[str], Server], start: Callable[[Server], Server], keys: Keys) -> list[Server]:
    """The way: OpenSSH 9.2, 10.6, and our own."""
    return [server("openssh-9.2"), server("openssh-10.6"), start(GlassServer(keys))]


@pytest.fixture
def home(tmp_path: Path, hops: list[Server], keys: Keys) -> Path:
    """A folder with a configuration that names each hop, and trusts each by its own key alone."""
    blocks = []
    for name, hop in zip(("one", "two", "three"), hops, strict=True):
        known = tmp_path / f"known_{name}"
        known.write_text(hop.target.known_hosts())
        blocks.append(
            f"Host {name}\n HostName 127.0.0.1\n Port {hop.target.port}\n User {hop.target.user}\n"
            f" UserKnownHostsFile {known}\n"
        )
    blocks.append("Host *\n GlobalKnownHostsFile none\n StrictHostKeyChecking yes\n BatchMode yes\n")
    (tmp_path / "config").write_text("".join(blocks))
    for pair in (keys.user(), keys.stranger()):
        pair.copy_to(tmp_path)
    return tmp_path


@pytest.fixture
def ssh(home: Path) -> Iterator[Run]:
    """`glasshell ssh -F config ...`, with our agent that holds the key."""
    with our_agent(home) as sock:
        settings = environment(HOME=str(home), SSH_AUTH_SOCK=str(sock))
        add = [sys.executable, "-m", "glasshell", "add", "-q", "user_ed25519"]
        subprocess.run(add, cwd=home, env=settings, check=True, timeout=30)

        def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
            line = [sys.executable, "-m", "glasshell", "ssh", "-F", "config", *words]
            return subprocess.run(
                line, cwd=home, env=settings, input=stdin, capture_output=True, timeout=30, check=False,
                start_new_session=True,
            )  # fmt: skip

        yield run


def place(hop: Server) -> str:
    return f"{hop.target.user}@{hop.target.host}:{hop.target.port}"


def test_by_an_agent_key_behind_two_jumps(ssh: Run, hops: list[Server]) -> None:
    done = ssh("-J", "one,two", "three", "echo there; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"there\n", b"", 7)
    assert "Accepted publickey" in hops[1].log
    data = bytes(range(256)) * 8192
    assert ssh("-J", "two,three", "one", "cat", stdin=data).stdout == data


def test_the_spellings_of_a_hop(ssh: Run, hops: list[Server], home: Path) -> None:
    known = (home / "known_one").read_text() + (home / "known_two").read_text()
    (home / "config").write_text(
        f"UserKnownHostsFile {home}/known\nGlobalKnownHostsFile none\nBatchMode yes\n"
        + (home / "config").read_text()
        + f"Host far\n HostName 127.0.0.1\n Port {hops[2].target.port}\n User {hops[2].target.user}\n"
        f" UserKnownHostsFile {home}/known_three\n ProxyJump ssh://{place(hops[0])},{place(hops[1])}\n"
    )
    (home / "known").write_text(known + (home / "known_three").read_text())
    assert ssh("far", "echo far").stdout == b"far\n"
    both = f"{place(hops[0])},ssh://{place(hops[1])}"
    assert ssh("-J", both, "three", "echo by-flag").stdout == b"by-flag\n"
    assert ssh("-J", "none", "far", "echo straight").stdout == b"straight\n"
    assert ssh("-o", f"ProxyJump={place(hops[1])}", "one", "echo by-option").stdout == b"by-option\n"


@pytest.mark.parametrize("bad", ["one", "two", "three"])
def test_the_host_key_of_each_hop_is_checked(ssh: Run, home: Path, keys: Keys, bad: str) -> None:
    known = home / f"known_{bad}"
    words = known.read_text().split()
    known.write_text(f"{words[0]} {keys.stranger().public}\n")
    done = ssh("-J", "one,two", "three", "echo there")
    assert (done.stdout, done.returncode) == (b"", 255)
    assert b"HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert (b"the jump host" in done.stderr) == (bad != "three")


def test_errors_name_the_hop(ssh: Run, home: Path, hops: list[Server]) -> None:
    refused = ssh("-J", "one,nobody-there.invalid", "three", "true")
    assert refused.returncode == 255
    assert b"the jump host" in refused.stderr
    assert b"nobody-there.invalid" in refused.stderr
    nothing = ssh("-J", "one", "-p", "1", "three", "true")
    assert nothing.returncode == 255
    assert b"connect to host 127.0.0.1 port 1 from 127.0.0.1: " in nothing.stderr
    stranger = ssh("-o", "IdentityAgent=none", "-J", "one", "three", "true")
    assert stranger.returncode == 255
    assert b"three" not in stranger.stdout
    assert b"Traceback" not in refused.stderr + nothing.stderr + stranger.stderr


def test_jumps_in_a_circle_end(ssh: Run, home: Path) -> None:
    with (home / "config").open("a") as config:
        config.write("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    done = ssh("a", "true")
    assert done.returncode == 255
    assert b"more than 8 jump hosts" in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_a_shell_would_read_is_no_hop(ssh: Run, home: Path) -> None:
    """D9: CVE-2023-51385, CVE-2025-61984."""
    marker = home / "ran"
    touch = f"touch {marker}"
    for text in (f"$(touch${{IFS}}{marker})", f"`{touch}`", f"a;{touch}", "-oProxyCommand=x", "a\nb"):
        for words in (("-J", text, "three"), ("-o", f"ProxyCommand=nc %h {marker}", text)):
            done = ssh(*words, "true")
            assert done.returncode == 255
            assert b"Traceback" not in done.stderr
    user = ssh("-o", "ProxyCommand=echo %r", "-l", "a$(id)", "three", "true")
    assert user.returncode == 255
    assert not marker.exists()


def test_a_proxy_command(ssh: Run, hops: list[Server], home: Path) -> None:
    program = home / "pipe.py"
    program.write_text(
        "import os, socket, sys, threading\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while data := os.read(0, 65536):\n"
        "        s.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := s.recv(65536):\n"
        "    os.write(1, data)\n"
    )
    done = ssh("-o", f"ProxyCommand={sys.executable} {program} %h %p", "one", "echo piped")
    assert (done.stdout, done.returncode) == (b"piped\n", 0), done.stderr
    gone = ssh("-o", "ProxyCommand=/nonexistent %h", "one", "true")
    assert gone.returncode == 255
    assert ssh("-o", "ProxyCommand=none", "one", "echo plain").stdout == b"plain\n"


def test_an_interrupt_ends_all_hops(home: Path, hops: list[Server], keys: Keys) -> None:
    with our_agent(home) as sock:
        settings = environment(HOME=str(home), SSH_AUTH_SOCK=str(sock))
        add = [sys.executable, "-m", "glasshell", "add", "-q", "user_ed25519"]
        subprocess.run(add, cwd=home, env=settings, check=True, timeout=30)
        line = [sys.executable, "-m", "glasshell", "ssh", "-F", "config", "-J", "one,two", "three",
                "echo up; exec sleep 1000"]  # fmt: skip
        process = subprocess.Popen(
            line, cwd=home, env=settings, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode != 0
        for hop in hops[:2]:
            for _ in range(400):
                if "Disconnected from" in hop.log or "Received disconnect" in hop.log:
                    break
                subprocess.run(["true"], check=True)
            else:
                pytest.fail(f"{hop.name} was not told")


def test_ssh_jumps_over_our_server(start: Callable[[Server], Server], server: Callable[[str], Server],
                                   keys: Keys, tmp_path: Path) -> None:  # fmt: skip
    """The other way round: OpenSSH's -J, with our server as the jump host."""
    ours, far = start(GlassServer(keys)), server("openssh-9.2")
    shutil.copy2(keys.user().private, tmp_path / "key")
    (tmp_path / "known").write_text(ours.target.known_hosts() + far.target.known_hosts())
    (tmp_path / "config").write_text(
        f"UserKnownHostsFile {tmp_path}/known\nGlobalKnownHostsFile none\nIdentityFile {tmp_path}/key\n"
        f"BatchMode yes\nIdentitiesOnly yes\n"
    )
    line = ["ssh", "-F", str(tmp_path / "config"), "-J", place(ours), "-p", str(far.target.port),
            f"{far.target.user}@127.0.0.1", "echo over"]  # fmt: skip
    done = subprocess.run(line, capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    assert done.stdout == b"over\n", done.stderr


def test_a_view_of_each_hop(ssh: Run, home: Path) -> None:
    done = ssh("--trace", "way.jsonl", "-v", "-J", "one,two", "three", "true")
    assert done.returncode == 0
    for name in ("way.jsonl", "way.jump1.jsonl", "way.jump2.jsonl"):
        assert '"authenticated"' in (home / name).read_text(), name
    assert '"jump"' in (home / "way.jsonl").read_text()
    assert b"(via proxy)" in done.stderr


def test_doctor_walks_through_the_jump_hosts(ssh: Run, home: Path, hops: list[Server]) -> None:
    with (home / "config").open("a") as config:
        config.write("Host far\n ProxyJump one\n")
    text = (home / "config").read_text()
    far = f"Host far\n HostName 127.0.0.1\n Port {hops[1].target.port}\n User {hops[1].target.user}\n"
    (home / "config").write_text(f"{far} UserKnownHostsFile {home}/known_two\n ProxyJump one\n" + text)
    settings = environment(HOME=str(home), SSH_AUTH_SOCK=str(home / "agent.sock"))

    def doctor(*words: str) -> subprocess.CompletedProcess[bytes]:
        line = [sys.executable, "-m", "glasshell", "doctor", "-F", "config", *words]
        return subprocess.run(line, cwd=home, env=settings, capture_output=True, timeout=30, check=False)

    well = doctor("far")
    assert (well.returncode, b"Traceback" in well.stderr) == (0, False), well.stdout + well.stderr
    ill = doctor("-J", "one,nobody.invalid", "two")
    assert ill.returncode == 1
    assert b"Traceback" not in ill.stderr
    assert b"nobody.invalid" in ill.stdout + ill.stderr
