"""A program on the server with this process's standard streams, and the keys that control it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final

from ..aio.channels import ChannelIO
from ..aio.client import Connection
from ..aio.process import Process, Terminal
from ..aio.streams import Reader, Writer
from ..aio.tasks import together
from ..errors import ConnectionClosed, SSHError
from ..messages.connection import Eow, NoMoreSessions
from ..system import pty as device
from .report import FAILED
from .stdio import CHUNK, Input, Output, write_all
from .terminal import HELP, Escapes, Piece, RawMode

if TYPE_CHECKING:
    from .commandline import CommandLine

__all__ = ["Session"]

NO_MORE_SESSIONS: Final = "no-more-sessions@openssh.com"


class Session:
    """What one channel of the connection is to the user."""

    def __init__(
        self, connection: Connection, *, escape: str | None, stdin: bool,
        streams: tuple[int, ...] = (0, 1, 2), sole: bool = True,
    ) -> None:  # fmt: skip
        """`escape` is the escape character of terminals; without `stdin` the program's input is empty.

        `streams` are the descriptors of its user. `sole`: it is the connection's only session, which is
        promised to the server, and ends only when all that is forwarded has. Without it others share the
        connection; who is no user of descriptors 0 to 2 sees to its own terminal.
        """
        self._connection = connection
        self._streams = streams
        self._sole = sole
        self._escape = escape
        self._stdin = stdin
        self._process: Process | None = None
        self._io: ChannelIO | None = None
        self._begun: Process | None = None
        self._raw = RawMode(streams[0])
        self.command_line: CommandLine | None = None
        """Who obeys what is typed after ~C; None: nobody (EnableEscapeCommandline)."""

    def begin(
        self, command: str | None, *, subsystem: bool, environment: Mapping[str, str], pty: Terminal | None
    ) -> None:
        """Asks for what `program` will be called for, while the login has no answer yet."""
        self._begun = self._connection.begin(
            None if subsystem else command, subsystem=command if subsystem else None, env=environment, pty=pty
        )
        self._promise()

    async def program(
        self, command: str | None, *, subsystem: bool, environment: Mapping[str, str],
        pty: Terminal | None, ready: Callable[[], None],
    ) -> int:  # fmt: skip
        """Runs the command, the subsystem of that name, or a shell. Returns its exit status.

        255 stands for a program that a signal ended, as with ssh(1), and for `~.`.
        """
        if self._begun is not None:
            self._connection.link.state("interactive", pty=pty is not None)
            await self._connection.started(self._begun)
            process = self._begun
        else:
            opening = asyncio.ensure_future(
                self._connection.open(
                    None if subsystem else command, subsystem=command if subsystem else None,
                    env=environment, pty=pty,
                )
            )  # fmt: skip
            try:
                await asyncio.sleep(0)  # the channel is asked for; what follows stands behind it
                self._promise()
                self._connection.link.state("interactive", pty=pty is not None)
                process = await opening
            finally:
                opening.cancel()
        self._process = process
        self._io = process.io
        ready()
        if pty is None:
            return await self._attend(process.io, None)
        with self._raw if self._streams[0] == 0 else nullcontext(), _resizing(process, self._streams[0]):
            return await self._attend(process.io, self._escape)

    @property
    def number(self) -> int:
        """The number of its channel; 0 before there is one."""
        return self._io.channel.id if self._io is not None else 0

    def close(self) -> None:
        """Ends it, whatever still runs."""
        if self._io is not None:
            self._io.close()

    async def stdio_forward(self, host: str, port: int, ready: Callable[[], None]) -> int:
        """-W: connects standard input and output to `host` and `port`, seen from the server."""
        io = self._io = await self._connection.open_tcp(host, port)
        ready()
        await self._attend(io, None)
        return 0

    def _promise(self) -> None:
        """This program opens no other session, and no one else shall in its name."""
        link = self._connection.link
        if self._sole and not self._connection.closed:
            link.touch()
            self._connection.core.mux.global_request(NO_MORE_SESSIONS, NoMoreSessions(), want_reply=False)
            link.wake()

    # The streams

    async def _attend(self, io: ChannelIO, escape: str | None) -> int:
        """Moves the bytes until the channel is over, or the user ends it."""
        outputs = Output(self._streams[1]), Output(self._streams[2])
        streams = zip((io.reader, io.errors), outputs, strict=True)
        feeding = asyncio.ensure_future(self._feed(io.writer, escape))
        ending = asyncio.ensure_future(_end(io, [_drain(io, *pair) for pair in streams]))
        try:
            await asyncio.wait([feeding, ending], return_when=asyncio.FIRST_COMPLETED)
            if feeding.done() and feeding.result():
                return FAILED  # at once: the peer may be beyond every answer
            status = await ending
            if self._sole:
                await self._connection.idle()  # what is forwarded goes on to its end
            return status
        finally:
            feeding.cancel()
            ending.cancel()
            await asyncio.wait([feeding, ending])
            for output in outputs:
                output.close()

    async def _feed(self, writer: Writer, escape: str | None) -> bool:
        """Sends what is typed; whether the user wants to end it all."""
        source = Input(self._streams[0])
        escapes = Escapes(escape) if escape else None
        try:
            while self._stdin and (data := await source.read()):
                for piece in escapes.feed(data) if escapes else [Piece(data)]:
                    if piece.data:
                        writer.write(piece.data)
                        await writer.drain()
                    if piece.command == "C":
                        await self._obey_lines()
                    elif piece.command and self._obey(piece.command):
                        return True
            writer.write_eof()
        except ConnectionClosed:
            pass  # what there is to say about it, the end of the channel says
        return False

    # Escape characters

    def _obey(self, command: str) -> bool:
        shown = f"{self._escape}{command}"
        if command == ".":
            self._show(shown + "\n")
            return True
        if command == "?":
            self._show(shown + "\n" + HELP.format(self._escape))
        elif command == "R":
            self._connection.rekey()
        elif command == "B" and self._process is not None:
            self._show(shown + "\n")
            self._connection.spawn(self._break(self._process))
        elif command == "#":
            channels = self._connection.core.mux.channels.values()
            self._show(shown + "\nThe following connections are open:\n")
            self._show("".join(f"  #{channel.id} {channel.type}\n" for channel in channels))
        elif command == "^Z":
            self._show(shown + " [suspend ssh]\n")
            self._suspend()
        return False

    async def _obey_lines(self) -> None:
        """~C: one line of the user's, read as a terminal reads lines."""
        if self.command_line is None:
            self._show("commandline disabled\n")
            return
        from .commandline import PROMPT
        from .terminal import ask

        self._raw.leave()
        try:
            typed = await ask(f"\r\n{PROMPT}", echo=True)
            text = typed.reveal().decode("utf-8", "replace") if typed is not None else ""
            answer = await self.command_line.obey(text)
        finally:
            self._raw.enter()
        self._show(answer)

    def _show(self, text: str) -> None:
        with suppress(OSError):
            write_all(self._streams[2], text.replace("\n", "\r\n").encode())

    @staticmethod
    async def _break(process: Process) -> None:
        with suppress(SSHError):
            await process.send_break()

    def _suspend(self) -> None:
        self._raw.leave()
        os.kill(os.getpid(), signal.SIGTSTP)
        self._raw.enter()
        if self._process is not None:  # the window may have changed meanwhile
            _resize(self._process, self._streams[0])


