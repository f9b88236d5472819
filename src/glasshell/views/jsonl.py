"""Records as JSON: one object a line, for programs (docs/reference/records.md has the schema).

What is secret is `<redacted>`, a channel's data is its length, and text of the peer is written with its
control characters escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from ..errors import ConfigError
from ..messages.connection import (
    CHANNEL_DATA_HEADER,
    EXTENDED_DATA_HEADER,
    WINDOW_ADJUST_HEADER,
    ChannelData,
    ChannelExtendedData,
    ChannelWindowAdjust,
)
from ..observe.dissect import to_dict
from ..observe.record import MessageRecord, Record, StateRecord, SubsystemRecord
from ..wire import Secret, visible

SCHEMA: Final = 1
"""The version of the schema; a reader refuses what is newer than itself."""


class JsonLines:
    """A sink that writes a header line, then a line for each record."""

    hears = frozenset({"lengths"})

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._begun = False
        self._hot = HotLines()

    def __call__(self, record: Record) -> None:
        """Writes one record."""
        if not self._begun:
            self._begun = True
            self._line(header(record))
        line = self._hot.line(record) if isinstance(record, MessageRecord) else None
        if line is not None:
            self._write(line)
        else:
            self._line(record_object(record))

    def _line(self, shown: Mapping[str, Any]) -> None:
        self._write(compact(shown) + "\n")


_HOT: Final = {
    cls.NUMBER: (
        struct,
        f',"type":"message","name":"{cls.NAME}","number":{cls.NUMBER},"context":"","direction":',
        f',"clause":"{cls.CLAUSE}","fields":{{{fields}}}}}\n',
    )
    for cls, struct, fields in (
        (ChannelData, CHANNEL_DATA_HEADER, '"recipient_channel":%d,"data":{"length":%d}'),
        (ChannelExtendedData, EXTENDED_DATA_HEADER,
         '"recipient_channel":%d,"data_type_code":%d,"data":{"length":%d}'),
        (ChannelWindowAdjust, WINDOW_ADJUST_HEADER, '"recipient_channel":%d,"bytes_to_add":%d'),
    )
}  # fmt: skip
"""What a transfer is made of: the header, and what the lines of such a message have in common."""


class HotLines:
    """[hot] The lines of what a transfer is made of, the same that `record_object` would make.

    Most are like the one before but for the packet's number, and many for its time: what is between is kept.
    """

    __slots__ = ("_after", "_before", "_like", "_time", "_when")

    def __init__(self) -> None:
        self._like: tuple[Any, ...] = ()
        self._before = self._after = ""
        self._when = -1.0
        self._time = ""

    def line(self, record: MessageRecord) -> str | None:
        """None for every other message."""
        found = _HOT.get(record.number)
        if found is None:
            return None
        like = (
            record.payload[: found[0].size], record.left_out + len(record.payload), record.sent,
            record.epoch, record.packet_length, record.padding_length, record.wire_length,
        )  # fmt: skip
        if like != self._like and not self._look(record, like):
            return None
        if record.time != self._when:
            self._when, self._time = record.time, repr(seconds(record.time))
        return f'{{"time":{self._time}{self._before}{record.seq}{self._after}'

    def _look(self, record: MessageRecord, like: tuple[Any, ...]) -> bool:
        """Makes the parts anew; whether the message can be read to its end."""
        struct, start, end = _HOT[record.number]
        size = struct.size
        if record.context or len(like[0]) < size:
            return False
        fields = struct.unpack(like[0])[1:]
        if like[1] != size + (fields[-1] if record.number != ChannelWindowAdjust.NUMBER else 0):
            return False
        self._before = f'{start}"{"sent" if record.sent else "received"}","seq":'
        self._after = (
            f',"epoch":{record.epoch},"packet_length":{record.packet_length}'
            f',"padding_length":{record.padding_length},"wire_length":{record.wire_length}{end % fields}'
        )
        self._like = like
        return True


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
