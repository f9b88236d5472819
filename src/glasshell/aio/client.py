"""The client's connection: programs run on the server, ports forwarded. `connecting` makes one.

    async with glasshell.connect("host.example", user="ada") as connection:
        result = await connection.run("uname -a")
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from ..connection.channel import State
from ..errors import (
    AuthenticationFailed,
    ChannelOpenFailed,
    HostKeyRefused,
    SpeculationFailed,
    SSHError,
)
from ..events import (
    Attempt,
    Authenticated,
    BannerShown,
    ChannelOffered,
    Credential,
    CredentialNeeded,
    Event,
    GlobalRequested,
    GssapiTokenNeeded,
    HostKeyOffered,
    KeyMethod,
    PasswordChangeNeeded,
    PromptsShown,
    Question,
    SignatureNeeded,
)
from ..messages.connection import (
    AgentOpen,
    DirectStreamlocal,
    DirectTcpip,
    Hostkeys,
    OpenFailure,
    SessionOpen,
)
from ..messages.declare import Struct
from ..policy import Policy
from ..protocol import ClientProtocol
from ..values import replace
from .agent import Agent, Binding, usable
from .channels import ChannelIO, quiet_future
from .endpoint import Endpoint
from .forward import PRIVATE, Listener, Place, listen_local
from .identity import CERTIFIED, mark
from .login import Login
from .process import Completed, Process, Terminal, program
from .recorder import Recorder
from .remote import Remote
from .rotation import HostKeyUpdate
from .speculation import IN_TURNS, Speculation
from .tasks import deadline as within
from .trust import Trust

if TYPE_CHECKING:
    pass

__all__ = ["Connection"]

NUDGE_SECONDS = 0.3
"""How long a server that has let the user in may take to open the channel that was asked for before."""

SESSION_SECONDS = 1.0
"""How long what belongs behind the first session waits for somebody to ask for one."""


class Connection(Endpoint):
    """A connection to a server, logged in. Made by `connect`.

    Programs, forwardings and channels may run at the same time. Every call raises the error that ended the
    connection; `error.records` are then the states (not the messages) recorded until the login was over.
    """

    def __init__(
        self, host: str, port: int, user: str, *, policy: Policy, trust: Trust, login: Login,
        recorder: Recorder, sinks: bool = True, on_banner: Callable[[str], None] | None = None,
        speculation: Speculation | None = None, ahead: Callable[[Connection], object] | None = None,
        host_keys: HostKeyUpdate | None = None,
    ) -> None:  # fmt: skip
        """For `connect`. Without `sinks` nobody but the recorder hears, and nobody after the login.

        `ahead` is called where a program may be asked for (`begin`) behind a login that has no answer yet.
        With a `speculation` what is raised may be SpeculationFailed: connect again, in turns.
        """
        self.host = host
        self.port = port
        self.user = user
        self.trust = trust
        self.login = login
        self.banner = ""
        """What the server said before the login."""
        self.speculation = speculation
        plan = speculation.plan if speculation else IN_TURNS
        trust.algorithms = policy.host_key_algorithms
        policy = plan.apply(policy.but(host_key_algorithms=trust.order(policy.host_key_algorithms)))
        if plan.eager:
            login.hurry(plan.key)
        core = ClientProtocol(policy, user=user, now=asyncio.get_running_loop().time(), hub=recorder.hub)
        if speculation is not None:
            core.excuse = self._excuses
        super().__init__(core, recorder.hub)
        self._client = core
        self._plan = plan
        self._ahead = ahead
        self._host_keys = host_keys
        self._misfire: SpeculationFailed | None = None
        self._behind: list[Callable[[], None]] | None = []
        """What is to be sent right behind the request for the first session; None: that has been sent."""
        self._numbered = False
        """Whether the server may have given a number to something already."""
        self._sinks = sinks
        self._recorder = recorder
        self._on_banner = on_banner
        self._address = ""
        self._ready = quiet_future()
        self._remote = Remote(self)
        self._binding: Binding | None = None
        self.forwarded_agent: Agent | None = None
        """The agent that the programs of the sessions to come may use (-A); None: none."""

    def handlers(self) -> dict[type[Event], Callable[[Any], None]]:
        return {
            HostKeyOffered: lambda q: self._ask(q, self._judge_host_key),
            CredentialNeeded: lambda q: self._ask(q, self._credential),
            SignatureNeeded: lambda q: self._ask(q, self.login.sign, self._signed),
            GssapiTokenNeeded: lambda q: self._ask(q, self.login.token),
            PromptsShown: lambda q: self._ask(q, self.login.prompts),
            PasswordChangeNeeded: lambda q: self._ask(q, self.login.new_password),
            BannerShown: self._on_banner_shown,
            Authenticated: self._on_authenticated,
            ChannelOffered: self._on_offer,
            GlobalRequested: self._on_global_request,
        }

    async def start(self, sock: socket.socket | ChannelIO) -> None:
        """Speaks SSH over a connected socket, or a channel of another connection, until the login is over.

        Raises what prevented it.
        """
        if self.speculation is not None:
            self.speculation.tell(session=self._ahead is not None)
        if isinstance(sock, ChannelIO):
            from .through import ChannelTransport

            ChannelTransport(sock, self.link)
        else:
            peer = sock.getpeername()
            self._address = str(peer[0]) if isinstance(peer, tuple) else ""
            self.login.at(sock)
            try:
                await self.link.loop.create_connection(lambda: self.link, sock=sock)
            except BaseException:
                sock.close()
                raise
        if self._plan.eager:
            self.spawn(self.login.prepare())
        try:
            await self._ready
        except BaseException:
            await self.hang_up()
            raise

    async def hang_up(self) -> None:
        """Ends the connection without waiting for what has not been sent."""
        self.link.hang_up()
        await self.wait_closed()

    # Programs

    @overload
    async def run(
        self, command: str, *, input: bytes | str | None = None, env: Mapping[str, str] | None = None,
        pty: Terminal | None = None, check: bool = False, deadline: float | None = None,
        encoding: str = "utf-8",
    ) -> Completed[str]: ...  # fmt: skip

    @overload
    async def run(
        self, command: str, *, input: bytes | str | None = None, env: Mapping[str, str] | None = None,
        pty: Terminal | None = None, check: bool = False, deadline: float | None = None, encoding: None,
    ) -> Completed[bytes]: ...  # fmt: skip

    async def run(
        self, command: str, *, input: bytes | str | None = None, env: Mapping[str, str] | None = None,
        pty: Terminal | None = None, check: bool = False, deadline: float | None = None,
        encoding: str | None = "utf-8",
    ) -> Completed[str] | Completed[bytes]:  # fmt: skip
        """Runs `command` to its end and returns its output, status or signal.

        Both outputs are read at the same time, so that none of them can block the other. `encoding` None
        gives bytes; what cannot be decoded shows as U+FFFD. `check`: raises CommandFailed unless the status
        is 0. `deadline` is seconds for all of it. Raises ChannelOpenFailed, RequestFailed.
        """
        data = input.encode(encoding or "utf-8") if isinstance(input, str) else input
        async with (
            within(deadline, f'running "{command}" on {self.host}'),
            await self.open(command, env=env, pty=pty) as process,
        ):
            done = await process.communicate(data)
        if check:
            done.check()
        if encoding is None:
            return done
        out, err = (stream.decode(encoding, "replace") for stream in (done.stdout, done.stderr))
        return Completed(command, out, err, done.status, done.signal, done.core_dumped, done.message)

    async def open(
        self, command: str | None = None, *, subsystem: str | None = None,
        env: Mapping[str, str] | None = None, pty: Terminal | None = None,
    ) -> Process:  # fmt: skip
        """Starts `command`, a `subsystem`, or the user's shell where neither is given.

        Raises ChannelOpenFailed, or RequestFailed where the server refuses the terminal or the program.
        """
        number = self._first_number()
        if number is not None:
            process = self._begin(number, *program(command, subsystem), env=env or {}, pty=pty)
        else:
            request, body, name = program(command, subsystem)
            first = not self._numbered
            process = Process(await self.open_channel("session", SessionOpen()), name)
            if first and self.speculation is not None:
                self.speculation.opened(process.io.channel.peer_id)
            process.ask(request, body, env=env or {}, pty=pty, agent=self.forwarded_agent is not None)
            self._session_asked()
        await self.started(process)
        return process

    def begin(
        self, command: str | None = None, *, subsystem: str | None = None,
        env: Mapping[str, str] | None = None, pty: Terminal | None = None,
    ) -> Process:  # fmt: skip
        """Asks for a program where `ahead` was called; nothing is known of it before `started`."""
        assert self._plan.channel is not None
        return self._begin(self._plan.channel, *program(command, subsystem), env=env or {}, pty=pty)

    def _begin(
        self, number: int, request: str, body: Struct, name: str, *, env: Mapping[str, str],
        pty: Terminal | None,
    ) -> Process:  # fmt: skip
        """Asks for the channel, and for the program on it, in one go."""
        process = Process(self.ask_channel("session", SessionOpen(), peer_id=number), name)
        process.ask(request, body, env=env, pty=pty, agent=self.forwarded_agent is not None)
        self._session_asked()
        return process

    def behind_session(self, action: Callable[[], None]) -> None:
        """Calls `action` when the first session has been asked for, so that what it sends does not hold that
        up and leaves in the same write; now, where that has been; in a second, where nobody asks for one."""
        if self._behind is None:
            action()
            return
        self._behind.append(action)
        self.link.loop.call_later(SESSION_SECONDS, self._session_asked)

    def _session_asked(self) -> None:
        waiting, self._behind = self._behind or [], None
        for action in waiting:
            action()

    async def started(self, process: Process) -> None:
        """Waits until a program that was asked for runs. Raises as `open`."""
        try:
            await process.started()
        except BaseException:
            process.close()
            raise
        self.link.settled()
        if self.speculation is not None and process.io.channel.id == 0:
            self.speculation.opened(process.io.channel.peer_id)

    def _first_number(self) -> int | None:
        """How the server will number a channel that is asked for now; None: not known."""
        if self.speculation is None or self._numbered:
            return None
        return self.speculation.first_channel(self.peer_software)

    def ask_channel(self, type: str, body: Struct, *, peer_id: int | None = None) -> ChannelIO:
        self._numbered = True
        return super().ask_channel(type, body, peer_id=peer_id)

    # Forwarding

    async def open_tcp(
        self, host: str, port: int, *, originator: tuple[str, int] = ("127.0.0.1", 65535)
    ) -> ChannelIO:
        """A connection from the server to `host` and `port` (-W): `reader`, `writer`, `close()`."""
        self._check_forwarding()
        return await self.open_channel("direct-tcpip", DirectTcpip(host, port, *originator))

    async def open_unix(self, path: str) -> ChannelIO:
        """A connection from the server to a Unix domain socket there: `reader`, `writer`, `close()`."""
        self._check_forwarding()
        return await self.open_channel("direct-streamlocal@openssh.com", DirectStreamlocal(path))

    async def forward_local(
        self, listen: Place, to: Place, *, mask: int = PRIVATE, unlink: bool = False
    ) -> Listener:
        """-L: listens here, and the server connects each to `to`. Port 0: see the listener's.

        A Unix domain socket is made without the mode bits of `mask`, and with `unlink` in the place of one
        that is there. Raises CannotConnect where nothing can be bound.
        """
        self._check_forwarding()
        return await listen_local(self, listen, to, mask=mask, unlink=unlink)

    async def forward_dynamic(self, listen: Place) -> Listener:
        """-D: listens here for SOCKS 4, 4A and 5, and the server connects each to where it wants to go."""
        self._check_forwarding()
        return await listen_local(self, listen, None)

    async def forward_remote(
        self, listen: Place, to: Place | None, *, permit: Callable[[str, int], bool] | None = None
    ) -> Listener:
        """-R: the server listens, and each is connected from here to `to`.

        Without `to` each says by SOCKS where it wants to go: as far as `permit` says yes to host and port.
        Raises RequestFailed where the server refuses.
        """
        self._check_forwarding()
        self._numbered = True
        return await self._remote.listen(listen, to, permit)

    def forward_agent(self, agent: Agent | bool | str | os.PathLike[str] = True) -> bool:
        """-A: lets the programs of the sessions to come use an agent; whether there is one.

        Whoever is root on the server can use it as well, while the connection lasts. Raises HostKeyRefused
        where the server is not trusted.
        """
        self._check_forwarding()
        self.forwarded_agent = usable(agent)
        return self.forwarded_agent is not None

    def _check_forwarding(self) -> None:
        if self.trust.restricted:
            raise HostKeyRefused(f"no forwarding to {self.host}: {self.trust.restricted}")

    # What the core tells and asks

    def _ask(
        self, question: Question, answer: Callable[[Any], Coroutine[Any, Any, Any]],
        then: Callable[[Any, Any], None] = lambda question, value: None,
    ) -> None:  # fmt: skip
        """Answers later; what the caller's own prompts raise is raised by `connect`."""

        async def work() -> None:
            try:
                value = await answer(question)
            except Exception as error:
                if self._ready.done():
                    raise
                self._ready.set_exception(error)
            else:
                self.link.answer(question, value)
                then(question, value)

        self.spawn(work())

    async def _judge_host_key(self, question: HostKeyOffered) -> bool | HostKeyRefused:
        if self.speculation is not None:
            self.speculation.exchanged = True
        if self._plan.kex and self.speculation is not None and not self.trust.knows(question.key):
            self.speculation.misled()  # as if nothing had been sent ahead: that is for the plain way to judge
            raise self._failed("the host key that was asked for first is not the one that is known")
        self._binding = Binding(question.key.blob, question.exchange_hash, question.signature)
        self.login.bind(self._binding)
        verdict = await self.trust.judge(question.key, self._address, self.link.state)
        if self._plan.eager:
            self.link.cork()
        self.login.restricted = self.trust.restricted
        return verdict

    async def _credential(self, question: CredentialNeeded) -> Credential | None:
        if self.speculation is not None and self.speculation.asked:
            self.speculation.refused()
            raise self._failed("the key that was enough last time was refused")
        if question.methods is not None:
            self.link.uncork()
        credential = await self.login.credential(question)
        if not isinstance(credential, KeyMethod) or credential.probe:
            self.link.uncork()
        return credential

    def _signed(self, question: SignatureNeeded, signature: Any) -> None:
        """A login leaves; what belongs behind it leaves with it."""
        speculation, ahead = self.speculation, self._ahead
        # Compression begins with the server's SUCCESS, each way: what crosses that could not be read.
        plain = self.negotiated.compression_c2s == "none"
        sent = self._client.ahead and isinstance(signature, bytes) and plain
        if sent and ahead is not None and speculation is not None and not speculation.asked:
            speculation.asked = speculation.may_ask(mark(question.key))
            if speculation.asked:
                ahead(self)
        self.link.uncork()

    def _nudge(self) -> None:
        """A server may hold what it read along with the login, and look at it when more comes (tinysshd)."""
        channel = self.core.mux.channels.get(0)
        if self.closed or channel is None or channel.state is not State.OPENING:
            return
        assert self.speculation is not None
        self.speculation.late(self.peer_software)
        self._client.nudge(self.link.now)
        self.link.wake()

    def _excuses(self, error: SSHError) -> bool:
        assert self.speculation is not None
        channels = self.core.mux.channels.values()
        if not self.speculation.excuses(
            error, begun=bool(self.core.peer_software), ahead=self._client.ahead,
            opening=bool(channels) and all(channel.state is State.OPENING for channel in channels),
        ):  # fmt: skip
            return False
        self._misfire = SpeculationFailed(str(error), hint="connect again")
        if self.speculation.asked and not (self._client.ahead or self._client.accepted):
            self.speculation.refused()  # what came behind a login that was refused was none of its business
        else:
            self._misfire.__cause__ = error
        if isinstance(error, SpeculationFailed):
            self.speculation.misnumbered()
        return True

    def _failed(self, text: str) -> SpeculationFailed:
        self._client.retry = text
        return SpeculationFailed(text, hint="connect again")

    def failure(self) -> SSHError:
        return self._misfire or super().failure()

    def _on_banner_shown(self, event: BannerShown) -> None:
        self.banner += event.text
        if self._on_banner is not None:
            self._on_banner(event.text)

    def _on_authenticated(self, event: Authenticated) -> None:
        self._recorder.stop()
        self.login.over()
        sys.audit("glasshell.login", "client", event.user, event.method)
        if self.speculation is not None:
            self.speculation.logged_in(self.peer_software, self.core.offered, _one_key(event.attempts))
            if self.speculation.asked:
                self.link.loop.call_later(NUDGE_SECONDS, self._nudge)
        if not self._sinks:
            self.link.mute()
        if not self._ready.done():
            self._ready.set_result(None)

    def on_over(self) -> None:
        if self.speculation is not None and self._host_keys is not None:
            self.speculation.unproven(self._host_keys.unproven)
        error = self.error
        if error is not None:
            error.records = self._recorder.records
        if isinstance(error, AuthenticationFailed):
            error.attempts = self.login.attempts(error.attempts)
            error.args = (f"{self.user}@{self.host}: {error}",)
        if not self._ready.done():
            self._ready.set_exception(self.failure())

    def _on_global_request(self, question: GlobalRequested) -> None:
        self.link.answer(question, False)
        if self._host_keys is not None and isinstance(question.body, Hostkeys):
            self._host_keys.take(self, question.body)

    def _on_offer(self, question: ChannelOffered) -> None:
        if isinstance(question.body, AgentOpen) and self.forwarded_agent is not None:
            assert self._binding is not None
            where = replace(self._binding, forwarding=True)
            from .lending import lend_agent

            self.spawn(lend_agent(self, question, self.forwarded_agent.bound(where)))
        elif not self._remote.take(question):
            prohibited = OpenFailure.ADMINISTRATIVELY_PROHIBITED.value
            self.link.answer(question, ChannelOpenFailed("nothing here wants that", reason=prohibited))


def _one_key(attempts: Sequence[Attempt]) -> str:
    """The mark of the key that was enough to log in; empty where it was not a key alone."""
    steps = [attempt for attempt in attempts if attempt.answer in ("accepted", "partial")]
    enough = len(steps) == 1 and steps[0].method == "publickey"
    if not enough:
        return ""
    label, _, fingerprint = steps[0].identity.rpartition(" ")
    return fingerprint + CERTIFIED * label.endswith("-CERT")
