"""The one file that says what may happen when: phase × message, role-neutral.

A row names who may send a message and in which phases. Dispatch is legality: each phase begins with empty
slots, and a slot is filled, from this table and the handlers at hand, when the first message of its number
comes; one that stays empty is the error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from ..values import slotted

Role: TypeAlias = Literal["client", "server"]
Handler: TypeAlias = Callable[[memoryview], None]
"""Takes a whole payload, message number included."""


class Phase(Enum):
    """Where the peer is, as seen by what it may send next."""

    IDENTIFICATION = "identification"  # RFC 4253 §4.2
    KEXINIT = "algorithm negotiation"  # §7.1, the first
    KEX = "key exchange"  # §8, the first
    NEWKEYS = "taking keys into use"  # §7.3, the first
    SERVICE = "service request"  # §10
    AUTH = "authentication"  # RFC 4252
    CONNECTION = "connection"  # RFC 4254
    REKEY_KEX = "key re-exchange"  # RFC 4253 §9, after the peer's KEXINIT
    REKEY_NEWKEYS = "taking new keys into use"
    CLOSED = "closed"

    __hash__ = object.__hash__  # each is one object; Enum's own is a call of Python, several for each message


FIRST_KEX: Final = frozenset({Phase.KEXINIT, Phase.KEX, Phase.NEWKEYS})
IN_KEX: Final = FIRST_KEX | {Phase.REKEY_KEX, Phase.REKEY_NEWKEYS}
UPPER: Final = frozenset({Phase.SERVICE, Phase.AUTH, Phase.CONNECTION})
_ALL: Final = IN_KEX | UPPER


@slotted(frozen=True)
class Rule:
    """Messages `first`..`last` may be sent by `sender` in `phases`, with strict kex in `strict`."""

    first: int
    last: int
    sender: Literal["client", "server", "both"]
    phases: frozenset[Phase]
    clause: str
    strict: frozenset[Phase] | None = None


RULES: Final[tuple[Rule, ...]] = (
    Rule(1, 1, "both", _ALL, "RFC 4253 11.1"),
    # Strict key exchange takes nothing beside what it needs, or a packet could be slipped in and
    # another one deleted unseen (Terrapin, OpenSSH PROTOCOL, strict key exchange).
    Rule(2, 4, "both", _ALL, "RFC 4253 11.2-11.4", strict=_ALL - FIRST_KEX),
    # paramiko asks for the service again before each attempt to log in.
    Rule(5, 5, "client", frozenset({Phase.SERVICE, Phase.AUTH}), "RFC 4253 10"),
    Rule(6, 6, "server", frozenset({Phase.SERVICE, Phase.AUTH}), "RFC 4253 10"),
    Rule(7, 7, "client", frozenset({Phase.SERVICE}), "RFC 8308 2.4"),
    Rule(7, 7, "server", frozenset({Phase.SERVICE, Phase.AUTH}), "RFC 8308 2.4"),
    # No peer re-exchanges keys before it has logged in; one that does makes us work for nothing.
    Rule(20, 20, "both", frozenset({Phase.KEXINIT, Phase.CONNECTION}), "RFC 4253 7.1, 9"),
    Rule(21, 21, "both", frozenset({Phase.NEWKEYS, Phase.REKEY_NEWKEYS}), "RFC 4253 7.3"),
    # Which of these is due depends on the method; the exchange has a handler for that one only.
    Rule(30, 49, "both", frozenset({Phase.KEX, Phase.REKEY_KEX}), "RFC 4253 7.1"),
    # After success late requests are ignored (RFC 4252 §5.3).
    Rule(50, 50, "client", frozenset({Phase.AUTH, Phase.CONNECTION}), "RFC 4252 5"),
    Rule(51, 53, "server", frozenset({Phase.AUTH}), "RFC 4252 5"),
    Rule(60, 79, "both", frozenset({Phase.AUTH}), "RFC 4252 6"),
    Rule(80, 82, "both", frozenset({Phase.CONNECTION}), "RFC 4254 4"),
    Rule(90, 100, "both", frozenset({Phase.CONNECTION}), "RFC 4254 5"),
    Rule(192, 193, "both", frozenset({Phase.AUTH, Phase.CONNECTION}), "OpenSSH PROTOCOL, ping"),
)


def allowed(phase: Phase, number: int, sender: Role, *, strict: bool) -> bool:
    """Whether `sender` may send message `number` in `phase`."""
    return number in _legal(phase, sender, strict)


@cache
def _legal(phase: Phase, sender: Role, strict: bool) -> frozenset[int]:
    numbers: set[int] = set()
    for rule in RULES:
        phases = rule.strict if strict and rule.strict is not None else rule.phases
        if phase in phases and rule.sender in (sender, "both"):
            numbers.update(range(rule.first, rule.last + 1))
    return frozenset(numbers)


UNKNOWN: Final = frozenset(range(256)) - {n for rule in RULES for n in range(rule.first, rule.last + 1)}
"""The numbers that no rule names."""
CONNECTION_NUMBERS: Final = frozenset(range(80, 128))
"""What belongs to the connection protocol, known or not (RFC 4251 §7)."""


def slot(
    phase: Phase, number: int, sender: Role, find: Callable[[int], Handler | None], unknown: Handler, *,
    strict: bool,
) -> Handler | None:  # fmt: skip
    """What takes message `number` of `sender` in `phase`; None: it may not be sent now.

    `find` gives the handler at hand for a number that is legal. One that no rule names goes to `unknown`
    where UNIMPLEMENTED may answer it (RFC 4253 §11.4): outside key exchanges, and before the login not where
    it is the connection protocol's.
    """
    if number in _legal(phase, sender, strict):
        return find(number)
    if number in UNKNOWN and phase in UPPER:
        return unknown if phase is Phase.CONNECTION or number not in CONNECTION_NUMBERS else None
    return None


class Methods(Mapping[int, Handler]):
    """Handlers that are methods of `owner`, named in a table that all of its kind share, and `others`.

    Each is bound when it is asked for: of a thousand idle connections none holds a method for what may come.
    """

    __slots__ = ("_others", "_owner", "_table")

    def __init__(
        self, owner: object, table: Mapping[int, str], others: Mapping[int, Handler] = MappingProxyType({})
    ) -> None:
        self._owner = owner
        self._table = table
        self._others = others

    def __getitem__(self, number: int) -> Handler:
        name = self._table.get(number)
        handler: Handler = self._others[number] if name is None else getattr(self._owner, name)
        return handler

    def get(self, number: int, default: Any = None) -> Any:
        name = self._table.get(number)
        return self._others.get(number, default) if name is None else getattr(self._owner, name)

    def __iter__(self) -> Iterator[int]:
        return iter({**self._table, **self._others})

    def __len__(self) -> int:
        return len({**self._table, **self._others})
