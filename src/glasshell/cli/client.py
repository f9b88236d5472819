"""One run of `glasshell ssh`: connect, log in, forward, run the program, and give back its exit status."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..aio.agent import usable
from ..aio.client import Connection
from ..aio.hostchecks import checks_of
from ..aio.login import Asking, Login
from ..aio.memory import Memory, default_file
from ..aio.recorder import Recorder
from ..aio.rotation import HostKeyUpdate
from ..aio.speculation import Speculation
from ..aio.trust import AskHostKey, Trust
from ..config.ssh_config import ClientOptions
from ..errors import (
    DeadlineExceeded,
    HostKeyRefused,
    NegotiationFailed,
    Refused,
    SSHError,
)
from ..observe.record import Record
from ..system.cpu import has_aes
from ..views.log import LogView
from ..wire import visible
from . import terminal
from .dialing import mark
from .forwards import Forwards
from .program import environment, shares, wants_terminal
from .questions import Questions
from .report import FAILED, key_places, tried
from .session import Session
from .stdio import write_all
from .watching import check_views, close_views, for_capture, open_views, tell_of_secrets, wanted

if TYPE_CHECKING:
    from ..aio.otherways import OtherWay
    from ..crypto.signatures import PrivateKey
    from ..policy import Policy
    from .commandline import CommandLine
    from .dialing import Dialing
    from .jumps import Jumping, Piping
    from .ssh import Invocation

    Way: TypeAlias = Dialing | Jumping | Piping

__all__ = ["run"]

LEVELS: Final = {"VERBOSE": 1, "DEBUG1": 1, "DEBUG2": 2, "DEBUG3": 3}
MAX_BAD_LINES: Final = 5
"""Most lines of known_hosts that are named where the host's own may be among them."""

SIGNALS: Final = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM")


async def run(said: Invocation, options: ClientOptions, ready: Callable[[], None], dialing: Way) -> int:
    """Does it all; `ready` is called when the program runs, or everything is forwarded.

    Raises SSHError for what cannot even begin: a log or trace file that cannot be written.
    """
    views = Views(said, options)
    try:
        return await Client(said, options, views, ready, dialing).run()
    finally:
        views.finish()


