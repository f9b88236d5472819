"""Prints everything: `python -m tests.bench`."""

from __future__ import annotations

import os
import platform

import cryptography

from tests.bench.beside import MEGABYTES, beside
from tests.bench.captures import report
from tests.bench.hot import PACKET, ciphers, measure, watching


def main() -> None:
    print(
        f"Python {platform.python_version()}, cryptography {cryptography.__version__}, "
        f"{os.cpu_count()} processors, {platform.machine()}\n"
    )
    print(f"one packet of {PACKET // 1024} KiB in memory, microseconds; in brackets: above the cipher")
    print(f"{'cipher':32}{'send':>8}{'receive':>18}")
    for name in ciphers():
        cost = measure(name)
        send, receive = f"({cost.send - cost.seal:.1f})", f"({cost.receive - cost.open:.1f})"
        print(f"{name:32}{cost.send:8.1f} {send:>8}{cost.receive:9.1f} {receive:>8}")
    for sink, ratio in watching().items():
        print(f"receiving with {sink}: {ratio:.2f} times as long")
    found = beside()
    print(f"\n{MEGABYTES} MB at OpenSSH 9.2, MB/s, AES-GCM, login included")
    for way in ("down", "up"):
        ours, theirs = (MEGABYTES / seconds for seconds in found[way])
        print(f"{way:6} library {ours:7.0f}   ssh {theirs:7.0f}   ratio {ours / theirs:.2f}")
    library, ours, theirs = (seconds * 1000 for seconds in found["login"])
    print(f"login and `true`, ms: library {library:.0f}, glasshell ssh {ours:.0f}, ssh {theirs:.0f}")
    report(100)


main()
