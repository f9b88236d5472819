"""What to log in with, and in which order: the client's answers to the core's questions of RFC 4252."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from ..crypto.signatures import PrivateKey, PublicKey
from ..errors import KeyFormatError, SSHError
from ..events import (
    Attempt,
    Credential,
    CredentialNeeded,
    GssapiTokenNeeded,
    GssapiTurn,
    InteractiveMethod,
    KeyMethod,
    NoneMethod,
    PasswordChangeNeeded,
    PasswordMethod,
    PromptsShown,
    SignatureNeeded,
)
from ..values import slotted
from ..wire import Secret
from .agent import Agent, Binding
from .identity import (
    DEFAULT_FILES,
    AskPassphrase,
    CertificateLike,
    Identity,
    KeyLike,
    State,
    about,
    certificate_beside,
    collect,
    mark,
    read_certificate,
    read_identity,
)

if TYPE_CHECKING:
    from .otherways import OtherWay

__all__ = ["ORDER", "Asking", "Login"]

ORDER: Final = ("publickey", "keyboard-interactive", "password")
"""PreferredAuthentications of ssh_config(5), without the methods that are not built."""

OTHERS: Final = {
    "gssapi-with-mic": ("tickets", "there are no Kerberos tickets; kinit gets some"),
    "hostbased": ("host keys", "they are not set up here"),
}  # fmt: skip
"""Methods that `others` are for, and what is passed over, and why, where there is none for one."""

PASSWORD_TRIES: Final = 3
"""NumberOfPasswordPrompts of ssh_config(5)."""

AskPassword: TypeAlias = Callable[[str], Awaitable[Secret | None]]
Keep: TypeAlias = Callable[[PrivateKey, str], Awaitable[None]]
"""Is given each private key that a file was opened for, and the file's path (AddKeysToAgent)."""
AskPrompts: TypeAlias = Callable[[PromptsShown], Awaitable[Sequence[Secret] | None]]


@slotted(frozen=True, kw_only=True)
class Asking:
    """Whom to ask; None: nobody (BatchMode). Each may answer None: pass it over.

    `warn` hears the lines that ssh(1) writes on standard error meanwhile.
    """

    passphrase: AskPassphrase | None = None
    password: AskPassword | None = None
    prompts: AskPrompts | None = None
    warn: Callable[[str], None] = lambda text: None


_NOTHING: Final[set[bytes]] = set()
"""What is left of what was tried, of every login that is over."""


