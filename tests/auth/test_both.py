"""The two halves against each other, and against noise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasshell.auth.client import ClientAuth
from glasshell.auth.server import LATE_REQUESTS, ServerAuth
from glasshell.errors import AuthenticationFailed, KeyFormatError
from glasshell.events import (
    Authenticated,
    BannerShown,
    CredentialNeeded,
    InteractiveAnswered,
    InteractiveMethod,
    InteractiveStarted,
    KeyMethod,
    KeyOffered,
    NoneMethod,
    NoneOffered,
    PasswordChangeNeeded,
    PasswordMethod,
    PasswordOffered,
    Prompts,
    PromptsShown,
    PromptText,
    Question,
    SignatureNeeded,
    Verdict,
)
from glasshell.messages.auth import (
    KeyboardInteractiveRequest,
    NoneRequest,
    Response,
    UserauthFailure,
    UserauthInfoRequest,
    UserauthInfoResponse,
    UserauthPasswdChangereq,
    UserauthPkOk,
    UserauthSuccess,
)
from glasshell.transport.rules import Phase
from glasshell.wire import Secret

from .fake_port import FakePort
from .kit import NO, YES, answer_as, client, key, password, query, request, server, signed, signer


class Pair:
    """A client and a server; `run` carries messages and answers until nothing is left to do."""

    def __init__(self, credentials: list[Any], rules: dict[type, Any], **options: Any) -> None:
        self.client = FakePort("client", extensions=options.pop("extensions", None))
        self.server = FakePort("server")
        turns = iter(credentials)
        wallet = {key(name).public: key(name) for name in "ab"}
        self._ask = {
            "client": answer_as({
                CredentialNeeded: lambda q: next(turns, None),
                SignatureNeeded: lambda q: signer(wallet[q.key])(q),
                PromptsShown: lambda q: tuple(Secret(p.text.strip(": ")) for p in q.prompts),
            }),
            "server": answer_as(rules),
        }  # fmt: skip
        ServerAuth(self.server, lambda *_: self.server.install(LATE_REQUESTS), **options).start()
        ClientAuth(self.client, "alice", lambda: None).start()

    def run(self) -> Pair:
        taken = {"client": 0, "server": 0}
        moved = True
        while moved:
            moved = False
            for name, port, other in (
                ("client", self.client, self.server),
                ("server", self.server, self.client),
            ):
                for _, payload in port.sent[taken[name] :]:
                    taken[name] += 1
                    moved = True
                    other.receive(payload)
                while port.questions and port.error is None:
                    moved = True
                    port.answer(self._ask[name](port.question()))
        return self

    def result(self) -> tuple[Authenticated, Authenticated]:
        assert (self.client.error, self.server.error) == (None, None)
        assert self.client.phase is self.server.phase is Phase.CONNECTION
        ours, theirs = self.client.events[-1], self.server.events[-1]
        assert isinstance(ours, Authenticated)
        assert isinstance(theirs, Authenticated)
        return ours, theirs


HOSTBOUND = {"publickey-hostbound@openssh.com": b"0"}


@pytest.mark.parametrize("extensions", [{}, HOSTBOUND])
@pytest.mark.parametrize("probe", [False, True])
def test_publickey(probe: bool, extensions: dict[str, bytes]) -> None:
    a, b = key("a").public, key("b").public
    pair = Pair(
        [NoneMethod(), KeyMethod(a, probe=probe), KeyMethod(b, probe=probe)],
        {NoneOffered: NO, KeyOffered: lambda q: Verdict(q.key == b, grant=q.key)},
        extensions=extensions,
        banner="welcome\n",
    ).run()
    ours, theirs = pair.result()
    refusal = "not acceptable" if probe else "refused"
    assert [each.answer for each in ours.attempts] == ["refused", refusal, "accepted"]
    assert theirs == Authenticated("alice", "publickey", (), (b,))
    assert pair.client.events[0] == BannerShown("welcome\n")


def test_three_steps() -> None:
    ask = Prompts((PromptText("first: ", False), PromptText("second: ", True)))
    pair = Pair(
        [KeyMethod(key("a").public), PasswordMethod(Secret("hunter2")), InteractiveMethod()],
        {
            KeyOffered: Verdict(True, partial=True, grant=1),
            PasswordOffered: lambda q: Verdict(q.password == Secret("hunter2"), partial=True, grant=2),
            InteractiveStarted: ask,
            InteractiveAnswered: lambda q: Verdict(q.answers == (Secret("first"), Secret("second")), grant=3),
        },
    ).run()
    ours, theirs = pair.result()
    assert [each.answer for each in ours.attempts] == ["partial", "partial", "accepted"]
    assert theirs.grants == (1, 2, 3)


def test_nobody_gets_in() -> None:
    pair = Pair(
        [NoneMethod(), KeyMethod(key("a").public), PasswordMethod(Secret("wrong"))],
        {NoneOffered: NO, KeyOffered: NO, PasswordOffered: NO},
    ).run()
    assert isinstance(pair.client.error, AuthenticationFailed)
    assert [a.answer for a in pair.client.error.attempts] == ["refused", "not acceptable", "refused"]
    assert pair.server.error is None
    assert pair.server.phase is Phase.AUTH


def test_seven_wrong_passwords() -> None:
    pair = Pair([PasswordMethod(Secret("wrong"))] * 7, {PasswordOffered: NO}).run()
    assert str(pair.server.error) == "Too many authentication failures"
    assert len(pair.client.question().attempts if pair.client.questions else ()) == 0  # the sixth is open


# --- noise: whatever comes, only a PeerError ends it (FakePort lets nothing else pass)

ANSWERS: dict[type[Question], list[Any]] = {
    NoneOffered: [NO],
    KeyOffered: [YES, NO, Verdict(True, partial=True)],
    PasswordOffered: [NO, Verdict(True, partial=True, methods=("password",))],
    InteractiveStarted: [NO, Prompts(()), Prompts((PromptText("?", False),))],
    InteractiveAnswered: [NO, Prompts(())],
    CredentialNeeded: [
        NoneMethod(), KeyMethod(key("a").public), KeyMethod(key("r", "ssh-rsa").public, probe=False),
        PasswordMethod(Secret("hunter2")), InteractiveMethod(), None,
    ],
    SignatureNeeded: [b"", b"sig", KeyFormatError("no key")],
    PasswordChangeNeeded: [None, (Secret("a"), Secret("b"))],
}  # fmt: skip

FROM_CLIENT = [
    m.encode()
    for m in (
        request(NoneRequest()), password(), password(user="bob"), query(key("a").public), signed(key("b")),
        request(KeyboardInteractiveRequest()), UserauthInfoResponse(()),
        UserauthInfoResponse((Response(Secret("x")),)),
    )
]  # fmt: skip
FROM_SERVER = [
    m.encode()
    for m in (
        UserauthFailure(("password",), False), UserauthFailure((), True), UserauthSuccess(),
        UserauthPkOk("ssh-ed25519", key("a").public.blob), UserauthPasswdChangereq("?"),
        UserauthInfoRequest("", "", "", ()),
    )
]  # fmt: skip


@st.composite
def noise(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """A good message, one that is cut or flipped, or a number with random bytes."""
    kind = draw(st.integers(0, 9))
    if kind == 9:
        return bytes([draw(st.integers(1, 255))]) + draw(st.binary(max_size=40))
    payload = draw(st.sampled_from(good))
    if kind < 7:
        return payload
    at = draw(st.integers(1, len(payload)))
    if kind == 7:
        return payload[:at]
    return payload[: at - 1] + bytes([payload[at - 1] ^ draw(st.integers(1, 255))]) + payload[at:]


def answer_somehow(port: FakePort, data: st.DataObject) -> None:
    while port.questions and port.error is None and data.draw(st.integers(0, 4)):
        question = port.question()
        if isinstance(question, PromptsShown):
            port.answer(data.draw(st.sampled_from([None, tuple(Secret("x") for _ in question.prompts)])))
        else:
            port.answer(data.draw(st.sampled_from(ANSWERS[type(question)])))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_server_takes_any_noise(data: st.DataObject) -> None:
    port = server()
    for payload in data.draw(st.lists(noise(FROM_CLIENT), max_size=12)):
        if port.error is None:
            port.receive(payload or b"\0")
            answer_somehow(port, data)
    grants = [e for e in port.events if isinstance(e, Authenticated)]
    assert len(grants) <= 1
    # The only verdict above that lets somebody in is for a key: it takes the one good signature.
    assert all(g.method == "publickey" for g in grants)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_client_takes_any_noise(data: st.DataObject) -> None:
    port = client()
    for payload in data.draw(st.lists(noise(FROM_SERVER), max_size=12)):
        if port.error is None:
            port.receive(payload or b"\0")
            answer_somehow(port, data)
    assert port.error is None or port.dropped() or isinstance(port.error, AuthenticationFailed)
