"""The first records of a connection, kept so that an error can tell the story that led to it."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Literal, TypeAlias

from ..observe.hub import Hub, Sink
from ..observe.record import Record, StateRecord

__all__ = ["Recorder", "new_hub"]

MAX_RECORDS: Final = 2000
ID_BYTES: Final = 8
"""Bytes of a connection's own id: enough that no two of a fleet's share one."""

Role: TypeAlias = Literal["client", "server"]


class Recorder:
    """Hears a connection until its login is over; afterwards it costs nothing."""

    __slots__ = ("_clock", "_kept", "_packed", "_sink", "hub")

    def __init__(
        self, role: Role, sinks: Sequence[Sink], clock: Callable[[], float], *, since: float | None = None
    ) -> None:
        """The hub of a connection that begins now, or began `since`, heard by `sinks` as well."""
        kept: deque[Record] = deque(maxlen=MAX_RECORDS)
        self._kept: Collection[Record] = kept
        self._packed = b""
        self._sink: Sink = kept.append
        self._clock = clock
        self.hub: Hub | None = new_hub(role, (self._sink, *sinks), clock, since=since)
        """None once nobody hears any more."""

    @property
    def records(self) -> Sequence[Record]:
        """What was heard, in order: the last 2,000; after `pack` the states of them."""
        if self._packed:
            import pickle
            import zlib

            self._kept, self._packed = pickle.loads(zlib.decompress(self._packed)), b""
        return tuple(self._kept)

    def state(self, name: str, /, **facts: Any) -> None:
        """Tells the hub of something that is no message."""
        self.state_at(self._clock(), name, **facts)

    def state_at(self, time: float, name: str, /, **facts: Any) -> None:
        """As `state`, of something that was at `time`, by the recorder's clock."""
        if self.hub is not None:
            self.hub.now = time
            self.hub.state(name, **facts)

    def hear(self, sink: Sink) -> None:
        """`sink` hears as well, from here on."""
        if self.hub is not None:
            self.hub.add(sink)

    def unhear(self, sink: Sink) -> None:
        """The end of `hear`."""
        if self.hub is not None:
            self.hub.remove(sink)

    def stop(self) -> None:
        """Hears no more."""
        self.unhear(self._sink)
        self._sink = _unheard

    def pack(self) -> None:
        """Lets go of the messages heard, and keeps the states in a tenth of the room: together they would be
        more than half of what an idle connection holds."""
        import pickle
        import zlib

        if self.hub is not None and not self.hub.heard:
            self.hub = None
        states = [record for record in self._kept if isinstance(record, StateRecord)]
        self._kept, self._packed = (), zlib.compress(pickle.dumps(states, pickle.HIGHEST_PROTOCOL), 1)


def _unheard(record: Record) -> None:
    """Stands where nobody hears any more."""


def new_hub(
    role: Role, sinks: Sequence[Sink], clock: Callable[[], float], *, since: float | None = None
) -> Hub:
    """The hub of a connection that begins now, or began `since`; its first record says so."""
    from .. import __version__

    now = clock()
    start = now if since is None else since
    hub = Hub(*sinks, start=start)
    hub.state(
        "started", role=role, wall_time=time.time() - (now - start), software="glasshell",
        version=__version__, id=os.urandom(ID_BYTES).hex(),
    )  # fmt: skip
    return hub
