"""Bulk data: whole transfers beside the peers, the path in memory, and captures read."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench import bulk, captures, hot
from tests.bench.programs import run
from tests.bench.reach import MEGA, Plan
from tests.bench.table import Goal, Table, Work
from tests.interop.peers import why_not

PAIR: Final = "ours, both ends"
OPENSSH: Final = "OpenSSH 10.6, both ends"
GOALS: Final = {
    "gcm": (
        Goal("glasshell ssh at sshd 9.2", "ssh 9.2 at sshd 9.2", True, 1.0),
        Goal(PAIR, OPENSSH, True, 1.3),
        Goal(PAIR, "asyncssh, both ends", True, 2.5),
    ),
    "chacha": (Goal(PAIR, OPENSSH, True, 1.0),),
}


def gcm(plan: Plan) -> Iterator[Table]:
    """One channel, AES-GCM, both ways, beside everybody."""
    yield from _bulk(plan, "gcm", bulk.GCM, plan.size)


def chacha(plan: Plan) -> Iterator[Table]:
    """One channel, chacha20-poly1305, both ways."""
    yield from _bulk(plan, "chacha", bulk.CHACHA, plan.size // 2)


def _bulk(plan: Plan, key: str, cipher: str, size: int) -> Iterator[Table]:
    report = bulk.compare(cipher, size * MEGA, plan.rounds)
    for way in bulk.WAYS:
        table = Table(
            f"{key}, {way}", f"One channel {way}, {cipher}, loopback", "MB/s", more=True, digits=0,
            note="Each end is a process of its own. Libraries without login and start; the time of `true` is "
            "taken off that of programs. Without “at sshd”, both ends are of one make.",
        )  # fmt: skip
        for (name, which), kept in report.items():
            if which == way:
                table.rows[name] = [each.rate for each in kept]
        table.goals = list(GOALS[key])
        table.missing = {
            name: reason
            for name, peer in ((OPENSSH, "openssh-10.6"), ("asyncssh, both ends", "asyncssh"))
            if (reason := why_not(peer))
        }
        table.clock = time.strftime("%Y-%m-%d %H:%M")
        yield table


def memory(plan: Plan) -> Iterator[Table]:
    """What one packet of 32 KiB costs in memory, and what of it is not the cipher."""
    table = Table(
        "memory", f"{hot.PACKET // 1024} KiB of data in memory", "µs", more=False,
        note="Processor time of two cores without a socket between them. “Above the cipher” is what is left "
        "without sealing or opening. Data travels in larger packets where both sides take them.",
    )  # fmt: skip

    def work(name: str) -> dict[str, float]:
        for kept, seconds in zip(alone[name], hot.primitives(name), strict=True):
            kept.append(seconds * 1e6)
        return {f"{name}: {way}": each * 1e6 for way, each in zip(ways, hot.transfer(name), strict=True)}

    ways = "send", "receive"
    alone: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in hot.ciphers()}
    works: list[Work] = [partial(work, name) for name in alone]
    table.run(works, 2 * plan.rounds)
    whole, table.rows = table.rows, {}
    for name, kept in alone.items():
        for way, ciphers in zip(ways, kept, strict=True):
            row = table.rows[f"{name}: {way}"] = whole[f"{name}: {way}"]
            table.rows[f"{name}: {way}, above the cipher"] = [
                each - statistics.median(ciphers) for each in row
            ]
    yield table


def inspect(plan: Plan) -> Iterator[Table]:
    """Captures read, beside tshark."""
    table = Table(
        "inspect", "A capture read: packets for each second of processor time", "packets/s", more=True,
        digits=0, note="Bulk transfers and short logins with their secrets, other traffic between them. "
        "`glasshell inspect` and tshark print two fields of each SSH message. `make gigabyte` reads 1 GB.",
    )  # fmt: skip
    most = Table("inspect, memory", "The most memory that took", "MB", more=False, digits=0)
    most.goals = [Goal("glasshell inspect", "", False, captures.LIMIT)]
    with tempfile.TemporaryDirectory(prefix="glasshell-") as folder:
        path = Path(folder) / "large.pcapng"
        packets = captures.write(path, plan.size // 8 * MEGA)
        fields = ["-T", "fields", "-e", "frame.number", "-e", "ssh.message_code"]
        lines = {
            name: [sys.executable, "-c", code.replace("PATH", repr(str(path)))]
            for name, code in captures.OURS.items()
        }
        lines["glasshell inspect"] = [sys.executable, "-m", "glasshell", "inspect", *fields, str(path)]
        if reason := why_not("tshark"):
            table.missing["tshark"] = reason
        else:
            lines["tshark"] = captures.tshark(path)

        def work(name: str) -> dict[str, float]:
            took = run(lines[name], watched=True, ends=(0, 1))  # 1: there are gaps in it, as there should be
            most.rows.setdefault(name, []).append(took.memory / MEGA)
            return {name: packets / took.processor}

        works: list[Work] = [partial(work, name) for name in lines]
        table.run(works, max(plan.rounds // 2, 1), warm=False)
    table.note += f" This one has {packets:,} packets."
    most.clock = table.clock
    yield table
    yield most
