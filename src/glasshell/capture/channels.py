"""The channels of a captured connection, and the packets of the subsystems that run in them.

Channels are told as the client would tell them. The data of a channel whose subsystem is `sftp` is cut
into that protocol's packets: a uint32, the length, then the packet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import MalformedMessage
from ..messages import connection
from ..messages.declare import lookup
from ..wire import visible

MAX_CHANNELS: Final = 1024
"""Most channels of one connection that are followed at a time."""
MAX_SUBSYSTEM_PACKET: Final = 256 * 1024 + 1024
"""Longest packet of a subsystem that is taken for one, in bytes: OpenSSH's bound, and its head."""
MAX_KEPT: Final = 64 * 1024
"""How much of such a packet is told, in bytes; the rest is data of a file."""
SUBSYSTEMS: Final = frozenset({"sftp"})
"""The subsystems whose packets are told, all with a uint32 before each packet."""


class Packets:
    """Cuts one direction of a subsystem into packets; keeps `MAX_KEPT` bytes of each."""

    __slots__ = ("_buffer", "_left", "lost")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0
        """Bytes of the present packet that are still to come and not kept."""
        self.lost = False
        """What came is no such protocol, or bytes are missing: nothing more is told."""

    def feed(self, data: memoryview) -> list[bytes]:
        """Takes more data; returns the packets it completes."""
        found: list[bytes] = []
        while not self.lost:
            if self._left:
                cut = min(self._left, len(data))
                self._left -= cut
                data = data[cut:]
                if self._left:
                    return found
                found.append(bytes(self._buffer[4:]))
                self._buffer.clear()
            data = self._fill(data, 4)
            if len(self._buffer) < 4:
                return found
            length = int.from_bytes(self._buffer[:4], "big")
            if not 1 <= length <= MAX_SUBSYSTEM_PACKET:
                self.lost = True
                return found
            kept = min(length, MAX_KEPT)
            data = self._fill(data, 4 + kept)
            if len(self._buffer) < 4 + kept:
                return found
            self._left = length - kept
            if not self._left:
                found.append(bytes(self._buffer[4:]))
                self._buffer.clear()
        return found

    def _fill(self, data: memoryview, size: int) -> memoryview:
        cut = max(0, min(size - len(self._buffer), len(data)))
        self._buffer += data[:cut]
        return data[cut:]


@dataclass(slots=True)
class Channel:
    """One channel: `opening`, `window` and `max_packet` are its opener's, `peer` the other side's number.

    `sent` and `received` are bytes as the client counts them.
    """

    type: str
    by_client: bool
    opening: int
    window: int
    max_packet: int
    subsystem: str = ""
    peer: int = 0
    sent: int = 0
    received: int = 0
    closed: set[bool] = field(default_factory=set)
    packets: dict[bool, Packets] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """The client's number of it."""
        return self.opening if self.by_client else self.peer


Told = Callable[..., None]


