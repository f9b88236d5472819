"""RFC 4253 §7.1, first_kex_packet_follows: a guess that is right counts, of a wrong one one packet goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glasshell.errors import ProtocolViolation
from glasshell.events import Authenticated
from glasshell.testing.pair import Pair
from tests.transport.kit import (
    METHODS,
    change_kexinit,
    count,
    ended,
    expects,
    pair,
    toy_groups,  # noqa: F401
    without_strict,
)

X25519, NIST, GEX = "curve25519-sha256", "ecdh-sha2-nistp256", "diffie-hellman-group-exchange-sha256"


def guessing(client: tuple[str, ...], server: tuple[str, ...], **settings: object) -> Pair:
    return pair(client={"kex": client, "guess": True, **settings}, server={"kex": server})


def logs_in(made: Pair) -> bool:
    made.run()
    return all(Authenticated in made.kinds(side) for side in ("client", "server"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("toy_groups")
def test_right(method: str) -> None:
    """The first packet of the exchange goes out with KEXINIT, before the server has said a word."""
    made = guessing((method,), (method,))
    made.relay = lambda p: b"" if p.sender == "server" else p.wire
    made.run(lambda: len(made.sent) >= 3)
    first = 34 if method == GEX else 30
    assert [p.number for p in made.sent if p.sender == "client"] == [-1, 20, first]
    made = guessing((method,), (method,))
    assert logs_in(made)
    assert count(made, "client", first) == 1


@pytest.mark.parametrize(
    ("client", "server", "agreed"),
    [
        ((X25519, NIST), (NIST, X25519), X25519),  # the first differs, and yet it is what is chosen
        ((X25519, NIST), (NIST,), NIST),
        ((GEX, X25519), (X25519,), X25519),
        ((X25519, GEX), (GEX,), GEX),
    ],
)
def test_wrong_method(client: tuple[str, ...], server: tuple[str, ...], agreed: str) -> None:
    made = guessing(client, server)
    assert logs_in(made)
    assert made.client.negotiated.kex == agreed
    assert sum(30 <= p.number < 50 for p in made.sent if p.sender == "client") == (3 if agreed == GEX else 2)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lax"])
def test_wrong_host_key_algorithm(strict: bool) -> None:
    made = guessing((X25519,), (X25519,), host_key_algorithms=("rsa-sha2-512", "ssh-ed25519"))
    if not strict:
        without_strict(made, "server")
    assert logs_in(made)
    assert count(made, "client", 30) == 2


def test_a_second_guessed_packet_is_judged() -> None:
    """Exactly one: what comes after the wrong guess is the exchange, or the end."""
    made = guessing((X25519, NIST), (NIST,))
    made.run(lambda: made.server.transport.kex._skip_guess)
    made.inject("client", b"\x1e" + bytes(36))
    assert expects(made, "server") == 30
    made.inject("client", b"\x21" + bytes(36))
    assert type(ended(made, "server")) is ProtocolViolation


@pytest.mark.parametrize("number", [5, 20, 21, 50])
def test_only_a_key_exchange_message_can_be_a_guess(number: int) -> None:
    made = guessing((X25519, NIST), (NIST,))
    made.run(lambda: made.server.transport.kex._skip_guess)
    made.inject("client", bytes((number,)))
    assert type(ended(made, "server")) is ProtocolViolation


@pytest.mark.parametrize("rekey", [False, True])
def test_a_servers_wrong_guess(rekey: bool) -> None:
    """A server may guess as well; ours never does, so that this one is made to."""
    made = pair(client={"kex": (X25519, NIST)}, server={"kex": (NIST, X25519)})
    if rekey:
        made.run()
        made.sent.clear()

    kex = made.server.transport.kex
    change_kexinit(made, "server", lambda k: replace(k, first_kex_packet_follows=True))
    start = kex.start

    def with_guess(reason: str, **more: str) -> None:
        start(reason, **more)
        made.say("server", b"\x1f" + b"a guess of another method")

    kex.start = with_guess  # type: ignore[method-assign]
    if rekey:
        made.server.rekey(made.now)
    assert logs_in(made)
    assert count(made, "server", 31) == 2
    assert made.client.negotiated.kex == X25519


def test_a_guess_that_is_announced_and_never_comes() -> None:
    """The exchange's own message is then taken for the guess, and nothing goes on: the deadline ends it."""
    made = pair(client={"kex": (X25519, NIST)}, server={"kex": (NIST,)}, kex_timeout=10.0)
    change_kexinit(made, "client", lambda k: replace(k, first_kex_packet_follows=True))
    made.client.transport.kex._send_guess = lambda ours: None  # type: ignore[method-assign]
    made.advance(11)
    assert "did not end within 10 s" in str(ended(made, "server"))
