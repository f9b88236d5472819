"""The server's half of RFC 4252 and 4256: parses each request, asks for a verdict, answers.

While a verdict is open nothing of the client is dispatched (the questions hold), so that one request
is judged at a time. Each outcome has one place where it is sent, and the same outcome the same bytes,
whoever the user is (CVE-2018-15473).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..crypto.signatures import PublicKey, key_type_of
from ..errors import KeyFormatError, LimitExceeded, ProtocolViolation, ServiceNotAvailable, UsageError
from ..events import (
    Authenticated,
    HostbasedOffered,
    InteractiveAnswered,
    InteractiveStarted,
    KeyOffered,
    LoginDone,
    NoneOffered,
    PasswordOffered,
    Prompts,
    Question,
    Verdict,
)
from ..keys.public import AnyKey, read_key
from ..messages.auth import (
    GssapiRequest,
    HostbasedRequest,
    HostboundRequest,
    KeyboardInteractiveRequest,
    NoneRequest,
    PasswordRequest,
    Prompt,
    PublickeyRequest,
    UserauthBanner,
    UserauthFailure,
    UserauthInfoRequest,
    UserauthInfoResponse,
    UserauthPkOk,
    UserauthRequest,
    UserauthSuccess,
    method_context,
)
from ..messages.declare import Message
from ..messages.transport import ServiceAccept, ServiceRequest
from ..transport.port import Port
from ..transport.rules import Handler, Phase
from ..values import replace, slotted
from ..wire import string, visible
from .methods import CONNECTION, MAX_PASSWORD, METHODS, NONE, USERAUTH, KeyRequest, fits, signed_data

Done = Callable[[str, str, tuple[Any, ...]], None]


def _ignore(payload: memoryview) -> None:
    """A request after success is ignored, unread (RFC 4252 §5.1)."""


LATE_REQUESTS: Final[Mapping[int, Handler]] = {UserauthRequest.NUMBER: _ignore}
"""Handlers that go with the connection layer's once a user is in: clients may have sent ahead."""


@slotted(frozen=True)
class _Step:
    """The request that is being judged."""

    user: str
    method: str
    key: AnyKey | None = None
    submethod: str = ""


