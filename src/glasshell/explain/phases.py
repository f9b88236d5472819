"""The phases of a connection, and where its time went: each stretch is waiting for the peer or our own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ..messages import family
from ..observe.record import MessageRecord, Record

__all__ = ["HELD", "OWN", "PEER", "PERSON", "Clock", "Phase", "Spent", "layer", "numbers"]


OWN: Final = "own"
PEER: Final = "peer"
PERSON: Final = "person"
HELD: Final = "held"
"""What a stretch was spent on: computing here, waiting for the peer, waiting for somebody who answers, or
for the acknowledgement without which TCP sends nothing."""


class Phase(IntEnum):
    """The phases of a connection."""

    TCP = 0
    IDENTIFICATION = 1
    NEGOTIATION = 2
    KEY_EXCHANGE = 3
    AUTHENTICATION = 4
    CONNECTION = 5
    TEARDOWN = 6

    @property
    def title(self) -> str:
        """`0 TCP`, `1 identification`, ..."""
        return f"{self.value} {'TCP' if self is Phase.TCP else self.name.lower().replace('_', ' ')}"


@dataclass(slots=True)
class Spent:
    """Seconds of one phase."""

    waiting: float = 0.0
    own: float = 0.0

    @property
    def total(self) -> float:
        """Both together."""
        return self.waiting + self.own


class Clock:
    """Gives each stretch between two records to the phase it lies in, as waiting or as our own.

    `since` and `now` are the bounds of the latest stretch, `kind` says whom it was spent on.
    """

    WAITED: Final = frozenset({
        "resolved", "connected", "connect_failed", "preface_line", "identification_received", "eof",
        "answered",
    })  # fmt: skip
    """The states that come from outside: from the network, or from a person."""

    def __init__(self) -> None:
        self.phase = Phase.TCP
        self.spent: dict[Phase, Spent] = {}
        self.start: float | None = None
        self.now = 0.0
        self.since = 0.0
        self.kind = ""
        self._latest = Spent()
        self._lines: set[str] = set()
        self._channels: dict[int, int] = {}
        self._open: set[int] = set()

    def hear(self, record: Record) -> Phase:
        """Takes one record; answers with the phase that it is shown in."""
        if self.start is None:
            self.start = self.now = record.time
        spent = self.spent.setdefault(self.phase, Spent())
        self._latest, self.since = spent, self.now
        took, self.now = max(record.time - self.now, 0.0), max(record.time, self.now)
        self.kind = self._ended(record)
        if self.kind != OWN:
            spent.waiting += took
        else:
            spent.own += took
        before, self.phase = self.phase, self._next(record)
        shown = self.phase if Phase.TEARDOWN in (before, self.phase) else before
        self.spent.setdefault(shown, Spent())
        return shown

    def was(self, kind: str, took: float) -> None:
        """`took` seconds of the latest stretch, which ended in our doing, were a wait of `kind`."""
        self._latest.own -= took
        self._latest.waiting += took
        self.kind = kind

    def channel(self, record: MessageRecord) -> int:
        """Our number of the channel that a message (93 to 100) is about: it names the receiver's."""
        (number,) = numbers(record, 1)
        if not record.sent:
            return number
        return next((ours for ours, peers in self._channels.items() if peers == number), number)

    def _ended(self, record: Record) -> str:
        """Of which kind the stretch is that `record` ends."""
        if isinstance(record, MessageRecord):
            return OWN if record.sent else PEER
        if record.name in self.WAITED or (record.name == "encrypted" and not record.facts.get("sent")):
            return PERSON if record.name == "answered" else PEER
        return OWN

    def _next(self, record: Record) -> Phase:
        if isinstance(record, MessageRecord):
            return self._after_message(record)
        match record.name:
            case "connected" | "accepted":
                return Phase.IDENTIFICATION
            case "identification_sent" | "identification_received":
                self._lines.add(record.name)
                return max(self.phase, Phase(min(len(self._lines), 2)))
            case "negotiated" if self.phase < Phase.KEY_EXCHANGE:
                return Phase.KEY_EXCHANGE
            case "kex_done" if self.phase < Phase.AUTHENTICATION:
                return Phase.AUTHENTICATION
            case "authenticated":
                return Phase.CONNECTION
            case "inferred" if record.facts.get("what") == "authenticated":
                return Phase.CONNECTION
            case "eof" | "error" | "closed":
                return Phase.TEARDOWN
        return self.phase

    def _after_message(self, record: MessageRecord) -> Phase:
        """The connection is being taken down when its last channel closes; another one may still come."""
        if record.number == 1:
            return Phase.TEARDOWN
        if record.number == 91:
            first, second = numbers(record, 2)
            ours, peers = (second, first) if record.sent else (first, second)
            self._channels[ours] = peers
            self._open.add(ours)
            return Phase.CONNECTION
        if record.number == 97:
            ours = self.channel(record)
            if ours in self._open:
                self._open.discard(ours)
            else:  # both sides have closed it: its numbers are free again
                self._channels.pop(ours, None)
            return self.phase if self._open else Phase.TEARDOWN
        return Phase.CONNECTION if record.number == 90 and self.phase is Phase.TEARDOWN else self.phase


def layer(number: int) -> str:
    """The layer a message belongs to (RFC 4250 §4.1.2)."""
    if number in (20, 21) or family(number) == "kex":
        return "kex"
    if 50 <= number <= 79:
        return "auth"
    return "connection" if 80 <= number <= 127 else "transport"


def numbers(record: MessageRecord, count: int) -> tuple[int, ...]:
    """The uint32s a message begins with; -1 for those that are cut off."""
    raw = record.payload[1 : 1 + 4 * count]
    return tuple(
        int.from_bytes(raw[i : i + 4], "big") if len(raw) >= i + 4 else -1 for i in range(0, 4 * count, 4)
    )
