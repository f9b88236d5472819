"""Session recordings: asciicast v2 and v3 of every session that has a terminal, seen from either end.

Times are those of the packets. What the terminal showed is recorded, with its size and the exit status;
what was typed only where that is asked for: it holds passwords that no terminal shows.
"""

from __future__ import annotations

import codecs
import json
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

from ..errors import ConfigError, MalformedMessage
from ..messages import connection as c
from ..messages import decode
from ..observe.record import MessageRecord, Record, StateRecord
from ..wire import visible
from .files import open_private

__all__ = ["Recording", "Session", "open_recording"]

Version: TypeAlias = Literal[2, 3]
Open: TypeAlias = "Callable[[Session, int], IO[str]]"

MAX_EARLY: Final = 64
MAX_SESSIONS: Final = 256
"""Most channels of one connection that are followed at the same time."""
MAX_REQUESTS: Final = 64
"""Most requests of one channel whose answers are awaited; what comes beyond is taken as granted."""
MAX_NAME: Final = 32
V3: Final = ".v3.cast"

SIGNALS: Final = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11,
    "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
}  # fmt: skip
"""A program that a signal ended has the status 128 and the signal's number, as shells have it."""

DATA, EXTENDED, CLOSE, REQUEST, SUCCESS, FAILURE = 94, 95, 97, 98, 99, 100
CONFIRMATION: Final = 91


@dataclass(slots=True, eq=False)
class Session:
    """One channel: what was asked for on it, and its recording once that has begun."""

    channel: int
    user: str = ""
    peer: str = ""
    connection: str = ""
    pty: c.PtyReq | None = None
    command: str = ""
    shell: str = ""
    started: float | None = None
    began: float = 0.0
    """The same in seconds since 1970."""
    exit: tuple[float, int] | None = None
    """When the program ended, and its status."""
    asked: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_REQUESTS))
    cast: Cast | None = None

SIZE: Final = (80, 24)
"""Columns and rows of a terminal that was given no size: what a program takes for granted then."""


class Cast:
    """Writes one asciicast file."""

    def __init__(self, file: IO[str], version: Version, start: float) -> None:
        self._file = file
        self._version = version
        self._start = start
        self._last = 0
        new = codecs.getincrementaldecoder("utf-8")
        self._text = {"o": new("replace"), "i": new("replace")}

    def header(self, session: Session) -> None:
        """The first line, and for v3 a comment that says which connection this was."""
        pty = session.pty
        assert pty is not None
        shown: dict[str, Any]
        columns, rows = pty.columns or SIZE[0], pty.rows or SIZE[1]
        if self._version == 2:
            shown = {"version": 2, "width": columns, "height": rows}
        else:
            shown = {"version": 3, "term": {"cols": columns, "rows": rows, "type": visible(pty.term)}}
        shown["timestamp"] = int(session.began)
        if session.command:
            shown["command"] = visible(session.command)
        shown["title"] = visible(f"{session.user}@{session.peer}" if session.user else session.peer)
        env = {"TERM": visible(pty.term)} if self._version == 2 else {}
        if session.shell:
            env["SHELL"] = visible(session.shell)
        if env:
            shown["env"] = env
        self._line(shown)
        if self._version == 3:
            self._file.write(f"# connection {session.connection}, channel {session.channel}\n")

    def data(self, time: float, code: Literal["o", "i"], data: bytes) -> None:
        """What was shown or typed; a character that two packets share is written with its end."""
        if text := self._text[code].decode(data):
            self.event(time, code, text)

    def event(self, time: float, code: str, text: str) -> None:
        """One event: v2 counts seconds from the start, v3 from the event before; both in microseconds."""
        now = max(round((time - self._start) * 1e6), self._last)
        shown = now if self._version == 2 else now - self._last
        self._last = now
        self._line([shown / 1e6, code, text])

    def close(self, time: float, exit: tuple[float, int] | None) -> None:
        """Writes what is left of a character, and for v3 the exit status."""
        for code, text in self._text.items():
            if rest := text.decode(b"", final=True):
                self.event(time, code, rest)
        if self._version == 3 and exit is not None:
            self.event(exit[0], "x", str(exit[1]))
        self._file.close()

    def _line(self, shown: Any) -> None:
        self._file.write(json.dumps(shown, ensure_ascii=False) + "\n")


