"""Servers inside of programs: commands, subsystems and full-screen applications, a function each.

app = glasshell.App()

@app.command("greet NAME")
async def greet(session, name):
    return f"hello, {name}"

async with app.serve("", 2222, host_keys=[host_key], gatekeeper=KnownUsers(keys={"ada": [key]})) as server:
    await server.wait_closed()
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from ..errors import UsageError
from ..wire import visible
from .server import Serving, serve
from .session import Handler, ServerSession

__all__ = ["App", "Middleware", "Next", "only", "say"]

SESSIONS: Final = 64
"""Most sessions that one user has at a time, in all connections together, where an App is told no other."""

WRONG_USAGE: Final = 2
NO_SUCH_COMMAND: Final = 127
"""What a shell says of a command that is not there."""
NOT_NOW: Final = 75
"""EX_TEMPFAIL of sysexits.h."""
NOT_ALLOWED: Final = 77
"""EX_NOPERM of sysexits.h."""

Next: TypeAlias = Callable[[ServerSession], Awaitable[int | None]]
Middleware: TypeAlias = Callable[[ServerSession, Next], Awaitable[int | None]]
"""What stands around every session: it awaits `call_next(session)`, or does not, and returns the status."""

Answer: TypeAlias = int | str | None
F = TypeVar("F", bound=Callable[..., Awaitable[Answer]])

_PATTERN: Final = re.compile(r"\S+( [A-Z_]+)*( \[[A-Z_]+\])*( [A-Z_]+\.\.\.)?")


def say(session: ServerSession, text: str, *, error: bool = False) -> None:
    """Writes `text` as lines; `error`: to standard error, where there is one.

    A terminal's lines end with CR and LF: the client's is raw, and nobody else moves its cursor to the left.
    """
    lines = text.splitlines() or [""]
    end = "\n" if session.terminal is None else "\r\n"
    stream = session.stderr if error and session.terminal is None else session.stdout
    stream.write("".join(f"{line}{end}" for line in lines).encode())


class _Command(NamedTuple):
    usage: str
    run: Callable[..., Awaitable[Answer]]
    least: int
    most: int | None


class App:
    """What a server runs: one function for each command and subsystem, one for the shell.

    Commands are the words of the client's command line, taken apart as a shell does; no shell is near them.
    `sessions` is how many one user has at a time; None: no limit but the connections' own (`Limits`).
    """

    def __init__(self, *, sessions: int | None = SESSIONS) -> None:
        self._commands: dict[str, _Command] = {}
        self._subsystems: dict[str, Handler] = {}
        self._shell: Handler | None = None
        self._around: list[Middleware] = []
        if sessions is not None:
            self.use(_per_user(sessions))

    # What it is made of

    def command(self, pattern: str = "") -> Callable[[F], F]:
        """The decorated coroutine function runs a command.

        `pattern` is its name and its arguments: `copy SOURCE TARGET`, `greet [NAME]`, `add FILE...`; without
        one the function's name, and the arguments that it takes after the session. It gets the session and a
        string for each argument. It returns the exit status, a string to write, or None for 0. Raises
        UsageError.
        """

        def decorate(function: F) -> F:
            shown = pattern or _pattern_of(function)
            if not _PATTERN.fullmatch(shown):
                raise UsageError(f"'{shown}' is no command", hint="write NAME ARGUMENT [OPTIONAL] MORE...")
            name, *arguments = shown.split()
            if name in self._commands:
                raise UsageError(f"there is a command {name} already")
            least = sum(not word.startswith("[") for word in arguments)
            most = None if shown.endswith("...") else len(arguments)
            self._commands[name] = _Command(shown, function, least, most)
            return function

        return decorate

    def subsystem(self, name: str) -> Callable[[F], F]:
        """The decorated coroutine function, which gets the session, runs a subsystem."""

        def decorate(function: F) -> F:
            self._subsystems[name] = self._wrapped(function)
            return function

        return decorate

    def shell(self, function: F) -> F:
        """The decorated coroutine function, which gets the session, runs where no command was asked for.

        `session.terminal` has the client's terminal and its size, `session.on_resize` hears of another.
        Nothing stands between: keys come as the terminal sends them, Ctrl-C as the byte 3.
        """
        self._shell = self._wrapped(function)
        return function

    def use(self, middleware: Middleware) -> Middleware:
        """Puts `middleware(session, call_next)` around every session to come; the first one is outermost."""
        self._around.append(middleware)
        return middleware

    # Running

    def serve(self, host: str = "", port: int = 22, **settings: Any) -> Serving:
        """`glasshell.serve` with this App; the settings are its own, but for `handler` and `subsystems`."""
        return serve(host, port, handler=self.run, subsystems=self._subsystems, **settings)

    async def run(self, session: ServerSession) -> int | None:
        """The handler of shells and commands, for who calls `serve` by hand."""
        if session.command is None and self._shell is not None:
            return await self._shell(session)
        return await self._wrapped(self._dispatch)(session)

    async def _dispatch(self, session: ServerSession) -> Answer:
        if session.command is None:
            say(session, "there is no shell here; the commands:\n" + self._listed(), error=True)
            return 1
        try:
            words = shlex.split(session.command)
        except ValueError as error:
            say(session, f"{visible(session.command)}: {str(error).lower()}", error=True)
            return WRONG_USAGE
        name, arguments = (words[0], words[1:]) if words else ("", [])
        command = self._commands.get(name)
        if command is None:
            say(session, f"there is no command '{visible(name)}':\n{self._listed()}", error=True)
            return NO_SUCH_COMMAND
        if len(arguments) < command.least or (command.most is not None and len(arguments) > command.most):
            say(session, f"usage: {command.usage}", error=True)
            return WRONG_USAGE
        return await command.run(session, *arguments)

    def _listed(self) -> str:
        return "\n".join(f"  {command.usage}" for command in self._commands.values())

    def _wrapped(self, function: Callable[[ServerSession], Awaitable[Answer]]) -> Handler:
        async def innermost(session: ServerSession) -> int | None:
            answer = await function(session)
            if isinstance(answer, str):
                say(session, answer)
                return 0
            return answer

        async def handler(session: ServerSession) -> int | None:
            call: Next = innermost
            for middleware in reversed(self._around):
                call = _around(middleware, call)
            return await call(session)

        return handler


def _around(middleware: Middleware, call_next: Next) -> Next:
    return lambda session: middleware(session, call_next)


def _pattern_of(function: Callable[..., Any]) -> str:
    words = [str(getattr(function, "__name__", "")).replace("_", "-")]
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        name = parameter.name.upper()
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise UsageError("which arguments a command takes is to be written: name ARGUMENT...")
        words.append(name if parameter.default is parameter.empty else f"[{name}]")
    return " ".join(words)


# ---- middleware


def only(*users: str) -> Middleware:
    """Lets these users alone run anything; others may log in, and are told so."""

    async def guard(session: ServerSession, call_next: Next) -> int | None:
        if session.login.user not in users:
            say(session, "this is not for you", error=True)
            return NOT_ALLOWED
        return await call_next(session)

    return guard


def _per_user(most: int) -> Middleware:
    running: Counter[str] = Counter()

    async def guard(session: ServerSession, call_next: Next) -> int | None:
        user = session.login.user
        if running[user] >= most:
            say(session, f"no more than {most} sessions at a time", error=True)
            return NOT_NOW
        running[user] += 1
        try:
            return await call_next(session)
        finally:
            running[user] -= 1
            if not running[user]:
                del running[user]

    return guard
