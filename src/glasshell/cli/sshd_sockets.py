"""The listening sockets of `glasshell sshd`: bound, handed down by a service manager, or by inetd."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError
from .sshd_show import places

if TYPE_CHECKING:
    from ..config.options import ServerOptions

__all__ = ["BACKLOG", "Doors", "inherited"]

BACKLOG: Final = 128

Place = tuple[int, Any]
"""An address family, and an address of it."""


class Doors:
    """Where the server listens; `opened` hears of each (address, port), `failed` why one cannot be."""

    def __init__(self, opened: Callable[[str, int], None], failed: Callable[[str], None]) -> None:
        self._opened = opened
        self._failed = failed
        self.handed = False
        """Whether somebody else has opened them: then they stay as they are."""
        self.sockets: dict[Place, socket.socket] = {}

    def open(self, options: ServerOptions, *, shared: bool) -> None:
        """Opens them; `shared`: they keep addresses for workers. Raises ConfigError where none can be had."""
        from ..system.daemon import handed_sockets

        try:
            handed = handed_sockets()
        except OSError as error:
            raise ConfigError(f"LISTEN_FDS: {error.strerror or error}") from None
        if handed and shared:
            raise ConfigError("--workers listen for themselves: they cannot have the sockets of LISTEN_FDS")
        for sock in handed:
            self.handed = True
            name = sock.getsockname()
            self.sockets[int(sock.family), name] = sock
            where = name[:2] if isinstance(name, tuple) else (str(name), 0)
            self._opened(*where)
        if not handed:
            self._bind_all(options, shared=shared)
        if not self.sockets:
            raise ConfigError("Cannot bind any address.")

    def renew(self, options: ServerOptions, close: Callable[[socket.socket], None]) -> list[socket.socket]:
        """Makes them those of other options: `close` ends what is not wanted any more; those that are new.

        What is asked for before and after is left alone: no caller is lost. Raises ConfigError where no
        door is left.
        """
        if self.handed:
            return []
        wanted = {place for group in places(options) for place, _ in group}
        for place in [place for place in self.sockets if place not in wanted]:
            close(self.sockets.pop(place))  # first: an address may stand in the way of one of the new
        before = set(self.sockets)
        self._bind_all(options, shared=False)
        if not self.sockets:
            raise ConfigError("Cannot bind any address.")
        return [sock for place, sock in self.sockets.items() if place not in before]

    def _bind_all(self, options: ServerOptions, *, shared: bool) -> None:
        for place, port in [place for group in places(options) for place in group]:
            if place in self.sockets:
                continue
            try:
                sock = _bind(place, options.tcp_keepalive, shared=shared)
            except OSError as error:
                self._failed(f"Bind to port {port} on {place[1][0]} failed: {error.strerror}.")
                continue
            self._opened(place[1][0], port)
            self.sockets[place] = sock


def _bind(address: Place, keepalive: bool, *, shared: bool) -> socket.socket:
    """A listening socket; `shared`: one that keeps the address for workers, and does not listen.

    TCPKeepAlive is handed down to the connections it takes. Raises OSError.
    """
    family, place = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if keepalive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            from ..aio.workers import keep

            keep(sock, place, alone=True)
        else:
            sock.bind(place)
            sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def inherited() -> socket.socket:
    """The connection that inetd gave us as standard input. Raises ConfigError."""
    from ..system.daemon import to_nowhere

    try:
        if stat.S_ISFIFO(os.fstat(0).st_mode):  # as a ProxyCommand has them
            from ..system.pipes import socket_before_pipes

            sock = socket_before_pipes(0, 1)
        else:
            sock = socket.socket(fileno=os.dup(0))
            sock.getpeername()
    except OSError as error:
        raise ConfigError(f"-i wants a connected socket as standard input: {error.strerror}") from None
    to_nowhere((0, 1))
    return sock
