"""The command line of `~C`: forwardings asked for, and taken back, while a session runs (ssh(1))."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from ..config.client_keywords import parse_forward
from ..config.client_options import ClientOptions, Forward
from ..errors import ConfigError, SSHError
from ..wire import visible
from .forwards import Forwards, Kind

__all__ = ["PROMPT", "CommandLine"]

PROMPT: Final = "ssh> "

HELP: Final = """\
Commands:
      -L[bind_address:]port:host:hostport    Request local forward
      -R[bind_address:]port:host:hostport    Request remote forward
      -D[bind_address:]port                  Request dynamic forward
      -KL[bind_address:]port                 Cancel local forward
      -KR[bind_address:]port                 Cancel remote forward
      -KD[bind_address:]port                 Cancel dynamic forward
"""

_LOCAL: Final = "      !args                                  Execute local command\n"

_KINDS: Final[dict[str, Kind]] = {"L": "local", "R": "remote", "D": "dynamic"}


class CommandLine:
    """What the lines that are typed do to one connection."""

    def __init__(self, forwards: Forwards, options: ClientOptions) -> None:
        self._forwards = forwards
        self._local = options.permit_local_command

    async def obey(self, text: str) -> str:
        """Does what the line asks for; what is to be shown, lines that end with a newline, or nothing."""
        line = text.strip()
        if not line:
            return ""
        if line.startswith("!") and self._local:
            return await _execute(line[1:].strip())
        word = line.removeprefix("-")
        if word[:1] in ("h", "H", "?"):
            return HELP + _LOCAL * self._local
        cancel = word.startswith("K")
        letter, rest = word[cancel : cancel + 1], word[cancel + 1 :].strip()
        if letter not in _KINDS:
            return "Invalid command.\n"
        try:
            return await (self._cancel if cancel else self._open)(_KINDS[letter], rest)
        except ConfigError:
            return f"Bad forwarding {'close ' * cancel}specification.\n"

    async def _open(self, kind: Kind, text: str) -> str:
        try:
            forward = parse_forward(text, remote=kind == "remote", dynamic=kind == "dynamic")
        except ConfigError:
            if kind != "remote":
                raise
            forward = parse_forward(text, remote=True, dynamic=True)  # SOCKS, from there
        try:
            port = await self._forwards.open(kind, forward)
        except ConfigError:
            raise
        except SSHError as error:
            return f"Port forwarding failed: {visible(str(error))}.\n"
        chosen = kind == "remote" and not forward.port and not forward.path
        return f"Allocated port {port}.\n" if chosen else "Forwarding port.\n"

    async def _cancel(self, kind: Kind, text: str) -> str:
        # Its place is all that one is known by: where it leads to need not be said.
        place = parse_forward(text, remote=kind == "remote", dynamic=True)
        forward = Forward(place.bind, place.port, "", 0, place.path)
        if not await self._forwards.cancel(kind, forward):
            return "Unknown port forwarding.\n"
        return "Canceled forwarding.\n"


async def _execute(command: str) -> str:
    """`!args`: a command by the user's shell, on this terminal; alone: the shell itself."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    words = (shell, "-c", command) if command else (shell, "-i")
    try:
        program = await asyncio.create_subprocess_exec(*words)
    except OSError as error:
        return f'Couldn\'t execute {shell} -c "{visible(command)}": {error.strerror}\n'
    await program.wait()
    return ""
