"""Two cores brought to any position of a connection, and one of them asked what it takes there."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from glasshell import wire
from glasshell.connection.channel import Channel
from glasshell.crypto import registry
from glasshell.crypto.groups import Group
from glasshell.crypto.key_exchange import Classical, FiniteField
from glasshell.crypto.registry import Kind
from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import MalformedMessage, SSHError
from glasshell.events import (
    ChannelOffered,
    Closed,
    CredentialNeeded,
    PasswordMethod,
    PasswordOffered,
    Verdict,
)
from glasshell.messages.connection import SessionOpen
from glasshell.messages.declare import Code, Items, Struct, lookup
from glasshell.messages.transport import KexInit
from glasshell.policy import Policy
from glasshell.testing.pair import Pair, Side
from glasshell.transport.rules import Phase
from glasshell.wire import Secret

HOST_KEY = PrivateKey.generate("ssh-ed25519")
USER_KEY = PrivateKey.generate("ssh-ed25519")
ROLES: tuple[Side, Side] = ("client", "server")
METHODS = registry.names(Kind.KEX)
CIPHERS = registry.names(Kind.CIPHER)
MACS = registry.names(Kind.MAC)

TOY_GROUP = Group(2**255 - 19, 2)
"""A prime that protects nothing and costs nothing: these tests are about who may say what."""


def other(side: Side) -> Side:
    return "server" if side == "client" else "client"


def pair(*, strict: bool = True, client: Any = None, server: Any = None, **options: Any) -> Pair:
    """Two cores; keyword arguments that are settings of a Policy go to both, `client` and `server` to one.

    Without `strict` both lack strict key exchange.
    """
    names = Policy.__dataclass_fields__
    settings = {name: options.pop(name) for name in list(options) if name in names}
    settings.setdefault("max_packet", 32 * 1024)  # many packets in little data
    made = Pair(
        Policy.client(**settings, **(client or {})), Policy.server(**settings, **(server or {})),
        **{"host_keys": (HOST_KEY,), "user_key": USER_KEY, **options},
    )  # fmt: skip
    if not strict:
        for side in ROLES:
            without_strict(made, side)
    return made


def password_pair(password: str = "swordfish", **options: Any) -> Pair:
    """A login by password, which is one request and needs no signature of the user's."""
    answers = {
        **options.pop("answers", {}),
        PasswordOffered: lambda q: Verdict(q.password == Secret(password)),
    }
    made = pair(methods=("password",), answers=answers, **options)
    made.answers[CredentialNeeded] = lambda q: PasswordMethod(Secret(password))
    return made


def without_strict(pair: Pair, side: Side) -> None:
    """`side` becomes a program from before strict key exchange."""

    def change(kexinit: KexInit) -> KexInit:
        kept = tuple(name for name in kexinit.kex_algorithms if "strict" not in name)
        return replace(kexinit, kex_algorithms=kept)

    change_kexinit(pair, side, change)


def change_kexinit(pair: Pair, side: Side, change: Callable[[KexInit], KexInit]) -> None:
    """`side` sends, and puts into the exchange hash, another KEXINIT than its policy would make."""
    kex = pair.core(side).transport.kex
    make = kex._kexinit
    kex._kexinit = lambda guess: change(make(guess))  # type: ignore[method-assign]


def logged_in(made: Pair | None = None, /, **options: Any) -> Pair:
    """A pair whose client is logged in, and whose events so far are forgotten."""
    made = made or pair(**options)
    made.run()
    for side in ROLES:
        assert made.core(side).transport.phase is Phase.CONNECTION, made.log
        made.log[side].clear()
    made.sent.clear()
    return made


def ended(pair: Pair, side: Side) -> SSHError:
    """The error that ended the connection for `side`: one of the documented kinds, told once and last."""
    pair.log[side] += pair.core(side).events()
    closed: list[Closed] = pair.told(side, Closed)
    assert len(closed) == 1, f"{side} was told of {len(closed)} ends"
    assert pair.log[side][-1] is closed[0]
    assert pair.core(side).closed
    error = closed[0].error
    assert isinstance(error, SSHError)
    assert type(error) is not SSHError, f"an error nobody thought of: {error.__cause__!r}"
    return error


def expects(pair: Pair, side: Side) -> int:
    """The key exchange message that `side` waits for; 0: none."""
    exchange = pair.core(side).transport.kex.exchange
    return exchange.expected if exchange else 0


def waiting(pair: Pair, side: Side, phase: Phase, method: int = 0) -> Callable[[], bool]:
    """Whether `side` is in `phase`, waits for its message `method`, and has nothing open."""
    transport = pair.core(side).transport

    def there() -> bool:
        in_phase = transport.phase is phase and not transport.agenda.held
        return in_phase and (not method or expects(pair, side) == method)

    return there


# --- messages


