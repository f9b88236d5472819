"""What the core tells the application, and what it asks.

An `Event` is told once. A `Question` is an event with a token that must be answered with
`protocol.answer(question, value)`; its docstring says with what. Answers may come at any time;
until then the core goes on with everything that does not depend on them. A `body` is a structure of
the catalogue (`glasshell.messages.connection`), or bytes where its name is not in there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .crypto.signatures import PublicKey
from .errors import SSHError
from .keys.public import AnyKey
from .values import field, slotted
from .wire import Secret


class Event:
    """Base of everything the core tells."""

    __slots__ = ()


@slotted(eq=False)
class Question(Event):
    """Base of everything the core asks; `token` identifies it."""

    token: int = field(default=0, init=False)


# --- the connection as a whole


@slotted
class Negotiated:
    """The algorithms of one key exchange (RFC 4253 §7.1); `why` explains each choice by its field."""

    kex: str
    host_key: str
    cipher_c2s: str
    cipher_s2c: str
    mac_c2s: str
    mac_s2c: str
    compression_c2s: str
    compression_s2c: str
    strict: bool
    peer_ext_info: bool
    why: dict[str, str]


@slotted
class PrefaceLine(Event):
    """A line that the server sent before its identification (RFC 4253 §4.2), made visible."""

    text: str


@slotted
class HandshakeDone(Event):
    """The first key exchange is over; everything is encrypted from here on."""

    negotiated: Negotiated
    session_id: bytes
    peer_software: str


@slotted
class DebugMessage(Event):
    """SSH_MSG_DEBUG of the peer (RFC 4253 §11.3), made visible."""

    text: str
    always_display: bool


@slotted
class Closed(Event):
    """The connection is over; the last event. `error` is None after an orderly end."""

    error: SSHError | None


# --- RFC 4253


@slotted(eq=False)
class HostKeyOffered(Question):
    """Is this the server's key? Its signature of the exchange hash has been verified.

    Answer True, or a HostKeyRefused that says why not. Of a certificate nothing is judged yet but that its
    authority signed it: see `Certificate.objection`.
    """

    key: AnyKey
    algorithm: str
    signature: bytes = field(default=b"", repr=False)
    """The server's, of the `exchange_hash`, which is the session identifier: an agent can verify it."""
    exchange_hash: bytes = field(default=b"", repr=False)


@slotted(eq=False)
class HostKeySignatureNeeded(Question):
    """Sign the exchange hash. Answer with the signature blob, or an SSHError.

    `key` is the one without a certificate, `algorithm` by its plain name.
    """

    key: PublicKey
    algorithm: str
    data: bytes


# --- RFC 4252, 4256: the client is asked


@slotted(frozen=True)
class Attempt:
    """One thing tried to log in: with what, from where, and the server's answer."""

    method: str
    identity: str = ""
    """Key type and fingerprint, or empty."""
    source: str = ""
    """The file, agent or call it came from."""
    algorithm: str = ""
    answer: str = ""
    """`accepted`, `refused`, `partial`, `not acceptable` (a key that was probed), `skipped: ...`"""
    methods: tuple[str, ...] = ()
    """What the server would take after it."""
    note: str = ""
    """What else is known of the identity: whose certificate it is, for whom, and until when."""
    origin: str = field(default="", compare=False)
    """As `KeyMethod.origin`."""


@slotted(frozen=True)
class NoneMethod:
    """Credential: the `none` method, which asks what the server would take (RFC 4252 §5.2)."""


@slotted(frozen=True)
class KeyMethod:
    """Credential: a public key, or a certificate of one (RFC 4252 §7).

    `algorithms` limits and orders the signature algorithms; empty: all that fit the key. `probe`:
    ask first whether the key would do; without it the first request is signed.
    """

    key: AnyKey
    source: str = ""
    origin: str = ""
    """OpenSSH's word behind a key in its log: `explicit`, `agent`, or empty."""
    algorithms: tuple[str, ...] = ()
    probe: bool = True
    note: str = ""
    """What else is known of the key: as `Attempt.note`."""


@slotted(frozen=True)
class PasswordMethod:
    """Credential: a password (RFC 4252 §8)."""

    password: Secret
    source: str = ""


@slotted(frozen=True)
class InteractiveMethod:
    """Credential: keyboard-interactive (RFC 4256); the prompts come as `PromptsShown`."""

    submethods: str = ""


