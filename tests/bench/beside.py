"""glasshell beside OpenSSH in one run: the same work, in turn, at the same sshd."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import glasshell
from glasshell.keys.public import load_public_key
from glasshell.policy import Policy
from tests.interop.peers import Keys, OpenSSHClient, OpenSSHServer, Target

CIPHER = "aes128-gcm@openssh.com"
MEGABYTES = 400
ROUNDS = 5
DOWN = f"head -c {MEGABYTES}000000 /dev/zero"
UP = "cat >/dev/null"


def times(*works: Callable[[], None]) -> list[float]:
    """The median seconds of each piece of work, in turn, after one round that does not count."""
    found: list[list[float]] = [[] for _ in works]
    for each in range(ROUNDS + 1):
        for work, kept in zip(works, found, strict=True):
            began = time.perf_counter()
            work()
            if each:
                kept.append(time.perf_counter() - began)
    return [statistics.median(kept) for kept in found]


class Beside:
    """One sshd, and the two clients."""

    def __init__(self, keys: Keys, target: Target) -> None:
        self._keys = keys
        self._target = target
        self._theirs = OpenSSHClient("9.2")
        self._zeros = bytes(MEGABYTES * 1_000_000)

    def down(self) -> list[float]:
        """Seconds to receive MEGABYTES: glasshell's library, ssh."""
        return times(lambda: self._library(DOWN), lambda: self._ssh(DOWN, f"-oCiphers={CIPHER}"))

    def up(self) -> list[float]:
        """Seconds to send MEGABYTES."""
        return times(
            lambda: self._library(UP, self._zeros),
            lambda: self._ssh(UP, f"-oCiphers={CIPHER}", stdin=self._zeros),
        )

    def login(self) -> list[float]:
        """Seconds of one whole login with `true`: library, `glasshell ssh`, ssh."""
        identity = self._keys.user()
        with TemporaryDirectory() as folder:
            known = Path(folder, "known_hosts")
            known.write_text(self._target.known_hosts(), "utf-8")
            line = [
                sys.executable, "-m", "glasshell", "ssh", "-F", "none", "-i", str(identity.private),
                "-p", str(self._target.port), "-o", f"UserKnownHostsFile={known}",
                "-o", "IdentityAgent=none", f"{self._target.user}@{self._target.host}", "true",
            ]  # fmt: skip
            return times(
                lambda: self._library("true"),
                lambda: subprocess.run(line, check=True, stdin=subprocess.DEVNULL) and None,
                lambda: self._ssh("true"),
            )

    def _library(self, command: str, data: bytes = b"") -> None:
        async def work() -> None:
            host_key = load_public_key(self._target.host_keys[0])[0]
            async with glasshell.connect(
                self._target.host, self._target.port, user=self._target.user, agent=None,
                keys=[self._keys.user().private], known_hosts=host_key,
                policy=Policy.client(ciphers=(CIPHER,)),
            ) as connection:  # fmt: skip
                await connection.run(command, input=data, encoding=None, check=True)

        asyncio.run(work())

    def _ssh(self, command: str, *options: str, stdin: bytes = b"") -> None:
        done = self._theirs.run(
            self._target, command, *options, identity=self._keys.user(), stdin=stdin, timeout=120
        )
        assert done.returncode == 0, done.stderr


def beside() -> dict[str, list[float]]:
    """All three, at OpenSSH 9.2."""
    with TemporaryDirectory() as folder:
        keys = Keys(Path(folder))
        with OpenSSHServer("9.2", keys, extra_config=f"Ciphers {CIPHER}") as server:
            compared = Beside(keys, server.target)
            return {"down": compared.down(), "up": compared.up(), "login": compared.login()}
