"""The server: `serve` takes connections, asks a gatekeeper about logins and runs a handler for sessions.

async def greet(session):
    session.stdout.write(b"hello\\n")

gatekeeper = KnownUsers(keys={"ada": [key]})
serving = glasshell.serve("", 2222, host_keys=[host_key], gatekeeper=gatekeeper, handler=greet)
async with serving as server:
    await server.wait_closed()
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from ..crypto.signatures import PrivateKey
from ..errors import CannotConnect, ChannelOpenFailed, DeadlineExceeded, SSHError, UsageError
from ..events import (
    Authenticated,
    ChannelOffered,
    Event,
    GlobalRequested,
    GssapiMicOffered,
    GssapiStarted,
    GssapiTokenOffered,
    HostbasedOffered,
    HostKeySignatureNeeded,
    InteractiveAnswered,
    InteractiveStarted,
    KeyOffered,
    LoginDone,
    NoneOffered,
    PasswordOffered,
    Prompts,
    Question,
    Verdict,
)
from ..keys.public import AnyKey
from ..messages.connection import (
    CancelStreamlocalForward,
    CancelTcpipForward,
    DirectStreamlocal,
    DirectTcpip,
    HostKeyBlob,
    Hostkeys,
    HostKeySignature,
    HostkeysProve,
    HostkeysProveReply,
    OpenFailure,
    StreamlocalForward,
    TcpipForward,
)
from ..observe.hub import Sink
from ..policy import Policy
from ..protocol import ServerProtocol
from ..system.cpu import has_aes
from ..wire import string
from .doorkeeper import Doorkeeper, Limits, Refusal
from .endpoint import Endpoint
from .gatekeeper import Gatekeeper, LoggedIn, Peer
from .recorder import new_hub
from .session import Handler, ServerSession

if TYPE_CHECKING:
    from .lending import Lent
    from .relays import Relays
    from .status import StatusSocket
    from .workers import Work, Workers

__all__ = ["Server", "ServerConnection", "serve"]

_JUDGED: Final = (
    NoneOffered, KeyOffered, PasswordOffered, InteractiveStarted, InteractiveAnswered, LoginDone,
    HostbasedOffered, GssapiStarted, GssapiTokenOffered, GssapiMicOffered,
)  # fmt: skip

Sinks: TypeAlias = Callable[[Peer], Sequence[Sink]]


class ServerConnection(Endpoint):
    """One client's connection. `login` is None until somebody has logged in."""

    lent: Lent | None = None
    """The socket by which its programs reach the client's agent, once one has asked for that."""

    core: ServerProtocol

    _unused: asyncio.TimerHandle | None = None
    """Ends it where it stays without channels."""

    offence = "noauth"
    """What its end costs its address while nobody has logged in."""

    def __init__(self, server: Server, peer: Peer) -> None:
        self.server = server
        self.peer = peer
        self.host_keys = server.host_keys
        """Those that it was shown: the server may have others by the time that keys are exchanged again."""
        self.gatekeeper = server.gatekeeper.of(self)
        self.login: LoggedIn | None = None
        self.number = server.numbered()
        """Its number among the server's connections, from 1."""
        self._relays: Relays | None = None
        clock = asyncio.get_running_loop().time
        sinks = server.sinks(peer)
        hub = new_hub("server", sinks, clock) if sinks else None
        core = ServerProtocol(
            server.policy, host_keys=server.shown,
            methods=self.gatekeeper.methods, banner=self.gatekeeper.banner,
            empty_passwords=self.gatekeeper.empty_passwords,
            password_changes=self.gatekeeper.password_changes, now=clock(), hub=hub,
        )  # fmt: skip
        super().__init__(core, hub)
        sys.audit("glasshell.accept", peer.address, peer.port)
        self.link.state(
            "accepted", address=peer.address, port=peer.port,
            local_address=peer.local_address, local_port=peer.local_port,
        )  # fmt: skip

    def handlers(self) -> dict[type[Event], Callable[[Any], None]]:
        return {
            HostKeySignatureNeeded: self._sign,
            **dict.fromkeys(_JUDGED, self._judge),
            Authenticated: self._on_authenticated,
            ChannelOffered: self._on_offer,
            GlobalRequested: self._on_global_request,
        }

    def handler_of(self, session: ServerSession) -> Handler | None:
        """What runs this session; None: it is refused."""
        if session.subsystem is not None:
            return self.server.subsystems.get(session.subsystem)
        return self.server.handler

    @property
    def relays(self) -> Relays:
        """What this login has the server connect and listen to; made for who asks for some."""
        if self._relays is None:
            from .relays import Relays

            assert self.login is not None
            self._relays = Relays(self, self.login)
        return self._relays

    def on_idle(self) -> None:
        seconds = self.gatekeeper.unused_timeout(self.login) if self.login is not None else 0
        if self._unused is not None:
            self._unused.cancel()
        if seconds:
            self._unused = self.link.loop.call_later(seconds, self._end_unused)

    def _end_unused(self) -> None:
        self._unused = None
        if not (self._channels or self.closed):
            self.link.state("note", level="info", text="terminating inactive connection")
            self.core.close(self.link.now, description="no channel is open: UnusedConnectionTimeout")
            self.link.wake()

    def on_over(self) -> None:
        self._relays = None
        if self._unused is not None:
            self._unused.cancel()
        if isinstance(self.error, DeadlineExceeded):
            self.offence = "grace-exceeded"
        self.server.left(self)
        # Its frames hold what the peer sent last, in a circle that the collector is slow to find: a stranger
        # could fill memory with connections that are over.
        error: BaseException | None = self.error
        while error is not None:
            error.__traceback__, error = None, error.__cause__ or error.__context__

    # Logging in

    def _judge(self, question: Question) -> None:
        async def verdict() -> Verdict | Prompts:
            given = await self._asked(question)
            answer = Verdict(given) if isinstance(given, bool) else given
            if isinstance(answer, Verdict) and not (answer.accepted or isinstance(question, NoneOffered)):
                self.offence = "authfail" if answer.valid else "invaliduser"
            return answer

        self.answer_later(question, verdict, Verdict(False))

    def _asked(self, question: Question) -> Awaitable[bool | Verdict | Prompts]:
        gate, peer = self.gatekeeper, self.peer
        match question:
            case NoneOffered(user=user):
                return gate.none(user, peer)
            case KeyOffered(user=user, key=key, signed=signed):
                return gate.key(user, key, peer, signed=signed)
            case PasswordOffered(user=user, password=password, new_password=new):
                return gate.password(user, password, peer, new)
            case InteractiveStarted(user=user, submethods=submethods):
                return gate.interactive(user, submethods, peer)
            case InteractiveAnswered(user=user, answers=answers):
                return gate.answers(user, answers, peer)
            case LoginDone(user=user, grants=grants):
                return gate.done(user, grants, peer)
            case HostbasedOffered() | GssapiStarted() | GssapiTokenOffered() | GssapiMicOffered():
                return gate.other(question, peer)
        raise UsageError(f"{type(question).__name__} is no question about a login")

    def _sign(self, question: HostKeySignatureNeeded) -> None:
        try:
            key = self._host_key(question.key.blob)
            self.link.answer(question, key.sign(question.algorithm, question.data))
        except SSHError as error:
            self.link.answer(question, error)

    def _host_key(self, blob: bytes) -> PrivateKey:
        for key in self.host_keys:
            if key.public.blob == blob:
                return key
        raise UsageError("the private half of this host key is not here")

    def _on_authenticated(self, event: Authenticated) -> None:
        self.login = LoggedIn(event.user, event.method, self.peer, event.grants)
        sys.audit("glasshell.login", "server", event.user, event.method)
        self.server.logged_in(self)
        self.on_idle()
        # As sshd does, so that clients can learn new keys before the old ones go (OpenSSH PROTOCOL).
        blobs = tuple(HostKeyBlob(key.public.blob) for key in self.host_keys)
        self.core.mux.global_request("hostkeys-00@openssh.com", Hostkeys(blobs), want_reply=False)

    # Channels

    def _on_offer(self, question: ChannelOffered) -> None:
        login = self.login
        body = question.body
        if login is None:
            raise UsageError("a channel was offered before the login")
        if self.crowded:
            self._refuse(question, OpenFailure.RESOURCE_SHORTAGE, "too much is still being done")
        elif question.type == "session":
            ServerSession(self.adopt(question.channel), login, self)
            self.link.answer(question, True)
        elif isinstance(body, DirectTcpip | DirectStreamlocal):
            self.spawn(self.relays.connect(question, body))
        else:
            self._refuse(question, OpenFailure.UNKNOWN_CHANNEL_TYPE, "unknown channel type")

    def _refuse(self, question: ChannelOffered, reason: OpenFailure, text: str) -> None:
        self.link.answer(question, ChannelOpenFailed(text, reason=reason.value))

    # Global requests

    def _on_global_request(self, question: GlobalRequested) -> None:
        match question.body:
            case TcpipForward() | StreamlocalForward() as wanted:
                self.answer_later(question, lambda: self.relays.listen(wanted), False)
            case CancelTcpipForward() | CancelStreamlocalForward() as ended:
                self.link.answer(question, self.relays.cancel(ended))
            case HostkeysProve() as body:
                self.link.answer(question, self._prove(body))
            case _:
                self.link.answer(question, False)

    def _prove(self, body: HostkeysProve) -> bool | bytes:
        """Signs for every key that is asked about (OpenSSH PROTOCOL, hostkeys-prove-00@openssh.com)."""
        head = string(b"hostkeys-prove-00@openssh.com") + string(self.core.session_id)
        proofs = []
        try:
            for item in body.keys[: len(self.host_keys)]:
                key = self._host_key(item.key)
                wanted = self.core.negotiated.host_key
                algorithm = wanted if wanted in key.public.algorithms else key.public.algorithms[0]
                proofs.append(HostKeySignature(key.sign(algorithm, head + string(item.key))))
        except SSHError:
            return False
        return HostkeysProveReply(tuple(proofs)).encode() if len(proofs) == len(body.keys) else False


