"""`glasshell ps`: every SSH connection of this machine, ours or not, with its process and what TCP knows.

On a terminal the table has the columns that fit; written to a file or a pipe it has all of them, exact
figures (seconds, milliseconds, bytes), one space between, "-" for what is not known.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..system.connections import Connection, Survey

__all__ = ["main", "parser"]

_DIM: Final = "dim"


def port(text: str) -> int:
    """A TCP port of the command line."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(
        prog="glasshell ps",
        description="Shows every SSH connection of this machine: those of SSH programs, those that our"
        " servers tell of, and those with port 22 at one end. Whose they are only root sees for all of them.",
    )  # fmt: skip
    add_selection(made)
    made.add_argument("--listen", action="store_true", help="what listens for SSH connections as well")
    made.add_argument("--json", action="store_true", help="everything that is known, as JSON")
    return made


def add_selection(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which connections are shown."""
    parser.add_argument(
        "--port", metavar="PORT", action="append", type=port, default=[],
        help="take PORT for an SSH port as well; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--all", action="store_true", help="every TCP connection, forwarded ones and others too"
    )


def main(arguments: Sequence[str]) -> int:
    """Runs the command: 0, also where nothing is connected. Raises ConfigError."""
    options = parser().parse_args(arguments)
    from ..system.connections import survey

    found = survey(options.port, all=options.all, listeners=options.listen)
    rows = sorted(found.connections, key=_order)
    if options.json:
        _as_json(found, rows)
        return 0
    if sys.stdout.isatty():
        _for_people(rows)
    else:
        _for_programs(rows)
    for note in found.notes:
        print(f"glasshell ps: {note}", file=sys.stderr)
    return 0


def _order(each: Connection) -> tuple[Any, ...]:
    """Listeners first, then those that serve, then the oldest."""
    place = {"listen": 0, "in": 1, "out": 2}.get(each.direction, 3)
    return place, -(each.age or 0.0), str(each.socket.local), each.socket.peer


def _as_json(found: Survey, rows: Iterable[Connection]) -> None:
    from .columns import as_json

    shown = {"connections": [as_json(each) for each in rows], "notes": list(found.notes)}
    print(json.dumps(shown, indent=2, ensure_ascii=False))


def _for_programs(rows: Iterable[Connection]) -> None:
    from .columns import COLUMNS, UNKNOWN

    print(*(column.name for column in COLUMNS))
    for each in rows:
        exact = [column.exact(each) if column.right else column.text(each) for column in COLUMNS]
        print(*(UNKNOWN if value is None else f"{value:.3f}" if isinstance(value, float) else value
                for value in exact))  # fmt: skip


def _for_people(rows: Sequence[Connection]) -> None:
    from rich.table import Table
    from rich.text import Text

    from ..views.screen import coloured, console
    from .columns import COLUMNS, fitting

    screen = console(sys.stdout, color=coloured(sys.stdout))
    texts = [[column.text(each) for column in COLUMNS] for each in rows]
    heads, keep = [column.name for column in COLUMNS], [column.keep for column in COLUMNS]
    kept = fitting(heads, keep, texts, screen.width)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for at in kept:
        right = COLUMNS[at].right
        table.add_column(COLUMNS[at].name, justify="right" if right else "left", no_wrap=True)
    for each, row in zip(rows, texts, strict=True):
        quiet = _DIM if each.what != "ssh" else ""
        table.add_row(*(Text(row[at], quiet) for at in kept))
    screen.print(table)
    if not rows:
        screen.print("no SSH connection", style=_DIM)
