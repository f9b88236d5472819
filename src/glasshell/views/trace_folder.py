"""A folder of traces: one file of records for each connection of a server, bounded in every direction."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..errors import ConfigError
from ..observe.record import Record, StateRecord
from .files import private_descriptor, write_whole
from .jsonl import JsonLines

MAX_FILE: Final = 16 * 1024 * 1024
"""Bytes of one connection's file; its last record then says that it is full."""
MAX_FILES: Final = 1000
MAX_TOTAL: Final = 256 * 1024 * 1024
"""Bytes of all files together, looked at when a connection begins: then the oldest ones make room, but for
those of connections that are still open."""

_LAST_RECORD: Final = 512
"""Bytes kept free for the record that says that the file is full."""
_NAME: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-zA-Z_.]+-\d+-(\d+)\.jsonl")


class TraceFolder:
    """The folder of `sshd --trace DIR`: files TIME-ADDRESS-PORT-SERIAL.jsonl, readable by their owner only.

    Only files that are named so are counted and removed.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, max_file: int = MAX_FILE, max_files: int = MAX_FILES,
        max_total: int = MAX_TOTAL,
    ) -> None:  # fmt: skip
        """Makes the folder if it is not there. Raises ConfigError where it cannot, or others may look in."""
        self.path = Path(path).absolute()
        self._max_file = max_file
        self._max_files = max_files
        self._max_total = max_total
        _private_folder(self.path)
        names = [each.name for each in self.path.iterdir()]
        found = sorted((int(match[1]), name) for name in names if (match := _NAME.fullmatch(name)))
        self._serial = max((serial for serial, _ in found), default=0)
        self._over = {name: self._size_of(name) for _, name in found}
        """Files of connections that are over, oldest first, and their bytes."""
        self._open: dict[str, ConnectionTrace] = {}

    def open(self, address: str, port: int, now: float) -> ConnectionTrace:
        """The sink of a connection that begins at `now` (seconds since 1970). Raises OSError."""
        self._make_room()
        self._serial += 1
        time = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        place = re.sub(r"[^0-9a-zA-Z.]", "_", address)
        name = f"{time}-{place}-{port}-{self._serial:06}.jsonl"
        made = ConnectionTrace(self.path / name, self._max_file, lambda: self._ended(name))
        self._open[name] = made
        return made

    def _make_room(self) -> None:
        used = sum(self._over.values()) + sum(trace.size for trace in self._open.values())
        while self._over and (
            len(self._over) + len(self._open) >= self._max_files or used >= self._max_total
        ):
            oldest = next(iter(self._over))
            used -= self._over.pop(oldest)
            with suppress(FileNotFoundError):
                (self.path / oldest).unlink()
        if len(self._open) >= self._max_files or used >= self._max_total:
            raise OSError(0, "the folder is full of the traces of open connections")

    def _ended(self, name: str) -> None:
        self._over[name] = self._open.pop(name).size

    def _size_of(self, name: str) -> int:
        try:
            return (self.path / name).stat().st_size
        except OSError:
            return 0


def _private_folder(path: Path) -> None:
    """Makes `path` with mode 0700, or finds that it is a folder that nobody else can look into."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"cannot make the folder of traces {path}: {error.strerror}") from error
    if os.name == "posix" and (status.st_uid != os.geteuid() or status.st_mode & 0o077):
        raise ConfigError(
            f"the folder of traces {path} is not this user's alone", hint=f"chmod 700 {path}, or name another"
        )


class ConnectionTrace:
    """A sink that writes one connection's records as JSON lines to a file that has a limit."""

    hears = JsonLines.hears

    def __init__(self, path: Path, limit: int, ended: Callable[[], None]) -> None:
        """A new file; `ended` is called when it is closed. Raises OSError."""
        self._descriptor: int | None = private_descriptor(path, new=True)
        self._limit = limit
        self._room = limit - _LAST_RECORD
        self._ended = ended
        self._full = False
        self._view = JsonLines(self._write)
        self.size = 0
        """Bytes written."""

    def __call__(self, record: Record) -> None:
        """Writes one record. Raises OSError where the disk does not take it: then nothing more is written."""
        if self._descriptor is None:
            return
        self._view(record)
        if self._full:
            self._room = self._limit
            what = f"the file has reached {self._limit} bytes"
            self._view(StateRecord(record.time, "sink_dropped", {"sink": type(self).__name__, "error": what}))
            self.close()
        elif isinstance(record, StateRecord) and record.name == "closed":
            self.close()

    def close(self) -> None:
        """Closes the file; what is told afterwards is not written."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._ended()

    def _write(self, line: str) -> None:
        assert self._descriptor is not None
        data = line.encode("utf-8", "backslashreplace")
        if self.size + len(data) > self._room:
            self._full = True
            return
        try:
            write_whole(self._descriptor, data)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.size)  # whole lines only
            self.close()
            raise
        self.size += len(data)
