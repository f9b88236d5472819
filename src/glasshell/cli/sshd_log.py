"""Where the lines of `glasshell sshd` go: standard error, a file or syslog; and how many of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from ..config.options import ServerOptions
    from ..observe.hub import Sink
    from ..observe.record import Record
    from .watching import OpenView

__all__ = ["NAME", "ClosedAtTheEnd", "Log", "without_start"]

NAME: Final = "sshd"
"""What syslog's lines are found by: what reads them (fail2ban, logcheck) looks for sshd's name."""

_QUIET: Final = ("QUIET", "FATAL")
_LEVELS: Final = {"VERBOSE": 1, "DEBUG": 1, "DEBUG1": 1, "DEBUG2": 2, "DEBUG3": 3}


class Log:
    """The log of one run. Raises ConfigError where the file of -E cannot be written."""

    def __init__(self, arguments: argparse.Namespace, options: ServerOptions) -> None:
        self._arguments = arguments
        self.debug: int = min(arguments.debug, 3)
        self._file: Any = None
        self.renew(options)

    def renew(self, options: ServerOptions) -> None:
        """Begins anew with other options; the file of -E, which may have been moved away, is opened again."""
        # As in sshd, -q is for errors as well, and -d is stronger than either.
        level = "QUIET" if self._arguments.quiet else options.log_level
        self.level = self.debug or (-1 if level in _QUIET else _LEVELS.get(level, 0))
        self._plain = not self.debug and level == "VERBOSE"
        self._write = self._open(options)

    def _open(self, options: ServerOptions) -> Callable[[str], Any]:
        arguments = self._arguments
        if arguments.log_file:
            try:
                # Line by line and unbuffered: several connections, and what forks, write to it.
                opened = Path(arguments.log_file).open(  # noqa: SIM115 - open as long as this is
                    "a", buffering=1, encoding="utf-8", newline=""
                )
            except OSError as error:
                raise ConfigError(f"log file {arguments.log_file}: {error.strerror or error}") from None
            if self._file is not None:
                self._file.close()
            self._file = opened
            return opened.write
        tested = arguments.test or arguments.show
        foreground = (arguments.foreground or self.debug) and not arguments.inetd
        if foreground or arguments.stderr or tested:
            return sys.stderr.write if sys.stderr is not None else len  # closed: nobody hears
        from ..system.daemon import Syslog

        return Syslog(NAME, options.syslog_facility).write

    def view(self, *, preauth: bool = False) -> Sink:
        """A sink that logs one connection's records, or the server's own."""
        from ..views.log import LogView

        return LogView(self.write, self.level, "server", preauth=preauth)

    def write(self, line: str) -> None:
        """Writes one line, which has its end already."""
        if not (self._plain and line.startswith("debug1: ")):
            with suppress(OSError, ValueError):  # nobody may be left to read it
                self._write(line)


def without_start(view: Sink) -> Sink:
    """The server's own records have said already which program this is."""
    return lambda record: None if getattr(record, "name", "") == "started" else view(record)


class ClosedAtTheEnd:
    """A view that is closed with its connection's last record."""

    def __init__(self, view: OpenView) -> None:
        self._view = view
        self.hears = getattr(view, "hears", {"records"})
        self.__qualname__ = type(view).__name__  # by which the hub speaks of it

    def __call__(self, record: Record) -> None:
        self._view(record)
        if getattr(record, "name", "") == "closed":
            self._view.close()
