"""What looks on at a connection because a flag asked for it: the same flags for ssh, sshd and demo.

A view is one row of `VIEWS`; each command takes its flags from there, and `open_views` opens what was
asked for. Imports are late: a view that nobody asked for costs nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ..errors import ConfigError
from ..wire import visible

if TYPE_CHECKING:
    import argparse

    from ..observe.record import Record
    from ..policy import Policy
    from ..views.recording import Recording
    from ..views.trace_folder import TraceFolder

__all__ = [
    "VIEWS", "OpenView", "Scope", "View", "add_flags", "check_views", "close_views", "for_capture",
    "open_folder", "open_views", "scope", "tell_of_secrets", "wanted",
]  # fmt: skip

KEY_LOG_VARIABLE: Final = "SSHKEYLOGFILE"
"""The environment variable that names a key log, for the commands alone; the library looks at none."""


class OpenView(Protocol):
    """A sink that is told when nothing more comes."""

    def __call__(self, record: Record, /) -> None:
        """Hears one record."""
        ...

    def close(self) -> None:
        """Draws or writes what is left."""
        ...


class Scope(Enum):
    """How many connections of a server one view is for."""

    ONE = "one file holds one connection, so a server takes it only where it serves one"
    FOLDER = "as ONE; where the value is a folder, each connection has files of its own in it"
    EACH = "each connection has its own, and none a file"
    ALL = "one serves all connections"


class View(NamedTuple):
    """One flag: its value's name or "", what it is for, what opens it with that value, and for how many."""

    flag: str
    value: str
    about: str
    open: Callable[[str], OpenView]
    scope: Scope
    check: Callable[[str], object] = str
    """Comes before the first `open`: raises what that would raise, says what is true of all connections."""
    many: Callable[[str], TraceFolder] | None = None
    """Makes the value a folder with a limit, in which each connection of a server of many has a file."""
    changes: str = ""
    """The flag beside which alone this one stands, and whose value it opens in that one's place."""


def _timeline(_: str) -> OpenView:
    from ..views.screen import coloured
    from ..views.timeline import Timeline

    class Drawn(Timeline):
        def close(self) -> None:
            with suppress(OSError):
                self.render(None, coloured(sys.stderr), sys.stderr)

    return Drawn()


def _trace(path: str) -> OpenView:
    from ..views.trace import open_trace

    return open_trace(path)


def _trace_folder(path: str) -> TraceFolder:
    from ..views.trace import FORMS
    from ..views.trace_folder import TraceFolder

    if Path(path).suffix.lower() in FORMS and not Path(path).is_dir():
        raise ConfigError(f"--trace {path} is a file for one connection: add -d, or -i, or name a folder")
    return TraceFolder(path)


def _waterfall(path: str) -> OpenView:
    from ..views.files import open_private
    from ..views.waterfall import Waterfall

    return Waterfall(open_private(path, "page"))


def _perfetto(path: str) -> OpenView:
    from ..views.files import open_private
    from ..views.perfetto import Perfetto

    return Perfetto(open_private(path, "trace for Perfetto"))


def _pcap(path: str) -> OpenView:
    from ..views.pcapng import Pcapng

    return Pcapng(path)


def _pcap_with_secrets(path: str) -> OpenView:
    from ..views.pcapng import Pcapng

    return Pcapng(path, secrets=True)


def _keylog(path: str) -> OpenView:
    from ..views.keylog import KeyLog

    return KeyLog(path)


def _recorder(flag: str, *, input: bool) -> Callable[[str], OpenView]:
    """Opens a session recording, says so on standard error, and at the end if there was nothing to record."""

    def opened(path: str) -> OpenView:
        from ..views.recording import open_recording

        recording = open_recording(path, input=input)
        if Path(path).is_dir():
            return recording  # the check said so, once for all connections
        _warn(_recorded(flag, path, input))
        return _Said(recording, flag)

    return opened


def _recorded(flag: str, path: str, input: bool) -> str:
    whole = "and everything typed, passwords included, are" if input else "is"
    return f"{flag}: what sessions on a terminal show {whole} recorded to {path}"


def _can_record(flag: str, *, input: bool) -> Callable[[str], object]:
    def check(path: str) -> None:
        if not Path(path).is_dir():
            return
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


def _audit_packets(_: str) -> OpenView:
    from ..views.probe import Packets

    return Packets()


def _can_export(_: str) -> object:
    from ..views.otlp import check_environment

    return check_environment()


def _warn(text: str) -> None:
    with suppress(OSError):
        print(f"glasshell: {text}", file=sys.stderr)


