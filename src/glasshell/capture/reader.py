"""From a capture file to frames and records: files, streams and observers put together.

    reading = read(path, keys=log)
    for item in reading:        # Frame | Seen, in the order of the file
        ...
    reading.troubles            # what could not be read, once the file has been read through

A `Frame` is given for each segment that brought new bytes of an SSH connection, before the records that
these bytes completed; those that have no frame of their own (frames == (0, 0)) come where they became known.
Frames of other streams are not given. What a stream is, and who its client is, may take a few segments to
find out: what comes meanwhile waits, bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..observe.record import StateRecord
from ..observe.seen import Frame, Seen
from ..sftp import messages as _sftp  # noqa: F401  the catalogue knows SFTP's packets only once it is loaded
from .containers import Secrets
from .keylog import KeyLog
from .passive import Passive
from .source import PacketSource, Source, open_source
from .streams import Data, Ended, Event, Gap, Opened

__all__ = ["Reading", "Troubles", "read", "read_source"]

MAX_WAITING: Final = 4096
"""Frames that wait, of all streams together, until it is known what a stream is."""
MAX_WAITING_BYTES: Final = 16 << 20
"""The same in bytes of payload."""
MAX_KEPT: Final = 64 << 20
"""Bytes that the observers of all streams keep of packets that are not whole, or wait for keys."""
MAX_LINES: Final = 100
"""Troubles that are named one by one; the rest is counted."""


HANDSHAKE: Final = 3
"""Frames of TCP's own at the beginning of a stream."""
GONE: Final = -1
"""The number of a stream that is dropped."""


