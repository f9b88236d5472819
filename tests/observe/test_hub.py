"""The hub's three kinds of hearing: who gets what, in which order, and at what cost."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from glasshell.observe.hub import MAX_WAITING, Hub, Sink
from glasshell.observe.record import Heard, KeyRecord, MessageRecord, StateRecord, WireRecord
from glasshell.policy import Policy
from glasshell.testing.pair import SIDES, Pair, Side
from glasshell.wire import Reader, Secret

PRIVATE = {
    "curve25519-sha256": 32, "diffie-hellman-group14-sha256": 64, "diffie-hellman-group-exchange-sha256": 64,
}  # fmt: skip
"""Bytes of our own half, where a key log has a form for it: the scalar, or an exponent of 512 bits."""


class Tap:
    """Keeps what it hears."""

    def __init__(self, *hears: str) -> None:
        self.hears = frozenset(hears)
        self.heard: list[Any] = []

    def __call__(self, record: Heard) -> None:
        self.heard.append(record)

    def of(self, kind: type[Any]) -> list[Any]:
        return [record for record in self.heard if isinstance(record, kind)]


def all_ears() -> Tap:
    return Tap("records", "wire", "keys")


def tapped(policy: Callable[[Policy], Policy] = lambda p: p, **more: Any) -> tuple[Pair, dict[Side, Tap]]:
    taps = {side: all_ears() for side in SIDES}
    pair = Pair(
        policy(Policy.client()), policy(Policy.server()),
        hubs={side: Hub(tap) for side, tap in taps.items()}, **more,
    )  # fmt: skip
    return pair, taps


def wire(tap: Tap, sent: bool) -> bytes:
    return b"".join(record.data for record in tap.of(WireRecord) if record.sent is sent)


@pytest.mark.parametrize("chunk", [0, 1, 1000])
def test_the_bytes_of_both_sides_are_the_same_and_all_of_them(chunk: int) -> None:
    pair, taps = tapped(chunk=chunk)
    pair.run()
    pair.client.rekey(pair.now)
    pair.run()
    pair.client.close(pair.now)
    pair.run()
    packets = {side: b"".join(p.wire for p in pair.sent if p.sender == side) for side in SIDES}
    for side, other in (("client", "server"), ("server", "client")):
        assert wire(taps[side], True) == packets[side], "identification first, DISCONNECT last"  # type: ignore[index]
        assert packets[side].startswith(wire(taps[other], False))  # type: ignore[index]
    assert wire(taps["server"], False) == packets["client"], "the client's last bytes included"


def test_the_bytes_come_behind_their_messages_and_before_the_end() -> None:
    pair, taps = tapped()
    pair.run()
    pair.client.close(pair.now)
    pair.run()
    for side, sent in (("client", True), ("server", False)):
        *_, goodbye, data, last = [  # type: ignore[misc]
            r for r in taps[side].heard  # type: ignore[index]
            if isinstance(r, MessageRecord | WireRecord) or getattr(r, "name", "") == "closed"
        ]  # fmt: skip
        assert (goodbye.number, goodbye.sent) == (1, sent)
        assert isinstance(data, WireRecord)
        assert data.sent is sent
        assert last.name == "closed"


def test_who_asks_for_nothing_hears_records_only() -> None:
    heard: list[object] = []
    pair = Pair(hubs={"client": Hub(heard.append)})
    pair.run()
    assert {type(record) for record in heard} == {MessageRecord, StateRecord}


def test_who_hears_the_wire_alone_costs_no_message() -> None:
    tap = Tap("wire")
    pair = Pair(hubs={"client": Hub(tap)})
    pair.run()
    assert {type(record) for record in tap.heard} == {WireRecord}


def test_no_secret_is_asked_for_unless_keys_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    from glasshell.crypto.key_exchange import X25519

    monkeypatch.setattr(X25519, "private", lambda _: pytest.fail("nobody hears keys"))
    pair = Pair(
        Policy.client(kex=("curve25519-sha256",)), hubs={side: Hub(Tap("records", "wire")) for side in SIDES}
    )
    pair.run()
    assert pair.client.session_id


@pytest.mark.parametrize("kex", [*PRIVATE, "ecdh-sha2-nistp256", "mlkem768x25519-sha256"])
def test_the_keys_of_every_exchange(kex: str) -> None:
    pair, taps = tapped(lambda p: p.but(kex=(kex,), rekey_bytes=1 << 40))
    pair.run()
    pair.client.rekey(pair.now)
    pair.run()
    shared = {}
    for side in SIDES:
        keys = taps[side].of(KeyRecord)
        labels = ["PRIVATE_KEY", "SHARED_SECRET"] if kex in PRIVATE else ["SHARED_SECRET"]
        assert [key.label for key in keys] == labels * 2
        cookies = [r.payload[1:17] for r in taps[side].of(MessageRecord) if r.number == 20 and r.sent]
        assert [key.cookie for key in keys] == [cookie for cookie in cookies for _ in labels]
        assert all(isinstance(key.secret, Secret) for key in keys)
        assert all(len(key.secret) == PRIVATE[kex] for key in keys if key.label == "PRIVATE_KEY")
        shared[side] = [key.secret.reveal() for key in keys if key.label == "SHARED_SECRET"]
    assert shared["client"] == shared["server"]
    assert all(secret[0] for secret in shared["client"]) or kex.startswith("mlkem"), "no sign byte"


def test_the_private_key_and_the_wire_alone_give_the_shared_secret() -> None:
    """What Wireshark does with it (RFC 8731 §3): our scalar, the peer's point, K without leading zeros."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    pair, taps = tapped(lambda p: p.but(kex=("curve25519-sha256",)))
    pair.run()
    for side, reply in (("client", 31), ("server", 30)):
        private, shared = taps[side].of(KeyRecord)  # type: ignore[index]
        (message,) = [r for r in taps[side].of(MessageRecord) if r.number == reply]  # type: ignore[index]
        reader = Reader(message.payload[1:])
        if side == "client":
            reader.string()
        point = X25519PublicKey.from_public_bytes(reader.string())
        k = X25519PrivateKey.from_private_bytes(private.secret.reveal()).exchange(point)
        assert shared.secret.reveal() == k.lstrip(b"\0")


