"""The sessions of `glasshell sshd`: real programs, with their account's rights, on pipes or on a terminal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ..config.options import INTERNAL_SFTP
from ..errors import SSHError, UsageError
from ..keys.patterns import match_pattern
from ..system import pty
from ..system.accounts import Account
from ..system.children import Child, Exit, base_environment, login_arguments, start
from ..system.files import read_regular
from .process import Terminal
from .session import ServerSession
from .shellgate import AccountGatekeeper
from .streams import Reader, Writer

__all__ = ["run_program", "sftp_command"]

CHUNK: Final = 64 * 1024
"""Bytes moved at once; a pipe of Linux holds as many."""

ENDING: Final = 0.25
"""Seconds that a program may take to end once nobody holds its output."""

SFTP_SERVERS: Final = (
    "/usr/lib/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server", "/usr/lib/sftp-server",
)  # fmt: skip
NOLOGIN: Final = "/etc/nologin"
NOLOGIN_STATUS: Final = 254
MOTD: Final = "/etc/motd"


def sftp_command() -> str | None:
    """The system's sftp-server, if it has one."""
    return next((path for path in SFTP_SERVERS if os.access(path, os.X_OK)), None)


async def run_program(session: ServerSession) -> int | None:
    """Runs what a session asks for, or what it is forced to; the handler of `serve`."""
    gate = session.connection.gatekeeper
    if not isinstance(gate, AccountGatekeeper):
        raise UsageError("run_program serves accounts: it needs an AccountGatekeeper")
    account = gate.account(session.login)
    program = _Program(session, gate, account)
    return NOLOGIN_STATUS if program.shut_out() else await program.run()


def permits_environment(permit: bool | str, name: str) -> bool:
    """Whether a key's line may set a variable: PermitUserEnvironment is yes, no or a list of patterns."""
    if isinstance(permit, str) and permit.lower() not in ("yes", "no"):
        hits = [p.startswith("!") for p in permit.split(",") if match_pattern(name, p.removeprefix("!"))]
        return bool(hits) and not any(hits)
    return permit is True or str(permit).lower() == "yes"


class _Program:
    """One session's program: what it is, its environment, and its streams while it runs."""

    def __init__(self, session: ServerSession, gate: AccountGatekeeper, account: Account) -> None:
        self._session = session
        self._gate = gate
        self._options = gate.options_of(session.login)
        self._account = account
        self._terminal = gate.take_terminal(session)
        self._ways = gate.environment(session.login)
        self._pam = gate.pam_session()
        self._message = gate.pam_message()
        permissions = gate.permissions(session.login)
        self._forced = next((each.command for each in permissions if each.command is not None), None)
        self._key_environment = [
            pair
            for each in permissions
            for pair in each.environment
            if permits_environment(self._options.permit_user_environment, pair[0])
        ]

    def shut_out(self) -> bool:
        """Whether nologin(5) keeps everybody but root out; its text is shown."""
        nologin = Path(NOLOGIN)
        if self._account.uid == 0 or not nologin.exists():
            return False
        with suppress(OSError):
            self._session.stderr.write(read_regular(NOLOGIN))
        if self._terminal is not None:
            self._terminal.close()
        return True

    async def run(self) -> int | None:
        command, original = self._command()
        if command is None and self._terminal is not None:
            self._greet()
        arguments = login_arguments(self._account, command)
        try:
            child, ended = await self._start(arguments, self._environment(original))
        except OSError as error:
            if self._terminal is not None:
                self._terminal.close()
            self._session.stderr.write(f"{self._account.shell}: {error.strerror or error}\n".encode())
            return 1
        self._listen_to_client(child)
        try:
            await self._move(child, ended)
        finally:
            if not ended.done():
                child.send_signal("HUP")  # the client has hung up, and so does the line
            child.close()
        return self._tell(ended.result())

    async def _start(
        self, arguments: list[str], environment: dict[str, str]
    ) -> tuple[Child, asyncio.Future[Exit]]:
        """Starts the program; where PAM has opened a session, in that: under its limits."""
        account, terminal = self._account, self._terminal
        if self._pam is not None:
            return await self._pam.start_program(account, arguments, environment, terminal)
        child = start(account, arguments, environment, terminal)
        return child, _watch(child)

    def _command(self) -> tuple[str | None, str | None]:
        """What to run, None for a login shell; and what was asked for instead where a command is forced."""
        session = self._session
        asked = session.command
        if session.subsystem is not None:
            # A Match block may have it for others: then nothing runs.
            asked = self._options.subsystems.get(session.subsystem, "false")
        wanted, original = (asked, None) if self._forced is None else (self._forced, asked)
        if wanted is not None and wanted.split()[:1] == [INTERNAL_SFTP]:
            wanted = " ".join([sftp_command() or "false", *wanted.split()[1:]])
        return wanted, original

    def _environment(self, original: str | None) -> dict[str, str]:
        """Later ones win: client, account, terminal, key, SetEnv, connection."""
        session, peer = self._session, self._session.login.peer
        environment = {**session.env, **base_environment(self._account)}
        if session.terminal is not None:
            environment["TERM"] = session.terminal.term
        environment |= self._ways
        environment |= dict(reversed(self._key_environment))  # of two, the first key line counts
        environment |= self._options.set_env
        environment["SSH_CLIENT"] = f"{peer.address} {peer.port} {peer.local_port}"
        environment["SSH_CONNECTION"] = f"{peer.address} {peer.port} {peer.local_address} {peer.local_port}"
        if shown := self._gate.auth_info(session.login):
            environment["SSH_USER_AUTH"] = shown
        if session.tty:
            environment["SSH_TTY"] = session.tty
        if session.agent:
            environment["SSH_AUTH_SOCK"] = session.agent
        if original is not None:
            environment["SSH_ORIGINAL_COMMAND"] = original
        if self._pam is not None:
            environment |= self._pam.environment  # the last word, as in sshd
        return environment

    def _greet(self) -> None:
        with suppress(OSError):  # a home on the network may be shut to this process
            quiet = (Path(self._account.home) / ".hushlogin").exists()
            if self._message and not quiet:
                self._session.stdout.write(self._message.replace("\n", "\r\n").encode())
            if self._options.print_motd and not quiet:
                self._session.stdout.write(read_regular(MOTD).replace(b"\n", b"\r\n"))

    def _listen_to_client(self, child: Child) -> None:
        session = self._session
        if self._terminal is not None:
            session.on_resize = lambda size: _resize(child, size)
            session.on_break = lambda _: _break(child)
        if self._forced is None and session.subsystem is None:
            # As in OpenSSH: a program that the client did not choose is not the client's to kill.
            session.on_signal = lambda name: _signal(child, name)

    async def _move(self, child: Child, ended: asyncio.Future[Exit]) -> None:
        """Moves bytes until the program has ended and nobody holds its output any more."""
        session = self._session
        feeding = asyncio.ensure_future(_feed(session.stdin, child))
        outputs = [_copy(child.stdout, session.stdout, ended if self._terminal is not None else None)]
        if child.stderr >= 0:
            outputs.append(_copy(child.stderr, session.stderr))
        copying = asyncio.gather(*outputs)
        try:
            await copying
            # PuTTY closes a channel once both sides have said EOF, and an exit status that comes after
            # that is lost: EOF waits for a program that is about to end.
            await asyncio.wait([ended], timeout=ENDING)
            if not ended.done():
                session.stdout.write_eof()
                await asyncio.shield(ended)
            await session.stderr.flushed()
            await session.stdout.flushed()
        finally:
            copying.cancel()
            feeding.cancel()
            both: list[asyncio.Future[Any]] = [feeding, copying]
            await asyncio.wait(both)

    def _tell(self, end: Exit) -> int | None:
        if end.status is None:
            self._session.exit_signal(end.signal, core_dumped=end.core_dumped)
        return end.status


