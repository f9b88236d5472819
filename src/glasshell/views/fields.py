"""Fields of a capture by Wireshark's names, a row for each frame that holds SSH: `tshark -Y ssh -T fields`.

A `Row` is a frame with the records that end in it. Its values are found at once for all the names that were
asked for, and are numbers, text and bytes; `show` writes one as tshark 4.6 does.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from ..errors import MalformedMessage, UsageError
from ..messages import Shown, describe, lookup
from ..messages.connection import decode_modes
from ..messages.declare import LENGTH
from ..observe.record import MessageRecord, StateRecord, SubsystemRecord
from ..observe.seen import Frame, Seen
from ..wire import visible
from .fieldtable import ALIASES, FIELDS, FieldRow, Source
from .filter import Filter, Kind, parse_filter

__all__ = ["Layout", "Row", "Rows", "compile_filter", "find_field", "show", "values_of"]

REDACTED: Final = "<redacted>"

PUBLIC_TAIL: Final = {1216: 32, 1190: 32, 1120: 32, 1071: 32, 1249: 65, 1153: 65, 1665: 97}
"""Length of the two public values of a hybrid exchange -> length of the second one, the elliptic curve's:
ML-KEM-768 and sntrup761 with X25519, ML-KEM-768 with P-256, ML-KEM-1024 with P-384 (RFC 9941, RFC 10042)."""


@dataclass(slots=True)
class Row:
    """One frame, and what ends in it; a record that no frame carried has none."""

    frame: Frame | None
    seen: list[Seen] = field(default_factory=list)


def find_field(name: str) -> FieldRow:
    """The field called `name`, or what it is an alias of. Raises UsageError, which names its likes."""
    found = FIELDS.get(ALIASES.get(name, name))
    if found is None:
        raise UsageError(unknown_field(name))
    return found


def unknown_field(name: str) -> str:
    """The sentence about a name that is no field, with its likes."""
    likes = _likes(name)
    return f"there is no field {name!r}" + (f" ({likes})" if likes else "")


def _likes(name: str) -> str:
    near = difflib.get_close_matches(name, FIELDS, n=3, cutoff=0.6)
    tail = name.rpartition(".")[2].replace("-", "_")
    near += [each for each in FIELDS if len(tail) > 3 and tail in each and each not in near][: 3 - len(near)]
    return f"near it: {', '.join(near)}" if near else ""


KINDS: Final = {name: row.kind for name, row in FIELDS.items()}
KINDS.update({alias: KINDS[name] for alias, name in ALIASES.items()})


def compile_filter(text: str) -> Filter:
    """A display filter over these fields. Raises FilterError."""
    return parse_filter(text, KINDS, unknown_field)


# --- rows


class Rows:
    """Gathers what a capture tells into rows: a frame, and the records that end in it.

    `take` each item in its order, `end` after the last; both return the row that is complete now, if there is
    one. As in tshark, a frame in the middle of a packet, which neither begins nor ends in it, has no row.
    """

    def __init__(self) -> None:
        self._row: Row | None = None
        self._told: dict[tuple[int, str, int], int] = {}

    def take(self, item: Frame | Seen) -> Row | None:
        """One frame or record."""
        if isinstance(item, Frame):
            done = self.end()
            self._row = Row(item)
            return done
        row = self._row
        if row is not None and row.frame is not None and item.frames[1] == row.frame.number:
            row.seen.append(item)
        elif row is None and not item.frames[1] and not isinstance(item.record, StateRecord):
            return Row(None, [item])  # a trace has no frames: each message stands for itself
        return None

    def end(self) -> Row | None:
        """The last row, unless its frame is one of those in the middle."""
        row, self._row = self._row, None
        if row is None or row.frame is None:
            return None
        frame = row.frame
        key = (frame.stream, frame.source, frame.source_port)
        due = self._told.get(key, frame.relative_seq)
        if len(self._told) >= MAX_FLOWS:
            self._told.clear()
        self._told[key] = _told_up_to(row.seen, due, frame.relative_seq + len(frame.payload))
        middle = frame.relative_seq > due and not any(_is_packet(seen) for seen in row.seen)
        return None if middle else row


MAX_FLOWS: Final = 1 << 16
"""Directions that are followed; beyond that it begins afresh."""


def _is_packet(seen: Seen) -> bool:
    record = seen.record
    return record.name in PACKETS if isinstance(record, StateRecord) else isinstance(record, MessageRecord)


def _told_up_to(records: Iterable[Seen], due: int, end: int) -> int:
    """Up to which byte of its direction the records of a frame tell, that has bytes up to `end`."""
    for seen in records:
        record = seen.record
        if isinstance(record, MessageRecord):
            due += record.wire_length
        elif isinstance(record, StateRecord):
            if record.name in ("encrypted", "preface_line"):
                due = end
            elif record.name in IDENTIFICATION:
                due += int(record.facts.get("length", 0))
            elif record.name == "gap":
                due += int(record.facts.get("bytes", 0))
    return due if due <= end else end


# --- values

AUTHORITY: Final = "Certified.signature_key"
"""What stands in the key of a certificate's authority is not what the key that it certifies has."""