class Views:
    """Who looks on: the log, and what flags asked for."""

    def __init__(self, said: Invocation, options: ClientOptions) -> None:
        self.quiet = options.log_level in ("QUIET", "FATAL")
        self._errors_only = options.log_level == "ERROR"
        self._verbose = options.log_level == "VERBOSE"
        self._descriptor = 2 if said.log_file is None else _open_log(said.log_file)
        self._log = LogView(self._write, LEVELS.get(options.log_level, 0), "client")
        asked = wanted(said.views)
        check_views(asked)
        self._opened = open_views(asked)
        tell_of_secrets(self._opened, lambda line: print(line, file=sys.stderr))
        self.sinks: tuple[Callable[[Record], None], ...] = (
            *(() if self.quiet else (self._log,)), *self._opened,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Variables that a view wants to hand to the program on the server."""
        wanted: dict[str, str] = {}
        for view in self._opened:
            wanted |= getattr(view, "environment", dict)()
        return wanted

    @property
    def told(self) -> bool:
        """Whether an error has been written."""
        return self.quiet or self._log.told

    def warn(self, text: str) -> None:
        """A line that ssh(1) writes beside its log; "Warning:" is of the level INFO, all else are errors."""
        if not self.quiet and not (self._errors_only and text.startswith("Warning:")):
            self._write(text.replace("\n", "\r\n") + "\r\n")

    def banner(self, text: str) -> None:
        """What the server says before the login."""
        if not self.quiet:
            with suppress(OSError):
                write_all(2, text.encode("utf-8", "surrogateescape"))

    def policy(self, policy: Policy) -> Policy:
        """`policy`, as those who look on need it."""
        return for_capture(policy, self._opened)

    def finish(self) -> None:
        """Draws what is drawn at the end, closes the files."""
        close_views(self._opened)

    def _write(self, text: str) -> None:
        # LogLevel VERBOSE is what -v says without its debugging.
        if not (self._verbose and text.startswith("debug")):
            with suppress(OSError):  # a log that nobody can read stops nothing
                write_all(self._descriptor, text.encode("utf-8", "replace"))


def _open_log(path: str) -> int:
    from ..errors import ConfigError

    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise ConfigError(f"Couldn't open logfile {path}: {error.strerror}") from None


class Client:
    """One connection of the program, from the first look-up to the exit status."""

    def __init__(
        self, said: Invocation, options: ClientOptions, views: Views, ready: Callable[[], None],
        dialing: Way,
    ) -> None:  # fmt: skip
        self._said = said
        self._options = options
        self._views = views
        self._ready = ready
        self._dialing = dialing
        self._signal: signal.Signals | None = None
        self._in_session = False
        self._session: Session | None = None
        self._settings: dict[str, Any] | None = None
        self._commands: CommandLine | None = None
        self._recorder: Recorder
        self._trust: Trust

    async def run(self) -> int:
        """The exit status. Errors have been told when this returns; ^C before the session is raised."""
        self._record()
        self._catch_signals()
        try:
            speculation = await self._begin_way()
            if speculation is None:
                return await self._attempt(None)
            return await speculation.connect(lambda: self._attempt(speculation))
        except SSHError as error:
            self._tell(error)
            return FAILED
        except asyncio.CancelledError:
            return self._killed()

    def _record(self) -> None:
        clock = asyncio.get_running_loop().time
        self._recorder = Recorder("client", self._views.sinks, clock, since=self._dialing.since)

    async def _begin_way(self) -> Speculation | None:
        """Sets everything up for connecting, and passes the jump hosts. Raises SSHError."""
        self._tell_options()
        self._dialing.heard_by(self._recorder)
        self._questions = Questions(self._options, self._views.warn, self._recorder.state)
        self._trust = self._make_trust(self._questions.host_key)
        await self._trust.prepare(self._recorder.state)
        self._host_keys = self._make_host_keys()
        await self._dialing.begin()
        return self._make_speculation()

    async def hop(self) -> Connection:
        """A connection that is logged in, for another to go through. Raises SSHError, which has been told."""
        self._record()
        try:
            speculation = await self._begin_way()
            if speculation is None:
                return await self._connect(None)
            return await speculation.connect(lambda: self._connect(speculation))
        except SSHError as error:
            self._tell(error)
            raise

    async def leave(self, connection: Connection | None) -> None:
        """Ends a hop; what ended it before is told."""
        if connection is not None:
            if connection.error is not None:
                self._tell(connection.error)
            await connection.close()
            if self._host_keys is not None:
                await self._host_keys.finish()
        await self._dialing.close()
        self._views.finish()

    async def _attempt(self, speculation: Speculation | None) -> int:
        """All of it, once. Raises SpeculationFailed where nothing was run, and it can be done again."""
        self._in_session, self._session = False, None
        connection = await self._connect(speculation)
        self._in_session = True
        try:
            return await self._serve(connection)
        finally:
            await connection.close()
            if self._host_keys is not None:
                await self._host_keys.finish()

    # Signals

    def _catch_signals(self) -> None:
        """A signal ends the run as an error does, so that the terminal is left as it was."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def caught(number: signal.Signals) -> None:
            self._signal = number
            task.cancel()

        for name in SIGNALS:
            number = getattr(signal, name, None)
            # What nohup(1) has switched off stays so.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                with suppress(NotImplementedError):
                    loop.add_signal_handler(number, caught, number)

    def _killed(self) -> int:
        if self._signal is None or (self._signal is signal.SIGINT and not self._in_session):
            raise KeyboardInterrupt
        if self._signal is signal.SIGTERM and self._options.session_type == "none":
            return 0  # as ssh(1): to end what only forwards is no error
        self._note("verbose", f"Killed by signal {self._signal.value}.")
        return FAILED

    # What is told

    def _note(self, level: str, text: str) -> None:
        self._recorder.state("note", level=level, text=text)

    def _tell_options(self) -> None:
        for name, facts in self._options.told:
            self._recorder.state_at(self._dialing.since, name, **facts)
        for text in self._options.warnings:
            self._recorder.state_at(self._dialing.since, "note", level="info", text=text)

    def _tell(self, error: SSHError) -> None:
        if not self._views.told:
            self._recorder.state(
                "error", type=type(error).__name__, text=str(error), hint=error.hint, clause=error.clause
            )
        for line in tried(error, key_places(self._options)):
            self._views.warn(line)
        if isinstance(error, HostKeyRefused):
            for bad in self._trust.known.bad_lines[:MAX_BAD_LINES]:
                self._views.warn(f"  {bad.source}:{bad.line} is not used: {bad.reason}")
        for line in self._why(error):
            self._views.warn(f"  {line}")

    def _why(self, error: SSHError) -> Sequence[str]:
        """The explanation in short. After the login only what was refused has one: nothing else was heard."""
        if self._views.quiet or self._dialing.failed or (self._in_session and not isinstance(error, Refused)):
            return ()
        if self._in_session and self._said.stdio_forward is not None:
            return ()  # what is explained of a refused channel are sessions; -W has said what it is
        from ..explain.failure import explain

        found = explain(self._recorder.records, error)
        if found is None:
            return ()
        hinted = bool(error.hint) and not isinstance(error, NegotiationFailed)
        return [line for line in found.brief() if not (hinted and line.startswith("try:"))]

    # Connecting

    async def _connect(self, speculation: Speculation | None) -> Connection:
        """A connection that is logged in. ConnectTimeout lasts until the server has shown its key."""
        options, views = self._options, self._views
        login = self._make_login(self._questions.asking)
        ahead = self._begin if self._may_begin() else None
        seconds = options.connect_timeout
        scope = asyncio.timeout(seconds)

        def shown(record: Record) -> None:
            if getattr(record, "name", "") == "host_key":
                self._recorder.unhear(shown)
                scope.reschedule(None)

        self._recorder.hear(shown)
        try:
            async with scope:
                sock = await self._dialing.connected()
                mark(sock, options, interactive=self._interactive())
                login.tell_files()
                connection = Connection(
                    options.hostname, options.port, options.user, trust=self._trust, login=login,
                    policy=views.policy(options.policy().for_processor(aes=has_aes())),
                    recorder=self._recorder, sinks=bool(views.sinks),
                    on_banner=views.banner, speculation=speculation, ahead=ahead,
                    host_keys=self._host_keys,
                )  # fmt: skip
                await connection.start(sock)
        except TimeoutError as error:
            if not scope.expired():
                raise
            where = f"{options.hostname} port {options.port}"
            raise DeadlineExceeded(f"connecting to {where} was not done within {seconds} seconds") from error
        if connection.trust.restricted and self._host_keys is not None:
            views.warn("UpdateHostkeys is disabled because the host key is not trusted.")
        return connection

    def _make_trust(self, ask: AskHostKey | None) -> Trust:
        options = self._options
        kind = _Ordered if options.host_key_algorithms is not None else Trust
        return kind(
            options.hostname.lower(), options.port,
            known_hosts=(*options.user_known_hosts, *options.global_known_hosts),
            strict=options.strict_host_key_checking, alias=options.host_key_alias,
            hashed=options.hash_known_hosts, ask=ask, warn=self._views.warn, checks=checks_of(options),
        )  # fmt: skip

    def _make_host_keys(self) -> HostKeyUpdate | None:
        """UpdateHostKeys, which is on unless the user keeps the keys elsewhere, or in DNS (ssh_config(5))."""
        options = self._options
        elsewhere = "user_known_hosts" in options.sources or options.verify_host_key_dns != "no"
        wanted = options.update_host_keys or ("no" if elsewhere else "yes")
        ask = self._questions.host_keys
        if wanted == "no" or (wanted == "ask" and ask is None):
            return None
        return HostKeyUpdate(self._trust, options.user_known_hosts, ask=ask if wanted == "ask" else None)

    def _make_speculation(self) -> Speculation | None:
        """What is sent ahead, if anything may be; an order of algorithms that the user gave stays."""
        options = self._options
        if not options.speculation:
            return None
        given = {"kex": options.kex, "host_key_algorithms": options.host_key_algorithms}
        return Speculation(
            Memory(default_file()), self._trust, self._views.policy(options.policy()), options.user,
            self._recorder.state, bold=True,
            fixed=[name for name, value in given.items() if value is not None],
        )  # fmt: skip

    def _may_begin(self) -> bool:
        """Whether a session is the first thing that is asked of the server, so that it can be sent ahead."""
        options = self._options
        forwards = options.local_forwards or options.remote_forwards or options.dynamic_forward
        if forwards and not options.clear_all_forwardings:
            return False
        return options.session_type != "none" and self._said.stdio_forward is None

    def _begin(self, connection: Connection) -> None:
        """Asks for the session behind a login that has no answer yet."""
        self._session = self._make_session(connection)
        command, settings = self._program()
        self._lend_agent(connection)
        self._session.begin(command, **settings)

    def _make_session(self, connection: Connection) -> Session:
        options = self._options
        return Session(
            connection, escape=options.escape_char, stdin=not options.stdin_null, sole=not shares(options)
        )

    def _program(self) -> tuple[str | None, dict[str, Any]]:
        """What runs on the server, and with what."""
        options = self._options
        if self._settings is None:
            self._settings = {
                "subsystem": options.session_type == "subsystem",
                "environment": {**self._views.environment(), **environment(options)},
                "pty": terminal.current(0) if self._on_terminal() else None,
            }  # fmt: skip
        return self._said.command or options.remote_command, self._settings

    def _on_terminal(self) -> bool:
        return wants_terminal(self._said.command, self._options, lambda text: self._note("info", text))

    def _interactive(self) -> bool:
        """Whether somebody sits at a terminal and waits for each packet."""
        waits = self._options.session_type == "none" or self._said.stdio_forward is not None
        return not waits and wants_terminal(self._said.command, self._options, lambda text: None)

    def _make_login(self, asking: Asking) -> Login:
        options = self._options
        return Login(
            options.user, options.hostname.lower(), keys=options.identity_files, agent=usable(self._agent()),
            agent_only=options.identities_only, order=options.methods, asking=asking,
            state=self._recorder.state, tries=options.number_of_password_prompts,
            certificates=options.certificate_file, others=self._other_ways(),
            keep=self._keep if options.add_keys_to_agent.how != "no" else None,
        )  # fmt: skip

    async def _keep(self, private: PrivateKey, path: str) -> None:
        """AddKeysToAgent: the key of a file that was opened."""
        from ..aio.askpass import confirm

        how, lifetime = self._options.add_keys_to_agent
        agent = usable(self._agent())
        if agent is None:
            return
        question = f"Add key {visible(path)} ({visible(private.comment)}) to agent?"
        if how == "ask" and not await confirm(question):
            return
        try:
            await agent.add(private, private.comment or path, lifetime=lifetime, confirm=how == "confirm")
        except SSHError as error:
            self._note("debug1", f"could not add identity {visible(path)} to agent: {error}")
        else:
            self._note("debug1", f"identity added to agent: {path}")

    def _other_ways(self) -> list[OtherWay]:
        """The ways beside keys and passwords that the options switch on."""
        options = self._options
        ways: list[OtherWay] = []
        if "gssapi-with-mic" in options.methods:
            from ..system.tickets import may_have_tickets

            if may_have_tickets():
                from ..aio.otherways import Tickets

                ways.append(Tickets(options.hostname, delegate=options.gssapi_delegate_credentials))
        if "hostbased" in options.methods:
            from ..aio.otherways import HostKeys

            ways.append(HostKeys(algorithms=options.hostbased_accepted_algorithms or ()))
        return ways

    # Once logged in

    async def _serve(self, connection: Connection) -> int:
        options, said = self._options, self._said
        forwards = Forwards(connection, options, lambda text: self._note("info", text))
        if not options.clear_all_forwardings:
            await forwards.request()
        if options.permit_local_command:
            from .localcommand import run_local_command

            await run_local_command(options, self._note)
        if options.enable_escape_commandline:
            from .commandline import CommandLine

            self._commands = CommandLine(forwards, options)
        if not shares(options):
            return await self._attend(connection)
        from .master import MasterSocket

        master = MasterSocket(connection, options, forwards, lambda text: self._note("error", text))
        listening = master.listen()
        try:
            if said.master:
                self._go()
                return await master.persist() if listening else 0
            return await master.until_done(self._attend(connection))
        finally:
            await master.close()

    async def _attend(self, connection: Connection) -> int:
        """The session, or what stands in its place."""
        options, said = self._options, self._said
        session = self._session or self._make_session(connection)
        session.command_line = self._commands
        if said.stdio_forward is not None:
            return await session.stdio_forward(*said.stdio_forward, self._go)
        if options.session_type == "none":
            self._go()
            connection.link.state("interactive", pty=False)
            await connection.wait_closed()
            raise connection.failure()
        command, settings = self._program()
        self._lend_agent(connection)
        return await session.program(command, **settings, ready=self._go)

    def _lend_agent(self, connection: Connection) -> None:
        """-A, where there is an agent to lend and the server is who it should be."""
        wanted = self._options.forward_agent
        if not wanted or connection.forwarded_agent is not None:
            return
        if connection.trust.restricted:
            self._views.warn("Agent forwarding is disabled to avoid man-in-the-middle attacks.")
            return
        connection.forward_agent(wanted if isinstance(wanted, str) else self._agent())

    def _agent(self) -> str | bool:
        said = self._options.identity_agent
        return True if said is None else said

    def _go(self) -> None:
        """Everything is set up."""
        if self._options.fork or self._said.master:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2) if self._said.master and not self._said.verbosity else (0,):
                os.dup2(null, descriptor)
            os.close(null)
        self._ready()


class _Ordered(Trust):
    """A trust that leaves the algorithms in the order that the user gave them."""

    def order(self, algorithms: Sequence[str]) -> tuple[str, ...]:
        return tuple(algorithms)
