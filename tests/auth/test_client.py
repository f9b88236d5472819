"""The client's half of RFC 4252 and 4256: led by the application, never by the server."""

from __future__ import annotations

from typing import Any

import pytest

from glasshell.auth.client import MAX_BANNERS, ClientAuth
from glasshell.auth.methods import MAX_PROMPTS
from glasshell.errors import (
    AuthenticationFailed,
    LimitExceeded,
    PassphraseError,
    ProtocolViolation,
    UsageError,
)
from glasshell.events import (
    Attempt,
    Authenticated,
    BannerShown,
    CredentialNeeded,
    InteractiveMethod,
    KeyMethod,
    NoneMethod,
    PasswordChangeNeeded,
    PasswordMethod,
    PromptsShown,
    PromptText,
    SignatureNeeded,
)
from glasshell.messages.auth import (
    HOSTBOUND,
    HostboundRequest,
    KeyboardInteractiveRequest,
    NoneRequest,
    PasswordRequest,
    Prompt,
    PublickeyRequest,
    Response,
    UserauthBanner,
    UserauthFailure,
    UserauthInfoRequest,
    UserauthInfoResponse,
    UserauthPasswdChangereq,
    UserauthPkOk,
    UserauthRequest,
    UserauthSuccess,
)
from glasshell.messages.transport import ServiceAccept, ServiceRequest
from glasshell.transport.rules import UNKNOWN, Phase
from glasshell.wire import Secret, string

from .fake_port import HOST_KEY, FakePort
from .kit import client, key, request, to_sign

METHODS = ("publickey", "password", "keyboard-interactive")
FAILURE = UserauthFailure(METHODS, False)
SUCCESS = UserauthSuccess()
HUNTER2 = PasswordMethod(Secret("hunter2"), "prompt")


def info_request(*prompts: str) -> UserauthInfoRequest:
    return UserauthInfoRequest("name", "do", "", tuple(Prompt(p, False) for p in prompts))


def pk_ok(name: str = "a") -> UserauthPkOk:
    return UserauthPkOk("ssh-ed25519", key(name).public.blob)


# --- what a login is


def test_starts_with_the_service_then_asks() -> None:
    port = FakePort("client")
    ClientAuth(port, "alice", lambda: None).start()
    assert port.messages() == [ServiceRequest("ssh-userauth")]
    assert port.phase is Phase.SERVICE
    port.receive(ServiceAccept("ssh-userauth"))
    question = port.question()
    assert (question.methods, question.partial, question.attempts) == (None, False, ())


def test_none_then_password() -> None:
    port = client()
    port.answer(NoneMethod())
    assert port.last() == request(NoneRequest())
    port.receive(FAILURE)
    question = port.question()
    assert (question.methods, question.partial) == (METHODS, False)
    assert question.attempts == (Attempt("none", answer="refused", methods=METHODS),)
    port.answer(HUNTER2)
    assert port.last() == request(PasswordRequest(False, Secret("hunter2")))
    port.receive(SUCCESS)
    assert port.phase is Phase.CONNECTION
    (event,) = port.events
    assert isinstance(event, Authenticated)
    assert (event.user, event.method) == ("alice", "password")
    assert event.attempts[1] == Attempt("password", source="prompt", answer="accepted", methods=METHODS)


@pytest.mark.parametrize("hostbound", [False, True])
def test_publickey_probe_then_signature(hostbound: bool) -> None:
    private = key("a")
    port = client(extensions={"publickey-hostbound@openssh.com": b"0"} if hostbound else {})
    port.answer(KeyMethod(private.public, "~/.ssh/id", "explicit"))
    assert port.last() == request(PublickeyRequest(False, "ssh-ed25519", private.public.blob))
    port.receive(pk_ok())
    question = port.question()
    assert isinstance(question, SignatureNeeded)
    method = HOSTBOUND if hostbound else "publickey"
    data = to_sign(private.public, method=method) + (string(HOST_KEY.blob) if hostbound else b"")
    assert question.data == data
    port.answer(b"signature")
    sent = port.last()
    assert isinstance(sent, UserauthRequest)
    assert sent.method_name == method
    if hostbound:
        assert sent.body == HostboundRequest(
            True, "ssh-ed25519", private.public.blob, HOST_KEY.blob, b"signature"
        )
    else:
        assert sent.body == PublickeyRequest(True, "ssh-ed25519", private.public.blob, b"signature")
    port.receive(SUCCESS)
    (event,) = port.events
    identity = f"ED25519 {private.public.fingerprint()}"
    assert isinstance(event, Authenticated)
    assert event.attempts == (Attempt("publickey", identity, "~/.ssh/id", "ssh-ed25519", "accepted"),)


