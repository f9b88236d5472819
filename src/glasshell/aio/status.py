"""The status socket of a server: its connections, and the records of one of them, without payload.

A reader writes one line, `connections` or `records ID`, and is answered in JSON lines; whatever else it
writes ends its visit. It can change nothing. What it is told are counters that the connections keep anyway,
so the socket costs nothing while nobody reads; records are made for a connection only while somebody watches.
A reader who does not read is dropped, and what is told of a busy connection is thinned out, and said to be.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from ..connection.channel import Channel
from ..messages.declare import message_name
from ..observe.record import MessageRecord, Record
from ..system import status
from ..views.jsonl import compact, envelope, plain, seconds

if TYPE_CHECKING:
    from .server import Server, ServerConnection

__all__ = ["StatusSocket", "connection_object"]

MAX_READERS: Final = 8
MAX_REQUEST: Final = 256
"""Most bytes of one request."""
MAX_UNREAD: Final = 1024 * 1024
"""Bytes that a reader may leave unread before it is dropped."""
IDLE: Final = 60.0
"""Seconds a reader may say nothing, unless it watches a connection; and how long an answer may take."""
SLICE: Final = 32
"""Connections told of in one turn of the loop: then it is the turn of those who are served."""
PERIOD: Final = 0.05
"""Seconds between two deliveries to one who watches."""
MOST: Final = 200
"""Messages in one delivery; of the rest the count is told, and the bytes."""

_PRIVATE: Final = {"session_started": {"command"}, "authorized_key": {"options"}}
"""Facts that are as good as payload: a command line may hold a password."""


class StatusSocket:
    """One server's status socket, from `open` until `close`."""

    def __init__(self, server: Server, path: Path) -> None:
        self.server = server
        self.path = path
        self.readers: set[_Reader] = set()
        self._listener: asyncio.Server | None = None
        self._file = (0, 0)

    @classmethod
    async def open(cls, server: Server, where: Path | None = None) -> StatusSocket:
        """Offers the status of `server` at `where`, or at the usual place. Raises ConfigError."""
        sock, path = status.bind(where)
        made = cls(server, path)
        made._file = _identity(path)
        try:
            loop = asyncio.get_running_loop()
            made._listener = await loop.create_unix_server(lambda: _Reader(made), sock=sock)
        except BaseException:
            sock.close()
            made._remove()
            raise
        return made

    def close(self) -> None:
        """Takes the socket away; those who read are sent off."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._remove()
        for reader in tuple(self.readers):
            reader.drop()

    def _remove(self) -> None:
        with suppress(OSError):
            if _identity(self.path) == self._file:  # and not another server's that came after us
                self.path.unlink()

    def header(self) -> dict[str, Any]:
        """What every reader is told first."""
        from .. import __version__

        return {
            "type": "header", "format": status.FORMAT, "schema": status.SCHEMA, "pid": os.getpid(),
            "role": "server", "software": "glasshell", "version": __version__,
            "listening": [plain(place) for place in self.server.addresses],
        }  # fmt: skip


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


class _Reader(asyncio.Protocol):
    """One who reads."""

    def __init__(self, owner: StatusSocket) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._asked = b""
        self._work: asyncio.Task[None] | None = None
        self._feed: _Feed | None = None
        self._room = asyncio.Event()
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # another loop's is of no class of asyncio's
        self._transport = transport
        self._room.set()
        if not _may_read(transport.get_extra_info("socket")):
            transport.abort()
            return
        if len(self._owner.readers) >= MAX_READERS:
            self.tell({"type": "error", "text": f"{MAX_READERS} readers are here already"})
            transport.close()
            return
        self._owner.readers.add(self)
        self._wait()
        self.tell(self._owner.header())

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.readers.discard(self)
        self._stop()
        if self._idle is not None:
            self._idle.cancel()
        self._transport = None
        self._room.set()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def data_received(self, data: bytes) -> None:
        self._asked += data
        *lines, self._asked = self._asked.split(b"\n")
        if len(self._asked) > MAX_REQUEST or len(lines) > 1:
            self._refuse("one request at a time, of at most 256 bytes")
        elif lines:
            self._wait()
            self._answer(lines[0].decode("ascii", "replace").split())

    def drop(self) -> None:
        """Sends the reader off at once."""
        if self._transport is not None:
            self._transport.abort()

    def tell(self, shown: dict[str, Any]) -> None:
        """Writes one line, unless too many wait to be read already: then the reader is dropped."""
        if self._transport is None:
            return
        self._transport.write(compact(shown).encode("utf-8", "replace") + b"\n")
        if self._transport.get_write_buffer_size() > MAX_UNREAD:
            self._transport.abort()

    def _wait(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE, self.drop)

    def _answer(self, words: list[str]) -> None:
        self._stop()
        match words:
            case ["connections"]:
                self._work = asyncio.get_running_loop().create_task(self._tell_all())
            case ["records", number] if number.isdecimal() and len(number) < 20:
                self._watch(int(number))
            case _:
                self._refuse("ask for `connections` or `records ID`")

    def _refuse(self, text: str) -> None:
        self._stop()
        self.tell({"type": "error", "text": text})
        if self._transport is not None:
            self._transport.close()

    def _stop(self) -> None:
        if self._work is not None:
            self._work.cancel()
            self._work = None
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    async def _tell_all(self) -> None:
        server, count = self._owner.server, 0
        for at, connection in enumerate(sorted(server.connections, key=lambda each: each.number), 1):
            if connection in server.connections:
                self.tell(connection_object(connection))
                count += 1
            if at % SLICE == 0:
                await asyncio.sleep(0)
            await self._room.wait()
        clock = asyncio.get_running_loop().time()
        self.tell({"type": "end", "time": seconds(clock), "count": count, "refused": server.refused})

    def _watch(self, number: int) -> None:
        for connection in self._owner.server.connections:
            if connection.number == number:
                if self._idle is not None:
                    self._idle.cancel()
                self.tell({"type": "watching", "id": number})
                self._feed = _Feed(connection, self.tell)
                return
        self.tell({"type": "over", "id": number, "text": f"there is no connection {number}"})


def _may_read(sock: socket.socket) -> bool:
    """Only the server's own user and root; the file's mode says so already, and root may pass it on."""
    who = status.peer_credentials(sock)
    return who is None or who[1] in (0, os.geteuid())


class _Feed:
    """The records of one connection, delivered in small lots; a sink of its hub until `close`."""

    def __init__(self, connection: ServerConnection, tell: Callable[[dict[str, Any]], None]) -> None:
        self._connection = connection
        self._tell = tell
        self._kept: list[dict[str, Any]] = []
        self._messages = 0
        self._skipped = [0, 0]
        """Messages left out of this delivery, and their bytes on the wire."""
        self._timer: asyncio.TimerHandle | None = None
        connection.link.hear(self)

    def __call__(self, record: Record) -> None:
        """Hears one record."""
        if isinstance(record, MessageRecord):
            self._messages += 1
            if self._messages > MOST:
                self._skipped[0] += 1
                self._skipped[1] += record.wire_length
            else:
                self._kept.append(_message(record))
        elif len(self._kept) < 10 * MOST:
            hidden = _PRIVATE.get(record.name, ())
            facts = {name: plain(value) for name, value in record.facts.items() if name not in hidden}
            self._kept.append({
                "time": seconds(record.time), "type": "state", "name": record.name, "facts": facts,
            })  # fmt: skip
        if self._timer is None:
            self._timer = self._connection.link.loop.call_later(PERIOD, self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        kept, (count, size) = self._kept, self._skipped
        self._kept, self._messages, self._skipped = [], 0, [0, 0]
        for shown in kept:
            self._tell(shown)
        if count:
            self._tell({"type": "skipped", "messages": count, "wire_length": size})
        if self._connection.closed:
            number = self._connection.number
            self._tell({"type": "over", "id": number, "text": "the connection is over"})

    def close(self) -> None:
        """Hears no more."""
        self._connection.link.unhear(self)
        if self._timer is not None:
            self._timer.cancel()


def _message(record: MessageRecord) -> dict[str, Any]:
    """A message without its fields: what it is, how long, and for which channel."""
    shown = envelope(record, message_name(record.number, record.context))
    if 91 <= record.number <= 100:  # each begins with the recipient's number of the channel (RFC 4254 §5)
        shown["recipient_channel"] = int.from_bytes(record.payload[1:5], "big")
    return shown


# -- what is told of a connection


def connection_object(connection: ServerConnection) -> dict[str, Any]:
    """One connection, from the counters that it keeps anyway. Bytes are as on the wire; `age` is seconds."""
    core, peer, login = connection.core, connection.peer, connection.login
    transport = core.transport
    return {
        "type": "connection", "id": connection.number,
        "peer": [plain(peer.address), peer.port], "local": [plain(peer.local_address), peer.local_port],
        "user": plain(login.user) if login else None, "method": login.method if login else None,
        "age": seconds(connection.link.now - connection.link.since), "state": transport.phase.value,
        "peer_software": plain(core.peer_software), "algorithms": _algorithms(connection),
        "sent": transport.outbound.total_bytes, "received": transport.inbound.total_bytes,
        "queued": len(transport.outbound.buffer), "rekeys": max(0, transport.outbound.epoch - 1),
        "channels": list(map(_channel, core.mux.channels.values())),
    }  # fmt: skip


def _algorithms(connection: ServerConnection) -> dict[str, Any] | None:
    chosen = connection.core.transport.kex.negotiated
    if chosen is None:
        return None
    return {
        "kex": chosen.kex, "host_key": chosen.host_key, "cipher_c2s": chosen.cipher_c2s,
        "cipher_s2c": chosen.cipher_s2c, "mac_c2s": chosen.mac_c2s, "mac_s2c": chosen.mac_s2c,
        "compression_c2s": chosen.compression_c2s, "compression_s2c": chosen.compression_s2c,
        "strict": chosen.strict,
    }  # fmt: skip


def _channel(channel: Channel) -> dict[str, Any]:
    """One channel; `window` is what the peer may still send, `peer_window` what we may."""
    incoming, outgoing = channel.incoming, channel.outgoing
    return {
        "id": channel.id, "peer": channel.peer_id, "type": plain(channel.type),
        "state": channel.state.value, "window": incoming.left, "window_size": incoming.size,
        "peer_window": outgoing.left, "received": incoming.received, "sent": outgoing.sent,
        "unread": channel.stdout.size + channel.stderr.size,
        "eof_sent": channel.eof_sent, "eof_received": channel.eof_received,
    }  # fmt: skip
