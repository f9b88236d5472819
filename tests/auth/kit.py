"""Keys, and both sides brought to the point where a test begins."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from glasshell.auth.client import ClientAuth
from glasshell.auth.server import LATE_REQUESTS, ServerAuth
from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.events import (
    CredentialNeeded,
    InteractiveStarted,
    KeyOffered,
    NoneOffered,
    PasswordOffered,
    SignatureNeeded,
    Verdict,
)
from glasshell.messages.auth import (
    KeyboardInteractiveRequest,
    NoneRequest,
    PasswordRequest,
    PublickeyRequest,
    UserauthRequest,
)
from glasshell.messages.declare import Struct
from glasshell.messages.transport import ServiceAccept, ServiceRequest
from glasshell.wire import Secret

from .fake_port import SESSION_ID, FakePort

YES = Verdict(True)
NO = Verdict(False)


@cache
def key(name: str, key_type: str = "ssh-ed25519") -> PrivateKey:
    """The test key called `name`."""
    return PrivateKey.generate(key_type, 2048 if key_type == "ssh-rsa" else None, name)


def server(**options: Any) -> FakePort:
    """A server in which ssh-userauth has been accepted."""
    policy = {name: options.pop(name) for name in list(options) if name.startswith(("max_", "pubkey", "ca_"))}
    port = FakePort("server", **policy)
    options.setdefault("methods", ("publickey", "password", "keyboard-interactive"))

    def done(user: str, method: str, grants: tuple[Any, ...]) -> None:
        port.install(LATE_REQUESTS)

    ServerAuth(port, done, **options).start()
    port.receive(ServiceRequest("ssh-userauth"))
    assert port.last() == ServiceAccept("ssh-userauth")
    port.sent.clear()
    return port


def client(
    user: str = "alice",
    *,
    extensions: dict[str, bytes] | None = None,
    refuse_trivial: bool = False,
    **policy: Any,
) -> FakePort:
    """A client that asks for its first credential."""
    port = FakePort("client", extensions=extensions, **policy)
    ClientAuth(port, user, lambda: port.install({}), refuse_trivial=refuse_trivial).start()
    port.receive(ServiceAccept("ssh-userauth"))
    assert isinstance(port.question(), CredentialNeeded)
    port.sent.clear()
    return port


def request(body: Struct, user: str = "alice", method: str = "") -> UserauthRequest:
    """A request for ssh-connection; the method follows from the body."""
    names: dict[type[Struct], str] = {
        NoneRequest: "none",
        PublickeyRequest: "publickey",
        PasswordRequest: "password",
        KeyboardInteractiveRequest: "keyboard-interactive",
    }
    return UserauthRequest(user, "ssh-connection", method or names[type(body)], body)


def password(value: str = "hunter2", user: str = "alice") -> UserauthRequest:
    return request(PasswordRequest(False, Secret(value)), user)


def query(public: PublicKey, user: str = "alice", algorithm: str = "") -> UserauthRequest:
    return request(PublickeyRequest(False, algorithm or public.type, public.blob), user)


def to_sign(
    public: PublicKey, *, session_id: bytes = SESSION_ID, user: str = "alice",
    service: str = "ssh-connection", method: str = "publickey", algorithm: str = "",
) -> bytes:  # fmt: skip
    """RFC 4252 §7, written out once more by hand."""

    def string(value: bytes) -> bytes:
        return struct.pack(">I", len(value)) + value

    return (
        string(session_id) + b"\x32" + string(user.encode()) + string(service.encode())
        + string(method.encode()) + b"\x01"
        + string((algorithm or public.type).encode()) + string(public.blob)
    )  # fmt: skip


def signed(private: PrivateKey, user: str = "alice", algorithm: str = "", **over: Any) -> UserauthRequest:
    """A signed request; `over` changes what the signature is made over, not what is sent."""
    name = algorithm or private.public.type
    signature = private.sign(name, to_sign(private.public, **{"user": user, "algorithm": name, **over}))
    return request(PublickeyRequest(True, name, private.public.blob, signature), user)


def answer_as(rules: dict[type, Any]) -> Callable[[Any], Any]:
    """An application that answers by the question's type; a callable is given the question."""

    def answer(question: Any) -> Any:
        value = rules[type(question)]
        return value(question) if callable(value) else value

    return answer


def signer(private: PrivateKey) -> Callable[[SignatureNeeded], bytes]:
    return lambda question: private.sign(question.algorithm, question.data)


REFUSE_ALL: dict[type, Any] = {NoneOffered: NO, KeyOffered: NO, PasswordOffered: NO, InteractiveStarted: NO}


def judge(port: FakePort, rules: dict[type, Any]) -> None:
    """Answers whatever is open on `port`."""
    answer = answer_as(rules)
    while port.questions and port.error is None:
        port.answer(answer(port.question()))