def test_key_without_probe_signs_at_once() -> None:
    port = client()
    port.answer(KeyMethod(key("a").public, probe=False))
    assert port.sent == []
    assert isinstance(port.question(), SignatureNeeded)


def test_keys_that_are_refused_one_way_or_the_other() -> None:
    port = client()
    port.answer(KeyMethod(key("a").public))
    port.receive(FAILURE)
    port.answer(KeyMethod(key("b").public))
    port.receive(pk_ok("b"))
    port.answer(b"sig")
    port.receive(FAILURE)
    port.answer(KeyMethod(key("b").public))
    port.receive(pk_ok("b"))
    port.answer(PassphraseError("wrong passphrase", reason="wrong"))
    answers = [a.answer for a in port.question().attempts]
    assert answers == ["not acceptable", "refused", "skipped: wrong passphrase"]


@pytest.mark.parametrize(
    ("server_sig_algs", "limit", "policy", "chosen"),
    [
        (None, (), None, "rsa-sha2-512"),
        (b"rsa-sha2-256,ssh-ed25519", (), None, "rsa-sha2-256"),
        (b"ssh-rsa,ssh-ed25519", (), None, None),
        (b"", (), None, None),
        (b"rsa-sha2-512,rsa-sha2-256", ("rsa-sha2-256",), None, "rsa-sha2-256"),
        (None, ("rsa-sha2-256", "rsa-sha2-512"), None, "rsa-sha2-256"),
        (None, ("ssh-rsa",), None, None),
        (None, (), ("ssh-ed25519",), None),
        (b"\xff,rsa-sha2-512,", (), None, "rsa-sha2-512"),
        # The legacy profile is what names ssh-rsa in a policy.
        (None, (), ("rsa-sha2-512", "ssh-rsa"), "ssh-rsa"),
        (b"rsa-sha2-512,ssh-rsa", (), ("rsa-sha2-512", "ssh-rsa"), "rsa-sha2-512"),
        (b"ssh-rsa", (), ("rsa-sha2-512", "ssh-rsa"), "ssh-rsa"),
    ],
)
def test_signature_algorithm(
    server_sig_algs: bytes | None, limit: tuple[str, ...], policy: tuple[str, ...] | None, chosen: str | None
) -> None:
    """RFC 8332 §3.3, RFC 8308 §3.1: no SHA-1 unless asked for, never what the server does not list."""
    extensions = {} if server_sig_algs is None else {"server-sig-algs": server_sig_algs}
    changes: dict[str, Any] = {"pubkey_algorithms": policy} if policy else {}
    port = client(extensions=extensions, **changes)
    public = key("r", "ssh-rsa").public
    port.answer(KeyMethod(public, algorithms=limit))
    if chosen:
        assert port.last() == request(PublickeyRequest(False, chosen, public.blob))
    else:
        assert port.sent == []
        assert port.question().attempts[0].answer == "skipped: no mutual signature algorithm"
        what = f"RSA {public.fingerprint()}"
        assert port.told("auth_skipped") == [{"what": what, "reason": "no mutual signature algorithm"}]


def test_partial_success_goes_on() -> None:
    port = client()
    port.answer(KeyMethod(key("a").public, probe=False))
    port.answer(b"sig")
    port.receive(UserauthFailure(("password",), True))
    question = port.question()
    assert (question.methods, question.partial) == (("password",), True)
    assert question.attempts[0].answer == "partial"
    port.answer(KeyMethod(key("b").public))  # the next step starts over, be it by the same method
    assert [facts["method"] for facts in port.told("auth_next")] == ["publickey", "publickey"]


