"""What a server has beside the views of its connections: an audit log, and metrics that are scraped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError, UsageError
from ..wire import visible

if TYPE_CHECKING:
    import argparse

    from ..aio.exposition import Exposition
    from ..aio.server import Server
    from ..observe.hub import Sink
    from ..views.auditlog import AuditLog
    from ..views.prometheus import Live, Metrics

__all__ = ["Beside", "add_flags"]

LOOPBACK: Final = "127.0.0.1"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of this file, for sshd."""
    add = parser.add_argument
    add(
        "--audit-log",
        metavar="FILE",
        help="append logins, programs and forwardings to FILE, one JSON object a line",
    )
    add("--prometheus", metavar="[ADDR:]PORT", type=_place,
        help=f"serve metrics over HTTP at PORT, of {LOOPBACK} unless ADDR is given")  # fmt: skip


def _place(text: str) -> tuple[str, int]:
    host, _, number = text.rpartition(":")
    if not (number.isascii() and number.isdecimal()) or int(number) > 65535:
        raise UsageError(f"--prometheus {visible(text)}: no port", hint="write [ADDR:]PORT, such as 9122")
    return host.removeprefix("[").removesuffix("]") or LOOPBACK, int(number)


class Beside:
    """What the flags ask for. Raises ConfigError for a file or a port that cannot be had, at once."""

    def __init__(
        self, arguments: argparse.Namespace, note: Callable[[str, str], None], worker: int = 0
    ) -> None:
        """`worker` is the number of one of several processes: each has metrics, and a port, of its own."""
        self._note = note
        self._audit: AuditLog | None = None
        self._metrics: Metrics | None = None
        self._exposition: Exposition | None = None
        self._sock: socket.socket | None = None
        if arguments.workers and not worker:
            return  # the parent serves nobody
        if arguments.audit_log:
            from ..views.auditlog import AuditLog

            self._audit = AuditLog(arguments.audit_log, lambda text: note("error", text))
        if arguments.prometheus and arguments.inetd:
            raise ConfigError("--prometheus is for a server that stays: -i serves one connection and ends")
        if arguments.prometheus:
            from ..views.prometheus import Metrics

            self._metrics = Metrics()
            address, number = arguments.prometheus
            self._sock = _bound(address, number + worker if number else 0)
            host, port = self._sock.getsockname()[:2]
            note("info", f"Serving metrics at http://{f'[{host}]' if ':' in host else host}:{port}/metrics.")

    def sinks(self) -> list[Sink]:
        """What hears a new connection."""
        return [each.sink() for each in (self._audit, self._metrics) if each is not None]

    async def start(self, server: Server) -> None:
        """The server is there: its metrics can be asked for."""
        if self._metrics is not None:
            from ..aio.exposition import Exposition

            self._metrics.live = lambda: _live(server)
            self._exposition = Exposition(self._metrics.page)
            await self._exposition.listen(sock=self._sock)

    async def close(self) -> None:
        """The server is closed."""
        if self._exposition is not None:
            await self._exposition.close()
        if self._audit is not None:
            self._audit.close()


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(f"--prometheus: cannot listen at {host} port {port}: {error.strerror}") from None


def _live(server: Server) -> Live:
    """What the open connections have moved so far; those that are over have told it themselves."""
    from ..views.prometheus import Live

    transports = [each.core.transport for each in server.connections if not each.core.closed]
    return Live(
        sent=sum(each.outbound.total_bytes for each in transports),
        received=sum(each.inbound.total_bytes for each in transports),
        dropped=server.refused,
    )