class Troubles:
    """What of a capture could not be read, one sentence each."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.more = 0
        """How many are not among `lines`."""

    def __bool__(self) -> bool:
        return bool(self.lines)

    def add(self, line: str) -> None:
        """One more; beyond `MAX_LINES` it is only counted."""
        if len(self.lines) < MAX_LINES:
            self.lines.append(line)
        else:
            self.more += 1


@dataclass(slots=True)
class _Waiting:
    """A frame and the records it completed, on their way out."""

    stream: int
    frame: Frame | None
    seen: list[Seen] = field(default_factory=list)
    before: list[Seen] = field(default_factory=list)
    """What is told of the connection before the frame."""


class Reading:
    """One reading of a source: iterate once. Raises CaptureError where the source does."""

    def __init__(self, source: Source, *, keys: KeyLog | None, show_secrets: bool) -> None:
        self.troubles = Troubles()
        self.keys = keys if keys is not None else KeyLog()
        self._source = source
        self._show = show_secrets
        self._watched: dict[int, Passive] = {}
        self._silent: dict[int, list[Frame]] = {}
        """Streams that have carried nothing yet, as most of a port scan, and their first frames."""
        self._queue: deque[_Waiting] = deque()
        self._places: dict[int, deque[_Waiting]] = {}
        """What of each stream is in `_queue`."""
        self._dropped = 0
        """What in `_queue` is of streams that are dropped."""
        self._kept: dict[int, int] = {}
        self._kept_by_all = 0
        self._waiting = 0
        """Bytes in the frames of `_queue`."""

    def __iter__(self) -> Iterator[Frame | Seen]:
        if isinstance(self._source, PacketSource):
            self._source.heard = self._heard
        for item in self._source:
            if isinstance(item, Secrets):
                self.keys.add(item.text, "the file's own secrets")
                continue
            self._take(item)
            yield from self._ready()
        for number, passive in list(self._watched.items()):
            passive.finish()
            if passive.ssh is False:
                self._drop(number)
        yield from self._ready()
        self._sum_up()

    def _heard(self, frame: Frame) -> None:
        passive = self._watched.get(frame.stream)
        if passive is not None:
            passive.segment(frame)
        elif (first := self._silent.get(frame.stream)) is not None and len(first) < HANDSHAKE:
            first.append(frame)

    def _take(self, event: Event) -> None:
        number = event.stream
        if isinstance(event, Opened):
            self._silent[number] = [event.frame]
            return
        if number in self._silent:
            self._watch(number, self._silent.pop(number), event)
        known = self._watched.get(number)
        if known is None:
            return
        try:
            self._hand(known, event)
        except Exception as error:  # nobody thought of it: this connection is over, the others are not
            name = type(error).__name__
            self.troubles.add(f"stream {number}, frame {event.frame.number}: internal error: {name}")
            self._source.drop(number)
            self._forget(number)
            return
        if known.ssh is False:
            self._drop(number)
        elif known.over:
            self._forget(number)
        else:
            self._weigh(number, known)

    def _watch(self, number: int, first: list[Frame], event: Event) -> None:
        """Begins to watch a stream, unless it is over before it carried anything."""
        if isinstance(event, Ended) and event.how != "fin":
            return
        passive = Passive(number, first[0], self._sink, self.keys, show_secrets=self._show)
        self._watched[number] = passive
        for frame in first:
            passive.segment(frame)

    def _weigh(self, number: int, passive: Passive) -> None:
        """Sees to it that all observers together keep a bounded amount: the largest give up theirs."""
        kept, before = passive.kept, self._kept.get(number, 0)
        if kept == before:
            return
        self._kept[number] = kept
        self._kept_by_all += kept - before
        if self._kept_by_all > MAX_KEPT:
            for each in sorted(self._kept, key=lambda each: -self._kept[each]):
                self._watched[each].give_up("too much of other connections waits as well")
                self._kept_by_all -= self._kept.pop(each)
                if self._watched[each].ssh is False:
                    self._drop(each)
                if self._kept_by_all <= MAX_KEPT // 2:
                    break

    def _forget(self, number: int) -> None:
        del self._watched[number]
        self._kept_by_all -= self._kept.pop(number, 0)

    def _hand(self, passive: Passive, event: Data | Gap | Ended) -> None:
        frame = event.frame
        if isinstance(event, Data):
            self._append(_Waiting(event.stream, frame))
            self._waiting += len(frame.payload)
            passive.receive(event.forward, event.data, frame.time, frame.number)
        elif isinstance(event, Gap):
            passive.gap(event.forward, event.length, frame.time, frame.number)
        else:
            passive.ended(event.forward, event.how, frame.time, frame.number)

    def _drop(self, number: int) -> None:
        """The stream is no SSH: nothing of it is told."""
        self._source.drop(number)
        self._forget(number)
        for waiting in self._places.pop(number, ()):
            self._waiting -= len(waiting.frame.payload) if waiting.frame is not None else 0
            waiting.stream, waiting.frame, waiting.seen, waiting.before = GONE, None, [], []
            self._dropped += 1

    def _append(self, waiting: _Waiting) -> None:
        self._queue.append(waiting)
        self._places.setdefault(waiting.stream, deque()).append(waiting)

    def _sink(self, seen: Seen) -> None:
        """Puts a record to the frame that completed it where that still waits, else to the end."""
        self._judge(seen)
        place = self._place(seen)
        if place is None:
            self._append(_Waiting(seen.stream, None, [seen]))
        else:
            place.append(seen)

    def _place(self, seen: Seen) -> list[Seen] | None:
        """Where `seen` belongs among what waits of its stream; without a frame, after what was told last."""
        frame, first = seen.frames[1], None
        for waiting in reversed(self._places.get(seen.stream, ())):
            if waiting.frame is None:
                return None
            if waiting.frame.number == frame or (not frame and waiting.seen):
                return waiting.seen
            if frame and waiting.frame.number < frame:
                return None
            first = waiting
        return first.before if first is not None else None

    def _ready(self) -> Iterable[Frame | Seen]:
        """What need not wait any longer, in order."""
        while self._queue:
            first = self._queue[0]
            passive = self._watched.get(first.stream)
            if passive is not None and (passive.ssh is None or passive.undecided):
                if len(self._queue) - self._dropped <= MAX_WAITING and self._waiting <= MAX_WAITING_BYTES:
                    return
                passive.settle()
                if passive.ssh is False:
                    self._drop(first.stream)
                continue
            self._queue.popleft()
            if first.stream == GONE:
                self._dropped -= 1
                continue
            places = self._places[first.stream]
            places.popleft()
            if not places:
                del self._places[first.stream]
            yield from first.before
            if first.frame is not None:
                self._waiting -= len(first.frame.payload)
                yield first.frame
            yield from first.seen

    # --- what went wrong

    def _judge(self, seen: Seen) -> None:
        record = seen.record
        if not isinstance(record, StateRecord) or record.name not in ("gap", "not_decrypted", "error"):
            return
        where = f"stream {seen.stream}, frame {seen.frames[1]}" if seen.frames[1] else f"stream {seen.stream}"
        facts = record.facts
        if record.name == "gap":
            self.troubles.add(f"{where}: {facts['bytes']} bytes are not in the capture")
        elif record.name == "error":
            self.troubles.add(f"{where}: {facts['text']}")
        elif len(self.keys) or seen.client is not None:
            self.troubles.add(f"{where}: {facts['why']}")

    def _sum_up(self) -> None:
        for what, problem in self._source.problems.items():
            times = f" ({problem.count} times)" if problem.count > 1 else ""
            self.troubles.add(f"frame {problem.first}: {what}{times}" if problem.first else f"{what}{times}")
        for line in self.keys.troubles:
            self.troubles.add(f"key log {line}")
        self.troubles.more += self.keys.bad - len(self.keys.troubles)


def read_source(source: Source, *, keys: KeyLog | None = None, show_secrets: bool = False) -> Reading:
    """Reads a source of stream events; `show_secrets` leaves passwords in the payloads."""
    return Reading(source, keys=keys, show_secrets=show_secrets)


def read(
    path: str | Path, *, keys: KeyLog | None = None, show_secrets: bool = False
) -> Iterator[Frame | Seen]:
    """Reads a capture file and forgets its troubles; see `read_source`. Raises CaptureError."""
    with open_source(path) as source:
        yield from read_source(source, keys=keys, show_secrets=show_secrets)


