"""The waterfall: one self-contained page that shows where the time of a connection went.

The page is data beside a program of our own: the files `waterfall*` of this folder are joined with the
records as JSON. It fetches nothing (its Content-Security-Policy forbids it), and what a peer said reaches the
page as text only. What is shown of the records is what any view may show: secrets are redacted already, a
channel's data is its length.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import IO, Any, Final

from ..explain.course import sentence
from ..explain.phases import Phase
from ..messages import Shown, describe, lookup, message_name
from ..observe.dissect import facts as facts_of
from ..observe.record import MessageRecord, Record, SubsystemRecord
from ..observe.seen import Seen
from ..wire import visible
from .jsonl import plain
from .lines import text_of
from .timeline import ALGORITHMS, Row, Rows, Timeline

__all__ = ["Waterfall"]

_SSH: Final = re.compile(r"^SSH-[0-9.]+-")
FILES: Final = (".html", ".css", ".js", "_line.js", "_list.js")
"""The page, its style, and the parts of its program in their order."""
MOST_CONNECTIONS: Final = 100
"""Most connections of one page; more are counted."""
MOST_ROWS: Final = 6000
"""Most lines of one page that has one connection; several share twice as many."""
DETAILS: Final = 3_500_000
"""Characters that the fields and bytes of all messages may take together."""
MOST_BYTES: Final = 4096
"""Most bytes of one message that are shown."""
MOST_TEXT: Final = 2000
"""Longest text of one field, in characters."""
MOST_FIELDS: Final = 400
MOST_MARKS: Final = 200
"""Most messages of a run that are drawn one by one."""
MOST_SPANS: Final = 4000
SHORT_RUN: Final = 64
"""So many messages of data in a row are kept with their fields."""


@dataclass(slots=True)
class Item(Row):
    """A line of the page: when the stretch before it began, of which kind that was, and what it opens to."""

    since: float = 0.0
    kind: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    marks: list[float] = field(default_factory=list)

    def absorb(self, other: Row) -> None:
        """As `Row.absorb`; of a long run every second, fourth, ... message is remembered."""
        Row.absorb(self, other)
        self.marks.append(other.time)
        if len(self.marks) > MOST_MARKS:
            del self.marks[1::2]


class Budget:
    """How much may still be told in detail."""

    def __init__(self) -> None:
        self.left = DETAILS

    def take(self, detail: dict[str, Any]) -> dict[str, Any]:
        """`detail`, or what can be afforded of it."""
        cost = self._cost(detail)
        if cost > self.left:
            return {**detail, "hex": "", "fields": []}
        self.left -= cost
        return detail

    def give_back(self, detail: Mapping[str, Any]) -> None:
        """What `detail` took is free again."""
        self.left += self._cost(detail)

    @staticmethod
    def _cost(detail: Mapping[str, Any]) -> int:
        return len(detail.get("hex", "")) + sum(len(each[3]) + 60 for each in detail.get("fields", ()))


class Lines(Rows):
    """The lines of one connection; those that go give back what they cost."""

    def __init__(self, limit: int, budget: Budget) -> None:
        super().__init__(limit // 2, limit)
        self._budget = budget

    def leave_out(self, row: Row) -> None:
        super().leave_out(row)
        if isinstance(row, Item):
            self._budget.give_back(row.detail)


class Story(Timeline):
    """One connection of a page."""

    def __init__(self, budget: Budget, limit: int = MOST_ROWS) -> None:
        super().__init__()
        self.lines = Lines(limit, budget)
        self.wall: float | None = None
        self._budget = budget
        self._spans: list[list[Any]] = []
        self._phases: list[list[Any]] = []
        self._seen: Seen | None = None
        self._run = 0

    def __call__(self, record: Record | SubsystemRecord, seen: Seen | None = None) -> None:
        """Takes one record; `seen` is what a capture says of it."""
        self._seen = seen
        if isinstance(record, SubsystemRecord):
            self._subsystem(record)
            return
        if getattr(record, "name", "") == "started":
            wall = plain(record.facts.get("wall_time"))  # type: ignore[union-attr]
            self.wall = wall if isinstance(wall, (int, float)) else None
        super().__call__(record)
        self._span(self._spans, self.clock.kind, MOST_SPANS)

    def _subsystem(self, record: SubsystemRecord) -> None:
        row = Item(record.time, self.clock.phase, record.context, message_name(record.number, record.context))
        row.sent, row.size, row.since = record.sent, len(record.payload), record.time
        row.facts = f"ch={record.channel} {facts_of(record.payload, record.context)}"
        row.detail = self._budget.take(_detail(record, self._seen))
        self.lines.add(row)

    def _row(self, record: Record, phase: Phase, in_layer: str, name: str) -> Item:
        self._span(self._phases, phase.value, 500)
        bulk = isinstance(record, MessageRecord) and record.number in Rows.BULK
        self._run = self._run + 1 if bulk else 0
        # Of a long run only its first messages have lines of their own.
        detail = self._budget.take(_detail(record, self._seen)) if self._run < SHORT_RUN else {}
        since = min(self.clock.since, record.time)
        return Item(
            record.time, phase, in_layer, name, since=since, kind=self.clock.kind, detail=detail,
            marks=[record.time],
        )  # fmt: skip

    def _span(self, spans: list[list[Any]], kind: Any, limit: int) -> None:
        """Adds the latest stretch to `spans`; of very many, neighbours become one."""
        since, now = self.clock.since, self.clock.now
        if spans and spans[-1][2] == kind:
            spans[-1][1] = now
        elif now > since or not spans:
            spans.append([since, now, kind])
        if len(spans) > limit:
            pairs = zip(spans[::2], spans[1::2], strict=False)
            spans[:] = [[a[0], b[1], a[2] if a[1] - a[0] >= b[1] - b[0] else b[2]] for a, b in pairs]

    def to_dict(self) -> dict[str, Any]:
        """All the page needs; times in milliseconds, texts safe to show."""
        told, course, summary = self.told, self.course, self.summary()
        return {
            "role": told.role or "client", "software": _SSH.sub("", told.software), "peer": told.peer,
            "peer_software": told.peer_software, "wall": self.wall, "error": told.error,
            "sentence": sentence(course), "took": _ms(course.took), "depth": course.trips.depth,
            "phases": [{**each, "title": Phase(each["number"]).title} for each in summary["phases"]],
            "bands": [[_ms(since), _ms(now), phase] for since, now, phase in self._phases],
            "spans": [[_ms(since), _ms(now), kind] for since, now, kind in self._spans],
            "trips": [
                [t.number, t.asked, _ms(t.began), t.answered, _ms(t.ended)] for t in course.trips.links
            ],
            "stalls": [
                [_ms(s.began), _ms(s.ended), s.kind, s.title, s.evidence, s.confidence, s.whose]
                for s in course.stalls.found
            ],
            "algorithms": [
                [n, told.algorithms[n], told.why.get(n, "")] for n in ALGORITHMS if n in told.algorithms
            ],
            "strict": told.strict if told.algorithms else None, "rekeys": told.rekeys,
            "messages": summary["messages"], "bytes": summary["bytes"], "dropped": self.lines.dropped,
            "head": self.lines.head if self.lines.dropped else 0,
            "rows": [_row_of(row) for row in self.lines.rows],
        }  # fmt: skip


class Waterfall:
    """A sink for one connection or, where records come with the number of their stream, for several.

    `close` writes the page to the file it was made with; `render` writes it anywhere, at any time.
    """

    def __init__(self, out: IO[str] | None = None, title: str = "glasshell") -> None:
        self._out = out
        self._title = title
        self._budget = Budget()
        self._stories: dict[int, Story] = {}
        self._left_out: set[int] = set()
        self.problems: list[str] = []
        """Sentences for the head of the page: what could not be read."""

    def __call__(self, record: Record | SubsystemRecord | Seen, stream: int = 0) -> None:
        """Takes one record; a `Seen` brings its stream with it."""
        seen = record if isinstance(record, Seen) else None
        told = record.record if isinstance(record, Seen) else record
        number = seen.stream if seen else stream
        story = self._stories.get(number)
        if story is None:
            if len(self._stories) >= MOST_CONNECTIONS:
                if len(self._left_out) < 100_000:
                    self._left_out.add(number)
                return
            limit = MOST_ROWS if len(self._stories) < 2 else MOST_ROWS // MOST_CONNECTIONS * 2
            story = self._stories[number] = Story(self._budget, limit)
        story(told, seen)

    def render(self, out: IO[str]) -> None:
        """Writes the page."""
        out.write(_page(self._title, {
            "title": visible(self._title),
            "problems": [visible(each) for each in self.problems],
            "left_out": len(self._left_out),
            "connections": [{"stream": n, **story.to_dict()} for n, story in sorted(self._stories.items())],
        }))  # fmt: skip

    def close(self) -> None:
        """Writes the page to its file and closes that; the second time it does nothing."""
        if self._out is not None and not self._out.closed:
            with self._out:
                self.render(self._out)


# ---- one line


def _row_of(row: Row) -> list[Any]:
    item = row if isinstance(row, Item) else Item(row.time, row.phase, row.layer, row.name)
    last = max(row.until, row.time)
    return [
        _ms(row.time), _ms(item.since), item.kind, row.phase.value, row.layer, row.name,
        -1 if row.sent is None else int(row.sent), row.facts, row.size, row.count, row.content, _ms(last),
        [_ms(mark) for mark in item.marks] if row.count > 1 else [], item.detail,
    ]  # fmt: skip


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _detail(record: Record | SubsystemRecord, seen: Seen | None) -> dict[str, Any]:
    """What a line opens to."""
    detail: dict[str, Any] = {}
    if isinstance(record, (MessageRecord, SubsystemRecord)):
        detail = _message(record)
    else:
        detail["facts"] = [[name, _flat(value)] for name, value in record.facts.items()]
    if seen is not None and seen.frames[0]:
        detail["frames"] = list(seen.frames)
    if seen is not None and seen.verified is not None:
        detail["verified"] = seen.verified
    return detail


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{text_of(name)}: {_flat(each)}" for name, each in value.items())[:MOST_TEXT]
    return text_of(plain(value))[:MOST_TEXT]


def _message(record: MessageRecord | SubsystemRecord) -> dict[str, Any]:
    payload, context = record.payload, record.context
    declared = lookup(context, record.number)
    shown = list(describe(payload, context))
    fields: list[list[Any]] = []
    for each in _fields(shown, 0):
        if len(fields) == MOST_FIELDS:
            break
        fields.append(each)
    end = min((each.start + 4 for each in _all(shown) if each.content), default=len(payload))
    detail = {
        "number": record.number, "context": context, "clause": declared.CLAUSE if declared else "",
        "length": len(payload), "hex": payload[: min(end, MOST_BYTES)].hex(), "fields": fields,
    }  # fmt: skip
    if isinstance(record, MessageRecord):
        detail |= {
            "seq": record.seq, "epoch": record.epoch, "packet": record.packet_length,
            "padding": record.padding_length, "wire": record.wire_length,
        }  # fmt: skip
    return detail


def _all(shown: Iterable[Shown]) -> Iterator[Shown]:
    for each in shown:
        yield each
        yield from _all(each.children)


def _fields(shown: Iterable[Shown], depth: int) -> Iterator[list[Any]]:
    """[depth, name, type, text, start, end, clause, secret] of each field, what is inside it after it."""
    for each in shown:
        text = "" if each.children else f"{len(each.value)} bytes" if each.content else each.text
        yield [depth, each.name, each.type, visible(text)[:MOST_TEXT], each.start, each.end, each.clause,
               int(each.secret)]  # fmt: skip
        yield from _fields(each.children, depth + 1)


# ---- the page


def _page(title: str, data: Mapping[str, Any]) -> str:
    here = files(__package__)
    html, style, *scripts = (here.joinpath(f"waterfall{end}").read_text("utf-8") for end in FILES)
    script = "".join(scripts)
    parts = {
        "{title}": _html(visible(title)),
        "{policy}": _policy(style, script),
        "{style}": style,
        "{script}": script,
        "{data}": _json(data),
    }
    page, *rest = html.split("{{")
    out = [page]
    for piece in rest:
        name, _, after = piece.partition("}}")
        out.append(parts[f"{{{name}}}"])
        out.append(after)
    return "".join(out)


def _policy(style: str, script: str) -> str:
    """Nothing may be fetched or run but the page's own style and program, known by their hashes."""
    own = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    return (
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none';"
        " form-action 'none'"
    ).format(*own)


def _json(data: Mapping[str, Any]) -> str:
    """JSON that is safe between script tags: no `<` and `&`, and ASCII only."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
