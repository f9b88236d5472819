"""`glasshell top`: the SSH connections of this machine, live; those of our servers down to their messages.

Keys: j k g G move, / filters, s S r sort, p pauses, enter opens a connection, q goes back, ? helps.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..errors import ConfigError, install
from .ps import add_selection

__all__ = ["main", "parser"]


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not within 0.1 to 3600 seconds")
    return value


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(
        prog="glasshell top",
        description="Shows every SSH connection of this machine as `glasshell ps` does, live; of our own"
        " servers' connections the channels and messages as well. Press ? for the keys.",
    )  # fmt: skip
    add_selection(made)
    made.add_argument(
        "--interval", metavar="SECONDS", type=_seconds, default=1.0, help="how often to look (1)"
    )
    return made  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Runs until the user leaves. Raises ConfigError without a terminal, or without Textual or psutil."""
    options = parser().parse_args(arguments)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("top needs a terminal", hint="`glasshell ps` and `glasshell ps --json` do not")
    try:
        import textual  # noqa: F401 (whether it is there at all)
    except ImportError:
        raise ConfigError("Textual is not installed", hint=install("top")) from None
    from ..system.connections import survey
    from .top_app import Top

    survey(options.port)  # what cannot work at all is said before the screen is taken
    Top(lambda: survey(options.port, all=options.all), options.interval).run()
    return 0
