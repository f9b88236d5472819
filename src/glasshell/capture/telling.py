"""The records of one captured connection on their way to whoever asked for them.

Who is the client may be known only some messages into the connection, and the records of these messages
depend on it: until then they wait here, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from ..observe.record import MessageRecord, StateRecord, SubsystemRecord
from ..observe.redact import redact
from ..observe.seen import Seen

Sink: TypeAlias = Callable[[Seen], None]
Frames: TypeAlias = tuple[int, int]

NOWHERE: Final[Frames] = (0, 0)
MAX_WAITING: Final = 2048
"""Records that wait for the roles at most; `Teller.full` then asks for a decision."""


class Teller:
    """Makes records and hands them to `sink`; `start` is the time of the connection's first frame."""

    def __init__(self, stream: int, sink: Sink, start: float, *, show_secrets: bool) -> None:
        self.stream = stream
        self.start = start
        self.client: bool | None = None
        """Whether the client is the sender of the first frame; None: not known yet."""
        self._sink = sink
        self._show = show_secrets
        self._waiting: list[Callable[[], None]] = []

    @property
    def full(self) -> bool:
        """Whether enough waits."""
        return len(self._waiting) >= MAX_WAITING

    def decide(self, client_is_first: bool) -> None:
        """Now it is known who the client is: what waited is told."""
        self.client = client_is_first
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell()

    def message(
        self, forward: bool, time: float, frames: Frames, verified: bool | None, *, seq: int, epoch: int,
        context: str, payload: bytes, lengths: tuple[int, int, int],
    ) -> None:  # fmt: skip
        """Tells of one packet."""
        if self.client is None:
            self._waiting.append(
                lambda: self.message(
                    forward, time, frames, verified, seq=seq, epoch=epoch, context=context, payload=payload,
                    lengths=lengths,
                )
            )  # fmt: skip
            return
        sent = forward is self.client
        shown = payload if self._show else redact(payload, context)
        record = MessageRecord(
            time - self.start, sent, seq, epoch, context, payload[0] if payload else 0, shown, *lengths
        )
        self._sink(Seen(record, self.stream, sent, frames, verified))

    def state(
        self, name: str, time: float, frames: Frames = NOWHERE, forward: bool | None = None,
        verified: bool | None = None, /, **facts: Any,
    ) -> None:  # fmt: skip
        """Tells of a state that does not depend on who `forward` is."""
        self.late(time, frames, forward, lambda sent: (name, facts), verified)

    def encrypted(
        self, time: float, frames: Frames, forward: bool, verified: bool | None = None, /, **facts: Any
    ) -> None:
        """Tells of bytes that cannot be read, and who sent them."""
        self.late(time, frames, forward, lambda sent: ("encrypted", {"sent": sent, **facts}), verified)

    def late(
        self, time: float, frames: Frames, forward: bool | None,
        make: Callable[[bool], tuple[str, dict[str, Any]]], verified: bool | None = None,
    ) -> None:  # fmt: skip
        """Tells of a state whose name or facts depend on whether the client sent it."""
        if self.client is None:
            self._waiting.append(lambda: self.late(time, frames, forward, make, verified))
            return
        sent = None if forward is None else forward is self.client
        name, facts = make(bool(sent))
        self._sink(Seen(StateRecord(time - self.start, name, facts), self.stream, sent, frames, verified))

    def subsystem(
        self, sent: bool, time: float, frames: Frames, verified: bool | None, *, channel: int, context: str,
        payload: bytes,
    ) -> None:  # fmt: skip
        """Tells of one packet of a subsystem; there are none before the roles are known."""
        record = SubsystemRecord(time - self.start, sent, channel, context, payload[0], payload)
        self._sink(Seen(record, self.stream, sent, frames, verified))
