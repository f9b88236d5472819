"""A connection as a Chrome trace: JSON that ui.perfetto.dev, chrome://tracing and Speedscope open.

The process is the endpoint, its threads are the layers and channels; a phase is a slice, a message a slice
that begins where the record before it ended, a state an instant, a channel's windows are counters, and arrows
lead from what was asked to what answered it. The form is that of Google's document "Trace Event Format", its
times are microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any, Final

from ..explain.course import Course, sentence
from ..explain.phases import PEER, PERSON, Phase, layer, numbers
from ..explain.trips import Trip
from ..messages import message_name
from ..observe.dissect import facts as facts_of
from ..observe.record import MessageRecord, Record, StateRecord
from .jsonl import compact, plain

__all__ = ["Perfetto"]

PROCESS: Final = 1
PHASES, STALLS, FIRST_CHANNEL = 1, 7, 100
LAYERS: Final = {"tcp": 2, "transport": 3, "kex": 4, "auth": 5, "connection": 6}
"""The thread of each layer; a channel's is FIRST_CHANNEL and its number."""
PLACES: Final = {
    "resolving": "tcp", "resolved": "tcp", "connecting": "tcp", "connected": "tcp", "connect_failed": "tcp",
    "jump": "tcp", "accepted": "tcp", "eof": "tcp", "closed": "tcp", "negotiated": "kex", "host_key": "kex",
    "host_key_verdict": "kex", "kex_started": "kex", "kex_done": "kex", "keys_installed": "kex",
}  # fmt: skip
"""The layer of a state, where its name does not begin with it."""
SPENT: Final = {PEER: "waiting for the peer", PERSON: "waiting for a person"}
SLICES: Final = {
    "connected": "ACK", "accepted": "ACK", "identification_sent": "identification",
    "identification_received": "identification",
}  # fmt: skip
"""The states that are slices too, and what a round trip that they begin calls them."""
MOST_CHANNELS: Final = 1000
MOST_ENDS: Final = 4096
"""Most slices that an arrow may still lead to."""


