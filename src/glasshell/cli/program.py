"""How a program runs on the server: on a terminal or not, with which variables, on whose connection."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..config.client_options import ClientOptions
from ..keys.patterns import match_pattern

__all__ = ["environment", "shares", "wants_terminal"]


def wants_terminal(command: str | None, options: ClientOptions, note: Callable[[str], None]) -> bool:
    """Whether the program gets a terminal; `note` hears why not where one was wanted."""
    shell = not (command or options.remote_command)
    wanted = options.request_tty in ("yes", "force") or (options.request_tty == "auto" and shell)
    if options.request_tty == "force" or not wanted:
        return wanted
    if options.stdin_null or not os.isatty(0):
        note("Pseudo-terminal will not be allocated because stdin is not a terminal.")
        return False
    return True


def environment(options: ClientOptions) -> dict[str, str]:
    """The variables that are sent along: SetEnv's, and those of ours that SendEnv names."""
    sent = {
        name: value
        for name, value in os.environ.items()
        if any(match_pattern(name, pattern) for pattern in options.send_env)
    }
    return {**dict(options.set_env), **sent}


def shares(options: ClientOptions) -> bool:
    """Whether the connection is to be shared with programs that come later (ControlMaster)."""
    return options.control_path is not None and options.control_master != "no"