Paths: TypeAlias = "Mapping[str, Sequence[tuple[str, Source]]]"
"""Declared field -> the names it has values for."""


def values_of(row: Row, names: Iterable[str], *, show_secrets: bool = False) -> dict[str, list[Any]]:
    """The values of the fields called `names` (no aliases), each in the order of the frame."""
    wanted = frozenset(names)
    found: dict[str, list[Any]] = {name: [] for name in wanted}
    if row.frame is not None:
        for name in wanted & FRAME.keys():
            found[name] = list(FRAME[name](row.frame))
    walk = _Walk(_paths(wanted), found, show_secrets)
    told = wanted & PACKET.keys()
    for seen in row.seen:
        for name in told:
            found[name] += PACKET[name](seen, row.frame)
        record = seen.record
        if walk.paths and not isinstance(record, StateRecord):
            declared = lookup(record.context, record.number)
            if declared is not None:
                shown = describe(record.payload, record.context)
                walk.fields(shown[1:], declared.__name__, record.payload)  # the first one is the number
    for name in wanted & ONCE:
        del found[name][1 + (name == "ssh.direction" and _in_two_parts(row)) :]
    return found


def _in_two_parts(row: Row) -> bool:
    """Whether a frame ends a packet that began before it and holds another: tshark looks at it twice."""
    packets = [seen for seen in row.seen if _is_packet(seen)]
    return len(packets) > 1 and packets[0].frames[0] != packets[0].frames[1]


@lru_cache(maxsize=32)
def _paths(wanted: frozenset[str]) -> Paths:
    paths: dict[str, list[tuple[str, Source]]] = {}
    for name in wanted:
        for source in FIELDS[name].sources:
            paths.setdefault(source.field, []).append((name, source))
    return paths


class _Walk:
    """Looks through the fields of a message for those that were asked for."""

    def __init__(self, paths: Paths, found: dict[str, list[Any]], show_secrets: bool) -> None:
        self.paths = paths
        self._found = found
        self._show_secrets = show_secrets
        self._above: list[str] = []

    def fields(self, shown: Sequence[Shown], owner: str, payload: bytes) -> None:
        """Takes the fields of one structure, whose class is `owner`."""
        for each in shown:
            key = f"{owner}.{each.name}"
            for name, source in self.paths.get(key, ()):
                if self._applies(source, shown):
                    self._take(name, source, each, payload)
            if each.children:
                self._above.append(key)
                self.fields(each.children, each.holds, payload)
                self._above.pop()

    def _applies(self, source: Source, beside: Sequence[Shown]) -> bool:
        above = self._above
        if source.within and (AUTHORITY in above or not any(each in source.within for each in above)):
            return False
        values = {each.name: each.value for each in beside} if source.when or source.unless else {}
        if source.unless is not None and values.get(source.unless[0]) in source.unless[1]:
            return False
        return source.when is None or values.get(source.when[0]) == source.when[1]

    def _take(self, name: str, source: Source, shown: Shown, payload: bytes) -> None:
        row = FIELDS[name]
        if shown.secret and source.take != "length" and not self._show_secrets:
            self._found[name].append(REDACTED)
            return
        value = _taken(source, shown, payload)
        if value is None:
            return
        if isinstance(value, bytes) and row.kind is Kind.TEXT:
            value = value.decode("utf-8", "surrogateescape")
        elif isinstance(value, bool) and row.kind is Kind.INT:
            value = int(value)
        self._found[name].append(bool(value) if row.kind is Kind.BOOL else value)


