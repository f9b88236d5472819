"""What the layers above see of the transport: send, install, ask, and the session's facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..errors import SSHError
from ..events import Event, Negotiated, Question
from ..keys.public import AnyKey
from ..messages.declare import Message
from ..observe.hub import Hub
from ..policy import Policy
from .rules import Handler, Phase


class Port(Protocol):
    """The narrow side of `transport.transport.Transport` (and of the stand-ins in tests)."""

    policy: Policy
    hub: Hub | None
    """Where to tell states; None when nobody listens: guard each use with `if port.hub`."""
    now: float
    """Seconds; the time of the call that is being worked on."""
    round_trip: float
    """Seconds that the peer takes to answer, at most; infinite where that is not known."""
    auth_context: str
    """The authentication method that gives numbers 60-79 their meaning; written by the auth layer."""

    @property
    def session_id(self) -> bytes:
        """The first exchange hash (RFC 4253 §7.2)."""

    @property
    def negotiated(self) -> Negotiated:
        """The algorithms of the latest key exchange."""

    @property
    def host_key(self) -> AnyKey:
        """The server's host key."""

    @property
    def extensions(self) -> Mapping[str, bytes]:
        """What the peer's EXT_INFO said (RFC 8308)."""

    def send(self, message: Message) -> None:
        """Queues a message; during a key exchange it waits (RFC 4253 §7.1).

        Raises LimitExceeded where the peer made more wait than `Policy.max_output`.
        """

    def send_data(self, head: bytes, data: bytes | memoryview) -> None:
        """[hot] Queues the payload `head + data`, joined once. Call only with `room() > 0`."""

    def room(self) -> int:
        """How many bytes of channel data may be queued now; 0 during a key exchange."""

    def install(self, handlers: Mapping[int, Handler]) -> None:
        """These handlers, and no others, serve the upper layers' messages from here on."""

    def enter(self, phase: Phase) -> None:
        """Moves to SERVICE, AUTH or CONNECTION (the upper layers' phases)."""

    def emit(self, event: Event) -> None:
        """Tells the application."""

    def ask(self, question: Question, resume: Callable[[Any], None], *, hold: bool = False) -> None:
        """Asks the application; `resume(answer)` is called when it has answered.

        With `hold` no further message of the peer is dispatched until then.
        """

    def schedule(self, name: str, after: float, action: Callable[[], None]) -> None:
        """Calls `action` once, `after` seconds from now; replaces the timer of the same name."""

    def cancel(self, name: str) -> None:
        """Forgets the timer `name`, if it is set."""

    def fail(self, error: SSHError) -> None:
        """Ends the connection: at most one DISCONNECT, then Closed(error)."""