class ServerAuth:
    """Lets a user in over `port`; `done(user, method, grants)` is called once, after SUCCESS.

    By then the phase is CONNECTION and no handler is installed: `done` installs the connection
    layer's, and LATE_REQUESTS. `methods` are offered until a Verdict says otherwise; what is not
    offered is refused without a question. `banner` goes out before the first reply. An empty password
    and a change of password are refused unasked, unless allowed here.

    Of a Verdict, `accepted` decides; `partial` counts only beside it. Raises UsageError for a method
    that is not built.
    """

    def __init__(
        self,
        port: Port,
        done: Done,
        *,
        methods: tuple[str, ...] = METHODS,
        banner: str = "",
        empty_passwords: bool = False,
        password_changes: bool = False,
    ) -> None:
        self._port = port
        self._done = done
        self._offered = _known(methods)
        self._banner = banner
        self._empty_passwords = empty_passwords
        self._password_changes = password_changes
        self._user: str | None = None
        self._valid = True
        """Whether there is such a user, as far as a verdict has said."""
        self._methods = self._offered
        """What can continue, for this user, after the steps done."""
        self._grants: list[Any] = []
        self._requests = 0
        """Messages of the client that were judged."""
        self._attempts = 0
        self._failures = 0
        self._last_key: AnyKey | None = None

    @property
    def passed(self) -> tuple[Any, ...]:
        """The grants of the steps that are done, of the user who is asking now, whoever that is: what
        another has done is forgotten before a question about this one is asked."""
        return tuple(self._grants)

    def show_banner(self, text: str) -> None:
        """Shows `text` before the answer to what is being judged (RFC 4252 §5.4)."""
        self._banner += text

    def start(self) -> None:
        """Waits for the request of ssh-userauth (RFC 4253 §10). Call once, when the first keys are in use."""
        self._port.install({ServiceRequest.NUMBER: self._on_service_request})
        self._port.enter(Phase.SERVICE)

    def _on_service_request(self, payload: memoryview) -> None:
        wanted = ServiceRequest.decode(payload).service_name
        if wanted != USERAUTH:
            raise ServiceNotAvailable(f'the client asked for the service "{wanted}" before {USERAUTH}')
        self._port.send(ServiceAccept(USERAUTH))
        self._port.enter(Phase.AUTH)
        self._listen()

    def _on_service_again(self, payload: memoryview) -> None:
        """A client may ask before each attempt, as paramiko does; an open conversation is abandoned."""
        self._count()
        self._on_service_request(payload)

    def _listen(self, handlers: Mapping[int, Handler] | None = None) -> None:
        always = {ServiceRequest.NUMBER: self._on_service_again, UserauthRequest.NUMBER: self._on_request}
        self._port.install({**always, **(handlers or {})})

    # --- requests

    def _on_request(self, payload: memoryview) -> None:
        request = UserauthRequest.decode(payload)
        self._count()
        self._check(request)
        self._listen()  # a conversation that is open is abandoned (RFC 4252 §5)
        self._become(request.user_name)
        step = _Step(request.user_name, method_context(request.method_name))
        self._port.auth_context = step.method
        self._tell_request(request)
        self._attempts += 1
        if step.method == NONE or step.method in self._methods:
            self._judge(step, request)
        else:
            self._refuse(step)

    def _count(self) -> None:
        """Counts everything that makes the server work, whatever the outcome (CVE-2015-5600)."""
        self._requests += 1
        if self._requests > self._port.policy.max_auth_requests:
            raise LimitExceeded("Too many authentication requests", clause="RFC 4252 4")

    def _check(self, request: UserauthRequest) -> None:
        if request.service_name != CONNECTION:
            raise ServiceNotAvailable(
                f'a login for the service "{request.service_name}"; there is {CONNECTION}',
                clause="RFC 4252 5",
            )
        if "\0" in request.user_name:
            raise ProtocolViolation("a user name with a NUL in it", clause="RFC 4252 5")

    def _become(self, user: str) -> None:
        """Another user starts from nothing: no step, no grant and no list is carried over (RFC 4252 §5)."""
        if user != self._user:
            self._user = user
            self._valid = True
            self._methods = self._offered
            self._grants.clear()

    def _judge(self, step: _Step, request: UserauthRequest) -> None:
        match request.body:
            case NoneRequest():
                self._ask(step, NoneOffered(step.user))
            case PublickeyRequest() | HostboundRequest() as body:
                self._judge_key(step, request, body)
            case PasswordRequest() as body:
                self._judge_password(step, body)
            case KeyboardInteractiveRequest() as body:
                question = InteractiveStarted(step.user, body.submethods)
                self._port.ask(question, lambda answer: self._converse(step, answer), hold=True)
            case HostbasedRequest() as body:
                self._judge_host(step, request, body)
            case GssapiRequest() as body:
                self._judge_gssapi(step, body)
            case _:
                self._refuse(step)

    def _ask(self, step: _Step, question: Question) -> None:
        self._port.ask(question, lambda verdict: self._settle(step, verdict), hold=True)

    # --- publickey (RFC 4252 §7)

    def _judge_key(self, step: _Step, request: UserauthRequest, body: KeyRequest) -> None:
        key = self._read_key(body)
        if key is None:
            return self._refuse(step)
        step = replace(step, key=key)
        question = KeyOffered(step.user, key, body.algorithm, body.has_signature)
        if body.has_signature:
            self._port.ask(question, lambda verdict: self._verify(step, request, verdict), hold=True)
        else:
            self._port.ask(question, lambda verdict: self._answer_query(step, body, verdict), hold=True)

    def _read_key(self, body: KeyRequest) -> AnyKey | None:
        """The key of a request, or None where policy, the blob itself or the host key is against it."""
        policy = self._port.policy
        key_type = key_type_of(body.algorithm) or ""
        # Before its blob is parsed: what is not allowed, by either name, does no harm (OpenSSH 10.5).
        if body.algorithm not in policy.pubkey_algorithms or not body.public_key.startswith(
            string(key_type.encode())
        ):
            return None
        if isinstance(body, HostboundRequest) and body.host_key != self._port.host_key.blob:
            return None
        key = self._last_key
        if key is None or key.blob != body.public_key:  # it was read for the query before
            try:
                key = self._last_key = read_key(body.public_key, prove=False)
            except KeyFormatError:
                return None
        by_authority = isinstance(key, PublicKey) or key.signature_algorithm in policy.ca_signature_algorithms
        return key if by_authority and fits(key, body.algorithm, policy) else None

    def _answer_query(self, step: _Step, body: KeyRequest, verdict: Any) -> None:
        """A query grants nothing: nothing of it is kept (CVE-2024-45337)."""
        if not _verdict(verdict).accepted:
            self._settle(step, verdict)
        elif self._read_key(body) is None:  # the policy has become another one meanwhile: this user's
            self._refuse(step)
        else:
            self._reply(UserauthPkOk(body.algorithm, body.public_key))

    def _verify(self, step: _Step, request: UserauthRequest, verdict: Any) -> None:
        body = request.body
        assert isinstance(body, KeyRequest)
        assert step.key is not None
        data = signed_data(self._port.session_id, request)
        told, key = _verdict(verdict), step.key
        if told.accepted and self._read_key(body) is None:
            return self._refuse(step)
        verify = told.verify_required or (not isinstance(key, PublicKey) and key.verify_required)
        signature = body.signature or b""
        if told.accepted and not key.verify(
            body.algorithm, signature, data, touch_required=told.touch_required, verify_required=verify
        ):
            if key.plain.type.startswith("sk-") and key.verify(
                body.algorithm, signature, data, touch_required=False
            ):
                self._tell_unmet(step, touch=told.touch_required, data=data, body=body)
            return self._refuse(step)
        self._settle(step, verdict)

    def _tell_unmet(self, step: _Step, *, touch: bool, data: bytes, body: KeyRequest) -> None:
        """A security key has signed, but nobody touched it, or it did not verify who: for the log alone."""
        if (hub := self._port.hub) is None or step.key is None:
            return
        untouched = touch and not step.key.verify(body.algorithm, body.signature or b"", data)
        what = "user presence (authenticator touch)" if untouched else "user verification"
        text = f"public key {step.key.label} {step.key.fingerprint()} signature for {visible(step.user)}"
        hub.state("note", level="error", text=f"{text} rejected: {what} requirement not met")

    # --- password (RFC 4252 §8)

    def _judge_password(self, step: _Step, body: PasswordRequest) -> None:
        if self._worth_asking(body):
            self._ask(step, PasswordOffered(step.user, body.password, body.new_password))
        else:
            self._refuse(step)

    def _worth_asking(self, body: PasswordRequest) -> bool:
        if body.change and not (self._password_changes and body.new_password):
            return False
        if not body.password and not self._empty_passwords:
            return False
        given = (body.password, *([body.new_password] if body.new_password else []))
        # A NUL would end the password for whatever is written in C behind this.
        return all(len(each) <= MAX_PASSWORD and b"\0" not in each.reveal() for each in given)

    # --- hostbased (RFC 4252 §9) and GSS-API (RFC 4462 §3)

    def _judge_host(self, step: _Step, request: UserauthRequest, body: HostbasedRequest) -> None:
        from .hostbased import data_to_sign, read_host_key

        key = read_host_key(body, self._port.policy)
        if key is None:
            return self._refuse(step)
        step = replace(step, key=key)

        def verify(verdict: Any) -> None:
            data = data_to_sign(self._port.session_id, request)
            if _verdict(verdict).accepted and not key.verify(body.algorithm, body.signature, data):
                return self._refuse(step)
            self._settle(step, verdict)

        host = body.client_host_name.removesuffix(".")
        question = HostbasedOffered(step.user, key, body.algorithm, host, body.client_user_name)
        self._port.ask(question, verify, hold=True)

    def _judge_gssapi(self, step: _Step, body: GssapiRequest) -> None:
        from .gssapi import GssapiServer

        GssapiServer(
            self._port, step.user, count=self._count, listen=self._listen, reply=self._reply,
            settle=lambda answer: self._settle(step, answer),
        ).start(body)  # fmt: skip

    # --- keyboard-interactive (RFC 4256)

    def _converse(self, step: _Step, answer: Any) -> None:
        if not isinstance(answer, Prompts):
            return self._settle(step, answer)
        count = len(answer.prompts)
        self._listen(
            {UserauthInfoResponse.NUMBER: lambda payload: self._on_info_response(payload, step, count)}
        )
        prompts = tuple(Prompt(p.text, p.echo) for p in answer.prompts)
        self._reply(UserauthInfoRequest(answer.name, answer.instruction, "", prompts))

    def _on_info_response(self, payload: memoryview, step: _Step, count: int) -> None:
        responses = UserauthInfoResponse.decode(payload).responses
        self._count()
        self._listen()  # one response to each request (RFC 4256 §3.4)
        if len(responses) != count:
            return self._refuse(step)
        question = InteractiveAnswered(step.user, tuple(r.response for r in responses))
        self._port.ask(question, lambda answer: self._converse(step, answer), hold=True)

    # --- outcomes

    def _settle(self, step: _Step, answer: Any) -> None:
        verdict = _verdict(answer)
        step = replace(step, submethod=verdict.submethod)
        self._valid = self._valid and verdict.valid
        if not verdict.accepted:
            self._continue_with(verdict.methods)
            self._refuse(step)
        elif verdict.partial:
            # What has succeeded should not be listed again (RFC 4252 §5.1).
            left = tuple(m for m in self._methods if m != step.method)
            self._continue_with(left if verdict.methods is None else verdict.methods)
            self._grants.append(verdict.grant)
            self._tell_verdict(step, accepted=True, partial=True)
            self._reply(UserauthFailure(self._methods, True))
        elif verdict.confirm:
            question = LoginDone(step.user, (*self._grants, verdict.grant))
            self._port.ask(question, lambda last: self._confirm(step, verdict, last), hold=True)
        else:
            self._grants.append(verdict.grant)
            self._succeed(step)

    def _confirm(self, step: _Step, verdict: Verdict, last: Any) -> None:
        last = _verdict(last)
        self._settle(step, replace(verdict, confirm=False) if last.accepted else last)

    def _continue_with(self, methods: tuple[str, ...] | None) -> None:
        if methods is not None:
            self._methods = _known(methods)

    def _refuse(self, step: _Step) -> None:
        self._tell_verdict(step, accepted=False, partial=False)
        # Clients open with `none` to learn the methods; that is no failure (as OpenSSH has it).
        if step.method != NONE or self._attempts > 1:
            self._failures += 1
        if self._failures >= self._port.policy.max_auth_failures:
            self._port.fail(LimitExceeded("Too many authentication failures", clause="RFC 4252 4"))
        else:
            self._reply(UserauthFailure(self._methods, False))

    def _succeed(self, step: _Step) -> None:
        self._tell_verdict(step, accepted=True, partial=False)
        self._reply(UserauthSuccess())
        grants = tuple(self._grants)
        self._port.auth_context = ""
        self._port.install({})
        self._port.enter(Phase.CONNECTION)
        if hub := self._port.hub:
            hub.state("authenticated", user=visible(step.user), method=step.method)
        self._port.emit(Authenticated(step.user, step.method, grants=grants))
        self._done(step.user, step.method, grants)

    def _reply(self, message: Message) -> None:
        if self._banner:
            self._port.send(UserauthBanner(self._banner))
            self._banner = ""
        self._port.send(message)

    def _tell_request(self, request: UserauthRequest) -> None:
        if hub := self._port.hub:
            hub.state(
                "auth_request", user=visible(request.user_name), service=request.service_name,
                method=request.method_name, attempt=self._attempts, failures=self._failures,
            )  # fmt: skip

    def _tell_verdict(self, step: _Step, *, accepted: bool, partial: bool) -> None:
        if hub := self._port.hub:
            key = step.key
            hub.state(
                "auth_verdict", user=visible(step.user), method=step.method, submethod=step.submethod,
                accepted=accepted, partial=partial, key_type=key.label if key else "",
                fingerprint=key.fingerprint() if key else "", certificate=visible(key.issued) if key else "",
                valid=self._valid,
            )  # fmt: skip


def _known(methods: tuple[str, ...]) -> tuple[str, ...]:
    for method in methods:
        if method not in METHODS:
            raise UsageError(f'no authentication method "{method}"; there are {", ".join(METHODS)}')
    return tuple(methods)


def _verdict(answer: Any) -> Verdict:
    if not isinstance(answer, Verdict):
        raise UsageError("a login request is answered with a Verdict")
    return answer
