"""Records as JSON: one object a line, for programs (docs/reference/records.md has the schema).

What is secret is `<redacted>`, a channel's data is its length, and text of the peer is written with its
control characters escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from ..errors import ConfigError
from ..observe.dissect import to_dict
from ..observe.record import MessageRecord, Record, StateRecord, SubsystemRecord
from ..wire import Secret, visible

SCHEMA: Final = 1
"""The version of the schema; a reader refuses what is newer than itself."""


class JsonLines:
    """A sink that writes a header line, then a line for each record."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._begun = False

    def __call__(self, record: Record) -> None:
        """Writes one record."""
        if not self._begun:
            self._begun = True
            self._line(header(record))
        self._line(record_object(record))

    def _line(self, shown: Mapping[str, Any]) -> None:
        self._write(compact(shown) + "\n")


def header(record: Record) -> dict[str, Any]:
    """The first line: the schema's version, and what the stream's first record says of the connection."""
    facts = origin(record)
    return {
        "type": "header", "format": "glasshell-records", "schema": SCHEMA, "role": facts.get("role"),
        "wall_time": facts.get("wall_time"), "software": facts.get("software"),
    }  # fmt: skip


def origin(record: Record) -> dict[str, Any]:
    """The facts of the record `started`; empty where the stream is heard from its middle on."""
    if isinstance(record, StateRecord) and record.name == "started":
        return {name: plain(value) for name, value in record.facts.items()}
    return {}


def record_object(record: Record | SubsystemRecord) -> dict[str, Any]:
    """One record as an object."""
    if isinstance(record, MessageRecord):
        return message_object(record)
    if isinstance(record, SubsystemRecord):
        return subsystem_object(record)
    facts = {name: plain(value) for name, value in record.facts.items()}
    return {"time": seconds(record.time), "type": "state", "name": record.name, "facts": facts}


def message_object(record: MessageRecord) -> dict[str, Any]:
    """One message as an object."""
    shown = to_dict(record.payload, record.context)
    return {
        **envelope(record, shown["name"]), "clause": shown["clause"], "fields": plain(shown["fields"]),
        **({"malformed": plain(shown["malformed"])} if "malformed" in shown else {}),
    }  # fmt: skip


def envelope(record: MessageRecord, name: str) -> dict[str, Any]:
    """What can be said of one message without reading its payload; lengths are bytes."""
    return {
        "time": seconds(record.time), "type": "message", "name": name, "number": record.number,
        "context": record.context, "direction": "sent" if record.sent else "received", "seq": record.seq,
        "epoch": record.epoch, "packet_length": record.packet_length,
        "padding_length": record.padding_length, "wire_length": record.wire_length,
    }  # fmt: skip


def subsystem_object(record: SubsystemRecord) -> dict[str, Any]:
    """One packet of a subsystem as an object."""
    shown = to_dict(record.payload, record.context)
    return {
        "time": seconds(record.time), "type": "subsystem", "name": shown["name"], "number": record.number,
        "context": record.context, "direction": "sent" if record.sent else "received",
        "channel": record.channel, "clause": shown["clause"], "fields": plain(shown["fields"]),
        **({"malformed": plain(shown["malformed"])} if "malformed" in shown else {}),
    }  # fmt: skip


def seconds(time: float) -> float:
    """Seconds with microseconds: more would be noise."""
    return round(time, 6)


def plain(value: Any) -> Any:
    """A fact as JSON has it."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None  # JSON has no infinity
    if isinstance(value, Secret):
        return "<redacted>"
    if isinstance(value, Mapping):
        return {visible(str(name)): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each) for each in value]
    return visible(value if isinstance(value, (str, bytes)) else str(value))


def compact(shown: Mapping[str, Any]) -> str:
    """JSON in one line, in the order of the keys given."""
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def read_jsonl(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The objects of such a file, the header first.

    Raises ConfigError for what is not such a file, or one of a newer schema.
    """
    begun = False
    for number, line in enumerate(lines, 1):
        try:
            shown = json.loads(line)
        except (ValueError, RecursionError):
            raise ConfigError(f"line {number} is not JSON") from None
        if not isinstance(shown, dict):
            raise ConfigError(f"line {number} is not an object")
        if not begun:
            begun = True
            _check_header(shown)
        yield shown


def _check_header(shown: Mapping[str, Any]) -> None:
    if shown.get("type") != "header" or shown.get("format") != "glasshell-records":
        raise ConfigError("not a file of records: its first line is no header")
    version = shown.get("schema")
    if not isinstance(version, int) or version > SCHEMA:
        raise ConfigError(f"records of schema {version}; this version reads up to {SCHEMA}")
