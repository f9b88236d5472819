"""RFC 4253: the transport of one connection, without I/O: bytes and times in, bytes and events out.

It frames, dispatches and answers for itself (§11); `handshake` exchanges keys; the layers above install
their handlers here and see of it what `port.Port` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Final, Protocol

from ..crypto.registry import Kind, find
from ..errors import (
    ConnectionLost,
    Disconnected,
    LimitExceeded,
    NegotiationFailed,
    PeerError,
    ProtocolViolation,
    SSHError,
    UsageError,
)
from ..events import Closed, DebugMessage, Event, HandshakeDone, Negotiated, PrefaceLine, Question
from ..keys.public import AnyKey
from ..messages.declare import Message, message_name
from ..messages.transport import (
    Debug,
    Disconnect,
    DisconnectReason,
    ExtInfo,
    Ignore,
    Ping,
    Pong,
    Unimplemented,
)
from ..observe.hub import Hub
from ..policy import Policy
from ..wire import visible
from .agenda import Agenda
from .handshake import Handshake
from .ident import Identification, IdentificationReader, ours
from .packets import Inbound, Outbound
from .rules import FIRST_KEX, Handler, Methods, Phase, Role, slot

_PAUSE_AT: Final = 64 * 1024
"""Bytes that wait undispatched behind a question before the socket is read no more."""
_HOLD_LIMIT: Final = 512 * 1024
"""Bytes that may wait there all the same: a shell reads in large pieces."""
_BEFORE_LOGIN: Final = 64 * 1024 * 1024
"""Most bytes a peer may send before it has logged in."""
_TURN: Final = 512 * 1024
"""Bytes of channel data in one turn of the loop: the cache has so few of them yet when they are copied."""
_OUTPUT_BEFORE_LOGIN: Final = 256 * 1024
"""Most bytes queued towards a peer that has not logged in: strangers are many, and get little each."""
_EXT_INFO_LIMIT: Final = {"client": 2, "server": 1}
"""How many EXT_INFO each role takes: one after NEWKEYS, and the client's before success (RFC 8308 §2.4)."""
_MAX_EXTENSIONS: Final = 1024
"""Most extensions in one EXT_INFO; OpenSSH's own bound."""
_OWN: Final = {
    1: "_on_disconnect", 2: "_on_ignore", 3: "_on_unimplemented", 4: "_on_debug", 7: "_on_ext_info",
    192: "_on_ping", 193: "_on_pong",
}  # fmt: skip
"""What takes the transport's own messages."""


class Owner(Protocol):
    """What the transport tells whoever joins the layers, at once and not as an event."""

    def handshake_done(self) -> None:
        """The first key exchange is over."""

    def room_again(self) -> None:
        """Channel data may be queued again: a key exchange is over."""

    def closing(self, error: SSHError | None) -> None:
        """The connection ends; what is told from here comes before Closed."""

    def again(self, error: SSHError | None) -> str:
        """Why this was an attempt only, and another connection follows, in turns; empty: it was none."""


class _Waiting:
    """Messages of the upper layers that wait for the end of a key exchange, and their size."""

    __slots__ = ("messages", "size")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.size = 0

    def add(self, message: Message) -> None:
        self.messages.append(message)
        self.size += 64 + len(message.encode())

    def take(self) -> list[Message]:
        taken, self.messages, self.size = self.messages, [], 0
        return taken