@slotted(frozen=True)
class HostbasedMethod:
    """Credential: this host vouches for its `user` (RFC 4252 §9), with its own `key`; `host` is its name.

    Its signature comes by SignatureNeeded. `algorithms` limits and orders them; empty: all that fit.
    """

    key: AnyKey
    host: str
    user: str
    source: str = ""
    algorithms: tuple[str, ...] = ()


@slotted(frozen=True)
class GssapiMethod:
    """Credential: GSS-API (RFC 4462 §3). `mechanisms` are object identifiers in DER, tag and length included;
    `identity` says who that makes us, as far as that is known."""

    mechanisms: tuple[bytes, ...]
    identity: str = ""
    source: str = ""


Credential = (
    NoneMethod | KeyMethod | PasswordMethod | InteractiveMethod | HostbasedMethod | GssapiMethod
)


@slotted(eq=False)
class CredentialNeeded(Question):
    """What shall be tried next? `methods` is None before the server has said what it takes.

    Answer with a Credential, or None: give up, the connection ends with AuthenticationFailed.
    """

    methods: tuple[str, ...] | None
    partial: bool
    attempts: tuple[Attempt, ...]


@slotted(eq=False)
class SignatureNeeded(Question):
    """Sign for a login. Answer with the signature blob, or the SSHError that prevents it: the key is
    passed over. `key` may be a certificate; `algorithm` is the plain name, as the signature has it."""

    key: AnyKey
    algorithm: str
    data: bytes


@slotted(frozen=True)
class PromptText:
    """One prompt of keyboard-interactive; `echo`: whether the answer may be seen (RFC 4256 §3.2)."""

    text: str
    echo: bool


@slotted(eq=False)
class PromptsShown(Question):
    """Answer the server's prompts with a Secret each, or None: give this method up.

    The texts are the server's, control characters removed except line ends and tabs.
    """

    name: str
    instruction: str
    prompts: tuple[PromptText, ...]


@slotted(frozen=True)
class GssapiTurn:
    """One turn of a mechanism: the `token` for the peer, if any. `done`: nothing more is awaited of the peer.

    A client's last one has the `mic` of what it was given to seal. A server's with `failed` refuses, and its
    token tells the client's mechanism why.
    """

    token: Secret | None = None
    done: bool = False
    mic: Secret | None = None
    failed: bool = False


@slotted(eq=False)
class GssapiTokenNeeded(Question):
    """What does the mechanism say to the server's `token`, which is empty at first? Answer with a GssapiTurn,
    the last one with the MIC over `data`, or the SSHError that prevents it: the method is passed over."""

    mechanism: bytes
    token_in: Secret
    data: bytes


@slotted(eq=False)
class PasswordChangeNeeded(Question):
    """The password has expired (RFC 4252 §8). Answer (old, new) as Secrets, or None."""

    prompt: str


@slotted
class BannerShown(Event):
    """The server's banner (RFC 4252 §5.4), control characters removed except line ends and tabs."""

    text: str


@slotted
class Authenticated(Event):
    """Logged in (client), or a user is (server). `grants` are the values of the server's verdicts."""

    user: str
    method: str
    attempts: tuple[Attempt, ...] = ()
    grants: tuple[Any, ...] = ()


# --- RFC 4252, 4256: the server is asked


@slotted(frozen=True)
class Verdict:
    """The answer to a login request.

    `partial`: this step is done, but more are needed: `methods` are those that can continue. `valid`
    is false where there is no such user: for the records, and nobody else.
    `grant` is handed out with `Authenticated`, one for each step, only when all have succeeded. With
    `confirm`, `LoginDone` is asked before the user is in. `touch_required` and `verify_required` are what
    the signature of a security key has to say of the person who holds it (OpenSSH PROTOCOL.u2f); a
    certificate may demand the latter too.
    """

    accepted: bool
    partial: bool = False
    methods: tuple[str, ...] | None = None
    grant: Any = None
    valid: bool = True
    confirm: bool = False
    touch_required: bool = True
    verify_required: bool = False
    submethod: str = ""
    """What has judged, of the several things that may: `pam`. For the records."""


@slotted(frozen=True)
class Prompts:
    """The other answer to keyboard-interactive: one more round of prompts."""

    prompts: tuple[PromptText, ...]
    name: str = ""
    instruction: str = ""


@slotted(eq=False)
class NoneOffered(Question):
    """May `user` in without anything? Answer with a Verdict."""

    user: str