def _taken(source: Source, shown: Shown, payload: bytes) -> Any:
    content = payload[shown.start + LENGTH : shown.end]
    match source.take:
        case "raw":
            return content
        case "all":
            return payload[shown.start : shown.end]
        case "length":
            return shown.end - shown.start - LENGTH
        case "count":
            return len(shown.value)
        case "head" | "tail":
            tail = PUBLIC_TAIL.get(len(content))
            return None if tail is None else content[:-tail] if source.take == "head" else content[-tail:]
        case "mode":
            try:
                return decode_modes(content).get(source.mode)
            except MalformedMessage:
                return None
    return shown.value


# --- what frames and packets tell


def _ends(frame: Frame, side: int, version: int) -> Iterator[str]:
    """The addresses of one side, from the outermost header to the innermost."""
    inner = (frame.source, frame.destination)
    for pair in (*frame.outer, inner):
        if (":" in pair[side]) == (version == 6):
            yield pair[side]


def _both(frame: Frame, version: int) -> Iterator[str]:
    for pair in zip(_ends(frame, 0, version), _ends(frame, 1, version), strict=False):
        yield from pair


FRAME: Final[Mapping[str, Callable[[Frame], Iterable[Any]]]] = {
    "frame": lambda f: (True,),
    "frame.number": lambda f: (f.number,),
    "frame.time_epoch": lambda f: (f.time_ns or round(f.time * 1e9),),
    "frame.len": lambda f: (f.length,),
    "ip": lambda f: [True] * any(_ends(f, 0, 4)),
    "ip.src": lambda f: _ends(f, 0, 4),
    "ip.dst": lambda f: _ends(f, 1, 4),
    "ip.addr": lambda f: _both(f, 4),
    "ipv6": lambda f: [True] * any(_ends(f, 0, 6)),
    "ipv6.src": lambda f: _ends(f, 0, 6),
    "ipv6.dst": lambda f: _ends(f, 1, 6),
    "ipv6.addr": lambda f: _both(f, 6),
    "tcp": lambda f: (True,),
    "tcp.stream": lambda f: (f.stream,),
    "tcp.srcport": lambda f: (f.source_port,),
    "tcp.dstport": lambda f: (f.destination_port,),
    "tcp.port": lambda f: (f.source_port, f.destination_port),
    "tcp.len": lambda f: (len(f.payload) + f.missing,),
    "tcp.seq": lambda f: (f.relative_seq,),
    "tcp.ack": lambda f: (f.relative_ack,),
    "tcp.seq_raw": lambda f: (f.seq,),
    "tcp.ack_raw": lambda f: (f.ack,),
    "tcp.flags": lambda f: (f.flags,),
    "tcp.flags.fin": lambda f: (bool(f.flags & 0x01),),
    "tcp.flags.syn": lambda f: (bool(f.flags & 0x02),),
    "tcp.flags.reset": lambda f: (bool(f.flags & 0x04),),
    "tcp.flags.push": lambda f: (bool(f.flags & 0x08),),
    "tcp.flags.ack": lambda f: (bool(f.flags & 0x10),),
    "tcp.payload": lambda f: (f.payload,) * bool(f.payload),
}
"""What a frame tells by itself."""


