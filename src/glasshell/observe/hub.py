"""Where the stream branches: one hub a connection, any number of sinks.

Free when unheard: a connection without sinks has no hub. Harmless when broken: a sink that raises
is dropped and said so, and the connection lives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from .record import MessageRecord, Record, StateRecord
from .redact import redact

Sink = Callable[[Record], None]


class Hub:
    """Delivers records to sinks in order.

    What is sent gets its time when it reaches the socket: records wait, in order, from the first
    unsent message on until `flush(now)`. `now` is set by whoever calls into the core.
    """

    __slots__ = ("_sinks", "_waiting", "now", "start")

    def __init__(self, *sinks: Sink, start: float = 0.0) -> None:
        self._sinks: list[Sink] = list(sinks)
        self._waiting: deque[Record] = deque()
        self.start = start
        self.now = start

    def add(self, sink: Sink) -> None:
        """`sink` hears every record from here on."""
        self._sinks.append(sink)

    def remove(self, sink: Sink) -> None:
        """`sink` hears no more."""
        if sink in self._sinks:
            self._sinks.remove(sink)

    def state(self, name: str, /, **facts: Any) -> None:
        """Tells of something that is no message; `name` and `facts` as in `record.STATES`."""
        self._publish(StateRecord(self.now - self.start, name, facts))

    def message(
        self, *, sent: bool, seq: int, epoch: int, context: str, payload: bytes,
        packet_length: int, padding_length: int, wire_length: int, at: float = 0.0,
    ) -> None:  # fmt: skip
        """Tells of one packet; its secret fields are wiped here, before any sink sees it.

        `at` is when a received one came: it may have waited for an answer since.
        """
        record = MessageRecord(
            (self.now if sent else at) - self.start, sent, seq, epoch, context, payload[0] if payload else 0,
            redact(payload, context), packet_length, padding_length, wire_length,
        )  # fmt: skip
        if sent:
            self._waiting.append(record)
        else:
            self._publish(record)

    def flush(self, now: float) -> None:
        """What waited has been written at `now`: stamps it and delivers it."""
        self.now = now
        while self._waiting:
            record = self._waiting.popleft()
            if isinstance(record, StateRecord) or record.sent:
                record.time = now - self.start
            self._deliver(record)

    def _publish(self, record: Record) -> None:
        if self._waiting:
            self._waiting.append(record)
        else:
            self._deliver(record)

    def _deliver(self, record: Record) -> None:
        for sink in tuple(self._sinks):
            try:
                sink(record)
            except Exception as error:
                self._sinks.remove(sink)
                name = getattr(sink, "__qualname__", type(sink).__name__)
                lost = StateRecord(record.time, "sink_dropped", {"sink": name, "error": repr(error)})
                self._deliver(lost)