VIEWS: Final[tuple[View, ...]] = (
    View("--timeline", "", "show every message with its time, at the end", _timeline, Scope.EACH),
    View("--html", "FILE", "draw the connection into FILE, a page for the browser", _waterfall, Scope.ONE),
    View("--perfetto", "FILE", "write the connection to FILE for ui.perfetto.dev", _perfetto, Scope.ONE),
    View("--trace", "FILE", "write every record to FILE (.jsonl or .sqlog)", _trace, Scope.ONE,
         many=_trace_folder),
    View("--pcap", "FILE", "write the bytes of the wire to FILE (pcapng), for Wireshark", _pcap, Scope.ONE),
    View("--pcap-secrets", "", "put the keys into that file: who has it reads everything",
         _pcap_with_secrets, Scope.ONE, changes="--pcap"),
    View("--keylog", "FILE", f"append the keys to FILE, for Wireshark (or ${KEY_LOG_VARIABLE})",
         _keylog, Scope.ALL),
    View("--record", "FILE", "record what the terminal shows (.cast: asciicast v2; .v3.cast: v3; a folder)",
         _recorder("--record", input=False), Scope.FOLDER, _can_record("--record", input=False)),
    View("--record-input", "FILE", "the same with everything that is typed, passwords included",
         _recorder("--record-input", input=True), Scope.FOLDER, _can_record("--record-input", input=True)),
    View("--otel", "", "send spans and metrics by OTLP, as OTEL_... in the environment say", _telemetry,
         Scope.EACH, _can_export),
    View("--audit-packets", "", "raise Python's audit event glasshell.packet for each (USDT python:audit)",
         _audit_packets, Scope.EACH),
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

    Raises ConfigError for a file that cannot be written, and for a flag without the one it belongs to.
    """
    opened: list[OpenView] = []
    try:
        for view, value in _changed(list(asked)):
            opened.append(view.open(value))
    except BaseException:
        close_views(opened)
        raise
    return opened


def _changed(asked: Sequence[tuple[str, str]]) -> Iterator[tuple[View, str]]:
    """The rows that open what was asked for."""
    flags = {flag for flag, _ in asked}
    changes = {_BY_FLAG[flag].changes: _BY_FLAG[flag] for flag in flags if _BY_FLAG[flag].changes}
    for changed, view in changes.items():
        if changed not in flags:
            raise ConfigError(f"{view.flag} goes with {changed} {_BY_FLAG[changed].value}")
    for flag, value in asked:
        if not _BY_FLAG[flag].changes:
            yield changes.get(flag, _BY_FLAG[flag]), value


def wanted(asked: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """What was asked for, and the key log that the environment names where no flag names one."""
    found = list(asked)
    path = os.environ.get(KEY_LOG_VARIABLE)
    if path and not any(flag == "--keylog" for flag, _ in found):
        found.append(("--keylog", path))
    return found


def tell_of_secrets(opened: Iterable[OpenView], tell: Callable[[str], object]) -> None:
    """Warns of the files that hold secrets, and says what is done for their readers."""
    paths = [path for view in opened if (path := getattr(view, "secrets_in", ""))]
    for path in paths:
        tell(
            f"warning: {visible(path)} holds this connection's secrets: "
            "with it and a capture anybody can read everything that was sent"
        )
    if paths:
        from ..policy import CAPTURED_PACKET

        tell(f"channel packets carry at most {CAPTURED_PACKET:,} bytes, so that Wireshark can follow them")


def for_capture(policy: Policy, opened: Iterable[OpenView]) -> Policy:
    """`policy`, with packets that Wireshark can follow where secrets are written."""
    if any(getattr(view, "secrets_in", "") for view in opened):
        return policy.for_wireshark()
    return policy


def scope(flag: str, value: str) -> Scope:
    """How many connections of a server this view is for."""
    found = _BY_FLAG[flag].scope
    if found is Scope.FOLDER:
        return Scope.EACH if Path(value).is_dir() else Scope.ONE
    return found


def open_folder(flag: str, value: str) -> TraceFolder:
    """The folder in which each connection of a server of many has a file. Raises ConfigError."""
    view = _BY_FLAG[flag]
    if view.many is not None:
        return view.many(value)
    other = ", or name a folder" if view.scope is Scope.FOLDER else ""
    raise ConfigError(f"{flag} FILE is for one connection: add -d, or -i{other}")


def check_views(asked: Iterable[tuple[str, str]]) -> None:
    """Raises ConfigError where a view could not be opened, for connections that are still to come too."""
    for flag, value in asked:
        _BY_FLAG[flag].check(value)


def close_views(opened: Iterable[OpenView]) -> None:
    """Ends every view. What cannot be written then is said: it changes nothing for who comes after."""
    for view in opened:
        try:
            view.close()
        except OSError as error:
            _warn(f"{type(view).__name__}: {error.strerror}: its file is not whole")
