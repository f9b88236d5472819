"""A table of Textual that is shown anew every second without losing its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text
from textual.binding import Binding
from textual.widgets import DataTable

__all__ = ["LiveTable"]


class LiveTable(DataTable[Text]):
    """`show` changes the cells that have changed, and keeps the cursor on the row that was chosen."""

    BINDINGS = [  # noqa: RUF012 (Textual's way)
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("g", "first", show=False),
        Binding("G", "last", show=False),
        Binding("ctrl+f", "page_down", show=False),
        Binding("ctrl+b", "page_up", show=False),
    ]

    def __init__(self, **more: Any) -> None:
        super().__init__(cursor_type="row", zebra_stripes=False, cell_padding=1, **more)
        self._heads: tuple[str, ...] = ()
        self._keys: list[str] = []
        self._cells: dict[str, Sequence[str]] = {}
        self._right: tuple[bool, ...] = ()
        self._chose = False
        """Whether the row under the cursor was chosen, and is to be followed."""

    def action_first(self) -> None:
        """To the first row, and stays there whichever that is."""
        self._chose = False
        self.move_cursor(row=0)

    def action_last(self) -> None:
        """To the last row."""
        self._chose = True
        self.move_cursor(row=max(0, self.row_count - 1))

    def action_cursor_down(self) -> None:
        """One row down."""
        self._chose = True
        super().action_cursor_down()

    def action_cursor_up(self) -> None:
        """One row up."""
        self._chose = True
        super().action_cursor_up()

    def on_click(self) -> None:
        """The mouse has chosen a row."""
        self._chose = True

    @property
    def heads(self) -> tuple[str, ...]:
        """The columns shown."""
        return self._heads

    @property
    def chosen(self) -> str | None:
        """The key of the row under the cursor."""
        return self._keys[self.cursor_row] if 0 <= self.cursor_row < len(self._keys) else None

    def show(
        self, heads: Sequence[str], right: Sequence[bool], keys: Sequence[str],
        rows: Sequence[Sequence[str]], mark: str = "",
    ) -> None:  # fmt: skip
        """Shows `rows`; `mark` is the head of the column they are sorted by."""
        labels = tuple(f"{head}*" if head and head == mark else head for head in heads)
        with self.app.batch_update():
            if labels != self._heads or list(keys) != self._keys:
                self._rebuild(labels, tuple(right), keys, rows)
                return
            for key, row in zip(keys, rows, strict=True):
                for at, (before, cell) in enumerate(zip(self._cells[key], row, strict=True)):
                    if before != cell:
                        self.update_cell(key, str(at), self._cell(at, cell), update_width=True)
                self._cells[key] = row

    def _cell(self, at: int, text: str) -> Text:
        return Text(text, justify="right" if self._right[at] else "left", no_wrap=True)

    def _rebuild(
        self,
        labels: tuple[str, ...],
        right: tuple[bool, ...],
        keys: Sequence[str],
        rows: Sequence[Sequence[str]],
    ) -> None:
        chosen, place, scroll = self.chosen, self.cursor_row, self.scroll_y
        anew = labels != self._heads
        self.clear(columns=anew)
        self._heads, self._right, self._keys = labels, right, list(keys)
        if anew:
            for at, label in enumerate(labels):
                self.add_column(self._cell(at, label), key=str(at))
        for key, row in zip(keys, rows, strict=True):
            self.add_row(*(self._cell(at, cell) for at, cell in enumerate(row)), key=key)
        self._cells = dict(zip(keys, rows, strict=True))
        known = self._chose and chosen is not None and chosen in self._cells
        at = self._keys.index(chosen or "") if known else min(place, len(self._keys) - 1)
        self.move_cursor(row=max(0, at), scroll=False)
        self.scroll_to(y=scroll, animate=False)

    def append(self, key: str, row: Sequence[str], most: int) -> None:
        """Adds a row at the end; past `most` the first goes. A cursor on the last row stays on the last."""
        follow = self.cursor_row >= len(self._keys) - 1
        self.add_row(*(self._cell(at, cell) for at, cell in enumerate(row)), key=key)
        self._keys.append(key)
        self._cells[key] = row
        if len(self._keys) > most:
            first = self._keys.pop(0)
            del self._cells[first]
            self.remove_row(first)
        if follow:
            self.move_cursor(row=len(self._keys) - 1)