def _states(name: str, fact: str) -> Callable[[Seen, Frame | None], Iterable[Any]]:
    def told(seen: Seen, _: Frame | None) -> Iterable[Any]:
        record = seen.record
        if isinstance(record, StateRecord) and record.name == name and fact in record.facts:
            yield record.facts[fact]

    return told


def _of_message(attribute: str) -> Callable[[Seen, Frame | None], Iterable[Any]]:
    return lambda seen, _: (
        (getattr(seen.record, attribute),) if isinstance(seen.record, MessageRecord) else ()
    )


def _protocol(seen: Seen, _: Frame | None) -> Iterable[str]:
    record = seen.record
    if isinstance(record, StateRecord) and record.name in IDENTIFICATION:
        yield str(record.facts.get("line", "")).partition(NUL)[0]


def _direction(seen: Seen, _: Frame | None) -> Iterable[bool]:
    if _is_packet(seen) and seen.client is not None:
        yield not seen.client


def _packet_length(seen: Seen, _: Frame | None) -> Iterable[int]:
    record = seen.record
    if isinstance(record, MessageRecord):
        yield record.packet_length
    elif isinstance(record, StateRecord) and record.name == "encrypted" and record.facts.get("packet_length"):
        yield int(record.facts["packet_length"])


def _length_encrypted(seen: Seen, frame: Frame | None) -> Iterable[bytes]:
    """Where lengths are encrypted, the first four bytes that a frame has of what cannot be read."""
    record = seen.record
    if frame is None or not isinstance(record, StateRecord) or record.name != "encrypted":
        return
    size = int(record.facts.get("bytes", 0))
    if record.facts.get("packets") is None and LENGTH < size <= len(frame.payload):
        yield frame.payload[-size:][:LENGTH]


def _mac_status(seen: Seen, _: Frame | None) -> Iterable[int]:
    if isinstance(seen.record, MessageRecord) and seen.record.epoch and seen.verified is not None:
        yield int(seen.verified)


def _payload(seen: Seen, _: Frame | None) -> Iterable[bytes]:
    if isinstance(seen.record, MessageRecord) and seen.record.epoch:
        yield seen.record.payload


def _hassh(client: bool, fact: str) -> Callable[[Seen, Frame | None], Iterable[str]]:
    def told(seen: Seen, _: Frame | None) -> Iterable[str]:
        record = seen.record
        if isinstance(record, StateRecord) and record.name == "hassh" and seen.client is client:
            yield str(record.facts.get(fact, ""))

    return told


def _of_sftp(what: Callable[[SubsystemRecord], Any]) -> Callable[[Seen, Frame | None], Iterable[Any]]:
    def told(seen: Seen, _: Frame | None) -> Iterable[Any]:
        if isinstance(seen.record, SubsystemRecord) and seen.record.context == "sftp":
            yield what(seen.record)

    return told


NUL: Final = "\\000"
"""How a line has a zero byte; tshark's strings end at one."""

IDENTIFICATION: Final = frozenset({"identification_sent", "identification_received"})
PACKETS: Final = IDENTIFICATION | {"encrypted"}
"""The states that stand for bytes on the wire."""

PACKET: Final[Mapping[str, Callable[[Seen, Frame | None], Iterable[Any]]]] = {
    "ssh": lambda seen, _: (True,),
    "ssh.direction": _direction,
    "ssh.protocol": _protocol,
    "ssh.message_code": _of_message("number"),
    "ssh.packet_length": _packet_length,
    "ssh.padding_length": _of_message("padding_length"),
    "ssh.packet_length_encrypted": _length_encrypted,
    "ssh.seq_num": _of_message("seq"),
    "ssh.mac.status": _mac_status,
    "ssh.payload": _payload,
    "ssh.kex.hassh": _hassh(True, "hash"),
    "ssh.kex.hassh_algorithms": _hassh(True, "algorithms"),
    "ssh.kex.hasshserver": _hassh(False, "hash"),
    "ssh.kex.hasshserver_algorithms": _hassh(False, "algorithms"),
    "sftp": _of_sftp(lambda record: True),
    "sftp.packet_type": _of_sftp(lambda record: record.number),
    "sftp.packet_length": _of_sftp(lambda record: len(record.payload)),
}
"""What a record tells beside the fields of its message."""

