"""Whatever bytes come, the core ends with a documented error or goes on: nothing else leaves it.

Every position of a connection, both roles. Payloads are mutated and sealed again with the keys in use, so
that they get past the cipher; `make fuzz` runs the same with many and random seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.errors import SSHError
from glasshell.events import ChannelRequested, Closed, CredentialNeeded, Event, GlobalRequested
from glasshell.messages import CATALOGUE
from glasshell.messages.connection import Exec
from glasshell.observe.hub import Hub
from glasshell.testing.pair import Pair, Side
from glasshell.testing.strategies import any_message
from glasshell.transport.rules import Phase
from tests.fuzz.mutator import mutate
from tests.transport.kit import ROLES, logged_in, other, pair, sample, session, waiting

SEEDS = st.integers(0, 2**64 - 1)
DEPTH = 12
"""Packets fed to one core, if it lives that long."""


# --- where


def at(phase: Phase) -> Callable[[Side], Pair]:
    def bring(side: Side) -> Pair:
        made = pair(hubs={side: Hub(lambda record: None)})
        made.run(waiting(made, side, phase))
        return made

    return bring


def asked_for_credentials(side: Side) -> Pair:
    made = pair()
    del made.answers[CredentialNeeded]
    made.run()
    return made


def with_a_channel(side: Side) -> Pair:
    made = logged_in(compression=("none",))
    made.answers |= {ChannelRequested: lambda q: True, GlobalRequested: lambda q: b"x"}
    ours, _ = session(made)
    ours.request("exec", Exec("true"), want_reply=True)
    made.run()
    made.log[side].clear()
    return made


def in_a_rekey(phase: Phase) -> Callable[[Side], Pair]:
    def bring(side: Side) -> Pair:
        made = with_a_channel(side)
        made.core(other(side)).rekey(made.now)
        made.run(waiting(made, side, phase))
        made.log[side].clear()
        return made

    return bring


POSITIONS: dict[str, Callable[[Side], Pair]] = {
    "KEXINIT": at(Phase.KEXINIT),
    "KEX": at(Phase.KEX),
    "NEWKEYS": at(Phase.NEWKEYS),
    "SERVICE": at(Phase.SERVICE),
    "AUTH": at(Phase.AUTH),
    "AUTH, asked": asked_for_credentials,
    "CONNECTION": with_a_channel,
    "REKEY_KEX": in_a_rekey(Phase.REKEY_KEX),
    "REKEY_NEWKEYS": in_a_rekey(Phase.REKEY_NEWKEYS),
}


# --- what


@cache
def corpus() -> tuple[bytes, ...]:
    """Every payload of a real session of two cores, and every declared message in its plainest form."""
    made = with_a_channel("server")
    made.client.rekey(made.now)
    made.run()
    first = pair()
    first.run()
    real = [p.payload for p in (*first.sent, *made.sent) if p.payload]
    return (*real, *(sample(cls).encode() for cls in CATALOGUE.values()))


# --- and what must hold


def check(made: Pair, side: Side) -> None:
    """Answers what is asked, and looks at everything that a peer can make grow or go wrong."""
    while made._collect(side):
        pass
    core, told = made.core(side), made.log[side]
    ends = [event for event in told if isinstance(event, Closed)]
    assert all(isinstance(event, Event) for event in told)
    assert len(ends) == core.closed
    if ends:
        assert told[-1] is ends[0]
        error = ends[0].error
        assert error is None or isinstance(error, SSHError)
        assert type(error) is not SSHError, repr(error.__cause__ if error else "")
    transport = core.transport
    assert len(transport.outbound.buffer) + transport._waiting.size <= core.policy.max_output + (1 << 18)
    assert transport.inbound.buffered() <= 1 << 19
    assert len(core.mux.channels) <= core.policy.max_channels


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("position", POSITIONS)
@given(SEEDS)
def test_mutated_payloads(position: str, side: Side, seed: int) -> None:
    random, made = Random(seed), POSITIONS[position](side)
    for _ in range(DEPTH):
        payload = mutate(random.choice(corpus()), random, corpus()) or b"\0"
        made.inject(other(side), payload[:100_000])
        check(made, side)
        if made.core(side).closed:
            break


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("position", ["AUTH, asked", "CONNECTION"])
@given(st.lists(any_message(), min_size=1, max_size=8))
def test_any_messages(position: str, side: Side, messages: list[object]) -> None:
    """Well-formed messages with whatever in them, in whatever order."""
    made = POSITIONS[position](side)
    for message in messages:
        made.inject(other(side), message.encode())  # type: ignore[attr-defined]
        check(made, side)
        if made.core(side).closed:
            break


@pytest.mark.parametrize("side", ROLES)
@given(SEEDS)
def test_mutated_bytes_before_the_keys(side: Side, seed: int) -> None:
    """The whole stream of a peer, identification and framing included, altered and cut anywhere."""
    random, made = Random(seed), pair()
    stream = mutate(in_clear(other(side)), random, [in_clear(side)])
    made.start()
    while stream and not made.core(side).closed:
        size = random.choice((1, 7, 100, 10_000))
        made.core(side).receive_data(stream[:size], made.now)
        stream = stream[size:]
        check(made, side)
    made.core(side).receive_eof(made.now)
    check(made, side)
    assert made.core(side).closed


@cache
def in_clear(side: Side) -> bytes:
    made = pair()
    made.run()
    sent = [p for p in made.sent if p.sender == side]
    last = next(at for at, p in enumerate(sent) if p.number == 21)
    return b"".join(p.wire for p in sent[: last + 1])


@pytest.mark.parametrize("side", ROLES)
@given(SEEDS)
def test_mutated_ciphertext(side: Side, seed: int) -> None:
    """Nothing that was altered after sealing is ever taken for a packet."""
    random, made = Random(seed), with_a_channel(side)
    good = made.forge(other(side), random.choice(corpus()))
    bad = mutate(good, random)
    if bad.startswith(good):  # the packet itself is whole
        return
    made.core(side).receive_data(bad, made.now)
    check(made, side)
    assert all(isinstance(event, Closed) or "Channel" in type(event).__name__ for event in made.log[side])
    made.core(side).receive_eof(made.now)
    assert made.core(side).closed


@pytest.mark.parametrize("side", ROLES)
@given(SEEDS)
def test_time_does_not_matter(side: Side, seed: int) -> None:
    """Timers that ring in the middle of anything, and an end that comes before the answers."""
    random = Random(seed)
    made = POSITIONS[random.choice(sorted(POSITIONS))](side)
    core = made.core(side)
    for _ in range(6):
        made.now += random.choice((0.0, 1.0, 16.0, 200.0))
        core.handle_timeout(made.now)
        check(made, side)
        made.inject(other(side), random.choice(corpus()))
        check(made, side)
    core.close(made.now)
    check(made, side)
    assert core.closed
    assert core.next_timeout() is None
