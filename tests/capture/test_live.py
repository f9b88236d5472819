"""Connections of our own core, watched: what the observer tells is what the core put on the wire.

The two ways are independent: the cores seal, the observer opens with nothing but wire bytes and the key log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasshell.capture.keylog import KeyLog
from glasshell.capture.passive import Passive
from glasshell.crypto import registry
from glasshell.crypto.registry import Kind
from glasshell.events import ChannelOffered
from glasshell.messages.connection import SessionOpen
from glasshell.observe.hub import Hub
from glasshell.observe.record import KeyRecord, MessageRecord, StateRecord
from glasshell.observe.redact import redact
from glasshell.observe.seen import Frame, Seen
from glasshell.testing.pair import Pair
from tests.transport.kit import pair, password_pair

SYN = 0x02
OPENED = Frame(1, 100.0, 60, "192.0.2.1", "192.0.2.2", 50000, 2222, 0, 0, SYN, b"")


class Log:
    """Hears the keys, as a key log file would have them."""

    hears = frozenset({"keys"})

    def __init__(self, *labels: str) -> None:
        self.lines: list[str] = []
        self._labels = labels or ("SHARED_SECRET",)

    def __call__(self, record: KeyRecord) -> None:
        if record.label in self._labels:
            self.lines.append(f"{record.cookie.hex()} {record.label} {record.secret.reveal().hex()}")

    def keys(self) -> KeyLog:
        known = KeyLog()
        known.add("\n".join(self.lines), "log")
        return known


def connection(log: Log, make: Callable[..., Pair] = pair, **options: Any) -> Pair:
    """A login, a channel with data both ways, a key re-exchange, more data, and a goodbye."""
    side = options.pop("logs", "client")
    answers = {ChannelOffered: lambda question: True}
    made = make(hubs={side: Hub(log)}, answers=answers, **options)
    made.run()
    channel = made.client.mux.open("session", SessionOpen())
    made.run()
    channel.send(b"to the server " * 100)
    made.run()
    made.client.transport.rekey(made.now)
    made.run()
    channel.send(bytes(40_000))
    made.run()
    made.client.transport.disconnect(11, "bye", made.now)
    made.run()
    return made


def watch(
    made: Pair, keys: KeyLog | None, *, cut: Callable[[bytes], list[bytes]] | None = None
) -> list[Seen]:
    seen: list[Seen] = []
    passive = Passive(0, OPENED, seen.append, keys)
    for number, packet in enumerate(made.sent, 2):
        for piece in cut(packet.wire) if cut else [packet.wire]:
            passive.receive(packet.sender == "client", piece, 100.0 + number / 1000, number)
    passive.finish()
    return seen


def messages(seen: list[Seen]) -> list[tuple[bool, bytes]]:
    records = [each.record for each in seen]
    return [(record.sent, record.payload) for record in records if isinstance(record, MessageRecord)]


def states(seen: list[Seen], name: str) -> list[dict[str, Any]]:
    records = [each.record for each in seen]
    return [dict(each.facts) for each in records if isinstance(each, StateRecord) and each.name == name]


def sent(made: Pair) -> list[tuple[bool, bytes]]:
    """What the cores say that they sent, secrets zeroed."""
    result = []
    for packet in made.sent:
        if packet.payload:
            context = "publickey" if packet.number == 60 else ""
            result.append((packet.sender == "client", redact(packet.payload, context)))
    return result


def check(made: Pair, log: Log, **options: Any) -> list[Seen]:
    seen = watch(made, log.keys(), **options)
    assert messages(seen) == sent(made)
    told = [each for each in seen if isinstance(each.record, MessageRecord)]
    assert {each.verified for each in told if each.record.epoch} == {True}
    assert {each.record.epoch for each in told} == {0, 1, 2}
    assert not states(seen, "not_decrypted")
    assert [facts["first"] for facts in states(seen, "kex_done")] == [True, False]
    return seen


@pytest.mark.parametrize("cipher", registry.names(Kind.CIPHER))
@pytest.mark.parametrize("mac", registry.names(Kind.MAC))
@pytest.mark.parametrize("compression", ["none", "zlib@openssh.com"])
def test_every_cipher_mac_and_compression(cipher: str, mac: str, compression: str) -> None:
    log = Log()
    check(connection(log, ciphers=(cipher,), macs=(mac,), compression=(compression,)), log)


@pytest.mark.parametrize("method", registry.names(Kind.KEX))
def test_every_key_exchange(method: str) -> None:
    log = Log()
    check(connection(log, kex=(method,)), log)


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize(
    "method",
    ["curve25519-sha256", "diffie-hellman-group14-sha256", "diffie-hellman-group-exchange-sha256"],
)
def test_the_private_value_of_either_side_is_enough(method: str, side: str) -> None:
    log = Log("PRIVATE_KEY")
    made = connection(log, kex=(method,), logs=side)
    check(made, log)


def test_without_strict_key_exchange() -> None:
    log = Log()
    made = connection(log, strict=False, ciphers=("aes256-ctr",), macs=("hmac-sha2-256",))
    seen = watch(made, log.keys())
    assert messages(seen) == sent(made)
    assert [facts["strict"] for facts in states(seen, "negotiated")] == [False, False]


@pytest.mark.parametrize("first", ["curve25519-sha256", "ecdh-sha2-nistp256"])
def test_a_guessed_packet_counts_where_it_is_right_and_not_where_it_is_wrong(first: str) -> None:
    log = Log()
    client = {"guess": True, "kex": (first, "mlkem768x25519-sha256")}
    server = {"kex": ("curve25519-sha256", "mlkem768x25519-sha256")}
    seen = check(connection(log, client=client, server=server), log)
    guess = "right" if first == "curve25519-sha256" else "wrong"
    assert [facts["guess"] for facts in states(seen, "negotiated")] == [guess, ""]


def test_passwords_are_zeroed_and_shown_on_request() -> None:
    log = Log()
    made = connection(log, password_pair)
    requests = [payload for _, payload in messages(watch(made, log.keys())) if payload[0] == 50]
    assert not any(b"swordfish" in payload for payload in requests)
    shown: list[Seen] = []
    passive = Passive(0, OPENED, shown.append, log.keys(), show_secrets=True)
    for packet in made.sent:
        passive.receive(packet.sender == "client", packet.wire, 100.0, 2)
    assert any(b"swordfish" in payload for _, payload in messages(shown))


@settings(max_examples=25)
@given(st.data())
def test_any_cuts_tell_the_same(data: st.DataObject) -> None:
    log, made = RECORDED

    def cut(wire: bytes) -> list[bytes]:
        sizes = data.draw(st.lists(st.integers(1, 200), max_size=3))
        pieces, at = [], 0
        for size in sizes:
            pieces.append(wire[at : at + size])
            at += size
        return [piece for piece in (*pieces, wire[at:]) if piece]

    assert messages(watch(made, log.keys(), cut=cut)) == sent(made)


def _recorded() -> tuple[Log, Pair]:
    log = Log()
    return log, connection(log)


RECORDED = _recorded()
