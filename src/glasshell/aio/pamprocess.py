"""The server's end of a login's own process (`system/pamchild.py`): asks it without blocking the loop.

The process begins with a clean environment and none of the server's memory or descriptors. How many there are
is bounded by the connections: MaxStartups for those that wait to log in, and one for each that has logged in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ..errors import ConfigError
from ..events import Prompts, PromptText
from ..system import pamchild
from ..system.accounts import Account
from ..system.children import SIGNALS, Child, Exit, Streams, close_all, open_pipes, signal_name
from ..system.pam import ECHO_ON, NEW_AUTHTOK_REQD, SUCCESS, Said, code_name
from ..system.pty import Terminal
from ..values import slotted
from ..wire import Secret

__all__ = ["PamProcess", "Reply"]

CLOSING: Final = 10.0
"""Seconds that modules may take to close a session, before the process is killed."""
MAX_TEXTS: Final = 64 * 1024
"""Characters kept of what modules say without asking."""

_CODE: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from glasshell.system.pamchild import main; main()"
)
_ROOT: Final = str(Path(__file__).resolve().parents[2])
_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

_ENDING: set[asyncio.Task[None]] = set()
"""Processes that are closing their session: kept until they have ended."""


@slotted(frozen=True)
class Reply:
    """What a call came to: PAM's code, its words, the user as modules have it, what else was handed back."""

    code: int
    text: str = ""
    user: str = ""
    more: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.code == SUCCESS

    @property
    def password_expired(self) -> bool:
        """Whether the account is good once the password is another one."""
        return self.code == NEW_AUTHTOK_REQD

    def __str__(self) -> str:
        return f"{self.text} ({code_name(self.code)})" if self.text else code_name(self.code)