def test_password_change() -> None:
    """RFC 4252 §8."""
    port = client()
    port.answer(HUNTER2)
    port.receive(UserauthPasswdChangereq("expired\x1b"))
    question = port.question()
    assert isinstance(question, PasswordChangeNeeded)
    assert question.prompt == "expired"
    port.answer((Secret("hunter2"), Secret("hunter3")))
    assert port.last() == request(PasswordRequest(True, Secret("hunter2"), Secret("hunter3")))
    port.receive(UserauthPasswdChangereq("too short"))
    port.answer(None)
    assert port.question().attempts[0].answer.startswith("skipped: ")
    assert len(port.sent) == 2


def test_interactive_in_rounds() -> None:
    port = client()
    port.answer(InteractiveMethod("pam"))
    assert port.last() == request(KeyboardInteractiveRequest("", "pam"))
    port.receive(info_request("Password: ", "Code: "))
    question = port.question()
    assert isinstance(question, PromptsShown)
    assert (question.name, question.instruction) == ("name", "do")
    assert question.prompts == (PromptText("Password: ", False), PromptText("Code: ", False))
    port.answer((Secret("p"), Secret("c")))
    assert port.last() == UserauthInfoResponse((Response(Secret("p")), Response(Secret("c"))))
    port.receive(info_request())
    port.answer(())
    assert port.last() == UserauthInfoResponse(())
    port.receive(SUCCESS)
    assert port.phase is Phase.CONNECTION


def test_prompts_not_answered_abandon_the_method() -> None:
    port = client()
    port.answer(InteractiveMethod())
    port.receive(info_request("Password: "))
    port.answer(None)
    assert port.question().attempts[0].answer == "skipped: the prompts were not answered"
    port.answer(HUNTER2)
    assert isinstance(port.last(), UserauthRequest)


def test_too_many_prompts() -> None:
    port = client()
    port.answer(InteractiveMethod())
    port.receive(info_request(*["?"] * (MAX_PROMPTS + 1)))
    assert isinstance(port.error, LimitExceeded)


def test_giving_up_says_what_was_tried() -> None:
    port = client()
    port.answer(NoneMethod())
    port.receive(UserauthFailure(("publickey", "password"), False))
    port.answer(None)
    error = port.error
    assert isinstance(error, AuthenticationFailed)
    assert str(error) == "Permission denied (publickey,password)."
    assert error.methods == ("publickey", "password")
    assert [a.method for a in error.attempts] == ["none"]
    assert "ssh-add" in error.hint
    assert port.told("auth_exhausted") == [{}]


@pytest.mark.parametrize(
    ("credential", "hint"),
    [
        (KeyMethod(key("a").public), "authorized_keys"),
        (HUNTER2, "password"),
        (InteractiveMethod(), "password"),
    ],
)
def test_hint(credential: Any, hint: str) -> None:
    port = client()
    port.answer(credential)
    port.receive(FAILURE)
    port.answer(None)
    assert isinstance(port.error, AuthenticationFailed)
    assert hint in port.error.hint


def test_states_for_the_log() -> None:
    """In the order in which OpenSSH's client tells them."""
    port = client()
    port.answer(NoneMethod())
    port.receive(FAILURE)
    port.answer(KeyMethod(key("a").public, "~/.ssh/a", "agent"))
    port.receive(FAILURE)
    port.answer(KeyMethod(key("b").public, "~/.ssh/b"))
    port.receive(pk_ok("b"))
    port.answer(b"sig")
    port.receive(FAILURE)
    port.answer(HUNTER2)
    port.receive(SUCCESS)
    assert [name for name, _ in port.states] == [
        "auth_methods", "auth_next", "auth_offer", "auth_methods", "auth_offer", "auth_key_accepted",
        "auth_signing", "auth_methods", "auth_next", "authenticated",
    ]  # fmt: skip
    first, second = port.told("auth_next")
    assert first == {"method": "publickey", "remaining": ("password", "keyboard-interactive")}
    assert second == {"method": "password", "remaining": ("keyboard-interactive",)}
    print_of_a = key("a").public.fingerprint()
    assert port.told("auth_offer")[0] == {
        "key_type": "ED25519", "fingerprint": print_of_a, "source": "~/.ssh/a", "origin": "agent",
    }  # fmt: skip


