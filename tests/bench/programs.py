"""Whole programs that log in, run one command and end: command lines for each, and what running them takes.

`python -m tests.bench.programs asyncssh|paramiko HOST PORT USER KEY COMMAND BYTES` is such a program for the
two libraries that have none.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.interop.peers import PEERS, SYSTEM, Keys, OpenSSHServer, Target

BLOCK: Final = bytes(1 << 18)


class Stock(OpenSSHServer):
    """sshd with the three host keys that it has by default, in its order.

    Its user's home is empty: what a shell reads there (.bashrc, which may take longer than all the rest) is
    no cost of SSH's.
    """

    KINDS: tuple[str, ...] = ("rsa", "ecdsa", "ed25519")

    def _line(self, port: int) -> list[str]:
        words = super()._line(port)
        if self.place is not SYSTEM or os.geteuid() != 0:
            return words
        return self.place.command("sshd", *words[1:], home=self._home())


@dataclass
class Took:
    """What a program took: seconds on the wall and of processors, and the most bytes that were resident.

    `memory` is 0 where nobody looked. `said` is what went to standard error.
    """

    seconds: float
    processor: float
    memory: int
    said: str


def run(
    line: list[str], *, feed: int = 0, home: Path | None = None, watched: bool = False,
    ends: Container[int] = (0,),
) -> Took:  # fmt: skip
    """Runs a program, its output thrown away and `feed` zeros as its input.

    Raises RuntimeError where it does not end with one of `ends`. `watched`: look at its memory.
    """
    environment = {**os.environ, **({"HOME": str(home), "XDG_STATE_HOME": ""} if home else {})}
    environment.pop("SSH_AUTH_SOCK", None)
    zeros = ["head", "-c", str(feed), "/dev/zero"]
    source = subprocess.Popen(zeros, stdout=subprocess.PIPE) if feed else None
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            line, stdin=source.stdout if source else subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=said, env=environment,
        )  # fmt: skip
        memory = _peak(process.pid) if watched else 0
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if source and source.stdout:
            source.stdout.close()
            source.wait()
        said.seek(0)
        text = said.read(1 << 20).decode("utf-8", "replace")
        if process.returncode not in ends:
            raise RuntimeError(f"{line} ended with {process.returncode}: {text[:2000]}")
    return Took(took, usage.ru_utime + usage.ru_stime, memory, text)


def _peak(process: int) -> int:
    """The most bytes resident until the end, looked up often: ru_maxrss counts ours before the exec too."""
    found = 0
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        status = Path(f"/proc/{process}/status").read_text("ascii", "replace")
        if match := re.search(r"VmHWM:\s*(\d+) kB", status):
            found = max(found, int(match[1]) * 1024)
        time.sleep(0.02)
    return found


@contextmanager
def new_home(target: Target, keys: Keys, kinds: tuple[str, ...] = ("ssh-ed25519",)) -> Iterator[Path]:
    """A home that knows the server's keys of these types, and holds the user's key."""
    with tempfile.TemporaryDirectory(prefix="glasshell-") as folder:
        home = Path(folder)
        (home / ".ssh").mkdir(mode=0o700)
        name = f"[{target.host}]:{target.port}"
        known = [f"{name} {key}\n" for key in target.host_keys if key.startswith(kinds)]
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


def library(whose: str, target: Target, home: Path, command: str, feed: int = 0) -> list[str]:
    """The smallest program that one can write with asyncssh or with paramiko; it sends `feed` zeros."""
    where = [target.host, str(target.port), target.user, str(home / "user_ed25519")]
    return [sys.executable, "-m", "tests.bench.programs", whose, *where, command, str(feed)]


def _asyncssh(host: str, port: int, user: str, key: str, command: str, feed: int) -> int:
    import asyncio

    import asyncssh

    async def work() -> int:
        async with asyncssh.connect(
            host, port, username=user, client_keys=[key], known_hosts=str(Path.home() / ".ssh/known_hosts"),
            agent_path=None, config=None,
        ) as connection:  # fmt: skip
            process = await connection.create_process(command, encoding=None)
            for _ in range(feed // len(BLOCK)):
                process.stdin.write(BLOCK)
                await process.stdin.drain()
            process.stdin.write_eof()
            while await process.stdout.read(len(BLOCK)):
                pass
            return (await process.wait()).exit_status or 0

    return asyncio.run(work())


def _paramiko(host: str, port: int, user: str, key: str, command: str, feed: int) -> int:
    import paramiko

    with paramiko.SSHClient() as client:
        client.load_system_host_keys(str(Path.home() / ".ssh/known_hosts"))
        client.connect(host, port, user, key_filename=key, allow_agent=False, look_for_keys=False)
        stdin, stdout, _ = client.exec_command(command)
        for _ in range(feed // len(BLOCK)):
            stdin.channel.sendall(BLOCK)
        stdin.channel.shutdown_write()
        while stdout.channel.recv(len(BLOCK)):
            pass
        return int(stdout.channel.recv_exit_status())


if __name__ == "__main__":
    whose, host, port, user, key, command, feed = sys.argv[1:]
    work = {"asyncssh": _asyncssh, "paramiko": _paramiko}[whose]
    sys.exit(work(host, int(port), user, key, command, int(feed)))
