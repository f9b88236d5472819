"""The timeline: every message of a connection, then where its time went.

`Timeline` is a sink; at any moment it can be drawn (`render`, `to_svg`) or asked (`summary`). Time is
given to the phases 0 TCP to 6 teardown and, within each, to waiting for the peer (what ended in
something received) and to our own computing (what ended in something we did).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import IO, Any, Final

from ..errors import MalformedMessage
from ..messages import family, message_name
from ..observe.dissect import facts as facts_of
from ..observe.record import MessageRecord, Record, StateRecord
from ..wire import Reader
from .lines import text_of, words


class Phase(IntEnum):
    """The phases of a connection."""

    TCP = 0
    IDENTIFICATION = 1
    NEGOTIATION = 2
    KEY_EXCHANGE = 3
    AUTHENTICATION = 4
    CONNECTION = 5
    TEARDOWN = 6

    @property
    def title(self) -> str:
        """`0 TCP`, `1 identification`, ..."""
        return f"{self.value} {'TCP' if self is Phase.TCP else self.name.lower().replace('_', ' ')}"


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


@dataclass(slots=True)
class Spent:
    """Seconds of one phase."""

    waiting: float = 0.0
    own: float = 0.0

    @property
    def total(self) -> float:
        """Both together."""
        return self.waiting + self.own


class Clock:
    """Gives each stretch between two records to the phase it lies in, as waiting or as our own."""

    WAITED: Final = frozenset({
        "resolved", "connected", "connect_failed", "preface_line", "identification_received", "eof",
        "answered",
    })  # fmt: skip
    """The states that come from outside: from the network, or from a person."""

    def __init__(self) -> None:
        self.phase = Phase.TCP
        self.spent: dict[Phase, Spent] = {}
        self.start: float | None = None
        self.now = 0.0
        self._lines: set[str] = set()
        self._channels: dict[int, int] = {}
        self._open: set[int] = set()

    def hear(self, record: Record) -> Phase:
        """Takes one record; answers with the phase that it is shown in."""
        if self.start is None:
            self.start = self.now = record.time
        spent = self.spent.setdefault(self.phase, Spent())
        took, self.now = max(record.time - self.now, 0.0), max(record.time, self.now)
        if self._came(record):
            spent.waiting += took
        else:
            spent.own += took
        before, self.phase = self.phase, self._next(record)
        shown = self.phase if Phase.TEARDOWN in (before, self.phase) else before
        self.spent.setdefault(shown, Spent())
        return shown

    def channel(self, record: MessageRecord) -> int:
        """Our number of the channel that a message (93 to 100) is about: it names the receiver's."""
        (number,) = _numbers(record, 1)
        if not record.sent:
            return number
        return next((ours for ours, peers in self._channels.items() if peers == number), number)

    def _came(self, record: Record) -> bool:
        if isinstance(record, MessageRecord):
            return not record.sent
        return record.name in self.WAITED

    def _next(self, record: Record) -> Phase:
        if isinstance(record, MessageRecord):
            return self._after_message(record)
        match record.name:
            case "connected" | "accepted":
                return Phase.IDENTIFICATION
            case "identification_sent" | "identification_received":
                self._lines.add(record.name)
                return max(self.phase, Phase(min(len(self._lines), 2)))
            case "negotiated" if self.phase < Phase.KEY_EXCHANGE:
                return Phase.KEY_EXCHANGE
            case "kex_done" if self.phase < Phase.AUTHENTICATION:
                return Phase.AUTHENTICATION
            case "authenticated":
                return Phase.CONNECTION
            case "eof" | "error" | "closed":
                return Phase.TEARDOWN
        return self.phase

    def _after_message(self, record: MessageRecord) -> Phase:
        """The connection is being taken down when its last channel closes; another one may still come."""
        if record.number == 1:
            return Phase.TEARDOWN
        if record.number == 91:
            first, second = _numbers(record, 2)
            ours, peers = (second, first) if record.sent else (first, second)
            self._channels[ours] = peers
            self._open.add(ours)
            return Phase.CONNECTION
        if record.number == 97:
            ours = self.channel(record)
            if ours in self._open:
                self._open.discard(ours)
            else:  # both sides have closed it: its numbers are free again
                self._channels.pop(ours, None)
            return self.phase if self._open else Phase.TEARDOWN
        return Phase.CONNECTION if record.number == 90 and self.phase is Phase.TEARDOWN else self.phase


def _numbers(record: MessageRecord, count: int) -> tuple[int, ...]:
    """The uint32s a message begins with; -1 for those that are cut off."""
    raw = record.payload[1 : 1 + 4 * count]
    return tuple(
        int.from_bytes(raw[i : i + 4], "big") if len(raw) >= i + 4 else -1 for i in range(0, 4 * count, 4)
    )