def test_nothing_is_told_where_nobody_listens() -> None:
    port = client()
    port.hub = None
    port.answer(NoneMethod())
    port.receive(FAILURE)
    port.answer(KeyMethod(key("a").public))
    port.receive(pk_ok())
    port.answer(PassphraseError("wrong passphrase", reason="wrong"))
    port.answer(NoneMethod())
    port.receive(SUCCESS)
    assert port.phase is Phase.CONNECTION


def test_application_mistakes_are_its_own() -> None:
    for steps in (
        ["password"],
        [KeyMethod(key("a").public), pk_ok(), "signature"],
        [InteractiveMethod(), info_request("?"), ()],
        [InteractiveMethod(), info_request("?"), ("clear text",)],
        [HUNTER2, UserauthPasswdChangereq("?"), Secret("new")],
    ):
        port = client()
        for step in steps[:-1]:
            port.receive(step) if hasattr(step, "NUMBER") else port.answer(step)  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            port.answer(steps[-1])


# --- banners


def test_d5_a_banner_is_filtered() -> None:
    port = client()
    port.receive(UserauthBanner("Hi\t\x1b]0;pwn\x07\r\nthere \x9b1m\u202e\x00\udcff!\n"))
    port.receive(UserauthBanner("\x1b"))
    assert port.events == [BannerShown("Hi\t]0;pwn\nthere 1m!\n")]


def test_d5_banners_are_bounded() -> None:
    port = client()
    port.receive(UserauthBanner("x" * MAX_BANNERS))
    assert port.error is None
    port.receive(UserauthBanner("x"))
    assert isinstance(port.error, LimitExceeded)


def test_banner_in_the_middle_of_everything() -> None:
    port = client()
    port.receive(UserauthBanner("1"))
    port.answer(KeyMethod(key("a").public))
    port.receive(UserauthBanner("2"), pk_ok(), UserauthBanner("3"))
    port.answer(b"sig")
    port.receive(UserauthBanner("4"), SUCCESS)
    assert [e.text for e in port.events if isinstance(e, BannerShown)] == ["1", "2", "3", "4"]
    port.receive(UserauthBanner("5"))
    assert port.dropped()


# --- security.md: B6, D4, and PK_OK


def at(*steps: Any) -> FakePort:
    """A client after `steps`: messages of the server, answers of the application."""
    port = client()
    for step in steps:
        if hasattr(step, "NUMBER"):
            port.receive(step)
        else:
            port.answer(step)
    assert port.error is None
    return port


