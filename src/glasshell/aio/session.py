"""A session of a server: what the client asks for before its program starts, and the program's streams."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from ..errors import ConnectionClosed, SSHError
from ..events import ChannelRequested
from ..messages.connection import (
    AgentReq,
    Break,
    Env,
    Exec,
    PtyReq,
    Shell,
    Signal,
    Subsystem,
    WindowChange,
    decode_modes,
)
from ..wire import visible
from .channels import ChannelIO
from .gatekeeper import LoggedIn
from .process import Terminal
from .streams import Reader, Writer

if TYPE_CHECKING:
    from .server import ServerConnection

__all__ = ["Handler", "ServerSession"]

T = TypeVar("T")

MAX_VARIABLES: Final = 128
"""Most variables of the environment that a client may set for one session."""


class ServerSession:
    """One session channel (RFC 4254 §6).

    `command` is what to run, None for a shell; `subsystem` is set instead for a subsystem. `terminal` is
    what the client asked for and got, `tty` the name of the device where it is a real one. `stdin` is a
    Reader, `stdout` and `stderr` are Writers. `on_resize`, `on_signal` and `on_break` may be set to hear of
    what the client sends while the program runs. The handler's task is cancelled when the channel is over.
    """

    def __init__(self, io: ChannelIO, login: LoggedIn, connection: ServerConnection) -> None:
        self.io = io
        self.login = login
        self.connection = connection
        self.command: str | None = None
        self.subsystem: str | None = None
        self.env: dict[str, str] = {}
        self.terminal: Terminal | None = None
        self.tty = ""
        self.agent = ""
        """The path of the socket by which the program reaches the client's agent; empty: it may not."""
        self.on_resize: Callable[[Terminal], None] | None = None
        self.on_signal: Callable[[str], None] | None = None
        self.on_break: Callable[[int], None] | None = None
        self._ended = False
        io.requested = self._requested

    @property
    def stdin(self) -> Reader:
        """What the client sends to the program."""
        return self.io.reader

    @property
    def stdout(self) -> Writer:
        """The program's output."""
        return self.io.writer

    @property
    def stderr(self) -> Writer:
        """The program's errors; without a terminal only."""
        return self.io.error_writer

    @property
    def kind(self) -> str:
        """`subsystem`, `exec` or `shell`."""
        return "subsystem" if self.subsystem is not None else "exec" if self.command is not None else "shell"

    def exit(self, status: int) -> None:
        """Tells the client the program's exit status; the first exit counts."""
        self._exit(status)

    def exit_signal(self, name: str, *, core_dumped: bool = False, message: str = "") -> None:
        """Tells the client which signal, its name without SIG, ended the program."""
        self._exit(None, signal=name, core_dumped=core_dumped, message=message)

    def _exit(
        self, status: int | None, signal: str = "", core_dumped: bool = False, message: str = ""
    ) -> None:
        if self._ended:
            return
        self._ended = True
        link, channel = self.connection.link, self.io.channel
        link.state("session_ended", channel=channel.id, user=self.login.user, status=status, signal=signal)
        channel.exit(status, signal=signal, core_dumped=core_dumped, message=message)
        link.wake()

    # Requests

    def _requested(self, question: ChannelRequested) -> None:
        gate, login = self.connection.gatekeeper, self.login
        match question.body:
            case PtyReq() as body:
                terminal = _terminal(body)
                answer = gate.may_have_terminal(self, terminal)
                self.terminal = terminal if answer else self.terminal
            case Env(name=name, value=value):
                answer = len(self.env) < MAX_VARIABLES and gate.may_set(login, name, value)
                if answer:
                    self.env[name] = value
                facts = {"channel": self.io.channel.id, "name": visible(name), "value": visible(value)}
                self.connection.link.state("variable", **facts, accepted=answer)
            case AgentReq():
                answer = self._lend_agent()
            case Shell() | Exec() | Subsystem():
                self._start(question)
                return
            case WindowChange() as size:
                answer = self._resize(size)
            case Signal(signal_name=name):
                answer = _call(self.on_signal, name)
            case Break(length=milliseconds):
                answer = _call(self.on_break, milliseconds)
            case _:
                answer = False
        self.connection.link.answer(question, answer)

    def _lend_agent(self) -> bool:
        connection = self.connection
        owner = connection.gatekeeper.agent_owner(self.login)
        if owner is None:
            return False
        from .lending import Lent

        try:
            connection.lent = connection.lent or Lent(connection, *owner)
        except OSError as error:
            connection.link.state("note", level="error", text=f"no socket for the client's agent: {error}")
            return False
        self.agent = connection.lent.path
        return True

    def _resize(self, size: WindowChange) -> bool:
        if self.terminal is None:
            return False
        old = self.terminal
        self.terminal = Terminal(old.term, size.columns, size.rows, size.width, size.height, old.modes)
        _call(self.on_resize, self.terminal)
        return True

    def _start(self, question: ChannelRequested) -> None:
        body = question.body
        if isinstance(body, Exec):
            self.command = body.command
        elif isinstance(body, Subsystem):
            self.subsystem = body.name
        handler = self.connection.handler_of(self)
        self.connection.link.settled()
        self.connection.link.answer(question, handler is not None)
        if handler is None:
            self.command = self.subsystem = None
            return
        sys.audit("glasshell.session", self.kind, self.subsystem or self.command or "", self.login.user)
        self.connection.link.state(
            "session_started", channel=self.io.channel.id, kind=self.kind,
            command=self.subsystem or self.command or "", user=self.login.user,
            tty=self.tty,
        )  # fmt: skip
        task = self.connection.spawn(self._run(handler))
        self.io.closed.add_done_callback(lambda _: task.cancel())

    async def _run(self, handler: Handler) -> None:
        try:
            status = await handler(self)
            if not self._ended:
                self.exit(status or 0)
        except ConnectionClosed:
            pass  # the client is gone, or reads no more
        except Exception as error:
            report = {"message": f"the handler of a {self.kind} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(report)
            self.exit(255)
        await self._finish()

    async def _finish(self) -> None:
        try:
            self.stdout.write_eof()
            await self.stderr.flushed()
            await self.stdout.flushed()
        except SSHError:
            pass
        finally:
            self.io.close()


Handler: TypeAlias = Callable[[ServerSession], Awaitable[int | None]]
"""Runs a session's program and returns its exit status; None is 0, unless the session was told another."""


def _terminal(body: PtyReq) -> Terminal:
    modes = decode_modes(body.modes)  # the core has refused what cannot be read
    return Terminal(body.term, body.columns, body.rows, body.width, body.height, modes)


def _call(callback: Callable[[T], None] | None, value: T) -> bool:
    if callback is None:
        return False
    callback(value)
    return True
