"""hostbased on both sides (RFC 4252 §9), its bytes written out by hand."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from glasshell.events import (
    Authenticated,
    CredentialNeeded,
    HostbasedMethod,
    HostbasedOffered,
    SignatureNeeded,
    Verdict,
)
from glasshell.keys.certificate import sign_certificate
from glasshell.messages.auth import (
    HostbasedRequest,
    UserauthFailure,
    UserauthRequest,
    UserauthSuccess,
)
from glasshell.transport.rules import Phase

from .fake_port import SESSION_ID, FakePort
from .kit import NO, client, key, server

METHODS = ("publickey", "hostbased")


def string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def to_sign(
    *, session_id: bytes = SESSION_ID, user: str = "alice", service: str = "ssh-connection",
    host: str = "box.example.", client_user: str = "bob", algorithm: str = "ssh-ed25519", name: str = "host",
) -> bytes:  # fmt: skip
    fields = (user, service, "hostbased", algorithm)
    return (
        string(session_id) + b"\x32" + b"".join(string(field.encode()) for field in fields)
        + string(key(name).public.blob) + string(host.encode()) + string(client_user.encode())
    )  # fmt: skip


def request(name: str = "host", **over: Any) -> UserauthRequest:
    """A request by the key `name`; `over` changes what its signature is made over, not what is sent."""
    private = key(name)
    signature = private.sign("ssh-ed25519", to_sign(**{"name": name, **over}))
    body = HostbasedRequest("ssh-ed25519", private.public.blob, "box.example.", "bob", signature)
    return UserauthRequest("alice", "ssh-connection", "hostbased", body)


def offered() -> FakePort:
    return server(methods=METHODS)


def test_a_server_asks_whose_host_it_is_and_checks_the_signature() -> None:
    port = offered()
    port.receive(request())
    question = port.question()
    assert isinstance(question, HostbasedOffered)
    assert (question.user, question.host, question.client_user) == ("alice", "box.example", "bob")
    assert question.key == key("host").public
    port.answer(Verdict(True, grant="g"))
    assert port.messages() == [UserauthSuccess()]
    assert port.events == [Authenticated("alice", "hostbased", (), ("g",))]


@pytest.mark.parametrize(
    "over",
    [{"session_id": bytes(32)}, {"user": "root"}, {"service": "ssh-userauth"}, {"host": "other."},
     {"client_user": "root"}, {"algorithm": "rsa-sha2-512"}],
    ids=lambda over: next(iter(over)),
)  # fmt: skip
def test_c5_a_signature_of_something_else_is_refused(over: dict[str, Any]) -> None:
    port = offered()
    port.receive(request(**over))
    port.answer(Verdict(True))
    assert port.messages() == [UserauthFailure(METHODS, False)]
    assert port.phase is Phase.AUTH


def test_a_refused_host_is_refused_however_good_the_signature() -> None:
    port = offered()
    port.receive(request())
    port.answer(NO)
    assert port.messages() == [UserauthFailure(METHODS, False)]


def test_what_is_not_offered_or_not_allowed_is_not_asked_about() -> None:
    port = server(methods=("publickey",))
    port.receive(request())
    assert port.messages() == [UserauthFailure(("publickey",), False)]
    port = server(methods=METHODS, pubkey_algorithms=("rsa-sha2-512",))
    port.receive(request())
    assert port.messages() == [UserauthFailure(METHODS, False)]
    assert not port.questions


@pytest.mark.parametrize(("allowed", "asked"), [(("ssh-ed25519",), True), (("rsa-sha2-512",), False)])
def test_a_host_certificate_is_by_an_authority_with_an_algorithm_that_is_allowed(
    allowed: tuple[str, ...], asked: bool
) -> None:
    port = server(methods=METHODS, ca_signature_algorithms=allowed)
    made = sign_certificate(key("host").public, key("ca"), kind="host", key_id="", principals=["box"])
    body = HostbasedRequest(made.type, made.blob, "box", "bob", b"")
    port.receive(UserauthRequest("alice", "ssh-connection", "hostbased", body))
    assert bool(port.questions) is asked


@pytest.mark.parametrize("blob", [b"", b"/etc/ssh/key", string(b"ssh-ed25519"), string(b"x") * 1000])
def test_c11_a_hostile_blob_fails_that_attempt(blob: bytes) -> None:
    port = offered()
    body = HostbasedRequest("ssh-ed25519", blob, "box", "bob", b"")
    port.receive(UserauthRequest("alice", "ssh-connection", "hostbased", body))
    assert port.messages() == [UserauthFailure(METHODS, False)]
    assert port.error is None


def test_c8_attempts_are_counted() -> None:
    port = offered()
    for _ in range(6):
        assert port.error is None
        port.receive(request())
        port.answer(NO)
    assert "Too many authentication failures" in str(port.error)


def credential(port: FakePort, **changes: Any) -> None:
    assert isinstance(port.question(), CredentialNeeded)
    settings = {"key": key("host").public, "host": "box.example", "user": "bob", **changes}
    port.answer(HostbasedMethod(**settings))


def test_a_client_signs_what_the_rfc_says() -> None:
    port = client()
    credential(port)
    question = port.question()
    assert isinstance(question, SignatureNeeded)
    assert question.data == to_sign()
    port.answer(b"signed")
    body = HostbasedRequest("ssh-ed25519", key("host").public.blob, "box.example.", "bob", b"signed")
    assert port.messages() == [UserauthRequest("alice", "ssh-connection", "hostbased", body)]
    port.receive(UserauthSuccess())
    (event,) = port.events
    assert isinstance(event, Authenticated)
    assert event.method == "hostbased"
    assert event.attempts[-1].identity.startswith("ED25519 SHA256:")


def test_a_client_passes_over_a_key_that_is_not_to_be_used() -> None:
    port = client(pubkey_algorithms=("rsa-sha2-512",))
    credential(port)
    question = port.question()
    assert isinstance(question, CredentialNeeded)
    assert question.attempts[-1].answer == "skipped: no mutual signature algorithm"
    assert port.messages() == []
