"""gssapi-with-mic (RFC 4462 §3): a mechanism's tokens go to and fro, then the client seals what it asked for.

The mechanism itself, Kerberos, is the application's: it is asked for each token. Only contexts with integrity
end here, since without it nothing ties them to this session (§3.6 and its message have no handler).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from ..errors import ProtocolViolation, SSHError, UsageError
from ..events import (
    GssapiMethod,
    GssapiMicOffered,
    GssapiStarted,
    GssapiTokenNeeded,
    GssapiTokenOffered,
    GssapiTurn,
    Verdict,
)
from ..messages.auth import (
    GssapiRequest,
    Mechanism,
    UserauthGssapiError,
    UserauthGssapiErrtok,
    UserauthGssapiMic,
    UserauthGssapiResponse,
    UserauthGssapiToken,
    UserauthRequest,
)
from ..messages.declare import Message
from ..transport.port import Port
from ..transport.rules import Handler
from ..wire import Secret, string, visible
from .methods import CONNECTION

GSSAPI: Final = "gssapi-with-mic"
MAX_MECHANISMS: Final = 64
"""Most mechanisms of one request that are looked at."""

__all__ = ["GSSAPI", "GssapiClient", "GssapiServer", "sealed_data"]


def sealed_data(session_id: bytes, user: str) -> bytes:
    """What the MIC is made over (§3.5): the session identifier, and the request up to the method's name."""
    request = UserauthRequest(user, CONNECTION, GSSAPI, GssapiRequest(()))
    return string(session_id) + request.encode()[:-4]


class Expect(Protocol):
    """Installs what may be answered; with `query` SUCCESS may not."""

    def __call__(self, more: Mapping[int, Handler], *, query: bool) -> None: ...


class GssapiClient:
    """One attempt of a client. `skip(reason)` gives it up, `proved()` is called when the MIC is sent."""

    __slots__ = ("_expect", "_offered", "_oid", "_port", "_proved", "_skip", "_user")

    def __init__(
        self, port: Port, user: str, offer: GssapiMethod, *, expect: Expect, skip: Callable[[str], None],
        proved: Callable[[], None],
    ) -> None:  # fmt: skip
        self._port = port
        self._user = user
        self._offered = offer.mechanisms
        self._expect = expect
        self._skip = skip
        self._proved = proved
        self._oid = b""

    def start(self) -> None:
        """Offers the mechanisms."""
        self._expect({UserauthGssapiResponse.NUMBER: self._on_response}, query=True)
        self._port.auth_context = GSSAPI
        body = GssapiRequest(tuple(map(Mechanism, self._offered)))
        self._port.send(UserauthRequest(self._user, CONNECTION, GSSAPI, body))

    def _on_response(self, payload: memoryview) -> None:
        self._oid = UserauthGssapiResponse.decode(payload).oid
        if self._oid not in self._offered:
            raise ProtocolViolation("a GSS-API mechanism that was not offered", clause="RFC 4462 3.3")
        self._ask(b"")

    def _ask(self, token: bytes) -> None:
        self._expect({}, query=True)
        data = sealed_data(self._port.session_id, self._user)
        self._port.ask(GssapiTokenNeeded(self._oid, Secret(token), data), self._go_on)

    def _go_on(self, turn: Any) -> None:
        if isinstance(turn, SSHError):
            return self._skip(str(turn))
        if not isinstance(turn, GssapiTurn) or (turn.done and turn.mic is None):
            raise UsageError("GssapiTokenNeeded is answered with a GssapiTurn, at last with a MIC")
        errors = {
            UserauthGssapiError.NUMBER: self._on_error, UserauthGssapiErrtok.NUMBER: self._on_errtok,
        }  # fmt: skip
        if turn.token:
            self._port.send(UserauthGssapiToken(turn.token))
        if turn.mic is not None:
            self._proved()
            self._expect(errors, query=False)
            self._port.send(UserauthGssapiMic(turn.mic))
        else:
            self._expect({UserauthGssapiToken.NUMBER: self._on_token, **errors}, query=True)

    def _on_token(self, payload: memoryview) -> None:
        self._ask(UserauthGssapiToken.decode(payload).token.reveal())

    # What the server's library has to say; FAILURE follows (§3.8, §3.9).

    def _on_error(self, payload: memoryview) -> None:
        self._note(UserauthGssapiError.decode(payload).message)
        self._expect({}, query=True)

    def _on_errtok(self, payload: memoryview) -> None:
        token = UserauthGssapiErrtok.decode(payload).token
        self._expect({}, query=True)
        data = sealed_data(self._port.session_id, self._user)
        self._port.ask(GssapiTokenNeeded(self._oid, token, data), self._explain)

    def _explain(self, turn: Any) -> None:
        """The server has refused already; of the answer only what it says of the reason is of use."""
        if isinstance(turn, SSHError):
            self._note(str(turn))

    def _note(self, text: str) -> None:
        if hub := self._port.hub:
            hub.state("note", level="info", text=f"GSS-API, from the server: {visible(text)}")


