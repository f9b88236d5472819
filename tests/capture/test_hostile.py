"""Whatever a capture holds: nothing is raised, nothing grows without a bound, what is wrong is named."""

from __future__ import annotations

import struct
import zlib
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasshell.capture import side as side_module
from glasshell.capture.channels import MAX_KEPT, Packets
from glasshell.capture.keylog import KeyLog
from glasshell.capture.passive import Passive
from glasshell.events import ChannelOffered
from glasshell.messages.connection import SessionOpen
from glasshell.messages.transport import KexInit
from glasshell.observe.hub import Hub
from glasshell.observe.record import MessageRecord, StateRecord
from glasshell.observe.seen import Frame, Seen
from glasshell.testing.pair import Pair
from tests.capture.test_live import OPENED, RECORDED, Log, messages, sent, states
from tests.transport.kit import pair

CLIENT, SERVER = True, False
IDENT = {CLIENT: b"SSH-2.0-client\r\n", SERVER: b"SSH-2.0-server\r\n"}


def packet(payload: bytes) -> bytes:
    padding = 8 - (len(payload) + 5) % 8 + 8
    return struct.pack(">IB", len(payload) + 1 + padding, padding) + payload + bytes(padding)


def watcher(opened: Frame = OPENED, keys: KeyLog | None = None) -> tuple[Passive, list[Seen]]:
    seen: list[Seen] = []
    return Passive(0, opened, seen.append, keys), seen


PIECES = st.one_of(
    st.binary(min_size=1, max_size=80),
    st.sampled_from([*IDENT.values(), b"SSH-", b"\n", b"SSH-1.99-x\n", b"SSH-1.5-y\n", b"hello\r\n"]),
    st.binary(min_size=1, max_size=60).map(packet),
    st.tuples(st.sampled_from([1, 2, 4, 20, 21, 30, 31, 32, 33, 34, 50, 51, 52, 60, 90, 91, 94, 98]),
              st.binary(max_size=60)).map(lambda t: packet(bytes([t[0]]) + t[1])),
    st.just(packet(KexInit(bytes(16), *([("a", "aes128-ctr", "none")] * 8)).encode())),
)  # fmt: skip
STEP = st.one_of(
    st.tuples(st.just("data"), st.booleans(), PIECES),
    st.tuples(st.just("gap"), st.booleans(), st.integers(1, 1 << 20)),
    st.tuples(st.just("end"), st.booleans(), st.sampled_from(["fin", "rst", "end", "forgotten"])),
)


@given(st.lists(STEP, max_size=25), st.booleans(), st.booleans())
def test_any_story_is_told_and_never_raised(steps: list[tuple], ssh: bool, syn: bool) -> None:
    opened = OPENED if syn else Frame(1, 1.0, 60, "192.0.2.1", "192.0.2.2", 50000, 22, 0, 0, 0x10, b"")
    keys = KeyLog()
    keys.add(f"{bytes(16).hex()} SHARED_SECRET 01\n{bytes(16).hex()} 02\n", "log")
    passive, seen = watcher(opened, keys)
    if ssh:
        for forward, line in IDENT.items():
            passive.receive(forward, line, 1.0, 1)
    for number, (what, forward, value) in enumerate(steps, 2):
        if what == "data":
            passive.receive(forward, value, 1.0 + number, number)
        elif what == "gap":
            passive.gap(forward, value, 1.0 + number, number)
        else:
            passive.ended(forward, value, 1.0 + number, number)
    passive.finish()
    passive.finish()
    assert passive.ssh is not None
    if passive.ssh:
        names = [each.record.name for each in seen if isinstance(each.record, StateRecord)]
        assert names[0] == "started"
        assert names.count("closed") == 1
    else:
        assert not seen


