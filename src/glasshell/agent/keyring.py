"""The agent itself, without I/O: the keys it holds, and what its clients may do with them (RFC 9987).

Every request is answered; what cannot be read, is not known or may not be is answered by a failure, and told
to the log. A constraint is held to, or its key is not taken.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from ..crypto.signatures import PrivateKey
from ..errors import LimitExceeded, MalformedMessage, SSHError
from ..keys.certificate import read_key
from ..keys.patterns import match_list
from ..messages.declare import Message, UnknownMessage, decode
from ..values import field, slotted
from ..wire import Secret, visible
from . import adding
from . import messages as m
from .destinations import Bound, SignedLogin, allowed, login_in, read_routes
from .held import Held, SecurityKey, read_private, rsa_algorithm

__all__ = ["ALLOWED_PROVIDERS", "Answer", "Ask", "Client", "Keyring", "Touch", "Wait"]

MAX_KEYS: Final = 2048
"""Most keys held: a client takes no more of them (OpenSSH's own bound)."""

MAX_HOPS: Final = 16
"""Most hops a client may be bound to, and MAX_SESSION_ID bytes each: OpenSSH's own bounds."""

MAX_SESSION_ID: Final = 128

ALLOWED_PROVIDERS: Final = "/usr/lib*/*,/usr/local/lib*/*"
"""ssh-agent(1) -P: where libraries of tokens may lie."""

LONGEST_WAIT: Final = 10.0
"""Seconds that a wrong password costs at most; the first costs a tenth, each more costs a tenth more."""

ROUNDS: Final = 20_000

SUCCESS: Final = m.Success().encode()
FAILURE: Final = m.Failure().encode()


@slotted(frozen=True)
class Ask:
    """The owner has to be asked: `text`. `then(yes)` is the answer to the request."""

    text: str
    then: Callable[[bool], Answer]


@slotted(frozen=True)
class Touch:
    """The security key of `key` has to sign `data`, for which a person touches it: `text` asks for that."""

    text: str
    key: SecurityKey
    data: bytes
    then: Callable[[bytes | None], bytes]
    """What the signature, or None where there is none, is answered with."""


@slotted(frozen=True)
class Wait:
    """The answer, but only after so many seconds."""

    seconds: float
    answer: bytes


Answer: TypeAlias = bytes | Ask | Touch | Wait


@slotted(eq=False)
class Client:
    """One connection to the agent: where it leads, hop by hop."""

    way: list[Bound] = field(default_factory=list)
    tried: bool = False
    """Whether it has said, or tried to say, where it leads."""


class Keyring:
    """The keys of an agent. Times are seconds: `now` by a clock that only goes forward, `wall` since 1970."""

    def __init__(
        self, *, lifetime: int = 0, providers: str = ALLOWED_PROVIDERS, remote_providers: bool = False,
        websafe: bool = True, hash: str = "sha256", random: Callable[[int], bytes],
        tell: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        """`lifetime` is for keys that come without one, 0: for good. `providers` are patterns of libraries,
        `remote_providers` whether a forwarded client may name one. `websafe`: a security key that is not
        made for SSH signs what is of SSH alone. `hash` is that of the fingerprints which people are shown.
        `tell(level, text)` hears what happens."""
        self._hash = hash
        self.keys: dict[bytes, Held] = {}
        """By blob, in the order in which they came."""
        self.locked = False
        self._lifetime = lifetime
        self._providers = providers.split(",")
        self._remote_providers = remote_providers
        self._websafe = websafe
        self._random = random
        self._tell = tell
        self._lock = (b"", b"")
        self._wrong = 0

    def expire(self, now: float) -> float | None:
        """Forgets the keys whose time is over; when the next one's is."""
        for blob, held in tuple(self.keys.items()):
            if held.dies is not None and held.dies <= now:
                self._tell("debug1", f"expiring key '{visible(held.comment)}'")
                del self.keys[blob]
        return min((held.dies for held in self.keys.values() if held.dies is not None), default=None)

    def handle(self, client: Client, message: bytes, now: float, wall: float) -> Answer:
        """What is answered to one message of `client`. Never raises."""
        self.expire(now)
        try:
            return self._dispatch(client, decode(message, m.CONTEXT), now, wall)
        except SSHError as error:
            number = message[0] if message else 0
            if number == m.Extension.NUMBER:  # what may have been to say where it leads, and said it badly
                client.tried = True
            self._tell("error", f"request {number} is refused: {error}")
            return FAILURE

    def _dispatch(self, client: Client, request: Message | UnknownMessage, now: float, wall: float) -> Answer:
        if self.locked and not isinstance(request, m.Unlock):
            if isinstance(request, m.RequestIdentities):
                return m.IdentitiesAnswer(()).encode()
            # Where a client leads is noted all the same: it must not pass for a local one later.
            if not (isinstance(request, m.Extension) and isinstance(request.contents, m.SessionBind)):
                return FAILURE
        match request:
            case m.RequestIdentities():
                return self._list(client, wall)
            case m.SignRequest():
                return self._sign(client, request, wall)
            case adding.AddIdentity() | adding.AddIdConstrained():
                return self._add(client, request, now, wall)
            case m.RemoveIdentity(key=blob):
                return self._remove(client, blob, wall)
            case m.RemoveAllIdentities() | m.RemoveAllRsaIdentities():
                self.keys.clear()
                return SUCCESS
            case m.Lock(passphrase=password):
                return self._shut(password)
            case m.Unlock(passphrase=password):
                return self._open(password)
            case m.Extension():
                return self._extension(client, request)
            case adding.AddSmartcardKey() | adding.AddSmartcardKeyConstrained():
                return self._add_card(client, request)
            case adding.RemoveSmartcardKey():
                return FAILURE
        raise MalformedMessage("no request of an agent's client")

    # --- what may be seen, and used

    def _objection(self, held: Held, client: Client, user: str | None, wall: float) -> str:
        if not held.routes:
            return ""
        if client.tried and not client.way:
            return "the client could not say where it leads"
        return allowed(held.routes, client.way, user, wall)

    def _list(self, client: Client, wall: float) -> bytes:
        seen = [held for held in self.keys.values() if not self._objection(held, client, None, wall)]
        return m.IdentitiesAnswer(tuple(m.HeldKey(held.key.blob, held.comment) for held in seen)).encode()

    def _sign(self, client: Client, request: m.SignRequest, wall: float) -> Answer:
        held = self.keys.get(request.key)
        if held is None:
            self._tell("verbose", "asked to sign by a key that is not here")
            return FAILURE
        login = login_in(request.data, held.key.blob)
        if held.routes and (objection := self._sign_objection(held, client, login, wall)):
            self._tell("error", f"{visible(held.comment)} is held to its destinations: {objection}")
            return FAILURE
        if not held.confirm:
            return self._signed(held, request)
        shown = held.key.fingerprint(self._hash)
        text = f"Allow use of key {visible(held.comment)}?\nKey fingerprint {shown}."
        if login is not None and held.routes:
            text += f'\npublic key authentication request for user "{visible(login.user)}" to listed host'

        def answered(yes: bool) -> Answer:
            if yes and not self.locked and self.keys.get(request.key) is held:
                return self._signed(held, request)
            self._tell("verbose", "the use of a key was not allowed")
            return FAILURE

        return Ask(text, answered)

    def _sign_objection(self, held: Held, client: Client, login: SignedLogin | None, wall: float) -> str:
        """Why a key with destinations does not sign, as in OpenSSH's ssh-agent."""
        if not client.way:
            return "the client has not said where it leads"
        if login is None:
            return "what is to be signed is no login"
        if objection := self._objection(held, client, login.user, wall):
            return objection
        here = client.way[-1]
        if login.session_id != here.session_id:
            return "the login is for another session"
        if len(client.way) > 1 and login.host_key is None:
            return "the login does not say for which host it is"
        if login.host_key is not None and login.host_key != here.key.blob:
            return "the login is for another host"
        return ""

    def _signed(self, held: Held, request: m.SignRequest) -> Answer:
        private = held.private
        if isinstance(private, PrivateKey):
            name = private.public.type
            algorithm = rsa_algorithm(request.flags) if name == "ssh-rsa" else name
            return m.SignResponse(private.sign(algorithm, request.data)).encode()
        if self._websafe and not private.application.startswith("ssh:") and not _of_ssh(held, request.data):
            self._tell("error", "refusing to sign with a security key: what it is given is not of SSH")
            return FAILURE
        shown = f"{private.public.label} {private.public.fingerprint(self._hash)}"
        text = f"Confirm user presence for key {shown}"
        return Touch(text, private, request.data, _response)

    # --- keys come and go

    def _add(
        self, client: Client, request: adding.AddIdentity | adding.AddIdConstrained, now: float, wall: float
    ) -> bytes:
        key, private = read_private(request.type, request.key)
        held = Held(key, private, request.comment)
        if isinstance(request, adding.AddIdConstrained):
            self._constrain(client, held, request.constraints, now)
        if held.dies is None and self._lifetime:
            held.dies = now + self._lifetime
        there = self.keys.get(key.blob)
        if there is not None and (objection := self._objection(there, client, None, wall)):
            self._tell("error", f"a key that the client may not see stays as it is: {objection}")
            return FAILURE
        if there is None and len(self.keys) >= MAX_KEYS:
            raise LimitExceeded(f"{MAX_KEYS} keys are held already")
        self.keys[key.blob] = held
        self._tell("debug1", f"add {key.type} {key.fingerprint()} \"{visible(held.comment)}\"")
        return SUCCESS

    def _constrain(
        self, client: Client, held: Held, constraints: tuple[adding.Constraint, ...], now: float
    ) -> None:
        """Puts the constraints on a key. Raises SSHError for one that cannot be held to."""
        provider: str | None = None
        seen: set[Any] = set()
        for each in constraints:
            contents = each.contents
            if isinstance(contents, adding.ConstraintExtension):
                contents = contents.contents
            if type(contents) in seen:
                raise MalformedMessage("a constraint that is said twice")
            seen.add(type(contents))
            match contents:
                case adding.Lifetime(seconds=seconds):
                    held.dies = now + seconds
                case adding.Confirm():
                    held.confirm = True
                case adding.RestrictDestination():
                    held.routes = read_routes(contents)
                case adding.SkProvider():
                    provider = contents.provider
                case _:
                    raise MalformedMessage(f"a constraint of type {each.type} that is not known here")
        if provider is not None:
            self._check_provider(client, held, provider)

    def _check_provider(self, client: Client, held: Held, provider: str) -> None:
        """Raises SSHError unless `provider` is our own way to security keys: no library is ever loaded."""
        if not isinstance(held.private, SecurityKey):
            raise MalformedMessage(f"a provider for a key of type {held.key.type}, which needs none")
        if provider.lower() != "internal":
            raise MalformedMessage(self._no_provider(client, provider))

    def _no_provider(self, client: Client, provider: str) -> str:
        if client.way and not self._remote_providers:
            return "a forwarded client may not name a library"
        if not match_list(provider, self._providers):
            return f"the library {visible(provider)} is not among those that are allowed"
        return f"the library {visible(provider)} is not loaded: this agent loads none"

    def _add_card(
        self, client: Client, request: adding.AddSmartcardKey | adding.AddSmartcardKeyConstrained
    ) -> bytes:
        self._tell("error", f"refusing a PKCS#11 token: {self._no_provider(client, request.provider)}")
        return FAILURE

    def _remove(self, client: Client, blob: bytes, wall: float) -> bytes:
        held = self.keys.get(blob)
        if held is None or self._objection(held, client, None, wall):
            return FAILURE
        del self.keys[blob]
        return SUCCESS

    # --- the lock

    def _digest(self, password: Secret, salt: bytes) -> bytes:
        return hashlib.pbkdf2_hmac("sha256", password.reveal(), salt, ROUNDS)

    def _shut(self, password: Secret) -> bytes:
        if self.locked or not password:
            return FAILURE
        salt = self._random(16)
        self._lock = (salt, self._digest(password, salt))
        self.locked = True
        self._tell("debug1", "agent locked")
        return SUCCESS

    def _open(self, password: Secret) -> Answer:
        if not self.locked or not password:
            return FAILURE
        salt, digest = self._lock
        if hmac.compare_digest(digest, self._digest(password, salt)):
            self.locked, self._lock, self._wrong = False, (b"", b""), 0
            self._tell("debug1", "agent unlocked")
            return SUCCESS
        self._wrong += 1
        return Wait(min(self._wrong / 10, LONGEST_WAIT), FAILURE)

    # --- extensions

    def _extension(self, client: Client, request: m.Extension) -> bytes:
        match request.contents:
            case m.SessionBind():
                client.tried = True
                return self._bind(client, request.contents)
            case m.Query():
                names = m.ExtensionNames(tuple(m.ExtensionName(name) for name in m.EXTENSIONS))
                return m.ExtensionResponse("query", names.encode()).encode()
        if request.type == "session-bind@openssh.com":
            client.tried = True
        return FAILURE

    def _bind(self, client: Client, told: m.SessionBind) -> bytes:
        key = read_key(told.host_key)
        if len(told.session_id) > MAX_SESSION_ID or len(client.way) >= MAX_HOPS:
            raise LimitExceeded("a client that leads over more hops than are allowed")
        if not _vouches(key, told):
            raise MalformedMessage("a session whose host has not signed it")
        for bound in client.way:
            if not bound.forwarding:
                raise MalformedMessage("the client was bound to a login before")
            if bound.session_id == told.session_id:
                if bound.key == key:
                    return SUCCESS
                raise MalformedMessage("the client was bound to that session with another host key before")
        client.way.append(Bound(key, told.session_id, told.forwarding))
        return SUCCESS


def _vouches(key: Any, told: m.SessionBind) -> bool:
    """Whether the host has signed the session id, by whichever algorithm of its key."""
    return any(key.verify(algorithm, told.signature, told.session_id) for algorithm in key.algorithms)


def _of_ssh(held: Held, data: bytes) -> bool:
    """Whether what is to be signed is a login, or a signature of ssh-keygen -Y (OpenSSH PROTOCOL.sshsig)."""
    return data.startswith(b"SSHSIG") or login_in(data, held.key.blob) is not None


def _response(signature: bytes | None) -> bytes:
    return FAILURE if signature is None else m.SignResponse(signature).encode()
