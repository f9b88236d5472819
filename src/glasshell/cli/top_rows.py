"""The rows of `top`: connections with their rates, which are differences between two looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..system.connections import Connection, Survey
from .columns import COLUMNS, UNKNOWN, Column, count, size

__all__ = ["TOP_COLUMNS", "Rates", "Row", "TopColumn", "arrange"]


@dataclass(frozen=True, slots=True)
class Row:
    """One connection; rates are bytes per second over the last look, None at the first."""

    connection: Connection
    sending: float | None = None
    receiving: float | None = None

    @property
    def key(self) -> str:
        """What stays the same from look to look."""
        sock = self.connection.socket
        return f"{sock.local} {sock.peer} {sock.inode}"

    @property
    def channels(self) -> Sequence[Mapping[str, Any]]:
        """What our server says of its channels."""
        told = (self.connection.server or {}).get("channels")
        return [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []


class Rates:
    """Remembers the last look's counters."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int, int]] = {}

    def rows(self, found: Survey) -> list[Row]:
        """The rows of this look."""
        now: dict[str, tuple[float, int, int]] = {}
        rows = []
        for each in found.connections:
            row = Row(each)
            counters = _counters(each)
            if counters is None:
                rows.append(row)
                continue
            sent, received = counters
            now[row.key] = found.clock, sent, received
            clock, before_sent, before_received = self._before.get(row.key, (found.clock, sent, received))
            passed = found.clock - clock
            if passed > 0:
                row = Row(each, (sent - before_sent) / passed, (received - before_received) / passed)
            rows.append(row)
        self._before = now
        return rows


def _counters(each: Connection) -> tuple[int, int] | None:
    """TCP's, or else our server's."""
    if each.socket.info is not None:
        return each.socket.info.bytes_sent, each.socket.info.bytes_received
    told = each.server or {}
    sent, received = told.get("sent"), told.get("received")
    return (sent, received) if isinstance(sent, int) and isinstance(received, int) else None


class TopColumn(NamedTuple):
    """As `columns.Column`, of a row; `name` is unique."""

    name: str
    text: Callable[[Row], str]
    exact: Callable[[Row], Any]
    keep: int
    right: bool = False


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None else size(max(0.0, value))


def _rekeys(row: Row) -> int | None:
    told = (row.connection.server or {}).get("rekeys")
    return told if isinstance(told, int) else None


def _channel_count(row: Row) -> int | None:
    return None if row.connection.server is None else len(row.channels)


def _of_connection(column: Column) -> TopColumn:
    return TopColumn(
        column.name, lambda row: column.text(row.connection), lambda row: column.exact(row.connection),
        column.keep, column.right,
    )  # fmt: skip


def _columns() -> tuple[TopColumn, ...]:
    made = {column.name: _of_connection(column) for column in COLUMNS}
    made |= {
        "OUT/s": TopColumn("OUT/s", lambda row: _rate(row.sending), lambda row: row.sending, 9, True),
        "IN/s": TopColumn("IN/s", lambda row: _rate(row.receiving), lambda row: row.receiving, 9, True),
        "CHAN": TopColumn("CHAN", lambda row: count(_channel_count(row)), _channel_count, 8, True),
        "REKEY": TopColumn("REKEY", lambda row: count(_rekeys(row)), _rekeys, 3, True),
    }
    order = ("PID", "PROGRAM", "USER", "DIR", "LOCAL", "PEER", "AGE", "STATE", "OUT/s", "IN/s", "RTT", "CWND",
             "CHAN", "REKEY", "SENT", "RECV", "RETR")  # fmt: skip
    kept_longer = {"SENT": 4, "RECV": 4}
    return tuple(made[name]._replace(keep=kept_longer.get(name, made[name].keep)) for name in order)


TOP_COLUMNS: Final = _columns()
"""Every column of `top`."""


def arrange(rows: Iterable[Row], filter: str, column: TopColumn, reverse: bool) -> list[Row]:
    """The rows that have `filter` in one of their columns, sorted; what is not known comes last."""
    wanted = filter.casefold()
    kept = [
        row for row in rows
        if not wanted or any(wanted in each.text(row).casefold() for each in TOP_COLUMNS)
    ]  # fmt: skip
    known = [row for row in kept if column.exact(row) not in (None, "")]
    unknown = [row for row in kept if column.exact(row) in (None, "")]
    known.sort(key=lambda row: (column.exact(row), row.key), reverse=reverse)
    return [*known, *sorted(unknown, key=lambda row: row.key)]