@given(st.data())
def test_a_damaged_connection_is_told_as_far_as_it_goes(data: st.DataObject) -> None:
    """One byte of a real connection is changed: what is told is true, and the rest is named."""
    log, made = RECORDED
    victim = data.draw(st.integers(0, len(made.sent) - 1))
    wire = bytearray(made.sent[victim].wire)
    wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    passive, seen = watcher(keys=log.keys())
    for number, each in enumerate(made.sent, 2):
        wired = bytes(wire) if number - 2 == victim else each.wire
        passive.receive(each.sender == "client", wired, 100.0, number)
    passive.finish()
    truth = sent(made)
    if made.sent[victim].payload and made.sent[victim].number >= 50:
        # An AEAD: the one packet is named, and all the others are told.
        told = messages(seen)
        assert len(told) >= victim - 3
        # Where the request is lost, its method is not known, and 60 is zeroed whole.
        assert all(each in truth for each in told if each[1][0] != 60)
        assert states(seen, "not_decrypted")


@given(st.integers(0, 40), st.data())
def test_a_hole_within_a_packet_costs_that_packet_alone(skip: int, data: st.DataObject) -> None:
    log, made = RECORDED
    encrypted = [i for i, each in enumerate(made.sent) if each.payload and each.number in (2, 80, 93, 94, 98)]
    victim = data.draw(st.sampled_from(encrypted))
    wire = made.sent[victim].wire
    start = data.draw(st.integers(4, len(wire) - 1))
    length = data.draw(st.integers(1, len(wire) - start))
    passive, seen = watcher(keys=log.keys())
    for number, each in enumerate(made.sent, 2):
        forward = each.sender == "client"
        if number - 2 == victim:
            passive.receive(forward, wire[:start], 100.0, number)
            passive.gap(forward, length, 100.0, number)
            passive.receive(forward, wire[start + length :], 100.0, number)
        else:
            passive.receive(forward, each.wire, 100.0, number)
    passive.finish()
    truth = sent(made)
    place = sum(1 for each in made.sent[:victim] if each.payload)
    assert messages(seen) == truth[:place] + truth[place + 1 :]
    assert states(seen, "gap") == [{"bytes": length}]


@pytest.mark.parametrize("forward", [CLIENT, SERVER])
def test_a_thousand_names(forward: bool) -> None:
    names = tuple(f"algorithm-{i}" for i in range(1000))
    offer = KexInit(bytes(16), names, *([names] * 7))
    passive, seen = watcher()
    for each in (CLIENT, SERVER):
        passive.receive(each, IDENT[each] + packet(offer.encode()), 1.0, 2)
    passive.finish()
    (negotiated,) = states(seen, "negotiated")
    assert negotiated["kex"] == "algorithm-0"
    assert len(states(seen, "hassh")) == 2


@pytest.mark.parametrize("length", [0, 1, 7, 256 * 1024 + 1, 0xFFFFFFFF])
def test_a_length_that_is_none_ends_the_direction_and_is_named(length: int) -> None:
    passive, seen = watcher()
    passive.receive(CLIENT, IDENT[CLIENT] + struct.pack(">I", length) + bytes([10, 20]) + bytes(100), 1.0, 2)
    passive.receive(CLIENT, bytes(1 << 20), 1.0, 3)
    passive.finish()
    (why,) = [facts["why"] for facts in states(seen, "not_decrypted")]
    assert why == f"packet_length {length} is out of bounds"
    assert sum(facts["bytes"] for facts in states(seen, "encrypted")) == 106 + (1 << 20)


def test_what_is_sealed_is_counted_and_not_kept() -> None:
    passive, seen = watcher()
    for each in (CLIENT, SERVER):
        passive.receive(each, IDENT[each] + packet(b"\x15"), 1.0, 2)
    piece = bytes(1 << 16)
    for number in range(50):
        passive.receive(SERVER, piece, 2.0, 3 + number)
    held = [vars_of(side) for side in passive._sides.values()]
    assert sum(held) == 0
    assert sum(facts["bytes"] for facts in states(seen, "encrypted")) == 50 * len(piece)


