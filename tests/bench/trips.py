"""Round trips from the start of a program to the exit status of `true`, on a line of 100 ms.

    python -m tests.bench.trips [rounds [milliseconds]]

What the line costs: the time of a whole program beyond the same on a line without delay, divided by the round
trip. Stock sshd with its three default host keys; the client knows its Ed25519 key and nothing else. Each
round is a new home, whose first, second and third contact are timed; OpenSSH's clients, which learn nothing
of this, stand beside it. Of all rounds the quickest counts, fast and slow: what else the machine does only
adds to either.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.interop.delay import DelayLine
from tests.interop.peers import Keys, OpenSSHClient, OpenSSHServer, Target

SOURCE: Final = Path(__file__).resolve().parents[2] / "src"
CONTACTS: Final = 3


class Stock(OpenSSHServer):
    """sshd with the three host keys that it has by default, in its default order."""

    KINDS = ("rsa", "ecdsa", "ed25519")


def glasshell(target: Target, identity: Path, home: Path, *options: str) -> float:
    """Seconds of one run of `glasshell ssh ... true`."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(SOURCE)}
    words = [sys.executable, "-m", "glasshell", "ssh", "-F", "none", "-i", str(identity), *options]
    words += ["-p", str(target.port), f"{target.user}@{target.host}", "true"]
    began = time.perf_counter()
    subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return time.perf_counter() - began


def openssh(client: OpenSSHClient, target: Target, keys: Keys) -> float:
    """Seconds of one run of OpenSSH's client, chroot included: it is there without delay too."""
    began = time.perf_counter()
    done = client.run(target, "true", identity=keys.user())
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - began


def contacts(target: Target, keys: Keys, *options: str) -> Iterator[float]:
    """The first contacts of a new home."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / ".ssh").mkdir(mode=0o700)
        lines = target.known_hosts().splitlines(keepends=True)
        known = [line for line in lines if "ssh-ed25519" in line and line.startswith("[")]
        (home / ".ssh" / "known_hosts").write_text("".join(known))
        identity = keys.user().copy_to(home)
        for _ in range(CONTACTS):
            yield glasshell(target, identity, home, *options)


def measure(version: str, rounds: int, trip: float) -> dict[str, float]:
    """Round trips at sshd `version`, by who connected."""
    found: dict[float, dict[str, list[float]]] = {0.0: defaultdict(list), trip: defaultdict(list)}
    with tempfile.TemporaryDirectory() as folder, DelayLine() as line:
        keys = Keys(Path(folder))
        with (
            Stock(version, keys, extra_config=f"ListenAddress {line.near}") as server,
            OpenSSHClient("9.2") as old, OpenSSHClient("10.6") as new,
        ):  # fmt: skip
            target = replace(server.target, host=line.far)

            def once() -> dict[str, float]:
                took = dict(zip(("first", "second", "third"), contacts(target, keys), strict=True))
                told = {f"glasshell, {name} contact": seconds for name, seconds in took.items()}
                *_, in_turns = contacts(target, keys, "-o", "Speculation=no")
                told["glasshell, Speculation=no"] = in_turns
                told["ssh 9.2"] = openssh(old, target, keys)
                told["ssh 10.6"] = openssh(new, target, keys)
                return told

            for _ in range(rounds):
                for line.round_trip in found:
                    for name, seconds in once().items():
                        found[line.round_trip][name].append(seconds)
    fast, slow = ({name: min(values) for name, values in each.items()} for each in found.values())
    return {name: (slow[name] - fast[name]) / trip for name in fast}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    milliseconds = float(sys.argv[2]) if len(sys.argv) > 2 else 100.0
    for version in ("9.2", "10.6"):
        print(f"sshd {version}, {milliseconds:g} ms, best of {rounds} rounds, round trips:")
        for name, trips in measure(version, rounds, milliseconds / 1000).items():
            print(f"  {name:28} {trips:5.2f}")


if __name__ == "__main__":
    main()
