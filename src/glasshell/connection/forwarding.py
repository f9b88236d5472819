"""RFC 4254 §7 and OpenSSH's streamlocal: who may open which channel, and what we asked to be forwarded.

Decisions only; sockets are the application's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from ..errors import UsageError
from ..messages.connection import (
    CancelStreamlocalForward,
    CancelTcpipForward,
    DirectStreamlocal,
    DirectTcpip,
    ForwardedStreamlocal,
    ForwardedTcpip,
    StreamlocalForward,
    TcpipForward,
    TcpipForwardReply,
)
from ..messages.declare import Struct

Role = Literal["client", "server"]

OPENER: Final[Mapping[str, Role]] = {
    "session": "client",  # RFC 4254 §6.1: a client should refuse it
    "direct-tcpip": "client",  # §7.2, the same
    "direct-streamlocal@openssh.com": "client",
    "forwarded-tcpip": "server",
    "forwarded-streamlocal@openssh.com": "server",
    "x11": "server",  # §6.3.2
    "auth-agent@openssh.com": "server",
    "agent-connect": "server",
}
"""Who opens channels of a type; what is not here, either side may ask for."""

REQUESTER: Final[Mapping[str, Role]] = {
    "tcpip-forward": "client",  # RFC 4254 §7.1: a client should refuse it
    "cancel-tcpip-forward": "client",
    "streamlocal-forward@openssh.com": "client",
    "cancel-streamlocal-forward@openssh.com": "client",
    "hostkeys-00@openssh.com": "server",
    "hostkeys-prove-00@openssh.com": "client",
    "no-more-sessions@openssh.com": "client",
}
"""Who makes a global request; what is not here, either side may."""


def objection(body: Struct | bytes) -> str:
    """Why no system can do what a channel open or global request says; empty where it could."""
    match body:
        case DirectTcpip() if not 1 <= body.port <= 65535:
            return f"no such port: {body.port}"
        case DirectTcpip() if not body.host or "\0" in body.host:
            return "no host that could be connected"
        case TcpipForward() | CancelTcpipForward() | ForwardedTcpip() if body.port > 65535:
            return f"no such port: {body.port}"
        case TcpipForward() if "\0" in body.address:
            return "no address that could be bound"
        case DirectStreamlocal() | StreamlocalForward() if not body.socket_path or "\0" in body.socket_path:
            return "no path of a socket"
    return ""


_NOTHING: Final[frozenset[Any]] = frozenset()
"""One for all: most connections forward nothing."""


class RemoteForwards:
    """What we asked the server to listen on, and it granted (`-R`)."""

    __slots__ = ("addresses", "paths")

    def __init__(self) -> None:
        self.addresses: frozenset[tuple[str, int]] = _NOTHING
        self.paths: frozenset[str] = _NOTHING

    def granted(self, body: Struct | bytes, reply: bytes = b"") -> None:
        """The request with `body` was granted; `reply` is what REQUEST_SUCCESS carried.

        Raises MalformedMessage where port 0 was asked for and the reply does not name the port.
        """
        match body:
            case TcpipForward():
                port = body.port or TcpipForwardReply.decode(reply).port
                self.addresses |= {(body.address, port)}
            case CancelTcpipForward():
                self.addresses -= {(body.address, body.port)}
            case StreamlocalForward():
                self.paths |= {body.socket_path}
            case CancelStreamlocalForward():
                self.paths -= {body.socket_path}

    def match(self, address: str, port: int) -> tuple[str, int] | None:
        """The forward, as we asked for it, that a connection to `address` and `port` belongs to.

        Servers spell the address as they bound it (`localhost`, `127.0.0.1`, `::`, empty); the
        spelling matters only where the same port was asked for on several.
        """
        if (address, port) in self.addresses:
            return address, port
        same = [each for each in self.addresses if each[1] == port]
        return same[0] if len(same) == 1 else None

    def allows(self, body: Struct | bytes) -> bool:
        """Whether the server may open a forwarded channel with this body."""
        if isinstance(body, ForwardedTcpip):
            return self.match(body.address, body.port) is not None
        return isinstance(body, ForwardedStreamlocal) and body.socket_path in self.paths


def check_request(body: Struct | bytes, want_reply: bool) -> None:
    """Raises UsageError for a forwarding that could never be used."""
    if isinstance(body, TcpipForward) and body.port == 0 and not want_reply:
        raise UsageError("port 0 is told only in the reply: ask for one", clause="RFC 4254 7.1")
