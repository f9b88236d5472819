"""The server's half of RFC 4252 and 4256, against every way in that others left open."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from glasshell.auth.server import ServerAuth
from glasshell.crypto.signatures import PublicKey
from glasshell.errors import LimitExceeded, MalformedMessage, ServiceNotAvailable, UsageError
from glasshell.events import (
    Authenticated,
    InteractiveAnswered,
    InteractiveStarted,
    KeyOffered,
    LoginDone,
    NoneOffered,
    PasswordOffered,
    Prompts,
    PromptText,
    Verdict,
)
from glasshell.messages.auth import (
    HOSTBOUND,
    HostboundRequest,
    KeyboardInteractiveRequest,
    NoneRequest,
    PasswordRequest,
    PublickeyRequest,
    Response,
    UserauthBanner,
    UserauthFailure,
    UserauthInfoRequest,
    UserauthInfoResponse,
    UserauthPkOk,
    UserauthRequest,
    UserauthSuccess,
)
from glasshell.messages.transport import ServiceAccept, ServiceRequest
from glasshell.transport.rules import UNKNOWN, Phase
from glasshell.wire import Secret, mpint, string
from tests.fido import ED25519, Token

from .fake_port import HOST_KEY, FakePort
from .kit import NO, REFUSE_ALL, YES, judge, key, password, query, request, server, signed, to_sign

ALL = ("publickey", "password", "keyboard-interactive")
FAILURE = UserauthFailure(ALL, False)
INTERACTIVE = KeyboardInteractiveRequest()
TWO = Prompts((PromptText("Password: ", False), PromptText("Code: ", True)), "Login", "please")


def responses(*values: str) -> UserauthInfoResponse:
    return UserauthInfoResponse(tuple(Response(Secret(v)) for v in values))


def authenticated(port: FakePort) -> Authenticated | None:
    found = [event for event in port.events if isinstance(event, Authenticated)]
    assert len(found) <= 1
    assert bool(found) == (port.phase is Phase.CONNECTION) == (UserauthSuccess() in port.messages())
    return found[0] if found else None


def refused(port: FakePort) -> bool:
    return port.last() == FAILURE and port.error is None and authenticated(port) is None


# --- what a login is


def test_none_lists_the_methods() -> None:
    port = server()
    port.receive(request(NoneRequest()))
    assert isinstance(port.question(), NoneOffered)
    port.answer(NO)
    assert refused(port)


def test_password() -> None:
    port = server()
    port.receive(password())
    question = port.question()
    assert (question.user, question.password, question.new_password) == ("alice", Secret("hunter2"), None)
    port.answer(Verdict(True, grant="g"))
    assert port.messages() == [UserauthSuccess()]
    assert authenticated(port) == Authenticated("alice", "password", (), ("g",))


@pytest.mark.parametrize(
    ("key_type", "algorithm"),
    [("ssh-ed25519", "ssh-ed25519"), ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
     ("ssh-rsa", "rsa-sha2-256"), ("ssh-rsa", "rsa-sha2-512")],
)  # fmt: skip
def test_publickey_query_then_signature(key_type: str, algorithm: str) -> None:
    port, private = server(), key("a", key_type)
    port.receive(query(private.public, algorithm=algorithm))
    assert (port.question().signed, port.question().key) == (False, private.public)
    port.answer(YES)
    assert port.messages() == [UserauthPkOk(algorithm, private.public.blob)]
    port.receive(signed(private, algorithm=algorithm))
    assert port.question().signed
    port.answer(Verdict(True, grant=private.public))
    assert authenticated(port) == Authenticated("alice", "publickey", (), (private.public,))


def test_hostbound_counts_as_publickey_and_binds_the_host_key() -> None:
    """OpenSSH PROTOCOL, publickey-hostbound-v00."""
    private = key("a")
    for host, good in ((HOST_KEY, True), (key("other").public, False)):
        port = server(methods=("publickey",))
        data = to_sign(private.public, method=HOSTBOUND) + string(host.blob)
        signature = private.sign("ssh-ed25519", data)
        body = HostboundRequest(True, "ssh-ed25519", private.public.blob, host.blob, signature)
        port.receive(request(body, method=HOSTBOUND))
        judge(port, {KeyOffered: YES})
        assert (authenticated(port) is not None) is good
        assert good or port.last() == UserauthFailure(("publickey",), False)


def test_interactive_in_rounds() -> None:
    port = server()
    port.receive(request(KeyboardInteractiveRequest("", "pam")))
    assert port.question().submethods == "pam"
    port.answer(TWO)
    sent = port.last()
    assert isinstance(sent, UserauthInfoRequest)
    assert [(p.prompt, p.echo) for p in sent.prompts] == [("Password: ", False), ("Code: ", True)]
    assert (sent.name, sent.instruction) == ("Login", "please")
    port.receive(responses("a", "b"))
    assert port.question().answers == (Secret("a"), Secret("b"))
    port.answer(Prompts(()))
    port.receive(responses())
    port.answer(YES)
    assert authenticated(port) == Authenticated("alice", "keyboard-interactive", (), (None,))


def test_banner_once_before_the_first_reply() -> None:
    port = server(banner="hello\r\n")
    port.receive(request(NoneRequest()), password())
    judge(port, REFUSE_ALL)
    assert port.messages() == [UserauthBanner("hello\r\n"), FAILURE, FAILURE]


def test_partial_success_hands_out_every_grant_at_the_end() -> None:
    """RFC 4252 §5.1; the grants of every step: CVE-2026-39828."""
    port = server()
    port.receive(signed(key("a")))
    port.answer(Verdict(True, partial=True, grant=1))
    assert port.last() == UserauthFailure(("password", "keyboard-interactive"), True)
    assert authenticated(port) is None
    port.receive(signed(key("a")))  # a step that is done is not taken again
    assert port.last() == UserauthFailure(("password", "keyboard-interactive"), False)
    port.receive(password())
    port.answer(Verdict(True, partial=True, methods=("keyboard-interactive",), grant=2))
    assert port.last() == UserauthFailure(("keyboard-interactive",), True)
    port.receive(request(INTERACTIVE))
    port.answer(Verdict(True, grant=3))
    assert authenticated(port) == Authenticated("alice", "keyboard-interactive", (), (1, 2, 3))


def test_partial_without_accepted_is_a_refusal() -> None:
    port = server()
    port.receive(password())
    port.answer(Verdict(False, partial=True))
    assert refused(port)


def test_one_request_is_judged_at_a_time() -> None:
    """Rule: a verdict that is open holds everything back (CVE-2018-7750 in its asynchronous form)."""
    port = server()
    port.receive(password("one"), password("two"), b"\x5a")
    assert len(port.questions) == 1
    port.answer(NO)
    assert port.question().password == Secret("two")
    port.answer(NO)
    assert port.dropped()  # by CHANNEL_OPEN, now that it is judged


def test_states_for_the_log() -> None:
    port = server()
    port.receive(request(NoneRequest(), "al\x1bice"), signed(key("a")))
    judge(port, {NoneOffered: NO, KeyOffered: YES})
    first, second = port.told("auth_request")
    assert first == {
        "user": "al\\033ice",
        "service": "ssh-connection",
        "method": "none",
        "attempt": 0,
        "failures": 0,
    }
    assert (second["attempt"], second["failures"]) == (1, 0)  # the first `none` is no failure
    verdict = port.told("auth_verdict")[1]
    assert (verdict["accepted"], verdict["key_type"]) == (True, "ED25519")
    assert verdict["fingerprint"] == key("a").public.fingerprint()
    assert port.told("authenticated") == [{"user": "alice", "method": "publickey"}]


def test_nothing_is_told_where_nobody_listens() -> None:
    port = server()
    port.hub = None
    port.receive(signed(key("a")))
    port.answer(YES)
    assert authenticated(port)


def test_application_mistakes_are_its_own() -> None:
    with pytest.raises(UsageError, match="gssapi-keyex"):
        ServerAuth(FakePort("server"), lambda *_: None, methods=("gssapi-keyex",))
    for body, wrong in (
        (NoneRequest(), True),
        (INTERACTIVE, None),
        (NoneRequest(), Verdict(False, methods=("none",))),
    ):
        port = server()
        port.receive(request(body))
        with pytest.raises(UsageError):
            port.answer(wrong)
        assert authenticated(port) is None


# --- security.md 1C, row by row


@pytest.mark.parametrize("number", [6, 51, 52, 53, 60, 61, 63, 66, 79])
def test_c1_cve_2018_10933_messages_of_the_server(number: int) -> None:
    waiting = FakePort("server")
    ServerAuth(waiting, lambda *_: None).start()
    queried = server()
    queried.receive(query(key("a").public))
    queried.answer(YES)
    opened = server()
    opened.receive(request(INTERACTIVE))
    opened.answer(TWO)
    for port in (waiting, server(), queried, *([opened] if number != 61 else [])):
        before = len(port.sent)
        port.receive(bytes([number]) + bytes(64))
        assert port.dropped()
        assert len(port.sent) == before
        assert authenticated(port) is None


@pytest.mark.parametrize("number", sorted(set(range(80, 101)) - UNKNOWN))
def test_c2_cve_2018_7750_connection_messages(number: int) -> None:
    port = server()
    port.receive(bytes([number]) + bytes(64))
    assert port.dropped()


def test_c3_no_way_around_the_service() -> None:
    early = FakePort("server")
    ServerAuth(early, lambda *_: None).start()
    early.receive(password())
    assert early.dropped()
    skipping = FakePort("server")
    ServerAuth(skipping, lambda *_: None).start()
    skipping.receive(ServiceRequest("ssh-connection"))
    assert isinstance(skipping.error, ServiceNotAvailable)
    assert skipping.error.disconnect_reason == 7
    later = server()
    later.receive(ServiceRequest("ssh-connection"))
    assert isinstance(later.error, ServiceNotAvailable)


def test_the_service_may_be_asked_for_again() -> None:
    """As paramiko does before each attempt: it is one more request, and lets nobody in."""
    port = server()
    for _ in range(port.policy.max_auth_requests):
        port.receive(ServiceRequest("ssh-userauth"))
        assert port.sent[-1][1] == ServiceAccept("ssh-userauth").encode()
        assert authenticated(port) is None
    port.receive(ServiceRequest("ssh-userauth"))
    assert isinstance(port.error, LimitExceeded)


@pytest.mark.parametrize("method", ["", "nonE", "hostbased", "gssapi-with-mic", "x" * 64])
def test_c3_methods_that_are_none(method: str) -> None:
    port = server()
    payload = b"\x32" + string(b"alice") + string(b"ssh-connection") + string(method.encode())
    tail = {"hostbased": string(b"a") + string(b"") * 4, "gssapi-with-mic": bytes(4)}.get(method, b"")
    port.receive(payload + tail)
    assert refused(port)
    assert not port.questions


def test_c3_service_that_is_none() -> None:
    port = server()
    port.receive(UserauthRequest("alice", "ssh-userauth", "none", NoneRequest()))
    assert isinstance(port.error, ServiceNotAvailable)


def test_c4_cve_2024_45337_identity_of_the_signature() -> None:
    a, b = key("a"), key("b")
    port = server()
    port.receive(query(a.public), query(b.public), signed(a))
    judge(port, {KeyOffered: lambda q: Verdict(True, grant=q.key)})
    found = authenticated(port)
    assert found is not None
    assert found.grants == (a.public,)


def test_c4_query_one_key_sign_with_another() -> None:
    a, b = key("a"), key("b")
    port = server()
    port.receive(query(a.public), signed(b))
    judge(port, {KeyOffered: lambda q: Verdict(q.key == a.public)})
    assert refused(port)
    # b's signature under a's name
    forged = signed(b)
    assert isinstance(forged.body, PublickeyRequest)
    port.receive(request(PublickeyRequest(True, "ssh-ed25519", a.public.blob, forged.body.signature)))
    judge(port, {KeyOffered: YES})
    assert refused(port)


@pytest.mark.parametrize(
    "over",
    [{"session_id": bytes(32)}, {"session_id": b""}, {"user": "bob"}, {"service": "ssh-userauth"},
     {"method": HOSTBOUND}, {"algorithm": "rsa-sha2-256"}],
)  # fmt: skip
def test_c5_signature_of_something_else(over: dict[str, Any]) -> None:
    rsa = key("r", "ssh-rsa")
    port = server()
    signature = rsa.sign("rsa-sha2-512", to_sign(rsa.public, **{"algorithm": "rsa-sha2-512", **over}))
    port.receive(request(PublickeyRequest(True, "rsa-sha2-512", rsa.public.blob, signature)))
    judge(port, {KeyOffered: Verdict(True, methods=("password",))})
    assert refused(port)  # and the list of a verdict whose signature is missing is not shown either


def test_c5_flipped_and_cut_signatures() -> None:
    good = signed(key("a")).body
    assert isinstance(good, PublickeyRequest)
    assert good.signature is not None
    flips = [
        good.signature[:i] + bytes([good.signature[i] ^ 1]) + good.signature[i + 1 :] for i in range(0, 83, 7)
    ]
    for signature in (*flips, b"", good.signature[:-1], good.signature + b"\0"):
        port = server()
        port.receive(request(PublickeyRequest(True, good.algorithm, good.public_key, signature)))
        judge(port, {KeyOffered: YES})
        assert refused(port)


def test_c6_cve_2026_46705_another_user_starts_over() -> None:
    port = server()
    port.receive(signed(key("a")))
    port.answer(Verdict(True, partial=True, methods=("password",), grant="alice's"))
    port.receive(password(user="bob"))
    assert port.question().user == "bob"
    port.answer(NO)
    assert port.last() == FAILURE  # all methods again
    port.receive(password(user="bob"))
    port.answer(Verdict(True, grant="bob's"))
    assert authenticated(port) == Authenticated("bob", "password", (), ("bob's",))


def test_c6_conversation_of_another_user() -> None:
    port = server()
    port.receive(request(INTERACTIVE))
    port.answer(TWO)
    port.receive(request(NoneRequest(), "bob"))
    port.answer(NO)
    port.receive(responses("a", "b"))
    assert port.dropped()
    assert authenticated(port) is None


@pytest.mark.parametrize("values", [(), ("a",), ("a", "b", "c")])
def test_c7_cve_2026_42189_count_of_responses(values: tuple[str, ...]) -> None:
    port = server()
    port.receive(request(INTERACTIVE))
    port.answer(TWO)
    port.receive(responses(*values))
    assert refused(port)
    assert not port.questions
    port.receive(responses("a", "b"))  # the conversation is over
    assert port.dropped()


def test_c7_count_that_cannot_be() -> None:
    port = server()
    port.receive(request(INTERACTIVE))
    port.answer(TWO)
    port.receive(b"\x3d" + struct.pack(">I", 2**32 - 1) + bytes(8))
    assert isinstance(port.error, MalformedMessage)


@pytest.mark.parametrize(
    ("message", "rules", "most"),
    [
        (request(NoneRequest()), {NoneOffered: NO}, 7),  # the first is free
        (password(), {PasswordOffered: NO}, 6),
        (signed(key("a")), {KeyOffered: NO}, 6),
        (query(key("a").public), {KeyOffered: NO}, 6),
        (request(INTERACTIVE), {InteractiveStarted: NO}, 6),
        (request(PasswordRequest(False, Secret(""))), {}, 6),
        (query(key("a").public), {KeyOffered: YES}, 129),
        (request(INTERACTIVE), {InteractiveStarted: Prompts(())}, 129),
        (password(), {PasswordOffered: Verdict(True, partial=True, methods=("password",))}, 129),
    ],
)
def test_c8_cve_2015_5600_attempts_end(message: UserauthRequest, rules: dict[type, Any], most: int) -> None:
    port = server()
    for _ in range(10_000):
        port.receive(message)
        judge(port, rules)
        if port.error is not None:
            break
    assert isinstance(port.error, LimitExceeded)
    assert port.error.disconnect_reason == 2  # as OpenSSH: "Too many authentication failures"
    assert port.dispatched - 1 == most  # the service request came first
    assert authenticated(port) is None


def test_c8_rounds_count_too() -> None:
    port = server()
    port.receive(request(INTERACTIVE))
    port.answer(Prompts(()))
    for _ in range(10_000):
        port.receive(responses())
        if port.error is not None:
            break
        port.answer(Prompts(()))
    assert isinstance(port.error, LimitExceeded)
    assert port.dispatched <= 130


def test_c9_cve_2018_15473_same_bytes_for_everybody() -> None:
    """A user who exists, one who does not, and a request that is malformed inside, are told the same."""
    bad_blob = PublickeyRequest(True, "ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0\x05short", b"sig")
    replies: dict[str, list[list[bytes]]] = {}
    for user in ("root", "nobody-by-that-name"):
        for body in (
            NoneRequest(),
            PasswordRequest(False, Secret("x")),
            query(key("a").public).body,
            bad_blob,
            INTERACTIVE,
        ):
            port = server()
            assert not isinstance(body, bytes)
            port.receive(request(body, user))
            judge(port, REFUSE_ALL)
            replies.setdefault(user, []).append([payload for _, payload in port.sent])
    assert replies["root"] == replies["nobody-by-that-name"]
    assert all(reply == [FAILURE.encode()] for reply in replies["root"])


@pytest.mark.parametrize("value", ["", "x" * 1025, "hunter2\0", "\0", "x" * 200_000])
def test_c10_cve_2016_6515_passwords_not_worth_asking(value: str) -> None:
    port = server()
    port.receive(password(value))
    assert refused(port)
    assert not port.questions


def test_c10_empty_password_where_it_is_allowed() -> None:
    port = server(empty_passwords=True)
    port.receive(password(""))
    port.answer(YES)
    assert authenticated(port)


@pytest.mark.parametrize("new", ["next", "", "a\0b", "x" * 1025])
def test_c10_change_of_password(new: str) -> None:
    change = request(PasswordRequest(True, Secret("old"), Secret(new)))
    port = server()
    port.receive(change)
    assert refused(port)
    port = server(password_changes=True)
    port.receive(change)
    if new != "next":
        assert refused(port)
    else:
        assert port.question().new_password == Secret("next")
        port.answer(YES)
        assert authenticated(port)


def rsa_blob(bits: int, e: int = 65537) -> bytes:
    return string(b"ssh-rsa") + mpint(e) + mpint((1 << bits - 1) + 1)


BLOBS = {
    "huge modulus": ("rsa-sha2-512", rsa_blob(32768)),
    "even exponent": ("rsa-sha2-512", rsa_blob(2048, 4)),
    "exponent of 2000 bits": ("rsa-sha2-512", rsa_blob(2048, (1 << 1999) + 1)),
    "small modulus": ("rsa-sha2-512", rsa_blob(1024)),
    "small order": ("ssh-ed25519", string(b"ssh-ed25519") + string(b"\1" + bytes(31))),
    "type of another": ("ssh-ed25519", rsa_blob(2048)),
    "empty": ("ssh-ed25519", b""),
    "a path": ("ssh-ed25519", b"/etc/ssh/id_rsa"),
    "nested": ("ssh-ed25519", string(b"ssh-ed25519") * 10_000),
}


@pytest.mark.parametrize("name", BLOBS)
def test_c11_cve_2026_39829_hostile_blobs(name: str) -> None:
    algorithm, blob = BLOBS[name]
    for has_signature in (False, True):
        port = server()
        signature = b"sig" if has_signature else None
        port.receive(request(PublickeyRequest(has_signature, algorithm, blob, signature)))
        assert refused(port)
        assert not port.questions


def test_c11_cve_2020_9283_blob_cut_at_every_byte() -> None:
    public = key("a").public
    port = server(max_auth_failures=1000)
    for end in range(len(public.blob)):
        port.receive(request(PublickeyRequest(False, public.type, public.blob[:end])))
        assert refused(port)
    assert not port.questions


@pytest.mark.parametrize(
    "algorithm", ["ssh-rsa", "ssh-dss", "ssh-ed25519-cert-v01@openssh.com", "rsa-sha2-256", ""]
)
def test_c11_what_is_not_allowed_is_not_parsed(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(blob: bytes) -> PublicKey:
        raise AssertionError("parsed")

    monkeypatch.setattr(PublicKey, "from_blob", parsed)
    port = server(pubkey_algorithms=("ssh-ed25519", "rsa-sha2-512"))
    port.receive(request(PublickeyRequest(False, algorithm, b"x")))
    assert refused(port)


def test_c14_algorithm_of_another_key_type() -> None:
    port = server()
    port.receive(query(key("a").public, algorithm="rsa-sha2-512"))
    assert refused(port)
    assert not port.questions


def test_c15_user_names() -> None:
    port = server(max_auth_failures=1000)
    for user in ("%n%s", "-x", "a\nb", "x" * 65536, "../bob", "\udcff\udcfe", ""):
        port.receive(request(NoneRequest(), user))
        assert port.question().user == user
        port.answer(NO)
        assert refused(port)
    port.receive(request(NoneRequest(), "root\0x"))
    assert port.dropped()


def test_methods_that_are_not_offered_are_not_asked_about() -> None:
    port = server(methods=("publickey",))
    port.receive(password(), request(INTERACTIVE))
    assert not port.questions
    assert port.messages() == [UserauthFailure(("publickey",), False)] * 2


def test_b5_cve_2023_46446_late_requests_are_ignored() -> None:
    port = server()
    port.receive(password())
    port.answer(YES)
    before = list(port.sent)
    port.receive(password(user="mallory"), b"\x32", request(NoneRequest(), "mallory"))
    assert port.error is None
    assert not port.questions
    assert port.sent == before
    found = authenticated(port)
    assert found is not None
    assert found.user == "alice"


def test_interactive_answered_is_refused() -> None:
    port = server()
    port.receive(request(INTERACTIVE))
    port.answer(TWO)
    port.receive(responses("a", "b"))
    assert isinstance(port.question(), InteractiveAnswered)
    port.answer(NO)
    assert refused(port)


# --- steps, and the last question


def test_c6_passed_is_the_present_users_only() -> None:
    """What alice has done is not there for bob, nor for alice when she comes back from being bob; not even
    where bob's request is refused without a question (a method that is not offered)."""
    seen: list[tuple[Any, ...]] = []
    port = FakePort("server")
    auth = ServerAuth(port, lambda *_: None, methods=("publickey", "password"))
    auth.start()
    port.receive(ServiceRequest("ssh-userauth"))

    def ask(message: UserauthRequest, verdict: Verdict) -> None:
        port.receive(message)
        if port.questions:
            seen.append(auth.passed)
            port.answer(verdict)

    step = Verdict(True, partial=True, grant="step", methods=("publickey", "password"))
    ask(signed(key("a")), step)
    ask(signed(key("b")), step)
    assert auth.passed == ("step", "step")
    port.receive(request(INTERACTIVE, "bob"))
    assert not port.questions  # not offered, and bob all the same
    ask(password(), NO)
    ask(signed(key("a")), step)
    ask(password(user="bob"), NO)
    assert seen == [(), ("step",), (), (), ()]


