"""Whatever a capture is stored in: which kind of file it is, and the events of its streams."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Literal, Protocol, TypeAlias

from ..errors import CaptureError
from ..observe.seen import Frame
from .containers import Secrets, kind_of
from .frames import Frames
from .problems import Problem
from .strace import StraceSource
from .streams import Event, Streams

__all__ = ["Kind", "PacketSource", "Source", "open_source", "sniff"]

Kind: TypeAlias = Literal["pcap", "pcapng", "gzip", "strace", "jsonl", "sqlog", "none"]

SNIFFED: Final = 4_096
"""Bytes at the beginning of a file that its kind is told by."""

_STRACE: Final = re.compile(
    rb"(?:\[pid +\d+\] |\d+ +)?(?:\d+[\d:.]* +)?"
    rb"(?:\w+\(.*(?:\) += [-?\dx]|<unfinished \.\.\.>)|<\.\.\. \w+ resumed>|--- SIG|\+\+\+ (?:exited|killed)"
    rb"|\w+\(.{3000})"
)


class Source(Protocol):
    """The streams of a capture file; iterate once, then look at `problems`."""

    @property
    def packets(self) -> int:
        """What the file consists of (packets, or lines of strace), counted as far as it has been read."""
        ...

    @property
    def problems(self) -> Mapping[str, Problem]:
        """What could not be used, with how often and where first."""
        ...

    def __iter__(self) -> Iterator[Event | Secrets]: ...

    def drop(self, stream: int) -> None:
        """Nobody wants to know more of `stream`."""
        ...


class PacketSource:
    """A file of packets. Raises CaptureError where it is neither pcap nor pcapng."""

    def __init__(self, file: BinaryIO, name: str = "the file") -> None:
        self._frames = Frames(file, name)
        self._streams = Streams()
        self._streams.problems = self._frames.problems
        self.heard: Callable[[Frame], None] | None = None
        """Hears every TCP segment, after its events' stream is known and before they are told."""
        self.drop: Callable[[int], None] = self._streams.drop

    @property
    def packets(self) -> int:
        """Packets of the file so far."""
        return self._frames.packets

    @property
    def problems(self) -> Mapping[str, Problem]:
        """What could not be used, with how often and where first."""
        return self._frames.problems

    def __iter__(self) -> Iterator[Event | Secrets]:
        feed = self._streams.feed
        for item in self._frames:
            if isinstance(item, Secrets):
                yield item
                continue
            events = feed(item)
            if self.heard is not None:
                self.heard(item)
            yield from events
        yield from self._streams.finish()


def sniff(start: bytes) -> Kind:
    """Which kind of file it is that begins with `start` (the first `SNIFFED` bytes)."""
    found = kind_of(start)
    if found == "pcap":
        return "pcap"
    if found == "pcapng":
        return "pcapng"
    if start[:2] == b"\x1f\x8b":
        return "gzip"
    if start[:1] == b"\x1e":
        return "sqlog"
    if start[:1] == b"{":
        return "jsonl"
    return "strace" if _STRACE.match(start) else "none"


@contextmanager
def open_source(path: str | Path) -> Iterator[Source]:
    """Opens a capture file and closes it again.

    Raises CaptureError where it cannot be read, or is of no kind that holds a capture.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115
        start = file.peek(SNIFFED)
    except OSError as error:
        raise CaptureError(f"{path}: {error.strerror or error}") from None
    with file:
        kind = sniff(start)
        if kind in ("jsonl", "sqlog"):
            raise CaptureError(f"{path} holds records, not what went over the wire")
        yield StraceSource(file, str(path)) if kind == "strace" else PacketSource(file, str(path))
