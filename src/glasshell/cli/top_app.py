"""The screen of `top`: one table of connections, looked at anew every second."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, ClassVar, Final

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from ..errors import SSHError
from ..system.connections import Survey
from ..wire import visible
from .columns import fitting, size
from .top_connection import ConnectionScreen
from .top_rows import TOP_COLUMNS, Rates, Row, arrange
from .top_table import LiveTable

__all__ = ["Top"]

KEYS: Final = """\
[b]j k[/b], arrows   down, up
[b]g G[/b]           to the first, to the last
[b]enter[/b]         open the connection
[b]/[/b]             filter by what stands in any column; [b]esc[/b]: all again
[b]s S[/b]           sort by the next column, by the one before
[b]r[/b]             sort the other way round
[b]p[/b], space      pause, and go on
[b]t[/b]             light or dark
[b]q[/b]             back, and out

In a connection of a server of ours
[b]tab[/b]           from the messages to the channels and back
[b]enter[/b]         what the message is made of
[b]G[/b]             follow what comes
[b]p[/b]             hold the list still

OUT and IN are as this machine sees them. CHAN and REKEY only our own
servers tell, over their status sockets.
"""
HINTS: Final = "q quit  enter open  / filter  s sort  r reverse  p pause  t theme  ? help"


class Help(ModalScreen[None]):
    """The keys."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help > VerticalScroll { width: 76; max-width: 100%; height: auto; max-height: 100%;
                            border: round $primary; padding: 0 1; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, "dismiss", show=False) for key in ("escape", "q", "question_mark", "enter")
    ]

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(KEYS)

    def action_dismiss_help(self) -> None:
        """Goes away."""
        self.dismiss(None)