def vars_of(side: side_module.Side) -> int:
    return side.inbound.buffered() + side.held_size


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"\x16\x03\x01\x02\x00\x01", b""),
        (b"220 mail ESMTP\r\n" * 600, b""),
    ],
    ids=["HTTP", "TLS", "text without end"],
)
def test_other_protocols_are_let_go_at_once(first: bytes, second: bytes) -> None:
    passive, seen = watcher()
    passive.receive(CLIENT, first, 1.0, 2)
    passive.receive(SERVER, second, 1.0, 3)
    assert passive.ssh is False
    assert not seen


def test_lines_before_the_servers_identification() -> None:
    passive, seen = watcher()
    passive.receive(SERVER, b"Welcome\r\nto \x1b[31mthis\r\n" + IDENT[SERVER], 1.0, 2)
    passive.receive(CLIENT, IDENT[CLIENT], 1.0, 3)
    passive.finish()
    assert [facts["text"] for facts in states(seen, "preface_line")] == ["Welcome", "to \\033[31mthis"]


def test_a_reverse_connection_is_told_by_the_offers_not_by_who_connected() -> None:
    log, made = RECORDED
    passive, seen = watcher(keys=log.keys())
    for number, each in enumerate(made.sent, 2):  # the server connects
        passive.receive(each.sender == "server", each.wire, 100.0, number)
    passive.finish()
    assert messages(seen) == sent(made)
    (connected,) = states(seen, "connected")
    assert (connected["address"], connected["local_address"]) == (OPENED.source, OPENED.destination)


def test_keys_that_come_from_the_other_direction_a_little_late_are_waited_for() -> None:
    log, made = RECORDED
    passive, seen = watcher(keys=log.keys())
    reply = next(i for i, each in enumerate(made.sent) if each.number == 31)
    late = [each for each in made.sent[reply:] if each.sender == "server"][:3]
    order = [each for each in made.sent if each not in late]
    order[reply + 3 : reply + 3] = late
    for number, each in enumerate(order, 2):
        passive.receive(each.sender == "client", each.wire, 100.0, number)
    passive.finish()
    assert sorted(messages(seen)) == sorted(sent(made))


def test_a_message_is_said_to_be_in_the_frames_that_carried_it() -> None:
    passive, seen = watcher()
    offer = packet(KexInit(bytes(16), *([("a",)] * 8)).encode())
    passive.receive(CLIENT, IDENT[CLIENT][:5], 1.0, 2)
    passive.receive(CLIENT, IDENT[CLIENT][5:] + offer[:50], 1.0, 3)
    passive.receive(CLIENT, offer[50:60], 1.0, 4)
    passive.receive(CLIENT, offer[60:] + packet(b"\x02\0\0\0\0") + packet(b"\x02\0\0\0\0")[:9], 1.0, 5)
    passive.receive(CLIENT, packet(b"\x02\0\0\0\0")[9:], 1.0, 6)
    passive.finish()
    (ident,) = [each for each in seen if getattr(each.record, "name", "") == "identification_sent"]
    assert ident.frames == (2, 3)
    told = [each.frames for each in seen if isinstance(each.record, MessageRecord)]
    assert told == [(3, 5), (5, 5), (5, 6)]


def test_what_was_under_way_when_compression_began_is_not_compressed() -> None:
    packed = zlib.compressobj()
    first = packed.compress(b"\x5eone") + packed.flush(zlib.Z_PARTIAL_FLUSH)
    second = packed.compress(b"\x5etwo") + packed.flush(zlib.Z_PARTIAL_FLUSH)
    late = side_module.LateDecompressor()
    assert [late.decompress(each) for each in (b"\x02\0\0\0\0", b"\x50x", first, second)] == [
        b"\x02\0\0\0\0", b"\x50x", b"\x5eone", b"\x5etwo"
    ]  # fmt: skip


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 30))
def test_packets_of_a_subsystem_are_cut_as_their_lengths_say(packets: list[bytes], size: int) -> None:
    whole = [b"\x01" + each for each in packets]
    stream = b"".join(struct.pack(">I", len(each)) + each for each in whole)
    cutter, found = Packets(), []
    for at in range(0, len(stream), size):
        found += cutter.feed(memoryview(stream[at : at + size]))
    assert found == whole


