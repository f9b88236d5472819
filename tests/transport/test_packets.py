"""RFC 4253 §6: packets under every cipher and MAC, whole, in pieces, out of bounds and altered."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.packet_ciphers import GcmOpener, GcmSealer, Null, Opener, Sealer
from glasshell.crypto.registry import Kind, find, make_opener, make_sealer
from glasshell.errors import IntegrityError, LimitExceeded, MalformedMessage, ProtocolViolation, UsageError
from glasshell.transport.packets import Inbound, Outbound
from glasshell.wire import Secret
from tests.transport.kit import CIPHERS, MACS, plain_packet

COMBINATIONS = [
    "none",
    *(c for c in CIPHERS if find(Kind.CIPHER, c).aead),
    *(f"{c}+{m}" for c in CIPHERS if not find(Kind.CIPHER, c).aead for m in MACS),
]


def keyed(combination: str) -> tuple[Sealer, Opener]:
    if combination == "none":
        return Null(), Null()
    cipher, _, mac = combination.partition("+")
    rows = find(Kind.CIPHER, cipher), find(Kind.MAC, mac) if mac else None
    keys = Secret(bytes(range(rows[0].key_size))), Secret(bytes(range(100, 100 + rows[0].iv_size)))
    mac_key = Secret(b"m" * (rows[1].key_size if rows[1] else 0))
    return make_sealer(*rows, *keys, mac_key), make_opener(*rows, *keys, mac_key)


def both(combination: str) -> tuple[Outbound, Inbound]:
    out, into = Outbound(lambda n: b"\xa5" * n), Inbound()
    sealer, opener = keyed(combination)
    if combination != "none":
        out.install(sealer, reset_seq=False)
        into.install(opener, reset_seq=False)
    return out, into


def drain(into: Inbound) -> Iterator[bytes]:
    while (payload := into.next()) is not None:
        yield bytes(payload)


PAYLOADS = [b"\x15", b"ab", *(b"\x02" * n for n in (3, 7, 8, 9, 15, 16, 17, 31, 64)), bytes(1000)]


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_whole_bytewise_and_split_everywhere(combination: str) -> None:
    out, _ = both(combination)
    for payload in PAYLOADS:
        out.seal(payload[:1], payload[1:])
    data = bytes(out.take())
    whole, bytewise = both(combination)[1], both(combination)[1]
    whole.feed(data)
    assert list(drain(whole)) == PAYLOADS
    got: list[bytes] = []
    for byte in data:
        bytewise.feed(bytes((byte,)))
        got += drain(bytewise)
    assert got == PAYLOADS
    assert (whole.seq, whole.key_bytes, whole.buffered()) == (len(PAYLOADS), len(data), 0)
    for split in range(len(data)):
        into = both(combination)[1]
        into.feed(data[:split])
        got = list(drain(into))
        into.feed(data[split:])
        assert got + list(drain(into)) == PAYLOADS


@given(st.sampled_from(COMBINATIONS), st.lists(st.binary(min_size=1, max_size=3000), max_size=6))
def test_round_trip(combination: str, payloads: list[bytes]) -> None:
    out, into = both(combination)
    for payload in payloads:
        out.seal(payload)
    into.feed(out.take())
    assert list(drain(into)) == payloads


def test_in_clear_by_hand() -> None:
    """The layout of §6, packed here with `struct` alone."""
    out = Outbound(bytes)
    for payload in PAYLOADS:
        out.seal(payload)
        assert out.take() == plain_packet(payload)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_padding(combination: str) -> None:
    """§6: 4 to 255 bytes, to a multiple of the block size or 8, 16 bytes at least in all."""
    for size in range(1, 70):
        out, _ = both(combination)
        length, padding, wire = out.seal(bytes(size))
        sealer = out.sealer
        assert 4 <= padding <= 255
        assert padding < 4 + 2 * sealer.block_size
        assert length == 1 + size + padding
        assert (length + 4 - sealer.aad_length) % sealer.block_size == 0
        assert length + 4 >= 16
        assert wire == 4 + length + sealer.tag_size == len(out.take())


def test_padding_is_drawn_from_the_random_source() -> None:
    pool = bytes(range(256)) * 16
    out = Outbound(lambda n: pool[:n])
    seen = b""
    for _ in range(20):
        _, padding, _ = out.seal(b"x")
        packet = bytes(out.take())
        seen += packet[-padding:]
    assert seen == pool[: len(seen)]


def forged(combination: str, length: int, padding: int, rest: bytes) -> bytes:
    """A packet whose fields say what they should not, sealed all the same."""
    sealer, _ = keyed(combination)
    packet = struct.pack(">IB", length, padding) + rest
    out = bytearray(len(packet) + sealer.tag_size)
    sealer.seal_into(0, packet, memoryview(out))
    return bytes(out)


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize(
    "length",
    [0, 1, 4, 7, 11, 13, 35_001, 256 * 1024 + 1, 256 * 1024 + 16, 2**31 - 1, 2**31, 2**32 - 16, 2**32 - 1],
)
def test_packet_length_out_of_bounds(combination: str, length: int) -> None:
    """CVE-2026-55200, CVE-2019-3855, CVE-2024-43410, CVE-2025-26618: said at once, nothing is waited for."""
    _, into = both(combination)
    into.feed(forged(combination, length, 4, bytes(59))[:16])
    with pytest.raises(ProtocolViolation, match=f"packet_length {length} ") as caught:
        into.next()
    assert caught.value.disconnect_reason == 2


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_the_largest_packet(combination: str) -> None:
    """OpenSSH's bound, 256 KiB, is taken; RFC 4253 §6.1 asks for 35,000 at least."""
    out, into = both(combination)
    sealer = out.sealer
    length = 256 * 1024 - (4 - sealer.aad_length)
    payload = bytes(length - 1 - 10)
    assert out.seal(payload)[0] in (length, length - sealer.block_size)
    into.feed(out.take())
    assert next(drain(into)) == payload


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("beyond", [None, -1, 0, 1])
def test_padding_out_of_bounds(combination: str, beyond: int | None) -> None:
    """CVE-2021-43565 (a payload of no bytes), CVE-2026-46597: judged after the tag, alike for all ciphers.

    Too short for the RFC, or as long as the packet (`beyond` counts from packet_length).
    """
    sealer, _ = keyed(combination)
    length = 64 - (4 - sealer.aad_length)
    for padding in (0, 1, 2, 3, 255) if beyond is None else (length + beyond,):
        _, into = both(combination)
        into.feed(forged(combination, length, padding, bytes(length - 1)))
        with pytest.raises(MalformedMessage, match=f"padding of {padding} bytes"):
            into.next()