def test_the_last_question_comes_after_the_signature() -> None:
    port = server(methods=ALL)
    port.receive(signed(key("a"), session_id=bytes(32)))
    port.answer(Verdict(True, confirm=True))
    assert not port.questions  # the signature is wrong: nobody is asked
    assert port.last() == FAILURE
    port.receive(signed(key("a")))
    port.answer(Verdict(True, grant="key", confirm=True))
    question = port.question()
    assert isinstance(question, LoginDone)
    assert (question.user, question.grants) == ("alice", ("key",))
    assert authenticated(port) is None
    port.answer(NO)
    assert port.last() == FAILURE
    port.receive(signed(key("a")))
    port.answer(Verdict(True, grant="key", confirm=True))
    port.answer(YES)
    event = authenticated(port)
    assert event is not None
    assert event.grants == ("key",)


@pytest.mark.parametrize("message", [query(key("a").public), signed(key("a"))], ids=["query", "signed"])
def test_a_policy_that_is_the_users_holds_for_the_question_that_told_of_it(message: UserauthRequest) -> None:
    port = server(methods=ALL)
    port.receive(message)
    port.policy = port.policy.but(pubkey_algorithms=("rsa-sha2-512",))
    port.answer(YES)
    assert port.last() == FAILURE
    assert authenticated(port) is None


@pytest.mark.parametrize(
    ("flags", "touch", "verify", "said"),
    [
        (0, True, False, "user presence (authenticator touch) requirement not met"),
        (0, True, True, "user presence (authenticator touch) requirement not met"),
        (1, True, True, "user verification requirement not met"),
        (0, False, True, "user verification requirement not met"),
        (0, False, False, None),
        (5, True, True, None),
    ],
)
def test_c13_go_cve_2026_39831_what_is_not_met_is_said(
    flags: int, touch: bool, verify: bool, said: str | None
) -> None:
    token = Token(ED25519)
    port = server(methods=ALL, pubkey_algorithms=(ED25519,))
    signature = token.sign(to_sign(token.public), flags=flags)
    port.receive(request(PublickeyRequest(True, ED25519, token.public.blob, signature)))
    port.answer(Verdict(True, touch_required=touch, verify_required=verify))
    notes = [facts["text"] for name, facts in port.states if name == "note"]
    assert (authenticated(port) is not None) == (said is None)
    assert ([said] if said else []) == [note.rpartition("rejected: ")[2] for note in notes]
