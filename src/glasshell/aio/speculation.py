"""What a client sends before its time, and what happens where that was in vain.

Three round trips are the least that SSH can do: TCP's own; both identifications and KEXINITs with the key
exchange; everything else. For that the client leads with what the server will put first (RFC 4253 §7.1),
logs in without being asked how, and asks for its session in the same breath, by the number that the server
gives its first channel. A guess never decides anything: what does not fit is said again, in turns. Whatever
might have run is not sent twice: only a server that has said no, or given a channel another number, has
certainly run nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from ..crypto.registry import Kind, find
from ..errors import (
    ConnectionClosed,
    ConnectionLost,
    Disconnected,
    PeerError,
    SpeculationFailed,
    SSHError,
)
from ..policy import Policy
from ..values import slotted
from .memory import MAX_TEXT, Memory, Remembered, today
from .trust import Trust

GRUDGE: Final = 30
"""Days after which a server that took offence, or misled us, gets another chance."""

__all__ = ["IN_TURNS", "Plan", "Speculation", "plan"]

T = TypeVar("T")

FIRST_CHANNELS: Final = {"OpenSSH_": 0, "glasshell_": 0}
"""How servers are known to number their first channel, by the beginning of their software's name."""


@slotted(frozen=True)
class Plan:
    """What is sent ahead. Nothing of it is `IN_TURNS`."""

    kex: str = ""
    host_key: str = ""
    """What to lead with, and to guess by: both or none."""
    eager: bool = False
    """Whether the first login request goes with SERVICE_REQUEST."""
    key: str = ""
    """The mark of the key that was enough to log in last time (`identity.mark`)."""
    channel: int | None = None
    """How the server numbers its first channel, if that is known."""

    def apply(self, policy: Policy) -> Policy:
        """`policy`, led by the guess: its lists are put in another order, and are the same lists."""
        if not self.kex:
            return policy.but(eager=self.eager)
        return policy.but(
            eager=self.eager, guess=True, kex=_led(policy.kex, self.kex),
            host_key_algorithms=_led(policy.host_key_algorithms, self.host_key),
        )  # fmt: skip


IN_TURNS: Final = Plan()


def plan(known: Remembered, policy: Policy, trust: Trust, user: str, *, fixed: Sequence[str] = ()) -> Plan:
    """What may be sent ahead to a server that is `known`. `fixed` are the lists of `policy` ("kex",
    "host_key_algorithms") whose order the user gave: that one stays."""
    if _recent(known.in_turns):
        return IN_TURNS
    kex, host_key = known.kex, known.host_key
    leads = (
        _may_lead(kex, policy.kex, "kex" in fixed)
        and host_key in policy.host_key_algorithms
        and (host_key == policy.host_key_algorithms[0] or "host_key_algorithms" not in fixed)
        and not _recent(known.misled)
        and trust.leads(host_key, policy.min_rsa_bits)
    )  # fmt: skip
    guess = {"kex": kex, "host_key": host_key} if leads else {}
    channel = known.channel if known.channel != -1 and not known.unproven else None
    return Plan(eager=True, key=known.logins.get(user, ""), channel=channel, **guess)


def _recent(day: int) -> bool:
    return bool(day) and 0 <= today() - day < GRUDGE


def _may_lead(name: str, allowed: Sequence[str], fixed: bool) -> bool:
    """Whether a key exchange may be put first. One that a quantum computer breaks may not pass one that it
    does not: the server may have learned the better one since."""
    if name not in allowed:
        return False
    return name == allowed[0] or (not fixed and (_hybrid(name) or not any(map(_hybrid, allowed))))


def _hybrid(name: str) -> bool:
    return bool(find(Kind.KEX, name).context == "hybrid")


def _led(names: Sequence[str], first: str) -> tuple[str, ...]:
    return (first, *(name for name in names if name != first))


def _name(software: str) -> str:
    """The software without its comments, which tinyssh makes others for each connection."""
    return software.partition(" ")[0][:MAX_TEXT]