class GssapiServer:
    """One attempt of a client as the server sees it. `settle(answer)` ends it with a Verdict.

    `count()` is called for each message, `listen(handlers)` installs what may come next, and with nothing
    where the server is to speak; `reply(message)` sends.
    """

    __slots__ = ("_count", "_listen", "_port", "_reply", "_settle", "_user")

    def __init__(
        self, port: Port, user: str, *, count: Callable[[], None],
        listen: Callable[[Mapping[int, Handler]], None], reply: Callable[[Message], None],
        settle: Callable[[Any], None],
    ) -> None:  # fmt: skip
        self._port = port
        self._user = user
        self._count = count
        self._listen = listen
        self._reply = reply
        self._settle = settle

    def start(self, body: GssapiRequest) -> None:
        """Takes the request; the application chooses among the mechanisms."""
        offered = tuple(each.oid for each in body.mechanisms[:MAX_MECHANISMS])
        question = GssapiStarted(self._user, offered)
        self._port.ask(question, lambda answer: self._begin(offered, answer), hold=True)

    def _begin(self, offered: tuple[bytes, ...], answer: Any) -> None:
        if not isinstance(answer, bytes):
            return self._settle(answer)
        if answer not in offered:
            raise UsageError("GssapiStarted is answered with one of its mechanisms, or a Verdict")
        self._listen(self._tokens())
        self._reply(UserauthGssapiResponse(answer))

    def _tokens(self) -> dict[int, Handler]:
        return {
            UserauthGssapiToken.NUMBER: self._on_token, UserauthGssapiErrtok.NUMBER: self._on_errtok,
        }  # fmt: skip

    def _on_token(self, payload: memoryview) -> None:
        token = UserauthGssapiToken.decode(payload).token
        self._count()
        self._listen({})
        self._port.ask(GssapiTokenOffered(self._user, token), self._answer, hold=True)

    def _answer(self, turn: Any) -> None:
        if not isinstance(turn, GssapiTurn):
            return self._settle(turn)
        if turn.failed:
            if turn.token:
                self._reply(UserauthGssapiErrtok(turn.token))
            return self._settle(Verdict(False))
        self._listen({UserauthGssapiMic.NUMBER: self._on_mic} if turn.done else self._tokens())
        if turn.token:
            self._reply(UserauthGssapiToken(turn.token))

    def _on_errtok(self, payload: memoryview) -> None:
        """The client's mechanism has failed; it goes on with something else (§3.9)."""
        UserauthGssapiErrtok.decode(payload)
        self._count()
        self._listen({})

    def _on_mic(self, payload: memoryview) -> None:
        mic = UserauthGssapiMic.decode(payload).mic
        self._count()
        self._listen({})
        data = sealed_data(self._port.session_id, self._user)
        self._port.ask(GssapiMicOffered(self._user, mic, data), self._settle, hold=True)
