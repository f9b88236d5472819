"""Bulk throughput beside the peers: one channel over loopback, in turn: `python -m tests.bench.bulk`.

Rates are 10^6 bytes a second. Those of libraries leave login and start out; of programs, which cannot, the
time of the same program running `true` is taken off.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench.programs import Stock, library, new_home, run
from tests.interop.peers import Keys, OpenSSHClient, Target, why_not

GCM: Final = "aes128-gcm@openssh.com"
CHACHA: Final = "chacha20-poly1305@openssh.com"
WAYS: Final = ("down", "up")


@dataclass
class Figures:
    """What one contender took: `rate` in 10^6 bytes a second; `cpu` is the client's seconds for 10^9."""

    rate: float
    cpu: float


@contextmanager
def library_server(whose: str, keys: Keys, cipher: str) -> Iterator[Target]:
    """A server of ours, or of asyncssh, in a process of its own."""
    keys.user(), keys.host()
    line = [sys.executable, "-m", "tests.bench.ends", "serve", whose, str(keys.folder), cipher]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield Target(int(process.stdout.readline()), "ada", (keys.host().public,))
        finally:
            process.kill()


def library_client(
    whose: str, way: str, size: int, target: Target, keys: Keys, cipher: str, *options: str
) -> Figures:
    """One transfer by our library, or by asyncssh."""
    line = [
        sys.executable, "-m", "tests.bench.ends", "client", whose, way, str(size), target.host,
        str(target.port), target.user, str(keys.folder), cipher, *options,
    ]  # fmt: skip
    done = subprocess.run(line, check=True, capture_output=True, text=True, timeout=300)
    found = json.loads(done.stdout)
    return Figures(size / found["seconds"] / 1e6, found["cpu"] / size * 1e9)


def _program(run: Callable[[str, bool], None], way: str, size: int) -> Figures:
    """One transfer by a program: `run(command, has_input)`."""
    began = time.perf_counter()
    run("true", False)
    login = time.perf_counter() - began
    began = time.perf_counter()
    if way == "down":
        run(f"head -c {size} /dev/zero", False)
    else:
        run(f"head -c {size} >/dev/null", True)
    return Figures(size / (time.perf_counter() - began - login) / 1e6, 0.0)


def openssh_client(version: str, way: str, size: int, target: Target, keys: Keys, cipher: str) -> Figures:
    """One transfer by ssh(1)."""
    client = OpenSSHClient(version)
    inside = client.place.root / "tmp"
    with TemporaryDirectory(dir=None if client.place.root == Path("/") else inside) as folder:
        home = Path(folder)
        (home / ".ssh").mkdir()
        (home / ".ssh/known_hosts").write_text(target.known_hosts(), "utf-8")
        identity = keys.user().copy_to(home)
        line = client.place.command(*client._line(target, [f"-oCiphers={cipher}"], identity, home))
        return _program(lambda command, feed: move([*line, command], size if feed else 0), way, size)


def glasshell_client(way: str, size: int, target: Target, keys: Keys, cipher: str) -> Figures:
    """One transfer by `glasshell ssh`."""

    def run(command: str, feed: bool) -> None:
        with TemporaryDirectory() as folder:
            known = Path(folder, "known_hosts")
            known.write_text(target.known_hosts(), "utf-8")
            line = [
                sys.executable, "-m", "glasshell", "ssh", "-F", "none", "-i", str(keys.user().private),
                "-p", str(target.port), "-o", f"UserKnownHostsFile={known}", "-o", f"Ciphers={cipher}",
                "-o", "IdentityAgent=none", f"{target.user}@{target.host}", command,
            ]  # fmt: skip
            move(line, size if feed else 0)

    return _program(run, way, size)


def paramiko_client(way: str, size: int, target: Target, keys: Keys) -> Figures:
    """One transfer by the smallest program with paramiko."""
    with new_home(target, keys) as home:

        def once(command: str, feed: bool) -> None:
            run(library("paramiko", target, home, command, size if feed else 0), home=home)

        return _program(once, way, size)


