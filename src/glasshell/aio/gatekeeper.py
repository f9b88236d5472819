"""Who may log in to a server, and what a login may do there: the application's part."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..crypto.signatures import PublicKey
from ..events import Prompts, Question, Verdict
from ..keys.public import AnyKey
from ..values import slotted
from ..wire import Secret
from .process import Terminal

if TYPE_CHECKING:
    import socket

    from .server import ServerConnection
    from .session import ServerSession

__all__ = ["Gatekeeper", "KnownUsers", "LoggedIn", "Peer"]


@slotted(frozen=True)
class Peer:
    """The two ends of a TCP connection, the client's first. `hostname` is the client's name where names are
    looked up (UseDNS), and lead back to its address."""

    address: str
    port: int
    local_address: str
    local_port: int
    hostname: str | None = None


@slotted(frozen=True)
class LoggedIn:
    """A login: who, by which method, from where. `grants` are those of the verdicts that let it in."""

    user: str
    method: str
    peer: Peer
    grants: tuple[Any, ...] = ()


Answer: TypeAlias = bool | Verdict


class Gatekeeper:
    """Decides about logins; everything is refused until a subclass says otherwise.

    The verdicts on credentials are coroutines: they may take their time, meanwhile nothing of that client
    is read. A user that does not exist has to cost as much time as one that does.
    """

    methods: tuple[str, ...] = ("publickey",)
    """What the server offers to log in with: publickey, password, keyboard-interactive, and with `other`
    hostbased and gssapi-with-mic."""
    banner: str = ""
    """Shown before the login (RFC 4252 §5.4)."""
    empty_passwords: bool = False
    password_changes: bool = False
    """Whether `password` is asked about an empty one, and about a change; without it both are refused."""

    def of(self, connection: ServerConnection) -> Gatekeeper:
        """The gatekeeper of one connection; by default one serves them all."""
        return self

    async def none(self, user: str, peer: Peer) -> Answer:
        """May `user` in without anything?"""
        return False

    async def key(self, user: str, key: AnyKey, peer: Peer, *, signed: bool) -> Answer:
        """May `key` let `user` in? Without `signed` it is a query; the core checks the signature itself.
        `key` may be a certificate, which is to be judged: `Certificate.objection`."""
        return False

    async def password(self, user: str, password: Secret, peer: Peer, new: Secret | None) -> Answer:
        """Is this the password of `user`? With `new` it is to be changed."""
        return False

    async def interactive(self, user: str, submethods: str, peer: Peer) -> Answer | Prompts:
        """keyboard-interactive begins: prompts to show, or a verdict."""
        return False

    async def answers(self, user: str, answers: Sequence[Secret], peer: Peer) -> Answer | Prompts:
        """The answers to the last prompts: more prompts, or a verdict."""
        return False

    async def other(self, question: Question, peer: Peer) -> Any:
        """HostbasedOffered, or a question of gssapi-with-mic: GssapiStarted, GssapiTokenOffered,
        GssapiMicOffered. The answer is what that says, or a bool."""
        return False

    async def done(self, user: str, grants: Sequence[Any], peer: Peer) -> Answer:
        """Every step is done, after a Verdict with `confirm`: may the user in?"""
        return False

    def may_have_terminal(self, session: ServerSession, terminal: Terminal) -> bool:
        """May this session have a pseudo-terminal? Who opens a real one sets `session.tty` to its name."""
        return True

    def may_set(self, login: LoggedIn, name: str, value: str) -> bool:
        """May the client set this variable of the environment (AcceptEnv)?"""
        return name in ("LANG", "COLORTERM", "NO_COLOR") or name.startswith("LC_")

    def unused_timeout(self, login: LoggedIn) -> float:
        """Seconds after which a connection without channels is ended; 0: never."""
        return 0

    def agent_owner(self, login: LoggedIn) -> tuple[int, int] | None:
        """Whose socket it is, uid and gid, by which programs of this login reach the client's agent
        (`ServerSession.agent`); None: they may not."""
        return None

    def may_connect(self, login: LoggedIn, host: str, port: int) -> bool:
        """May this login have the server connect to `host` and `port` (direct-tcpip)?"""
        return False

    def listen_address(self, login: LoggedIn, host: str, port: int) -> str | None:
        """The address to bind where the client asks for `host` and `port` (tcpip-forward), None: refused."""
        return None

    async def connect_path(self, login: LoggedIn, path: str) -> socket.socket | None:
        """A socket connected, as the user, to the Unix domain socket `path`; None: not allowed.

        Raises OSError where that cannot be.
        """
        return None

    async def bind_path(self, login: LoggedIn, path: str) -> socket.socket | None:
        """A socket bound, as the user, to `path` in the file system; None: not allowed. Raises OSError."""
        return None


class KnownUsers(Gatekeeper):
    """Users with the keys, and the passwords, that are given: for embedded servers and for tests."""

    def __init__(
        self, keys: Mapping[str, Sequence[PublicKey]] | None = None,
        passwords: Mapping[str, str | Secret] | None = None,
    ) -> None:  # fmt: skip
        self._keys = {user: frozenset(listed) for user, listed in (keys or {}).items()}
        self._passwords = {
            user: value if isinstance(value, Secret) else Secret(value)
            for user, value in (passwords or {}).items()
        }
        self.methods = ("publickey",) * bool(self._keys) + ("password",) * bool(self._passwords)

    async def key(self, user: str, key: AnyKey, peer: Peer, *, signed: bool) -> Answer:
        return key in self._keys.get(user, ())

    async def password(self, user: str, password: Secret, peer: Peer, new: Secret | None) -> Answer:
        wanted = self._passwords.get(user)
        # Somebody unknown is compared too, with what nobody's password is.
        right = hmac.compare_digest(password.reveal(), wanted.reveal() if wanted else b"\0" * 16)
        return right and wanted is not None and new is None
