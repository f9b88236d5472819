"""Frames made by hand, and what came of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from glasshell.capture.streams import ACK, FIN, SYN, Data, Ended, Event, Gap, Streams
from glasshell.observe.seen import Frame

CLIENT, SERVER = ("192.0.2.1", 50000), ("192.0.2.2", 22)


class Wire:
    """Numbers the frames of one connection; sequence numbers begin at the two given."""

    def __init__(self, client_isn: int = 1000, server_isn: int = 9000, start: int = 1) -> None:
        self.isn = (client_isn, server_isn)
        self.number = start - 1

    def frame(
        self, *, client: bool = True, at: int = 0, data: bytes = b"", flags: int = ACK, ack: int = 0,
        missing: int = 0, time: float | None = None,
    ) -> Frame:  # fmt: skip
        """A segment whose first byte is number `at` of its direction (SYN is -1)."""
        self.number += 1
        here, there = (CLIENT, SERVER) if client else (SERVER, CLIENT)
        mine, peer = self.isn if client else self.isn[::-1]
        seq, acknowledged = (mine + 1 + at) & 0xFFFFFFFF, (peer + 1 + ack) & 0xFFFFFFFF
        return Frame(
            self.number, self.number / 1000 if time is None else time, 54 + len(data),
            here[0], there[0], here[1], there[1], seq, acknowledged, flags, data, missing,
        )  # fmt: skip

    def hello(self) -> list[Frame]:
        return [
            self.frame(at=-1, flags=SYN),
            self.frame(client=False, at=-1, flags=SYN | ACK),
            self.frame(),
        ]

    def bye(self, sent: int, received: int) -> list[Frame]:
        return [
            self.frame(at=sent, ack=received, flags=FIN | ACK),
            self.frame(client=False, at=received, ack=sent + 1, flags=FIN | ACK),
            self.frame(at=sent + 1, ack=received + 1),
        ]


def events(frames: Iterable[Frame], streams: Streams | None = None) -> list[Event]:
    streams = streams or Streams()
    found = [event for frame in frames for event in streams.feed(frame)]
    return [*found, *streams.finish()]


def heard(found: Iterable[Event], *, forward: bool = True, stream: int = 0) -> list[bytes | int]:
    """One direction: bytes joined, gaps as numbers."""
    told: list[bytes | int] = []
    for event in found:
        if event.stream != stream or not isinstance(event, Data | Gap) or event.forward != forward:
            continue
        if isinstance(event, Gap):
            told.append(event.length)
        elif told and isinstance(told[-1], bytes):
            told[-1] += event.data
        else:
            told.append(event.data)
    return told


def endings(found: Iterable[Event]) -> Sequence[tuple[int, bool, str]]:
    return [(event.stream, event.forward, event.how) for event in found if isinstance(event, Ended)]