def test_a_long_packet_of_a_subsystem_is_cut_short_and_the_next_one_found() -> None:
    stream = struct.pack(">I", 200_000) + bytes([103]) + bytes(199_999) + struct.pack(">I", 1) + b"\x02"
    cutter, found = Packets(), []
    for at in range(0, len(stream), 1000):
        found += cutter.feed(memoryview(stream[at : at + 1000]))
    assert [(each[0], len(each)) for each in found] == [(103, MAX_KEPT), (2, 1)]
    hostile = Packets()
    assert hostile.feed(memoryview(b"\xff\xff\xff\xff" + bytes(10))) == []
    assert hostile.lost


def test_messages_of_a_method_nobody_knows_are_bytes() -> None:
    passive, seen = watcher()
    offer = KexInit(bytes(16), ("gss-nobody",), *([("x",)] * 5), ("none",), ("none",))
    for each in (CLIENT, SERVER):
        passive.receive(each, IDENT[each] + packet(offer.encode()), 1.0, 2)
    passive.receive(CLIENT, packet(b"\x1eabc"), 1.0, 3)
    passive.finish()
    (last,) = [each.record for each in seen if isinstance(each.record, MessageRecord)][-1:]
    assert (last.context, last.payload) == ("", b"\x1eabc")


@pytest.mark.parametrize(
    ("cipher", "mac"),
    [("aes256-gcm@openssh.com", "hmac-sha2-256"), ("aes128-ctr", "hmac-sha2-256-etm@openssh.com")],
)
@given(data=st.data())
@settings(max_examples=25)
def test_a_hole_over_many_packets_is_found_out_of(cipher: str, mac: str, data: st.DataObject) -> None:
    log, made = bulky(cipher, mac)
    truth = sent(made)
    stream = b"".join(each.wire for each in made.sent if each.sender == "client")
    ends = [0]
    for each in made.sent:
        if each.sender == "client":
            ends.append(ends[-1] + len(each.wire))
    first = next(i for i, end in enumerate(ends) if end > ends[-1] // 4)
    start = data.draw(st.integers(ends[first], ends[-10]))
    end = start + data.draw(st.integers(1, min(60_000, ends[-4] - start)))
    passive, seen = watcher(keys=log.keys())
    client = [each for each in made.sent if each.sender == "client"]
    other = [each for each in made.sent if each.sender == "server"]
    # Everything the server said comes before the bulk.
    head = sum(len(each.wire) for each in client[: first - 1])
    turns = iter(other)
    at = 0
    for each in made.sent:
        if each.sender == "client":
            at += len(each.wire)
            if at > head:
                break
        else:
            next(turns)
        passive.receive(each.sender == "client", each.wire, 100.0, 2)
    for each in turns:
        passive.receive(False, each.wire, 100.0, 2)
    passive.receive(True, stream[head:start], 100.0, 3)
    passive.gap(True, end - start, 100.0, 4)
    for place in range(end, len(stream), 1448):
        passive.receive(True, stream[place : place + 1448], 100.0, 5)
    passive.finish()
    whole = [i for i in range(len(client)) if ends[i + 1] <= start or ends[i] >= end]
    expected = [each for each in truth if each[0]]
    got = [each for each in messages(seen) if each[0]]
    assert got == [expected[i - 1] for i in whole if i]
    assert all(each.verified for each in seen if isinstance(each.record, MessageRecord) and each.record.epoch)


@cache
def bulky(cipher: str, mac: str) -> tuple[Log, Pair]:
    log = Log()
    answers = {ChannelOffered: lambda question: True}
    made = pair(hubs={"client": Hub(log)}, answers=answers, ciphers=(cipher,), macs=(mac,))
    made.run()
    channel = made.client.mux.open("session", SessionOpen())
    made.run()
    for size in (10, 700, 30_000, 40, 5_000, 20, 32_000, 100, 100, 9_000, 15, 15, 15, 15, 15):
        channel.send(bytes(range(256)) * (size // 256) + bytes(size % 256))
        made.run()
    return log, made
