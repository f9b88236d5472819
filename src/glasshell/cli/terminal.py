"""The user's terminal: questions on /dev/tty, raw mode, its size, and the escape characters of ssh(1)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from ..aio.process import Terminal
from ..messages.connection import Mode
from ..system import pty
from ..wire import Secret

__all__ = ["HELP", "Escapes", "Piece", "RawMode", "ask", "ask_now", "current"]

TTY: Final = "/dev/tty"
MAX_ANSWER: Final = 4096
"""Longest answer taken, in bytes: what a terminal's own line holds."""


# ---- questions


async def ask(prompt: str, *, echo: bool = False, stdin: bool = False) -> Secret | None:
    """The line that is typed after `prompt`; None where nobody can be asked, or at the end (^D).

    The loop goes on meanwhile. Without `echo` what is typed is not seen. Where SSH_ASKPASS has it so, or
    there is no terminal, its program is asked instead. `stdin`: as ssh-add(1) asks, whose standard input
    may be a pipe with the answer: that is no terminal, and comes last.
    """
    if (stdin and not os.isatty(0)) or "SSH_ASKPASS_REQUIRE" in os.environ:
        from ..aio import askpass

        if askpass.preferred() or (stdin and not os.isatty(0) and askpass.allowed()):
            return await askpass.ask(prompt)
    with _question(prompt, echo) as descriptor:
        if descriptor is not None:
            return await _typed(descriptor)
    from ..aio import askpass

    if askpass.allowed():
        return await askpass.ask(prompt)
    return _piped(prompt) if stdin else None


def ask_now(prompt: str, *, echo: bool = False, stdin: bool = False) -> Secret | None:
    """As `ask`, for programs without a loop."""
    return asyncio.run(ask(prompt, echo=echo, stdin=stdin))


async def _typed(descriptor: int) -> Secret | None:
    os.set_blocking(descriptor, False)
    line = bytearray()
    while not line.endswith(b"\n"):
        await _readable(descriptor)
        try:
            data = os.read(descriptor, MAX_ANSWER)
        except BlockingIOError:
            continue
        if not _append(line, data):
            break
    return _answer(line)


def _piped(prompt: str) -> Secret | None:
    """A line of standard input, byte by byte: what follows it is the next question's."""
    os.write(2, prompt.encode("utf-8", "surrogateescape"))
    line = bytearray()
    while not line.endswith(b"\n") and _append(line, os.read(0, 1)):
        pass
    return _answer(line)


def _append(line: bytearray, data: bytes) -> bool:
    line += data
    return bool(data) and len(line) <= MAX_ANSWER


def _answer(line: bytearray) -> Secret | None:
    return Secret(bytes(line).rstrip(b"\r\n")) if line else None


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except OSError:  # kqueue takes no /dev/tty: then everything waits for the answer
        os.set_blocking(descriptor, True)
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


@contextmanager
def _question(prompt: str, echo: bool) -> Iterator[int | None]:
    """The terminal with `prompt` on it; its modes are put back whatever happens."""
    try:
        import termios

        descriptor = os.open(TTY, os.O_RDWR | os.O_NOCTTY)
    except (ImportError, OSError):
        yield None
        return
    saved: list[Any] | None = None
    try:
        if not echo:
            saved = termios.tcgetattr(descriptor)
            silent = [*saved]
            silent[pty.LFLAG] &= ~(termios.ECHO | termios.ECHONL)
            # What was typed before the question is no answer to it.
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
        os.write(descriptor, prompt.encode("utf-8", "surrogateescape"))
        yield descriptor
    finally:
        if saved is not None:
            with suppress(termios.error, OSError):
                termios.tcsetattr(descriptor, termios.TCSAFLUSH, saved)
                os.write(descriptor, b"\n")
        os.close(descriptor)


# ---- the terminal of a session


def current(descriptor: int) -> Terminal:
    """The user's terminal as a session has to have it: type, size and modes (RFC 4254 §6.2, §8).

    A descriptor that is no terminal has the size 0 and no modes, as with OpenSSH's -tt.
    """
    columns = rows = width = height = 0
    modes: dict[int, int] = {}
    with suppress(ImportError, OSError):
        columns, rows, width, height = pty.get_size(descriptor)
        modes = {Mode[name]: value for name, value in pty.read_modes(descriptor).items()}
    return Terminal(os.environ.get("TERM", ""), columns, rows, width, height, modes)


class RawMode:
    """A terminal in raw mode while the block runs: every key goes to the other side.

    `leave` and `enter` may be called within, for the time that the program is suspended.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._saved: list[Any] | None = None

    def enter(self) -> None:
        """Raw mode on; does nothing where the descriptor is no terminal."""
        try:
            import termios
        except ImportError:
            return
        with suppress(termios.error):
            saved = termios.tcgetattr(self._descriptor)
            raw = [*saved[:6], [*saved[6]]]
            raw[pty.IFLAG] |= termios.IGNPAR
            raw[pty.IFLAG] &= ~(
                termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL
                | termios.IXON | termios.IXANY | termios.IXOFF
            )  # fmt: skip
            raw[pty.OFLAG] &= ~termios.OPOST
            raw[pty.LFLAG] &= ~(
                termios.ISIG | termios.ICANON | termios.IEXTEN
                | termios.ECHO | termios.ECHOE | termios.ECHOK | termios.ECHONL
            )  # fmt: skip
            raw[pty.CC][termios.VMIN], raw[pty.CC][termios.VTIME] = 1, 0
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, raw)
            self._saved = saved

    def leave(self) -> None:
        """Puts the terminal back as it was."""
        import termios

        if self._saved is not None:
            with suppress(termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)
            self._saved = None

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


# ---- escape characters


class Piece(NamedTuple):
    """What was typed, and the command that followed it (`.`, `?`, `^Z`, ...), or an empty string."""

    data: bytes
    command: str = ""


HELP: Final = """\
Supported escape sequences:
 {0}.   - terminate connection
 {0}B   - send a BREAK to the remote system
 {0}C   - open a command line
 {0}R   - request rekey
 {0}^Z  - suspend ssh
 {0}#   - list open channels
 {0}?   - this message
 {0}{0}   - send the escape character by typing it twice
(Note that escapes are only recognized immediately after newline.)
"""

_COMMANDS: Final = frozenset(b".BCR\x1a#?")


class Escapes:
    """Finds the escape character at the start of a line, and the command after it (ssh(1))."""

    def __init__(self, char: str) -> None:
        self._char = ord(char)
        self._line_start = True
        self._pending = False

    def feed(self, data: bytes) -> list[Piece]:
        """What of `data` is to be sent, cut at the commands in it."""
        if not data:
            return []
        if not self._pending and self._char not in data:
            self._line_start = data[-1] in b"\r\n"
            return [Piece(data)]
        pieces: list[Piece] = []
        out = bytearray()
        for byte in data:
            if command := self._take(byte, out):
                pieces.append(Piece(bytes(out), command))
                out.clear()
        return [*pieces, Piece(bytes(out))] if out else pieces

    def _take(self, byte: int, out: bytearray) -> str:
        """Takes one byte into `out`, or holds it back; the command that it completes."""
        if self._pending:
            self._pending = False
            if byte in _COMMANDS:
                self._line_start = True
                return "^Z" if byte == 0x1A else chr(byte)
            if byte != self._char:
                out.append(self._char)
        elif self._line_start and byte == self._char:
            self._pending = True
            return ""
        self._line_start = byte in b"\r\n"
        out.append(byte)
        return ""


