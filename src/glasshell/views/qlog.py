"""Records as qlog (draft-ietf-quic-qlog-main-schema): JSON text sequences (RFC 7464), `.sqlog`.

A packet is `ssh:packet_sent` or `ssh:packet_received`; a state is `ssh:` and its name, but for those
that qlog's own habits name otherwise (`NAMES`). The schema is in docs/reference/records.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ..observe.record import MessageRecord, Record
from .jsonl import compact, message_object, origin, plain

RS: Final = "\x1e"
"""Begins each JSON text (RFC 7464 §2.2)."""

FILE_SCHEMA: Final = "urn:ietf:params:qlog:file:sequential"
EVENTS: Final = "https://glasshell.example/112026/ssh"
"""Names the namespace `ssh`; private schemas may not use qlog's URNs (main schema, "Event Schema URIs")."""
LOGLEVEL: Final = "urn:ietf:params:qlog:events:loglevel"

NAMES: Final = {
    "negotiated": "ssh:algorithms_negotiated",
    "keys_installed": "ssh:keys_updated",
    "channel_opening": "ssh:channel_state_updated",
    "channel_open": "ssh:channel_state_updated",
    "channel_refused": "ssh:channel_state_updated",
    "channel_closed": "ssh:channel_state_updated",
    "auth_request": "ssh:auth_attempt",
    "auth_verdict": "ssh:auth_result",
    "error": "loglevel:error",
    "sink_dropped": "loglevel:warning",
    "note": "loglevel:debug",
}
"""States whose event is not `ssh:` and their own name."""


class QlogView:
    """A sink that writes a header record, then a record for each event."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._begun = False

    def __call__(self, record: Record) -> None:
        """Writes one event."""
        if not self._begun:
            self._begun = True
            self._record(header(record))
        message = isinstance(record, MessageRecord)
        name, data = _packet(record) if message else _state(record)  # type: ignore[arg-type]
        self._record({"time": round(record.time * 1000, 3), "name": name, "data": data})

    def _record(self, shown: Mapping[str, Any]) -> None:
        self._write(f"{RS}{compact(shown)}\n")


def header(record: Record) -> dict[str, Any]:
    """The file's first record, from the first record of the stream."""
    facts = origin(record)
    role = facts.get("role")
    reference: dict[str, Any] = {"clock_type": "monotonic", "epoch": "unknown"}
    if isinstance(facts.get("wall_time"), int | float):
        reference["wall_clock_time"] = rfc3339(facts["wall_time"])
    vantage = {"name": facts.get("software") or "glasshell", "type": role or "unknown"}
    return {
        "file_schema": FILE_SCHEMA,
        "serialization_format": "application/qlog+json-seq",
        "title": "an SSH connection",
        "trace": {
            "vantage_point": vantage,
            "common_fields": {"time_format": "relative_to_epoch", "reference_time": reference},
            "event_schemas": [EVENTS, LOGLEVEL],
        },
    }


def rfc3339(wall_time: float) -> str:
    """Seconds since 1970 as a date and time in UTC."""
    stamp = datetime.fromtimestamp(wall_time, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def _packet(record: MessageRecord) -> tuple[str, dict[str, Any]]:
    shown = message_object(record)
    header = {name: shown[name] for name in ("seq", "epoch", "packet_length", "padding_length")}
    data = {
        "packet_type": shown["name"],
        "number": record.number,
        "context": record.context,
        "header": header,
        "raw": {"length": record.wire_length, "payload_length": len(record.payload)},
        "clause": shown["clause"],
        "fields": shown["fields"],
    }
    if "malformed" in shown:
        data["malformed"] = shown["malformed"]
    return ("ssh:packet_sent" if record.sent else "ssh:packet_received"), data


def _state(record: Any) -> tuple[str, dict[str, Any]]:
    facts = {name: plain(value) for name, value in record.facts.items()}
    name = NAMES.get(record.name, f"ssh:{record.name}")
    if name == "ssh:channel_state_updated":
        facts = {"new": record.name.removeprefix("channel_"), **facts}
    elif name.startswith("loglevel:"):
        text = facts.pop("text", None) or f"{facts.get('sink', '')} raised {facts.get('error', '')}"
        facts = {"message": text, **facts}
    return name, facts
