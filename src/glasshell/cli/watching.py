"""What looks on at a connection because a flag asked for it: the same flags for ssh, sshd and demo.

A view is one row of `VIEWS`; each command takes its flags from there, and `open_views` opens what was
asked for. Imports are late: a view that nobody asked for costs nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    import argparse

    from ..observe.record import Record
    from ..views.recording import Recording

__all__ = ["VIEWS", "OpenView", "View", "add_flags", "check_views", "close_views", "for_one", "open_views"]


class OpenView(Protocol):
    """A sink that is told when nothing more comes."""

    def __call__(self, record: Record, /) -> None:
        """Hears one record."""
        ...

    def close(self) -> None:
        """Draws or writes what is left."""
        ...


class View(NamedTuple):
    """One flag: its value's name or "", what it is for, and what opens it with that value.

    `file`: it writes one connection into one file, so a server takes it only where it serves one.
    """

    flag: str
    value: str
    about: str
    open: Callable[[str], OpenView]
    file: bool
    check: Callable[[str], object] = str
    """Raises what `open` would raise, for a server that opens a view for each connection."""
    folder: bool = False
    """Where the value is a folder, each connection has a file of its own in it."""


def _timeline(_: str) -> OpenView:
    from ..views.timeline import Timeline

    class Drawn(Timeline):
        def close(self) -> None:
            with suppress(OSError):
                self.render(None, sys.stderr.isatty(), sys.stderr)

    return Drawn()


def _trace(path: str) -> OpenView:
    from ..views.trace import open_trace

    return open_trace(path)


def _recorder(flag: str, *, input: bool) -> Callable[[str], OpenView]:
    """Opens a session recording, says so on standard error, and at the end if there was nothing to record."""

    def opened(path: str) -> OpenView:
        from ..views.recording import open_recording

        recording = open_recording(path, input=input)
        if Path(path).is_dir():
            return recording
        _warn(_recorded(flag, path, input))
        return _Said(recording, flag)

    return opened


def _recorded(flag: str, path: str, input: bool) -> str:
    whole = "and everything typed, passwords included, are" if input else "is"
    return f"{flag}: what sessions on a terminal show {whole} recorded to {path}"


def _can_record(flag: str, *, input: bool) -> Callable[[str], object]:
    def check(path: str) -> None:
        from ..errors import ConfigError

        if not os.access(path, os.W_OK | os.X_OK):
            raise ConfigError(f"{flag}: cannot write into the folder {path}")
        _warn(_recorded(flag, path, input))

    return check


class _Said:
    """A recording that says at the end that nothing was recorded."""

    def __init__(self, recording: Recording, flag: str) -> None:
        self._recording = recording
        self._flag = flag

    def __call__(self, record: Record) -> None:
        self._recording(record)

    def close(self) -> None:
        self._recording.close()
        if not self._recording.recorded:
            _warn(f"{self._flag}: nothing was recorded: no session had a terminal (-t asks for one)")


def _telemetry(_: str) -> OpenView:
    from ..views.otlp import open_telemetry

    return open_telemetry(_warn)


def _can_export(_: str) -> object:
    from ..views.otlp import check_environment

    return check_environment()


def _warn(text: str) -> None:
    with suppress(OSError):
        print(f"glasshell: {text}", file=sys.stderr)


VIEWS: Final[tuple[View, ...]] = (
    View("--timeline", "", "show every message with its time, at the end", _timeline, False),
    View("--trace", "FILE", "write every record to FILE (.jsonl or .sqlog)", _trace, True),
    View("--record", "FILE", "record what the terminal shows (.cast: asciicast v2; .v3.cast: v3)",
         _recorder("--record", input=False), True, _can_record("--record", input=False), True),
    View("--record-input", "FILE", "the same with everything that is typed, passwords included",
         _recorder("--record-input", input=True), True, _can_record("--record-input", input=True), True),
    View("--otel", "", "send spans and metrics by OTLP, as OTEL_... in the environment say", _telemetry,
         False, _can_export),
)  # fmt: skip
"""Every view that a flag opens."""



def add_flags(parser: argparse.ArgumentParser) -> None:
    """Every view's flag; what is asked for is in `views` of the parsed arguments, as (flag, value)."""
    for view in VIEWS:
        how: dict[str, Any] = {"dest": "views", "default": [], "help": view.about}
        if view.value:
            how |= {"action": "append", "metavar": view.value, "type": lambda value, f=view.flag: (f, value)}
        else:
            how |= {"action": "append_const", "const": (view.flag, "")}
        parser.add_argument(view.flag, **how)


_BY_FLAG: Final = {view.flag: view for view in VIEWS}


def open_views(asked: Iterable[tuple[str, str]]) -> list[OpenView]:
    """The views of (flag, value) pairs, in their order.

    Raises ConfigError for a file that cannot be written.
    """
    opened: list[OpenView] = []
    try:
        for flag, value in asked:
            opened.append(_BY_FLAG[flag].open(value))
    except BaseException:
        close_views(opened)
        raise
    return opened


def for_one(flag: str, value: str) -> bool:
    """Whether this view is for one connection only."""
    view = _BY_FLAG[flag]
    return view.file and not (view.folder and Path(value).is_dir())


def check_views(asked: Iterable[tuple[str, str]]) -> None:
    """Raises ConfigError where a view could not be opened for a connection that is still to come."""
    for flag, value in asked:
        _BY_FLAG[flag].check(value)


def close_views(opened: Iterable[OpenView]) -> None:
    """Ends every view."""
    for view in opened:
        view.close()
