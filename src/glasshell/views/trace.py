"""A trace: the records of one connection in a file, whose name says in which form."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from ..errors import ConfigError
from ..observe.hub import Sink
from ..observe.record import Record, StateRecord
from .files import open_private
from .jsonl import JsonLines
from .qlog import QlogView

FORMS: Final[dict[str, Callable[[Callable[[str], object]], Sink]]] = {".jsonl": JsonLines, ".sqlog": QlogView}
"""The views a trace can be written in, by the ending of the file's name."""


class Trace:
    """A sink that writes to a file of its own and closes it with the connection's last record.

    Each record is in the file as soon as it is told, so that a program that dies leaves its trace.
    """

    def __init__(self, file: IO[str], view: Callable[[Callable[[str], object]], Sink]) -> None:
        self._file = file
        self._view = view(file.write)

    def __call__(self, record: Record) -> None:
        """Writes one record."""
        if self._file.closed:
            return
        self._view(record)
        if isinstance(record, StateRecord) and record.name == "closed":
            self.close()

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
    return Trace(open_private(target, "trace"), view)
