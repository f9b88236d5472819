"""`glasshell inspect FILE`: the SSH connections of a capture, read with a key log or without."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from ..errors import CaptureError, ConfigError, UsageError
from ..wire import visible

if TYPE_CHECKING:
    from ..capture.keylog import KeyLog
    from ..capture.reader import Reading
    from ..observe.seen import Frame, Seen
    from ..views.filter import Filter

__all__ = ["main", "parser"]

EPILOG: Final = """\
exit status: 0 everything was read; 1 something could not be (each is named on standard error);
2 wrong usage; 255 no capture, or it cannot be opened

  glasshell inspect login.pcapng                          every connection as a timeline
  glasshell inspect login.pcap --keylog keys.log -T text  decrypted, each field with its bytes
  glasshell inspect login.pcap -T fields -e frame.number -e ssh.kex.algorithms
  glasshell inspect login.pcap -Y 'ssh.message_code == 50 && ssh.userauth_method_name == "password"' -T text
  tcpdump -w - port 22 | glasshell inspect -
"""

MAX_KEYLOG: Final = 64 << 20
"""Largest key log that is read, in bytes."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "glasshell inspect", description="Shows the SSH connections of a capture file: pcap, pcapng, strace,"
        " or a trace of glasshell (.jsonl, .sqlog).",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = made.add_argument
    add("file", metavar="FILE", nargs="?", help="the capture; - is standard input")
    add("-r", dest="read", metavar="FILE", help="the same, as tshark calls it")
    add("--keylog", metavar="FILE", action="append", default=[],
        help="secrets of key exchanges, as SSHKEYLOGFILE has them (may be given several times)")  # fmt: skip
    add("-T", dest="form", choices=FORMS, metavar="FORM",
        help="text: every field with its bytes; json: an array of objects; jsonl: a record a line;"
        " fields: what -e names")  # fmt: skip
    add("--timeline", action="store_true", help="connections as timelines: the default")
    add("-e", dest="fields", metavar="FIELD", action="append", default=[],
        help="a field by Wireshark's name (with -T fields; -e alone means it)")  # fmt: skip
    add("-G", dest="list", choices=["fields"], metavar="fields",
        help="print the fields there are, and what each is; no FILE is read")  # fmt: skip
    add("-E", dest="layout", metavar="NAME=VALUE", action="append", default=[],
        help="how fields are written, as tshark has it: header=y, separator=/t, occurrence=f|l|a,"
        " aggregator=, and quote=d|s|n")  # fmt: skip
    add("-Y", dest="filter", metavar="FILTER", help="show only what this display filter holds for")
    add("--stream", type=int, metavar="N", help="only the TCP stream of this number (Wireshark's tcp.stream)")
    add(
        "--show-secrets",
        action="store_true",
        help="show passwords and their likes, which else are <redacted>",
    )
    add("--html", metavar="FILE", help="write the connections as a page with a zoomable time line")
    return made


FORMS: Final = ("text", "json", "jsonl", "fields")


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    made = parser()
    options = made.parse_args(arguments)
    if options.list:
        return _list_fields()
    path = options.file or options.read
    if path is None or (options.file and options.read):
        made.error("one FILE is to be given")
    options.form = options.form or ("fields" if options.fields else None)
    if options.fields and options.form != "fields":
        made.error("-e goes with -T fields")
    if options.form and options.timeline:
        made.error(f"--timeline and -T {options.form} are two ways to show the same")
    if options.form == "fields" and not options.fields:
        made.error("-T fields needs -e FIELD: which fields?")
    try:
        shown = Asked(options)
        view = shown.open(sys.stdout)
    except UsageError as error:
        return _usage(error)
    with _named(path) as name:
        return inspect(name, path, shown, view)


def _list_fields() -> int:
    """Every name that -e and -Y take."""
    from ..views.fieldtable import ALIASES, FIELDS

    for name, row in sorted(FIELDS.items()):
        print(f"{name}\t{row.kind.value}")
    for alias, name in sorted(ALIASES.items()):
        print(f"{alias}\tanother name of {name}")
    return 0


def _usage(error: UsageError) -> int:
    print(f"glasshell inspect: {visible(str(error))}", file=sys.stderr)
    if error.hint:
        print(f"  {visible(error.hint)}", file=sys.stderr)
    return 2


