"""The face of the core: one connection as a client or as a server, without I/O.

Four verbs and a clock. `receive_data` takes what the socket gave; `data_to_send` is what to write to
it; `events` is what the application is told and asked; calls like `answer` and those of `mux` are what
it does. After each of them: take `events()`, write `data_to_send(now)`, and set one timer to
`next_timeout()`, which calls `handle_timeout(now)`. When `closed`, write what is left and close the
socket. `now` is seconds on any clock that does not go back; the core has no other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from .auth.client import ClientAuth
from .auth.server import LATE_REQUESTS, ServerAuth
from .connection.mux import Mux
from .errors import ConnectionLost, DeadlineExceeded, SSHError, UsageError
from .events import Event, Negotiated, Question
from .keys.public import AnyKey
from .messages.connection import Keepalive
from .messages.transport import DisconnectReason, Ignore
from .observe.hub import Hub
from .policy import Policy
from .transport.rules import Handler, Phase
from .transport.transport import Transport


class Protocol:
    """What client and server share; use `ClientProtocol` or `ServerProtocol`."""

    def __init__(
        self, policy: Policy, *, now: float, hub: Hub | None = None,
        random: Callable[[int], bytes] = os.urandom, host_keys: Sequence[AnyKey] = (),
    ) -> None:  # fmt: skip
        self.policy = policy
        self.transport = Transport(policy, _Joint(self), random=random, hub=hub, host_keys=host_keys)
        self.transport.now = now
        self.mux = Mux(self.transport, is_server=policy.role == "server")
        self._heard = now
        self._unanswered = 0

    # --- the four verbs

    def start(self, now: float) -> None:
        """The socket is connected: queues our identification and KEXINIT. Then write `data_to_send`."""
        self.transport.start(now)
        grace = self.policy.login_grace
        if grace:  # absolute, from the connection's start, whatever the peer does meanwhile
            self.transport.schedule("login grace", grace, self._login_too_slow)

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Takes bytes of the socket. Then take `events` and write `data_to_send`.

        Raises nothing: what the peer does wrong ends the connection with the event Closed.
        """
        self._heard, self._unanswered = now, 0
        self.transport.receive_data(data, now)
        if self.mux.told_late:
            self.transport.guard(self.mux.after_receive)

    def receive_eof(self, now: float, *, error: str = "") -> None:
        """The peer has closed its side of the socket, or the socket has failed with `error`."""
        self.transport.receive_eof(now, error=error)

    def data_to_send(self, now: float) -> bytes | memoryview:
        """Everything to be written now; empty: nothing. Call right before the socket call.

        A view keeps its memory as it is until it is released.
        """
        data = self.transport.data_to_send(now)
        if data and self.mux.waiting and not self.transport.closed:
            self.transport.guard(self.mux.resume_writing)
        return data

    def pending(self, *, sending: bool = True) -> bool:
        """Whether `events` has anything, or, where `sending`, `data_to_send` has."""
        return bool(self.transport.events or (sending and self.transport.outbound.buffer))

    def events(self) -> list[Event]:
        """What has happened since the last call; each Question among them wants an `answer`."""
        out, self.transport.events = self.transport.events, []
        return out

    # --- the clock

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due, on the clock of `now`; None: not at all."""
        return self.transport.agenda.next_timeout()

    def handle_timeout(self, now: float) -> None:
        """Does what is due at `now`."""
        self.transport.handle_timeout(now)

    # --- the application's part

    def answer(self, question: Question, value: Any, now: float) -> None:
        """Answers a question; its class says with what. Raises UsageError where it is not open."""
        self.transport.answer(question, value, now)
        if self.mux.told_late:
            self.transport.guard(self.mux.after_receive)

    def close(
        self,
        now: float,
        reason: int = DisconnectReason.BY_APPLICATION,
        description: str = "disconnected by user",
    ) -> None:
        """Ends the connection in order; write what is left, then close the socket."""
        self.transport.disconnect(reason, description, now)

    @property
    def closed(self) -> bool:
        """Whether the connection is over: nothing is taken any more."""
        return self.transport.closed

    @property
    def error(self) -> SSHError | None:
        """What ended the connection, known before the event Closed; None while it lives, and in order."""
        return self.transport.error

    @property
    def reading_paused(self) -> bool:
        """Whether the socket shall not be read now; ask again after each `answer`."""
        return self.transport.reading_paused

    @property
    def negotiated(self) -> Negotiated:
        """The algorithms in use. Raises UsageError before the first key exchange."""
        return self.transport.negotiated

    @property
    def session_id(self) -> bytes:
        """The session identifier (RFC 4253 §7.2). Raises UsageError before the first key exchange."""
        return self.transport.session_id

    @property
    def host_key(self) -> AnyKey:
        """The server's host key. Raises UsageError before the first key exchange."""
        return self.transport.host_key

    @property
    def peer_software(self) -> str:
        """Software version and comments of the peer's identification; empty before it came."""
        theirs = self.transport.theirs
        return theirs.name if theirs else ""

    @property
    def hub(self) -> Hub | None:
        """The stream of records of this connection."""
        return self.transport.hub

    @property
    def offered(self) -> tuple[str, str]:
        """The key exchange and the host key algorithm that the peer put first; empty before its KEXINIT."""
        return self.transport.kex.offered

    def again(self, error: SSHError | None) -> str:
        """Why the end of this connection, by `error` or in order, is not the last word: another follows."""
        return ""

    def room(self) -> int:
        """How many bytes of channel data the core takes now."""
        return self.transport.room()

    def rekey(self, now: float) -> None:
        """Begins a key re-exchange (RFC 4253 §9), if none is under way. Raises UsageError before login."""
        if not self.transport.logged_in:
            raise UsageError("keys are exchanged anew only after login", clause="RFC 4253 9")
        self.transport.rekey(now)

    # --- how the layers are joined

    def _on_handshake(self) -> None:
        raise NotImplementedError

    def _logged_in(self, handlers: Mapping[int, Handler]) -> None:
        """Authentication has succeeded: compression may begin, the connection protocol does."""
        transport = self.transport
        transport.cancel("login grace")
        transport.start_compression()
        transport.start_decompression()
        transport.install(self.mux.handlers(handlers))
        transport.enter(Phase.CONNECTION)
        if self.policy.keepalive_interval:
            transport.schedule("keepalive", self.policy.keepalive_interval, self._keepalive)

    def _login_too_slow(self) -> None:
        raise DeadlineExceeded(f"authentication did not end within {self.policy.login_grace:g} s")

    def _keepalive(self) -> None:
        """Asks a silent peer for a sign of life; any answer will do, FAILURE is the usual one."""
        interval = self.policy.keepalive_interval
        silent = self.transport.now - self._heard
        if silent >= interval:
            if self._unanswered >= self.policy.keepalive_count:
                raise ConnectionLost(f"the peer has not answered for {silent:.0f} s")
            self._unanswered += 1
            self.mux.global_request("keepalive@openssh.com", Keepalive(), want_reply=True)
            silent = 0.0
        self.transport.schedule("keepalive", interval - silent, self._keepalive)