async def _end(io: ChannelIO, drains: list[Coroutine[Any, Any, None]]) -> int:
    """Waits for the end of the output and of the channel: the exit status."""
    await together(*drains)
    await asyncio.shield(io.closed)
    status = io.exit.status if io.exit else None
    return FAILED if status is None else status & 0xFF


async def _drain(io: ChannelIO, reader: Reader, output: Output) -> None:
    """Writes what comes; where nobody reads it any more, tells the server and throws the rest away."""
    wanted = True
    while data := await reader.read(CHUNK):
        if not wanted:
            continue
        try:
            await output.write(data)
        except OSError:
            wanted = False
            io.tell("eow@openssh.com", Eow())


_windows: Final[dict[Process, int]] = {}
"""The terminals whose size is watched, by the program that runs on each."""


@contextmanager
def _resizing(process: Process, terminal: int) -> Iterator[None]:
    """Tells the program of every new size of the terminal while the block runs."""
    number = getattr(signal, "SIGWINCH", None)
    if number is None:
        yield
        return
    loop = asyncio.get_running_loop()
    if not _windows:
        loop.add_signal_handler(number, _resize_all)
    _windows[process] = terminal
    try:
        yield
    finally:
        del _windows[process]
        if not _windows:
            loop.remove_signal_handler(number)


def _resize_all() -> None:
    for process, terminal in _windows.items():
        _resize(process, terminal)


def _resize(process: Process, terminal: int) -> None:
    with suppress(OSError):
        process.resize(*device.get_size(terminal))
