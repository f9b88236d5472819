"""SSH connections of the machine as events: by what bpftrace prints, or by asking sock_diag repeatedly."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import ConfigError
from ..wire import visible
from .connections import SSH_PORT, Connection, survey
from .processes import describe
from .sockets import Place
from .tracing import Line, Tracing

__all__ = ["Event", "Polling", "Traced", "ssh_ports", "there"]

INTERVAL: Final = 0.25
"""Seconds between two questions to sock_diag."""
PATIENCE: Final = 0.5
"""Seconds that a connection accepted here waits for the process that serves it to say a word."""
MAX_OPEN: Final = 65536
"""Most connections that are followed at the same time."""


@dataclass(slots=True)
class Event:
    """`kind` is there, open, failed, sent, received, retransmit or closed; `time` is seconds since 1970.

    Facts, where they are known: `direction` (in, out), `program`, `pid`, `user`, `local`, `peer`,
    `connect_ms`; of what is over also `sent`, `received` (bytes), `retransmits`, `rtt_ms`, `cwnd`, `seconds`.
    """

    time: float
    kind: str
    facts: dict[str, Any] = field(default_factory=dict)


def ssh_ports(asked: Iterable[int]) -> list[int]:
    """22, what was asked for, where SSH servers listen now, and where SSH clients are connected to."""
    found = {SSH_PORT, *asked}
    with suppress(ConfigError):  # without psutil nobody knows who listens
        for each in survey(asked, listeners=True).connections:
            end = each.socket.peer if each.direction == "out" else each.socket.local
            if each.what == "listener" or each.direction:
                found.add(end.port)
    return sorted(found)


def there(ports: Iterable[int]) -> dict[tuple[Place, Place], dict[str, Any]]:
    """The facts of the connections that there are now, by their ends; empty where nobody can tell."""
    with suppress(ConfigError):
        return {each.key: _facts(each) for each in survey(ports).connections}
    return {}


def place(address: str, port: int) -> dict[str, Any]:
    """One end; an IPv4 address that came mapped into IPv6 is shown as IPv4."""
    with suppress(ValueError):
        mapped = getattr(ipaddress.ip_address(address), "ipv4_mapped", None)
        address = str(mapped or address)
    return {"address": visible(address), "port": port}


# ---- sock_diag


@dataclass(slots=True)
class _Seen:
    """A connection that was there at the last look."""

    facts: dict[str, Any]
    began: float
    figures: dict[str, Any] = field(default_factory=dict)


class Polling:
    """Tells what has come and gone between two looks; what is there at first is told as `there`."""

    def __init__(self, ports: Iterable[int]) -> None:
        """Raises ConfigError where the sockets cannot be had."""
        self._ports = tuple(ports)
        self._seen: dict[tuple[Place, Place], _Seen] = {}
        self._first = survey(self._ports)
        self.notes = self._first.notes

    def events(self, deadline: float | None) -> Iterator[Event]:
        """What happens, until `deadline` of time.monotonic()."""
        yield from self._compare(self._first.connections, "there")
        while deadline is None or time.monotonic() < deadline:
            left = INTERVAL if deadline is None else min(INTERVAL, deadline - time.monotonic())
            time.sleep(max(left, 0.0))
            yield from self._compare(survey(self._ports).connections, "open")

    def _compare(self, found: Iterable[Connection], kind: str) -> Iterator[Event]:
        now = time.time()
        fresh = {each.key: each for each in found}
        for key, each in fresh.items():
            seen = self._seen.get(key)
            if seen is None:
                if len(self._seen) >= MAX_OPEN:
                    continue
                seen = self._seen[key] = _Seen(_facts(each), now)
                yield Event(now, kind, dict(seen.facts))
            # A process that has ended leaves its connection behind for a moment, with nobody's name.
            seen.facts |= {name: value for name, value in _facts(each).items() if value is not None}
            seen.figures = _figures(each) or seen.figures
        for key in [key for key in self._seen if key not in fresh]:
            last = self._seen.pop(key)
            yield Event(now, "closed", {**last.facts, **last.figures, "seconds": round(now - last.began, 3)})


def _facts(each: Connection) -> dict[str, Any]:
    process = each.process
    return {
        "direction": each.direction or None, "program": process.program if process else None,
        "pid": process.pid if process else None, "user": visible(each.user) or None,
        "local": each.socket.local._asdict(), "peer": each.socket.peer._asdict(),
    }  # fmt: skip


def _figures(each: Connection) -> dict[str, Any]:
    info = each.socket.info
    if info is None:
        return {}
    return {
        "sent": info.bytes_sent, "received": info.bytes_received, "retransmits": info.retransmits,
        "rtt_ms": info.rtt, "cwnd": info.cwnd,
    }  # fmt: skip


# ---- eBPF


@dataclass(slots=True)
class _Following:
    """One connection that the script tells of."""

    facts: dict[str, Any]
    began: int
    established: int = 0
    told: bool = False


class Traced:
    """Makes events of what `connections.bt` prints. `note` hears of events that were lost."""

    def __init__(
        self, tracing: Tracing, note: Callable[[str], object],
        before: Mapping[tuple[Place, Place], dict[str, Any]] | None = None,
    ) -> None:  # fmt: skip
        """`before` are the facts of connections that were there already."""
        self._before = dict(before or {})
        self._tracing = tracing
        self._note = note
        self._bytes = "bytes" in tracing.script.parts
        self._offset = 0.0
        """Seconds from the kernel's clock to the time since 1970."""
        self._open: dict[str, _Following] = {}
        self._waiting: dict[str, float] = {}
        """Connections accepted here whose process has not spoken yet, and until when they wait for it."""
        self._lost = 0

    def events(self, deadline: float | None) -> Iterator[Event]:
        """What happens, until `deadline` of time.monotonic(). Raises ConfigError where bpftrace ends."""
        for facts in self._before.values():
            yield Event(time.time(), "there", dict(facts))
        while deadline is None or time.monotonic() < deadline:
            left = INTERVAL if deadline is None else min(INTERVAL, deadline - time.monotonic())
            for line in self._tracing.read(max(left, 0.0)):
                yield from self.hear(line)
            yield from self._overdue(time.monotonic())
            if self._tracing.lost > self._lost:
                self._lost = self._tracing.lost
                self._note(f"{self._lost} events came faster than they could be read")

    def hear(self, line: Line) -> Iterator[Event]:
        """The events of one line; a line that is cut off or not ours has none."""
        act = self._ACTS.get(line.word)
        if act is not None:
            with suppress(ValueError, IndexError):
                words = line.rest.split(" ")
                yield from act(self, [line.word, *words] if act is Traced._moved else words)

    def _overdue(self, now: float) -> Iterator[Event]:
        for sock in [sock for sock, until in self._waiting.items() if until <= now]:
            yield from self._opened(sock)

    def _at(self, nanoseconds: int) -> float:
        return nanoseconds / 1e9 + self._offset

    def _begin(self, words: list[str]) -> Iterator[Event]:
        """Finds out which clock the script's is: it is the one that is nearest."""
        clocks = [
            getattr(time, name) for name in ("CLOCK_MONOTONIC", "CLOCK_BOOTTIME") if hasattr(time, name)
        ]
        now = int(words[0]) / 1e9
        nearest = min(clocks, key=lambda clock: abs(time.clock_gettime(clock) - now))
        self._offset = time.time() - time.clock_gettime(nearest)
        yield from ()

    def _connect(self, words: list[str]) -> Iterator[Event]:
        stamp, sock = int(words[0]), words[1]
        facts = {"direction": "out", **_process(words[6], words[7], words[8:])}
        facts |= {"local": place(words[2], int(words[3])), "peer": place(words[4], int(words[5]))}
        self._follow(sock, _Following(facts, stamp))
        yield from ()

    def _follow(self, sock: str, following: _Following) -> None:
        if len(self._open) < MAX_OPEN:
            self._open[sock] = following

    def _established(self, words: list[str]) -> Iterator[Event]:
        """The port that the client was given is known only now."""
        stamp, sock = int(words[0]), words[1]
        following = self._open.get(sock)
        if following is not None:
            following.facts |= {
                "local": place(words[2], int(words[3])),
                "connect_ms": round((stamp - following.began) / 1e6, 3),
            }
            following.established = stamp
            yield from self._opened(sock)

    def _accepted(self, words: list[str]) -> Iterator[Event]:
        stamp, sock = int(words[0]), words[1]
        facts: dict[str, Any] = {"direction": "in", "program": None, "pid": None, "user": None}
        facts |= {"local": place(words[2], int(words[3])), "peer": place(words[4], int(words[5]))}
        self._follow(sock, _Following(facts, stamp, stamp))
        self._waiting[sock] = time.monotonic() + (PATIENCE if self._bytes else 0.0)
        yield from ()

    def _speaks(self, words: list[str]) -> Iterator[Event]:
        following = self._open.get(words[1])
        if following is not None:
            following.facts |= _process(words[2], words[3], words[4:])
            yield from self._opened(words[1])

    def _opened(self, sock: str) -> Iterator[Event]:
        self._waiting.pop(sock, None)
        following = self._open.get(sock)
        if following is not None and not following.told:
            following.told = True
            yield Event(self._at(following.established or following.began), "open", dict(following.facts))

    def _moved(self, words: list[str]) -> Iterator[Event]:
        following = self._open.get(words[2])
        if following is not None:
            yield from self._opened(words[2]) if following.established else ()
            facts = {**following.facts, **_process(words[4], words[5], words[6:]), "bytes": int(words[3])}
            facts.pop("connect_ms", None)
            yield Event(self._at(int(words[1])), words[0], facts)

    def _retransmit(self, words: list[str]) -> Iterator[Event]:
        following = self._open.get(words[1])
        if following is not None:
            yield from self._opened(words[1]) if following.established else ()
            facts = {**following.facts, "retransmits": int(words[2])}
            facts.pop("connect_ms", None)
            yield Event(self._at(int(words[0])), "retransmit", facts)

    def _closed(self, words: list[str]) -> Iterator[Event]:
        stamp, sock = int(words[0]), words[1]
        sent, received, retransmits, srtt, cwnd = (int(word) for word in words[2:7])
        following = self._open.get(sock)
        if following is None:
            return
        figures: dict[str, Any] = {}
        parts = self._tracing.script.parts
        if self._bytes:
            figures |= {"sent": sent, "received": received}
        if "retransmits" in parts:
            figures["retransmits"] = retransmits
        if "rtt" in parts and srtt:
            figures |= {"rtt_ms": srtt / 1000, "cwnd": cwnd}
        facts = {**following.facts, **figures, "seconds": round((stamp - following.began) / 1e9, 3)}
        if following.established:
            yield from self._opened(sock)
            facts.pop("connect_ms", None)
        yield Event(self._at(stamp), "closed" if following.established else "failed", facts)
        del self._open[sock]

    def _gone(self, words: list[str]) -> Iterator[Event]:
        ends = [place(words[at], int(words[at + 1])) for at in (1, 3)]
        local, peer = (Place(end["address"], end["port"]) for end in ends)
        facts = self._before.pop((local, peer), None)
        if facts is not None:
            yield Event(self._at(int(words[0])), "closed", facts)

    _ACTS: Final = {
        "begin": _begin, "connect": _connect, "established": _established, "accepted": _accepted,
        "speaks": _speaks, "retransmit": _retransmit, "closed": _closed, "gone": _gone,
        "sent": _moved, "received": _moved,
    }  # fmt: skip


def _process(pid: str, uid: str, comm: list[str]) -> dict[str, Any]:
    """Who it is: the kernel's word, or a better name where the process still lives."""
    program, user = visible(" ".join(comm)), uid
    with suppress(ConfigError):
        if found := describe(int(pid)):
            program, user = found.program, found.user
    return {"program": program, "pid": int(pid), "user": visible(user)}
