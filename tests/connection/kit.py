"""A stand-in for the transport below a `Mux`, and two of them joined in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from glasshell.connection.channel import Channel
from glasshell.connection.mux import Mux
from glasshell.crypto.signatures import PublicKey
from glasshell.errors import LimitExceeded, SSHError
from glasshell.events import ChannelOffered, Event, Negotiated, Question
from glasshell.messages import connection as m
from glasshell.messages.declare import Message, decode
from glasshell.observe.hub import Hub
from glasshell.observe.record import STATES, Record, StateRecord
from glasshell.policy import Policy
from glasshell.transport.rules import Handler, Phase


class FakePort:
    """`glasshell.transport.port.Port` of an authenticated connection; nothing moves by itself."""

    auth_context = ""
    session_id = b"\0" * 32
    extensions: Mapping[str, bytes] = {}

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.now = 0.0
        self.round_trip = 0.001
        self.states: list[tuple[str, dict[str, Any]]] = []
        self.hub: Hub | None = Hub(self._hear)
        self.sent: list[bytes] = []
        self.queued = 0
        self.space: int | None = None
        """What `room()` says; None: what the output queue leaves."""
        self.events: list[Event] = []
        self.questions: list[tuple[Question, Callable[[Any], None]]] = []

    def _hear(self, record: Record) -> None:
        assert isinstance(record, StateRecord)
        assert set(record.facts) == set(STATES[record.name][1].split()), record.name
        self.states.append((record.name, dict(record.facts)))

    @property
    def negotiated(self) -> Negotiated:
        raise AssertionError("the connection protocol does not look at algorithms")

    @property
    def host_key(self) -> PublicKey:
        raise AssertionError("the connection protocol does not look at keys")

    def send(self, message: Message) -> None:
        self._queue(message.encode())

    def send_data(self, head: bytes, data: bytes | memoryview) -> None:
        assert self.room() > 0
        self._queue(head + bytes(data))

    def _queue(self, payload: bytes) -> None:
        self.queued += len(payload) + 32
        if self.queued > self.policy.max_output + 256 * 1024:
            raise LimitExceeded("the peer does not read")
        self.sent.append(payload)

    def room(self) -> int:
        return max(0, self.policy.max_output - self.queued) if self.space is None else self.space

    def install(self, handlers: Mapping[int, Handler]) -> None:
        raise AssertionError("the protocol installs")

    def enter(self, phase: Phase) -> None:
        raise AssertionError("the protocol enters")

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def ask(self, question: Question, resume: Callable[[Any], None], *, hold: bool = False) -> None:
        self.questions.append((question, resume))
        self.events.append(question)

    def schedule(self, name: str, after: float, action: Callable[[], None]) -> None:
        raise AssertionError("nothing here depends on time")

    def cancel(self, name: str) -> None:
        raise AssertionError("nothing here depends on time")

    def fail(self, error: SSHError) -> None:
        raise AssertionError("errors of the peer are raised")


class Side:
    """A `Mux` with its port: `receive` is what the peer sends, `take` what was sent to it."""

    def __init__(self, role: str, **policy: Any) -> None:
        self.port = FakePort(getattr(Policy, role)(**policy))
        self.mux = Mux(self.port, is_server=role == "server")
        self.handlers = self.mux.handlers()

    def receive(self, *messages: Message | bytes) -> None:
        for message in messages:
            payload = message if isinstance(message, bytes) else message.encode()
            self.handlers[payload[0]](memoryview(payload))
        self.mux.after_receive()

    def take(self) -> list[Any]:
        """Everything sent since the last call, decoded."""
        payloads, self.port.sent, self.port.queued = self.port.sent, [], 0
        return [decode(payload) for payload in payloads]

    def events(self, kind: type[Any] = object) -> list[Any]:
        """The events since the last call, of one class."""
        events, self.port.events = self.port.events, []
        return [event for event in events if isinstance(event, kind)]

    def answer(self, value: Any, index: int = 0) -> None:
        """Answers an open question, the oldest unless `index` says otherwise."""
        _, resume = self.port.questions.pop(index)
        resume(value)

    def told(self, name: str) -> list[dict[str, Any]]:
        return [facts for state, facts in self.port.states if state == name]


def opened(side: Side, kind: str = "session", *, window: int = 1 << 20, packet: int = 32768) -> Channel:
    """A channel that the side opened and the peer (number 70) confirmed."""
    body = m.SessionOpen() if kind == "session" else m.DirectTcpip("h", 1, "o", 2)
    channel = side.mux.open(kind, body)
    side.receive(m.ChannelOpenConfirmation(channel.id, 70 + channel.id, window, packet))
    side.take()
    side.events()
    return channel


def offered(side: Side, kind: str = "session", *, peer: int = 70, window: int = 1 << 20) -> Channel:
    """A channel that the peer opened and the side accepted."""
    body = m.SessionOpen() if kind == "session" else m.DirectTcpip("h", 1, "o", 2)
    side.receive(m.ChannelOpen(kind, peer, window, 32768, body))
    question, resume = side.port.questions.pop()
    assert isinstance(question, ChannelOffered)
    resume(True)
    side.take()
    side.events()
    channel = question.channel
    assert isinstance(channel, Channel)
    return channel


class Pair:
    """A client and a server joined in memory."""

    def __init__(self, client: Mapping[str, Any] = {}, server: Mapping[str, Any] = {}) -> None:
        self.client = Side("client", **client)
        self.server = Side("server", **server)

    def run(self) -> None:
        """Carries everything over, until both are silent."""
        while self.client.port.sent or self.server.port.sent:
            self._carry(self.client, self.server)
            self._carry(self.server, self.client)

    def _carry(self, source: Side, target: Side) -> None:
        payloads, source.port.sent, source.port.queued = source.port.sent, [], 0
        target.receive(*payloads)
        source.mux.resume_writing()

    def session(self) -> tuple[Channel, Channel]:
        """A session channel, both ends of it."""
        near = self.client.mux.open("session", m.SessionOpen())
        self.run()
        question, resume = self.server.port.questions.pop()
        assert isinstance(question, ChannelOffered)
        resume(True)
        self.run()
        self.client.events()
        self.server.events()
        return near, question.channel
