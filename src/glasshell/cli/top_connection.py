"""One connection in `top`: what TCP and the server know of it, its channels, its messages as they pass."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from ..messages.declare import lookup
from ..system.status import MAX_LINE, sane
from ..wire import visible
from .columns import UNKNOWN, age, count, milliseconds, size
from .top_rows import Row
from .top_table import LiveTable

__all__ = ["ConnectionScreen", "records"]

MAX_SHOWN: Final = 1000
"""Most lines of the list of messages."""
MAX_WAITING: Final = 2000
MAX_CHANNELS: Final = 100
PERIOD: Final = 0.1
"""Seconds between two drawings of what has come."""

CHANNELS: Final = ("CHAN", "TYPE", "STATE", "OUT", "IN", "OUT/s", "IN/s", "WINDOW", "PEER WINDOW", "UNREAD")
MESSAGES: Final = ("TIME", "", "MESSAGE", "CH", "BYTES", "SEQ")
HINTS: Final = "q back  tab channels/messages  enter detail  G follow  p hold  ? help"


async def records(path: Path, number: int) -> AsyncGenerator[dict[str, Any], None]:
    """What the server at `path` tells of its connection `number`, until either is over.

    Raises OSError or ValueError.
    """
    reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_LINE)
    try:
        writer.write(f"records {number}\n".encode())
        while line := await reader.readline():
            shown = json.loads(line)
            if isinstance(shown, dict):
                yield sane(shown)
    finally:
        writer.close()


class Detail(ModalScreen[None]):
    """What one line of the list is: the fields that the message has, and what is known of this one."""

    DEFAULT_CSS = """
    Detail { align: center middle; }
    Detail > VerticalScroll { width: 76; max-width: 100%; height: auto; max-height: 100%;
                              border: round $primary; padding: 0 1; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, "app.pop_screen", show=False) for key in ("escape", "q", "enter")
    ]

    def __init__(self, shown: dict[str, Any]) -> None:
        super().__init__()
        self._shown = shown

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(detail(self._shown))