class Speculation:
    """One connection's speculation: what is remembered of the server, what is tried, what came of it.

    `state` hears records, as `Hub.state`.
    """

    __slots__ = ("_blame", "_state", "asked", "bold", "exchanged", "host", "known", "memory", "plan", "user")

    def __init__(
        self, memory: Memory, trust: Trust, policy: Policy, user: str, state: Callable[..., None], *,
        fixed: Sequence[str] = (), bold: bool = False,
    ) -> None:  # fmt: skip
        self.bold = bold
        self.memory = memory
        self.host = trust.name
        self.user = user
        self.known = memory.recall(trust.name)
        self.plan = plan(self.known, policy, trust, user, fixed=fixed)
        self.exchanged = False
        """Whether keys have been exchanged, so that the guess is behind us."""
        self.asked = False
        """Whether a program was asked for before the login had an answer."""
        self._state = state
        self._blame: dict[str, Any] = {}
        """What is to be remembered of a server that disliked something, once it is met in turns."""

    async def connect(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What `attempt()` returns; it is called once more, with nothing sent ahead, where the first one
        fails with SpeculationFailed."""
        try:
            return await attempt()
        except SpeculationFailed as failure:
            if self.plan is IN_TURNS:
                raise
            if isinstance(failure.__cause__, ConnectionClosed | PeerError):
                # One thing at a time: the session first, and the rest only if that was not it.
                self._blame = {"channel": -1, "proven": False} if self.asked else {"in_turns": today()}
        self.plan, self.asked, self.exchanged = IN_TURNS, False, False
        return await attempt()

    def tell(self, session: bool) -> None:
        """Tells the records what is sent ahead; `session`: whether a program is asked for as well."""
        plan = self.plan
        if plan is not IN_TURNS:
            guess = (plan.kex, plan.host_key) if plan.kex else ()
            session = session and bool(plan.key) and plan.channel is not None
            self._state("speculation", guess=guess, login=plan.eager, session=session)

    def may_ask(self, login: str) -> bool:
        """Whether a program may be asked for right behind a login by the key with this mark."""
        return bool(login) and self.plan.key == login and self.plan.channel is not None

    def first_channel(self, software: str) -> int | None:
        """How the server will number its first channel; None: not known. By its name alone only for who is
        `bold`: a server that opens no channel ends a connection on which it is asked things of one."""
        known = self.known if self.known.software == _name(software) else Remembered()
        if self.plan is IN_TURNS or known.channel == -1:
            return None
        found = [number for name, number in FIRST_CHANNELS.items() if software.startswith(name)]
        if known.channel is None:
            return found[0] if found and self.bold else None
        return known.channel if known.proven or known.channel in found else None

    # How it ended

    def excuses(self, error: SSHError, *, begun: bool, ahead: bool, opening: bool) -> bool:
        """Whether `error`, which ended the connection, may come of what was sent ahead, and it is certain
        that nothing was run. `begun`: the server has identified itself; `ahead`: the login has no answer;
        `opening`: there is no channel yet but one that was asked for ahead.
        """
        if self.plan is IN_TURNS or not begun:
            return False
        if isinstance(error, SpeculationFailed):
            return True
        if self.asked:
            # No program runs on a channel that the server has not called open; what it says comes in order,
            # and nobody else can say it. An end without a word may hide that it had said so.
            return opening and isinstance(error, Disconnected)
        guessing = bool(self.plan.kex) and not self.exchanged
        return (guessing or ahead) and isinstance(error, Disconnected | ConnectionLost | PeerError)

    def logged_in(self, software: str, offered: tuple[str, str], key: str) -> None:
        """Remembers the server that has let the user in; `key`: the one that was enough, or empty."""
        name = _name(software)
        changes: dict[str, Any] = {"software": name, "kex": offered[0], "host_key": offered[1]}
        if name != self.known.software:
            changes |= {"in_turns": 0, "misled": 0, "channel": None, "proven": False}
        self._note(login=key, **changes, **self._blame)
        self._blame = {}

    def opened(self, number: int) -> None:
        """Remembers how the server numbered its first channel."""
        known = self.known.channel
        if known == -1:
            return
        proven = {"proven": True} if self.asked else {}
        self._note(channel=number if known in (None, number) else -1, **proven)

    def late(self, software: str) -> None:
        """Remembers that a server sat on what it was sent ahead; of one that is known not to, that it is slow
        today is nothing to remember."""
        if not software.startswith(tuple(FIRST_CHANNELS)):
            self.misnumbered()

    def misnumbered(self) -> None:
        """Remembers that no number can be expected."""
        self._note(channel=-1, proven=False)

    def unproven(self, still: bool) -> None:
        """Whether the server was to prove host keys and the connection was over before it could: the next one
        leaves it the time, with a session that is not sent ahead."""
        if self.known.unproven != still:
            self._note(unproven=still)

    def refused(self) -> None:
        """Forgets the key that was enough last time."""
        self._note(login="")

    def misled(self) -> None:
        """Remembers that the key which the server shows first is not to be led with."""
        self._note(misled=today())

    def _note(self, **changes: Any) -> None:
        self.memory.note(self.host, self.user, **changes)
        self.known = self.memory.recall(self.host)