INTERACTIVE = (InteractiveMethod(), info_request("?"))
POSITIONS: dict[str, tuple[tuple[Any, ...], set[int]]] = {
    "before the first credential": ((), {53}),
    "none": ((NoneMethod(),), {51, 52, 53}),
    "after a failure": ((NoneMethod(), FAILURE), {53}),
    "key query": ((KeyMethod(key("a").public),), {51, 53, 60}),
    "signing": ((KeyMethod(key("a").public), pk_ok()), {53}),
    "signed": ((KeyMethod(key("a").public), pk_ok(), b"sig"), {51, 52, 53}),
    "password": ((HUNTER2,), {51, 52, 53, 60}),
    "password change": ((HUNTER2, UserauthPasswdChangereq("?")), {53}),
    "interactive": ((InteractiveMethod(),), {51, 52, 53, 60}),
    "prompting": (INTERACTIVE, {53}),
    "answered": ((*INTERACTIVE, (Secret("hunter2"),)), {51, 52, 53, 60}),
    "abandoned": ((*INTERACTIVE, None), {53}),
    "done": ((HUNTER2, SUCCESS), set()),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_b6_cve_2025_14942_only_what_is_due(name: str) -> None:
    steps, due = POSITIONS[name]
    assert at(*steps).open_numbers() == due
    for number in {5, 6, 21, 30, 31, *range(50, 101)} - UNKNOWN - due:
        port = at(*steps)
        sent, questions = list(port.sent), len(port.questions)
        port.receive(bytes([number]) + bytes(32))
        assert port.dropped()
        assert (port.sent, len(port.questions)) == (sent, questions)


def test_b6_nothing_before_the_service() -> None:
    for number in set(range(50, 101)) - UNKNOWN:
        port = FakePort("client")
        ClientAuth(port, "alice", lambda: None).start()
        port.receive(bytes([number]) + bytes(32))
        assert port.dropped()
        assert not port.questions


def test_b6_another_service_accepted() -> None:
    port = FakePort("client")
    ClientAuth(port, "alice", lambda: None).start()
    port.receive(ServiceAccept("ssh-connection"))
    assert isinstance(port.error, ProtocolViolation)


def test_b6_secret_goes_out_once_however_the_server_answers() -> None:
    port = at(HUNTER2)
    port.receive(FAILURE)
    port.answer(InteractiveMethod())
    port.receive(info_request("Password: "))
    port.answer(None)
    port.answer(None)
    assert sum(b"hunter2" in payload for _, payload in port.sent) == 1
    assert "hunter2" not in repr((port.states, port.error, port.events, port.messages()))


@pytest.mark.parametrize(
    "answer",
    [UserauthPkOk("ssh-ed25519", key("b").public.blob), UserauthPkOk("rsa-sha2-256", key("a").public.blob),
     UserauthPkOk("ssh-ed25519", b"")],
)  # fmt: skip
def test_pk_ok_for_something_else(answer: UserauthPkOk) -> None:
    port = at(KeyMethod(key("a").public))
    port.receive(answer)
    assert isinstance(port.error, ProtocolViolation)
    assert not port.questions


TRIVIAL = [
    (NoneMethod(),),
    (InteractiveMethod(),),
    (InteractiveMethod(), info_request(), ()),
    (HUNTER2, FAILURE, NoneMethod()),
]


@pytest.mark.parametrize("steps", TRIVIAL)
def test_d4_cve_2021_36367_trivial_login_is_told(steps: tuple[Any, ...]) -> None:
    port = at(*steps)
    port.receive(SUCCESS)
    assert port.phase is Phase.CONNECTION
    (note,) = port.told("note")
    assert "without a credential" in note["text"]
    event = port.events[-1]
    assert isinstance(event, Authenticated)
    assert event.attempts[-1].answer == "accepted"


@pytest.mark.parametrize("steps", TRIVIAL)
def test_d4_cve_2021_36367_trivial_login_is_refused(steps: tuple[Any, ...]) -> None:
    port = client(refuse_trivial=True)
    for step in steps:
        port.receive(step) if hasattr(step, "NUMBER") else port.answer(step)
    port.receive(SUCCESS)
    assert isinstance(port.error, AuthenticationFailed)
    assert not any(isinstance(event, Authenticated) for event in port.events)


def test_d4_last_step_without_prompts_is_not_trivial() -> None:
    """A key, then a second factor that is confirmed elsewhere."""
    port = client(refuse_trivial=True)
    port.answer(KeyMethod(key("a").public, probe=False))
    port.answer(b"sig")
    port.receive(UserauthFailure(("keyboard-interactive",), True))
    port.answer(InteractiveMethod())
    port.receive(info_request())
    port.answer(())
    port.receive(SUCCESS)
    assert port.phase is Phase.CONNECTION
    assert port.told("note") == []


def test_the_question_is_the_only_way_on() -> None:
    port = client()
    assert isinstance(port.question(), CredentialNeeded)
    assert port.sent == []


def test_texts_to_be_shown_hold_nothing_a_terminal_obeys() -> None:
    evil = "\x1b]0;owned\x07a\r\n\tb\x9b2J\u202e"
    port = client()
    port.answer(InteractiveMethod())
    port.receive(UserauthInfoRequest(evil, evil, "", (Prompt(evil, False),)))
    shown = port.question()
    assert isinstance(shown, PromptsShown)
    for text in (shown.name, shown.instruction, shown.prompts[0].text):
        assert text == "]0;owneda\n\tb2J"
    port = client()
    port.answer(HUNTER2)
    port.receive(UserauthPasswdChangereq(evil))
    assert port.question().prompt == "]0;owneda\n\tb2J"
