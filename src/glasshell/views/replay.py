"""A trace read back: the records of a `.jsonl` or `.sqlog` file, as far as the file has them.

A payload is made again from the fields that were written. What was left out of the file (secrets, the data
of channels) has its length where the file tells it and zeros for content; so a view shows of such a record
what it would have shown of the first one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ..errors import ConfigError, SSHError
from ..messages import Struct, lookup
from ..messages.declare import Field, Items, Nested
from ..observe.record import MessageRecord, Record, StateRecord, SubsystemRecord
from ..wire import FieldType, Mpint, Name, NameList, Secret, Text
from .jsonl import read_jsonl
from .qlog import NAMES, RS

__all__ = ["read_trace"]

MAX_CONTENT: Final = 1 << 18
"""Longest stand-in for data that was left out, in bytes."""

STATE_NAMES: Final = {event: state for state, event in NAMES.items() if not event.endswith("state_updated")}


def read_trace(lines: Iterable[str], form: str) -> Iterator[Record | SubsystemRecord]:
    """The records of a trace, whose `form` is "jsonl" or "sqlog".

    Raises ConfigError for what is no such trace, or one of a newer schema.
    """
    objects = _events(lines) if form == "sqlog" else read_jsonl(lines)
    for number, shown in enumerate(objects, 1):
        if shown.get("type") == "header" or "file_schema" in shown:
            continue
        try:
            yield _record(_event(shown) if form == "sqlog" else shown)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            raise ConfigError(f"record {number} of the trace cannot be read: {error!r}") from None


def _record(shown: Mapping[str, Any]) -> Record | SubsystemRecord:
    time, kind = float(shown["time"]), shown["type"]
    if kind == "state":
        return StateRecord(time, str(shown["name"]), dict(shown["facts"]))
    number, context, sent = int(shown["number"]), str(shown["context"]), shown["direction"] == "sent"
    payload = _payload(number, context, shown.get("fields") or {}, int(shown.get("payload_length", 0)))
    if kind == "subsystem":
        return SubsystemRecord(time, sent, int(shown["channel"]), context, number, payload)
    return MessageRecord(
        time, sent, int(shown["seq"]), int(shown["epoch"]), context, number, payload,
        int(shown["packet_length"]), int(shown["padding_length"]), int(shown["wire_length"]),
    )  # fmt: skip


def _events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The objects of a qlog file, its head first."""
    begun = False
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line.lstrip(RS))
        except (ValueError, RecursionError):
            raise ConfigError(f"line {number} is not JSON") from None
        if not isinstance(event, dict):
            raise ConfigError(f"line {number} is not an object")
        if not begun:
            begun = True
            if "file_schema" not in event:
                raise ConfigError("not a qlog file: its first record has no file_schema")
        yield event


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    """One of qlog's events as an object of JSON lines."""
    name, data = str(event["name"]), dict(event["data"])
    time = float(event["time"]) / 1000
    if name in ("ssh:packet_sent", "ssh:packet_received"):
        header, raw = data["header"], data["raw"]
        return {
            "time": time, "type": "message", "number": data["number"], "context": data["context"],
            "direction": "sent" if name == "ssh:packet_sent" else "received", **header,
            "wire_length": raw["length"], "payload_length": raw["payload_length"], "fields": data["fields"],
        }  # fmt: skip
    if name == "ssh:channel_state_updated":
        return {"time": time, "type": "state", "name": f"channel_{data.pop('new')}", "facts": data}
    if name.startswith("loglevel:") and "message" in data:
        data["text"] = data.pop("message")
    state = STATE_NAMES.get(name, name.removeprefix("ssh:"))
    return {"time": time, "type": "state", "name": state, "facts": data}


# --- payloads


def _payload(number: int, context: str, fields: Mapping[str, Any], length: int) -> bytes:
    """The payload whose fields these are; zeros where it cannot be made again."""
    found = lookup(context, number)
    if found is not None and "unparsed" not in fields:
        try:
            return _struct(found, fields).encode()
        except (SSHError, KeyError, TypeError, ValueError):
            pass
    left = fields.get("unparsed")
    rest = bytes.fromhex(left) if isinstance(left, str) and left != "<redacted>" else b""
    return bytes((number,)) + (rest or bytes(min(max(length - 1, 0), MAX_CONTENT)))


def _struct(cls: type[Struct], fields: Mapping[str, Any]) -> Struct:
    values: dict[str, Any] = {}
    for field in cls.FIELDS:
        if field.name in fields:
            values[field.name] = _value(field, fields[field.name], values)
        elif field.present_if and not values[field.present_if] & field.bits:
            values[field.name] = None
        else:
            raise KeyError(field.name)
    return cls(**values)


def _value(field: Field, shown: Any, values: Mapping[str, Any]) -> Any:
    if field.choice is not None:
        chosen = field.choice[1].get(values[field.choice[0]])
        if chosen is not None and isinstance(shown, dict):
            return _struct(chosen, shown)
    return _plain(field.type, shown)


def _plain(kind: FieldType[Any], shown: Any) -> Any:
    if isinstance(kind, Items):
        return tuple(_struct(kind.item, each) for each in shown)
    if isinstance(kind, Nested):
        return _struct(kind.item, shown)
    if kind.secret:
        return Secret(b"")
    if kind.content:
        return bytes(min(max(int(shown["length"]), 0), MAX_CONTENT))
    if isinstance(kind, Mpint):
        return int.from_bytes(bytes.fromhex(shown), "big", signed=True)
    if isinstance(kind, NameList):
        return tuple(shown)
    if isinstance(shown, str) and not isinstance(kind, Text | Name):
        return b"" if shown == "<redacted>" else bytes.fromhex(shown)
    return shown
