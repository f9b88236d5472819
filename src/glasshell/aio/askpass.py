"""Asking a person through another program: SSH_ASKPASS, as ssh(1) and ssh-add(1) have it.

The program gets the question as its one argument and writes the answer to its standard output; it is run
without a shell. SSH_ASKPASS_PROMPT tells it what kind of question it is: "confirm" wants yes or no, "none"
no answer at all.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Literal

from ..wire import Secret

__all__ = ["MAX_ANSWER", "Notice", "allowed", "ask", "confirm", "preferred"]

MAX_ANSWER: Final = 1023
"""Most bytes of an answer that are read: OpenSSH's own bound."""

DEFAULT: Final = ("/usr/bin/ssh-askpass", "/usr/libexec/ssh-askpass", "/usr/lib/ssh/ssh-askpass")
"""Where the program is where SSH_ASKPASS does not say; by folders of Debian, OpenBSD and others."""

Kind = Literal["", "confirm", "none"]


def allowed(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the program may be asked where there is no terminal: there is a display, or it is forced."""
    how = environment.get("SSH_ASKPASS_REQUIRE", "").lower()
    display = bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
    return how == "force" or (display and how != "never")


def preferred(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the program comes before a terminal (SSH_ASKPASS_REQUIRE prefer, force)."""
    return environment.get("SSH_ASKPASS_REQUIRE", "").lower() in ("prefer", "force") and allowed(environment)


def _program(environment: Mapping[str, str]) -> str:
    said = environment.get("SSH_ASKPASS")
    return said if said is not None else next(filter(os.path.exists, DEFAULT), DEFAULT[0])


async def ask(
    prompt: str, kind: Kind = "", environment: Mapping[str, str] = os.environ
) -> Secret | None:
    """The first line of what the program answers; None where it fails, or cannot be run.

    A program that is waited for no longer is ended.
    """
    try:
        process = await _start(prompt, kind, environment, asyncio.subprocess.PIPE)
    except (OSError, ValueError):
        return None
    assert process.stdout is not None
    answer = bytearray()
    try:
        while len(answer) < MAX_ANSWER and (data := await process.stdout.read(MAX_ANSWER - len(answer))):
            answer += data
        status = await process.wait()
    finally:
        await _end(process)
    if status:
        return None
    return Secret(bytes(answer).split(b"\n")[0].split(b"\r")[0])


async def confirm(prompt: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the owner says yes; where nobody can be asked, no. An empty answer is a yes: it was clicked."""
    if not allowed(environment):
        return False
    said = await ask(prompt, "confirm", environment)
    return said is not None and said.text().lower() in ("", "yes")


class Notice:
    """Something that is shown while a block runs, and wants no answer."""

    def __init__(self, text: str, environment: Mapping[str, str] = os.environ) -> None:
        self._text = text
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> None:
        if allowed(self._environment):
            with suppress(OSError, ValueError):
                self._process = await _start(
                    self._text, "none", self._environment, asyncio.subprocess.DEVNULL
                )

    async def __aexit__(self, *exc: object) -> None:
        if self._process is not None:
            await _end(self._process)


async def _start(
    prompt: str, kind: Kind, environment: Mapping[str, str], output: int
) -> asyncio.subprocess.Process:
    said = {name: value for name, value in environment.items() if name != "SSH_ASKPASS_PROMPT"}
    return await asyncio.create_subprocess_exec(
        _program(environment), prompt, stdin=asyncio.subprocess.DEVNULL, stdout=output,
        env=said | ({"SSH_ASKPASS_PROMPT": kind} if kind else {}),
    )  # fmt: skip


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends the program, if it has not ended, and lets go of its output, which a child of it may hold."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
    process._transport.close()  # type: ignore[attr-defined]  # nothing public closes the pipe