class _Joint:
    """What the transport tells the layers above it (`transport.Owner`)."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def handshake_done(self) -> None:
        self._protocol._on_handshake()

    def room_again(self) -> None:
        self._protocol.mux.resume_writing()

    def closing(self, error: SSHError | None) -> None:
        self._protocol.mux.close_all(error)

    def again(self, error: SSHError | None) -> str:
        return self._protocol.again(error)


class ClientProtocol(Protocol):
    """The core of a client: `start`, then answer HostKeyOffered and CredentialNeeded, then use `mux`."""

    def __init__(
        self, policy: Policy, *, user: str, now: float, hub: Hub | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:  # fmt: skip
        super().__init__(policy, now=now, hub=hub, random=random)
        self._auth = ClientAuth(
            self.transport, user, lambda: self._logged_in({}), refuse_trivial=policy.refuse_trivial
        )
        self.excuse: Callable[[SSHError], bool] | None = None
        """Set by a shell that will connect again where what was sent ahead was in vain: it says which errors
        end such an attempt only, and is asked for each that ends the connection."""
        self.retry = ""
        """Set by such a shell before it closes: why what was sent ahead was in vain."""

    @property
    def ahead(self) -> bool:
        """Whether something was sent before its time, and the first login request has no answer yet."""
        return self._auth.ahead

    @property
    def accepted(self) -> bool:
        """Whether the server has let the user in, be the connection over or not."""
        return self._auth.accepted

    def nudge(self, now: float) -> None:
        """Sends a message that says nothing (RFC 4253 §11.2)."""
        self.transport.now = now
        self.transport.send(Ignore(b""))

    def again(self, error: SSHError | None) -> str:
        if error is not None and self.excuse is not None and self.excuse(error):
            return str(error)
        return self.retry

    def _on_handshake(self) -> None:
        self._auth.start()


_BY_USER: Final = (
    "pubkey_algorithms", "ca_signature_algorithms", "min_rsa_bits", "max_auth_failures", "max_sessions",
    "keepalive_interval", "keepalive_count",
)  # fmt: skip


class ServerProtocol(Protocol):
    """The core of a server: answer its questions about keys, passwords, channels and requests.

    `host_keys` are the public halves; HostKeySignatureNeeded asks for signatures. `methods` are what
    it offers to log in with; `banner` is shown before that (RFC 4252 §5.4). An empty password and a change
    of password are refused unasked, unless allowed.
    """

    def __init__(
        self, policy: Policy, *, host_keys: Sequence[AnyKey], methods: tuple[str, ...] = ("publickey",),
        banner: str = "", empty_passwords: bool = False, password_changes: bool = False, now: float,
        hub: Hub | None = None, random: Callable[[int], bytes] = os.urandom,
    ) -> None:  # fmt: skip
        super().__init__(policy, now=now, hub=hub, random=random, host_keys=host_keys)
        self._auth = ServerAuth(
            self.transport, self._on_user, methods=methods, banner=banner,
            empty_passwords=empty_passwords, password_changes=password_changes,
        )  # fmt: skip

    def show_banner(self, text: str) -> None:
        """Shows `text` before the answer to the login request that is being judged (RFC 4252 §5.4)."""
        self._auth.show_banner(text)

    def adopt(self, policy: Policy) -> None:
        """Has the settings of `policy` hold that may depend on who logs in: those of keys, attempts, sessions
        and keepalives. Call before the question about that user is answered."""
        changes = {name: getattr(policy, name) for name in _BY_USER}
        self.policy = self.transport.policy = self.policy.but(**changes)

    @property
    def passed(self) -> tuple[Any, ...]:
        """The grants of the steps that the user who is asking now has done, before the login."""
        return self._auth.passed

    def _on_handshake(self) -> None:
        self._auth.start()

    def _on_user(self, *_: Any) -> None:
        del self._auth  # nothing of a login is kept
        self._logged_in(LATE_REQUESTS)