class PamProcess:
    """A login's process. One call at a time; one that ends in Prompts goes on with `answer`, or `give_up`."""

    def __init__(self) -> None:
        """Starts the process. Raises ConfigError where none can be had."""
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[Reply | Prompts] | None = None
        self._said: list[str] = []
        self._programs: dict[int, asyncio.Future[Exit]] = {}
        """Those that run, with their end to come."""
        self._turn = asyncio.Lock()
        """Held by whoever starts a program: sessions begin side by side."""
        self.session_open = False
        self.environment: Mapping[str, str] = {}
        """What modules want the session to have."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _CODE, _ROOT, str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=_ENVIRONMENT | {name: os.environ[name] for name in ("TZ",) if name in os.environ},
                pass_fds=(theirs.fileno(),), start_new_session=True, cwd="/",
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise ConfigError(f"no process for PAM: {error.strerror}") from None
        finally:
            theirs.close()
        ours.setblocking(False)
        self._sock: socket.socket | None = ours
        self._loop.add_reader(ours, self._on_packet)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def idle(self) -> bool:
        """Whether it can be asked something: it lives, and no call is open."""
        return self._sock is not None and self._waiter is None

    # Calls

    async def start(
        self, user: str, service: str, address: str, folder: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Reply:  # fmt: skip
        """pam_start(3). `service` empty: shadow(5) is asked instead of PAM, and for passwords only."""
        pairs = [f"{name}={value}" for name, value in (environment or {}).items()]
        return await self._done(pamchild.START, service, user, address, folder, *pairs)

    async def authenticate(self, *, empty_passwords: bool = False) -> Reply | Prompts:
        """pam_authenticate(3), its conversation as Prompts."""
        return await self._ask(pamchild.AUTHENTICATE, _flag(empty_passwords))

    async def check(self, password: Secret, *, empty_passwords: bool = False) -> Reply:
        """pam_authenticate(3), `password` the answer to each hidden prompt."""
        return await self._done(pamchild.PASSWORD, _flag(empty_passwords), password.reveal())

    async def account(self, *, empty_passwords: bool = False) -> Reply | Prompts:
        """pam_acct_mgmt(3)."""
        return await self._ask(pamchild.ACCOUNT, _flag(empty_passwords))

    async def change_expired(self) -> Reply | Prompts:
        """pam_chauthtok(3) for what has expired, its conversation as Prompts."""
        return await self._ask(pamchild.CHANGE)

    async def answer(self, answers: Sequence[Secret]) -> Reply | Prompts:
        """Goes on after Prompts."""
        return await self._ask(pamchild.ANSWERS, *(each.reveal() for each in answers))

    async def give_up(self) -> Reply:
        """Ends a conversation: its call fails."""
        return await self._done(pamchild.GIVE_UP)

    async def open_session(self) -> Reply:
        """pam_setcred(3) and pam_open_session(3); sets `environment`."""
        outcome = await self._done(pamchild.OPEN)
        self.session_open = outcome.ok
        pairs = (each.partition("=") for each in outcome.more)
        self.environment = {name: value for name, _, value in pairs}
        return outcome

    def said(self) -> str:
        """What modules have told since the last call of this, without asking: lines, or empty."""
        lines, self._said = self._said, []
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)

    async def _done(self, operation: bytes, *fields: bytes | str) -> Reply:
        outcome = await self._ask(operation, *fields)
        while isinstance(outcome, Prompts):
            outcome = await self._ask(pamchild.GIVE_UP)
        return outcome

    async def _ask(
        self, operation: bytes, *fields: bytes | str, streams: Sequence[int] = ()
    ) -> Reply | Prompts:
        """Raises ConfigError where the process has ended."""
        if self._sock is None or self._waiter is not None:
            raise ConfigError(
                "the process that asks PAM has ended" if self._waiter is None else "PAM is asked twice"
            )
        waiter: asyncio.Future[Reply | Prompts] = self._loop.create_future()
        self._waiter = waiter
        try:
            self._send(operation, *fields, streams=streams)
            return await waiter
        except (OSError, ValueError) as error:
            raise ConfigError(f"the process that asks PAM: {error}") from None
        finally:
            if self._waiter is waiter and waiter.done():
                self._waiter = None

    def _send(self, operation: bytes, *fields: bytes | str, streams: Sequence[int] = ()) -> None:
        # A packet goes out whole or not at all, and the process reads one before the next is sent.
        assert self._sock is not None
        packet = pamchild.pack(operation, *fields)
        if streams:
            socket.send_fds(self._sock, [packet], list(streams))
        else:
            self._sock.send(packet)

    # What the process tells

    def _on_packet(self) -> None:
        assert self._sock is not None
        why = "the process that asks PAM has ended"
        try:
            packet = self._sock.recv(pamchild.MAX_PACKET)
            operation, fields = pamchild.unpack(packet)
            if operation and self._heard(operation, fields):
                return
            if operation == pamchild.FAILED and fields:
                why = fields[0].decode("utf-8", "replace")
        except BlockingIOError:
            return
        except (OSError, ValueError):  # modules may do anything to the process that they are in
            why = "the process that asks PAM says what it may not"
        self.end(why)

    def _heard(self, operation: bytes, fields: Sequence[bytearray]) -> bool:
        """Takes what the process tells; whether it goes on. Raises ValueError."""
        match operation:
            case pamchild.TELL:
                self._keep(_said(fields))
            case pamchild.QUERY:
                self._settle(self._prompts(_said(fields)))
            case pamchild.DONE if len(fields) >= 3:
                code, text, user, *more = (each.decode("utf-8", "surrogateescape") for each in fields)
                self._settle(Reply(int(code), text, user, tuple(more)))
            case pamchild.EXITED if len(fields) == 2:
                self._exited(int(fields[0]), int(fields[1]))
            case _:
                return False
        return True

    def _settle(self, result: Reply | Prompts) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(result)

    def _keep(self, said: Sequence[Said]) -> None:
        for each in said:
            room = MAX_TEXTS - sum(map(len, self._said))
            if room > 0:
                self._said.append(each.text[:room])

    def _prompts(self, said: Sequence[Said]) -> Prompts:
        """One call of the conversation is one round; what does not ask stands above it (RFC 4256 §3.2)."""
        self._keep([each for each in said if not each.asks])
        asked = tuple(PromptText(each.text, each.style == ECHO_ON) for each in said if each.asks)
        return Prompts(asked, instruction=self.said())

    # Programs of the session

    async def start_program(
        self, account: Account, arguments: Sequence[str], environment: Mapping[str, str],
        terminal: Terminal | None = None,
    ) -> tuple[Child, asyncio.Future[Exit]]:  # fmt: skip
        """As `system.children.start`, under what modules have set; and the program's end, to come.

        Raises OSError where the program cannot be started.
        """
        if terminal is not None:
            pid, ended = await self._run(account, arguments, environment, [terminal.slave])
            terminal.close_slave()
            ours: Streams = (terminal.master, terminal.master, -1)
        else:
            theirs, ours = open_pipes()
            try:
                pid, ended = await self._run(account, arguments, environment, theirs)
            except BaseException:
                close_all(ours)
                raise
            finally:
                close_all(theirs)
        return _Program(self, pid, ours, terminal), ended

    async def _run(
        self, account: Account, arguments: Sequence[str], environment: Mapping[str, str],
        streams: Sequence[int],
    ) -> tuple[int, asyncio.Future[Exit]]:  # fmt: skip
        import json

        facts = {
            "uid": account.uid, "gid": account.gid, "home": account.home, "shell": account.shell,
            "arguments": list(arguments), "environment": dict(environment),
        }  # fmt: skip
        async with self._turn:
            try:
                reply = await self._ask(pamchild.RUN, json.dumps(facts), streams=streams)
            except ConfigError as error:
                raise OSError(None, str(error)) from None
        if isinstance(reply, Prompts) or not reply.ok:
            raise OSError(None, reply.text if isinstance(reply, Reply) else "PAM asks")
        pid = int(reply.more[0])
        ended = self._programs.setdefault(pid, self._loop.create_future())
        if ended.done():  # a short program may be over before this task goes on
            del self._programs[pid]
        return pid, ended

    def runs(self, pid: int) -> bool:
        """Whether a program has not ended."""
        return self._sock is not None and pid in self._programs

    def send_signal(self, pid: int, name: str) -> bool:
        """A signal for a program's process group; False where it has ended."""
        if not self.runs(pid):
            return False
        with contextlib.suppress(OSError):
            self._send(pamchild.SIGNAL, str(pid), name)
        return True

    def _exited(self, pid: int, status: int) -> None:
        ended = self._programs.pop(pid, None)
        if ended is None:
            ended = self._programs[pid] = self._loop.create_future()
        code = os.waitstatus_to_exitcode(status)
        core = code < 0 and os.WCOREDUMP(status)
        ended.set_result(Exit(code) if code >= 0 else Exit(None, signal_name(-code), core))

    # The end

    def end(self, why: str = "") -> None:
        """Ends the process, an open session first; at once, and what that takes goes on beside."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._loop.remove_reader(sock)
        sock.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConfigError(why or "the login was given up"))
        if not self.session_open:
            self._process.kill()  # a module may be asleep, and has nothing to put in order
        task = self._loop.create_task(self._reap())
        _ENDING.add(task)
        task.add_done_callback(_ENDING.discard)

    async def _reap(self) -> None:
        if self._process.poll() is not None:
            return
        # Where the loop ends before, this program is about to: the process closes its session by itself.
        try:
            await asyncio.wait_for(_ended(self._process.pid), CLOSING)
        except TimeoutError:
            self._process.kill()
        self._process.wait()  # it has ended, or is about to


class _Program(Child):
    """A program whose parent is a login's process."""

    def __init__(self, owner: PamProcess, pid: int, ours: Streams, terminal: Terminal | None) -> None:
        super().__init__(_Elsewhere(pid), *ours, terminal)
        self._owner = owner

    @property
    def running(self) -> bool:
        return self._owner.runs(self.pid)

    def send_signal(self, name: str) -> bool:
        return name in SIGNALS and self._owner.send_signal(self.pid, name)


class _Elsewhere:
    """A process that somebody else waits for."""

    returncode: int | None = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self) -> int:
        raise ChildProcessError(f"process {self.pid} is waited for by the one that has its PAM session")


async def _ended(pid: int) -> None:
    """Waits until a process has ended; it is still to be waited for."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _said(fields: Sequence[bytearray]) -> list[Said]:
    return [Said(each[0], each[1:].decode("utf-8", "replace")) for each in fields if each]


def _flag(value: bool) -> str:
    return "1" if value else ""
