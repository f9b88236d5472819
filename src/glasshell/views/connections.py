"""The connections of a capture, one block each: what is known of it in a few lines, then its timeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import IO, Any, Final

from ..explain.course import sentence
from ..explain.failure import Story, explain_story
from ..explain.phases import Phase
from ..observe.record import MessageRecord, Record, StateRecord, SubsystemRecord
from ..observe.seen import Seen
from .lines import text_of, words
from .screen import fit
from .timeline import INFERRED, STATES, Row, Rows, Timeline, size_text

__all__ = ["Connections"]

MAX_TOLD: Final = 20
"""Most lines of one kind in a header."""

MAX_LINE: Final = 200
"""Longest line of a header, in characters."""

LABEL: Final = 12


class Captured(Timeline):
    """The timeline of one connection of a capture, and the facts of its header."""

    def __init__(self, stream: int) -> None:
        super().__init__()
        self.stream = stream
        self.facts: dict[str, Mapping[str, Any]] = {}
        """The latest facts of each state that the header tells of."""
        self.hassh: dict[bool, str] = {}
        self.story = Story()
        self.inferred: list[str] = []
        self.not_decrypted: list[str] = []
        self.missing = 0
        self.verified: dict[bool | None, int] = {True: 0, False: 0, None: 0}
        self.frames: list[int] = []
        self.wanted = False
        self.early = False
        """It is drawn before it is over."""

    def hear(self, seen: Seen) -> None:
        """Takes one record."""
        record = seen.record
        if seen.frames[1]:
            self.frames = [self.frames[0] if self.frames else seen.frames[0], seen.frames[1]]
        if isinstance(record, SubsystemRecord):
            self._subsystem(record)
            return
        self.story(record)
        if isinstance(record, MessageRecord):
            if record.epoch:
                self.verified[seen.verified] += 1
        else:
            record = _directed(record, seen)
            self._state_of(record, seen.client)
        self(record)

    def _subsystem(self, record: SubsystemRecord) -> None:
        """A packet inside a channel stands under the message that completed it."""
        from ..messages import message_name
        from ..observe.dissect import facts

        name = message_name(record.number, record.context)
        row = Row(record.time, self.clock.phase, record.context, name, sent=record.sent, size=0)
        row.facts = words(f"ch={record.channel}", facts(record.payload, record.context))
        key = (record.sent, -1000 - record.number, record.channel)
        (self.lines.add_bulk(row, key) if record.number in FILE_DATA else self.lines.add(row))

    def _state_of(self, record: StateRecord, client: bool | None) -> None:
        name, facts = record.name, record.facts
        match name:
            case "hassh" if client is not None:
                self.hassh.setdefault(client, text_of(facts.get("hash", "")))
            case "inferred" if len(self.inferred) < MAX_TOLD:
                told = INFERRED.get(text_of(facts.get("what", "")), text_of(facts.get("what", "")))
                self.inferred.append(words(told, f"({text_of(facts.get('evidence', ''))})"))
            case "not_decrypted" if len(self.not_decrypted) < MAX_TOLD:
                self.not_decrypted.append(text_of(facts.get("why", "")))
            case "gap":
                self.missing += int(facts.get("bytes", 0))
            case _ if name in KEPT:
                self.facts[name] = facts

    def _row(self, record: Record, phase: Phase, in_layer: str, name: str) -> Row:
        if (
            isinstance(record, StateRecord)
            and record.name == "host_key"
            and record.facts["verified"] is not True
        ):
            name = f"host key, signature {'wrong' if record.facts['verified'] is False else 'not checked'}"
        return super()._row(record, phase, in_layer, name)

    @property
    def unseen(self) -> list[str]:
        """The phases that the capture shows nothing of."""
        return [phase.title for phase in Phase if phase not in self.clock.spent]


def _directed(record: StateRecord, seen: Seen) -> StateRecord:
    """A state with what only its `Seen` tells: who sent it, and whether it was verified."""
    more: dict[str, Any] = {"verified": seen.verified} if record.name == "host_key" else {}
    if seen.client is not None and record.name in ("encrypted", "gap", "ended"):
        more["sent"] = seen.client
    return StateRecord(record.time, record.name, {**record.facts, **more}) if more else record


FILE_DATA: Final = frozenset({5, 6, 103})
"""READ, WRITE and DATA of SFTP come in runs."""

KEPT: Final = frozenset({
    "started", "connected", "identification_sent", "identification_received", "negotiated", "host_key",
    "terrapin", "authenticated", "traffic", "tcp_handshake",
})  # fmt: skip


FEWER: Final = ((2048, 10), (512, 40), (64, 200))
"""Of more connections than this at a time, each new one keeps so many lines: all together stay bounded."""


MAX_OPEN: Final = 4096
"""Most connections kept at a time, some 20 KB each; beyond that the oldest is drawn as far as it is."""


class Connections:
    """Takes what a capture tells and draws each connection when it is over; `close` draws the rest."""

    def __init__(self, stream: IO[str], width: int | None = None, *, color: bool = False) -> None:
        self._out = stream
        self._width = width
        self._color = color
        self._open: dict[int, Captured] = {}
        self._early: set[int] = set()
        """Connections that were drawn before they were over."""
        self.drawn = 0

    def __call__(self, seen: Seen, *, wanted: bool = True) -> None:
        """Takes one record; a connection none of whose records is wanted is not drawn."""
        over = isinstance(seen.record, StateRecord) and seen.record.name == "closed"
        if seen.stream in self._early:
            self._early.difference_update({seen.stream} if over else ())
            return
        captured = self._open.get(seen.stream)
        if captured is None:
            self._make_room()
            captured = self._open[seen.stream] = Captured(seen.stream)
            limit = next((lines for most, lines in FEWER if len(self._open) > most), Rows.LIMIT)
            captured.lines = Rows(limit // 2, limit)
        captured.hear(seen)
        captured.wanted = captured.wanted or wanted
        if over:
            del self._open[seen.stream]
            self._draw(captured)

    def _make_room(self) -> None:
        while len(self._open) >= MAX_OPEN:
            oldest = self._open.pop(next(iter(self._open)))
            self._early.add(oldest.stream)
            oldest.early = True
            self._draw(oldest)

    def close(self) -> None:
        """Draws the connections that have not ended."""
        while self._open:
            self._draw(self._open.pop(next(iter(self._open))))

    def _draw(self, captured: Captured) -> None:
        if not captured.wanted:
            return
        if self.drawn:
            self._out.write("\n")
        self.drawn += 1
        title, *lines = header_lines(captured)
        bold, plain = ("\x1b[1m", "\x1b[0m") if self._color else ("", "")
        self._out.write(f"{bold}{fit(title, self._out)}{plain}\n")
        for label, text in lines:
            cut = text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - 1]}…"
            self._out.write(f"  {label:<{LABEL}}{fit(cut, self._out)}\n")
        captured.render(self._width, self._color, self._out)
        self._out.flush()


def header_lines(captured: Captured) -> list[Any]:
    """The title, then (label, text) for each thing that is known."""
    facts = captured.facts
    connected, started = facts.get("connected", {}), facts.get("started", {})
    client, server = _place(connected, "local_"), _place(connected, "")
    span = f"frames {captured.frames[0]}-{captured.frames[1]}" if captured.frames else ""
    title = words(f"stream {captured.stream}:", client, "→", server, _when(started.get("wall_time")), span)
    lines = [(label, text) for label, tell in TOLD for text in tell(captured) if text]
    return [title, *lines[: 6 * MAX_TOLD]]


def _place(facts: Mapping[str, Any], side: str) -> str:
    address, port = text_of(facts.get(f"{side}address", "?")), facts.get(f"{side}port", "?")
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _when(wall_time: Any) -> str:
    if not isinstance(wall_time, int | float):
        return ""
    try:
        return f"{datetime.fromtimestamp(wall_time, UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
    except (OverflowError, ValueError, OSError):
        return ""


def _side(captured: Captured, client: bool) -> list[str]:
    line = captured.facts.get("identification_sent" if client else "identification_received", {})
    hassh = captured.hassh.get(client)
    return [words(text_of(line.get("line", "")), f"hassh {hassh}" if hassh else "")]


def _host_key(captured: Captured) -> list[str]:
    key = captured.facts.get("host_key", {})
    signed = {True: "signature good", False: "signature bad"}.get(key.get("verified"), "")  # type: ignore[arg-type]
    return [words(key.get("type", ""), key.get("bits") or "", key.get("fingerprint", ""), signed)]


def _login(captured: Captured) -> list[str]:
    read = captured.facts.get("authenticated")
    if read is not None:
        return [words(read.get("user", ""), "by", read.get("method", ""))]
    if len(captured.inferred) <= 3:
        return captured.inferred
    return [*captured.inferred[:1], f"... {len(captured.inferred) - 2} more ...", captured.inferred[-1]]


def _failed(captured: Captured) -> list[str]:
    """Why it failed, where it did: what, and the likeliest cause."""
    found = explain_story(captured.story)
    return [] if found is None else [found.what, *(f"likely: {cause}" for cause in found.causes[:1])]


def _exposed(captured: Captured) -> list[str]:
    facts = captured.facts.get("terrapin", {})
    if not facts.get("exposed"):
        return []
    return [f"open to CVE-2023-48795: {text_of(facts.get('by', ''))} without strict key exchange"]


def _checked(captured: Captured) -> list[str]:
    good, bad, unchecked = (captured.verified[each] for each in (True, False, None))
    told = [f"{good} MACs or tags good" if good else "", f"{bad} BAD" if bad else ""]
    told.append(f"{unchecked} not checked" if unchecked else "")
    return [", ".join(each for each in told if each)]


def _traffic(captured: Captured) -> list[str]:
    facts = captured.facts.get("traffic", {})
    return [words(facts.get("kind", ""), f"({text_of(facts['evidence'])})" if facts.get("evidence") else "")]


def _handshake(captured: Captured) -> list[str]:
    facts = captured.facts.get("tcp_handshake", {})
    if not facts:
        return []
    server, client = (float(facts.get(side, 0.0)) * 1000 for side in ("syn_ack", "ack"))
    places = 1 if server + client >= 1 else 3
    parts = f"{server:.{places}f} to the server, {client:.{places}f} to the client"
    return [f"{server + client:.{places}f} ms by TCP's handshake: {parts}"]


def _unseen(captured: Captured) -> list[str]:
    return [", ".join(captured.unseen)]


TOLD: Final[tuple[tuple[str, Callable[[Captured], list[str]]], ...]] = (
    ("client", lambda c: _side(c, True)),
    ("server", lambda c: _side(c, False)),
    ("agreed", lambda c: [STATES["negotiated"][3](c.facts["negotiated"])] if "negotiated" in c.facts else []),
    ("host key", _host_key),
    ("login", _login),
    ("failed", _failed),
    ("terrapin", _exposed),
    ("decrypted", _checked),
    ("sealed", lambda c: list(dict.fromkeys(c.not_decrypted))),
    ("missing", lambda c: [f"{size_text(c.missing)} are not in the capture"] if c.missing else []),
    ("cut", lambda c: ["what follows is not drawn: too many connections at a time"] if c.early else []),
    ("traffic", _traffic),
    ("RTT", _handshake),
    ("unseen", _unseen),
    ("time", lambda c: [sentence(c.course)]),
)
"""The lines of a header: what each tells."""
