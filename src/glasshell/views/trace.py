"""A trace: the records of one connection in a file, whose name says in which form."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from ..errors import ConfigError
from ..observe.hub import Sink
from ..observe.record import MessageRecord, Record
from .files import open_private
from .jsonl import JsonLines
from .qlog import QlogView

FORMS: Final[dict[str, Callable[[Callable[[str], object]], Sink]]] = {".jsonl": JsonLines, ".sqlog": QlogView}
"""The views a trace can be written in, by the ending of the file's name."""


BEHIND: Final = 32
SMALL: Final = 4096
"""Bytes on the wire beyond which a message is one of a transfer."""


class Trace:
    """A sink that writes to a file of its own and closes it with the connection's last record.

    What is told in one read or write of the socket is in the file at once, so that a program that dies leaves
    its trace; only of a transfer's packets up to `BEHIND` wait for the next small message.
    """

    def __init__(self, file: IO[str], view: Callable[[Callable[[str], object]], Sink]) -> None:
        self._file = file
        self._view = view(file.write)
        self._waiting = 0
        self.hears = getattr(self._view, "hears", frozenset({"records"}))

    def __call__(self, record: Record) -> None:
        """Writes one record."""
        if self._file.closed:
            return
        self._view(record)
        if isinstance(record, MessageRecord):
            self._waiting += 1 if record.wire_length > SMALL else BEHIND
        else:
            self._flush()
            if record.name == "closed":
                self.close()

    def turn(self) -> None:
        """A read or write of the socket is told of."""
        if self._waiting >= BEHIND:
            self._flush()

    def _flush(self) -> None:
        self._waiting = 0
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        """Closes the file; what is told afterwards is not written."""
        self._file.close()


def open_trace(path: str | os.PathLike[str]) -> Trace:
    """The sink for `--trace PATH`: JSON lines for `.jsonl`, qlog for `.sqlog`; only the owner may read it.

    Raises ConfigError for another ending and for a file that cannot be written.
    """
    target = Path(path)
    view = FORMS.get(target.suffix.lower())
    if view is None:
        raise ConfigError(
            f"cannot tell the form of a trace from {target.name!r}: "
            "its name ends in .jsonl (JSON lines) or .sqlog (qlog)"
        )
    return Trace(open_private(target, "trace", buffering=-1), view)