class Login:
    """Chooses credentials as ssh(1) does: `none` first, to learn what the server takes; then method after
    method in `order`, each until it has nothing left; after a partial success all of them anew.

    One object serves one connection. `skipped` is what was passed over, as attempts.
    """

    __slots__ = (
        "_accepted", "_agent", "_agent_only", "_asking", "_binding", "_certificates", "_eager", "_favourite",
        "_given", "_interactive_asked", "_interactive_tries", "_keep", "_keys", "_last", "_missing",
        "_most_tries", "_order", "_others", "_passphrase", "_password", "_password_tries", "_preparing",
        "_seen", "_signers", "_skipped", "_sole", "_state", "_trying", "_used", "restricted", "who",
    )  # fmt: skip

    def __init__(
        self, user: str, host: str, *, keys: Sequence[KeyLike] | None = None, agent: Agent | None = None,
        agent_only: bool = False, passphrase: Secret | None = None, password: Secret | None = None,
        order: Sequence[str] | None = None, asking: Asking | None = None, state: State | None = None,
        tries: int = PASSWORD_TRIES, certificates: Sequence[CertificateLike] = (), keep: Keep | None = None,
        others: Sequence[OtherWay] = (),
    ) -> None:  # fmt: skip
        """`keys` are private keys and files; None: the user's own. `agent_only` is IdentitiesOnly: of the
        agent's keys only those that `keys` names. `certificates` are tried first (CertificateFile); without
        them FILE-cert.pub beside each file of `keys`. `state` hears records as `Hub.state`,
        and `keep` each private key of a file that was of use.

        Without `order` it is OpenSSH's, but a `password` that is given, while nobody can be asked, is
        tried as such before keyboard-interactive. `tries` is how often a person is asked, by each of both.
        `others` are further ways; without `order` they come first, as in OpenSSH.
        """
        self.who = f"{user}@{host}"
        self.restricted = ""
        """Why no password may be given: the host key was let pass without being trusted. Empty: it may."""
        self._asking = asking or Asking()
        self._state = state or (lambda name, **facts: None)
        self._agent = agent
        self._binding: Binding | None = None
        self._keep = keep
        self._agent_only = agent_only
        self._passphrase = passphrase
        self._password = password
        self._most_tries = tries
        self._eager = False
        self._favourite = ""
        self._preparing: asyncio.Task[None] | None = None
        if order is None:
            alone = password is not None and self._asking.prompts is None
            order = ("publickey", "password", "keyboard-interactive") if alone else ORDER
            order = (*(way.method for way in others), *order)
        self._order = tuple(order)
        named = DEFAULT_FILES if keys is None else keys
        self._given: list[Identity] = []
        for item in named:
            self._given.append(identity := read_identity(item, explicit=keys is not None))
            if not certificates and (beside := certificate_beside(identity)) is not None:
                self._given.append(beside)
        self._certificates = [read_certificate(item, explicit=True) for item in certificates]
        self._skipped: list[tuple[int, Attempt]] = []
        self._seen = 0
        self._used: set[bytes] = set()
        self._accepted: set[bytes] = set()
        self._last: bytes | None = None
        self._signers: dict[bytes, Identity] = {}
        self._others = tuple(others)
        self._trying: OtherWay | None = None
        self._missing: set[str] = set()
        self._begin()

    def tell_files(self) -> None:
        """Tells the records which files will be considered."""
        for identity in self._given:
            if identity.file is not None and (identity.key is None or isinstance(identity.key, PublicKey)):
                key_type = identity.key.type if identity.key else ""
                self._state("identity_file", path=identity.source, type=key_type)

    def bind(self, binding: Binding) -> None:
        """The host is known by now: from here on the agent is told where its signatures go."""
        self._binding = binding
        if self._agent is not None:
            self._agent = self._agent.bound(binding)

    def at(self, sock: socket.socket) -> None:
        """The connection is there, over this socket."""
        for way in self._others:
            way.at(sock)

    def hurry(self, favourite: str) -> None:
        """From here on a key is not asked about first where its signature asks nobody; the one with the
        mark `favourite` comes before all others. Call before the first question."""
        self._eager, self._favourite = True, favourite

    async def prepare(self) -> None:
        """Gets what `credential` and `sign` will need first, while the server is still to answer."""
        self._preparing = asyncio.current_task()
        await self._find_keys()

    def over(self) -> None:
        """The user is in: lets go of what was gathered for it."""
        self._preparing = self._last = self._agent = self._binding = None
        self._begin()
        self._used = self._accepted = _NOTHING
        self._given, self._certificates = [], []
        for way in self._others:
            way.over()
        self._others = ()
        self._trying = None
        self._signers = {}

    def _begin(self) -> None:
        for way in self._others:
            way.begin()
        self._keys: deque[Identity] | None = None
        self._sole = False
        self._interactive_tries = 0
        self._interactive_asked = True
        self._password_tries = 0

    def _begin_again(self) -> None:
        """The next step of a login may want a key that was refused in this one, but none it has taken."""
        if self._last is not None:
            self._accepted.add(self._last)
        self._used = set(self._accepted)
        self._begin()

    def attempts(self, tried: Sequence[Attempt]) -> tuple[Attempt, ...]:
        """What the core has `tried`, with what was passed over in its place."""
        # Stable sorting: what was passed over before the nth attempt stands right before it.
        numbered = [*self._skipped, *enumerate(tried)]
        return tuple(attempt for _, attempt in sorted(numbered, key=lambda pair: pair[0]))

    # The core's questions

    async def credential(self, question: CredentialNeeded) -> Credential | None:
        """The next thing to try, or None: nothing is left."""
        self._seen = len(question.attempts)
        if question.methods is None:
            return await self._unasked() or NoneMethod()
        if question.partial:
            self._begin_again()
        self._last = self._trying = None
        for method in self._order:
            if method in question.methods:
                credential = await self._next(method)
                if credential is not None:
                    return credential
        return None

    async def sign(self, question: SignatureNeeded) -> bytes | SSHError:
        """The signature by the key that was offered, or why there is none: the key is passed over."""
        if self._trying is not None:
            return await self._trying.sign(question)
        identity = self._signers[question.key.blob]
        identity = identity.signer or identity
        try:
            if identity.agent is not None and identity.key is not None:
                agent = identity.agent.bound(self._binding)
                return await agent.sign(identity.key.blob, question.algorithm, question.data)
            private = await identity.open(self._passphrase, self._asking.passphrase)
            if private.public.type.startswith("sk-"):
                signature = await self._touched(private, question.data)
            else:
                signature = private.sign(question.algorithm, question.data)
            if self._keep is not None and identity.file is not None:
                await self._keep(private, str(identity.file))
            return signature
        except SSHError as error:
            return error
        except OSError as error:
            return KeyFormatError(f"{identity.source}: {error.strerror or error}")

    async def token(self, question: GssapiTokenNeeded) -> GssapiTurn | SSHError:
        """The next token of the mechanism that was offered."""
        if self._trying is None:
            return KeyFormatError("nothing here makes tokens")
        return await self._trying.token(question)

    async def _touched(self, private: PrivateKey, data: bytes) -> bytes:
        """The signature of a security key that is plugged in, and that somebody touches. Raises SSHError."""
        from ..agent.held import security_key
        from ..system import fido

        public = private.public
        self._asking.warn(f"Confirm user presence for key {public.label} {public.fingerprint()}")
        return await asyncio.to_thread(fido.sign, security_key(private), data)

    async def prompts(self, question: PromptsShown) -> Sequence[Secret] | None:
        """The answers to the server's prompts."""
        self._interactive_asked = True
        if not question.prompts and not (question.name or question.instruction):
            return ()
        if self._asking.prompts is not None:
            return await self._asking.prompts(question)
        if not question.prompts:
            return ()
        hidden_one = len(question.prompts) == 1 and not question.prompts[0].echo
        return (self._password,) if hidden_one and self._password is not None else None

    async def new_password(self, question: PasswordChangeNeeded) -> tuple[Secret, Secret] | None:
        """The old and the new password, asked for as ssh(1) does."""
        ask = self._asking.password
        if ask is None:
            return None
        if question.prompt:
            self._asking.warn(question.prompt)
        old = await ask(f"Enter {self.who}'s old password: ")
        while old is not None:
            new = await ask(f"Enter {self.who}'s new password: ")
            if not new:
                return None
            if await ask(f"Retype {self.who}'s new password: ") == new:
                return old, new
            self._asking.warn("Mismatch; try again, EOF to quit.")
        return None

    # One method after the other

    async def _next(self, method: str) -> Credential | None:
        if method == "publickey":
            return await self._next_key()
        for way in self._others:
            if way.method == method:
                self._trying = way
                return await way.credential(lambda what, why: self._skip(method, what, why))
        if method in OTHERS:
            if method not in self._missing:
                self._missing.add(method)
                self._skip(method, *OTHERS[method])
            return None
        if self.restricted:
            self._state("auth_skipped", what=method, reason=self.restricted)
            return None
        if method == "keyboard-interactive":
            return self._next_interactive()
        if method == "password":
            return await self._next_password()
        return None

    async def _unasked(self) -> KeyMethod | None:
        """The first key, to be sent before the server has said what it takes; None: `none` has to ask."""
        idle = set(OTHERS) - {way.method for way in self._others if way.ready}
        if not self._eager or [name for name in self._order if name not in idle][:1] != ["publickey"]:
            return None
        keys = await self._find_keys()
        if keys and keys[0].key is not None and await self._signs_unasked(keys[0]):
            return await self._next_key()
        return None

    async def _find_keys(self) -> deque[Identity]:
        if self._preparing is not None and self._preparing is not asyncio.current_task():
            await asyncio.wait([self._preparing])
        if self._keys is None:
            found = await collect(
                self._given, self._agent, only=self._agent_only, certificates=self._certificates,
                skipped=lambda what, reason: self._skip("publickey", what, reason),
            )  # fmt: skip
            if self._favourite:
                found.sort(key=lambda i: i.key is None or mark(i.key) != self._favourite)
            self._keys, self._sole = deque(found), len(found) == 1
            if self._eager and found:
                await self._signs_unasked(found[0])
        return self._keys

    async def _signs_unasked(self, identity: Identity) -> bool:
        """Whether a signature by this key asks nobody anything.

        An agent may ask its owner, which cannot be seen: it is asked for the key that was enough last time,
        and for the only one there is. What a signature tells a server beyond a query is that the key is at
        hand just now; the query has told whose it is.
        """
        key = identity.key
        if key is None or key.type.startswith("sk-"):
            return False
        identity = identity.signer or identity
        if identity.agent is not None:
            return self._sole or mark(key) == self._favourite
        try:
            await identity.open(self._passphrase, None)
        except (SSHError, OSError):
            return False
        return True

    async def _next_key(self) -> KeyMethod | None:
        keys = await self._find_keys()
        while keys:
            identity = keys.popleft()
            probe = identity.key is not None and not (self._eager and await self._signs_unasked(identity))
            key = identity.key
            if key is None:
                try:
                    key = (await identity.open(self._passphrase, self._asking.passphrase)).public
                except (SSHError, OSError) as error:
                    self._skip("publickey", identity.source, str(error))
                    continue
            # The same key twice, by file and by agent, would only use up the server's patience.
            if key.blob not in self._used:
                self._used.add(key.blob)
                self._last = key.blob
                self._signers[key.blob] = identity
                return KeyMethod(key, identity.source, identity.origin, probe=probe, note=about(key))
        return None

    def _next_interactive(self) -> InteractiveMethod | None:
        tries = self._most_tries if self._asking.prompts is not None else int(self._password is not None)
        # A server that showed no prompt would not show one the next time either.
        if self._interactive_tries >= tries or not self._interactive_asked:
            return None
        self._interactive_tries += 1
        self._interactive_asked = False
        return InteractiveMethod()

    async def _next_password(self) -> PasswordMethod | None:
        self._password_tries += 1
        if self._password is not None:
            return PasswordMethod(self._password, "given") if self._password_tries == 1 else None
        if self._asking.password is None or self._password_tries > self._most_tries:
            return None
        if self._password_tries > 1:
            self._asking.warn("Permission denied, please try again.")
        password = await self._asking.password(f"{self.who}'s password: ")
        return PasswordMethod(password, "asked") if password is not None else None

    def _skip(self, method: str, what: str, reason: str) -> None:
        # Who hurries looks for keys before `none` is sent, and tries them after it all the same.
        attempt = Attempt(method, source=what, answer=f"skipped: {reason}")
        self._skipped.append((max(self._seen, self._eager), attempt))
        self._state("auth_skipped", what=what, reason=reason)