class RoundTrips:
    """Counts the longest chain of messages each of which had to wait for the one before it.

    Which message answers which is the protocol's to say, not the clock's: on a fast network two that
    crossed look as if one had waited. `depth` is how many trips the latest of what was heard took.
    """

    CLIENT: Final[Mapping[int, tuple[int, ...]]] = {
        20: (0,), 31: (30, 34), 33: (32,), 6: (5,), 51: (50, 61), 52: (50, 61), 60: (50, 61),
        91: (90,), 92: (90,), 99: (98,), 100: (98,), 81: (80,), 82: (80,), 97: (97,), 193: (192,),
    }  # fmt: skip
    """What a client receives, and what of its own it answers; 0 is the identification."""

    SERVER: Final[Mapping[int, tuple[int, ...]]] = {
        20: (0,), 30: (20,), 34: (20,), 32: (31,), 5: (31, 33), 50: (6, 51, 60), 61: (60,), 90: (52,),
        98: (91,), 97: (97,), 1: (97,), 99: (98,), 100: (98,), 91: (90,), 92: (90,), 193: (192,),
    }  # fmt: skip
    """What a server receives, and what of its own it waited for."""

    IN_ORDER: Final = frozenset({80, 90, 98})
    """Requests whose answers come in their order, several under way at once."""

    def __init__(self) -> None:
        self.depth = 0
        self.server = False
        self._sent: dict[int, int] = {}
        self._asked: dict[int, deque[int]] = {}

    def hear(self, record: Record) -> None:
        """Takes one record."""
        if isinstance(record, StateRecord):
            self._state(record)
        elif record.sent:
            self._send(record)
        else:
            self._receive(record)

    def _state(self, record: StateRecord) -> None:
        match record.name:
            case "connected" | "accepted":
                self.server = record.name == "accepted"
                self.depth += 1
            case "identification_sent":
                self._sent[0] = self.depth
            case "identification_received" if not self.server:
                # The server speaks when it accepts, which takes the client's ACK.
                self.depth += 1

    def _send(self, record: MessageRecord) -> None:
        number = record.number
        self._sent[number] = self.depth
        if number in self.IN_ORDER and (number == 90 or _wants_reply(record)):
            self._asked.setdefault(number, deque(maxlen=1024)).append(self.depth)

    def _receive(self, record: MessageRecord) -> None:
        causes = (self.SERVER if self.server else self.CLIENT).get(record.number, ())
        depths: list[int] = []
        for number in causes:
            asked = self._asked.get(number)
            if asked and not (self.server and record.number in (90, 98)):
                depths.append(asked.popleft())
            elif number in self._sent and number not in self.IN_ORDER:
                depths.append(self._sent[number])
        if depths:
            self.depth = max(self.depth, max(depths) + 1)


def _wants_reply(record: MessageRecord) -> bool:
    reader = Reader(record.payload, 5 if record.number == 98 else 1)
    try:
        reader.string()
        return reader.boolean()
    except MalformedMessage:
        return False


class Rows:
    """The lines so far, bounded: runs of data are folded, and of very many the middle is left out."""

    BULK: Final = frozenset({93, 94, 95})
    SINGLY: Final = 3
    """So many messages of a run are shown one by one; more become one line."""
    HEAD: Final = 1000
    LIMIT: Final = 2000

    def __init__(self) -> None:
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
        if len(self.rows) > self.LIMIT:
            self.dropped += self.rows.pop(self.HEAD).count


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


def _judged(f: Mapping[str, Any]) -> str:
    word = "partial" if f.get("partial") else "accepted" if f.get("accepted") else "refused"
    return words(f.get("user", ""), f.get("method", ""), word, f.get("fingerprint", ""))


def _bytes(f: Mapping[str, Any]) -> str:
    sent, received = (size_text(int(f.get(f"{way}_bytes", 0))) for way in ("sent", "received"))
    return f"{sent} sent, {received} received"


_Told = Callable[[Mapping[str, Any]], str]


def _fields(*names: str) -> _Told:
    return lambda f: words(*(f.get(name, "") for name in names))


STATES: Final[dict[str, tuple[str, str, bool | None, _Told]]] = {
    "resolving": ("tcp", "name looked up", None, _fields("host")),
    "resolved": ("tcp", "name found", None, _fields("addresses")),
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
        self.clock = Clock()
        self.trips = RoundTrips()
        self.lines = Rows()
        self.encrypted: Row | None = None

    def __call__(self, record: Record) -> None:
        """Takes one record."""
        channel = self.clock.channel(record) if isinstance(record, MessageRecord) else 0
        phase = self.clock.hear(record)
        self.trips.hear(record)
        if isinstance(record, MessageRecord):
            self._message(record, phase, channel)
        else:
            self._state(record, phase)

    def _message(self, record: MessageRecord, phase: Phase, channel: int) -> None:
        self.told.messages[record.sent] += 1
        self.told.octets[record.sent] += record.wire_length
        row = Row(
            record.time, phase, layer(record.number), message_name(record.number, record.context),
            sent=record.sent, size=record.wire_length,
        )  # fmt: skip
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
        shown = STATES.get(record.name)
        if shown is None:
            return
        in_layer, name, sent, tell = shown
        row = Row(record.time, phase, in_layer, name, sent=sent, facts=tell(facts))
        if record.name.startswith("identification_"):
            row.size = int(facts.get("length", 0))
            self.told.octets[bool(sent)] += row.size
        self.lines.add(row)
        if record.name == "kex_done" and self.encrypted is None:
            self.encrypted = row

    def _remember(self, name: str, facts: Mapping[str, Any]) -> None:
        told = self.told
        match name:
            case "started":
                told.role, told.software = text_of(facts.get("role", "")), text_of(facts.get("software", ""))
            case "connected" | "accepted":
                told.peer = _place(facts)
                told.role = told.role or ("client" if name == "connected" else "server")
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


def layer(number: int) -> str:
    """The layer a message belongs to (RFC 4250 §4.1.2)."""
    if number in (20, 21) or family(number) == "kex":
        return "kex"
    if 50 <= number <= 79:
        return "auth"
    return "connection" if 80 <= number <= 127 else "transport"


def _content(record: MessageRecord) -> int:
    """Bytes of channel data, or of window."""
    if record.number == 93:
        return max(_numbers(record, 2)[1], 0)
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