class Channels:
    """Follows messages 90 to 99.

    What happens goes to `state(name, **facts)` and to `packet(sent, channel, context, payload)`.
    """

    def __init__(self, state: Told, packet: Callable[[bool, int, str, bytes], None]) -> None:
        self._state = state
        self._packet = packet
        self._opening: dict[tuple[bool, int], Channel] = {}
        """Channels that wait for an answer, by who opens and its number."""
        self._open: dict[tuple[bool, int], Channel] = {}
        """Channels by (whose number, number): each is there twice."""

    def lost(self, sent: bool) -> None:
        """Something of this direction is missing: what a subsystem says is not followed any further."""
        for channel in self._open.values():
            channel.packets.setdefault(sent, Packets()).lost = True

    def take(self, sent: bool, payload: bytes) -> None:
        """One message of a channel; what cannot be read is passed over."""
        handler = _HANDLERS.get(payload[0])
        if handler is not None:
            handler(self, sent, payload)
        elif payload[0] in (connection.ChannelData.NUMBER, connection.ChannelExtendedData.NUMBER):
            self._data(sent, payload)

    def _data(self, sent: bool, payload: bytes) -> None:
        extended = payload[0] == connection.ChannelExtendedData.NUMBER
        head = 13 if extended else connection.CHANNEL_DATA_HEADER.size
        if len(payload) < head:
            return
        channel = self._open.get((not sent, int.from_bytes(payload[1:5], "big")))
        if channel is None:
            return
        size = len(payload) - head
        channel.sent += size if sent else 0
        channel.received += 0 if sent else size
        if channel.subsystem in SUBSYSTEMS and not extended:
            packets = channel.packets.setdefault(sent, Packets())
            for packet in packets.feed(memoryview(payload)[head:]):
                self._packet(sent, channel.number, channel.subsystem, packet)

    def _on_open(self, sent: bool, message: Any) -> None:
        if len(self._opening) + len(self._open) // 2 < MAX_CHANNELS:
            made = Channel(
                message.channel_type, sent, message.sender_channel, message.initial_window_size,
                message.maximum_packet_size,
            )  # fmt: skip
            self._opening[sent, message.sender_channel] = made

    def _on_confirmation(self, sent: bool, message: Any) -> None:
        channel = self._opening.pop((not sent, message.recipient_channel), None)
        if channel is None:
            return
        channel.peer = message.sender_channel
        self._open[not sent, channel.opening] = self._open[sent, channel.peer] = channel
        opener = channel.opening, channel.window, channel.max_packet
        answer = channel.peer, message.initial_window_size, message.maximum_packet_size
        client, server = (opener, answer) if channel.by_client else (answer, opener)
        (ours, window, most), (theirs, peer_window, peer_most) = client, server
        self._state(
            "channel_open", channel=ours, peer=theirs, type=channel.type, window=window, max_packet=most,
            peer_window=peer_window, peer_max_packet=peer_most,
        )  # fmt: skip

    def _on_failure(self, sent: bool, message: Any) -> None:
        channel = self._opening.pop((not sent, message.recipient_channel), None)
        if channel is not None:
            self._state(
                "channel_refused", channel=channel.opening if channel.by_client else None, type=channel.type,
                reason=message.reason_code, description=visible(message.description),
            )  # fmt: skip

    def _on_request(self, sent: bool, message: Any) -> None:
        channel = self._open.get((not sent, message.recipient_channel)) or self._expected(sent)
        if channel is None:
            return
        body = message.body
        if message.request_type == "subsystem" and sent and not channel.packets:
            channel.subsystem = getattr(body, "name", "")
        elif message.request_type == "exit-status":
            status = getattr(body, "status", None)
            self._state("exit_status", channel=channel.number, status=status, signal="")
        elif message.request_type == "exit-signal":
            name = getattr(body, "signal_name", "")
            self._state("exit_status", channel=channel.number, status=None, signal=name)

    def _expected(self, sent: bool) -> Channel | None:
        """What a request is for that comes before the channel is open: clients may know the number it will
        have, and ask for one at a time then."""
        opening = [channel for (who, _), channel in self._opening.items() if who == sent]
        return opening[0] if len(opening) == 1 else None

    def _on_close(self, sent: bool, message: Any) -> None:
        channel = self._open.get((not sent, message.recipient_channel))
        if channel is None:
            return
        channel.closed.add(sent)
        if len(channel.closed) == 2:
            for key in [key for key, each in self._open.items() if each is channel]:
                del self._open[key]
            self._state(
                "channel_closed", channel=channel.number, type=channel.type, sent=channel.sent,
                received=channel.received,
            )  # fmt: skip


def _decoded(handle: Callable[[Channels, bool, Any], None]) -> Callable[[Channels, bool, bytes], None]:
    def run(channels: Channels, sent: bool, payload: bytes) -> None:
        found = lookup("", payload[0])
        if found is None:
            return
        try:
            message = found.decode(payload)
        except MalformedMessage:
            return
        handle(channels, sent, message)

    return run


_HANDLERS: Final = {
    connection.ChannelOpen.NUMBER: _decoded(Channels._on_open),
    connection.ChannelOpenConfirmation.NUMBER: _decoded(Channels._on_confirmation),
    connection.ChannelOpenFailure.NUMBER: _decoded(Channels._on_failure),
    connection.ChannelRequest.NUMBER: _decoded(Channels._on_request),
    connection.ChannelClose.NUMBER: _decoded(Channels._on_close),
}
