"""Every SSH connection of this machine, whoever's it is: sockets, processes and our servers' own word joined.

What counts as an SSH connection: what a status socket of ours names; the connection of an SSH program,
without those that it forwards; and whatever has port 22 at one of its ends.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from ..errors import ConfigError
from ..wire import visible
from .processes import CLIENTS, SERVERS, Held, Holders, Process, describe, holders
from .sockets import LISTEN, SETTLED, Place, Socket, Sockets, tcp_sockets
from .status import PATIENCE as STATUS_PATIENCE
from .status import Status, places, read_status

__all__ = ["SSH_PORT", "Connection", "Survey", "join", "survey"]

SSH_PORT: Final = 22
PATIENCE: Final = 6.0
"""Seconds that all status sockets together may take; anybody may have made some that do not answer."""

Direction: TypeAlias = Literal["in", "out", "listen", ""]
What: TypeAlias = Literal["ssh", "forwarded", "listener", "other"]


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection, or one listener.

    `process` is who speaks SSH over it: of several who hold the socket (sshd keeps a parent with more rights
    behind each session) the one that began last; `holders` are all. `age` is seconds, None where nobody
    knows. `server` is what a server of ours says of the connection, `server_path` where that is asked.
    """

    socket: Socket
    what: What
    direction: Direction
    process: Process | None = None
    holders: tuple[Held, ...] = ()
    age: float | None = None
    server: Mapping[str, Any] | None = None
    server_path: Path | None = None

    @property
    def key(self) -> tuple[Place, Place]:
        """What tells it from every other at one moment."""
        return self.socket.local, self.socket.peer

    @property
    def user(self) -> str:
        """Who is logged in, as our server says; else whose process it is."""
        told = self.server.get("user") if self.server else None
        return str(told) if told else self.process.user if self.process else ""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found, at `clock` seconds of time.monotonic(), and in words what could not be seen."""

    connections: tuple[Connection, ...]
    servers: tuple[Status, ...]
    notes: tuple[str, ...]
    clock: float


def survey(ports: Iterable[int] = (), *, all: bool = False, listeners: bool = False) -> Survey:
    """Every SSH connection now. `ports` count like 22; `all`: every connection there is.

    Blocks: not for the thread of an event loop. Raises ConfigError where the sockets cannot be had.
    """
    sockets = tcp_sockets()
    held = holders(each.inode for each in sockets.all)
    statuses, notes = [], list(sockets.missing)
    deadline = time.monotonic() + PATIENCE
    for path in places():
        left = deadline - time.monotonic()
        if left <= 0:
            notes.append(f"status socket {visible(str(path))} and the rest was not asked: no time is left")
            break
        try:
            statuses.append(read_status(path, min(left, STATUS_PATIENCE)))
        except ConfigError as error:
            # Between the listing and the question its server may have ended.
            if path.exists() and "refused" not in str(error):
                notes.append(f"status socket {error}")
    if held.hidden:
        notes.append(
            f"{held.hidden} processes of other users cannot be looked into: their connections are shown"
            f" without a process, and on other ports than {SSH_PORT} not at all; root sees them"
        )
    found = join(sockets, held, statuses, frozenset({SSH_PORT, *ports}), time.time())
    kept = [each for each in found if _wanted(each, all, listeners)]
    return Survey(tuple(kept), tuple(statuses), tuple(notes), time.monotonic())


def _wanted(found: Connection, all: bool, listeners: bool) -> bool:
    if found.what == "listener":
        return listeners
    return all or (found.what == "ssh" and found.socket.state not in SETTLED)


def join(
    sockets: Sockets, held: Holders, statuses: Sequence[Status], ports: Set[int], now: float
) -> list[Connection]:
    """Says of every socket what it is. `now` is seconds since 1970."""
    return _Join(sockets, held, statuses, ports, now).connections()


class _Join:
    """The tables that one survey is made with."""

    def __init__(
        self, sockets: Sockets, held: Holders, statuses: Sequence[Status], ports: Set[int], now: float
    ) -> None:
        self._sockets = sockets.all
        self._held = {each: self._holders(each, held) for each in sockets.all}
        self._ports = ports
        self._now = now
        self._listening: dict[int, set[int]] = {}
        """Port -> the processes that listen at it (0: one that is not known)."""
        for each in sockets.all:
            if each.state == LISTEN:
                pids = {one.process.pid for one in self._held[each]} or {0}
                self._listening.setdefault(each.local.port, set()).update(pids)
        self._told: dict[tuple[int, Place, Place], tuple[Mapping[str, Any], Status]] = {}
        for status in statuses:
            for shown in status.connections:
                ends = _place(shown.get("local")), _place(shown.get("peer"))
                if ends[0] and ends[1]:
                    self._told[status.pid, ends[0], ends[1]] = shown, status
        self._ours = {status.pid for status in statuses}
        self._main = self._main_sockets()

    @staticmethod
    def _holders(each: Socket, held: Holders) -> tuple[Held, ...]:
        if each.owner is not None:  # psutil told of the socket, and knows no inode
            process = describe(each.owner)
            return (Held(process, -1),) if process else ()
        return tuple(held.of.get(each.inode, ()))

    def connections(self) -> list[Connection]:
        """One for each socket, our own word about it included."""
        return [self._connection(each) for each in self._sockets]

    def _connection(self, each: Socket) -> Connection:
        held = self._held[each]
        process = _speaker(held)
        if each.state == LISTEN:
            ssh = any(_program(one) in SERVERS for one in held) or each.local.port in self._ports
            ssh = ssh or any(one.process.pid in self._ours for one in held)
            return Connection(each, "listener" if ssh else "other", "listen", process, held)
        keys = [(one.process.pid, each.local, each.peer) for one in held]
        told = next((self._told[key] for key in keys if key in self._told), None)
        what: What = "other"
        if told or each in self._main or {each.local.port, each.peer.port} & self._ports:
            what = "ssh"
        elif any(_program(one) in CLIENTS | SERVERS or one.process.pid in self._ours for one in held):
            what = "forwarded"
        return Connection(
            each, what, self._direction(each, held), process, held, self._age(each, held, told),
            told[0] if told else None, told[1].path if told else None,
        )  # fmt: skip

    def _main_sockets(self) -> set[Socket]:
        """The sockets over which the SSH programs speak SSH; what else they hold is forwarded.

        A server's are those accepted at a port where another process listens. Where there is none (inetd,
        `sshd -d`), and for a client, it is the first that was opened: that of the lowest descriptor.
        """
        groups: dict[int, list[tuple[int, Socket]]] = {}
        roles: dict[int, Process] = {}
        for each, held in self._held.items():
            for one in held:
                if each.state != LISTEN and _program(one) in CLIENTS | SERVERS:
                    groups.setdefault(one.process.pid, []).append((one.fd, each))
                    roles[one.process.pid] = one.process
        found: set[Socket] = set()
        for pid, group in groups.items():
            if pid in self._ours:
                continue
            accepted = [each for _, each in group if self._listening.get(each.local.port, set()) - {pid}]
            first = [each for _, each in sorted(group, key=lambda pair: pair[0])[:1]]
            found |= set(accepted or first) if roles[pid].program in SERVERS else set(first)
        return found

    def _direction(self, each: Socket, held: tuple[Held, ...]) -> Direction:
        programs = {_program(one) for one in held}
        if each in self._main and programs & CLIENTS:
            return "out"
        if (each in self._main and programs & SERVERS) or each.local.port in self._listening:
            return "in"
        if each.peer.port in self._ports:
            return "out"
        return "in" if each.local.port in self._ports else "out" if held else ""

    def _age(
        self, each: Socket, held: tuple[Held, ...], told: tuple[Mapping[str, Any], Status] | None
    ) -> float | None:
        """Our server knows it. For others: a client connects when it begins, and sshd begins a process for
        each connection that it accepts, so it is that of the process; where a process holds more, nobody
        knows: Linux keeps no time for a socket."""
        if told:
            age = told[0].get("age")
            return float(age) if isinstance(age, (int, float)) else None
        own = [one.process for one in held if _program(one) in CLIENTS | SERVERS]
        if each not in self._main or not own:
            return None
        first = own[0]
        alone = sum(any(one.process == first for one in self._held[other]) for other in self._main) == 1
        serves = first.program in SERVERS and any(first.pid in pids for pids in self._listening.values())
        return max(0.0, self._now - first.started) if alone and not serves else None


def _program(held: Held) -> str:
    return held.process.program


def _speaker(held: Iterable[Held]) -> Process | None:
    """Of those who hold a socket the SSH program that began last, or else whoever began last."""
    processes = [one.process for one in held]
    speaking = [process for process in processes if process.program in CLIENTS | SERVERS]
    return (speaking or processes)[-1] if processes else None


def _place(shown: Any) -> Place | None:
    """["address", port] of a status socket."""
    match shown:
        case [str(address), int(port)]:
            return Place(address.removeprefix("::ffff:") if "." in address else address, port)
    return None
