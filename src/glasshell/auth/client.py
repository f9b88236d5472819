"""The client's half of RFC 4252 and 4256: asks for credentials one by one, and tries each.

What the server may send at any moment is what has a handler at that moment: the banner always, the
results while a request of ours is open, numbers 60 to 79 while their method is. All else is the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from ..crypto.signatures import plain_algorithm
from ..errors import AuthenticationFailed, LimitExceeded, ProtocolViolation, SSHError, UsageError
from ..events import (
    Attempt,
    Authenticated,
    BannerShown,
    CredentialNeeded,
    GssapiMethod,
    HostbasedMethod,
    InteractiveMethod,
    KeyMethod,
    NoneMethod,
    PasswordChangeNeeded,
    PasswordMethod,
    PromptsShown,
    PromptText,
    SignatureNeeded,
)
from ..keys.public import AnyKey
from ..messages.auth import (
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
    UserauthPasswdChangereq,
    UserauthPkOk,
    UserauthRequest,
    UserauthSuccess,
)
from ..messages.declare import Struct
from ..messages.transport import ServiceAccept, ServiceRequest
from ..transport.port import Port
from ..transport.rules import Handler, Phase
from ..wire import Secret, visible
from .methods import (
    CONNECTION,
    HOSTBOUND_EXTENSION,
    INTERACTIVE,
    MAX_PROMPTS,
    NONE,
    PASSWORD,
    PUBLICKEY,
    USERAUTH,
    KeyRequest,
    fits,
    signed_data,
)

MAX_BANNERS: Final = 64 * 1024
"""Most characters of banners, all together."""

METHOD_REPLY: Final = 60
"""The one number a server uses in all methods here: PK_OK, PASSWD_CHANGEREQ or INFO_REQUEST."""


class ClientAuth:
    """Logs `user` in over `port`; `done()` is called once, when the server has said SUCCESS.

    By then the phase is CONNECTION and no handler is installed: `done` installs the connection
    layer's. Each answer to `CredentialNeeded` makes one attempt; None ends with AuthenticationFailed,
    whose text lacks the `user@host: ` before it that only the shell knows.

    A server that lets the user in without any credential is told of as an attempt and a note; with
    `refuse_trivial` it is refused: it may be after what the user types next (CVE-2021-36367).
    """

    __slots__ = (
        "_announced", "_attempts", "_banner_left", "_done", "_handlers", "_methods", "_none_ahead",
        "_partial", "_port", "_proof", "_proved", "_refuse_trivial", "_served", "_trying", "_user",
        "_waiting", "accepted", "ahead",
    )  # fmt: skip

    def __init__(
        self, port: Port, user: str, done: Callable[[], None], *, refuse_trivial: bool = False
    ) -> None:
        self._port = port
        self._user = user
        self._done = done
        self._refuse_trivial = refuse_trivial
        self._served = False
        """Whether the server has accepted the service."""
        self._handlers: Mapping[int, Handler] = {}
        """What takes the answer that is awaited."""
        self._none_ahead = False
        """Whether `none` was sent right before another request, and its answer is still to come."""
        self._waiting: list[Callable[[], None]] = []
        """What is to be done, in order, once that has come."""
        self.ahead = False
        """Whether something was sent without waiting, and the first login request has no answer yet."""
        self.accepted = False
        """Whether the server has let the user in."""
        self._methods: tuple[str, ...] | None = None
        self._partial = False
        self._attempts: list[Attempt] = []
        self._trying = Attempt(NONE)
        self._announced = ""
        self._proof = False
        """Whether a credential has been used in the attempt at hand."""
        self._proved = False
        """Whether one was in an earlier step of this login."""
        self._banner_left = MAX_BANNERS

    def start(self) -> None:
        """Asks for the service ssh-userauth (RFC 4253 §10). Call once, when the first keys are in use.

        With `Policy.eager` the first login request does not wait for the answer: requests may be sent ahead,
        and are answered in order (RFC 4252 §5.1).
        """
        self._port.enter(Phase.SERVICE)
        self._listen()
        self._port.send(ServiceRequest(USERAUTH))
        if self._port.policy.eager:
            self.ahead = True
            self._ask()

    def _on_service_accept(self, payload: memoryview) -> None:
        accepted = ServiceAccept.decode(payload).service_name
        if accepted != USERAUTH:
            raise ProtocolViolation(
                f'the server accepted the service "{accepted}", not {USERAUTH}', clause="RFC 4253 10"
            )
        self._served = True
        self._port.enter(Phase.AUTH)
        if self._port.policy.eager:
            self._listen(self._handlers)
        else:
            self._ask()

    # --- one attempt after another

    def _ask(self) -> None:
        self._listen()
        question = CredentialNeeded(self._methods, self._partial, tuple(self._attempts))
        self._port.ask(question, self._try)

    def _try(self, credential: Any) -> None:
        match credential:
            case None:
                self._give_up()
            case NoneMethod():
                self._begin(Attempt(NONE))
                self._request(NONE, NoneRequest())
            case KeyMethod():
                if self._methods is None and self._port.policy.eager and not credential.probe:
                    self._send_none_ahead()
                self._try_key(credential)
            case PasswordMethod():
                self._begin(Attempt(PASSWORD, source=credential.source))
                self._send_password(PasswordRequest(False, credential.password))
            case InteractiveMethod():
                self._begin(Attempt(INTERACTIVE))
                request = KeyboardInteractiveRequest(submethods=credential.submethods)
                self._request(INTERACTIVE, request, reply=self._on_info_request)
            case HostbasedMethod():
                self._try_host(credential)
            case GssapiMethod():
                self._try_gssapi(credential)
            case _:
                raise UsageError("CredentialNeeded is answered with a Credential or None")

    def _begin(self, attempt: Attempt) -> None:
        self._trying = attempt
        self._proof = False
        method = attempt.method
        if method in (NONE, self._announced):
            return
        self._announced = method
        if self._none_ahead:
            self._waiting.append(lambda: self._tell_next(method))
        else:
            self._tell_next(method)

    def _tell_next(self, method: str) -> None:
        if hub := self._port.hub:
            tried = {method, *(a.method for a in self._attempts)}
            remaining = tuple(m for m in self._methods or () if m not in tried)
            hub.state("auth_next", method=method, remaining=remaining)

    def _request(
        self, method: str, body: Struct, *, reply: Handler | None = None, query: bool = False
    ) -> None:
        """Sends one request and installs what may answer it; `reply` is for METHOD_REPLY."""
        self._expect(reply, query=query)
        self._port.auth_context = self._trying.method
        self._port.send(UserauthRequest(self._user, CONNECTION, method, body))

    def _expect(
        self, reply: Handler | None, *, query: bool = False, more: Mapping[int, Handler] | None = None
    ) -> None:
        refused = "not acceptable" if query and more is None else "refused"
        handlers: dict[int, Handler] = {
            UserauthFailure.NUMBER: lambda payload: self._on_failure(payload, refused), **(more or {}),
        }  # fmt: skip
        if not query:  # a query is answered by PK_OK or FAILURE alone (RFC 4252 §7)
            handlers[UserauthSuccess.NUMBER] = self._on_success
        if reply is not None:
            handlers[METHOD_REPLY] = reply
        self._listen(handlers)

    def _listen(self, handlers: Mapping[int, Handler] | None = None) -> None:
        self._handlers = handlers or {}
        if not self._served:
            self._port.install({ServiceAccept.NUMBER: self._on_service_accept})
            return
        expected = self._handlers
        if self._none_ahead:
            expected = {
                UserauthFailure.NUMBER: self._on_none_refused, UserauthSuccess.NUMBER: self._on_none_accepted,
            }  # fmt: skip
        self._port.install({UserauthBanner.NUMBER: self._on_banner, **expected})

    # --- `none`, sent right before what is meant

    def _send_none_ahead(self) -> None:
        """Asks what the server takes and goes on: it costs no round trip and is no failure."""
        self._none_ahead = True
        self._port.send(UserauthRequest(self._user, CONNECTION, NONE, NoneRequest()))

    def _on_none_refused(self, payload: memoryview) -> None:
        failure = UserauthFailure.decode(payload)
        self._methods = failure.methods
        self._attempts.append(Attempt(NONE, answer="refused", methods=failure.methods))
        if hub := self._port.hub:
            hub.state("auth_methods", methods=failure.methods, partial=failure.partial_success)
        self._none_ahead = False
        self._listen(self._handlers)
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            action()

    def _on_none_accepted(self, payload: memoryview) -> None:
        """What followed `none` is ignored by the server (RFC 4252 §5.3)."""
        self._none_ahead = self._proof = False
        self._trying = Attempt(NONE)
        self._on_success(payload)

    def _record(self, answer: str) -> None:
        self._attempts.append(replace(self._trying, answer=answer, methods=self._methods or ()))

    def _skip(self, reason: str) -> None:
        """Passes over what was being tried. A method still open at the server is abandoned (RFC 4252 §5)."""
        if self._none_ahead:  # its answer comes first, and says what else there is to choose from
            self._waiting.append(lambda: self._skip(reason))
            return
        self._record(f"skipped: {reason}")
        if hub := self._port.hub:
            hub.state("auth_skipped", what=self._trying.identity or self._trying.method, reason=reason)
        self._ask()

    def _give_up(self) -> None:
        if hub := self._port.hub:
            hub.state("auth_exhausted")
        methods = self._methods or ()
        self._port.fail(
            AuthenticationFailed(
                f"Permission denied ({','.join(methods)}).",
                attempts=self._attempts,
                methods=methods,
                hint=_hint(self._attempts, methods),
            )
        )

    # --- results

    def _on_failure(self, payload: memoryview, refused: str) -> None:
        failure = UserauthFailure.decode(payload)
        self.ahead = False
        self._methods, self._partial = failure.methods, failure.partial_success
        self._record("partial" if self._partial else refused)
        if self._partial:
            self._announced = ""  # the next step starts over, be it by the same method
            self._proved = self._proved or self._proof
        if hub := self._port.hub:
            hub.state("auth_methods", methods=self._methods, partial=self._partial)
        self._ask()

    def _on_success(self, payload: memoryview) -> None:
        UserauthSuccess.decode(payload)
        self.ahead, self.accepted = False, True
        self._record("accepted")
        if not (self._proof or self._proved) and not self._take_trivial():
            return
        method = self._trying.method
        self._port.auth_context = ""
        self._port.install({})
        self._port.enter(Phase.CONNECTION)
        if hub := self._port.hub:
            hub.state("authenticated", user=visible(self._user), method=method)
        self._port.emit(Authenticated(self._user, method, tuple(self._attempts)))
        self._done()

    def _take_trivial(self) -> bool:
        text = f"the server let the user in without a credential, by the method {self._trying.method}"
        if hub := self._port.hub:
            hub.state("note", level="info", text=text)
        if self._refuse_trivial:
            hint = "a prompt that follows may be the server's, made to look like a local one"
            self._port.fail(AuthenticationFailed(text, attempts=self._attempts, hint=hint))
        return not self._refuse_trivial

    def _on_banner(self, payload: memoryview) -> None:
        text = UserauthBanner.decode(payload).message
        self._banner_left -= len(text)
        if self._banner_left < 0:
            raise LimitExceeded(f"banners of more than {MAX_BANNERS} characters", clause="RFC 4252 5.4")
        if shown := _readable(text):
            self._port.emit(BannerShown(shown))

    # --- publickey (RFC 4252 §7)

    def _try_key(self, offer: KeyMethod) -> None:
        key = offer.key
        algorithm = self._choose(offer)
        identity = f"{key.label} {key.fingerprint()}"
        self._begin(Attempt(
            PUBLICKEY, identity, offer.source, algorithm or "", note=offer.note, origin=offer.origin
        ))  # fmt: skip
        self._tell_key("auth_offer", offer)
        if algorithm is None:
            self._skip("no mutual signature algorithm")
        elif offer.probe:
            query = PublickeyRequest(False, algorithm, key.blob)
            self._request(
                PUBLICKEY, query, reply=lambda payload: self._on_pk_ok(payload, offer, algorithm), query=True
            )
        else:
            self._sign(key, algorithm)

    def _choose(self, offer: KeyMethod) -> str | None:
        """The first algorithm that key, offer, policy and server have in common (RFC 8332 §3.3)."""
        policy = self._port.policy
        announced = self._port.extensions.get("server-sig-algs")  # RFC 8308 §3.1
        theirs = None if announced is None else announced.split(b",")
        wanted = offer.algorithms or policy.pubkey_algorithms
        old = getattr(offer.key, "legacy_algorithms", ())
        if theirs is None and any(name in wanted for name in old):
            # Who announces nothing is from before SHA-2, where the policy reckons with such servers.
            wanted = (*(name for name in wanted if name in old), *wanted)
        for algorithm in wanted:
            if not fits(offer.key, algorithm, policy):
                continue
            # What a certificate is signed with is announced by its plain name (OpenSSH).
            if theirs is None or plain_algorithm(algorithm).encode() in theirs:
                return algorithm
        return None

    def _on_pk_ok(self, payload: memoryview, offer: KeyMethod, algorithm: str) -> None:
        answer = UserauthPkOk.decode(payload)
        if (answer.algorithm, answer.public_key) != (algorithm, offer.key.blob):
            raise ProtocolViolation(
                "PK_OK for a key or an algorithm that was not asked for", clause="RFC 4252 7"
            )
        self._tell_key("auth_key_accepted", offer)
        self._sign(offer.key, algorithm)

    def _sign(self, key: AnyKey, algorithm: str) -> None:
        self._listen()
        body = self._key_request(key, algorithm)
        method = HOSTBOUND if isinstance(body, HostboundRequest) else PUBLICKEY
        request = UserauthRequest(self._user, CONNECTION, method, body)
        if hub := self._port.hub:
            hub.state("auth_signing", algorithm=algorithm, fingerprint=key.fingerprint())
        data = signed_data(self._port.session_id, request)
        question = SignatureNeeded(key, plain_algorithm(algorithm), data)
        self._port.ask(question, lambda signature: self._send_signed(method, body, signature))

    def _key_request(self, key: AnyKey, algorithm: str) -> KeyRequest:
        """Host-bound where the server announced it, so that an agent can tell where a login leads."""
        if self._port.extensions.get(HOSTBOUND_EXTENSION) == b"0":
            return HostboundRequest(True, algorithm, key.blob, self._port.host_key.blob, b"")
        return PublickeyRequest(True, algorithm, key.blob, b"")

    def _send_signed(self, method: str, body: Any, signature: Any) -> None:
        if isinstance(signature, SSHError):
            self._skip(str(signature))
        elif not isinstance(signature, bytes):
            raise UsageError("SignatureNeeded is answered with bytes or an SSHError")
        else:
            self._proof = True
            self._request(method, replace(body, signature=signature))

    def _tell_key(self, name: str, offer: KeyMethod) -> None:
        if hub := self._port.hub:
            key = offer.key
            hub.state(
                name, key_type=key.label, fingerprint=key.fingerprint(),
                source=offer.source, origin=offer.origin,
            )  # fmt: skip

    # --- hostbased (RFC 4252 §9) and GSS-API (RFC 4462 §3)

    def _try_host(self, offer: HostbasedMethod) -> None:
        from .hostbased import HOSTBASED, algorithm_for, data_to_sign, host_request

        key, policy = offer.key, self._port.policy
        allowed = offer.algorithms or policy.hostbased_algorithms or policy.pubkey_algorithms
        algorithm = algorithm_for(key, allowed, policy.min_rsa_bits)
        identity = f"{key.label} {key.fingerprint()}"
        self._begin(Attempt(HOSTBASED, identity, offer.source, algorithm or ""))
        if algorithm is None:
            return self._skip("no mutual signature algorithm")
        request = host_request(self._user, offer, algorithm)
        if hub := self._port.hub:
            hub.state("auth_signing", algorithm=algorithm, fingerprint=key.fingerprint())
        data = data_to_sign(self._port.session_id, request)
        question = SignatureNeeded(key, plain_algorithm(algorithm), data)
        self._port.ask(question, lambda signature: self._send_signed(HOSTBASED, request.body, signature))

    def _try_gssapi(self, offer: GssapiMethod) -> None:
        from .gssapi import GSSAPI, GssapiClient

        def expect(more: Mapping[int, Handler], *, query: bool) -> None:
            self._expect(None, query=query, more=more)

        def proved() -> None:
            self._proof = True

        self._begin(Attempt(GSSAPI, offer.identity, offer.source))
        GssapiClient(
            self._port, self._user, offer, expect=expect, skip=self._skip, proved=proved
        ).start()

    # --- password (RFC 4252 §8)

    def _send_password(self, request: PasswordRequest) -> None:
        self._proof = True
        self._request(PASSWORD, request, reply=self._on_change_request)

    def _on_change_request(self, payload: memoryview) -> None:
        prompt = _readable(UserauthPasswdChangereq.decode(payload).prompt)
        self._listen()
        self._port.ask(PasswordChangeNeeded(prompt), self._change_password)

    def _change_password(self, answer: Any) -> None:
        match answer:
            case None:
                self._skip("the password has expired and was not changed")
            case (Secret() as old, Secret() as new):
                self._send_password(PasswordRequest(True, old, new))
            case _:
                raise UsageError("PasswordChangeNeeded is answered with two Secrets or None")

    # --- keyboard-interactive (RFC 4256)

    def _on_info_request(self, payload: memoryview) -> None:
        request = UserauthInfoRequest.decode(payload)
        count = len(request.prompts)
        if count > MAX_PROMPTS:
            raise LimitExceeded(f"{count} prompts at once; {MAX_PROMPTS} are allowed", clause="RFC 4256 3.2")
        self._listen()
        prompts = tuple(PromptText(_readable(p.prompt), p.echo) for p in request.prompts)
        question = PromptsShown(_readable(request.name), _readable(request.instruction), prompts)
        self._port.ask(question, lambda answers: self._respond(count, answers))

    def _respond(self, count: int, answers: Any) -> None:
        if answers is None:
            return self._skip("the prompts were not answered")
        given = tuple(answers)
        if len(given) != count or not all(isinstance(each, Secret) for each in given):
            raise UsageError(f"PromptsShown is answered with {count} Secrets or None")
        self._proof = self._proof or count > 0
        self._expect(self._on_info_request)
        self._port.send(UserauthInfoResponse(tuple(Response(each) for each in given)))


def _readable(text: str) -> str:
    """`text` of the server without what a terminal would obey (RFC 4256 §3.2, RFC 4251 §9.2)."""
    return "".join(c for c in text if c in "\n\t" or c.isprintable())


def _hint(attempts: list[Attempt], methods: tuple[str, ...]) -> str:
    """The likely remedy after a login that failed."""
    tried = {a.method for a in attempts if not a.answer.startswith("skipped")}
    if PUBLICKEY in tried and not tried & {PASSWORD, INTERACTIVE}:
        return "is one of the public keys offered in the account's ~/.ssh/authorized_keys on the server?"
    if tried & {PASSWORD, INTERACTIVE}:
        return "check the user name and the password"
    if PUBLICKEY in methods:
        return "no key was tried: name one with -i, or add it to an agent with ssh-add"
    return ""
