"""What looks on at a connection because a flag asked for it: the same flags for ssh, sshd and demo.

A view is one row of `VIEWS`; each command takes its flags from there, and `open_views` opens what was
asked for. Imports are late: a view that nobody asked for costs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    import argparse

    from ..observe.record import Record

__all__ = ["VIEWS", "OpenView", "View", "add_flags", "close_views", "open_views"]


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


VIEWS: Final[tuple[View, ...]] = (
    View("--timeline", "", "show every message with its time, at the end", _timeline, False),
    View("--trace", "FILE", "write every record to FILE (.jsonl or .sqlog)", _trace, True),
)
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


def close_views(opened: Iterable[OpenView]) -> None:
    """Ends every view."""
    for view in opened:
        view.close()
