"""The log in OpenSSH's own words: `-v`, `-vv`, `-vvv` of a client and `-d`, `-dd`, `-ddd` of a server.

The wording is that of OpenSSH 9.2, line by line, so that what people and programs look for in its log
is found in ours (ssh(1), LogLevel in ssh_config(5)). Nothing else in this library knows these words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import MalformedMessage
from ..messages import decode
from ..observe.record import MessageRecord, Record, StateRecord
from ..wire import visible
from . import Role
from .lines import PACKET, Handler, Line, Lines, Story
from .log_auth import AuthLines
from .log_connection import ConnectionLines
from .log_transport import TransportLines

BULK: Final = frozenset({93, 94, 95})
"""Window adjustments and data: OpenSSH says no word of them below `-vv`."""

UNNAMED: Final = BULK | {192, 193}
"""Messages that OpenSSH takes and sends without saying their number."""

KEXINIT: Final = 20
USERAUTH_SUCCESS: Final = 52


class LogView:
    """A sink that writes one connection's log, line by line, each ending in CR LF as OpenSSH's do.

    `level` 0 writes errors and what everybody is told, 1 to 3 add `debug1` to `debug3`. With `preauth`
    a server's lines end in ` [preauth]` until the client has logged in, where OpenSSH's do. What a
    peer sent is written with its control characters escaped.
    """

    def __init__(
        self, write: Callable[[str], object], level: int, role: Role, preauth: bool = False
    ) -> None:
        self._write = write
        self._level = level
        self._story = story = Story(role)
        self._suffix = " [preauth]" if preauth and role == "server" else ""
        self._unknown_user = False
        makers = (TransportLines(story), AuthLines(story), ConnectionLines(story))
        self._messages: Mapping[tuple[bool, int], Handler] = {
            key: handler for maker in makers for key, handler in maker.messages().items()
        }
        self._states: dict[str, list[Handler]] = {}
        for maker in makers:
            for name, handler in maker.states().items():
                self._states.setdefault(name, []).append(handler)

    @property
    def told(self) -> bool:
        """Whether an error has been written, so that nobody needs to say it again."""
        return bool(self._story.errors)

    def __call__(self, record: Record) -> None:
        """Writes the lines of one record."""
        if isinstance(record, MessageRecord):
            self._message(record)
        else:
            self._state(record)

    def _state(self, record: StateRecord) -> None:
        facts = {**record.facts, "time": record.time}
        for handler in self._states.get(record.name, ()):
            self._say(handler(facts))

    def _message(self, record: MessageRecord) -> None:
        if record.number in BULK and self._level < 2:
            return
        if record.number == KEXINIT and not self._story.authenticated:
            self._unknown_user = True
        packet = PACKET
        if record.number not in UNNAMED:
            verb = "send" if record.sent else "receive"
            packet = Line(3, f"debug3: {verb} packet: type {record.number}")
        self._say(packet if line is PACKET else line for line in self._lines_of(record))
        if record.number == USERAUTH_SUCCESS:
            self._unknown_user = False

    def _lines_of(self, record: MessageRecord) -> Lines:
        handler = self._messages.get((record.sent, record.number))
        if handler is None:
            return (PACKET,)
        try:
            message: Any = decode(record.payload, record.context)
        except MalformedMessage:
            return (PACKET,)
        return handler(message)

    def _say(self, lines: Lines) -> None:
        for line in lines:
            if line.level <= self._level and line.text:
                suffix = self._suffix if self._unknown_user and line.preauth else ""
                # Whatever a line is made of, it is one line, and nothing that a terminal obeys.
                self._write(f"{visible(line.text)}{suffix}\r\n")