@slotted(eq=False)
class KeyOffered(Question):
    """Would, or does, this key let `user` in? Answer with a Verdict.

    With `signed` the core verifies the signature after a Verdict that accepts; the identity is
    handed out only then. Without it this is a query, and a Verdict grants nothing. Of a certificate nothing
    is judged yet but that its authority signed it, by an algorithm of the policy's.
    """

    user: str
    key: AnyKey
    algorithm: str
    signed: bool


@slotted(eq=False)
class PasswordOffered(Question):
    """Is this the password of `user`? Answer with a Verdict. `new_password`: a change is asked for."""

    user: str
    password: Secret
    new_password: Secret | None = None


@slotted(eq=False)
class InteractiveStarted(Question):
    """keyboard-interactive begins. Answer with Prompts or a Verdict."""

    user: str
    submethods: str


@slotted(eq=False)
class InteractiveAnswered(Question):
    """The answers to the last Prompts, one Secret each. Answer with Prompts or a Verdict."""

    user: str
    answers: tuple[Secret, ...]


@slotted(eq=False)
class HostbasedOffered(Question):
    """May `client_user` of the client's `host`, whose key this is, come in as `user`? Answer with a Verdict.

    The core verifies the signature after a Verdict that accepts. `host` is as the client sent it, without the
    dot at its end.
    """

    user: str
    key: AnyKey
    algorithm: str
    host: str
    client_user: str


@slotted(eq=False)
class GssapiStarted(Question):
    """gssapi-with-mic begins. Answer with one of the `mechanisms` (DER), or a Verdict: none of them."""

    user: str
    mechanisms: tuple[bytes, ...]


@slotted(eq=False)
class GssapiTokenOffered(Question):
    """A token of the client's mechanism. Answer with a GssapiTurn, or a Verdict that refuses.

    `done` must only be said of a context with mutual authentication and integrity.
    """

    user: str
    token_in: Secret


@slotted(eq=False)
class GssapiMicOffered(Question):
    """The client is done: is `mic` its seal of `data`, and may whom the context names come in as `user`?
    Answer with a Verdict."""

    user: str
    mic: Secret
    data: bytes


@slotted(eq=False)
class LoginDone(Question):
    """`user` has done every step, signatures checked, with these `grants`. In? Answer with a Verdict.

    Only after a Verdict with `confirm`: what a login changes elsewhere, say a counter of failures, is done
    now.
    """

    user: str
    grants: tuple[Any, ...]


# --- RFC 4254


@slotted(eq=False)
class ChannelOffered(Question):
    """The peer asks for a channel. Answer True, or a ChannelOpenFailed with reason and text."""

    channel: Any
    """The `connection.channel.Channel`; usable once accepted."""
    type: str
    body: Any


@slotted
class ChannelOpened(Event):
    """A channel that we opened is open."""

    channel: Any


@slotted
class ChannelRefused(Event):
    """A channel that we opened was refused; `reason` as in RFC 4254 §5.1."""

    channel: Any
    reason: int
    description: str


@slotted
class ChannelReadable(Event):
    """Data came: `channel.read()`. Told once for each `receive_data` however much came."""

    channel: Any


@slotted
class ChannelWritable(Event):
    """`channel.send()` accepted less than it was given before; it takes more now."""

    channel: Any


@slotted
class ChannelEof(Event):
    """The peer sends no more data on this channel."""

    channel: Any


@slotted
class ChannelClosed(Event):
    """The channel is closed both ways, or its connection is over."""

    channel: Any


@slotted(eq=False)
class ChannelRequested(Question):
    """The peer asks something of a channel (RFC 4254 §5.4); answer True or False."""

    channel: Any
    type: str
    body: Any
    want_reply: bool


@slotted
class ChannelReplied(Event):
    """The answer to the oldest unanswered `channel.request(..., want_reply=True)`."""

    channel: Any
    type: str
    ok: bool


@slotted
class ChannelExit(Event):
    """The remote program ended: `status`, or `signal` (name without SIG) with its message."""

    channel: Any
    status: int | None
    signal: str = ""
    core_dumped: bool = False
    message: str = ""


@slotted(eq=False)
class GlobalRequested(Question):
    """A global request (RFC 4254 §4). Answer True, False, or bytes: the body of REQUEST_SUCCESS."""

    type: str
    body: Any
    want_reply: bool


@slotted
class GlobalReplied(Event):
    """The answer to the oldest unanswered `global_request(..., want_reply=True)`."""

    type: str
    ok: bool
    body: bytes


Events = Sequence[Event]
