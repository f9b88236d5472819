"""Round trips: the longest chain of sends each of which waited for a receive, as an integer.

Every trip costs the network's delay once, whatever the machines at its ends can do: a connection over a
line that is slower by d milliseconds takes `depth` times d longer. TCP's own handshake is in the chain.

Which message answers which is the protocol's to say, not the clock's: on a fast network two that crossed
look as if one had waited. Only where the protocol leaves it open (the data of a channel, what cannot be
read) the clock decides: what came sooner than the fastest answer of this connection answers nothing. Where
a capture was taken near the server everything comes soon, and such a stretch may be counted too high.

The clock also tells of waits that no message shows: whoever leaves Nagle's algorithm on (OpenSSH, until its
session starts) holds a small packet back until the one before it is acknowledged (RFC 9293 §3.7.4), which is
a trip as any other. On a line faster than 10 ms that cannot be told from computing, and is not counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..errors import MalformedMessage
from ..messages import message_name
from ..observe.record import MessageRecord, Record, StateRecord
from ..wire import Reader
from .phases import numbers

__all__ = ["RoundTrips", "Trip"]

CROSSED: Final = 0.8
"""Of the fastest answer's time: what comes sooner than this after a send has crossed it."""
STOOD: Final = 0.5
"""Of the same: a sender of data that was silent for this long had used its window up."""
SLOW: Final = 0.010
"""Seconds: on a line at least this slow, what was held for an acknowledgement is known by its time."""
TOLERANCE: Final = 0.15
"""Of the fastest answer's time: how much sooner than one trip after what it waited behind a held packet may
come; later, twice as much, for machines are busy."""
DELAYED: Final = (0.036, 0.060)
"""Seconds for which an acknowledgement may have been delayed (RFC 1122 §4.2.3.2; 40 ms on Linux)."""
MOST_TRIPS: Final = 2000
"""Most trips kept one by one; `depth` counts on."""
MOST_CHANNELS: Final = 1024


class Trip(NamedTuple):
    """One link of the chain: what was asked and when, what answered it and when (seconds)."""

    number: int
    asked: str
    began: float
    answered: str
    ended: float


class Sent(NamedTuple):
    """Something sent: when, how many trips it had waited for, and its name."""

    time: float
    depth: int
    name: str


class Sends:
    """What was sent, as far as it can be a cause: of each depth the first."""

    def __init__(self) -> None:
        self._first: deque[Sent] = deque(maxlen=64)

    def add(self, sent: Sent) -> None:
        """Remembers `sent`, unless something of its depth went before it."""
        if not self._first or sent.depth > self._first[-1].depth:
            self._first.append(sent)

    def before(self, time: float) -> Sent | None:
        """The deepest that had been sent at `time`."""
        return next((sent for sent in reversed(self._first) if sent.time <= time), None)


class Flow:
    """One direction of a channel's data: which window it needed (RFC 4254 §5.2)."""

    def __init__(self, window: int) -> None:
        self.limit = window
        self._used = 0
        self._last = 0.0
        self._grants: deque[tuple[int, float, Sent]] = deque(maxlen=1024)

    def grant(self, count: int, time: float, cause: Sent) -> None:
        """More window at `time`, because of `cause`."""
        self._grants.append((self.limit, time, cause))
        self.limit += count

    def use(self, count: int, now: float, trip: float) -> tuple[float, Sent] | None:
        """`count` bytes of data at `now`: the grant that they had stood still for, if they had to.

        On a line whose `trip` takes next to nothing that cannot be told.
        """
        self._used += count
        stood, self._last = trip >= SLOW and now - self._last >= trip * STOOD, now
        needed = None
        while self._grants and self._grants[0][0] < self._used:
            needed = self._grants.popleft()[1:]
        return needed if stood else None