ONCE: Final = frozenset({"ssh", "sftp", "ssh.direction"})
"""Told once for a look at a frame, however many packets it holds."""


# --- how it is written


def show(row: FieldRow, value: Any) -> str:
    """One value as tshark 4.6 writes it."""
    if value == REDACTED:
        return REDACTED
    match row.kind:
        case Kind.BOOL | Kind.PROTOCOL:
            return str(bool(value))
        case Kind.BYTES:
            return value.hex() or "<MISSING>"
        case Kind.TIME:
            return f"{value // 10**9}.{value % 10**9:09d}"
        case Kind.INT:
            return BASES[row.base](value)
        case Kind.TEXT:
            return _text(value)
    return str(value)


def _date(value: int) -> str:
    moment = datetime.fromtimestamp(value, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000000000+0000"


def _char(value: int) -> str:
    return f"'\\\\x{value & 0xFF:02x}'"


BASES: Final[Mapping[str, Callable[[int], str]]] = {
    "": str, "hex": "0x{:08x}".format, "hex4": "0x{:04x}".format, "char": _char, "date": _date,
}  # fmt: skip

ESCAPED: Final = {
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def _text(value: str) -> str:
    """Text in one line as tshark has it, but for control characters, which are escaped here."""
    if value.isprintable():
        return value.replace("\\", "\\\\")
    return "".join(ESCAPED.get(char) or visible(char) for char in value)


@dataclass(frozen=True, slots=True)
class Layout:
    """How `-T fields` writes: the options of tshark's -E."""

    header: bool = False
    separator: str = "\t"
    occurrence: Literal["f", "l", "a"] = "a"
    aggregator: str = ","
    quote: str = ""

    @classmethod
    def parse(cls, options: Iterable[str]) -> Layout:
        """Reads `NAME=VALUE` options. Raises UsageError for one that tshark's -E does not have."""
        chosen: dict[str, Any] = {}
        for option in options:
            name, equals, value = option.partition("=")
            read = OPTIONS.get(name)
            if not equals or read is None:
                raise UsageError(f"-E {option}: there are {', '.join(f'{each}=' for each in OPTIONS)}")
            chosen[name] = read(option, value)
        return cls(**chosen)

    def heading(self, names: Sequence[str]) -> str:
        """The line of the names."""
        return self.separator.join(names)

    def line(self, values: Iterable[Sequence[str]]) -> str:
        """The line of a row: for each field its values."""
        return self.separator.join(self._field(each) for each in values)

    def _field(self, values: Sequence[str]) -> str:
        if not values:
            return ""
        kept = {"f": values[:1], "l": values[-1:], "a": values}[self.occurrence]
        joined = self.aggregator.join(kept)
        return (
            f"{self.quote}{joined.replace(self.quote, self.quote * 2)}{self.quote}" if self.quote else joined
        )


def _choice(**words: Any) -> Callable[[str, str], Any]:
    def read(option: str, value: str) -> Any:
        if value not in words:
            raise UsageError(f"-E {option}: the value is one of {', '.join(words)}")
        return words[value]

    return read


def _sign(option: str, value: str) -> str:
    sign = {"/t": "\t", "/s": " "}.get(value, value)
    if len(sign) != 1:
        raise UsageError(f"-E {option}: the value is one character, /t (tab) or /s (space)")
    return sign


OPTIONS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "header": _choice(y=True, n=False), "separator": _sign, "occurrence": _choice(f="f", l="l", a="a"),
    "aggregator": _sign, "quote": _choice(d='"', s="'", n=""),
}  # fmt: skip
