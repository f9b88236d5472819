"""gssapi-with-mic on both sides (RFC 4462 §3), with a mechanism that is made of words."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from glasshell.errors import AuthenticationFailed, ProtocolViolation
from glasshell.events import (
    Authenticated,
    CredentialNeeded,
    GssapiMethod,
    GssapiMicOffered,
    GssapiStarted,
    GssapiTokenNeeded,
    GssapiTokenOffered,
    GssapiTurn,
    Verdict,
)
from glasshell.messages.auth import (
    GssapiRequest,
    Mechanism,
    NoneRequest,
    UserauthFailure,
    UserauthGssapiError,
    UserauthGssapiErrtok,
    UserauthGssapiExchangeComplete,
    UserauthGssapiMic,
    UserauthGssapiResponse,
    UserauthGssapiToken,
    UserauthRequest,
    UserauthSuccess,
)
from glasshell.messages.declare import Message
from glasshell.wire import Secret

from .fake_port import SESSION_ID, FakePort
from .kit import NO, client, server

KERBEROS = bytes.fromhex("06092a864886f712010202")
OTHER = bytes.fromhex("06062b0601050502")
METHODS = ("publickey", "gssapi-with-mic")
FAILURE = UserauthFailure(METHODS, False)


def sealed(user: str = "alice") -> bytes:
    """RFC 4462 §3.5, by hand."""

    def string(value: bytes) -> bytes:
        return struct.pack(">I", len(value)) + value

    names = (user.encode(), b"ssh-connection", b"gssapi-with-mic")
    return string(SESSION_ID) + b"\x32" + b"".join(map(string, names))


def request(*mechanisms: bytes, user: str = "alice") -> UserauthRequest:
    body = GssapiRequest(tuple(map(Mechanism, mechanisms)))
    return UserauthRequest(user, "ssh-connection", "gssapi-with-mic", body)


def token(text: bytes) -> UserauthGssapiToken:
    return UserauthGssapiToken(Secret(text))


def begun(**options: Any) -> FakePort:
    """A server that has chosen Kerberos."""
    port = server(methods=METHODS, **options)
    port.receive(request(OTHER, KERBEROS))
    question = port.question()
    assert isinstance(question, GssapiStarted)
    assert (question.user, question.mechanisms) == ("alice", (OTHER, KERBEROS))
    port.answer(KERBEROS)
    assert port.messages() == [UserauthGssapiResponse(KERBEROS)]
    port.sent.clear()
    return port


def established() -> FakePort:
    """A server whose context is complete, after two tokens each way."""
    port = begun()
    for said, answer in ((b"a", GssapiTurn(Secret(b"b"))), (b"c", GssapiTurn(Secret(b"d"), done=True))):
        port.receive(token(said))
        question = port.question()
        assert isinstance(question, GssapiTokenOffered)
        assert question.token_in == Secret(said)
        port.answer(answer)
    assert port.messages() == [token(b"b"), token(b"d")]
    port.sent.clear()
    return port


def test_a_server_lets_in_who_seals_this_session() -> None:
    port = established()
    port.receive(UserauthGssapiMic(Secret(b"mic")))
    question = port.question()
    assert isinstance(question, GssapiMicOffered)
    assert (question.mic, question.data) == (Secret(b"mic"), sealed())
    port.answer(Verdict(True, grant="g"))
    assert port.messages() == [UserauthSuccess()]
    assert port.events == [Authenticated("alice", "gssapi-with-mic", (), ("g",))]


def test_a_server_refuses_a_wrong_seal() -> None:
    port = established()
    port.receive(UserauthGssapiMic(Secret(b"mic")))
    port.answer(NO)
    assert port.messages() == [FAILURE]


@pytest.mark.parametrize("turn", [GssapiTurn(failed=True), GssapiTurn(Secret(b"why"), failed=True), NO])
def test_a_token_that_is_not_taken_is_a_failure(turn: Any) -> None:
    """Only the mechanism's own token says why; no text of the server's library does."""
    port = begun()
    port.receive(token(b"a"))
    port.answer(turn)
    why = [UserauthGssapiErrtok(turn.token)] if getattr(turn, "token", None) else []
    assert port.messages() == [*why, FAILURE]
    port.receive(token(b"a"))
    assert isinstance(port.error, ProtocolViolation)


def test_a_server_takes_no_mechanism_it_does_not_know() -> None:
    port = server(methods=METHODS)
    port.receive(request(OTHER))
    port.answer(NO)
    assert port.messages() == [FAILURE]


def not_yet() -> list[Message]:
    return [
        token(b"x"), UserauthGssapiMic(Secret(b"m")), UserauthGssapiErrtok(Secret(b"e")),
        UserauthGssapiExchangeComplete(), UserauthGssapiResponse(KERBEROS),
    ]  # fmt: skip


@pytest.mark.parametrize("message", not_yet(), ids=lambda m: m.NAME[18:])
def test_c1_cve_2018_10933_nothing_of_it_outside_an_exchange(message: Message) -> None:
    port = server(methods=METHODS)
    port.receive(message)
    assert isinstance(port.error, ProtocolViolation)


@pytest.mark.parametrize("message", [not_yet()[at] for at in (1, 3, 4)], ids=lambda m: m.NAME[18:])
def test_c1_no_end_before_the_context_is_complete(message: Message) -> None:
    port = begun()
    port.receive(message)
    assert isinstance(port.error, ProtocolViolation)


@pytest.mark.parametrize("message", [not_yet()[at] for at in (0, 3, 4)], ids=lambda m: m.NAME[18:])
def test_c1_a_complete_context_needs_its_seal(message: Message) -> None:
    """EXCHANGE_COMPLETE would let in without anything that ties the context to this session."""
    port = established()
    port.receive(message)
    assert isinstance(port.error, ProtocolViolation)


@pytest.mark.parametrize("user", ["alice", "root"])
def test_c6_another_request_abandons_the_exchange(user: str) -> None:
    port = established()
    port.receive(UserauthRequest(user, "ssh-connection", "none", NoneRequest()))
    port.answer(NO)
    port.receive(UserauthGssapiMic(Secret(b"mic")))
    assert isinstance(port.error, ProtocolViolation)


def test_c8_cve_2015_5600_tokens_and_requests_are_counted() -> None:
    port = begun(max_auth_requests=40)
    for _ in range(39):
        assert port.error is None
        port.receive(token(b"a"))
        port.answer(GssapiTurn(Secret(b"b")))
    port.receive(token(b"a"))
    assert "Too many authentication requests" in str(port.error)
    port = server(methods=METHODS)
    for _ in range(6):
        port.receive(request(OTHER))
        port.answer(NO)
    assert "Too many authentication failures" in str(port.error)


def test_a_client_that_fails_may_go_on() -> None:
    port = begun()
    port.receive(UserauthGssapiErrtok(Secret(b"e")))
    assert (port.messages(), port.error) == ([], None)
    port.receive(request(KERBEROS))
    assert isinstance(port.question(), GssapiStarted)


# --- the client


def trying() -> FakePort:
    port = client()
    assert isinstance(port.question(), CredentialNeeded)
    port.answer(GssapiMethod((KERBEROS,), "alice@EXAMPLE"))
    assert port.messages() == [request(KERBEROS)]
    return port


def asked(port: FakePort, token_in: bytes) -> GssapiTokenNeeded:
    question = port.question()
    assert isinstance(question, GssapiTokenNeeded)
    assert (question.mechanism, question.token_in) == (KERBEROS, Secret(token_in))
    assert question.data == sealed()
    return question


def test_a_client_seals_this_session_at_the_end() -> None:
    port = trying()
    port.receive(UserauthGssapiResponse(KERBEROS))
    asked(port, b"")
    port.answer(GssapiTurn(Secret(b"a")))
    port.receive(token(b"b"))
    asked(port, b"b")
    port.answer(GssapiTurn(done=True, mic=Secret(b"mic")))
    assert port.messages()[1:] == [token(b"a"), UserauthGssapiMic(Secret(b"mic"))]
    port.receive(UserauthSuccess())
    (event,) = port.events
    assert isinstance(event, Authenticated)
    assert (event.attempts[-1].identity, event.attempts[-1].answer) == ("alice@EXAMPLE", "accepted")


def test_a_client_whose_mechanism_fails_goes_on() -> None:
    port = trying()
    port.receive(UserauthGssapiResponse(KERBEROS))
    port.answer(AuthenticationFailed("no ticket"))
    question = port.question()
    assert isinstance(question, CredentialNeeded)
    assert question.attempts[-1].answer == "skipped: no ticket"


def test_d4_cve_2021_36367_no_success_before_the_seal() -> None:
    for step in range(3):
        port = trying()
        if step > 0:
            port.receive(UserauthGssapiResponse(KERBEROS))
        if step > 1:
            port.answer(GssapiTurn(Secret(b"a")))
        port.receive(UserauthSuccess())
        assert isinstance(port.error, ProtocolViolation), step


def test_a_mechanism_that_was_not_offered_is_a_violation() -> None:
    port = trying()
    port.receive(UserauthGssapiResponse(OTHER))
    assert isinstance(port.error, ProtocolViolation)


def test_what_the_server_says_of_a_failure_is_noted() -> None:
    port = trying()
    port.receive(UserauthGssapiResponse(KERBEROS))
    port.answer(GssapiTurn(Secret(b"a")))
    port.receive(UserauthGssapiError(851968, 1, "no key for\x1b[2J you", ""))
    port.receive(FAILURE)
    notes = [facts["text"] for name, facts in port.states if name == "note"]
    assert notes == ["GSS-API, from the server: no key for\\033[2J you"]
    question = port.question()
    assert isinstance(question, CredentialNeeded)
    assert question.attempts[-1].answer == "refused"


def test_an_error_token_is_explained_by_the_mechanism() -> None:
    port = trying()
    port.receive(UserauthGssapiResponse(KERBEROS))
    port.answer(GssapiTurn(Secret(b"a")))
    port.receive(UserauthGssapiErrtok(Secret(b"e")))
    port.receive(FAILURE)
    asked(port, b"e")
    port.answer(AuthenticationFailed("wrong principal"))
    notes = [facts["text"] for name, facts in port.states if name == "note"]
    assert notes == ["GSS-API, from the server: wrong principal"]
    assert isinstance(port.question(), CredentialNeeded)