def move(line: list[str], size: int) -> None:
    """Runs a client with its output thrown away, and `size` zeros as its input."""
    if not size:
        subprocess.run(line, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=300)  # fmt: skip
        return
    with subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE) as source:
        subprocess.run(line, check=True, stdin=source.stdout, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=300)  # fmt: skip


def interleaved(works: dict[str, Callable[[], Figures]], rounds: int) -> dict[str, list[Figures]]:
    """Each contender's figures, all in turn in each round, after one round that does not count."""
    found: dict[str, list[Figures]] = {name: [] for name in works}
    for each in range(rounds + 1):
        for name, work in works.items():
            figures = work()
            if each:
                found[name].append(figures)
    return found


Report = dict[tuple[str, str], list[Figures]]
"""By contender and way."""


def compare(cipher: str, size: int, rounds: int, only: str = "") -> Report:
    """Every pair and every client that there is, both ways, with one cipher."""
    found: Report = {}
    with TemporaryDirectory() as folder, ExitStack() as stack:
        keys = Keys(Path(folder))
        ours = stack.enter_context(library_server("ours", keys, cipher))
        stock = stack.enter_context(Stock("9.2", keys, extra_config=f"Ciphers {cipher}")).target
        contenders: dict[str, Callable[[str], Figures]] = {
            "ours, both ends": lambda way: library_client("ours", way, size, ours, keys, cipher),
            "library at sshd 9.2": lambda way: library_client(
                "ours", way, size, stock, keys, cipher, "command"
            ),
            "glasshell ssh at sshd 9.2": lambda way: glasshell_client(way, size, stock, keys, cipher),
            "ssh 9.2 at sshd 9.2": lambda way: openssh_client("9.2", way, size, stock, keys, cipher),
        }
        if not why_not("openssh-10.6"):
            newest = stack.enter_context(Stock("10.6", keys, extra_config=f"Ciphers {cipher}")).target
            contenders["OpenSSH 10.6, both ends"] = lambda way: openssh_client(
                "10.6", way, size, newest, keys, cipher
            )
        if not why_not("asyncssh"):
            theirs = stack.enter_context(library_server("asyncssh", keys, cipher))
            contenders["asyncssh, both ends"] = lambda way: library_client(
                "asyncssh", way, size, theirs, keys, cipher
            )
            contenders["asyncssh at sshd 9.2"] = lambda way: library_client(
                "asyncssh", way, size, stock, keys, cipher, "command"
            )
        if not why_not("paramiko") and cipher != CHACHA:  # which it does not know
            contenders["paramiko at sshd 9.2"] = lambda way: paramiko_client(way, size, stock, keys)
        for way in WAYS:
            works: dict[str, Callable[[], Figures]] = {
                name: partial(work, way) for name, work in contenders.items() if only in name
            }
            for name, figures in interleaved(works, rounds).items():
                found[name, way] = figures
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=800, metavar="MB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cipher", default="gcm", choices=("gcm", "chacha"))
    parser.add_argument("--only", default="", help="contenders whose names hold this")
    options = parser.parse_args()
    cipher = {"gcm": GCM, "chacha": CHACHA}[options.cipher]
    report = compare(cipher, options.size * 1_000_000, options.rounds, options.only)
    print(f"{options.size} MB, {cipher}, {options.rounds} rounds: median MB/s (least, most)")
    for (name, way), figures in report.items():
        rates = sorted(each.rate for each in figures)
        cpu = statistics.median(each.cpu for each in figures)
        note = f"   client's processor {cpu:.2f} s/GB" if cpu else ""
        print(f"{name:28}{way:6}{statistics.median(rates):7.0f} ({rates[0]:.0f}, {rates[-1]:.0f}){note}")


if __name__ == "__main__":
    main()