@pytest.mark.parametrize("combination", [c for c in COMBINATIONS if c != "none"])
def test_every_flipped_bit_fails_alike(combination: str) -> None:
    """CVE-2008-5161 and padding oracles: what does not verify gives one answer, whatever was altered.

    In the length field the flip may also make a length out of bounds, or a packet that is not there yet.
    """
    out, _ = both(combination)
    out.seal(b"x" * 40)
    data = bytes(out.take())
    said = set()
    for bit in range(len(data) * 8):
        altered = bytearray(data)
        altered[bit // 8] ^= 0x80 >> bit % 8
        _, into = both(combination)
        into.feed(altered)
        if bit < 32:
            try:
                assert into.next() is None
                into.feed(bytes(256 * 1024 + 64))
                assert into.next() is None
            except (ProtocolViolation, IntegrityError):
                continue
        with pytest.raises(IntegrityError) as caught:
            into.next()
        said.add((str(caught.value), caught.value.hint, into.buffered()))
    assert len(said) == 1


@pytest.mark.parametrize("combination", [c for c in COMBINATIONS if c != "none"])
def test_a_packet_at_another_place_does_not_verify(combination: str) -> None:
    out, into = both(combination)
    out.seal(b"first packet here")
    first = bytes(out.take())
    out.seal(b"second packet here")
    second = bytes(out.take())
    assert len(first) == len(second)
    into.feed(second + first)
    into.feed(bytes(256 * 1024 + 64))  # where the length is encrypted it may come out large
    with pytest.raises((IntegrityError, ProtocolViolation)):
        into.next()


@pytest.mark.parametrize("side", ["out", "in"])
def test_sequence_numbers_come_round_under_keys_only(side: str) -> None:
    """Before the first NEWKEYS a wrap is an attack (Terrapin's way to choose a number)."""
    out, into = both("none")
    out.seq = into.seq = 2**32 - 2
    if side == "out":
        out.seal(b"x")
        with pytest.raises(LimitExceeded):
            out.seal(b"x")
    else:
        into.feed(plain_packet(b"x") * 2)
        assert next(drain(into)) == b"x"
        with pytest.raises(LimitExceeded):
            into.next()
    out, into = both("chacha20-poly1305@openssh.com")
    out.seq = into.seq = 2**32 - 1
    out.seal(b"x")
    out.seal(b"y")
    into.feed(out.take())
    assert list(drain(into)) == [b"x", b"y"]
    assert out.seq == into.seq == 1


@pytest.mark.parametrize("reset", [True, False])
def test_new_keys(reset: bool) -> None:
    out, into = both("none")
    out.seal(b"x")
    into.feed(out.take())
    assert next(drain(into)) == b"x"
    sealer, opener = keyed("aes128-gcm@openssh.com")
    out.install(sealer, reset_seq=reset)
    into.install(opener, reset_seq=reset)
    assert out.seq == into.seq == (0 if reset else 1)
    assert (out.key_bytes, out.key_packets, out.epoch) == (0, 0, 1)
    out.seal(b"y")
    into.feed(out.take())
    assert next(drain(into)) == b"y"
    assert into.total_bytes == out.total_bytes > into.key_bytes == out.key_bytes > 0


def test_a_gcm_counter_never_comes_round() -> None:
    """RFC 5647 §7.1: a nonce used twice gives the key of the tag away."""
    sealer, opener = keyed("aes128-gcm@openssh.com")
    assert isinstance(sealer, GcmSealer)
    assert isinstance(opener, GcmOpener)
    sealer._counter = opener._counter = 2**64 - 1
    out, into = Outbound(bytes), Inbound()
    out.install(sealer, reset_seq=True)
    into.install(opener, reset_seq=True)
    out.seal(b"x")
    data = bytes(out.take())
    into.feed(data)
    assert next(drain(into)) == b"x"
    with pytest.raises(UsageError):
        out.seal(b"y")
    into.feed(data)
    with pytest.raises(LimitExceeded):
        into.next()


def test_the_buffer_does_not_grow_with_what_was_opened() -> None:
    out, into = both("none")
    out.seal(bytes(30_000))
    data = bytes(out.take())
    for _ in range(100):
        into.feed(data[:-10])
        assert into.next() is None
        into.feed(data[-10:] + data[:20])
        assert len(list(drain(into))) == 1
        assert into.buffered() == 20
        into.feed(data[20:])
        assert len(list(drain(into))) == 1
        assert len(into._buffer) < 600 * 1024
