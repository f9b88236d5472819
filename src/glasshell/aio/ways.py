"""Ways to log in to an account: a small class for each method, which says whether somebody is who they say.

What is the same for all of them is not theirs: whether there is such an account and whether it may log in,
how long a refusal takes, what PermitRootLogin says, and which steps are still to come: see `shellgate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from ..auth.methods import METHODS, NONE, PASSWORD
from ..auth.steps import Step, Steps, read_lists
from ..config.options import ServerOptions
from ..errors import ConfigError
from ..events import GssapiTurn, Prompts, Question
from ..keys.authorized_keys import Permissions
from ..keys.public import AnyKey
from ..system.accounts import Account, is_root
from ..values import slotted
from ..wire import Secret
from .gatekeeper import Peer

if TYPE_CHECKING:
    from .pamprocess import PamProcess
    from .shellgate import AccountGatekeeper

__all__ = ["Admission", "Candidate", "Outcome", "Passed", "Rules", "Way", "enabled_ways"]

EVERYTHING = Permissions()


@slotted(frozen=True)
class Passed:
    """The way's yes. `permissions` restrict the login, beside all else that does.

    `shown` is what ExposeAuthInfo tells of it behind the method's name. `key` may not be used for another
    step. `keep` is handed on with the login, for whoever needs it later (an open PAM handle).
    `touch_required` and `verify_required` are what a security key's signature has to say of its holder.
    """

    permissions: Permissions = EVERYTHING
    shown: str = ""
    key: AnyKey | None = None
    keep: Any = None
    touch_required: bool = True
    verify_required: bool = False


@slotted(frozen=True)
class Admission:
    """What a verdict grants: one step, of one account, and what it lets the login do. `options` are those of
    the user. The core keeps it with the user whom it was for, and hands it out when all steps are done."""

    account: Account
    options: ServerOptions
    permissions: Permissions = EVERYTHING
    step: Step = Step("publickey")
    shown: str = ""
    key: AnyKey | None = None
    keep: Any = None

    @property
    def told(self) -> str:
        """The step as ExposeAuthInfo writes it."""
        return f"{str(self.step).replace(':', '/')} {self.shown}".rstrip()


Outcome: TypeAlias = Passed | Prompts | None
"""Yes, one more round of prompts, or no."""

More: TypeAlias = bytes | GssapiTurn
"""What a way says in between to questions of `other`, that is neither yes nor no."""


@slotted(frozen=True)
class Candidate:
    """Somebody who tries to log in as `user`. `options` are those that hold for this user from there.

    `account` is None where there is none, or none that may log in: the way does as much work as for one that
    may, and its yes is not believed. `passed` are the steps of the same user that are done. `hostname` is the
    name of where they come from, looked up and back; None: names are not looked up (UseDNS).
    """

    user: str
    account: Account | None
    options: ServerOptions
    peer: Peer
    passed: tuple[Admission, ...] = ()
    hostname: str | None = None


class Way:
    """One way to log in, for one connection: a subclass says which method it is, and answers its questions.

    Each answer is an Outcome. What a way starts it ends at `over`, called once, when the connection is over.
    """

    method: ClassVar[str]
    submethod: ClassVar[str] = ""
    """What stands behind the colon in AuthenticationMethods: `pam` of keyboard-interactive:pam."""

    def __init__(self, gate: AccountGatekeeper) -> None:
        self.gate = gate

    async def key(self, who: Candidate, key: AnyKey, *, signed: bool) -> Outcome:
        """publickey: is this one of theirs? The core checks the signature itself, after a yes."""
        return None

    async def password(self, who: Candidate, password: Secret, new: Secret | None) -> Outcome:
        """password: is this theirs? `new` where it is to be changed. Empty: `none` was tried."""
        return None

    async def interactive(self, who: Candidate, submethods: str) -> Outcome:
        """keyboard-interactive begins; a conversation that was open is abandoned."""
        return None

    async def answers(self, who: Candidate, answers: Sequence[Secret]) -> Outcome:
        """The answers to the prompts of the last round."""
        return None

    async def other(self, who: Candidate, question: Question) -> Outcome | More:
        """A question of hostbased or gssapi-with-mic: see `Gatekeeper.other`."""
        return None

    def expect(self) -> None:
        """Somebody tries to log in, whoever that is: `confirm` may be asked before long."""

    async def confirm(self, who: Candidate) -> str:
        """All steps are done, signatures checked: why the account may not log in all the same, or nothing.

        Asked of ways with `confirms` only, by whichever method somebody came: PAM's account management.
        """
        return ""

    confirms: ClassVar[bool] = False

    equal: ClassVar[bool] = True
    """Whether it does as much for who does not exist; where it cannot, refusals are given as much time."""

    session: PamProcess | None = None
    """What programs are started by, where the way holds a session for them."""
    message: str = ""
    """What is shown at the beginning of a session on a terminal."""

    def environment(self, account: Account) -> dict[str, str]:
        """What a step that was passed with `keep=self` adds to the environment of the login's programs."""
        return {}

    def over(self) -> None:
        """The connection is over."""


class Rules:
    """What the configuration says about the logins of one user: the ways there are, and the steps wanted."""

    __slots__ = ("confirming", "options", "steps", "ways")

    def __init__(self, options: ServerOptions, ways: Mapping[str, type[Way]] | None = None) -> None:
        self.options = options
        self.ways = enabled_ways(options) if ways is None else ways
        if options.permit_empty_passwords and PASSWORD in self.ways:
            self.ways = {**self.ways, NONE: self.ways[PASSWORD]}  # whose password is empty needs to type none
        self.confirming = tuple(name for name, way in self.ways.items() if way.confirms and name != NONE)
        enabled = [method for method in (*METHODS, NONE) if method in self.ways]
        self.steps: Steps | None
        """None where no login can be."""
        try:
            self.steps = Steps(enabled, read_lists(getattr(options, "authentication_methods", ())))
        except ConfigError:
            self.steps = None

    def allows(self, method: str, passed: Sequence[Step]) -> bool:
        """Whether `method` may be tried now."""
        way = self.ways.get(method)
        return (
            way is not None
            and self.steps is not None
            and self.steps.allows(Step(method, way.submethod), passed)
        )

    def submethod(self, method: str) -> str:
        """What judges `method` here."""
        return self.ways[method].submethod if method in self.ways else ""

    def following(self, passed: Sequence[Step]) -> tuple[str, ...]:
        """The methods that can continue."""
        return self.steps.following(passed) if self.steps is not None else ()

    def complete(self, passed: Sequence[Step]) -> bool:
        """Whether the login is done."""
        return self.steps is not None and self.steps.complete(passed)


def enabled_ways(options: ServerOptions) -> dict[str, type[Way]]:
    """The ways that a server with these options can offer, in the order in which they are listed.

    Imported late: what nobody has switched on costs nothing. A way that only confirms stands under a name
    that is no method's.
    """
    ways: dict[str, type[Way]] = {}
    if options.pubkey:
        from .keyway import KeyWay

        ways[KeyWay.method] = KeyWay
    if options.use_pam or (options.password_authentication and is_root()):
        from .passwords import ways as by_password

        ways |= by_password(options)
    if options.hostbased_authentication:
        from .hostway import HostWay

        ways[HostWay.method] = HostWay
    if options.gssapi_authentication:
        from .gssway import GssapiWay

        ways[GssapiWay.method] = GssapiWay
    return ways
