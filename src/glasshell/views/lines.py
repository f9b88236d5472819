"""The lines of OpenSSH's log as values, and what their makers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from ..values import field, slotted
from ..wire import visible
from . import Role


class Line(NamedTuple):
    """One line: `level` is the number of `-v` from which on it is shown.

    `preauth` is false for what OpenSSH's monitor says, not the child that serves whoever has not yet
    logged in: its lines never bear ` [preauth]`.
    """

    level: int
    text: str
    preauth: bool = True


PACKET: Final = Line(3, "")
"""Stands for the line `send packet: type N` (or `receive`) of the message at hand."""

Lines: TypeAlias = Iterable[Line]
Handler: TypeAlias = Callable[[Any], Lines]
"""Takes a decoded message, or the facts of a state."""


def info(text: str) -> Line:
    """What is said without any `-v`."""
    return Line(0, text)


def verbose(text: str) -> Line:
    """What the first `-v` adds without calling it debugging."""
    return Line(1, text)


def debug1(text: str) -> Line:
    """What `-v` adds."""
    return Line(1, f"debug1: {text}")


def debug2(text: str) -> Line:
    """What `-vv` adds."""
    return Line(2, f"debug2: {text}")


def debug3(text: str) -> Line:
    """What `-vvv` adds."""
    return Line(3, f"debug3: {text}")


def monitor(line: Line) -> Line:
    """`line`, as the monitor says it."""
    return line._replace(preauth=False)


@slotted
class Story:
    """What one line has to know of those before it, whichever layer told it."""

    role: Role
    host: str = ""
    address: str = "UNKNOWN"
    port: int = 65535
    user: str = ""
    valid: bool = True
    authenticated: bool = False
    delayed_compression: bool = False
    hostbound: bool = False
    ahead: bool = False
    """Whether the client may connect once more, without what it sent ahead: no end is an error until then."""
    proxied: bool = False
    """Whether the host is reached by another."""
    finished: bool = False
    """Whether the client's session has ended and its channel is closed: who hangs up then is all one."""
    errors: list[str] = field(default_factory=list)

    @property
    def peer(self) -> str:
        """The peer as in `Connection closed by 192.0.2.1 port 22`."""
        return f"{self.address} port {self.port}"

    @property
    def somebody(self) -> str:
        """The peer with what is known of the user, as a server names it."""
        if self.role == "client" or not self.user:
            return self.peer
        if self.authenticated:
            return f"user {self.user} {self.peer}"
        return f"{'authenticating' if self.valid else 'invalid'} user {self.user} {self.peer}"

    @property
    def host_and_port(self) -> str:
        """The host as known_hosts names it: with its port where that is not 22."""
        host = self.host or self.address
        return host if self.port == 22 else f"[{host}]:{self.port}"


def text_of(value: Any) -> str:
    """A fact in one line, safe for a terminal; names in a row are joined by commas."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return ",".join(text_of(each) for each in value)
    return visible(value if isinstance(value, (str, bytes)) else str(value))


def words(*parts: Any) -> str:
    """The parts that are not empty, with blanks between them."""
    return " ".join(text for part in parts if (text := text_of(part)))
