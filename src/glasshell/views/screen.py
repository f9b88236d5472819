"""What a stream that people look at can show: how wide it is, whether in colour, and which characters."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["DEFAULT_WIDTH", "coloured", "columns", "console", "fit"]

DEFAULT_WIDTH: Final = 100
"""Columns where no terminal tells."""

ASCII: Final = str.maketrans({
    "→": ">", "←": "<", "·": ".", "─": "-", "━": "=", "×": "x", "█": "#", "▓": "=", "…": "~", "–": "-",
    "✓": "+", "✗": "x",
})  # fmt: skip
"""What stands in for the signs that an encoding may not have."""


def coloured(stream: IO[str]) -> bool:
    """Whether `stream` is a terminal with colours, and nobody asked for none (NO_COLOR, TERM=dumb)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns(stream: IO[str]) -> int:
    """The width of `stream`: COLUMNS of the environment, else the terminal's; 100 where nothing tells.

    A terminal that was given no size says 0, as those of `script` and of some containers do.
    """
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isascii() and wanted.isdecimal() and int(wanted[:6]) > 0:
        return int(wanted[:6])
    try:
        return (os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0) or DEFAULT_WIDTH
    except (OSError, ValueError):
        return DEFAULT_WIDTH


def fit(text: str, stream: IO[str]) -> str:
    """`text` as the encoding of `stream` can write it."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return text.translate(ASCII).encode("ascii", "replace").decode()
    return text


def console(stream: IO[str], *, color: bool, width: int | None = None) -> Console:
    """rich's writer to `stream`, which takes text as it is, and leaves a closed pipe to the command."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> NoReturn:
            raise BrokenPipeError  # rich would end the program with a status of its own

    return Plain(
        file=stream, width=width or columns(stream), force_terminal=color, no_color=not color,
        color_system="auto" if color else None, highlight=False, markup=False, emoji=False,
    )  # fmt: skip