def _resize(child: Child, size: Terminal) -> None:
    with suppress(OSError):
        pty.set_size(child.stdin, size.columns, size.rows, size.width, size.height)


def _break(child: Child) -> None:
    with suppress(OSError):
        pty.send_break(child.stdin)


def _signal(child: Child, name: str) -> None:
    child.send_signal(name)


def _watch(child: Child) -> asyncio.Future[Exit]:
    """Done when the child has ended; it is waited for whatever becomes of its session: no zombie stays."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(child.pid)
    except (AttributeError, OSError):  # no such call in this system
        return asyncio.ensure_future(loop.run_in_executor(None, child.wait))
    ended: asyncio.Future[Exit] = loop.create_future()

    def reap() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        ended.set_result(child.wait())

    loop.add_reader(descriptor, reap)
    return ended


async def _copy(source: int, target: Writer, ended: asyncio.Future[Exit] | None = None) -> None:
    """Copies a descriptor to the channel until its end; the channel's window slows the program down.

    With `ended`, a terminal's program, what is there when that is done is all: a job in the background that
    does not heed the hangup keeps the terminal open, and must not keep the user from logging out.
    """
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = os.read(source, CHUNK)
        except BlockingIOError:
            if ended is not None and ended.done():
                return
            await _ready(loop.add_reader, loop.remove_reader, source, ended)
            continue
        except OSError:
            return  # EIO: no program has the terminal open any more
        if not data:
            return
        target.write(data)
        await target.drain()
        await asyncio.sleep(0)  # a program that never pauses shall not keep the others from their turn


async def _feed(source: Reader, child: Child) -> None:
    """Copies the channel to the program's input, and ends it where the client ends its own."""
    try:
        while data := await source.read(CHUNK):
            await _write(child.stdin, memoryview(data))
    except (SSHError, OSError):
        return  # the client is gone, or the program takes no more
    child.close_stdin()


async def _write(target: int, data: memoryview) -> None:
    loop = asyncio.get_running_loop()
    while data:
        try:
            data = data[os.write(target, data) :]
        except BlockingIOError:
            await _ready(loop.add_writer, loop.remove_writer, target)


async def _ready(
    add: Callable[..., Any], remove: Callable[[int], Any], descriptor: int,
    ended: asyncio.Future[Exit] | None = None,
) -> None:  # fmt: skip
    """Waits until a descriptor can be read, or written, or until `ended` is done."""
    ready = asyncio.Event()

    def wake(_: object = None) -> None:
        ready.set()

    add(descriptor, wake)
    if ended is not None:
        ended.add_done_callback(wake)
    try:
        await ready.wait()
    finally:
        remove(descriptor)
        if ended is not None:
            ended.remove_done_callback(wake)
