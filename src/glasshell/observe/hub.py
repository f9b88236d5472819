"""Where the stream branches: one hub a connection, any number of sinks.

Free when unheard: a connection without sinks has no hub, bytes of the wire are copied for a sink that
hears them only, and no secret leaves a key exchange unless a sink hears keys. Harmless when broken: a sink
that raises is dropped and said so, and the connection lives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ..messages.connection import (
    CHANNEL_DATA_HEADER,
    EXTENDED_DATA_HEADER,
    ChannelData,
    ChannelExtendedData,
)
from ..wire import Secret
from .record import KeyRecord, MessageRecord, Record, StateRecord, WireRecord
from .redact import redact

Sink = Callable[[Record], None]
"""What hears a connection. An attribute `hears`, a frozenset out of `HEARD`, says what: without it, records.

"lengths" are records as well, but what a channel carries is left out of them as long as no other sink wants
it: the payload of CHANNEL_DATA and CHANNEL_EXTENDED_DATA then ends with the length of the data, and nothing
is copied. A sink that hears "wire" or "keys" is called with WireRecord and KeyRecord as well; one that hears
"states" instead of "records" hears what is no message, and costs nothing for each packet. A method `turn` is
called once all that one read or write of the socket had to tell is told.
"""

HEARD: Final = frozenset({"records", "lengths", "states", "wire", "keys"})

_HEADS: Final = {
    ChannelData.NUMBER: CHANNEL_DATA_HEADER,
    ChannelExtendedData.NUMBER: EXTENDED_DATA_HEADER,
}
"""Channel data up to its length (RFC 4254 §5.2)."""

MAX_WAITING: Final = 8 * 1024 * 1024
"""Bytes of records that may wait behind an unsent message. A peer that reads nothing and sends without end
gets no more of us: beyond this they are told at once, and the order gives way."""
_RECORD: Final = 256
"""About what a record takes beside its payload."""


class Hub:
    """Delivers records to sinks in order.

    What is sent gets its time when it reaches the socket: records wait, in order, from the first
    unsent message on until `flush(now)`. Keys and what was read from the socket do not wait. `now` is set by
    whoever calls into the core.
    """

    __slots__ = ("_arrived", "_audiences", "_packets", "_sinks", "_waiting", "_weight", "now", "start")

    def __init__(self, *sinks: Sink, start: float = 0.0) -> None:
        self._sinks: dict[str, list[Any]] = {kind: [] for kind in sorted(HEARD)}
        self._audiences: dict[str, tuple[Any, ...]] = {}
        """Who is called with each kind of record."""
        self._waiting: deque[Record | WireRecord] = deque()
        self._weight = 0
        self._arrived: bytes | bytearray | memoryview | None = None
        self._packets: dict[bool, list[int]] = {True: [], False: []}
        self.start = start
        self.now = start
        self._gather()
        for sink in sinks:
            self.add(sink)

    def add(self, sink: Sink) -> None:
        """`sink` hears from here on. Raises ValueError where it wants to hear what there is not."""
        hears = getattr(sink, "hears", {"records"})
        if not HEARD.issuperset(hears):
            raise ValueError(f"a sink hears {', '.join(sorted(HEARD))}, not {', '.join(sorted(hears))}")
        for kind in hears:
            self._sinks[kind].append(sink)
        self._gather()

    def remove(self, sink: Sink) -> None:
        """`sink` hears no more."""
        for sinks in self._sinks.values():
            if sink in sinks:
                sinks.remove(sink)
        self._gather()

    def _gather(self) -> None:
        sinks = self._sinks
        messages = (*sinks["records"], *sinks["lengths"])
        states = (*messages, *sinks["states"])
        self._audiences = {
            "messages": messages, "states": states,
            "wire": tuple(sinks["wire"]), "keys": tuple(sinks["keys"]),
            "turns": tuple(each for each in dict.fromkeys(states) if hasattr(each, "turn")),
        }  # fmt: skip

    @property
    def hears_keys(self) -> bool:
        """Whether a sink hears keys: only then may a key exchange give them out."""
        return bool(self._sinks["keys"])

    @property
    def heard(self) -> bool:
        """Whether anybody hears anything."""
        return any(self._sinks.values())

    def state(self, name: str, /, **facts: Any) -> None:
        """Tells of something that is no message; `name` and `facts` as in `record.STATES`."""
        self._publish(StateRecord(self.now - self.start, name, facts))

    def message(
        self, *, sent: bool, seq: int, epoch: int, context: str, payload: bytes | memoryview,
        packet_length: int, padding_length: int, wire_length: int, at: float = 0.0,
        data: bytes | memoryview = b"",
    ) -> None:  # fmt: skip
        """[hot] Tells of one packet, `payload + data`; its secret fields are wiped before a sink sees it.

        `at` is when a received one came: it may have waited for an answer since.
        """
        if self._audiences["wire"]:
            self._packets[sent].append(wire_length)
        if not self._audiences["messages"]:
            return
        told = b"" if self._sinks["records"] else _without_content(payload, data)
        if not told:
            told = redact(b"".join((payload, data)), context)
        record = MessageRecord(
            (self.now if sent else at) - self.start, sent, seq, epoch, context, told[0] if told else 0,
            told, packet_length, padding_length, wire_length, len(payload) + len(data) - len(told),
        )  # fmt: skip
        if sent:
            self._waiting.append(record)
        else:
            self._publish(record)

    def key(self, cookie: bytes, label: str, secret: Secret) -> None:
        """Tells those who hear keys, at once; as `record.KeyRecord`."""
        self._deliver("keys", KeyRecord(self.now - self.start, cookie, label, secret))

    def received(self, data: bytes | bytearray | memoryview) -> None:
        """The socket has given `data`, which is worked through now; `settle` tells of it."""
        if self._sinks["wire"]:
            self._arrived = data

    def settle(self, partial: int = 0) -> None:
        """What was received is worked through, or the connection ends because of it: tells of its bytes.

        `partial` as in `record.WireRecord`.
        Behind the keys and messages in it, so that a reader of the file has both before it needs them.
        """
        if self._arrived is not None:
            data, self._arrived = bytes(self._arrived), None
            self._deliver("wire", self._wire(False, data, partial))
        if not self._waiting:
            self._turn()

    def flush(self, now: float, data: bytes | memoryview = b"") -> None:
        """What waited is written at `now`, and is `data` on the wire: stamps it and delivers it."""
        self.now = now
        waiting = self._waiting
        if data and self._sinks["wire"]:
            sent = (i for i, r in enumerate(waiting, 1) if isinstance(r, MessageRecord) and r.sent)
            waiting.insert(max(sent, default=0), self._wire(True, bytes(data)))
        self._weight = 0
        while waiting:
            record = waiting.popleft()
            if isinstance(record, StateRecord) or record.sent:
                record.time = now - self.start
            kind = "states" if isinstance(record, StateRecord) else "messages"
            self._deliver("wire" if isinstance(record, WireRecord) else kind, record)
        self._turn()

    def _turn(self) -> None:
        for sink in self._audiences["turns"]:
            self._call(sink, sink.turn, self.now - self.start)

    def abandon(self, now: float) -> None:
        """The socket is gone: messages that it did not take are not told of, what waited behind them is."""
        self._waiting = deque(r for r in self._waiting if isinstance(r, StateRecord) or not r.sent)
        self.flush(now)

    def _wire(self, sent: bool, data: bytes, partial: int = 0) -> WireRecord:
        packets, self._packets[sent] = tuple(self._packets[sent]), []
        return WireRecord(self.now - self.start, sent, data, packets, partial)

    def _publish(self, record: Record) -> None:
        if self._waiting and self._weight < MAX_WAITING:
            self._weight += _RECORD + (len(record.payload) if isinstance(record, MessageRecord) else 0)
            self._waiting.append(record)
        else:
            self._deliver("messages" if isinstance(record, MessageRecord) else "states", record)

    def _deliver(self, kind: str, record: Record | WireRecord | KeyRecord) -> None:
        for sink in self._audiences[kind]:
            self._call(sink, sink, record.time, record)

    def _call(self, sink: Any, function: Callable[..., None], time: float, *record: Any) -> None:
        try:
            function(*record)
        except Exception as error:
            self.remove(sink)
            name = getattr(sink, "__qualname__", type(sink).__name__)
            self._deliver("states", StateRecord(time, "sink_dropped", {"sink": name, "error": repr(error)}))


def _without_content(payload: bytes | memoryview, data: bytes | memoryview) -> bytes:
    """[hot] Channel data up to its length; empty for everything else, and where that length is not true."""
    head = _HEADS.get(payload[0]) if payload else None
    if head is None or len(payload) < head.size:
        return b""
    whole = len(payload) + len(data) == head.size + head.unpack_from(payload)[-1]
    return bytes(payload[: head.size]) if whole else b""
