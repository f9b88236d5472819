"""The ways `glasshell inspect` shows a capture: each takes its frames and records one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from ..errors import ConfigError
from ..observe.record import MessageRecord, StateRecord, SubsystemRecord
from ..observe.seen import Frame, Seen
from ..views.fields import Row, Rows, show, values_of
from ..views.fieldtable import ALIASES
from ..views.jsonl import compact, header
from ..views.replay import read_trace
from ..views.screen import coloured, fit
from ..views.tree import seen_object, tree_lines

if TYPE_CHECKING:
    from .inspect import Asked, Inspection

__all__ = ["Fields", "Objects", "Page", "Timelines", "Trees", "replay"]


class Filtered:
    """Whether a row holds what was asked for."""

    def __init__(self, asked: Asked) -> None:
        self._filter = asked.filter
        self._secrets = asked.secrets
        self._names = {name: ALIASES.get(name, name) for name in asked.filter.fields} if asked.filter else {}

    def __call__(self, row: Row) -> bool:
        """Whether it does."""
        if self._filter is None:
            return True
        found = values_of(row, self._names.values(), show_secrets=self._secrets)
        return self._filter(lambda name: found[self._names[name]])


class Fields:
    """`-T fields`: a line for each frame."""

    def __init__(self, asked: Asked, out: TextIO) -> None:
        self._rows = [row for _, row in asked.fields]
        self._names = [row.name for row in self._rows]
        self._layout = asked.layout
        self._secrets = asked.secrets
        self._holds = Filtered(asked)
        self._out = out
        self._gathered = Rows()
        if self._layout.header:
            out.write(self._layout.heading([name for name, _ in asked.fields]) + "\n")

    def __call__(self, item: Frame | Seen) -> None:
        """Takes one; a frame's line is written when the next one comes."""
        self._line(self._gathered.take(item))

    def close(self, troubles: Sequence[str] = ()) -> None:
        """Writes the last line."""
        self._line(self._gathered.end())

    def _line(self, row: Row | None) -> None:
        if row is None or not self._holds(row):
            return
        found = values_of(row, self._names, show_secrets=self._secrets)
        told = ([show(field, value) for value in found[field.name]] for field in self._rows)
        self._out.write(self._layout.line(told) + "\n")


class Records:
    """Each record by itself, with the frame that it came in."""

    def __init__(self, asked: Asked, out: TextIO) -> None:
        self._holds = Filtered(asked)
        self._secrets = asked.secrets
        self._out = out
        self._frame: Frame | None = None

    def __call__(self, item: Frame | Seen) -> None:
        """Takes one."""
        if isinstance(item, Frame):
            self._frame = item
            return
        frame = self._frame
        if frame is not None and frame.number != item.frames[1]:
            frame = None
        if self._holds(Row(frame, [item])):
            self.record(item, frame)

    def record(self, seen: Seen, frame: Frame | None) -> None:
        """Shows one."""
        raise NotImplementedError

    def close(self, troubles: Sequence[str] = ()) -> None:
        """Nothing more comes."""


class Trees(Records):
    """`-T text`: every field with its bytes."""

    def record(self, seen: Seen, frame: Frame | None) -> None:
        """Shows one."""
        for line in tree_lines(seen, frame, show_secrets=self._secrets):
            self._out.write(fit(line, self._out) + "\n")


class Objects(Records):
    """`-T json`, an array of objects, and `-T jsonl`, a record a line."""

    def __init__(self, asked: Asked, out: TextIO) -> None:
        super().__init__(asked, out)
        self._array = asked.form == "json"
        self._begun = False
        if self._array:
            out.write("[")

    def record(self, seen: Seen, frame: Frame | None) -> None:
        """Shows one."""
        shown = seen_object(seen, frame)
        if self._array:
            self._out.write(f"{',' if self._begun else ''}\n{json.dumps(shown, ensure_ascii=False)}")
            self._begun = True
            return
        first = isinstance(seen.record, StateRecord) and seen.record.name == "started"
        if first or not self._begun:
            self._begun = True
            begin = seen.record if isinstance(seen.record, StateRecord | MessageRecord) else _nothing()
            self._out.write(compact({**header(begin), "stream": seen.stream}) + "\n")
        self._out.write(compact(shown) + "\n")

    def close(self, troubles: Sequence[str] = ()) -> None:
        """Ends the array."""
        if self._array:
            self._out.write("\n]\n")


def _nothing() -> StateRecord:
    return StateRecord(0.0, "note", {})


class Timelines:
    """The default: a block for each connection, or for those with a record that the filter holds for."""

    def __init__(self, asked: Asked, out: TextIO) -> None:
        from ..views.connections import Connections

        self._connections = Connections(out, color=coloured(out))
        self._out = out
        self._stream = asked.stream
        self._holds = Filtered(asked) if asked.filter is not None else None
        self._frame: Frame | None = None

    def __call__(self, item: Frame | Seen) -> None:
        """Takes one."""
        if isinstance(item, Frame):
            self._frame = item
            return
        wanted = True
        if self._holds is not None:
            frame = self._frame if self._frame and self._frame.number == item.frames[1] else None
            wanted = self._holds(Row(frame, [item]))
        self._connections(item, wanted=wanted)

    def close(self, troubles: Sequence[str] = ()) -> None:
        """Draws what has not ended; says where there is nothing to draw."""
        self._connections.close()
        if not self._connections.drawn:
            where = "" if self._stream is None else f" in stream {self._stream}"
            held = "" if self._holds is None else " that the filter holds for"
            self._out.write(f"no SSH connection{where}{held}\n")


class Page:
    """`--html FILE`: the connections as one page; only the owner may read it."""

    def __init__(self, asked: Asked, path: str) -> None:
        from ..views.files import open_private
        from ..views.waterfall import Waterfall

        self._path = path
        self._page = Waterfall(open_private(path, "page"), "glasshell inspect")
        self._holds = Filtered(asked)
        self._frame: Frame | None = None

    def __call__(self, item: Frame | Seen) -> None:
        """Takes one; of messages those that the filter holds for are on the page."""
        if isinstance(item, Frame):
            self._frame = item
            return
        frame = self._frame if self._frame and self._frame.number == item.frames[1] else None
        if isinstance(item.record, StateRecord) or self._holds(Row(frame, [item])):
            self._page(item)

    def close(self, troubles: Sequence[str] = ()) -> None:
        """Writes the page."""
        from ..views.files import cannot_write

        self._page.problems += troubles
        try:
            self._page.close()
        except OSError as error:
            raise cannot_write("page", self._path, error) from error


def replay(path: str, form: str, view: Inspection) -> None:
    """Shows a trace of our own: one connection, told from the seat of whoever wrote it.

    Raises ConfigError for a file that is none.
    """
    with Path(path).open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        try:
            for record in read_trace(_lines(file), form):
                sent = record.sent if isinstance(record, MessageRecord | SubsystemRecord) else None
                view(Seen(record, 0, sent))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}", hint=error.hint) from error


MAX_LINE: Final = 16 << 20
"""Longest line of a trace, in characters."""


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise ConfigError(f"a line of more than {MAX_LINE} characters: this is no trace")
        if line.strip():
            yield line