class Transport:
    """One connection's transport; `role` is ours. Every call that takes `now` sets the core's time."""

    def __init__(
        self, policy: Policy, owner: Owner, *, random: Callable[[int], bytes], hub: Hub | None = None,
        host_keys: Sequence[AnyKey] = (),
    ) -> None:  # fmt: skip
        self.policy = policy
        self.role: Role = policy.role
        """Which side we are."""
        self.peer: Role = "server" if policy.role == "client" else "client"
        self.random = random
        self.hub = hub
        self.now = 0.0
        self._arrived = 0.0
        self.round_trip = inf
        self.auth_context = ""
        self.inbound = Inbound()
        self.outbound = Outbound(random)
        self.agenda = Agenda()
        self.phase = Phase.IDENTIFICATION
        self.events: list[Event] = []
        self.extensions: dict[str, bytes] = {}
        self.ours = ours(policy.software)
        self.theirs: Identification | None = None
        self.closed = False
        self.error: SSHError | None = None
        self.owner = owner
        self._reader = IdentificationReader(self.role)
        self._upper = Phase.SERVICE
        self._installed: Mapping[int, Handler] = {}
        self._slots: dict[int, Handler] = {}
        """What takes each number in the present phase, as far as it has come: `_slot` fills it."""
        self._waiting = _Waiting()
        self._ext_infos = 0
        self._own = Methods(self, _OWN)
        self.kex = Handshake(self, host_keys)

    # --- the session's facts (port)

    @property
    def session_id(self) -> bytes:
        """The first exchange hash. Raises UsageError before it is known."""
        if self.kex.session_id is None:
            raise UsageError("no session before the first key exchange")
        return self.kex.session_id

    @property
    def negotiated(self) -> Negotiated:
        """The algorithms of the latest key exchange. Raises UsageError before the first."""
        if self.kex.negotiated is None:
            raise UsageError("nothing is negotiated yet")
        return self.kex.negotiated

    @property
    def host_key(self) -> AnyKey:
        """The server's host key. Raises UsageError before it is known."""
        if self.kex.host_key is None:
            raise UsageError("the host key is not known yet")
        return self.kex.host_key

    @property
    def logged_in(self) -> bool:
        """Whether the connection protocol runs, be keys exchanged at the moment or not."""
        return self._upper is Phase.CONNECTION and not self.closed

    # --- bytes in

    def start(self, now: float) -> None:
        """Queues our identification and KEXINIT; a side need not wait for the other's (§4.2, §7.1)."""
        self._set_now(now)
        line = self.ours.line
        self.outbound.append(line + b"\r\n")
        if self.hub:
            self.hub.state("identification_sent", line=line.decode(), length=len(line) + 2)
        if self.policy.early_kexinit:
            self.guard(lambda: self.kex.start("the connection begins"))

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Takes bytes of the socket and works through the packets that they complete."""
        self._set_now(now)
        self._arrived = now
        if self.closed:
            return
        if self.hub is not None:
            self.hub.received(data)
        try:
            if self.phase is Phase.IDENTIFICATION:
                self._read_identification(data)
            else:
                self.inbound.lend(data)
                self._pump()
        except Exception as error:
            self._caught(error)
        self.inbound.keep()
        if self.hub is not None:
            self.hub.settle(0 if self.agenda.held or self.closed else self.inbound.buffered())

    def receive_eof(self, now: float, *, error: str = "") -> None:
        """The peer has closed its side of the socket, or that has failed: the connection is over."""
        self._set_now(now)
        if self.closed:
            return
        if self.hub:
            if self.phase is Phase.IDENTIFICATION and (rest := self._reader.rest):
                self.hub.state("preface_rest", text=rest)
            self.hub.state("eof", **({"error": error} if error else {}))
        where = f" during {self.phase.value}" if self.phase is not Phase.CONNECTION else ""
        self.fail(ConnectionLost(f"the peer closed the connection{where}", hint=self._eof_hint()))

    def data_to_send(self, now: float) -> bytes | memoryview:
        """What is to be written to the socket now, all of it; empty: nothing.

        Call right before the socket call: it gives what is sent its time.
        """
        self._set_now(now)
        if not self.closed and (reason := self.kex.due()):
            self.guard(lambda: self.kex.start(reason))
        data = self.outbound.take()
        if self.hub is not None:
            self.hub.flush(now, data)
        return data

    @property
    def reading_paused(self) -> bool:
        """Whether the socket shall not be read: enough waits behind an open question."""
        return bool(self.agenda.held) and self.inbound.buffered() >= _PAUSE_AT

    def _set_now(self, now: float) -> None:
        self.now = now
        if self.hub is not None:
            self.hub.now = now

    def _read_identification(self, data: bytes | bytearray | memoryview) -> None:
        told = len(self._reader.preface)
        try:
            found = self._reader.feed(data)
        finally:
            for line in self._reader.preface[told:]:
                self.events.append(PrefaceLine(line))
                if self.hub:
                    self.hub.state("preface_line", text=line)
        if found is None:
            return
        identification, rest = found
        self._identified(identification)
        self.inbound.feed(rest)
        self._pump()

    def _identified(self, peer: Identification) -> None:
        self.theirs = peer
        if self.hub:
            self.hub.state(
                "identification_received", line=peer.line.decode(), protocol=peer.protocol,
                software=peer.name, length=len(peer.line) + 2,
            )  # fmt: skip
        self.phase = Phase.KEXINIT
        if not self.policy.early_kexinit:
            self.kex.start("the connection begins")
        self.reslot()

    def _pump(self) -> None:
        """[hot] Dispatches packets until one is incomplete, or a question holds the next one back."""
        inbound = self.inbound
        while not self.agenda.held and not self.closed:
            payload = inbound.next()
            if payload is None:
                break
            if self.hub is not None:
                self._observe(payload)
            handler = self._slots.get(payload[0]) or self._slot(payload[0])
            handler(payload)
        if self.agenda.held and inbound.buffered() > _HOLD_LIMIT:
            raise LimitExceeded("the peer sent too much while an answer to it was pending")
        if inbound.total_bytes > _BEFORE_LOGIN and self._upper is not Phase.CONNECTION:
            raise LimitExceeded("the peer sent too much before it logged in")

    def _observe(self, payload: memoryview) -> None:
        assert self.hub is not None
        inbound = self.inbound
        length, padding, wire = inbound.lengths
        self.hub.message(
            sent=False, seq=(inbound.seq - 1) % (1 << 32), epoch=inbound.epoch,
            context=self._context(payload[0]), payload=payload,
            packet_length=length, padding_length=padding, wire_length=wire, at=self._arrived,
        )  # fmt: skip

    def _context(self, number: int) -> str:
        if 30 <= number < 50:
            return self.kex.context
        return self.auth_context if 60 <= number < 80 else ""

    def _illegal(self, number: int) -> ProtocolViolation:
        name = message_name(number, self._context(number))
        return ProtocolViolation(f"{name} may not be sent during {self.phase.value}", clause="RFC 4253 7.1")

    # --- messages out (port)

    def send(self, message: Message) -> None:
        """Queues a message; one of the upper layers waits while keys are exchanged."""
        if self.closed:
            return
        number = message.NUMBER
        if self.kex.blocked and (number >= 50 or number in (5, 6)):
            self._waiting.add(message)
        else:
            self.send_now(message)
        limit = self.policy.max_output
        if not self.logged_in:
            limit = min(limit, _OUTPUT_BEFORE_LOGIN)
        if self._waiting.size + len(self.outbound.buffer) > limit:
            raise LimitExceeded("the peer does not read what it makes us send")

    def send_now(self, message: Message) -> None:
        """Seals a message at once: those of the transport itself."""
        self._seal(message.encode())

    def send_data(self, head: bytes, data: bytes | memoryview) -> None:
        """[hot] Seals the payload `head + data`; only with `room() > 0`."""
        self._seal(head, data)

    def room(self) -> int:
        """How many bytes of channel data may be queued now; 0 during a key exchange."""
        if not self.kex.blocked and (reason := self.kex.due()):
            self.kex.start(reason)
        if self.kex.blocked or self.closed:
            return 0
        # A quarter is kept for replies and window adjustments.
        return max(0, min(_TURN, self.policy.max_output * 3 // 4) - len(self.outbound.buffer))

    def _seal(self, head: bytes, data: bytes | memoryview = b"") -> None:
        outbound = self.outbound
        seq, epoch = outbound.seq, outbound.epoch
        length, padding, wire = outbound.seal(head, data)
        if self.hub is not None:
            self.hub.message(
                sent=True, seq=seq, epoch=epoch, context=self._context(head[0]), payload=head, data=data,
                packet_length=length, padding_length=padding, wire_length=wire,
            )  # fmt: skip

    # --- phases and handlers

    def install(self, handlers: Mapping[int, Handler]) -> None:
        """These handlers, and no others, serve the upper layers from here on."""
        self._installed = handlers
        self.reslot()

    def enter(self, phase: Phase) -> None:
        """Moves to SERVICE, AUTH or CONNECTION."""
        self._upper = phase
        if self.phase not in FIRST_KEX and self.phase is not Phase.CLOSED:
            self.phase = phase
        self.reslot()

    def enter_kex(self, phase: Phase) -> None:
        """Moves into, or on within, a key exchange."""
        self.phase = phase
        self.reslot()

    def leave_kex(self) -> None:
        """Back to the upper layers."""
        self.phase = self._upper
        self.reslot()

    def release(self) -> None:
        """Sends what waited for the keys, in order."""
        for message in self._waiting.take():
            self.send(message)
        self.owner.room_again()

    def rekey(self, now: float) -> None:
        """Begins a key re-exchange, if none is under way."""
        self._set_now(now)
        self.guard(lambda: self.kex.start("asked for"))

    def reslot(self) -> None:
        """Empties the slots: the phase has changed, or the handlers at hand."""
        self._slots.clear()

    def _slot(self, number: int) -> Handler:
        """Fills the slot of `number` from `rules` and the handlers at hand. Raises ProtocolViolation."""
        strict = self.kex.strict
        handler = slot(self.phase, number, self.peer, self._handler, self._on_unknown, strict=strict)
        if handler is None:
            raise self._illegal(number)
        self._slots[number] = handler
        return handler

    def _handler(self, number: int) -> Handler | None:
        if number in _OWN:
            return self._own[number]
        return self.kex.handler(number) if 20 <= number < 50 else self._installed.get(number)

    def handshake_done(self, event: HandshakeDone) -> None:
        """The first key exchange is over: the application hears of it, authentication begins."""
        self.events.append(event)
        self.owner.handshake_done()

    def start_compression(self) -> None:
        """Compresses from here on, where that was agreed: after success, and anew after each NEWKEYS."""
        n = self.negotiated
        name = n.compression_c2s if self.role == "client" else n.compression_s2c
        make = find(Kind.COMPRESSION, name).compressor
        self.outbound.compressor = make() if make else None

    def start_decompression(self) -> None:
        """The other direction of `start_compression`."""
        n = self.negotiated
        name = n.compression_s2c if self.role == "client" else n.compression_c2s
        make = find(Kind.COMPRESSION, name).decompressor
        self.inbound.decompressor = make() if make else None

    # --- the application (port)

    def emit(self, event: Event) -> None:
        """Tells the application."""
        self.events.append(event)

    def ask(self, question: Question, resume: Callable[[Any], None], *, hold: bool = False) -> None:
        """Asks the application; `hold` keeps the peer's next message waiting for the answer."""
        self.agenda.ask(question, resume, hold=hold)
        self.events.append(question)

    def answer(self, question: Question, value: Any, now: float) -> None:
        """The application's answer. Raises UsageError for a question that is not open."""
        self._set_now(now)
        if self.closed:
            return
        resume = self.agenda.answered(question)
        self.guard(lambda: resume(value))
        if not self.agenda.held:
            self.guard(self._resume)

    def _resume(self) -> None:
        if self.phase is not Phase.IDENTIFICATION and not self.closed:
            self._pump()

    def schedule(self, name: str, after: float, action: Callable[[], None]) -> None:
        """Sets the timer `name` to `after` seconds from now."""
        self.agenda.schedule(name, self.now + after, action)

    def cancel(self, name: str) -> None:
        """Forgets the timer `name`."""
        self.agenda.cancel(name)

    def handle_timeout(self, now: float) -> None:
        """Runs the timers that are due."""
        self._set_now(now)
        for action in self.agenda.due(now):
            if not self.closed:
                self.guard(action)

    # --- the end

    def guard(self, action: Callable[[], None]) -> None:
        """Runs `action`; whatever it raises ends the connection and nothing else."""
        try:
            action()
        except Exception as error:
            self._caught(error)

    def _caught(self, error: Exception) -> None:
        if isinstance(error, SSHError):
            self.fail(error)
            return
        # Fails closed: an error nobody thought of must not be read as "go on" (CVE-2025-26465).
        failure = SSHError(f"internal error: {type(error).__name__}")
        failure.__cause__ = error
        self.fail(failure)

    def fail(self, error: SSHError) -> None:
        """Ends the connection because of `error`: at most one DISCONNECT, then Closed."""
        reason = error.disconnect_reason
        if reason is not None and self.theirs is not None:
            # What went wrong on our own side (a file and line of known_hosts, say) is not the peer's to know.
            about_the_peer = isinstance(error, PeerError | NegotiationFailed)
            text = str(error) if about_the_peer else DisconnectReason(reason).name.lower().replace("_", " ")
            self._say_goodbye(reason, visible(text)[:200])
        self._end(error)

    def disconnect(self, reason: int, description: str, now: float) -> None:
        """Ends the connection in order: DISCONNECT, then Closed without an error (§11.1)."""
        self._set_now(now)
        self._say_goodbye(reason, description)
        self._end(None)

    def _say_goodbye(self, reason: int, description: str) -> None:
        if self.closed:
            return
        try:
            self.send_now(Disconnect(reason, description))
        except Exception:
            self.outbound.clear()  # the cipher itself failed: nothing more may leave
            return
        if self.hub:
            self.hub.state("disconnect", sent=True, reason=reason, description=description)

    def _end(self, error: SSHError | None) -> None:
        if self.closed:
            return
        self.closed, self.error = True, error
        self.agenda.clear()
        self._waiting.take()
        again = self.owner.again(error)
        if self.hub:
            self.hub.settle()
            if error is not None and not again:
                told = {"type": type(error).__name__, "text": str(error)}
                self.hub.state("error", **told, hint=error.hint, clause=error.clause)
        self.owner.closing(error)
        if self.hub:
            self._tell_compressed()
            moved = {"sent_bytes": self.outbound.total_bytes, "received_bytes": self.inbound.total_bytes}
            if again:
                self.hub.state("speculation_failed", text=again, **moved)
            else:
                self.hub.state("closed", **moved)
        self.events.append(Closed(error))
        self.phase = Phase.CLOSED
        self._slots.clear()

    def _tell_compressed(self) -> None:
        deflate, inflate = self.outbound.compressor, self.inbound.decompressor
        if self.hub and deflate and inflate:
            inflated = inflate.plain, inflate.packed
            self.hub.state("compressed", deflated=(deflate.plain, deflate.packed), inflated=inflated)

    def _eof_hint(self) -> str:
        if self.phase is Phase.IDENTIFICATION:
            seen = self._reader.received
            if seen:
                return f"It said {visible(seen)}: that is no SSH server. Is the port right?"
            return "It said nothing: too many connections there (MaxStartups), or this is no SSH server."
        return ""

    # --- the transport's own messages (RFC 4253 §11)

    def _on_disconnect(self, payload: memoryview) -> None:
        message = Disconnect.decode(payload)
        text = visible(message.description)
        if self.hub:
            self.hub.state("disconnect", sent=False, reason=message.reason_code, description=text)
        raise Disconnected(
            f"the peer disconnected: {text} (reason {message.reason_code})",
            reason=message.reason_code, description=text,
        )  # fmt: skip

    def _on_ignore(self, payload: memoryview) -> None:
        Ignore.decode(payload)

    def _on_unimplemented(self, payload: memoryview) -> None:
        Unimplemented.decode(payload)

    def _on_debug(self, payload: memoryview) -> None:
        message = Debug.decode(payload)
        if len(self.events) < 1000:
            self.events.append(DebugMessage(visible(message.message), message.always_display))

    def _on_unknown(self, payload: memoryview) -> None:
        """§11.4: what is not known is answered with its sequence number."""
        self.send(Unimplemented((self.inbound.seq - 1) % (1 << 32)))

    def _on_ext_info(self, payload: memoryview) -> None:
        self._ext_infos += 1
        if self._ext_infos > _EXT_INFO_LIMIT[self.role] or (
            self.role == "server" and self.inbound.key_packets != 1
        ):
            raise ProtocolViolation("EXT_INFO at a time when it may not be sent", clause="RFC 8308 2.4")
        if int.from_bytes(payload[1:5], "big") > _MAX_EXTENSIONS:  # before one object is made for each
            raise LimitExceeded(f"more than {_MAX_EXTENSIONS} extensions in EXT_INFO", clause="RFC 8308 2.3")
        for extension in ExtInfo.decode(payload).extensions:
            self.extensions[extension.name] = extension.value
            if self.hub:
                self.hub.state("extension", name=visible(extension.name), value=visible(extension.value))

    def _on_ping(self, payload: memoryview) -> None:
        self.send(Pong(Ping.decode(payload).data))

    def _on_pong(self, payload: memoryview) -> None:
        Pong.decode(payload)
