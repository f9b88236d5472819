"""What the records of one connection come to: one pass, bounded memory, the facts that explanations use.

A `Story` is a sink. It takes live records of either side and those of captures (role "network"), with or
without what was encrypted: whatever was not seen stays empty. Texts of a peer are made visible and cut.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import (
    AuthenticationFailed,
    ChannelOpenFailed,
    Disconnected,
    KeyFormatError,
    MalformedMessage,
    RequestFailed,
    SSHError,
)
from ..messages import UnknownMessage, decode
from ..messages import auth as a
from ..messages import connection as c
from ..messages import transport as t
from ..observe.record import MessageRecord, Record, StateRecord, SubsystemRecord
from ..wire import visible

__all__ = ["Story", "Try", "clip"]

MOST: Final = 64
"""Most items kept of anything a peer can repeat."""
LONGEST: Final = 300
"""Longest text kept of a peer, in characters."""

Facts = Mapping[str, Any]


def clip(value: Any) -> str:
    """A peer's text, made visible and cut."""
    text = visible(str(value))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


ASKED: Final = ("password", "keyboard-interactive")
"""Methods for which somebody is asked for words."""


class Try:
    """One thing the client tried to log in with, and what became of it.

    `answer` is "accepted", "refused", "partial", "would do" (a key the server would take, not yet signed
    with), "not acceptable" (a key that was asked about), "skipped: ..." or "" while none came.
    """

    __slots__ = (
        "algorithm", "answer", "asked", "certificate", "identity", "method", "objection", "signed", "source",
    )  # fmt: skip

    def __init__(self, method: str, identity: str = "", source: str = "", answer: str = "") -> None:
        self.method = method
        self.identity = identity
        self.source = source
        self.answer = answer
        self.algorithm = ""
        self.signed = False
        self.asked = False
        """The server had said that it would take this key, before the signature."""
        self.certificate = self.objection = ""
        """Of a certificate who issued it and for whom; and why it holds for nobody."""

    @property
    def absent(self) -> bool:
        """A file that is not there; the usual ones are looked for whether anybody named them or not."""
        return "No such file" in self.answer

    def __str__(self) -> str:
        what = " ".join(filter(None, (self.method, self.identity, self.source)))
        return f"{what}: {self.answer or 'no answer'}"


class Way:
    """From the name to TCP."""

    def __init__(self) -> None:
        self.host = ""
        self.port = 0
        self.user = ""
        self.resolving = False
        self.addresses: tuple[str, ...] = ()
        self.trying = ""
        self.failures: list[tuple[str, str]] = []
        self.address = ""
        self.local = ""
        self.at = 0.0
        """When TCP was connected."""


class Opening:
    """Identification, key exchange and the host key."""

    def __init__(self) -> None:
        self.preface: list[str] = []
        self.client = ""
        self.server = ""
        self.client_kex: t.KexInit | None = None
        self.server_kex: t.KexInit | None = None
        self.negotiated: Facts = {}
        self.last = 0
        """The number of the last message of the server's, before its keys were in use."""
        self.client_last = 0
        """The same of the client's."""
        self.done = False
        self.key: Facts = {}
        self.verdict: Facts = {}
        self.bad_lines: list[str] = []


class Login:
    """Authentication."""

    def __init__(self) -> None:
        self.began = False
        self.methods: tuple[str, ...] | None = None
        self.partial = False
        self.tries: list[Try] = []
        self.banner = ""
        self.remarks: list[str] = []
        """The server's SSH_MSG_DEBUG, which OpenSSH tells the options of a key in."""
        self.user = ""
        self.done = False
        self.failures = 0
        self.agent: Facts = {}
        self.sources: dict[str, str] = {}
        self.algorithms = ""
        """server-sig-algs (RFC 8308 §3.1)."""
        self.inferred: Facts = {}
        """What a capture's lengths tell of the login."""

    def waiting(self) -> Try | None:
        """What the next answer of the server is for: `none` may have been sent right before another request,
        and is answered first (RFC 4252 §5.1)."""
        waiting = [tried for tried in self.tries[-2:] if tried.answer == ""]
        if len(waiting) == 2 and waiting[0].method == "none":
            return waiting[0]
        return waiting[-1] if waiting and waiting[-1] is self.tries[-1] else None


class Session:
    """Channels of the type session."""

    def __init__(self) -> None:
        self.opened = 0
        self.refused: tuple[int, str] | None = None
        self.numbers: dict[int, int] = {}
        self.asked: list[tuple[int, str, str]] = []
        """Requests without an answer yet: channel, name, what was asked."""
        self.denied: list[str] = []
        self.granted: list[str] = []
        self.command = ""
        self.status: int | None = None
        self.signal = ""
        self.said = ""
        """The beginning of what the program wrote."""
        self.late = ""
        """What did not come in time."""