class Top(App[None]):
    """`look` makes a survey and may block; it runs in a thread every `interval` seconds."""

    CSS = """
    #title, #state { height: 1; padding: 0 1; }
    #title { background: $primary; color: $text; text-style: bold; }
    #state { background: $panel; color: $text-muted; }
    #filter { display: none; height: 1; border: none; padding: 0 1; background: $surface; }
    #filter.open { display: block; }
    LiveTable { background: $background; scrollbar-size-vertical: 1; }
    #connections { height: 1fr; }
    """
    ENABLE_COMMAND_PALETTE = False
    TITLE = "glasshell top"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", show=False), Binding("question_mark", "help", show=False),
        Binding("slash", "filter", show=False), Binding("escape", "unfilter", show=False),
        Binding("s", "sort(1)", show=False), Binding("S", "sort(-1)", show=False),
        Binding("r", "reverse", show=False), Binding("p,space", "pause", show=False),
        Binding("t", "theme", show=False),
    ]  # fmt: skip

    def __init__(self, look: Callable[[], Survey], interval: float = 1.0) -> None:
        super().__init__()
        self._look = look
        self._interval = interval
        self._rates = Rates()
        self._survey: Survey | None = None
        self._rows: list[Row] = []
        self._filter = ""
        self._sort = next(at for at, column in enumerate(TOP_COLUMNS) if column.name == "OUT/s")
        self._reverse = True
        self._paused = False
        self._trouble = ""

    def compose(self) -> ComposeResult:
        yield Static("", id="title", markup=False)
        yield LiveTable(id="connections")
        yield Input(placeholder="filter", id="filter", compact=True)
        yield Static(HINTS, id="state", markup=False)

    def on_mount(self) -> None:
        self.theme = "textual-light" if _light_terminal() else "textual-dark"
        self.query_one("#connections").focus()
        self.run_worker(self._watch(), exclusive=True)

    # Looking

    async def _watch(self) -> None:
        while True:
            if not self._paused:
                await self.look()
            await asyncio.sleep(self._interval)

    async def look(self) -> None:
        """Looks once, and shows what there is."""
        try:
            found = await asyncio.to_thread(self._look)
        except SSHError as error:
            self._trouble = visible(str(error))
        else:
            self._trouble = ""
            self._survey = found
            self._rows = self._rates.rows(found)
            for screen in self.screen_stack:
                if isinstance(screen, ConnectionScreen):
                    screen.seen(self._rows)
        self.show()

    def show(self) -> None:
        """Draws the table and the lines above and below it."""
        table = self.screen_stack[0].query_one("#connections", LiveTable)
        column = TOP_COLUMNS[self._sort]
        rows = arrange(self._rows, self._filter, column, self._reverse)
        texts = [[each.text(row) for each in TOP_COLUMNS] for row in rows]
        width = (table.size.width or self.size.width) - 3
        heads = [f"{each.name}*" for each in TOP_COLUMNS]
        kept = fitting(heads, [each.keep for each in TOP_COLUMNS], texts, width)
        table.show(
            [TOP_COLUMNS[at].name for at in kept], [TOP_COLUMNS[at].right for at in kept],
            [row.key for row in rows], [[text[at] for at in kept] for text in texts], column.name,
        )  # fmt: skip
        home = self.screen_stack[0]
        home.query_one("#title", Static).update(self._title(len(rows)))
        home.query_one("#state", Static).update(self._state(table))

    def _title(self, shown: int) -> str:
        total = len(self._rows)
        parts = [socket.gethostname(), f"{total} connection{'' if total == 1 else 's'}"]
        if shown != total:
            parts[-1] = f"{shown} of {parts[-1]}"
        if self._survey and self._survey.servers:
            parts.append(f"{len(self._survey.servers)} of our servers")
        sending = sum(row.sending or 0.0 for row in self._rows)
        receiving = sum(row.receiving or 0.0 for row in self._rows)
        parts.append(f"out {size(sending)}/s in {size(receiving)}/s")
        if self._filter:
            parts.append(f"filter {self._filter!r}")
        if self._paused:
            parts.append("PAUSED")
        return "  ".join(parts)

    def _state(self, table: LiveTable) -> str:
        notes = self._survey.notes if self._survey else ()
        said = self._trouble or (notes[0] if notes else "")
        return said if said and (self._trouble or not table.has_focus) else f"{HINTS}{'  !' if said else ''}"

    def on_resize(self) -> None:
        if self._survey is not None:
            self.call_after_refresh(self.show)

    # Keys

    def action_help(self) -> None:
        """Shows the keys."""
        self.push_screen(Help())

    def action_theme(self) -> None:
        """Light or dark."""
        self.theme = "textual-light" if self.theme == "textual-dark" else "textual-dark"

    def action_pause(self) -> None:
        """Holds the table still, or goes on."""
        self._paused = not self._paused
        self.show()

    def action_sort(self, step: int) -> None:
        """Sorts by another column: one that is shown."""
        table = self.query_one("#connections", LiveTable)
        names = [head.rstrip("*") for head in table.heads]
        now = TOP_COLUMNS[self._sort].name
        at = (names.index(now) + step) % len(names) if now in names else 0
        self._sort = next(i for i, column in enumerate(TOP_COLUMNS) if column.name == names[at])
        self._reverse = TOP_COLUMNS[self._sort].right
        self.show()

    def on_data_table_header_selected(self, event: LiveTable.HeaderSelected) -> None:
        """A click on a head sorts by it, and a second one the other way round."""
        name = str(event.label).rstrip("*")
        at = next((i for i, column in enumerate(TOP_COLUMNS) if column.name == name), self._sort)
        self._reverse = not self._reverse if at == self._sort else TOP_COLUMNS[at].right
        self._sort = at
        self.show()

    def action_reverse(self) -> None:
        """The other way round."""
        self._reverse = not self._reverse
        self.show()

    def action_filter(self) -> None:
        """Asks for a filter."""
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.focus()

    def action_unfilter(self) -> None:
        """Everything is shown again."""
        self.query_one("#filter", Input).value = ""
        self._leave_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._filter = event.value
        self.show()

    def on_input_submitted(self, _: Any) -> None:
        self._leave_filter()

    def _leave_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("open")
        self.query_one("#connections").focus()

    def on_data_table_row_selected(self, event: LiveTable.RowSelected) -> None:
        """Opens the connection."""
        key = self.query_one("#connections", LiveTable).chosen
        row = next((row for row in self._rows if row.key == key), None)
        if row is not None and event.data_table.id == "connections":
            self.push_screen(ConnectionScreen(row))


def _light_terminal() -> bool:
    """Whether the terminal says that its background is light, as rxvt, Konsole and others do."""
    return os.environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15")
