"""AuthorizedKeysCommand and AuthorizedPrincipalsCommand: programs that know whose key a key is.

They run as the user that the configuration names, without a shell, with nothing of the server's environment.
What goes wrong with one is told to the log, and then it has said nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from ..errors import ConfigError
from ..system.accounts import Account, find_account, is_root
from ..system.files import MAX_FILE, expand, program_objection
from ..values import slotted
from ..wire import visible

__all__ = ["Command", "split_words"]

SECONDS: Final = 60.0
"""How long a command may take: half of the time that OpenSSH gives a whole login."""

MAX_OUTPUT: Final = MAX_FILE
"""Most bytes of its output; more count for nothing, as it is with files."""

PATH: Final = "/usr/bin:/bin:/usr/sbin:/sbin"

Note = Callable[[str, str], None]


@slotted(frozen=True)
class Command:
    """One of the two, as it is configured: `tag` is its keyword, `user` whom it runs as."""

    tag: str
    line: str
    user: str

    async def run(self, account: Account, tokens: Mapping[str, str], note: Note, *, default: bool) -> bytes:
        """Its output for a login to `account`, empty where it failed; why is told to `note(level, text)`.

        `tokens` are replaced in its arguments. `default`: without arguments it gets the user's name.
        """
        try:
            words = split_words(self.line)
            arguments = [words[0], *(expand(word, tokens) for word in words[1:])]
            user = expand(self.user, {"u": account.name})
            self._check(words[0])
        except ConfigError as error:
            note("error", str(error))
            return b""
        if default and len(arguments) == 1:
            arguments.append(account.name)
        runs_as = find_account(user) if self.user else None
        if runs_as is None:
            note("error", f'{self.tag}User "{visible(user)}" not found')
            return b""
        shown = visible(" ".join(arguments))
        note("debug3", f'subprocess: {self.tag} command "{shown}" running as {runs_as.name}')
        try:
            async with asyncio.timeout(SECONDS):
                return await self._output(arguments, runs_as)
        except TimeoutError:
            note("error", f"{self.tag} {shown} was ended: it took more than {SECONDS:g} seconds")
        except (OSError, ConfigError, subprocess.SubprocessError, ValueError) as error:
            note("error", f"{self.tag} {shown} {error}")
        return b""

    def _check(self, program: str) -> None:
        """Raises ConfigError for a program that somebody beside root could have written."""
        if not program.startswith("/"):
            raise ConfigError(f"{self.tag} path is not absolute")
        try:
            objection = program_objection(program)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f'Could not stat {self.tag} "{visible(program)}": {reason}') from None
        if objection:
            raise ConfigError(f'Unsafe {self.tag} "{visible(program)}": {objection}')

    async def _output(self, arguments: list[str], user: Account) -> bytes:
        """What it writes. Raises ConfigError where it fails, or writes too much; it is dead then."""
        root = is_root()
        process = await asyncio.create_subprocess_exec(
            *(_raw(argument) for argument in arguments), env=_environment(user), cwd="/",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            user=user.uid if root else None, group=user.gid if root else None,
            extra_groups=user.groups if root else None, start_new_session=True, umask=0o022,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            output = bytearray()
            while chunk := await process.stdout.read(65536):
                output += chunk
                if len(output) > MAX_OUTPUT:
                    raise ConfigError(f"was ended: it wrote more than {MAX_OUTPUT} bytes")
            status = await process.wait()
        finally:
            # With whatever it has started: nothing of it outlives the question.
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            await _reaped(process)
        if status:
            how = f"exited on signal {-status}" if status < 0 else f"failed, status {status}"
            raise ConfigError(how)
        return bytes(output)


async def _reaped(process: asyncio.subprocess.Process) -> None:
    """Waits for the end of a process that was killed, and closes what is left of its pipe."""
    await asyncio.shield(process.wait())
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()  # somebody in another session may hold the other end


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _environment(user: Account) -> dict[str, str]:
    """What OpenSSH gives such a program, and no more."""
    environment = {"PATH": PATH, "USER": user.name, "LOGNAME": user.name, "HOME": user.home}
    if "LANG" in os.environ:
        environment["LANG"] = os.environ["LANG"]
    return environment


def split_words(line: str) -> list[str]:
    """The arguments in a line, as sshd_config(5) has it: blanks between them, quotes of both kinds, and a
    backslash before a quote, a backslash or, outside of quotes, a blank. Raises ConfigError."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    rest = iter(line)
    for char in rest:
        if char in " \t" and not quote:
            words += ["".join(word)] if word is not None else []
            word = None
            continue
        word = [] if word is None else word
        if char == "\\":
            after = next(rest, "")
            word.append(after if after and after in ("'\"\\" if quote else "'\"\\ ") else char + after)
        elif char == quote:
            quote = ""
        elif char in "'\"" and not quote:
            quote = char
        else:
            word.append(char)
    words += ["".join(word)] if word is not None else []
    if quote or not words:
        raise ConfigError(f'command "{visible(line)}" contains invalid quotes')
    return words