class Perfetto:
    """A sink that writes each event as soon as it is complete; `close` adds what only the end can tell.

    A file that was not closed lacks its last bracket, which its readers do without.
    """

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._course = Course()
        self._begun = False
        self._phase: tuple[Phase, float] | None = None
        self._windows: dict[int, dict[str, int]] = {}
        self._named: set[int] = set()
        self._ends: dict[tuple[str, float], tuple[int, float]] = {}

    def __call__(self, record: Record) -> None:
        """Writes what `record` tells."""
        if self._out.closed:
            return
        channel = self._course.clock.channel(record) if isinstance(record, MessageRecord) else 0
        known = len(self._course.trips.links)
        phase = self._course.hear(record)
        self._turn(phase)
        if isinstance(record, MessageRecord):
            self._message(record, channel)
        else:
            self._state(record)
        for trip in self._course.trips.links[known:]:
            self._arrow(trip)

    def close(self) -> None:
        """Ends the last phase, names the stalls, and closes the file; the second time it does nothing."""
        if self._out.closed:
            return
        with self._out:
            self._end_phase(self._course.clock.now)
            self._name(PHASES, "phases")
            for stall in self._course.stalls.found:
                self._name(STALLS, "stalls")
                told = {"kind": stall.kind, "evidence": stall.evidence, "confidence": stall.confidence}
                self._slice(stall.title, "stall", STALLS, stall.began, stall.took, told)
            self._event({"ph": "M", "name": "process_labels", "args": {"labels": sentence(self._course)}})
            self._out.write('],"displayTimeUnit":"ms"}\n')

    # ---- what is told

    def _message(self, record: MessageRecord, channel: int) -> None:
        name = message_name(record.number, record.context)
        thread = LAYERS[layer(record.number)]
        if 91 <= record.number <= 100:
            thread = self._channel(channel, record)
        else:
            self._name(thread, layer(record.number))
        clock = self._course.clock
        since = min(clock.since, record.time)
        told = {
            "direction": "sent" if record.sent else "received",
            "facts": facts_of(record.payload, record.context),
            "number": record.number, "seq": record.seq, "epoch": record.epoch, "bytes": record.wire_length,
            "spent": SPENT.get(clock.kind, "computing"),
        }  # fmt: skip
        shown = f"{'→' if record.sent else '←'} {name.removeprefix('SSH_MSG_')}"
        self._slice(shown, "message", thread, since, record.time - since, told)
        self._end(name, record.time, thread, since)

    def _channel(self, channel: int, record: MessageRecord) -> int:
        """The thread of a channel, whose windows are kept as they go up and down."""
        number = channel if 0 <= channel < MOST_CHANNELS else MOST_CHANNELS
        thread = FIRST_CHANNEL + number
        self._name(thread, f"channel {number}" if number < MOST_CHANNELS else "other channels")
        windows = self._windows.setdefault(number, {"ours": 0, "peer's": 0})
        of = "peer's" if record.sent else "ours"
        second = numbers(record, 2)[1]
        if record.number in (94, 95):
            windows[of] -= max(len(record.payload) - (9 if record.number == 94 else 13), 0)
        elif record.number == 93:
            windows["ours" if record.sent else "peer's"] += max(second, 0)
        else:
            return thread
        counter = {"ph": "C", "name": f"window of channel {number}", "args": dict(windows)}
        self._event(counter | {"ts": _us(record.time)})
        return thread

    def _state(self, record: StateRecord) -> None:
        facts = {name: plain(value) for name, value in record.facts.items()}
        if record.name == "started":
            self._start(facts)
        elif record.name == "channel_open":
            channel = int(facts.get("channel") or 0)
            windows = self._windows.setdefault(channel, {})
            windows |= {"ours": int(facts.get("window") or 0), "peer's": int(facts.get("peer_window") or 0)}
        place = PLACES.get(record.name, record.name.partition("_")[0])
        place = "auth" if place.startswith("auth") else place if place in LAYERS else "transport"
        if record.name.startswith(("channel", "session", "exit", "interactive")):
            place = "connection"
        self._name(LAYERS[place], place)
        if record.name in SLICES:
            since = min(self._course.clock.since, record.time)
            self._slice(record.name, "state", LAYERS[place], since, record.time - since, facts)
            for name in (record.name, SLICES[record.name]):
                self._end(name, record.time, LAYERS[place], since)
        self._event({"ph": "i", "s": "t", "name": record.name, "cat": "state", "tid": LAYERS[place],
                     "ts": _us(record.time), "args": facts})  # fmt: skip

    def _start(self, facts: Mapping[str, Any]) -> None:
        name = f"{facts.get('role', '')} {facts.get('software', '')}".strip() or "connection"
        self._event({"ph": "M", "name": "process_name", "args": {"name": name}})

    # ---- phases

    def _turn(self, phase: Phase) -> None:
        if self._phase is None or self._phase[0] is not phase:
            self._end_phase(self._course.clock.since)
            self._phase = (phase, self._course.clock.since)

    def _end_phase(self, ended: float) -> None:
        if self._phase is not None:
            phase, began = self._phase
            self._slice(phase.title, "phase", PHASES, began, ended - began, {})

    # ---- the events

    def _slice(
        self, name: str, kind: str, thread: int, began: float, took: float, told: Mapping[str, Any]
    ) -> None:
        self._event({
            "ph": "X", "name": name, "cat": kind, "tid": thread, "ts": _us(began),
            "dur": round(took * 1e6, 3), "args": plain(told),
        })  # fmt: skip

    def _end(self, name: str, time: float, thread: int, since: float) -> None:
        """Remembers a slice: an arrow is bound to the one that its time lies in."""
        self._ends[name, time] = (thread, (since + time) / 2)
        if len(self._ends) > MOST_ENDS:
            del self._ends[next(iter(self._ends))]

    def _arrow(self, trip: Trip) -> None:
        """From the slice of what was asked to that of its answer, where both are known."""
        begin, end = self._ends.get((trip.asked, trip.began)), self._ends.get((trip.answered, trip.ended))
        if begin is None or end is None or end[1] < begin[1]:
            return
        common = {"name": f"round trip {trip.number}", "cat": "trip", "id": trip.number}
        self._event({"ph": "s", **common, "tid": begin[0], "ts": _us(begin[1])})
        self._event({"ph": "f", "bp": "e", **common, "tid": end[0], "ts": _us(end[1])})

    def _name(self, thread: int, name: str) -> None:
        if thread in self._named:
            return
        self._named.add(thread)
        for what, value in (("thread_name", {"name": name}), ("thread_sort_index", {"sort_index": thread})):
            self._event({"ph": "M", "name": what, "tid": thread, "args": value})

    def _event(self, event: Mapping[str, Any]) -> None:
        start = "," if self._begun else '{"traceEvents":['
        self._begun = True
        self._out.write(f"{start}\n{compact({'pid': PROCESS, 'tid': 0, **event})}")


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)