def test_keys_are_told_before_a_byte_that_they_protect() -> None:
    pair, taps = tapped()
    pair.run()
    pair.client.rekey(pair.now)
    pair.run()
    for side in SIDES:
        heard = taps[side].heard
        told = [i for i, r in enumerate(heard) if isinstance(r, KeyRecord) and r.label == "SHARED_SECRET"]
        assert len(told) == 2
        for sender in SIDES:
            for at, limit in zip(told, protected_from(pair, sender), strict=True):
                before = [r for r in heard[:at] if isinstance(r, WireRecord) and r.sent == (side == sender)]
                assert sum(len(r.data) for r in before) <= limit


def protected_from(pair: Pair, sender: Side) -> list[int]:
    """Where in the bytes of `sender` each NEWKEYS ends."""
    place, found = 0, []
    for packet in pair.sent:
        if packet.sender == sender:
            place += len(packet.wire)
            if packet.number == 21:
                found.append(place)
    return found


def test_times_never_go_back_and_are_those_of_the_socket() -> None:
    pair, taps = tapped(latency=0.25)
    pair.run()
    times = [record.time for record in taps["client"].of(WireRecord)]
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert {time % 0.25 for time in times} == {0.0}
    assert times[0] == 0.0


@pytest.mark.parametrize("kind", ["wire", "keys"])
def test_a_broken_sink_is_dropped_and_the_connection_lives(kind: str) -> None:
    calls = []

    class Broken:
        hears = frozenset({kind})

        def __call__(self, record: Heard) -> None:
            calls.append(record)
            raise OSError("disk full")

    records: list[Any] = []
    pair = Pair(hubs={"client": Hub(Broken(), records.append)})
    pair.run()
    assert len(calls) == 1
    assert pair.client.transport.logged_in
    (lost,) = [r.facts for r in records if getattr(r, "name", "") == "sink_dropped"]
    assert lost == {"sink": "Broken", "error": "OSError('disk full')"}


def test_who_hears_states_hears_no_messages() -> None:
    states, everything = Tap("states"), Tap("records")
    pair = Pair(hubs={"client": Hub(states, everything)})
    pair.run()
    told = [record for record in everything.heard if isinstance(record, StateRecord)]
    assert told
    assert len(told) < len(everything.heard)
    assert states.heard == told


def test_nobody_hears_what_there_is_not() -> None:
    with pytest.raises(ValueError, match="a sink hears keys, lengths, records, states, wire, not thoughts"):
        Hub(Tap("thoughts"))


def test_what_never_left_is_not_told_and_hides_nothing() -> None:
    tap = all_ears()
    hub = Hub(tap)
    pair = Pair(hubs={"client": hub})
    pair.run()
    del tap.heard[:]
    pair.client.rekey(pair.now)  # KEXINIT is sealed, and the socket does not take it
    pair.client.receive_eof(pair.now, error="Connection reset by peer")
    assert not any(isinstance(r, StateRecord) and r.name == "closed" for r in tap.heard)
    hub.abandon(pair.now)
    assert [r.name for r in tap.heard if isinstance(r, StateRecord)][-1] == "closed"
    (eof,) = [r for r in tap.of(StateRecord) if r.name == "eof"]
    assert eof.facts == {"error": "Connection reset by peer"}
    assert tap.of(MessageRecord) == []


def test_a_secret_is_shown_by_no_record() -> None:
    record = KeyRecord(0.0, bytes(16), "SHARED_SECRET", Secret(b"hush"))
    assert "hush" not in repr(record)
    assert b"hush".hex() not in repr(record)


_: Sink = all_ears()


def test_a_peer_that_reads_nothing_makes_nothing_grow() -> None:
    """What waits behind a message that the socket does not take has a bound; nothing is lost to it."""
    tap = Tap("records")
    hub = Hub(tap)
    told = {"seq": 0, "epoch": 0, "context": "", "packet_length": 0, "padding_length": 0}
    hub.message(sent=True, payload=b"\x02", wire_length=0, **told)  # type: ignore[arg-type]
    for _ in range(3000):
        hub.message(sent=False, payload=b"\x02" + bytes(30_000), wire_length=0, **told)  # type: ignore[arg-type]
    waiting = sum(len(record.payload) for record in hub._waiting if isinstance(record, MessageRecord))
    assert waiting < MAX_WAITING + 30_001
    hub.flush(1.0)
    assert len(tap.heard) == 3001
    hub.message(sent=True, payload=b"\x02", wire_length=0, **told)  # type: ignore[arg-type]
    hub.message(sent=False, payload=b"\x02", wire_length=0, **told)  # type: ignore[arg-type]
    assert len(tap.heard) == 3001, "the order is kept again"
