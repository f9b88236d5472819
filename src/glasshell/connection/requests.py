"""RFC 4254 §6: who may ask what of a channel and when, and answers in the order of the questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from ..errors import LimitExceeded, MalformedMessage, UsageError
from ..messages.connection import (
    CHANNEL_REQUESTS,
    Env,
    Exec,
    PtyReq,
    Subsystem,
    WindowChange,
    decode_modes,
    encode_modes,
)
from ..messages.declare import Struct

Role = Literal["client", "server"]

EOW: Final = "eow@openssh.com"
KEEPALIVE: Final = "keepalive@openssh.com"

PROGRAMS: Final = frozenset({"shell", "exec", "subsystem"})
"""Only one of these can succeed on a channel (RFC 4254 §6.5)."""

BEFORE_PROGRAM: Final = frozenset({"pty-req", "env"})
"""These are about a program that is to be started (RFC 4254 §6.2, §6.4)."""

EXITS: Final = frozenset({"exit-status", "exit-signal"})

SENDER: Final[Mapping[str, Role]] = {
    "pty-req": "client", "x11-req": "client", "env": "client", "shell": "client", "exec": "client",
    "subsystem": "client", "window-change": "client", "signal": "client", "break": "client",
    "auth-agent-req@openssh.com": "client", "agent-req": "client",
    "xon-xoff": "server", "exit-status": "server", "exit-signal": "server",
}  # fmt: skip
"""Who sends a request about a session; the clauses stand with the bodies in the catalogue."""

OPENS: Final[Mapping[str, str]] = {
    "x11-req": "x11", "auth-agent-req@openssh.com": "auth-agent@openssh.com", "agent-req": "agent-connect",
}  # fmt: skip
"""The type of channel that a request of ours, once granted, lets the server open."""

MAX_TERM: Final = 128
MAX_SIZE: Final = 0xFFFF
"""Rows, columns and pixels of a terminal have 16 bits in every system's `struct winsize`."""

QUESTION_COST: Final = 1024
"""What a question costs us beside the bytes of its message, roughly."""


def verdict(
    kind: str, body: Struct | bytes, *, sender: Role, session: bool, program: str
) -> bool | None:
    """The answer to a request that the application need not be asked about, or None: ask it.

    `program` is empty until a shell, command or subsystem was asked for. Requests that come from
    the wrong side, on the wrong channel or too late are refused; requests that nobody here knows
    are asked about.
    """
    if kind == EOW:
        return True
    if kind == KEEPALIVE:
        return False  # any answer proves that we live; OpenSSH gives this one
    if kind not in SENDER:
        return None
    if SENDER[kind] != sender or sender == "server" or not session:
        return False
    if program and kind in PROGRAMS | BEFORE_PROGRAM:
        return False
    return False if objection(body) else None


def objection(body: Struct | bytes) -> str:
    """Why no system can do what a request's fields say; empty where it could."""
    match body:
        case PtyReq() if not body.term.isprintable() or len(body.term) > MAX_TERM:
            return "a terminal type with unprintable characters, or too long"
        case PtyReq() if not _readable_modes(body.modes):
            return "terminal modes that cannot be read"
        case PtyReq() | WindowChange() if max(body.columns, body.rows, body.width, body.height) > MAX_SIZE:
            return "a terminal that large does not exist"
        case Env() if not body.name or "=" in body.name or "\0" in body.name + body.value:
            return "not a variable of an environment"
        case Exec() if "\0" in body.command:
            return "a command with a NUL"
        case Subsystem() if not body.name or "\0" in body.name:
            return "not a name of a subsystem"
    return ""


def _readable_modes(modes: bytes) -> bool:
    try:
        decode_modes(modes)
    except MalformedMessage:
        return False
    return True


# --- what we send


def name_of(body: Struct) -> str:
    """The request type that `body` belongs to. Raises UsageError for another structure."""
    for name, declared in CHANNEL_REQUESTS.items():
        if type(body) is declared:
            return name
    raise UsageError(f"{type(body).__name__} is not the body of a channel request")


def pty_req(
    term: str, columns: int, rows: int, *, width: int = 0, height: int = 0,
    modes: Mapping[int, int] | None = None,
) -> PtyReq:  # fmt: skip
    """The body of `pty-req` (RFC 4254 §6.2); sizes in characters and pixels, `modes` by opcode (§8)."""
    return PtyReq(term, columns, rows, width, height, encode_modes(modes or {}))


# --- answers


class Pending:
    """Bytes of the peer's requests that wait for an answer, in the whole connection."""

    __slots__ = ("_limit", "held")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def take(self, size: int) -> bool:
        """Whether there is room for one more request of `size` bytes; it is taken."""
        if self.held + size + QUESTION_COST > self._limit:
            return False
        self.held += size + QUESTION_COST
        return True

    def give(self, size: int) -> None:
        """A request of `size` bytes has its answer."""
        self.held -= size + QUESTION_COST


class Turn:
    """The place of one request in the line."""

    __slots__ = ("answer", "size", "wanted")

    def __init__(self, wanted: bool, size: int) -> None:
        self.wanted = wanted
        self.size = size
        self.answer: Any = None


class Answers:
    """A line of requests: answers go out in the order of the requests (RFC 4254 §4, §5.4).

    The application may answer in any order; an answer waits until all before it have gone out.
    """

    __slots__ = ("_pending", "_send", "_turns")

    def __init__(self, pending: Pending, send: Callable[[Any], None]) -> None:
        self._pending = pending
        self._send = send
        self._turns: list[Turn] | None = []

    def turn(self, wanted: bool, size: int) -> Turn:
        """Puts a request of `size` bytes in the line. Raises LimitExceeded where too many wait."""
        if not self._pending.take(size):
            raise LimitExceeded(
                f"the peer sent more requests while {self._pending.held} bytes of them wait for an answer",
                clause="RFC 4254 5.4",
            )
        turn = Turn(wanted, size)
        if self._turns is not None:
            self._turns.append(turn)
        return turn

    def settle(self, turn: Turn, answer: Any) -> None:
        """Answers `turn`; `answer` is not None."""
        turn.answer = answer
        if self._turns is None:
            self._pending.give(turn.size)
            return
        while self._turns and self._turns[0].answer is not None:
            first = self._turns.pop(0)
            self._pending.give(first.size)
            if first.wanted:
                self._send(first.answer)

    def drop(self) -> None:
        """No answer goes out any more. What is still asked counts until the application answers."""
        for turn in self._turns or ():
            if turn.answer is not None:
                self._pending.give(turn.size)
        self._turns = None