class Recording:
    """A sink that records each session on a terminal into a file of its own, which `open` opens.

    `open(session, n)` gives the file of the n-th, counted from 1. With `input` what is typed is recorded
    too. `recorded` counts the files begun. A file is complete up to the last packet told.
    """

    def __init__(self, open: Open, *, version: Version = 2, input: bool = False) -> None:
        self.recorded = 0
        self._open = open
        self._version = version
        self._input = input
        self._server = False
        self._wall_time = 0.0
        self._now = 0.0
        self._user = self._peer = self._connection = ""
        self._sessions: dict[int, Session] = {}
        self._ours: dict[int, int] = {}
        """The peer's number of a channel -> ours."""
        self._early: deque[tuple[int, MessageRecord]] = deque(maxlen=MAX_EARLY)
        """Requests to channels that are not open yet: a client may know what number one will have."""

    def __call__(self, record: Record) -> None:
        """Takes one record."""
        self._now = record.time
        if isinstance(record, StateRecord):
            self._state(record)
        elif isinstance(record, MessageRecord) and CONFIRMATION <= record.number <= FAILURE:
            try:
                self._message(record)
            except MalformedMessage:
                return  # the connection ends for it, which says why

    def close(self) -> None:
        """Ends every file."""
        for session in tuple(self._sessions.values()):
            self._end(session)

    def _state(self, record: StateRecord) -> None:
        facts = record.facts
        match record.name:
            case "started":
                self._server = facts.get("role") == "server"
                self._wall_time = float(facts.get("wall_time") or 0.0)
                self._connection = str(facts.get("id", ""))
            case "connected" | "accepted":
                self._peer = str(facts.get("address", ""))
            case "authenticated":
                self._user = str(facts.get("user", ""))
            case "closed":
                self.close()

    def _message(self, record: MessageRecord) -> None:
        if record.number == CONFIRMATION:
            message: Any = decode(record.payload, record.context)
            ends = message.recipient_channel, message.sender_channel
            peers, ours = ends if record.sent else reversed(ends)
            if len(self._sessions) < MAX_SESSIONS:
                self._ours[peers] = ours
                self._sessions[ours] = Session(ours, self._user, self._peer, self._connection)
                waiting, self._early = self._early, deque(maxlen=MAX_EARLY)
                for early in (each for number, each in waiting if number == peers):
                    self._message(early)
            return
        number = int.from_bytes(record.payload[1:5], "big")
        session = self._sessions.get(self._ours.get(number, -1) if record.sent else number)
        if session is None:
            if record.sent and record.number == REQUEST and number not in self._ours:
                self._early.append((number, record))
            return
        if record.number in (DATA, EXTENDED):
            self._data(session, record)
        elif record.number == CLOSE:
            self._end(session)
            self._ours = {peers: ours for peers, ours in self._ours.items() if ours != session.channel}
        elif record.number == REQUEST:
            self._request(session, decode(record.payload, record.context), record)
        elif record.number in (SUCCESS, FAILURE):
            self._answer(session, granted=record.number == SUCCESS, record=record)

    def _data(self, session: Session, record: MessageRecord) -> None:
        shown = record.sent == self._server
        if session.pty is None or session.started is None or not (shown or self._input):
            return
        self._begin(session)
        header = c.CHANNEL_DATA_HEADER if record.number == DATA else c.EXTENDED_DATA_HEADER
        if session.cast is not None:
            session.cast.data(record.time, "o" if shown else "i", record.payload[header.size :])

    def _request(self, session: Session, message: Any, record: MessageRecord) -> None:
        body, asked_by_client = message.body, record.sent != self._server
        if asked_by_client and message.want_reply:
            session.asked.append(message.request_type)
        match body:
            case c.PtyReq() if asked_by_client and session.started is None:
                session.pty = body
            case c.Env(name="SHELL", value=value) if asked_by_client:
                session.shell = value
            case c.Shell() | c.Exec() | c.Subsystem() if asked_by_client and session.started is None:
                session.started = record.time
                session.began = self._wall_time + record.time
                session.command = body.command if isinstance(body, c.Exec) else ""
            case c.WindowChange() if asked_by_client:
                self._resize(session, body)
            # Output may still come: the file ends with the channel.
            case c.ExitStatus(status=status) if not asked_by_client:
                session.exit = record.time, status
            case c.ExitSignal(signal_name=name) if not asked_by_client and name in SIGNALS:
                session.exit = record.time, 128 + SIGNALS[name]

    def _answer(self, session: Session, *, granted: bool, record: MessageRecord) -> None:
        if record.sent != self._server or not session.asked:
            return
        what = session.asked.popleft()
        if what == "pty-req" and not granted:
            session.pty = None
        elif what in ("shell", "exec", "subsystem"):
            if granted:
                self._begin(session)
            else:
                session.started = None

    def _resize(self, session: Session, size: c.WindowChange) -> None:
        if not (size.columns and size.rows):  # RFC 4254 6.2: zero is to be ignored
            return
        if session.cast is not None:
            session.cast.event(self._now, "r", f"{size.columns}x{size.rows}")
        elif session.pty is not None:
            old = session.pty
            session.pty = c.PtyReq(old.term, size.columns, size.rows, size.width, size.height, old.modes)

    def _begin(self, session: Session) -> None:
        """Opens the file, where the session has a terminal and a program."""
        if session.cast is not None or session.pty is None or session.started is None:
            return
        self.recorded += 1
        file = self._open(session, self.recorded)
        session.cast = Cast(file, self._version, session.started)
        session.cast.header(session)

    def _end(self, session: Session) -> None:
        """The channel is over."""
        if session.cast is not None:
            session.cast.close(self._now, session.exit)
        self._sessions.pop(session.channel, None)