class End:
    """How it ended."""

    def __init__(self) -> None:
        self.type = ""
        self.text = ""
        self.hint = ""
        self.clause = ""
        self.eof = False
        self.socket = ""
        self.both_ways = False
        """A capture has both directions: it saw TCP begin."""
        self.ways: set[str] = set()
        """How a capture's directions ended."""
        self.unfinished = ""
        """What a peer without an identification had said of an unfinished line."""
        self.by_server: tuple[int, str] | None = None
        self.by_client: tuple[int, str] | None = None
        self.time = 0.0


class Story:
    """The facts of one connection. Call it with each record, or `told` with the error a call raised."""

    def __init__(self) -> None:
        self.role = ""
        self.began_at = 0.0
        """When it began, in seconds since 1970; 0: not known."""
        self.way = Way()
        self.opening = Opening()
        self.login = Login()
        self.session = Session()
        self.end = End()
        self._server_sends = False
        self._states: dict[str, Callable[[Facts], None]] = {
            name[4:]: getattr(self, name) for name in dir(self) if name.startswith("_on_")
        }

    def __call__(self, record: Record | SubsystemRecord) -> None:
        """Takes one record; raises nothing."""
        self.end.time = record.time
        if isinstance(record, StateRecord):
            handler = self._states.get(record.name)
            if handler is not None:
                handler(record.facts)
        elif isinstance(record, MessageRecord):
            self._message(record)

    def told(self, error: SSHError) -> None:
        """Takes the error that ended a call; the records may not have it."""
        if not self.end.type or not isinstance(error, AuthenticationFailed):
            self._on_error({"type": type(error).__name__, "text": str(error), "hint": error.hint})
        if isinstance(error, ChannelOpenFailed):
            self.session.refused = self.session.refused or (error.reason, clip(error))
        if isinstance(error, RequestFailed):
            name = "pty-req" if str(error).startswith("PTY") else str(error).partition(" ")[0]
            self.session.denied.append(clip(name))
        if isinstance(error, Disconnected):
            self.end.by_server = self.end.by_server or (error.reason, clip(error.description))

    # States, each by its name in `observe.record.STATES`

    def _on_started(self, f: Facts) -> None:
        self.role = str(f.get("role", ""))
        began = f.get("wall_time")
        self.began_at = began if isinstance(began, float) else 0.0
        self._server_sends = self.role == "server"

    def _on_resolving(self, f: Facts) -> None:
        self.way.host, self.way.port = clip(f.get("host", "")), int(f.get("port") or 0)
        self.way.resolving = True

    def _on_resolved(self, f: Facts) -> None:
        self.way.addresses = tuple(map(clip, f.get("addresses", ())))[:MOST]

    def _on_connecting(self, f: Facts) -> None:
        way = self.way
        way.host, way.port = way.host or clip(f.get("host", "")), int(f.get("port") or 0)
        way.user, way.trying = clip(f.get("user") or ""), clip(f.get("address", ""))

    def _on_connect_failed(self, f: Facts) -> None:
        if len(self.way.failures) < MOST:
            self.way.failures.append((clip(f.get("address", "")), clip(f.get("error", ""))))

    def _on_connected(self, f: Facts) -> None:
        way = self.way
        way.address, way.local, way.at = clip(f.get("address")), clip(f.get("local_address")), self.end.time
        way.port = int(f.get("port") or way.port)

    _on_accepted = _on_connected

    def _on_preface_line(self, f: Facts) -> None:
        if len(self.opening.preface) < MOST:
            self.opening.preface.append(clip(f.get("text", "")))

    def _on_preface_rest(self, f: Facts) -> None:
        self.end.unfinished = clip(f.get("text", ""))

    def _on_identification_sent(self, f: Facts) -> None:
        setattr(self.opening, "server" if self._server_sends else "client", clip(f.get("line", "")))

    def _on_identification_received(self, f: Facts) -> None:
        setattr(self.opening, "client" if self._server_sends else "server", clip(f.get("line", "")))

    def _on_negotiated(self, f: Facts) -> None:
        self.opening.negotiated = self.opening.negotiated or f

    def _on_host_key(self, f: Facts) -> None:
        self.opening.key = f

    def _on_host_key_verdict(self, f: Facts) -> None:
        self.opening.verdict = f

    def _on_known_hosts_bad_line(self, f: Facts) -> None:
        if len(self.opening.bad_lines) < MOST:
            self.opening.bad_lines.append(clip(f"{f.get('file')}:{f.get('line')}: {f.get('reason')}"))

    def _on_kex_done(self, _: Facts) -> None:
        self.opening.done = True

    def _on_extension(self, f: Facts) -> None:
        if f.get("name") == "server-sig-algs":
            self.login.algorithms = clip(f.get("value", ""))

    def _on_agent(self, f: Facts) -> None:
        self.login.agent = f

    def _on_auth_offer(self, f: Facts) -> None:
        if len(self.login.sources) < MOST:
            origin = " (agent)" if "agent" in str(f.get("origin", "")) else ""
            self.login.sources[str(f.get("fingerprint"))] = clip(f.get("source", "")) + origin

    def _on_auth_skipped(self, f: Facts) -> None:
        what, answer = clip(f.get("what", "")), f"skipped: {clip(f.get('reason', ''))}"
        last = self.login.tries[-1] if self.login.tries else None
        if last and last.answer == "would do" and last.identity.split()[-1] in what:
            last.asked, last.answer = True, answer
        elif what in ASKED and last and last.method == what and not last.answer:
            last.answer = answer
        elif what in ASKED:
            self._add(Try(what, answer=answer))
        else:
            self._add(Try("publickey", source=what, answer=answer))

    def _on_authenticated(self, f: Facts) -> None:
        self.login.done, self.login.user = True, clip(f.get("user", "") or self.login.user)

    def _on_channel_refused(self, f: Facts) -> None:
        if f.get("type") == "session":
            self.session.refused = (int(f.get("reason") or 0), clip(f.get("description", "")))

    def _on_inferred(self, f: Facts) -> None:
        if f.get("what") == "authenticated":
            self.login.done = True
        self.login.inferred = f

    def _on_tcp_handshake(self, _: Facts) -> None:
        self.end.both_ways = True

    def _on_ended(self, f: Facts) -> None:
        self.end.ways.add(str(f.get("how")))

    def _on_late(self, f: Facts) -> None:
        self.session.late = clip(f.get("what", ""))

    def _on_error(self, f: Facts) -> None:
        end = self.end
        end.type, end.text = clip(f.get("type", "")), str(f.get("text", ""))[:4000]
        end.hint, end.clause = str(f.get("hint") or ""), str(f.get("clause") or "")

    def _on_eof(self, f: Facts) -> None:
        self.end.eof, self.end.socket = True, clip(f.get("error") or "")

    # Messages

    def _message(self, record: MessageRecord) -> None:
        client = record.sent is not self._server_sends
        if not self.opening.done and record.number < 50:
            setattr(self.opening, "client_last" if client else "last", record.number)
        handler = _MESSAGES.get((client, record.number))
        if handler is None or (record.number in (94, 95) and len(self.session.said) >= LONGEST):
            return
        try:
            message: Any = decode(record.payload, record.context)
        except MalformedMessage:
            return
        if not isinstance(message, UnknownMessage):
            handler(self, message)

    def disconnected(self, message: t.Disconnect, *, client: bool) -> None:
        """SSH_MSG_DISCONNECT."""
        told = (message.reason_code, clip(message.description))
        if client:
            self.end.by_client = told
        else:
            self.end.by_server = told

    def kexinit(self, message: t.KexInit, *, client: bool) -> None:
        """The first SSH_MSG_KEXINIT of a side."""
        if client:
            self.opening.client_kex = self.opening.client_kex or message
        else:
            self.opening.server_kex = self.opening.server_kex or message

    def _add(self, made: Try) -> None:
        if len(self.login.tries) < MOST:
            self.login.tries.append(made)

    def request(self, message: a.UserauthRequest) -> None:
        """One request to log in; a signature belongs to the key that was asked about."""
        login, body = self.login, message.body
        login.began, login.user = True, clip(message.user_name)
        method = a.method_context(message.method_name)
        tried = Try(method)
        if isinstance(body, a.PublickeyRequest | a.HostboundRequest):
            certified = "-cert-" in body.algorithm
            print_ = self._certificate(tried, body.public_key) if certified else _fingerprint(body.public_key)
            if login.tries and login.tries[-1].answer == "would do" and print_ in login.tries[-1].identity:
                login.tries[-1].signed, login.tries[-1].asked, login.tries[-1].answer = True, True, ""
                return
            tried.identity = f"{clip(body.algorithm)} {print_}"
            tried.algorithm, tried.signed = clip(body.algorithm), body.has_signature
            tried.source = login.sources.get(print_, "")
        self._add(tried)

    def _certificate(self, tried: Try, blob: bytes) -> str:
        """Reads a certificate; returns the fingerprint of its key."""
        from ..crypto.signatures import PublicKey
        from ..keys.public import read_key  # late: few logins have one

        try:
            key = read_key(blob)
        except KeyFormatError as error:
            tried.objection = clip(error)
            return _fingerprint(blob)
        if not isinstance(key, PublicKey):
            names = ", ".join(key.principals) or "nobody"
            tried.certificate = clip(f"{key.issued}, for {names}, valid {key.validity}")
            # From wherever the user comes: what is objected to an address is not known here.
            where = key.source_addresses[0].partition("/")[0] if key.source_addresses else None
            tried.objection = key.objection("user", None, self.began_at, address=where)
        return key.fingerprint()

    def failed(self, message: a.UserauthFailure) -> None:
        """A request was refused, or was one step of several."""
        login = self.login
        login.methods, login.partial = tuple(map(clip, message.methods[:MOST])), message.partial_success
        last = login.waiting()
        if last is None:
            return
        login.failures += last.method != "none" and not message.partial_success
        probed = last.method == "publickey" and not last.signed
        last.answer = "partial" if message.partial_success else "not acceptable" if probed else "refused"

    def succeeded(self) -> None:
        """Logged in."""
        self.login.done = True
        tried = self.login.waiting() or (self.login.tries[-1] if self.login.tries else None)
        if tried is not None:
            tried.answer = "accepted"

    def would_do(self) -> None:
        """SSH_MSG_USERAUTH_PK_OK."""
        if self.login.tries:
            self.login.tries[-1].answer = "would do"

    def change_wanted(self) -> None:
        """SSH_MSG_USERAUTH_PASSWD_CHANGEREQ."""
        if self.login.tries:
            self.login.tries[-1].answer = "skipped: the password has expired"

    def remark(self, text: str) -> None:
        """SSH_MSG_DEBUG of the server."""
        if len(self.login.remarks) < MOST:
            self.login.remarks.append(clip(text))

    def banner(self, text: str) -> None:
        """What the server shows before the login."""
        self.login.banner = clip((self.login.banner + text)[:LONGEST])

    def opened(self, message: c.ChannelOpenConfirmation) -> None:
        """A channel is open; replies name ours, requests the server's number of it."""
        self.session.opened += 1
        if len(self.session.numbers) < MOST:
            self.session.numbers[message.sender_channel] = message.recipient_channel

    def refused(self, message: c.ChannelOpenFailure) -> None:
        """A channel was refused."""
        self.session.refused = (message.reason_code, clip(message.description))

    def asked(self, message: c.ChannelRequest) -> None:
        """The client asks something of a channel."""
        body = message.body
        if isinstance(body, c.Exec):
            self.session.command = clip(body.command)
        if message.want_reply and len(self.session.asked) < MOST:
            channel = self.session.numbers.get(message.recipient_channel, message.recipient_channel)
            self.session.asked.append((channel, clip(message.request_type), ""))

    def replied(self, channel: int, ok: bool) -> None:
        """The answer to the oldest request of a channel."""
        session = self.session
        for place, (number, name, _) in enumerate(session.asked):
            if number == channel:
                del session.asked[place]
                (session.granted if ok else session.denied).append(name)
                return

    def exited(self, message: c.ChannelRequest) -> None:
        """The program ended."""
        body = message.body
        if isinstance(body, c.ExitStatus):
            self.session.status = body.status
        elif isinstance(body, c.ExitSignal):
            self.session.signal = clip(body.signal_name)

    def wrote(self, data: bytes) -> None:
        """Output of the program."""
        room = LONGEST - len(self.session.said)
        if room > 0:
            self.session.said += visible(bytes(data[:room]).decode("utf-8", "replace").strip() + " ")


