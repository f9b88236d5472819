"""Walks one connection through its phases as ssh(1) would, changing nothing: `glasshell doctor`.

Nothing is written (known_hosts stays as it is), no password is tried unless somebody may be asked, and a host
that is not known gets none. Every address of the name is tried by TCP; SSH is spoken over one connection.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from ..config.ssh_config import ClientOptions
from ..connection.requests import pty_req
from ..errors import CannotConnect, DeadlineExceeded, HostKeyRefused, SSHError, UsageError
from ..explain.failure import Explanation, explain_story
from ..explain.steps import Step, Steps
from ..explain.story import Story
from ..messages.connection import SessionOpen
from ..observe.hub import Sink
from ..observe.record import MessageRecord, Record, StateRecord
from ..wire import visible
from .agent import Agent, usable
from .channels import ChannelIO
from .client import Connection
from .dial import Address, open_socket, reason, resolve
from .hostchecks import checks_of
from .login import Asking, Login
from .process import Process, program
from .recorder import Recorder
from .streams import Reader
from .tasks import deadline, together
from .trust import Found, Trust

__all__ = ["Doctor"]

MAX_ADDRESSES: Final = 8
"""Most addresses of a name that are tried."""
FAMILIES: Final = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}
PROBE: Final = "true"
"""The command that is run: it does nothing, says nothing, and ends with 0."""

Way: TypeAlias = Callable[[Recorder], Awaitable[socket.socket | ChannelIO]]

SHOWN: Final = (
    "hostname", "port", "user", "proxy_command", "address_family", "bind_address", "identity_files",
    "identities_only", "identity_agent", "user_known_hosts", "strict_host_key_checking",
    "host_key_alias", "kex", "host_key_algorithms", "ciphers", "macs", "pubkey_algorithms",
    "preferred_authentications", "batch_mode", "password_authentication", "pubkey_authentication",
    "kbd_interactive_authentication", "request_tty", "remote_command",
)  # fmt: skip
"""The options that can decide whether a login succeeds."""


class Doctor:
    """One examination. `tell` hears each step as it is done; `sinks` hear every record.

    `seconds` is how long any one answer may take. `asking` None: nobody is asked for anything. `way` leads to
    a host that is reached by others (ProxyJump, ProxyCommand); what it tells goes to the recorder it gets.
    """

    def __init__(
        self, options: ClientOptions, tell: Callable[[Step], None], *, seconds: float = 10.0,
        asking: Asking | None = None, run: bool = True, sinks: Sequence[Sink] = (), way: Way | None = None,
    ) -> None:  # fmt: skip
        self.story = Story()
        self._options = options
        self._seconds = float(options.connect_timeout or seconds)
        self._asking = asking
        self._way = way
        self._run = run
        self._steps = Steps(self.story, tell)
        self._tell = tell
        clock = asyncio.get_running_loop().time
        self._clock = clock
        self._recorder = Recorder("client", (self.story, self._steps, *sinks), clock)
        self._begin = clock()

    async def examine(self) -> Explanation | None:
        """Walks as far as it goes: what prevented the rest, or None where all is well.

        Raises UsageError for options that make no sense together.
        """
        self._configuration()
        connection = None
        try:
            connection = await self._connect(await self._reach())
            await self._session(connection)
        except UsageError:
            raise  # what was asked for makes no sense: nothing of it is the server's fault
        except SSHError as error:
            self.story.told(error)
        finally:
            if connection is not None:
                await connection.close()
        found = explain_story(self.story)
        if found is not None:
            said = self.story.end.text.partition("\n")[0] if found.phase != "session" else ""
            self._tell(Step(phase=found.phase, ok=False, text=visible(said) or found.what))
        return found

    # The way there

    def _configuration(self) -> None:
        """Which files were read, which blocks apply, and where each option that matters was set."""
        options, details = self._options, []
        for name, facts in options.told:
            self._recorder.state(name, **facts)
            if name == "config_file":
                details.append(f"read: {facts['path']}")
            elif name == "config_applied":
                details.append(f"applies: Host {facts['pattern']} ({facts['path']}:{facts['line']})")
        for name in SHOWN:
            if name in options.sources:
                value = getattr(options, name)
                text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
                details.append(f"{name.replace('_', ' ')}: {text} ({options.sources[name]})")
        details += options.warnings
        who = f"{options.user}@{options.hostname} port {options.port}"
        self._tell(Step(phase="configuration", ok=None if options.warnings else True, text=who,
                        details=tuple(details)))  # fmt: skip

    async def _reach(self) -> socket.socket | ChannelIO:
        """A socket to the first address, in order, that answers; all are tried."""
        if self._way is not None:
            return await self._way(self._recorder)
        options, state = self._options, self._recorder.state
        host, port = options.hostname, options.port
        state("resolving", host=host, port=port)
        try:
            async with deadline(self._seconds, f"looking {host} up"):
                found = await resolve(host, port, FAMILIES[options.address_family])
        except DeadlineExceeded as error:
            why = f"Temporary failure in name resolution: no answer within {self._seconds:g} s"
            raise CannotConnect(f"Could not resolve hostname {host}: {why}") from error
        state("resolved", host=host, addresses=tuple(str(address[0]) for _, address in found))
        tried = await asyncio.gather(*(self._try(kind, place) for kind, place in found[:MAX_ADDRESSES]))
        sockets = [each for each in tried if each is not None]
        for sock in sockets[1:]:
            sock.close()
        if not sockets:
            raise CannotConnect(f"no address of {host} can be connected to")
        return sockets[0]

    async def _try(self, kind: int, address: Address) -> socket.socket | None:
        options, state = self._options, self._recorder.state
        where = {"host": options.hostname, "address": str(address[0]), "port": options.port}
        state("connecting", **where, user=options.user)
        try:
            async with asyncio.timeout(self._seconds):
                sock = await open_socket(kind, address, options.bind_address or "")
        except (OSError, TimeoutError) as error:
            failed = error if getattr(error, "errno", None) else OSError(errno.ETIMEDOUT, "")
            state("connect_failed", **where, error=reason(failed))
            return None
        local = sock.getsockname()
        state("connected", address=str(address[0]), port=options.port, local_address=local[0],
              local_port=local[1])  # fmt: skip
        return sock

    # SSH

    async def _connect(self, sock: socket.socket | ChannelIO) -> Connection:
        """Speaks SSH until the login is over; each answer of the server buys `seconds` more."""
        options = self._options
        trust = Looking(options)
        try:
            await trust.prepare(self._recorder.state)
        except SSHError:
            sock.close()
            raise
        login = await self._make_login()
        connection = Connection(
            options.hostname, options.port, options.user, policy=options.policy(), trust=trust, login=login,
            recorder=self._recorder,
        )  # fmt: skip
        scope = asyncio.timeout(self._seconds)
        loop = asyncio.get_running_loop()

        def heard(record: Record) -> None:
            waits = isinstance(record, StateRecord) and record.name in ("auth_signing", "kex_done")
            if waits and self._waits_for_a_person(record):
                scope.reschedule(None)  # an agent, or a token, may want its owner
            elif isinstance(record, MessageRecord):
                scope.reschedule(loop.time() + self._seconds)

        try:
            async with scope:
                self._recorder.hear(heard)
                await connection.start(sock)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise DeadlineExceeded(f"the server has said nothing for {self._seconds:g} seconds") from error
        finally:
            self._recorder.unhear(heard)
        return connection

    def _waits_for_a_person(self, record: Record) -> bool:
        return self._asking is not None or getattr(record, "name", "") == "auth_signing"

    async def _make_login(self) -> Login:
        options = self._options
        agent = True if options.identity_agent is None else options.identity_agent
        await self._look_at_agent()
        login = Login(
            options.user, options.hostname.lower(), keys=options.identity_files, agent=usable(agent),
            agent_only=options.identities_only, order=options.methods, asking=self._asking or Asking(),
            state=self._recorder.state, tries=options.number_of_password_prompts,
        )  # fmt: skip
        login.tell_files()
        return login

    async def _look_at_agent(self) -> None:
        """Says whether there is an agent, and what it holds."""
        named = self._options.identity_agent
        if named == "":
            return
        path = named or os.environ.get("SSH_AUTH_SOCK", "")
        count, problem = 0, ""
        if not path:
            problem = "SSH_AUTH_SOCK is not set: no agent runs for this shell"
        else:
            try:
                count = len(await Agent(path).identities())
                problem = "" if count else f"the agent at {path} holds no key"
            except SSHError as error:
                problem = str(error)
        self._recorder.state("agent", path=path, keys=count, problem=problem)
        text = problem or f"the agent at {path} holds {count} keys"
        self._steps.say("agent", True if not problem else None, text)

    # Once logged in

    async def _session(self, connection: Connection) -> None:
        """A channel, a terminal on it, and then the program that does nothing."""
        await self._within("the terminal", self._terminal(connection))
        forced = any("key options" in said and "command" in said for said in self.story.login.remarks)
        if forced or not self._run:
            why = "the key has a command of its own" if forced else "not asked for"
            self._steps.say("session", None, f"nothing was run: {why}")
            return
        await self._within(f"the end of `{PROBE}`", self._execute(connection))

    async def _within(self, what: str, work: Awaitable[None]) -> None:
        try:
            async with deadline(self._seconds, what):
                await work
        except DeadlineExceeded:
            self._recorder.state("late", what=what, seconds=self._seconds)
            raise

    async def _terminal(self, connection: Connection) -> None:
        io = await connection.open_channel("session", SessionOpen())
        self._steps.say("session", True, "the server opens a session", now=self._now)
        granted = await io.ask("pty-req", pty_req("xterm", 80, 24))
        self._steps.say("session", granted, "it gives a terminal" if granted else "it gives no terminal",
                        now=self._now)  # fmt: skip
        io.close()
        await io.wait_closed()

    async def _execute(self, connection: Connection) -> None:
        request, body, name = program(PROBE, None)
        io = await connection.open_channel("session", SessionOpen())
        process = Process(io, name)
        try:
            await process.start(request, body, env={}, pty=None)
            process.stdin.write_eof()
            await together(_through(process.stdout), _through(process.stderr))
            status = await process.wait()
        finally:
            process.close()
        ending = f"signal {process.signal}" if process.signal else f"exit status {status}"
        wrote = self.story.session.said.strip()
        well = status == 0 and not wrote
        self._steps.say("session", well, f"`{PROBE}` ended with {ending}",
                        f'it wrote "{wrote}"' if wrote else "", now=self._now)  # fmt: skip

    @property
    def _now(self) -> float:
        return self._clock() - self._begin


async def _through(reader: Reader) -> None:
    """Reads to the end, keeping nothing: a forced command may write without end."""
    while await reader.read(65536):
        pass


class Looking(Trust):
    """A trust that writes nothing and asks nobody: a host that is new is looked at, and gets no password."""

    def __init__(self, options: ClientOptions) -> None:
        super().__init__(
            options.hostname.lower(), options.port,
            known_hosts=(*options.user_known_hosts, *options.global_known_hosts),
            strict=options.strict_host_key_checking, alias=options.host_key_alias, checks=checks_of(options),
        )  # fmt: skip
        self._ordered = options.host_key_algorithms is not None
        self._nobody = options.batch_mode

    def order(self, algorithms: Sequence[str]) -> tuple[str, ...]:
        return tuple(algorithms) if self._ordered else super().order(algorithms)

    def _append(self, *line: Any) -> bool:
        return False  # the address of a known host, under CheckHostIP

    async def _new(self, found: Found, *more: Any) -> tuple[str, bool | HostKeyRefused]:
        if self.strict == "yes" or (self.strict == "ask" and self._nobody):
            return await super()._new(found, *more)
        self.restricted = "the host key is not known, so nothing secret goes there"
        return "unknown", True
