"""TCP reassembly (RFC 9293): frames in, the bytes of each direction in order out.

A capture is no receiver: it may begin in the middle, miss segments, hold them twice or out of order, and
nobody will send again what is not in it. So a hole is waited for only as long as it can still be filled;
then it is a `Gap`, and the bytes behind it follow. Streams are numbered as tshark numbers tcp.stream.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Literal, TypeAlias

from ..observe.seen import Frame
from .problems import Problem, note

__all__ = ["Data", "Ended", "Event", "Gap", "Opened", "Streams"]

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10

MAX_HELD: Final = 4 << 20
"""Bytes of one direction that wait behind a hole, before the hole is a gap."""

MAX_HELD_BY_ALL: Final = 64 << 20
"""The same for all streams together; then the hole that has been waited for longest is a gap."""

HOLDING: Final = 512
"""What holding a segment costs beside its bytes, in bytes: a stream of tiny segments is bounded too."""

PATIENCE: Final = 1.0
"""Seconds that a hole is waited for once the receiver has acknowledged what was in it."""

PATIENT_SEGMENTS: Final = 64
"""Segments behind such a hole that are waited for at most."""

MAX_STREAMS: Final = 32_768
"""Streams that are remembered; beyond that, the quietest are forgotten."""

RECENT: Final = 256
"""Segments delivered last, of all streams, that a retransmission is compared with."""

_MASK: Final = 0xFFFF_FFFF
_HALF: Final = 0x8000_0000

How: TypeAlias = Literal["fin", "rst", "end", "reused", "forgotten"]


@dataclass(slots=True)
class Opened:
    """A stream is seen for the first time; without SYN in `frame.flags`, it had begun before the capture."""

    stream: int
    frame: Frame


@dataclass(slots=True)
class Data:
    """The next bytes of one direction; `forward`: sent by the sender of the stream's first frame.

    `frame` is the one that carried them: a segment that had to wait comes after frames of higher numbers.
    """

    stream: int
    forward: bool
    data: bytes
    frame: Frame


@dataclass(slots=True)
class Gap:
    """`length` bytes of one direction are not in the capture; `frame` is the first behind them."""

    stream: int
    forward: bool
    length: int
    frame: Frame


@dataclass(slots=True)
class Ended:
    """Nothing more comes in this direction: the last event of each that had a frame.

    `how`: "fin" and "rst" as sent, "end" of the capture, "reused" (another connection took the ports over),
    "forgotten" (too many streams); these two come for both directions, whichever had a frame.
    `frame` is the one that ended it, or the last of the direction.
    """

    stream: int
    forward: bool
    how: How
    frame: Frame


Event: TypeAlias = Opened | Data | Gap | Ended


@dataclass(slots=True)
class _Held:
    """A segment behind a hole: stream positions, what it carries of them, where it came from."""

    start: int
    end: int
    data: bytes
    frame: Frame


_START: Final = attrgetter("start")


class _Half:
    """One direction. Positions count its bytes from 0, lost ones too; sequence numbers wrap, they do not."""

    __slots__ = (
        "acknowledged", "base", "ended", "fin", "flow", "forward", "guessed", "held", "held_size", "last",
        "next", "other", "position",
    )  # fmt: skip

    def __init__(self, flow: _Flow, forward: bool) -> None:
        self.flow = flow
        self.forward = forward
        self.other: _Half = self
        self.base: int | None = None
        self.next: int | None = None
        self.guessed = False
        self.position = 0
        self.held: list[_Held] = []
        self.held_size = 0
        self.fin: int | None = None
        self.ended = False
        self.acknowledged: float | None = None
        self.last: Frame | None = None

    def ahead(self, seq: int) -> int:
        """How far `seq` is beyond the byte that is due; negative where it is before it."""
        return ((seq - (self.next or 0) + _HALF) & _MASK) - _HALF

    def advance(self, length: int) -> None:
        self.position += length
        self.next = ((self.next or 0) + length) & _MASK


class _Flow:
    """One connection: its number, its two directions, and the keys it is found by."""

    __slots__ = ("closing", "dropped", "halves", "key", "last", "number", "over", "saw_syn")

    def __init__(self, number: int, key: _Key) -> None:
        self.number = number
        self.key = key
        self.halves = (_Half(self, True), _Half(self, False))
        self.halves[0].other, self.halves[1].other = self.halves[1], self.halves[0]
        self.dropped = False
        self.closing = False  # a FIN or RST was seen
        self.over = False
        self.saw_syn = False
        self.last = 0


_Key: TypeAlias = tuple[str, int, str, int]


class Streams:
    """Takes frames in the order of the file, returns what they tell of their streams.

    Call `feed` with each frame, and `finish` after the last. `problems` names what could not be used.
    """

    def __init__(self) -> None:
        self.problems: dict[str, Problem] = {}
        self._halves: dict[_Key, _Half] = {}
        self._flows: dict[int, _Flow] = {}
        self._count = 0
        self._held = 0
        self._waiting: dict[_Half, None] = {}  # directions with a hole, longest first
        self._recent: deque[tuple[_Half, int, bytes]] = deque(maxlen=RECENT)

    def feed(self, frame: Frame) -> Sequence[Event]:
        """What `frame` tells; fills in its `stream`, `relative_seq` and `relative_ack`."""
        half = self._halves.get((frame.source, frame.source_port, frame.destination, frame.destination_port))
        flags = frame.flags
        out: list[Event] = []
        if half is None or (flags & SYN and self._is_new(half, frame)):
            half = self._open(frame, half, out)
        flow = half.flow
        flow.last = frame.number
        other = half.other
        if half.base is None or (other.base is None and flags & ACK) or flags & SYN:
            self._set_bases(half, frame)
        frame.stream = flow.number
        frame.relative_seq = (frame.seq - half.base) & _MASK  # type: ignore[operator]
        frame.relative_ack = (frame.ack - other.base) & _MASK if flags & ACK else frame.ack  # type: ignore[operator]
        if flags & RST or flags & (FIN | ACK) == FIN | ACK:
            flow.closing = True
        if flow.dropped:
            flow.over = flow.over or flags & (FIN | RST) != 0
            return out
        half.last = frame
        if flags & RST:  # what it may carry is text for people (RFC 9293 §3.5.3)
            self._end(half, "rst", frame, out)
            self._end(other, "rst", frame, out)
        elif frame.payload or frame.missing or flags & (SYN | FIN):
            self._segment(half, frame, out)
        if other.held and flags & ACK:
            self._heed_ack(other, frame, out)
        return out

    def drop(self, stream: int) -> None:
        """Nobody wants to know more of `stream`: nothing of it is kept, and no later `feed` tells of it."""
        flow = self._flows.get(stream)
        if flow is not None:
            flow.dropped = True
            for half in flow.halves:
                self._release(half)

    def finish(self) -> Iterator[Event]:
        """The capture is over: what waited is told, then the end of each direction that had none."""
        for number in list(self._flows):
            out: list[Event] = []
            self._end_flow(self._flows[number], "end", out)
            yield from out
        self._flows.clear()
        self._halves.clear()

    # -- streams ---------------------------------------------------------------------------------

    def _is_new(self, half: _Half, frame: Frame) -> bool:
        """Whether a SYN begins another connection on the same ports, and is no retransmission.

        TShark 4.6 decides so; 4.0 knew only the first SYN of a connection, and only by its number.
        """
        return half.base is not None and (half.base != frame.seq or half.flow.closing)

    def _open(self, frame: Frame, before: _Half | None, out: list[Event]) -> _Half:
        if before is not None:
            self._forget(before.flow, "reused", out)
        elif len(self._flows) >= MAX_STREAMS:
            self._forget_many(out)
        key = (frame.source, frame.source_port, frame.destination, frame.destination_port)
        flow = _Flow(self._count, key)
        self._count += 1
        self._flows[flow.number] = flow
        # Both ends the same (a socket connected to itself): one direction, and it is the forward one.
        self._halves[key[2], key[3], key[0], key[1]] = flow.halves[1]
        self._halves[key] = flow.halves[0]
        out.append(Opened(flow.number, frame))
        return flow.halves[0]

    def _set_bases(self, half: _Half, frame: Frame) -> None:
        """The first sequence numbers, as tshark takes them: a SYN has its own, else the byte before."""
        syn = frame.flags & SYN
        if half.base is None or syn:
            half.base = frame.seq if syn else (frame.seq - 1) & _MASK
        half.flow.saw_syn = half.flow.saw_syn or bool(syn)
        other = half.other
        if other.base is None and frame.flags & ACK:
            other.base = (frame.ack - 1) & _MASK
            if half.flow.saw_syn and other.next is None:  # a handshake, its other half not in the file
                other.next, other.guessed = frame.ack, True

    def _forget(self, flow: _Flow, how: How, out: list[Event]) -> None:
        self._end_flow(flow, how, out)
        self._flows.pop(flow.number, None)
        source, source_port, destination, destination_port = flow.key
        self._halves.pop(flow.key, None)
        self._halves.pop((destination, destination_port, source, source_port), None)

    def _forget_many(self, out: list[Event]) -> None:
        """Room for more streams: an eighth goes, those that are over first, then the quietest."""
        quiet = sorted(self._flows.values(), key=lambda flow: (not flow.over, flow.last))
        for flow in quiet[: MAX_STREAMS // 8]:
            if not flow.over:
                note(self.problems, "stream forgotten, too many at once", flow.last)
            self._forget(flow, "forgotten", out)

    def _end_flow(self, flow: _Flow, how: How, out: list[Event]) -> None:
        for half in flow.halves:
            last = half.last or (half.other.last if how != "end" else None)
            if not flow.dropped and last is not None:
                self._end(half, how, last, out)

    # -- one direction ---------------------------------------------------------------------------

    def _segment(self, half: _Half, frame: Frame, out: list[Event]) -> None:
        flags = frame.flags
        seq = frame.seq
        size = len(frame.payload) + frame.missing
        if flags & SYN:
            seq = (seq + 1) & _MASK
            if half.next is None or not half.position:
                half.next, half.guessed = seq, False
        elif half.next is None:
            half.next = seq
        ahead = half.ahead(seq)
        if ahead < 0 and half.guessed and not half.position and not half.held:
            half.next, ahead = seq, 0
        if half.ended:
            if ahead + size > 0 and size:
                note(self.problems, "data after the end of its connection", frame.number)
            return
        if flags & FIN and half.fin is None:
            half.fin = half.position + ahead + size
        if size:
            if ahead == 0 and not half.held:
                self._deliver(half, frame.payload, frame.missing, frame, out)
            elif ahead + size > 0:
                self._hold(half, ahead, size, frame, out)
            elif size > 1 or ahead != -1:  # else a keepalive (RFC 9293 §3.8.4), its byte means nothing
                self._compare(half, half.position + ahead, frame)
        if half.fin is not None and half.position >= half.fin:
            self._end(half, "fin", frame, out)

    def _deliver(self, half: _Half, data: bytes, missing: int, frame: Frame, out: list[Event]) -> None:
        number = half.flow.number
        if data:
            self._recent.append((half, half.position, data))
            out.append(Data(number, half.forward, data, frame))
        if missing:
            out.append(Gap(number, half.forward, missing, frame))
        half.advance(len(data) + missing)

    def _hold(self, half: _Half, ahead: int, size: int, frame: Frame, out: list[Event]) -> None:
        """Takes what of a segment is new; what is before it in the stream comes out first."""
        start = half.position + ahead
        if ahead < 0:
            self._compare(half, start, frame)
        for fresh in self._fresh(half, max(start, half.position), start + size, start, frame):
            cost = len(fresh.data) + HOLDING
            half.held_size += cost
            self._held += cost
            if not half.held or fresh.start >= half.held[-1].start:
                half.held.append(fresh)
            else:
                insort(half.held, fresh, key=_START)
        self._drain(half, out)
        if half.held:
            self._waiting.setdefault(half)
            if half.held_size > MAX_HELD:
                self._skip(half, out)
        while self._held > MAX_HELD_BY_ALL:
            self._skip(next(iter(self._waiting)), out)

    def _fresh(self, half: _Half, start: int, end: int, origin: int, frame: Frame) -> Iterable[_Held]:
        """The pieces of [start, end) that no held segment covers: who came first is believed."""
        payload = frame.payload
        pieces = []
        if half.held and start < half.held[-1].end:
            # They are in order and apart: the first that may touch it is the last that begins before it.
            for at in range(max(bisect_right(half.held, start, key=_START) - 1, 0), len(half.held)):
                held = half.held[at]
                if held.start >= end:
                    break
                if held.end <= start:
                    continue
                if start < held.start:
                    pieces.append((start, held.start))
                self._conflict(held.start, held.data, origin, frame)
                start = held.end
                if start >= end:
                    break
        if start < end:
            pieces.append((start, end))
        return [_Held(a, b, payload[a - origin : b - origin], frame) for a, b in pieces]

    def _drain(self, half: _Half, out: list[Event]) -> None:
        """Delivers what is due."""
        taken = 0
        for held in half.held:
            if held.start != half.position:
                break
            taken += 1
            cost = len(held.data) + HOLDING
            half.held_size -= cost
            self._held -= cost
            self._deliver(half, held.data, held.end - held.start - len(held.data), held.frame, out)
        if taken:
            del half.held[:taken]
            half.acknowledged = None
            if not half.held:
                self._waiting.pop(half, None)

    def _skip(self, half: _Half, out: list[Event]) -> None:
        """The hole before the first held segment is a gap."""
        first = half.held[0]
        length = first.start - half.position
        out.append(Gap(half.flow.number, half.forward, length, first.frame))
        half.advance(length)
        self._waiting.pop(half, None)  # the next hole waits its own time
        self._drain(half, out)
        if half.held:
            self._waiting[half] = None

    def _heed_ack(self, half: _Half, frame: Frame, out: list[Event]) -> None:
        """The receiver has what was in the hole: the capture has not, and can have it only out of order."""
        if half.ahead(frame.ack) <= 0:
            return
        if half.acknowledged is None:
            half.acknowledged = frame.time
        if frame.time - half.acknowledged >= PATIENCE or len(half.held) >= PATIENT_SEGMENTS:
            self._skip(half, out)
            if half.fin is not None and half.position >= half.fin:
                self._end(half, "fin", frame, out)

    def _end(self, half: _Half, how: How, frame: Frame, out: list[Event]) -> None:
        if half.ended:
            return
        while half.held:
            self._skip(half, out)
        half.ended = True
        half.flow.over = half.other.ended
        if how != "rst" and half.fin is not None and half.position >= half.fin:
            how = "fin"
        out.append(Ended(half.flow.number, half.forward, how, frame))

    def _release(self, half: _Half) -> None:
        self._held -= half.held_size
        half.held_size = 0
        half.held = []
        half.last = None
        self._waiting.pop(half, None)

    # -- what came twice -------------------------------------------------------------------------

    def _compare(self, half: _Half, start: int, frame: Frame) -> None:
        """A retransmission; it should say what was said before."""
        for delivered, position, data in reversed(self._recent):
            if delivered is half:
                if position + len(data) <= start:
                    break
                self._conflict(position, data, start, frame)

    def _conflict(self, start: int, data: bytes, origin: int, frame: Frame) -> None:
        low = max(start, origin)
        high = min(start + len(data), origin + len(frame.payload))
        if low < high and data[low - start : high - start] != frame.payload[low - origin : high - origin]:
            note(self.problems, "retransmission with other bytes, the first are taken", frame.number)