class Line:
    """One channel, or all that belongs to none: how deep its chain is, and what it has asked for."""

    def __init__(self, depth: int, inbound: int = 0, outbound: int = 0) -> None:
        self.depth = depth
        self.sends = Sends()
        self.asked: deque[Sent] = deque(maxlen=1024)
        self.inbound, self.outbound = Flow(inbound), Flow(outbound)
        self.wrote = False
        self.used = False


class RoundTrips:
    """Counts them as records are heard; `depth` is the count, `links` the trips themselves."""

    CLIENT: Final[Mapping[int, tuple[int, ...]]] = {
        20: (0,), 31: (30, 34), 33: (32,), 6: (5,), 51: (50, 61), 52: (50, 61), 60: (50, 61), 193: (192,),
    }  # fmt: skip
    """What a client receives, and what of its own it answers; 0 is the identification."""

    SERVER: Final[Mapping[int, tuple[int, ...]]] = {
        20: (0,), 30: (20,), 34: (20,), 32: (31,), 21: (31, 33), 5: (31, 33), 50: (6, 51, 60), 61: (60,),
        193: (192,),
    }  # fmt: skip
    """What a server receives, and what of its own it waited for."""

    def __init__(self) -> None:
        self.server = False
        self._seen = False
        """A capture's client may have Nagle's algorithm on; our own sockets have not."""
        self.fastest = 0.0
        self.links: list[Trip] = []
        self._base = Line(0)
        self._sent: dict[int, Sent] = {}
        self._opening: dict[int, tuple[Sent, int]] = {}
        self._channels: dict[int, Line] = {}
        self._peers: dict[int, int] = {}
        self._offered: dict[int, int] = {}
        self._reached = 0
        self._connecting = 0.0
        self._heard = self._said = Sent(0.0, 0, "")

    @property
    def depth(self) -> int:
        """How many trips the latest of what was heard took."""
        return self._reached

    def hear(self, record: Record) -> None:
        """Takes one record."""
        if isinstance(record, StateRecord):
            self._state(record)
        elif isinstance(record, MessageRecord):
            (self._send if record.sent else self._receive)(record)

    # ---- what is no message

    def _state(self, record: StateRecord) -> None:
        match record.name:
            case "started":
                self._seen = record.facts.get("role") == "network"
            case "connecting":
                self._connecting = record.time
            case "connect_failed" if "refused" in str(record.facts.get("error", "")).lower():
                self._tcp(record, "TCP reset")
            case "connected" | "accepted":
                self.server = record.name == "accepted"
                self._tcp(record, "connected")
            case "identification_sent":
                self._note(0, record.time, "identification")
            case "identification_received" if not self.server and 1 in self._sent:
                # The server speaks when it accepts, which takes the client's ACK.
                self._answer(self._base, self._sent[1], record.time, "identification")
            case "encrypted":
                self._unread(record)

    def _tcp(self, record: StateRecord, answered: str) -> None:
        began = record.time if self.server else self._connecting
        self._answer(self._base, Sent(began, self._base.depth, "SYN"), record.time, answered)
        self._note(1, record.time, "ACK")

    def _unread(self, record: StateRecord) -> None:
        """A packet that cannot be read: all that is left is whose turn it was."""
        time, name = record.time, "encrypted"
        if record.facts.get("sent"):
            self._note(-1, time, name)
            return
        cause = self._base.sends.before(time - self.fastest * CROSSED)
        if cause is not None:
            cause = self._or_behind(cause, time)
            self._heard = Sent(time, cause.depth + 1, name)
            self._reach(self._base, cause, time, name)

    # ---- what is sent

    def _note(self, number: int, time: float, name: str) -> Sent:
        before = self._said
        reacts = time - self._heard.time < self.fastest / 2
        if self._seen and not reacts and self.holds(before.time, time):
            self._reach(self._base, before, time, "acknowledgement")
        sent = self._said = Sent(time, self._base.depth, name)
        self._sent[number] = sent
        self._base.sends.add(sent)
        return sent

    def _send(self, record: MessageRecord) -> None:
        number, name = record.number, message_name(record.number, record.context)
        if not 90 <= number <= 100:
            self._pause(number)
            sent = self._note(number, record.time, name)
            if number == 80 and _wants_reply(record):
                self._base.asked.append(sent)
            return
        first, second = numbers(record, 2)
        if number == 90:
            self._offer(record, self._note(90, record.time, name))
        elif number == 91:
            self._open(second, first, numbers(record, 3)[2], self._offered.pop(first, 0))
            self._channel_send(record, second, name)
        else:
            self._channel_send(record, self._peers.get(first, -1), name)

    def _offer(self, record: MessageRecord, sent: Sent) -> None:
        channel, window = _opened(record)
        if len(self._opening) < MOST_CHANNELS:
            self._opening[channel] = (sent, window)

    def _channel_send(self, record: MessageRecord, ours: int, name: str) -> None:
        line = self._channels.get(ours)
        if line is None:
            return
        number, time = record.number, record.time
        if number in (94, 95):
            needed = line.outbound.use(_content(record), time, self.fastest)
            if needed is not None:
                self._reach(line, needed[1], needed[0], message_name(93))
            line.wrote = True
        sent = Sent(time, line.depth, name)
        if number == 93:
            line.inbound.grant(max(numbers(record, 2)[1], 0), time, sent)
            return
        if number == 98 and _wants_reply(record):
            line.asked.append(sent)
        if number != 96 or line.wrote:  # a program that was given nothing does not wait for its end
            line.sends.add(sent)
            self._base.sends.add(sent)

    # ---- what is received

    def _receive(self, record: MessageRecord) -> None:
        number, name, time = record.number, message_name(record.number, record.context), record.time
        if 90 <= number <= 100:
            self._channel_receive(record, name)
        elif number in (81, 82) and self._base.asked:
            self._answer(self._base, self._base.asked.popleft(), time, name)
        elif number == 20 and 21 in self._sent:
            self._rekey(time, name)
        elif number == 1 and self.server:
            self._perhaps(self._base, self._base.sends, time, name)
        else:
            causes = (self.SERVER if self.server else self.CLIENT).get(number, ())
            found = [self._sent[each] for each in causes if each in self._sent]
            if found:
                self._answer(self._base, max(found, key=lambda sent: sent.depth), time, name)
            else:
                self._unasked(time, name)

    def _channel_receive(self, record: MessageRecord, name: str) -> None:
        number, time = record.number, record.time
        first, second = numbers(record, 2)
        if number == 90:
            channel, window = _opened(record)
            if len(self._offered) < MOST_CHANNELS:
                self._offered[channel] = window
            if self.server:
                self._opened_by_client(time, name)
            return
        if number in (91, 92):
            asked, window = self._opening.pop(first, (None, 0))
            if asked is not None:
                self._answer(self._base, asked, time, name)
            if number == 91:
                self._open(first, second, window, numbers(record, 3)[2])
            return
        line = self._channels.get(first)
        if line is None:
            return
        if number in (99, 100) and line.asked:
            self._answer(line, line.asked.popleft(), time, name)
        elif number == 93:
            self._granted(line, record)
        elif not self._data(line, record, name):
            self._perhaps(line, line.sends, time, name, certain=not line.used)
        line.used = True
        if number == 97:
            self._close(first)

    def _pause(self, number: int) -> None:
        """A key exchange waits for all that was under way, and all that follows for it (RFC 4253 §7.1)."""
        if number == 20:
            self._base.depth = max(self._base.depth, *(line.depth for line in self._channels.values()), 0)
        elif number == 21:
            self._sent.pop(20, None)
            for line in self._channels.values():
                line.depth = max(line.depth, self._base.depth)

    def _rekey(self, time: float, name: str) -> None:
        """The peer's KEXINIT answers ours, if ours was first and they have not crossed."""
        self._pause(20)
        asked = self._sent.get(20)
        if asked is not None and asked.time <= time - self.fastest * CROSSED:
            self._answer(self._base, asked, time, name)

    def _opened_by_client(self, time: float, name: str) -> None:
        """The first channel waits for the login; a later one for whatever its client wants."""
        if 52 in self._sent and 90 not in self._sent:
            self._answer(self._base, self._sent[52], time, name)
            self._sent[90] = self._sent[52]
        else:
            self._perhaps(self._base, self._base.sends, time, name)

    def _granted(self, line: Line, record: MessageRecord) -> None:
        """More window for us, which answers the data that had reached the peer by then."""
        cause = line.sends.before(record.time - self.fastest * CROSSED)
        if cause is not None:
            line.outbound.grant(max(numbers(record, 2)[1], 0), record.time, cause)

    def _data(self, line: Line, record: MessageRecord, name: str) -> bool:
        """Whether this is data that stood still until we opened the window."""
        if record.number not in (94, 95):
            return False
        needed = line.inbound.use(_content(record), record.time, self.fastest)
        if needed is not None:
            self._reach(line, needed[1], record.time, name)
        return needed is not None

    # ---- the chain

    def _open(self, ours: int, peers: int, inbound: int, outbound: int) -> None:
        if len(self._channels) < MOST_CHANNELS:
            self._channels[ours] = Line(self._base.depth, inbound, outbound)
            self._peers[peers] = ours

    def _close(self, ours: int) -> None:
        """What a channel came to is what everything later may have waited for."""
        line = self._channels[ours]
        self._base.depth = max(self._base.depth, line.depth)

    def _perhaps(self, line: Line, sends: Sends, time: float, name: str, certain: bool = False) -> None:
        """Something that may have waited for the latest that can have reached the peer by then."""
        cause = sends.before(time if certain else time - self.fastest * CROSSED)
        if cause is not None:
            self._reach(line, cause, time, name)

    def _answer(self, line: Line, asked: Sent, time: float, name: str) -> None:
        """Something that has waited for `asked`."""
        took = time - asked.time
        if took > 0.0:
            self.fastest = min(self.fastest or took, took)
        asked = self._or_behind(asked, time)
        self._heard = Sent(time, asked.depth + 1, name)
        self._reach(line, asked, time, name)

    def _or_behind(self, asked: Sent, time: float) -> Sent:
        """What an answer waited for: `asked`, or the acknowledgement of what its sender had sent before."""
        behind = self._heard
        later = asked.depth < behind.depth and asked.time < behind.time
        return behind if later and self.holds(behind.time, time) else asked

    def _unasked(self, time: float, name: str) -> None:
        """What answers nothing may still have been held, and hold what comes after it."""
        behind = self._heard
        self._heard = Sent(time, behind.depth + self.holds(behind.time, time), name)

    def holds(self, before: float, time: float) -> bool:
        """Whether something waited for the acknowledgement of what had gone the same way at `before`."""
        trip, late = self.fastest, time - before - self.fastest
        if trip < SLOW:
            return False
        return -TOLERANCE <= late / trip <= 2 * TOLERANCE or DELAYED[0] <= late <= DELAYED[1]

    def _reach(self, line: Line, asked: Sent, time: float, name: str) -> None:
        line.depth = max(line.depth, asked.depth + 1)
        if line.depth > self._reached:
            self._reached = line.depth
            if len(self.links) < MOST_TRIPS:
                self.links.append(Trip(self._reached, asked.name, asked.time, name, time))


def _wants_reply(record: MessageRecord) -> bool:
    reader = Reader(record.payload, 5 if record.number == 98 else 1)
    try:
        reader.string()
        return reader.boolean()
    except MalformedMessage:
        return False


def _opened(record: MessageRecord) -> tuple[int, int]:
    """The sender's number and initial window of a CHANNEL_OPEN; -1 and 0 where it cannot be read."""
    reader = Reader(record.payload, 1)
    try:
        reader.string()
        return reader.uint32(), reader.uint32()
    except MalformedMessage:
        return -1, 0


def _content(record: MessageRecord) -> int:
    return max(len(record.payload) - (9 if record.number == 94 else 13), 0)
