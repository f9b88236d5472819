"""A stand-in for the transport: dispatches by the real table of rules, keeps what is sent and asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.errors import PeerError, ProtocolViolation, SSHError
from glasshell.events import Event, Negotiated, Question
from glasshell.messages import Message, UnknownMessage, decode
from glasshell.observe.hub import Hub
from glasshell.observe.record import STATES
from glasshell.policy import Policy, Role
from glasshell.transport.rules import Handler, Phase, allowed, slot

HOST_KEY = PrivateKey.generate("ssh-ed25519").public
SESSION_ID = bytes(range(32))


class _StrictHub(Hub):
    """Keeps states, and takes none whose facts are not those that `STATES` lists."""

    __slots__ = ("told",)

    def __init__(self, told: list[tuple[str, dict[str, Any]]]) -> None:
        super().__init__()
        self.told = told

    def state(self, name: str, /, **facts: Any) -> None:
        assert set(facts) == set(STATES[name][1].split()), name
        self.told.append((name, facts))


class FakePort:
    """`glasshell.transport.port.Port` for one side; `role` is ours. Nothing moves by itself.

    `receive` is what the peer sends, `answer` what the application says; `error` is what ended the
    connection. Only PeerErrors are caught: anything else that leaves a handler fails the test.
    """

    def __init__(self, role: Role, *, extensions: Mapping[str, bytes] | None = None, **policy: Any) -> None:
        self.policy = getattr(Policy, role)(**policy)
        self.states: list[tuple[str, dict[str, Any]]] = []
        self.hub: Hub | None = _StrictHub(self.states)
        self.now = 0.0
        self.round_trip = 0.001
        self.auth_context = ""
        self.session_id = SESSION_ID
        self.host_key: PublicKey = HOST_KEY
        self.extensions: Mapping[str, bytes] = extensions or {}
        self.phase = Phase.NEWKEYS
        self.error: SSHError | None = None
        self.sent: list[tuple[str, bytes]] = []
        self.events: list[Event] = []
        self.questions: deque[tuple[Question, Callable[[Any], None]]] = deque()
        self.held: deque[bytes] = deque()
        self.holding = 0
        self.dispatched = 0
        self._role: Role = role
        self._handlers: Mapping[int, Handler] = {}

    @property
    def negotiated(self) -> Negotiated:
        raise AssertionError("authentication does not look at algorithms")

    # --- the Port

    def send(self, message: Message) -> None:
        assert self.error is None, "sent after the end"
        assert allowed(self.phase, message.NUMBER, self._role, strict=True), f"{message.NAME} in {self.phase}"
        self.sent.append((self.auth_context, message.encode()))

    def send_data(self, head: bytes, data: bytes | memoryview) -> None:
        raise AssertionError("authentication sends no data")

    def room(self) -> int:
        raise AssertionError("authentication sends no data")

    def install(self, handlers: Mapping[int, Handler]) -> None:
        self._handlers = dict(handlers)

    def enter(self, phase: Phase) -> None:
        self.phase = phase

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def ask(self, question: Question, resume: Callable[[Any], None], *, hold: bool = False) -> None:
        self.holding += hold

        def resume_once(value: Any) -> None:
            self.holding -= hold
            resume(value)

        self.questions.append((question, resume_once))

    def schedule(self, name: str, after: float, action: Callable[[], None]) -> None:
        raise AssertionError("the login grace is not ours")

    def cancel(self, name: str) -> None:
        raise AssertionError("the login grace is not ours")

    def fail(self, error: SSHError) -> None:
        assert self.error is None, "failed twice"
        self.error = error
        self.phase = Phase.CLOSED

    # --- the peer and the application

    def receive(self, *messages: Message | bytes) -> None:
        """The peer sends; what is held back waits for the verdict."""
        self.held.extend(m if isinstance(m, bytes) else m.encode() for m in messages)
        self._drain()

    def _drain(self) -> None:
        while self.held and not self.holding and self.error is None:
            payload = self.held.popleft()
            self.dispatched += 1
            try:
                self._slot(payload[0])(memoryview(payload))
            except PeerError as error:
                self.fail(error)

    def _slot(self, number: int) -> Handler:
        peer: Role = "server" if self._role == "client" else "client"
        handler = slot(self.phase, number, peer, self._handlers.get, self._unknown, strict=True)
        if handler is None:
            raise ProtocolViolation(f"message {number} in {self.phase}")
        return handler

    def _unknown(self, payload: memoryview) -> None:
        """UNIMPLEMENTED would be sent here (RFC 4253 §11.4)."""

    def open_numbers(self) -> set[int]:
        """The numbers of the upper layers that would be taken now."""
        peer: Role = "server" if self._role == "client" else "client"
        find, unknown = self._handlers.get, self._unknown
        table = [slot(self.phase, number, peer, find, unknown, strict=True) for number in range(256)]
        return {number for number, handler in enumerate(table) if handler not in (None, self._unknown)}

    def question(self) -> Any:
        """The oldest question that is open."""
        assert self.error is None, self.error
        assert self.questions, "nothing is asked"
        return self.questions[0][0]

    def answer(self, value: Any) -> None:
        """Answers the oldest open question."""
        _, resume = self.questions.popleft()
        resume(value)
        self._drain()

    # --- what came out

    def messages(self) -> list[Message]:
        """Everything sent, decoded in the context that it was sent in."""
        return list(self._decoded())

    def _decoded(self) -> Iterator[Message]:
        for context, payload in self.sent:
            message = decode(payload, context)
            assert not isinstance(message, UnknownMessage)
            yield message

    def last(self) -> Any:
        """The message sent last."""
        return self.messages()[-1]

    def told(self, name: str) -> list[dict[str, Any]]:
        """The facts of every state called `name`."""
        return [facts for state, facts in self.states if state == name]

    def dropped(self) -> bool:
        """Whether the peer was thrown out for what it sent."""
        return isinstance(self.error, PeerError)
