"""Everything of a message, field by field with its bytes: `-T text`; the same as objects: `-T json`.

    frame 10  0.001234 s  stream 0  client → server  SSH_MSG_KEX_ECDH_INIT (30)
      RFC 5656 4 · seq 1 · packet 44, padding 6, 48 bytes on the wire · in clear
      [1:37]     q_c = 5956e953... (string)

`[1:37]` are the bytes from offset 1 up to offset 37 of the payload, whose byte 0 is the message number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..messages import Shown, Struct, describe, lookup, message_name
from ..messages.declare import LENGTH
from ..observe.record import MessageRecord, StateRecord
from ..observe.seen import Frame, Seen
from ..wire import Mpint, visible
from .jsonl import plain, record_object

__all__ = ["seen_object", "tree_lines"]

MAX_TEXT: Final = 4096
"""Longest value that is written whole, in characters."""

WAYS: Final = {True: "client → server", False: "server → client", None: "both"}
MACS: Final = {True: "MAC good", False: "MAC bad", None: "MAC not checked"}


def tree_lines(seen: Seen, frame: Frame | None = None, *, show_secrets: bool = False) -> Iterator[str]:
    """One record as lines; `frame` is the one that it came in, where that is known."""
    record = seen.record
    if isinstance(record, StateRecord):
        yield f"{_where(seen, frame)}{_way(seen)}{record.name}"
        for name, value in record.facts.items():
            for line in _fact(name, plain(value)):
                yield f"  {line}"
        return
    number, context = record.number, record.context
    found = lookup(context, number)
    yield f"{_where(seen, frame)}{_way(seen)}{message_name(number, context)} ({number})"
    notes = [found.CLAUSE if found else "not in the catalogue"]
    if isinstance(record, MessageRecord):
        notes += _packet(record, seen.verified)
    else:
        notes.append(f"channel {record.channel} · {len(record.payload)} bytes")
    if frame is not None and frame.call is not None:
        call = frame.call
        notes.append(f"{call.name}({call.fd}) = {call.size} in process {call.pid}")
    yield f"  {' · '.join(notes)}"
    for shown in describe(record.payload, context):
        if shown.name != "message":
            yield from _field(shown, record.payload, 1, found.CLAUSE if found else "", show_secrets)


def _where(seen: Seen, frame: Frame | None) -> str:
    first, last = seen.frames
    word = "frame" if frame is None or frame.call is None else "line"
    frames = f"{word} {last}" if first == last else f"{word}s {first}-{last}"
    return f"{frames if last else 'no frame'}  {seen.record.time:.6f} s  stream {seen.stream}  "


def _way(seen: Seen) -> str:
    return "" if seen.client is None else f"{WAYS[seen.client]}  "


def _packet(record: MessageRecord, verified: bool | None) -> Iterator[str]:
    if record.context:
        yield f"context {record.context}"
    yield f"seq {record.seq}"
    if record.epoch:
        yield f"epoch {record.epoch}"
    yield f"packet {record.packet_length}, padding {record.padding_length}"
    yield f"{record.wire_length} bytes on the wire"
    yield MACS[verified] if record.epoch else "in clear"


def _field(shown: Shown, payload: bytes, depth: int, clause: str, show_secrets: bool) -> Iterator[str]:
    span = f"[{shown.start}:{shown.end}]"
    cited = f"  {shown.clause}" if shown.children and shown.clause not in ("", clause) else ""
    kind = shown.type if shown.holds in ("", shown.type) else f"{shown.type} of {shown.holds}"
    bare = shown.children or isinstance(shown.value, Struct)
    value = "" if bare else _is(_value(shown, payload, show_secrets))
    yield f"{'  ' * depth}{span:<10} {visible(shown.name)}{value} ({kind}){cited}"
    for child in shown.children:
        yield from _field(child, payload, depth + 1, shown.clause or clause, show_secrets)


def _is(value: str) -> str:
    return f" = {value}" if value else " is empty"


def _value(shown: Shown, payload: bytes, show_secrets: bool) -> str:
    if shown.secret and not show_secrets:
        return "<redacted>"
    if shown.secret:
        start = shown.start + (LENGTH if shown.type == "string" else 0)
        text = visible(payload[start : shown.end])
    elif shown.type == Mpint.name:
        text = f"{payload[shown.start + LENGTH : shown.end].hex() or '0'} ({shown.value.bit_length()} bits)"
    elif isinstance(shown.value, bytes) and not shown.content:
        text = shown.value.hex()
    else:
        text = shown.text
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({shown.end - shown.start} bytes)"


def _fact(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield f"{name}:"
        for key, inner in value.items():
            yield from (f"  {line}" for line in _fact(key, inner))
    elif isinstance(value, list):
        yield name + _is(", ".join(str(each) for each in value))
    else:
        yield name + _is("-" if value is None else str(value))


def seen_object(seen: Seen, frame: Frame | None = None) -> dict[str, Any]:
    """One record as an object: that of JSON lines, and where in the capture it is."""
    where: dict[str, Any] = {
        "stream": seen.stream,
        "client": seen.client,
        "frames": list(seen.frames) if seen.frames[1] else None,
        "verified": seen.verified,
    }
    if frame is not None and frame.call is not None:
        call = frame.call
        where["call"] = {"pid": call.pid, "name": call.name, "fd": call.fd, "size": call.size,
                         "duration": call.duration}  # fmt: skip
    return {**record_object(seen.record), **where}
