"""Whole programs that log in, run one command and end: command lines for each, and what running them takes.

`python -m tests.bench.programs asyncssh|paramiko HOST PORT USER KEY COMMAND` is such a program for the two
libraries that have none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.interop.peers import PEERS, SYSTEM, Keys, OpenSSHServer, Target

LIMIT: Final = 600.0
"""Seconds after which a program hangs."""


class Stock(OpenSSHServer):
    """sshd with the three host keys that it has by default, in its order."""

    KINDS = ("rsa", "ecdsa", "ed25519")


@dataclass
class Took:
    """What a program took; `memory` is the most bytes that were resident, 0 where nobody looked."""

    seconds: float
    memory: int = 0


def run(line: list[str], *, feed: int = 0, home: Path | None = None, watched: bool = False) -> Took:
    """Runs a program, its output thrown away and `feed` zeros as its input. Raises RuntimeError if it fails."""
    environment = {**os.environ, **({"HOME": str(home), "XDG_STATE_HOME": ""} if home else {})}
    environment.pop("SSH_AUTH_SOCK", None)
    source = subprocess.Popen(["head", "-c", str(feed), "/dev/zero"], stdout=subprocess.PIPE) if feed else None
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            line, stdin=source.stdout if source else subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=said, env=environment,
        )  # fmt: skip
        memory = _peak(process) if watched else 0
        process.wait(LIMIT)
        took = time.perf_counter() - began
        if source and source.stdout:
            source.stdout.close()
            source.wait(LIMIT)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{line} ended with {process.returncode}: {said.read(2000)!r}")
    return Took(took, memory)


def _peak(process: subprocess.Popen[bytes]) -> int:
    """The most bytes resident until the end, looked up often: ru_maxrss counts our own before the exec too."""
    found = 0
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                found = max(found, int(line.split()[1]) * 1024)
        time.sleep(0.05)
    return found


@contextmanager
def new_home(target: Target, keys: Keys, kinds: tuple[str, ...] = ("ssh-ed25519",)) -> Iterator[Path]:
    """A home that knows the server's keys of these types, and holds the user's key."""
    with tempfile.TemporaryDirectory(prefix="glasshell-") as folder:
        home = Path(folder)
        (home / ".ssh").mkdir(mode=0o700)
        known = [f"[{target.host}]:{target.port} {key}\n" for key in target.host_keys if key.startswith(kinds)]
        (home / ".ssh/known_hosts").write_text("".join(known), "utf-8")
        keys.user().copy_to(home)
        yield home


def command_line(name: str, target: Target, home: Path, command: str, *options: str) -> list[str]:
    """The contender's: `glasshell ssh`, `ssh VERSION`, or a library's name."""
    if name == "glasshell ssh":
        return glasshell(target, home, command, *options)
    if name.startswith("ssh "):
        return openssh(name.split()[1], target, home, command, *options)
    return library(name, target, home, command)


def glasshell(target: Target, home: Path, command: str, *options: str) -> list[str]:
    """`glasshell ssh`, as installed, with its defaults and the home's known_hosts."""
    program = Path(sys.executable).with_name("glasshell")
    start = [str(program)] if program.exists() else [sys.executable, "-m", "glasshell"]
    identity = ["-i", str(home / "user_ed25519"), "-p", str(target.port), "-l", target.user]
    return [*start, "ssh", "-F", "none", *identity, *options, target.host, command]


def openssh(version: str, target: Target, home: Path, command: str, *options: str) -> list[str]:
    """ssh(1) of one version. The newest needs no chroot: its own loader finds its libraries."""
    place = PEERS[f"openssh-{version}"].place
    start = ["ssh"]
    if place is not SYSTEM:
        loader = next((place.root / "usr/lib64").glob("ld-linux-*"))
        libraries = next((place.root / "usr/lib").glob("*-linux-gnu"))
        start = [str(loader), "--library-path", str(libraries), str(place.root / "usr/bin/ssh")]
    settings = {
        "BatchMode": "yes", "UserKnownHostsFile": str(home / ".ssh/known_hosts"), "IdentitiesOnly": "yes",
        "IdentityFile": str(home / "user_ed25519"), "GlobalKnownHostsFile": "none",
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    where = ["-p", str(target.port), "-l", target.user, target.host]
    return [*start, "-F", "none", *options, *words, *where, command]


def library(whose: str, target: Target, home: Path, command: str) -> list[str]:
    """The smallest program that one can write with asyncssh or with paramiko."""
    where = [target.host, str(target.port), target.user, str(home / "user_ed25519")]
    return [sys.executable, "-m", "tests.bench.programs", whose, *where, command]


def _asyncssh(host: str, port: int, user: str, key: str, command: str) -> int:
    import asyncio

    import asyncssh

    async def work() -> int:
        async with asyncssh.connect(
            host, port, username=user, client_keys=[key], known_hosts=str(Path.home() / ".ssh/known_hosts"),
            agent_path=None, config=None,
        ) as connection:  # fmt: skip
            return (await connection.run(command, encoding=None)).exit_status or 0

    return asyncio.run(work())


def _paramiko(host: str, port: int, user: str, key: str, command: str) -> int:
    import paramiko

    with paramiko.SSHClient() as client:
        client.load_system_host_keys(str(Path.home() / ".ssh/known_hosts"))
        client.connect(host, port, user, key_filename=key, allow_agent=False, look_for_keys=False)
        _, stdout, _ = client.exec_command(command)
        while stdout.channel.recv(1 << 18):
            pass
        return stdout.channel.recv_exit_status()


if __name__ == "__main__":
    whose, host, port, user, key, command = sys.argv[1:]
    sys.exit({"asyncssh": _asyncssh, "paramiko": _paramiko}[whose](host, int(port), user, key, command))
