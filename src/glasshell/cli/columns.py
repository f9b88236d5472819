"""What `ps` and `top` show of a connection, column by column, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from ..system.connections import Connection
from ..system.sockets import LISTEN, TcpInfo
from ..wire import visible

__all__ = ["COLUMNS", "Column", "age", "as_json", "count", "fitting", "milliseconds", "size"]

UNKNOWN: Final = "-"
_STATES: Final = {"ESTABLISHED": "ESTAB"}
"""What is shown short, as ss(8) does."""


def size(value: float | None) -> str:
    """Bytes in three digits and a binary unit: 999, 12.3K, 4.0M."""
    if value is None:
        return UNKNOWN
    if value < 1000:
        return f"{value:.0f}"
    for unit in "KMGTP":
        value /= 1024
        if value < 999.5:
            return f"{value:.1f}{unit}" if value < 99.95 else f"{value:.0f}{unit}"
    return f"{value / 1024:.1f}E"


def age(seconds: float | None) -> str:
    """A time that has passed: 4s, 12m05, 3h20, 5d07h."""
    if seconds is None:
        return UNKNOWN
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}"
    if whole < 86400:
        return f"{whole // 3600}h{whole // 60 % 60:02}"
    return f"{whole // 86400}d{whole // 3600 % 24:02}h"


def milliseconds(value: float | None) -> str:
    """Milliseconds in three digits and their unit, shorter times in microseconds as ss(8) does not."""
    if value is None:
        return UNKNOWN
    if value < 1:
        return f"{value * 1000:.0f}us"
    if value < 10_000:
        return f"{value:.1f}ms" if value < 99.95 else f"{value:.0f}ms"
    return f"{value / 1000:.0f}s"


def count(value: int | None) -> str:
    """A number, or that it is not known."""
    return UNKNOWN if value is None else str(value)


class Column(NamedTuple):
    """One column: `text` for people, `exact` for programs and for sorting; None: not known.

    `keep` says how long it stays where the terminal is narrow: the smallest goes first.
    """

    name: str
    text: Callable[[Connection], str]
    exact: Callable[[Connection], Any]
    keep: int
    right: bool = False


def _of_info(ask: Callable[[TcpInfo], Any]) -> Callable[[Connection], Any]:
    return lambda each: ask(each.socket.info) if each.socket.info else None


def _figure(name: str, ask: Callable[[TcpInfo], Any], show: Callable[[Any], str], keep: int) -> Column:
    exact = _of_info(ask)
    return Column(name, lambda each: show(exact(each)), exact, keep, True)


def _word(name: str, ask: Callable[[Connection], str], keep: int) -> Column:
    """Text of others; without spaces, so that a line can be cut into its columns."""
    return Column(name, lambda each: visible(ask(each)).replace(" ", "_") or UNKNOWN, ask, keep)


def _pid(each: Connection) -> int | None:
    return each.process.pid if each.process else None


def _peer(each: Connection) -> str:
    return "*" if each.socket.state == LISTEN else str(each.socket.peer)


COLUMNS: Final[tuple[Column, ...]] = (
    Column("PID", lambda each: count(_pid(each)), _pid, 12, True),
    _word("PROGRAM", lambda each: each.process.program if each.process else "", 11),
    _word("USER", lambda each: each.user, 10),
    _word("DIR", lambda each: each.direction, 8),
    _word("LOCAL", lambda each: str(each.socket.local), 4),
    _word("PEER", _peer, 13),
    Column("AGE", lambda each: age(each.age), lambda each: each.age, 7, True),
    _word("STATE", lambda each: _STATES.get(each.socket.state, each.socket.state), 5),
    _figure("RTT", lambda info: info.rtt, milliseconds, 9),
    _figure("CWND", lambda info: info.cwnd, count, 2),
    _figure("SENT", lambda info: info.bytes_sent, size, 7),
    _figure("RECV", lambda info: info.bytes_received, size, 6),
    _figure("RETR", lambda info: info.retransmits, count, 3),
)  # fmt: skip
"""Every column of `ps`. SENT counts what was retransmitted as well, as ss(8) does."""


def fitting(
    heads: Sequence[str], keep: Sequence[int], rows: Sequence[Sequence[str]], width: int
) -> list[int]:
    """The numbers of the columns that fit beside each other with two spaces between, in their order."""
    widths = [max([len(head), *(len(row[at]) for row in rows)]) + 2 for at, head in enumerate(heads)]
    kept = list(range(len(heads)))
    while len(kept) > 1 and sum(widths[at] for at in kept) - 2 > width:
        kept.remove(min(kept, key=lambda at: keep[at]))
    return kept


def as_json(each: Connection) -> dict[str, Any]:
    """A connection as one JSON object: times in milliseconds where the name says so, else seconds; bytes."""
    sock, info = each.socket, each.socket.info
    return {
        "what": each.what, "direction": each.direction or None, "state": sock.state,
        "local": {"address": sock.local.address, "port": sock.local.port},
        "peer": None if sock.state == LISTEN else {"address": sock.peer.address, "port": sock.peer.port},
        "user": visible(each.user) or None, "uid": sock.uid,
        "age": None if each.age is None else round(each.age, 3),
        "process": _process(each), "holders": [
            {"pid": one.process.pid, "fd": one.fd if one.fd >= 0 else None, "program": one.process.program,
             "user": one.process.user, "command": one.process.command} for one in each.holders
        ],
        "inode": sock.inode or None, "receive_queue": sock.receive_queue, "send_queue": sock.send_queue,
        "congestion": sock.congestion or None, "tcp": None if info is None else _info(info),
        "server": None if each.server is None
        else {**each.server, "status_socket": visible(str(each.server_path))},
    }  # fmt: skip


def _process(each: Connection) -> dict[str, Any] | None:
    process = each.process
    if process is None:
        return None
    return {
        "pid": process.pid, "parent": process.parent, "program": process.program, "user": process.user,
        "command": process.command, "started": process.started,
    }  # fmt: skip


_IN_MS: Final = frozenset({"rtt", "rttvar", "min_rtt", "rto", "last_sent", "last_received"})


def _info(info: TcpInfo) -> dict[str, Any]:
    values = {name: getattr(info, name) for name in TcpInfo.__slots__}
    return {f"{name}_ms" if name in _IN_MS else name: value for name, value in values.items()}