def sample(cls: type[Struct]) -> Any:
    """A well-formed instance of a declared message, as plain as it can be."""
    values: dict[str, Any] = {}
    for field in cls.FIELDS:
        if field.present_if and not values[field.present_if]:
            values[field.name] = None
        elif field.choice is not None:
            chosen = field.choice[1].get(values[field.choice[0]])
            values[field.name] = b"" if chosen is None else sample(chosen)
        else:
            tables = [f.choice[1] for f in cls.FIELDS if f.choice and f.choice[0] == field.name]
            values[field.name] = min(tables[0]) if tables else _plain(field.type)
    return cls(**values)


def _plain(kind: Any) -> Any:
    if isinstance(kind, Items):
        return (sample(kind.item),)
    if isinstance(kind, wire.Raw):
        return bytes(kind.count)
    if isinstance(kind, Code):
        return min(int(n) for n in kind.numbers)
    table: dict[type, Any] = {
        wire.Byte: 1, wire.Boolean: False, wire.Uint32: 1, wire.Uint64: 1, wire.String: b"x",
        wire.SecretString: Secret(b"x"), wire.Text: "x", wire.Name: "x", wire.NameList: ("x",),
        wire.Mpint: 5, wire.Rest: b"",
    }  # fmt: skip
    for known, value in table.items():
        if isinstance(kind, known):
            return value
    raise TypeError(kind)


def bodies(number: int, context: str) -> list[bytes]:
    """A payload of `number` well-formed, where it is declared; with an empty body; with random bytes."""
    found = lookup(context, number)
    noise = random.Random(number)
    made = [sample(found).encode()] if found else []
    return [*made, bytes((number,)), bytes((number,)) + noise.randbytes(noise.randrange(1, 64))]


def is_well_formed(payload: bytes, context: str) -> bool:
    found = lookup(context, payload[0])
    try:
        return found is not None and bool(found.decode(payload))
    except MalformedMessage:
        return False


def plain_packet(payload: bytes) -> bytes:
    """RFC 4253 §6 without cipher and MAC, written out once more by hand."""
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


# --- asking without harm


class Asker:
    """Feeds forged packets to one core whose end is prevented: a refused one must leave no trace."""

    def __init__(self, pair: Pair, side: Side) -> None:
        self.pair, self.side = pair, side
        self.transport = pair.core(side).transport
        self.refusals: list[SSHError] = []
        self.transport.fail = self.refusals.append  # type: ignore[method-assign, assignment]

    def refuses(self, payload: bytes) -> SSHError | None:
        """The error the packet would end the connection with, or None."""
        before = self._state()
        self.refusals.clear()
        self.pair.inject(other(self.side), payload)
        if not self.refusals:
            return None
        assert self._state() == before, "a refused message left a trace"
        assert len(self.refusals) == 1
        return self.refusals[0]

    def _state(self) -> tuple[Any, ...]:
        t = self.transport
        return (
            t.phase, len(t.events), bytes(t.outbound.buffer), t.outbound.seq, len(t._waiting.messages),
            t.kex.blocked, expects(self.pair, self.side), t.agenda.held, t.agenda.next_timeout(),
            dict(t.extensions), t.inbound.epoch,
        )  # fmt: skip


@pytest.fixture
def toy_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixed groups of RFC 8268 compute in a toy: the order of messages is the same."""
    for name in METHODS:
        row = registry.find(Kind.KEX, name)
        if row.context == "dh":
            toy = replace(row, factory=lambda: Classical(FiniteField(TOY_GROUP)))
            monkeypatch.setitem(registry._BY_NAME, (Kind.KEX, name), toy)


# --- data


def session(pair: Pair) -> tuple[Channel, Channel]:
    """A channel between the two: the client's end and the server's."""
    pair.answers[ChannelOffered] = lambda q: True
    ours = pair.client.mux.open("session", SessionOpen())
    pair.run()
    offered = pair.told("server", ChannelOffered)[-1]
    return ours, offered.channel


def transfer(pair: Pair, ends: tuple[Channel, Channel], up: bytes, down: bytes) -> None:
    """Sends `up` and `down` at the same time, and demands that they arrive as they are."""
    ours, theirs = ends
    sending = [(ours, memoryview(up), theirs, bytearray()), (theirs, memoryview(down), ours, bytearray())]
    sent = [0, 0]
    for _ in range(100_000):
        for at, (out, data, into, got) in enumerate(sending):
            sent[at] += out.send(data[sent[at] : sent[at] + 96 * 1024])
            got += into.read()
        pair.run()
        if sent == [len(up), len(down)] and len(sending[0][3]) + len(sending[1][3]) == sum(sent):
            break
    assert bytes(sending[0][3]) == up
    assert bytes(sending[1][3]) == down


def count(pair: Pair, side: Side, number: int) -> int:
    """How many messages `number` a side has sent."""
    return sum(packet.sender == side and packet.number == number for packet in pair.sent)
