"""LocalCommand: what runs on this side once the login is done (ssh_config(5))."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from ..config.client_options import ClientOptions
from ..config.tokens import percent

__all__ = ["run_local_command"]


async def run_local_command(options: ClientOptions, note: Callable[[str, str], None]) -> None:
    """Runs it with the user's shell and waits for its end; how it ended changes nothing, as with ssh(1).

    Does nothing without PermitLocalCommand. Raises ConfigError for a token that there is not.
    """
    if not options.permit_local_command or not options.local_command:
        return
    # There is no tunnel here whose interface %T could name.
    command = percent(options.local_command, {**options.tokens, "T": "NONE"})
    note("debug3", f"Executing {command}")
    shell = os.environ.get("SHELL") or "/bin/sh"
    try:
        program = await asyncio.create_subprocess_exec(shell, "-c", command)
    except OSError as error:
        note("error", f'Couldn\'t execute {shell} -c "{command}": {error.strerror}')
        return
    try:
        await program.wait()
    except asyncio.CancelledError:
        program.terminate()
        await program.wait()
        raise