OnConnection: TypeAlias = Callable[[ServerConnection], None]
OnRefused: TypeAlias = Callable[[Peer, str], None]


class _Door(asyncio.Protocol):
    """Takes one TCP connection: hands it to a ServerConnection, or shuts it where too many wait to log in."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # another loop's is of no class of asyncio's
        peer = _peer_of(transport)
        connection = self._server.entered(peer)
        if isinstance(connection, Refusal):
            if connection.told:
                transport.write(f"{connection.told}\r\n".encode())
            transport.close()
            return
        transport.set_protocol(connection.link)
        connection.link.connection_made(transport)


def _peer_of(transport: asyncio.Transport) -> Peer:
    def end(name: str) -> tuple[str, int]:
        found = transport.get_extra_info(name)
        # What is no TCP socket gets the names that sshd gives it.
        return (str(found[0]), int(found[1])) if isinstance(found, tuple) else ("UNKNOWN", 65535)

    return Peer(*end("peername"), *end("sockname"))


class Server:
    """A running server; made by `serve`. `connections` are those that are open."""

    def __init__(
        self, *, host_keys: Sequence[PrivateKey], gatekeeper: Gatekeeper, handler: Handler | None,
        subsystems: Mapping[str, Handler], policy: Policy, sinks: Sinks, limits: Limits,
        on_login: OnConnection | None, on_close: OnConnection | None, on_refused: OnRefused | None = None,
        certificates: Sequence[AnyKey] = (),
    ) -> None:  # fmt: skip
        self.host_keys: tuple[PrivateKey, ...] = ()
        self.shown: tuple[AnyKey, ...] = ()
        """What clients are shown of the host keys, by the algorithm that they choose."""
        self._show(host_keys, certificates)
        self.gatekeeper = gatekeeper
        self.handler = handler
        self.subsystems = subsystems
        self.policy = policy
        self.sinks = sinks
        self.doorkeeper = Doorkeeper(limits)
        self.connections: set[ServerConnection] = set()
        self.refused = 0
        """How many connections were turned away at the door."""
        self._on_login = on_login
        self._on_close = on_close
        self._on_refused = on_refused
        self._listeners: list[asyncio.Server] = []
        self._closed = asyncio.Event()
        self._numbers = itertools.count(1)
        self._status: StatusSocket | None = None
        self.workers: Workers | None = None
        """The processes that take the connections in this one's place."""

    def _show(self, host_keys: Sequence[PrivateKey], certificates: Sequence[AnyKey]) -> None:
        if not host_keys:
            raise UsageError("a server needs a host key")
        shown: tuple[AnyKey, ...] = (*(key.public for key in host_keys), *certificates)
        if not {certificate.plain for certificate in certificates} <= set(shown):
            raise UsageError("a certificate of a host key that the server does not have")
        self.host_keys, self.shown = tuple(host_keys), shown

    def renew(
        self, *, host_keys: Sequence[PrivateKey], gatekeeper: Gatekeeper, policy: Policy, limits: Limits,
        subsystems: Mapping[str, Handler] | None = None, certificates: Sequence[AnyKey] = (),
    ) -> None:  # fmt: skip
        """New settings for connections to come, as `serve` takes them; those that are open keep theirs.

        Who waits to log in and who pays a penalty is not forgotten.
        """
        self._show(host_keys, certificates)
        self.gatekeeper, self.policy = gatekeeper, policy
        if subsystems is not None:
            self.subsystems = subsystems
        self.doorkeeper.limits = limits

    # Where it listens

    def shut(self, sock: socket.socket) -> None:
        """Listens no more at a socket that `listen` was given; connections that came by it go on."""
        number = sock.fileno()
        for listener in tuple(self._listeners):
            if number in [each.fileno() for each in listener.sockets]:
                listener.close()
                self._listeners.remove(listener)

    async def listen(self, host: str, port: int, *, sock: socket.socket | None, backlog: int) -> None:
        """Listens; `sock` is a listening socket to take instead. Raises CannotConnect."""
        loop = asyncio.get_running_loop()
        try:
            if sock is not None:
                listener = await loop.create_server(lambda: _Door(self), sock=sock, backlog=backlog)
            else:
                listener = await loop.create_server(lambda: _Door(self), host or None, port, backlog=backlog)
        except (OSError, OverflowError) as error:
            raise CannotConnect(f"cannot listen at {host or '*'} port {port}: {error}") from error
        self._listeners.append(listener)

    async def employ(self, count: int, work: Work, host: str, port: int, backlog: int) -> None:
        """Has `count` processes do the `work` at `host` and `port`. Raises CannotConnect."""
        from .workers import Workers, reserve

        self.workers = Workers(count, work, reserve(host, port), backlog=backlog)
        await self.workers.start()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the server, or its workers, listen."""
        if self.workers is not None:
            return self.workers.addresses
        return [sock.getsockname()[:2] for listener in self._listeners for sock in listener.sockets]

    @property
    def port(self) -> int:
        """The first port it listens at."""
        return self.addresses[0][1]

    async def adopt(self, sock: socket.socket) -> None:
        """Serves a connection that somebody else has accepted."""
        await asyncio.get_running_loop().connect_accepted_socket(lambda: _Door(self), sock)

    async def offer_status(self, where: Path | None = None) -> Path:
        """Offers a status socket, at the usual place or at `where`; its path. Raises ConfigError."""
        from .status import StatusSocket

        if self._status is None:
            self._status = await StatusSocket.open(self, where)
        return self._status.path

    # The connections' comings and goings

    def numbered(self) -> int:
        """The number of the next connection."""
        return next(self._numbers)

    def entered(self, peer: Peer) -> ServerConnection | Refusal:
        """A new connection, or why there is none."""
        refusal = self.doorkeeper.admit(peer.address, asyncio.get_running_loop().time())
        if refusal is not None or self._closed.is_set():
            self.refused += 1
            refusal = refusal or Refusal("the server is closing", "")
            if self._on_refused is not None:
                self._on_refused(peer, refusal.reason)
            return refusal
        connection = ServerConnection(self, peer)
        self.connections.add(connection)
        return connection

    def logged_in(self, connection: ServerConnection) -> None:
        """Somebody has logged in."""
        self.doorkeeper.left(connection.peer.address)
        if self._on_login is not None:
            self._on_login(connection)

    def left(self, connection: ServerConnection) -> None:
        """A connection is over."""
        self.connections.discard(connection)
        if connection.login is None:
            address, now = connection.peer.address, asyncio.get_running_loop().time()
            self.doorkeeper.left(address)
            if not self._closed.is_set():
                self.doorkeeper.penalise(address, connection.offence, now)
        if self._on_close is not None:
            self._on_close(connection)

    # The end

    async def close(self) -> None:
        """Listens no more, ends every connection in order and waits for them."""
        for listener in self._listeners:
            listener.close()
        self._closed.set()
        if self.workers is not None:
            await self.workers.close()
        if self._status is not None:
            self._status.close()
        open_ones = tuple(self.connections)
        await asyncio.gather(*(connection.close("server shutting down") for connection in open_ones))

    async def wait_closed(self) -> None:
        """Waits until `close` is called."""
        await self._closed.wait()


class Serving:
    """What `serve` returns: `await` it, or enter it with `async with`, which closes the server at the end."""

    def __init__(self, starting: Callable[[], Any]) -> None:
        self._starting = starting
        self._server: Server | None = None

    def __await__(self) -> Generator[Any, None, Server]:
        result: Generator[Any, None, Server] = self._starting().__await__()
        return result

    async def __aenter__(self) -> Server:
        self._server = await self._starting()
        return self._server

    async def __aexit__(self, *exc: object) -> None:
        if self._server is not None:
            await self._server.close()


def serve(
    host: str = "", port: int = 22, *, host_keys: Sequence[PrivateKey], gatekeeper: Gatekeeper,
    handler: Handler | None = None, subsystems: Mapping[str, Handler] | None = None,
    policy: Policy | None = None, sinks: Sinks = lambda peer: (), limits: Limits | None = None,
    on_login: OnConnection | None = None, on_close: OnConnection | None = None,
    on_refused: OnRefused | None = None,
    sock: socket.socket | None = None, listen: bool = True, backlog: int = 128,
    status: bool | str | Path = False, workers: int = 0, certificates: Sequence[AnyKey] = (),
) -> Serving:  # fmt: skip
    """Serves SSH at `host` ("": every address) and `port` (0: any free one).

    `gatekeeper` decides about logins and forwardings. `handler` runs shells and commands, `subsystems` the
    subsystems by name; each is a coroutine function that takes a ServerSession and returns the exit status.
    What is not given is refused. `certificates` are those of the host keys. `limits` say how many
    connections may wait to log in, each for `Policy.login_grace` seconds, and what an address pays that fails
    to: those of sshd where nothing is given.

    `sinks(peer)` are those that hear the records of a new connection. `on_login` and `on_close` are called
    with the connection; its `error` says why it ended; `on_refused` with the two ends of one that was turned
    away, and why. `sock` is a listening socket to take; without
    `listen` there is none, and connections come by `Server.adopt`. Raises CannotConnect.

    `status` offers what `glasshell top` reads: a Unix socket at the usual place (True) or at a path of its
    own. A program that serves SSH for its own ends need not tell every tool of its user who is connected,
    nor leave files in a folder it does not know of: it has to ask for it. Raises ConfigError.

    `workers` processes share the work where there are any: each has what is given here for itself, callbacks,
    limits and `status` (FILE.N) too, and this one takes no connection. They are forked: serve before threads
    are started. One that dies is replaced, which the loop's exception handler hears.
    """

    def make() -> Server:
        return Server(
            host_keys=host_keys, gatekeeper=gatekeeper, handler=handler, subsystems=subsystems or {},
            policy=policy or Policy.server().for_processor(aes=has_aes()),
            sinks=sinks, limits=limits or Limits(), on_login=on_login, on_close=on_close,
            on_refused=on_refused, certificates=certificates,
        )  # fmt: skip

    async def offer(server: Server, place: Path | None) -> Server:
        if status is not False:
            try:
                await server.offer_status(place)
            except SSHError:
                await server.close()
                raise
        return server

    @contextlib.asynccontextmanager
    async def work(number: int, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
        server = make()
        for each in sockets:
            await server.listen(host, port, sock=each, backlog=backlog)
        from .workers import cleared

        await offer(server, None if status is True else cleared(Path(f"{status}.{number}")))
        yield
        await server.close()

    async def starting() -> Server:
        server = make()
        if workers:
            if sock is not None or not listen:
                raise UsageError("workers listen for themselves: give them a host and a port")
            await server.employ(workers, work, host, port, backlog)
            return server
        if listen:
            await server.listen(host, port, sock=sock, backlog=backlog)
        return await offer(server, None if status is True else Path(str(status)))

    return Serving(starting)