@contextmanager
def _named(path: str) -> Iterator[str]:
    """The name to open; standard input has one where the system gives it one."""
    yield f"/dev/fd/{sys.stdin.fileno()}" if path == "-" else path


class Asked:
    """What is to be shown, and how."""

    def __init__(self, options: argparse.Namespace) -> None:
        from ..views.fields import Layout, compile_filter, find_field

        self.form: str | None = options.form
        self.stream: int | None = options.stream
        self.secrets: bool = options.show_secrets
        self.html: str | None = options.html
        self.fields = [(name, find_field(name)) for name in options.fields]
        self.layout = Layout.parse(options.layout)
        self.filter: Filter | None = compile_filter(options.filter) if options.filter is not None else None
        self.keylogs: list[str] = options.keylog

    def open(self, out: TextIO) -> Inspection:
        """What shows it, written to `out`."""
        from .inspect_views import Fields, Objects, Page, Timelines, Trees

        if self.html is not None:
            return Page(self, self.html)
        if self.form is None:
            return Timelines(self, out)
        made: dict[str, Callable[[Asked, TextIO], Inspection]] = {
            "fields": Fields, "text": Trees, "json": Objects, "jsonl": Objects
        }  # fmt: skip
        return made[self.form](self, out)

    def keys(self) -> KeyLog:
        """The key logs that were named. Raises ConfigError for one that cannot be read."""
        from ..capture.keylog import KeyLog

        log = KeyLog()
        for name in self.keylogs:
            try:
                with Path(name).open("rb") as file:
                    text = file.read(MAX_KEYLOG + 1)
            except OSError as error:
                raise ConfigError(f"cannot read the key log {name}: {error.strerror}") from None
            if len(text) > MAX_KEYLOG:
                raise ConfigError(f"the key log {name} is larger than {MAX_KEYLOG >> 20} MiB")
            log.add(text, name)
        return log


class Inspection(Protocol):
    """What takes a capture's frames and records one by one."""

    def __call__(self, item: Frame | Seen, /) -> None:
        """Takes one."""
        ...

    def close(self, troubles: Sequence[str] = ()) -> None:
        """Nothing more comes; `troubles` is what could not be read."""
        ...


def inspect(name: str, path: str, asked: Asked, view: Inspection) -> int:
    """Shows the file called `path`; returns the exit status. Raises CaptureError, ConfigError."""
    kind = _kind(name, path)
    if kind in ("jsonl", "sqlog"):
        from .inspect_views import replay

        replay(name, kind, view)
        view.close()
        return 0
    from ..capture.reader import read_source
    from ..capture.source import open_source

    keys = asked.keys()
    with open_source(name) as source:
        reading = read_source(source, keys=keys, show_secrets=asked.secrets)
        try:
            _pour(reading, asked, view)
        finally:
            view.close(reading.troubles.lines)
    return _verdict(reading, path, asked)


def _kind(name: str, path: str) -> str:
    """Which kind of file it is; what comes through a pipe cannot be looked at twice and is a capture."""
    from ..capture.source import SNIFFED, sniff

    if path == "-":
        return "pcap"
    try:
        with Path(name).open("rb") as file:
            return sniff(file.read(SNIFFED)) if file.seekable() else "pcap"
    except OSError as error:
        raise CaptureError(f"{path}: {error.strerror or error}") from None


def _pour(items: Iterable[Frame | Seen], asked: Asked, view: Inspection) -> None:
    wanted = asked.stream
    for item in items:
        if wanted is None or item.stream == wanted:
            view(item)


def _verdict(reading: Reading, path: str, asked: Asked) -> int:
    """Names what could not be read."""
    troubles = reading.troubles
    sys.stdout.flush()
    for line in troubles.lines:
        print(f"glasshell inspect: {visible(path)}: {visible(line)}", file=sys.stderr)
    if troubles.more:
        print(f"glasshell inspect: {visible(path)}: and {troubles.more} more", file=sys.stderr)
    if not asked.keylogs and os.environ.get("SSHKEYLOGFILE") and Path(os.environ["SSHKEYLOGFILE"]).is_file():
        print(
            "glasshell inspect: SSHKEYLOGFILE is set and was not used: --keylog names a key log",
            file=sys.stderr,
        )
    return 1 if troubles else 0
