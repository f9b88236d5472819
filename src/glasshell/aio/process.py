"""Programs on the other side: a process with streams, and what came of one that has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, AnyStr, Generic

from ..connection.requests import pty_req
from ..errors import CommandFailed, ConnectionClosed, RequestFailed
from ..messages.connection import AgentReq, Break, Env, Exec, Shell, Signal, Subsystem, WindowChange
from ..messages.declare import Struct
from ..values import field, slotted
from .channels import ChannelIO
from .streams import Reader, Writer
from .tasks import together

__all__ = ["Completed", "Process", "Terminal"]


@slotted(frozen=True)
class Terminal:
    """A terminal to ask for (RFC 4254 §6.2). Sizes are characters and pixels; `modes` by opcode (§8)."""

    term: str = "xterm-256color"
    columns: int = 80
    rows: int = 24
    width: int = 0
    height: int = 0
    modes: Mapping[int, int] = field(default_factory=dict)


@slotted(frozen=True)
class Completed(Generic[AnyStr]):
    """What came of a command. `status` is None where a signal ended it (`signal`, without SIG), or where the
    server closed the channel without a word."""

    command: str
    stdout: AnyStr
    stderr: AnyStr
    status: int | None
    signal: str = ""
    core_dumped: bool = False
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether the command ended with status 0."""
        return self.status == 0

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.status is not None:
            return f"exit status {self.status}"
        return f"signal {self.signal}" if self.signal else "no exit status"

    def check(self) -> Completed[AnyStr]:
        """Itself. Raises CommandFailed unless the status is 0."""
        if not self.ok:
            raise CommandFailed(f'"{self.command}" ended with {self.ending}', completed=self)
        return self


class Process:
    """A shell, command or subsystem that runs on the server.

    `stdin` is a Writer, `stdout` and `stderr` are Readers. Who does not read lets the window run full, and
    then the program waits: `communicate` and `Connection.run` read both for you.
    """

    def __init__(self, io: ChannelIO, command: str) -> None:
        self.io = io
        self.command = command
        self._request = ""
        self._terminal: asyncio.Future[bool] | None = None
        self._started: asyncio.Future[bool] | None = None

    @property
    def stdin(self) -> Writer:
        """The program's standard input."""
        return self.io.writer

    @property
    def stdout(self) -> Reader:
        """The program's standard output; with a terminal, everything."""
        return self.io.reader

    @property
    def stderr(self) -> Reader:
        """The program's standard error."""
        return self.io.errors

    @property
    def status(self) -> int | None:
        """The exit status, once it is known."""
        return self.io.exit.status if self.io.exit else None

    @property
    def signal(self) -> str:
        """The signal that ended the program, without SIG; empty while, and where, there is none."""
        return self.io.exit.signal if self.io.exit else ""

    def ask(
        self, request: str, body: Struct, *, env: Mapping[str, str], pty: Terminal | None,
        agent: bool = False,
    ) -> None:  # fmt: skip
        """Sends the requests that start the program, in one go as ssh(1) does; `started` has the answers."""
        io = self.io
        self._request = request
        if agent:
            io.tell("auth-agent-req@openssh.com", AgentReq())
        if pty is not None:
            self._terminal = io.ask(
                "pty-req",
                pty_req(pty.term, pty.columns, pty.rows, width=pty.width, height=pty.height, modes=pty.modes),
            )
        for name, value in env.items():
            io.tell("env", Env(name, value))
        self._started = io.ask(request, body)

    async def start(
        self, request: str, body: Struct, *, env: Mapping[str, str], pty: Terminal | None
    ) -> None:
        """`ask`, and then `started`."""
        self.ask(request, body, env=env, pty=pty)
        await self.started()

    async def started(self) -> None:
        """Waits until the program that was asked for runs.

        Raises ChannelOpenFailed, and RequestFailed where the server refuses the terminal or the program.
        """
        io, request = self.io, self._request
        assert self._started is not None
        if self._terminal is not None and not await self._terminal:
            raise RequestFailed(f"PTY allocation request failed on channel {io.channel.id}")
        try:
            granted = await self._started
        except ConnectionClosed:
            # A short program may be over before its server has said that it began.
            granted = io.exit is not None
            if not granted:
                raise
        if not granted:
            raise RequestFailed(f"{request} request failed on channel {io.channel.id}")

    def resize(self, columns: int, rows: int, width: int = 0, height: int = 0) -> None:
        """Tells the program that its terminal has a new size (RFC 4254 §6.7)."""
        self.io.tell("window-change", WindowChange(columns, rows, width, height))

    def send_signal(self, name: str) -> None:
        """Sends a signal, its name without SIG (RFC 4254 §6.9); some servers ignore it."""
        self.io.tell("signal", Signal(name.removeprefix("SIG")))

    async def send_break(self, milliseconds: int = 0) -> None:
        """Asks for a BREAK (RFC 4335). Raises RequestFailed where there is no line to break."""
        await self.io.request("break", Break(milliseconds))

    async def wait(self) -> int | None:
        """Waits until the channel is closed: the exit status, None where there is none.

        Raises the error of a connection that ended before.
        """
        await asyncio.shield(self.io.closed)
        return self.status

    async def communicate(self, input: bytes | None = None) -> Completed[bytes]:
        """Writes `input` and the end of it, reads everything, waits for the end."""
        stdout, stderr, _ = await together(self.stdout.read(), self.stderr.read(), self._feed(input))
        await self.wait()
        told = self.io.exit
        end: dict[str, Any] = {}
        if told is not None:
            end = {"signal": told.signal, "core_dumped": told.core_dumped, "message": told.message}
        return Completed(self.command, stdout, stderr, self.status, **end)

    async def _feed(self, input: bytes | None) -> None:
        try:
            if input:
                self.stdin.write(input)
                await self.stdin.flushed()
            self.stdin.write_eof()
        except ConnectionClosed:
            pass  # a program need not read what it is given; an error of the connection shows in reading

    def close(self) -> None:
        """Closes the channel; the server ends the program."""
        self.io.close()

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()


def program(command: str | None, subsystem: str | None) -> tuple[str, Struct, str]:
    """The request that starts a program, its body, and what to call it."""
    if subsystem is not None:
        return "subsystem", Subsystem(subsystem), subsystem
    if command is not None:
        return "exec", Exec(command), command
    return "shell", Shell(), "shell"
