"""The timeline: every message of a connection, then where its time went.

`Timeline` is a sink; at any moment it can be drawn (`render`, `to_svg`) or asked (`summary`). Time is
given to the phases 0 TCP to 6 teardown and, within each, to waiting for the peer (what ended in
something received) and to our own computing (what ended in something we did).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final

from ..explain.course import Course, sentence
from ..explain.phases import Phase, layer, numbers
from ..messages import message_name
from ..observe.dissect import facts as facts_of
from ..observe.record import MessageRecord, Record, StateRecord
from .lines import text_of, words


@dataclass(slots=True)
class Row:
    """One line: a message (`sent` is its direction), a run of messages of one kind, or a state (None)."""

    time: float
    phase: Phase
    layer: str
    name: str
    sent: bool | None = None
    facts: str = ""
    size: int = 0
    count: int = 1
    content: int = 0
    until: float = 0.0

    def absorb(self, other: Row) -> None:
        """Makes this line stand for `other` too."""
        self.count += other.count
        self.size += other.size
        self.content += other.content
        self.until = other.time


class Rows:
    """The lines so far, bounded: runs of data are folded, and of very many the middle is left out."""

    BULK: Final = frozenset({93, 94, 95})
    SINGLY: Final = 3
    """So many messages of a run are shown one by one; more become one line."""
    HEAD: Final = 1000
    LIMIT: Final = 2000

    def __init__(self, head: int = HEAD, limit: int = LIMIT) -> None:
        self.head, self.limit = head, limit
        self.rows: list[Row] = []
        self.dropped = 0
        self._run: dict[tuple[bool, int, int], list[Row]] = {}

    def add(self, row: Row) -> None:
        """Adds a line that ends a run."""
        self._run.clear()
        self._append(row)

    def add_bulk(self, row: Row, key: tuple[bool, int, int]) -> None:
        """Adds one message of a run; `key` says of which kind."""
        run = self._run.setdefault(key, [])
        run.append(row)
        first = run[0]
        if first.count == 1 and len(run) <= self.SINGLY:
            self._append(row)
            return
        for other in run[1:]:
            first.absorb(other)
        gone = {id(other) for other in run[1:-1]}
        if gone:
            self.rows = [each for each in self.rows if id(each) not in gone]
        self._run[key] = [first]

    def _append(self, row: Row) -> None:
        self.rows.append(row)
        if len(self.rows) > self.limit:
            self.leave_out(self.rows.pop(self.head))

    def leave_out(self, row: Row) -> None:
        """`row` is one of very many, and has gone."""
        self.dropped += row.count


def _place(f: Mapping[str, Any]) -> str:
    return words(f.get("address") or f.get("host", ""), "port", f.get("port", ""))


def _agreed(f: Mapping[str, Any]) -> str:
    ciphers = dict.fromkeys((f.get("cipher_c2s", ""), f.get("cipher_s2c", "")))
    macs = dict.fromkeys((f.get("mac_c2s", ""), f.get("mac_s2c", "")))
    strict = "strict" if f.get("strict") else "not strict"
    named = (mac for mac in macs if mac != "<implicit>")
    return words(f.get("kex", ""), f.get("host_key", ""), *ciphers, *named, strict)


def _verdict(f: Mapping[str, Any]) -> str:
    where = f"{text_of(f['file'])}:{f.get('line')}" if f.get("file") else ""
    return words(f.get("how", ""), where)


INFERRED: Final = {
    "authenticated": "login succeeded", "authentication_failed": "attempt failed",
    "no_login": "no login seen",
}  # fmt: skip
"""What lengths give away, in words."""


def _why(f: Mapping[str, Any]) -> str:
    return f"({f['evidence']})" if f.get("evidence") else ""


def _judged(f: Mapping[str, Any]) -> str:
    word = "partial" if f.get("partial") else "accepted" if f.get("accepted") else "refused"
    return words(f.get("user", ""), f.get("method", ""), word, f.get("fingerprint", ""))


def _bytes(f: Mapping[str, Any]) -> str:
    sent, received = (size_text(int(f.get(f"{way}_bytes", 0))) for way in ("sent", "received"))
    return f"{sent} sent, {received} received"


_Told = Callable[[Mapping[str, Any]], str]


def _fields(*names: str) -> _Told:
    return lambda f: words(*(f.get(name, "") for name in names))


def _ahead(f: Mapping[str, Any]) -> str:
    parts = {"exchange": f.get("guess"), "login": f.get("login"), "session": f.get("session")}
    return ", ".join(name for name, sent in parts.items() if sent)


STATES: Final[dict[str, tuple[str, str, bool | None, _Told]]] = {
    "resolving": ("tcp", "name looked up", None, _fields("host")),
    "resolved": ("tcp", "name found", None, _fields("addresses")),
    "jump": ("tcp", "by another host", None, _fields("via")),
    "connecting": ("tcp", "connect begun", True, _place),
    "connected": ("tcp", "connect done", False, _place),
    "connect_failed": ("tcp", "connect failed", False, _fields("address", "error")),
    "accepted": ("tcp", "connection accepted", False, _place),
    "preface_line": ("transport", "line before identification", False, _fields("text")),
    "identification_sent": ("transport", "identification", True, _fields("line")),
    "identification_received": ("transport", "identification", False, _fields("line")),
    "negotiated": ("kex", "algorithms agreed", None, _agreed),
    "host_key": ("kex", "host key signature verified", None, _fields("type", "fingerprint")),
    "host_key_verdict": ("kex", "host key judged", None, _verdict),
    "kex_done": ("kex", "new keys in use both ways", None, lambda f: ""),
    "auth_signing": ("auth", "signing", None, _fields("algorithm", "fingerprint")),
    "auth_skipped": ("auth", "passed over", None, _fields("what", "reason")),
    "auth_exhausted": ("auth", "no method left", None, lambda f: ""),
    "auth_verdict": ("auth", "judged", None, _judged),
    "authenticated": ("auth", "authenticated", None, _fields("user", "method")),
    "answered": ("person", "answered", None, _fields("what")),
    "session_started": ("session", "program started", None, _fields("kind", "command", "tty")),
    "session_ended": ("session", "program ended", None, _fields("status", "signal")),
    "interactive": ("session", "session begins", None, lambda f: "on a terminal" if f.get("pty") else ""),
    "exit_status": ("session", "exit", None, _fields("status", "signal")),
    "forward": ("connection", "forwarding", None, _fields("kind", "listen", "target")),
    "sink_dropped": ("view", "sink dropped", None, _fields("sink", "error")),
    "gap": ("capture", "bytes missing", None, lambda f: size_text(int(f.get("bytes", 0)))),
    "not_decrypted": ("capture", "cannot be read", None, _fields("why")),
    "inferred": ("capture", "inferred", None, lambda f: words(INFERRED.get(f.get("what", ""), ""), _why(f))),
    "ended": ("tcp", "end of one direction", None, _fields("how")),
    "speculation": ("transport", "sent ahead", None, _ahead),
    "speculation_failed": ("transport", "in vain, again in turns", None, _fields("text")),
    "error": ("error", "error", None, _fields("text")),
    "eof": ("tcp", "end of stream", False, lambda f: ""),
    "closed": ("tcp", "closed", None, _bytes),
}
"""The states that get a line: layer, name, direction, facts. The rest a message already shows."""

ALGORITHMS: Final = (
    "kex", "host_key", "cipher_c2s", "cipher_s2c", "mac_c2s", "mac_s2c", "compression_c2s", "compression_s2c",
)  # fmt: skip


@dataclass(slots=True)
class Told:
    """What the connection said of itself, for the summary."""

    role: str = ""
    software: str = ""
    peer: str = ""
    peer_software: str = ""
    algorithms: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    strict: bool = False
    rekeys: int = 0
    error: str = ""
    messages: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    octets: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})


class Timeline:
    """A sink that remembers a connection as lines and as time spent; bounded, however long it lasts."""

    def __init__(self) -> None:
        self.told = Told()
        self.course = Course()
        self.clock, self.trips = self.course.clock, self.course.trips
        self.lines = Rows()
        self.encrypted: Row | None = None

    def __call__(self, record: Record) -> None:
        """Takes one record."""
        channel = self.clock.channel(record) if isinstance(record, MessageRecord) else 0
        phase = self.course.hear(record)
        if isinstance(record, MessageRecord):
            self._message(record, phase, channel)
        else:
            self._state(record, phase)

    def _message(self, record: MessageRecord, phase: Phase, channel: int) -> None:
        self.told.messages[record.sent] += 1
        self.told.octets[record.sent] += record.wire_length
        row = self._row(record, phase, layer(record.number), message_name(record.number, record.context))
        row.sent, row.size = record.sent, record.wire_length
        if record.number not in Rows.BULK:
            row.facts = facts_of(record.payload, record.context)
            if 93 <= record.number <= 100:
                row.facts = " ".join((f"ch={channel}", *row.facts.split(" ")[1:]))
            self.lines.add(row)
            return
        row.facts = f"ch={channel}"
        row.content = _content(record)
        self.lines.add_bulk(row, (record.sent, record.number, channel))

    def _state(self, record: StateRecord, phase: Phase) -> None:
        facts = record.facts
        self._remember(record.name, facts)
        if record.name == "encrypted":
            self._unread(record, phase)
            return
        shown = STATES.get(record.name)
        if shown is None:
            return
        in_layer, name, sent, tell = shown
        row = self._row(record, phase, in_layer, name)
        row.sent, row.facts = sent, tell(facts)
        if record.name in ("gap", "ended") and "sent" in facts:
            row.sent = bool(facts["sent"])
        if record.name.startswith("identification_"):
            row.size = int(facts.get("length", 0))
            self.told.octets[bool(sent)] += row.size
        self.lines.add(row)
        if record.name == "kex_done" and self.encrypted is None:
            self.encrypted = row

    def _unread(self, record: StateRecord, phase: Phase) -> None:
        """A stretch that nobody could read: runs of them are one line, as those of data are."""
        row = self._row(record, phase, "capture", "encrypted")
        row.sent = bool(record.facts.get("sent"))
        row.size = int(record.facts.get("bytes", 0))
        self.told.octets[row.sent] += row.size
        self.lines.add_bulk(row, (row.sent, -1, 0))

    def _row(self, record: Record, phase: Phase, in_layer: str, name: str) -> Row:
        """The line of `record`, without its facts."""
        return Row(record.time, phase, in_layer, name)

    def _remember(self, name: str, facts: Mapping[str, Any]) -> None:
        told = self.told
        match name:
            case "started":
                told.role, told.software = text_of(facts.get("role", "")), text_of(facts.get("software", ""))
            case "connected" | "accepted":
                told.peer = _place(facts)
                told.role = told.role or ("client" if name == "connected" else "server")
            case "identification_sent" if told.role == "network":
                line = text_of(facts.get("line", ""))
                told.software = line.partition("-")[2].partition("-")[2] or line  # SSH-2.0-software
            case "identification_received":
                told.peer_software = text_of(facts.get("software") or facts.get("line", ""))
            case "kex_started" if facts.get("first") is False:
                told.rekeys += 1
            case "negotiated":
                told.algorithms = {each: text_of(facts.get(each, "")) for each in ALGORITHMS}
                told.why = {text_of(k): text_of(v) for k, v in dict(facts.get("why") or {}).items()}
                told.strict = bool(facts.get("strict"))
            case "error":
                told.error = text_of(facts.get("text", ""))

    def summary(self) -> dict[str, Any]:
        """The figures, for programs: times in milliseconds, sizes in bytes."""
        told, clock = self.told, self.clock
        return {
            "role": told.role,
            "software": told.software,
            "peer": told.peer,
            "peer_software": told.peer_software,
            "duration_ms": ms(clock.now - (clock.start or 0.0)),
            "round_trips": self.trips.depth,
            "phases": [
                {"number": phase.value, "name": phase.title.split(" ", 1)[1], "ms": ms(spent.total),
                 "waiting_ms": ms(spent.waiting), "own_ms": ms(spent.own)}
                for phase, spent in sorted(clock.spent.items())
            ],
            "sentence": sentence(self.course),
            "stalls": [
                {"kind": stall.kind, "title": stall.title, "began_ms": ms(stall.began), "ms": ms(stall.took),
                 "confidence": stall.confidence, "evidence": stall.evidence}
                for stall in self.course.stalls.found
            ],
            "algorithms": dict(told.algorithms),
            "why": dict(told.why),
            "strict": told.strict,
            "rekeys": told.rekeys,
            "messages": {"sent": told.messages[True], "received": told.messages[False]},
            "bytes": {"sent": told.octets[True], "received": told.octets[False]},
            "error": told.error,
        }  # fmt: skip

    def render(self, width: int | None, color: bool, stream: IO[str]) -> None:
        """Draws to `stream`, `width` columns wide: None takes the terminal's width, or 100 without one.

        Without `color` it is plain text. Where the stream's encoding has no box-drawing characters and
        arrows, ASCII stands in for them.
        """
        from .drawing import render

        render(self, width, color, stream)

    def to_svg(self, width: int = 100, title: str = "glasshell") -> str:
        """The drawing as an SVG image of a terminal."""
        from .drawing import to_svg

        return to_svg(self, width, title)


def _content(record: MessageRecord) -> int:
    """Bytes of channel data, or of window."""
    if record.number == 93:
        return max(numbers(record, 2)[1], 0)
    return max(len(record.payload) - (9 if record.number == 94 else 13), 0)


def ms(seconds: float) -> float:
    """Seconds as milliseconds with microseconds."""
    return round(seconds * 1000, 3)


def size_text(count: int) -> str:
    """A number of bytes as people read it: 812 B, 12.3 kB, 10.5 MB."""
    if count < 1000:
        return f"{count} B"
    for unit in ("kB", "MB", "GB"):
        count_in = count / 1000 ** (("kB", "MB", "GB").index(unit) + 1)
        if count_in < 999.95 or unit == "GB":
            return f"{count_in:.1f} {unit}"
    return ""
