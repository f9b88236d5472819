"""KnownHostsCommand: a program that says which keys a host has, in the format of known_hosts (ssh_config(5)).

No shell reads the line. Where the program cannot be run, fails, takes too long or says too much, nothing
that it said counts and the connection is refused: a program that was meant to say "revoked" and could not
must not be taken for one that had nothing to say.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

from ..errors import ConfigError, HostKeyRefused
from ..keys.known_hosts import KnownHosts
from ..wire import visible

__all__ = ["Reason", "expand", "known_by_command", "split"]

Reason: TypeAlias = Literal["ORDER", "HOSTNAME", "ADDRESS"]
"""What the keys are wanted for: the order of algorithms, the host, its address."""

SECONDS: Final = 30.0
MAX_OUTPUT: Final = 1 << 20


def split(command: str) -> list[str]:
    """The words of a command, as OpenSSH parts them: quotes of both kinds; a backslash hides a quote, another
    backslash and, outside quotes, a space. Raises ConfigError for a quote that never ends."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    rest = iter(re.findall(r"""\\['"\\ ]|.""", command, re.DOTALL))
    for piece in rest:
        if not quote and word is None and piece in " \t":
            continue
        word = [] if word is None else word
        if len(piece) == 2:
            word.append(piece[1] if piece[1] != " " or not quote else piece)
        elif quote:
            quote = "" if piece == quote else quote
            word += [piece] * bool(quote)
        elif piece in " \t":
            words.append("".join(word))
            word = None
        elif piece in "'\"":
            quote = piece
        else:
            word.append(piece)
    if quote:
        raise ConfigError(f'KnownHostsCommand "{visible(command)}" contains invalid quotes')
    return words if word is None else [*words, "".join(word)]


def expand(word: str, tokens: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """`word` with its %-tokens and ${VARIABLES} replaced, each once. Raises ConfigError for one not known."""

    def one(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        found = {**tokens, "%": "%"}.get(name) if match[1] is not None else environment.get(name)
        if found is None:
            what = f"%{name} is no token" if match[1] is not None else f"the variable {name} is not set"
            raise ConfigError(f"KnownHostsCommand: {visible(what)}")
        return found

    return re.sub(r"%(.?)|\$\{([^}]*)\}", one, word, flags=re.DOTALL)


async def known_by_command(
    command: str, reason: Reason, tokens: Mapping[str, str], *, seconds: float = SECONDS
) -> KnownHosts:
    """What `command` says; its source is `KnownHostsCommand-REASON`. `tokens`: see TOKENS in ssh_config(5).

    Raises HostKeyRefused where that is not to be had, ConfigError for a command that cannot be read.
    """
    source = f"KnownHostsCommand-{reason}"
    words = split(command)
    if not words:
        raise ConfigError(f'{source} "{visible(command)}" yielded no arguments')
    if not Path(words[0]).is_absolute():
        raise ConfigError(f"{source} path is not absolute", hint="write the whole path of the program")
    line = [words[0], *(expand(word, tokens, os.environ) for word in words[1:])]
    try:
        async with asyncio.timeout(seconds):
            output, status = await _run(line)
    except TimeoutError:
        raise _failed(source, f"it took more than {seconds:g} seconds") from None
    except (OSError, ValueError) as error:
        raise _failed(source, getattr(error, "strerror", "") or str(error)) from error
    if len(output) > MAX_OUTPUT:
        raise _failed(source, f"it says more than {MAX_OUTPUT} bytes")
    if status:
        raise _failed(source, f"exited with status {status}" if status > 0 else f"signal {-status}")
    return KnownHosts.parse(output, source)


async def _run(line: list[str]) -> tuple[bytes, int]:
    """The program's output, as far as one byte past the bound, and its status. It does not outlive this."""
    program = await asyncio.create_subprocess_exec(
        *line, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    output = bytearray()
    try:
        assert program.stdout is not None
        while len(output) <= MAX_OUTPUT and (data := await program.stdout.read(1 << 16)):
            output += data
        if len(output) <= MAX_OUTPUT:
            await program.wait()
    finally:
        with suppress(OSError):  # with whatever it has started, which may hold its output
            program.kill() if os.name == "nt" else os.killpg(program.pid, 9)
        with suppress(asyncio.CancelledError):
            await program.wait()
        program._transport.close()  # type: ignore[attr-defined]  # nothing public closes the pipe
    return bytes(output), program.returncode or 0


def _failed(source: str, why: str) -> HostKeyRefused:
    return HostKeyRefused(
        f"KnownHostsCommand failed: {why}",
        hint=f"whom to trust is not known without it: run it by hand ({source})",
    )