class OneFile(Recording):
    """Records into `path`, and into NAME-2, NAME-3 and so on what else of the connection has a terminal.

    Without a session on a terminal no file is left.
    """

    def __init__(self, path: Path, *, input: bool) -> None:
        """Raises ConfigError where `path` cannot be written: before a host is asked."""
        self._path = path
        self._ending = V3 if path.name.lower().endswith(V3) else ".cast"
        self._first = open_private(path, "recording")
        super().__init__(self._opened, version=3 if self._ending == V3 else 2, input=input)

    def _opened(self, _: Session, number: int) -> IO[str]:
        if number == 1:
            return self._first
        base = self._path.name[: -len(self._ending)]
        return open_private(self._path.with_name(f"{base}-{number}{self._ending}"), "recording")

    def close(self) -> None:
        super().close()
        if not self.recorded and not self._first.closed:
            self._first.close()
            if self._path.is_file() and not self._path.stat().st_size:
                self._path.unlink()


def open_recording(path: str | os.PathLike[str], *, input: bool = False) -> Recording:
    """Records into `path`: the file of one session, or a folder that takes a file of each.

    A file whose name ends in `.v3.cast` is asciicast v3, any other `.cast` is v2, and so is what a folder
    takes. Only the owner may read them. Raises ConfigError for another ending, and for what cannot be
    written.
    """
    target = Path(path)
    if target.is_dir():
        return Recording(lambda session, _: _in_folder(target, session), input=input)
    if target.suffix.lower() != ".cast":
        raise ConfigError(
            f"cannot tell the form of a recording from {target.name!r}: "
            "its name ends in .cast (asciicast v2) or .v3.cast, or it is a folder"
        )
    return OneFile(target, input=input)


def _in_folder(folder: Path, session: Session) -> IO[str]:
    """A new file, named by time, user, connection and channel."""
    user = "".join(char for char in session.user if char.isascii() and (char.isalnum() or char in "._-"))
    stamp = datetime.fromtimestamp(session.began, UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"{stamp}-{user[:MAX_NAME] or 'nobody'}-{session.connection}-{session.channel}.cast"
    return open_private(folder / name, "recording", new=True)