class ConnectionScreen(Screen[None]):
    """Opened with the row of a connection; `seen` brings each later look."""

    DEFAULT_CSS = """
    ConnectionScreen #name { height: 1; padding: 0 1; background: $primary; color: $text; text-style: bold; }
    ConnectionScreen #facts { height: auto; max-height: 8; padding: 0 1;
                              text-wrap: nowrap; text-overflow: ellipsis; }
    ConnectionScreen #channels { height: auto; max-height: 30%; min-height: 3; border-top: solid $primary; }
    ConnectionScreen #messages { height: 1fr; border-top: solid $primary; }
    ConnectionScreen #hint { height: 1; padding: 0 1; background: $panel; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,escape", "app.pop_screen", show=False), Binding("tab", "app.focus_next", show=False),
        Binding("p,space", "hold", show=False), Binding("question_mark", "app.help", show=False),
        Binding("t", "app.theme", show=False),
    ]  # fmt: skip

    def __init__(self, row: Row) -> None:
        super().__init__()
        self._row = row
        self._told: dict[str, dict[str, Any]] = {}
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MAX_WAITING)
        self._number = 0
        self._held = False
        self._over = ""
        self._ready = False
        self._before: dict[int, tuple[float, int, int]] = {}

    def compose(self) -> ComposeResult:
        yield Static("", id="name", markup=False)
        yield Static("", id="facts", markup=False)
        if self._row.connection.server is not None:
            yield LiveTable(id="channels")
            yield LiveTable(id="messages")
        yield Static(HINTS, id="hint", markup=False)

    def on_mount(self) -> None:
        connection = self._row.connection
        self._ready = True
        self._draw()
        if connection.server is None or connection.server_path is None:
            return
        table = self.query_one("#messages", LiveTable)
        table.show(MESSAGES, (True, False, False, True, True, True), (), ())
        table.focus()
        number = connection.server.get("id")
        if isinstance(number, int):
            self.run_worker(self._listen(connection.server_path, number))
        self.set_interval(PERIOD, self._deliver)

    # What comes

    def seen(self, rows: Sequence[Row]) -> None:
        """A new look at the machine."""
        found = next((row for row in rows if row.key == self._row.key), None)
        if found is None:
            self._over = self._over or "the connection is over"
        else:
            self._row = found
        if self._ready:
            self._draw()

    async def _listen(self, path: Path, number: int) -> None:
        try:
            async with aclosing(records(path, number)) as told:
                async for shown in told:
                    if shown.get("type") in ("over", "error"):
                        self._over = visible(str(shown.get("text")))
                        break
                    if shown.get("type") in ("message", "state", "skipped"):
                        self._waiting.append(shown)
                else:
                    self._over = self._over or "the server is gone"
        except (OSError, ValueError) as error:
            self._over = f"the server does not tell: {visible(str(error))}"
        self._draw()

    def _deliver(self) -> None:
        if self._held or not self._waiting:
            return
        table = self.query_one("#messages", LiveTable)
        with self.app.batch_update():
            while self._waiting:
                self._number += 1
                shown = self._waiting.popleft()
                self._told[str(self._number)] = shown
                self._told.pop(str(self._number - MAX_SHOWN), None)
                table.append(str(self._number), line(shown), MAX_SHOWN)

    # What is drawn

    def _draw(self) -> None:
        connection = self._row.connection
        user = f"{visible(connection.user)}  " if connection.user else ""
        text = f"{user}{connection.socket.peer} {_arrow(connection.direction)} {connection.socket.local}"
        self.query_one("#name", Static).update(f"{text}  {self._over.upper()}" if self._over else text)
        self.query_one("#facts", Static).update("\n".join(facts(self._row)))
        if connection.server is not None:
            self._draw_channels()

    def _draw_channels(self) -> None:
        clock = float(self._row.connection.age or 0.0)
        before, self._before = self._before, {}
        rows: dict[str, list[str]] = {}
        for channel in self._row.channels[:MAX_CHANNELS]:
            number = _integer(channel.get("id"))
            now = clock, _integer(channel.get("sent")), _integer(channel.get("received"))
            self._before[number] = now
            rows[str(number)] = channel_row(channel, now, before.get(number))
        right = [head not in ("TYPE", "STATE") for head in CHANNELS]
        table = self.query_one("#channels", LiveTable)
        table.show(CHANNELS, right, list(rows), list(rows.values()))

    # Keys

    def action_hold(self) -> None:
        """Holds the list of messages still, or goes on: what came meanwhile is shown, the last 2,000."""
        self._held = not self._held
        self.query_one("#hint", Static).update(f"HELD  {HINTS}" if self._held else HINTS)

    def on_data_table_row_selected(self, event: LiveTable.RowSelected) -> None:
        """Shows what a message is made of."""
        event.stop()
        chosen = self.query_one("#messages", LiveTable).chosen
        if event.data_table.id == "messages" and chosen in self._told:
            self.app.push_screen(Detail(self._told[chosen]))


def _arrow(direction: str) -> str:
    return {"in": "->", "out": "<-"}.get(direction, "--")


def _integer(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _word(value: Any) -> str:
    return visible(str(value))[:40] if value else UNKNOWN


def channel_row(
    channel: Mapping[str, Any], now: tuple[float, int, int], then: tuple[float, int, int] | None
) -> list[str]:
    """A channel as a row; `now` and `then` are (seconds, bytes out, bytes in) of this look and the last."""
    rates: list[float | None] = [None, None]
    if then is not None and now[0] > then[0]:
        rates = [(now[at] - then[at]) / (now[0] - then[0]) for at in (1, 2)]
    window, full = _integer(channel.get("window")), _integer(channel.get("window_size"))
    return [
        str(_integer(channel.get("id"))), _word(channel.get("type")), _word(channel.get("state")),
        size(now[1]), size(now[2]), *map(size, rates), f"{size(window)}/{size(full)}",
        size(_integer(channel.get("peer_window"))), size(_integer(channel.get("unread"))),
    ]  # fmt: skip


def facts(row: Row) -> list[str]:
    """What is known of a connection, line by line."""
    connection, told = row.connection, row.connection.server
    process, info = connection.process, connection.socket.info
    lines = []
    if process is not None:
        lines.append(f"process  {process.pid} {process.program} ({visible(process.user)}): {process.command}")
    if info is not None:
        lines.append(
            f"tcp      rtt {milliseconds(info.rtt)} (min {milliseconds(info.min_rtt)}), cwnd {info.cwnd}"
            f" x {info.mss}, retransmits {info.retransmits}, {connection.socket.congestion}"
            f", sent {size(info.bytes_sent)}, received {size(info.bytes_received)}"
        )
    if told is None:
        return [
            *lines,
            "ssh      encrypted: only our own servers tell what is inside",
        ]
    chosen = told.get("algorithms")
    if isinstance(chosen, dict):
        names = [_word(chosen.get(name)) for name in ("kex", "host_key", "cipher_c2s", "mac_c2s")]
        names = [name for name in names if name != "<implicit>"]
        if chosen.get("cipher_c2s") != chosen.get("cipher_s2c"):
            names.append(f"to the client {_word(chosen.get('cipher_s2c'))}")
        lines.append(f"crypto   {', '.join(names)}, strict {'yes' if chosen.get('strict') else 'no'}")
    sent, received = _integer(told.get("sent")), _integer(told.get("received"))
    lines.append(
        f"ssh      {_word(told.get('peer_software'))}, {_word(told.get('state'))}, age {age(connection.age)},"
        f" out {size(sent)}, in {size(received)}, rekeys {count(_integer(told.get('rekeys')))}"
    )
    return lines


def line(shown: dict[str, Any]) -> tuple[str, ...]:
    """One record as a row of the list."""
    time = shown.get("time")
    when = f"{time:.3f}" if isinstance(time, (int, float)) else ""
    if shown.get("type") == "skipped":
        left_out = f"... {_integer(shown.get('messages'))} more"
        return "", "", left_out, "", size(_integer(shown.get("wire_length"))), ""
    if shown.get("type") == "state":
        told = shown.get("facts")
        text = " ".join(f"{name}={value}" for name, value in told.items()) if isinstance(told, dict) else ""
        return when, "", f"  {_word(shown.get('name'))} {visible(text)}"[:120].rstrip(), "", "", ""
    arrow = "->" if shown.get("direction") == "received" else "<-"
    channel = shown.get("recipient_channel")
    return (
        when, arrow, _word(shown.get("name")).removeprefix("SSH_MSG_"),
        "" if channel is None else str(_integer(channel)),
        str(_integer(shown.get("wire_length"))), str(_integer(shown.get("seq"))),
    )  # fmt: skip


def detail(shown: dict[str, Any]) -> Text:
    """Everything that was told of a record, and of a message the fields that it has by the catalogue."""
    text = Text()
    for name, value in shown.items():
        if isinstance(value, dict):
            text.append(f"{name}\n", "bold")
            for inner, each in value.items():
                text.append(f"  {visible(str(inner))[:40]:<14} {visible(str(each))[:500]}\n")
        elif name != "type":
            text.append(f"{visible(str(name))[:40]:<18}", "bold").append(f" {visible(str(value))[:500]}\n")
    found = None
    if shown.get("type") == "message":
        with suppress(TypeError):
            found = lookup(str(shown.get("context", "")), _integer(shown.get("number")))
    if found is not None:
        text.append(f"\n{found.NAME} is made of ({found.CLAUSE})\n", "bold")
        for field in found.FIELDS:
            secret = "  (secret)" if field.type.secret else ""
            text.append(f"  {field.type.name:<12} {field.name}{secret}\n")
        text.append("\nThe contents stay in the server: the status socket tells none.", "dim")
    return text