def _fingerprint(blob: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


Handler = Callable[[Story, Any], None]

_MESSAGES: Final[dict[tuple[bool, int], Handler]] = {
    (True, 1): lambda s, m: s.disconnected(m, client=True),
    (False, 1): lambda s, m: s.disconnected(m, client=False),
    (False, 4): lambda s, m: s.remark(m.message),
    (True, 20): lambda s, m: s.kexinit(m, client=True),
    (False, 20): lambda s, m: s.kexinit(m, client=False),
    (True, 50): lambda s, m: s.request(m),
    (False, 51): lambda s, m: s.failed(m),
    (False, 52): lambda s, m: s.succeeded(),
    (False, 53): lambda s, m: s.banner(m.message),
    (False, 60): lambda s, m: _sixty(s, m),
    (False, 91): lambda s, m: s.opened(m),
    (False, 92): lambda s, m: s.refused(m),
    (False, 94): lambda s, m: s.wrote(m.data),
    (False, 95): lambda s, m: s.wrote(m.data),
    (True, 98): lambda s, m: s.asked(m),
    (False, 98): lambda s, m: s.exited(m),
    (False, 99): lambda s, m: s.replied(m.recipient_channel, True),
    (False, 100): lambda s, m: s.replied(m.recipient_channel, False),
}
"""(the client sent it, number) -> what it tells."""


def _sixty(story: Story, message: Any) -> None:
    if isinstance(message, a.UserauthPkOk):
        story.would_do()
    elif isinstance(message, a.UserauthPasswdChangereq):
        story.change_wanted()
