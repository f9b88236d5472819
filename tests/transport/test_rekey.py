"""RFC 4253 §9: keys exchanged anew, by either side, whatever else is going on."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from glasshell.crypto.registry import Kind, find
from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import DeadlineExceeded, HostKeyRefused, LimitExceeded, UsageError
from glasshell.events import (
    Authenticated,
    CredentialNeeded,
    GlobalReplied,
    GlobalRequested,
    HandshakeDone,
    HostKeyOffered,
    HostKeySignatureNeeded,
    NoneMethod,
)
from glasshell.messages.connection import ChannelEof, Keepalive
from glasshell.messages.transport import Ignore
from glasshell.policy import Policy
from glasshell.testing.pair import Packet, Pair, Side
from glasshell.transport.rules import Phase
from tests.transport.kit import (
    CIPHERS,
    MACS,
    METHODS,
    ROLES,
    change_kexinit,
    count,
    ended,
    logged_in,
    other,
    pair,
    session,
    toy_groups,  # noqa: F401
    transfer,
)

DATA = os.urandom(1 << 20)
KEXINIT = 20
SUITES = [
    *((c, None) for c in CIPHERS if find(Kind.CIPHER, c).aead),
    *((c, m) for c in CIPHERS if not find(Kind.CIPHER, c).aead for m in MACS),
]


def rekeyed(made: Pair) -> int:
    """How many key re-exchanges both sides began and ended."""
    counts = {count(made, side, KEXINIT) for side in ROLES} | {count(made, side, 21) for side in ROLES}
    assert len(counts) == 1
    return counts.pop()


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lax"])
@pytest.mark.parametrize(("cipher", "mac"), SUITES)
def test_every_cipher_and_mac(cipher: str, mac: str | None, strict: bool) -> None:
    """CVE-2013-4548: five re-exchanges, begun by both sides in turn, with data in between."""
    macs = (mac,) if mac else MACS
    made = logged_in(strict=strict, ciphers=(cipher,), macs=macs, allow_terrapin=True)
    ends = session(made)
    first = made.client.session_id
    for turn in range(5):
        made.core(ROLES[turn % 2]).rekey(made.now)
        made.run()
        for side in ROLES:
            t = made.core(side).transport
            assert t.inbound.epoch == t.outbound.epoch == turn + 2
            # Strict: numbers begin again at each NEWKEYS; else they run on from the connection's start.
            assert (t.inbound.seq == 0) is strict
        transfer(made, ends, DATA[:5000], DATA[5000:9000])
    assert rekeyed(made) == 5
    assert made.client.session_id == made.server.session_id == first


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("toy_groups")
def test_to_every_method(method: str) -> None:
    """The session identifier stays that of the first exchange, whatever hash the next one uses (§7.2)."""
    made = logged_in()
    first = made.client.session_id
    for side in ROLES:
        transport = made.core(side).transport
        transport.policy = transport.policy.but(kex=(method,))
    made.client.rekey(made.now)
    made.run()
    assert made.client.negotiated.kex == made.server.negotiated.kex == method
    assert made.client.session_id == made.server.session_id == first
    transfer(made, session(made), DATA[:5000], DATA[:5000])


@pytest.mark.parametrize("side", ROLES)
def test_by_bytes(side: Side) -> None:
    limit = 64 * 1024
    made = logged_in(**{side: {"rekey_bytes": limit}})
    ends = session(made)
    most = 0

    def watch(packet: Packet) -> bytes:
        nonlocal most
        most = max(most, *(made.core(s).transport.outbound.key_bytes for s in ROLES))
        return packet.wire

    made.relay = watch
    transfer(made, ends, DATA, DATA[::-1])
    assert rekeyed(made) >= 2 * len(DATA) / (limit + 33 * 1024) / 2
    assert most < limit + 200 * 1024  # what is on its way when the limit is passed


@pytest.mark.parametrize("side", ROLES)
def test_by_packets(side: Side) -> None:
    made = logged_in(**{side: {"rekey_packets": 5}})
    transfer(made, session(made), DATA, DATA)
    assert rekeyed(made) > 3


@pytest.mark.parametrize("side", ROLES)
def test_by_time(side: Side) -> None:
    made = logged_in(**{side: {"rekey_seconds": 3600.0}}, keepalive_interval=0)
    made.advance(3599)
    assert rekeyed(made) == 0
    made.advance(2)
    assert rekeyed(made) == 1
    made.advance(3600 * 3)
    assert rekeyed(made) == 4


@pytest.mark.parametrize("side", ROLES)
def test_time_that_passes_before_login(side: Side) -> None:
    """A login that takes longer than the keys are good for: no peer takes a KEXINIT before its end."""
    settings: dict[str, Any] = {side: {"rekey_seconds": 10.0}}
    made = pair(**settings)
    del made.answers[CredentialNeeded]
    made.run()
    made.advance(30)
    assert rekeyed(made) == 1  # the first exchange
    ((who, question),) = made.open
    made.answers[CredentialNeeded] = made._credential
    made.answer(who, question, NoneMethod())
    made.run()
    assert made.core(side).transport.phase is Phase.CONNECTION
    assert rekeyed(made) == 2


def test_not_before_login() -> None:
    made = pair()
    del made.answers[CredentialNeeded]
    made.run()
    for side in ROLES:
        with pytest.raises(UsageError):
            made.core(side).rekey(made.now)
    assert rekeyed(made) == 1


@pytest.mark.parametrize("latency", [0.0, 0.05])
def test_both_at_once(latency: float) -> None:
    made = logged_in(latency=latency)
    for side in ROLES:
        made.core(side).rekey(made.now)
    made.run()
    assert rekeyed(made) == 1
    transfer(made, session(made), DATA[:1000], DATA[:1000])


def test_asked_twice_is_one() -> None:
    made = logged_in()
    made.client.rekey(made.now)
    made.client.rekey(made.now)
    made.run(lambda: made.client.transport.phase is Phase.REKEY_NEWKEYS)
    made.client.rekey(made.now)
    made.run()
    assert rekeyed(made) == 1


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lax"])
@pytest.mark.parametrize("latency", [0.0, 0.01])
def test_in_the_middle_of_transfers(latency: float, strict: bool) -> None:
    """Both sides renew at tiny and different limits, so that exchanges cross data, and one another."""
    made = logged_in(
        latency=latency, strict=strict, client={"rekey_bytes": 50_000}, server={"rekey_bytes": 70_000}
    )
    transfer(made, session(made), DATA, DATA[::-1])
    assert rekeyed(made) > 10
    # Nothing but the transport's own messages is sent between our KEXINIT and our NEWKEYS (§7.1).
    for side in ROLES:
        inside = False
        for packet in (p for p in made.sent if p.sender == side):
            if packet.number == KEXINIT:
                inside = True
            assert not inside or packet.number < 50
            inside = inside and packet.number != 21


def test_byte_by_byte() -> None:
    made = logged_in(chunk=1, rekey_bytes=20_000)
    transfer(made, session(made), DATA[:100_000], DATA[:100_000])
    assert rekeyed(made) > 2


def test_what_is_queued_meanwhile_goes_out_in_order() -> None:
    made = logged_in()
    made.answers[GlobalRequested] = lambda q: b"yes"
    channel, theirs = session(made)
    made.client.rekey(made.now)
    assert made.client.room() == 0
    assert channel.send(b"data") == 0
    for name in ("a@x", "b@x"):
        made.client.mux.global_request(name, name.encode(), want_reply=True)
    channel.request("c@x", b"", want_reply=False)
    channel.send_eof()
    # The other side hears nothing of it before the keys are there, and answers meanwhile.
    made.server.mux.global_request("keepalive@openssh.com", Keepalive(), want_reply=True)
    made.sent.clear()
    made.run()
    upper = [p.number for p in made.sent if p.sender == "client" and p.number >= 80]
    assert upper[:4] == [80, 80, 98, ChannelEof.NUMBER]
    assert [r.type for r in made.told("server", GlobalRequested)] == ["a@x", "b@x"]
    assert [(r.type, r.ok) for r in made.told("client", GlobalReplied)] == [("a@x", True), ("b@x", True)]
    assert theirs.eof_received


@pytest.mark.parametrize("side", ROLES)
def test_data_of_a_peer_that_has_not_seen_our_kexinit(side: Side) -> None:
    made = logged_in()
    ends = session(made)
    theirs, ours = ends if side == "server" else ends[::-1]
    made.core(side).rekey(made.now)
    theirs.send(b"still under the old keys")
    made.run()
    assert ours.read() == b"still under the old keys"


@pytest.mark.parametrize("silent_from", ["the beginning", "KEXINIT", "the method", "NEWKEYS"])
@pytest.mark.parametrize("side", ROLES)
def test_a_peer_that_never_finishes(side: Side, silent_from: str) -> None:
    """CVE-2025-22869: output waits, bounded, and the exchange has a deadline."""
    made = logged_in(kex_timeout=30.0, keepalive_interval=0)
    ends = session(made)
    channel = ends[0] if side == "client" else ends[1]
    last = {"the beginning": (), "KEXINIT": (20,), "the method": (30, 31), "NEWKEYS": (21,)}[silent_from]
    deaf = set(range(256)) - {20, 21, 30, 31} if last else set(range(256))
    quiet = [silent_from == "the beginning"]

    def relay(packet: Packet) -> bytes:
        if packet.sender == side:
            return packet.wire
        quiet[0] = quiet[0] or packet.number in last
        return b"" if quiet[0] or packet.number in deaf else packet.wire

    made.relay = relay
    made.core(side).rekey(made.now)
    made.run()
    transport = made.core(side).transport
    assert transport.phase is not Phase.CLOSED
    sent = sum(channel.send(DATA) for _ in range(1000))
    if silent_from == "NEWKEYS":  # ours is sent: we may go on, as far as the window and the output reach
        assert sent <= made.client.policy.max_output
    else:
        assert sent == 0
        assert len(transport.outbound.buffer) + transport._waiting.size < 4096
    made.advance(29)
    assert not made.core(side).closed
    made.advance(2)
    assert type(ended(made, side)) is DeadlineExceeded


@pytest.mark.parametrize("side", ROLES)
def test_the_first_exchange_has_a_deadline_too(side: Side) -> None:
    made = pair(kex_timeout=30.0, login_grace=120.0)
    made.relay = lambda p: b"" if p.sender != side else p.wire
    made.advance(31)
    assert "key exchange did not end within 30 s" in str(ended(made, side))


@pytest.mark.parametrize("trusted", [True, False], ids=["the client would take it", "not even that"])
def test_another_host_key(trusted: bool) -> None:
    made = logged_in()
    new = PrivateKey.generate("ssh-ed25519")
    made.answers[HostKeySignatureNeeded] = lambda q: new.sign(q.algorithm, q.data)
    made.answers[HostKeyOffered] = lambda q: trusted
    made.server.transport.kex._host_keys = (new.public,)
    made.server.rekey(made.now)
    made.run()
    error = ended(made, "client")
    assert type(error) is HostKeyRefused
    assert "another host key" in str(error)
    assert made.told("client", HostKeyOffered) == []


@pytest.mark.parametrize("side", ROLES)
@pytest.mark.parametrize("between", [b"", Ignore(b"x").encode()], ids=["nothing", "IGNORE"])
def test_a_flood_of_exchanges(side: Side, between: bytes) -> None:
    """A peer that does nothing but exchange keys is cut off; `between` does not make it busy."""
    made = logged_in()
    turns = 0
    while not made.core(side).closed and turns < 1000:
        if between:
            made.say(other(side), between)
        made.core(other(side)).rekey(made.now)
        made.run()
        turns += 1
    assert turns == 102  # the first comes after a login, which is something
    assert type(ended(made, side)) is LimitExceeded


def test_many_exchanges_with_data_are_no_flood() -> None:
    made = logged_in(rekey_bytes=4096)
    transfer(made, session(made), DATA, b"")
    assert rekeyed(made) > 30
    for _ in range(150):
        made.client.rekey(made.now)
        made.client.mux.global_request("x@x", bytes(1200), want_reply=False)
        made.run()
    assert not made.client.closed
    assert not made.server.closed


@pytest.mark.parametrize("directions", [("zlib@openssh.com", "none"), ("none", "zlib@openssh.com")])
def test_compression_begins_anew(directions: tuple[str, str]) -> None:
    """draft-miller-secsh-compression-delayed: after login; §6.2: a new stream after each NEWKEYS."""
    made = pair(compression=("zlib@openssh.com", "none"), rekey_bytes=30_000)
    change_kexinit(
        made, "client",
        lambda k: replace(
            k, compression_algorithms_client_to_server=(directions[0],),
            compression_algorithms_server_to_client=(directions[1],),
        ),
    )  # fmt: skip
    logged_in(made)
    text = b"squeeze me " * 100_000
    before = {side: made.core(side).transport.outbound.total_bytes for side in ROLES}
    transfer(made, session(made), text, text)
    spent = {side: made.core(side).transport.outbound.total_bytes - before[side] for side in ROLES}
    packed: Side = "client" if directions[0] != "none" else "server"
    small, large = spent[packed], spent[other(packed)]
    assert small < len(text) / 4 < len(text) < large
    assert rekeyed(made) > 10
    transfer(made, session(made), DATA[:50_000], DATA[:50_000])


def test_the_handshake_is_told_once() -> None:
    made = pair()
    made.run()
    made.client.rekey(made.now)
    made.run()
    assert made.kinds("client").count(HandshakeDone) == 1


def test_the_deadline_does_not_run_while_somebody_looks_at_the_host_key() -> None:
    made = Pair(
        Policy.client(kex_timeout=5.0, login_grace=0), Policy.server(kex_timeout=600.0, login_grace=600.0)
    )
    del made.answers[HostKeyOffered]
    made.run()
    ((side, question),) = made.open
    made.advance(60.0)
    made.answer(side, question, True)
    made.run()
    assert made.told("client", Authenticated)
