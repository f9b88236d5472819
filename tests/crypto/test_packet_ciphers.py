"""Sealing and opening packets: known answers, round trips, and what alteration and misuse meet."""

from __future__ import annotations

import hmac
import os
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.packet_ciphers import (
    ChaChaOpener,
    ChaChaSealer,
    CtrSealer,
    GcmOpener,
    GcmSealer,
    Mac,
    Null,
    Opener,
    Sealer,
)
from glasshell.crypto.registry import Kind, find, make_opener, make_sealer, names
from glasshell.errors import IntegrityError, LimitExceeded, UsageError
from glasshell.wire import Secret

from .kat import records, wycheproof

AEADS = [name for name in names(Kind.CIPHER) if find(Kind.CIPHER, name).aead]
PAIRS = [(name, "") for name in AEADS] + list(
    product([name for name in names(Kind.CIPHER) if name not in AEADS], names(Kind.MAC))
)
every_pair = pytest.mark.parametrize(("cipher", "mac"), PAIRS)


class Keys(NamedTuple):
    key: Secret
    iv: Secret
    mac_key: Secret


def some_keys(cipher: str, mac: str) -> Keys:
    row = find(Kind.CIPHER, cipher)
    mac_size = find(Kind.MAC, mac).key_size if mac else 0
    return Keys(*(Secret(os.urandom(size)) for size in (row.key_size, row.iv_size, mac_size)))


def pair(cipher: str, mac: str, keys: Keys) -> tuple[Sealer, Opener]:
    row, mac_row = find(Kind.CIPHER, cipher), find(Kind.MAC, mac) if mac else None
    return make_sealer(row, mac_row, *keys), make_opener(row, mac_row, *keys)


def packet_of(payload: bytes, sealer: Sealer) -> bytes:
    """RFC 4253 §6: at least four bytes of padding, up to the block size."""
    padding = -(5 - sealer.aad_length + len(payload)) % sealer.block_size
    padding += sealer.block_size if padding < 4 else 0
    return (1 + len(payload) + padding).to_bytes(4, "big") + bytes([padding]) + payload + b"\xaa" * padding


def sealed(sealer: Sealer, seq: int, packet: bytes | bytearray) -> bytearray:
    out = bytearray(len(packet) + sealer.tag_size)
    sealer.seal_into(seq, packet, memoryview(out))
    return out


@every_pair
def test_sizes(cipher: str, mac: str) -> None:
    sealer, opener = pair(cipher, mac, some_keys(cipher, mac))
    block = 8 if "chacha" in cipher else 16
    clear_length = not mac or "etm" in mac
    tag = 16 if not mac else 64 if "512" in mac else 32
    for side in (sealer, opener):
        assert (side.block_size, side.aad_length, side.tag_size) == (block, 4 if clear_length else 0, tag)
    assert opener.head_size == (4 if clear_length else 16)
    packet = packet_of(b"payload", sealer)
    assert len(sealed(sealer, 0, packet)) == len(packet) + tag


@given(
    st.sampled_from(PAIRS),
    st.lists(st.binary(max_size=300), min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=20),
)
def test_round_trip(which: tuple[str, str], payloads: list[bytes], seq: int, before: bytes) -> None:
    sealer, opener = pair(*which, some_keys(*which))
    buffer, packets = bytearray(before), []
    for number, payload in enumerate(payloads):
        packets.append(packet_of(payload, sealer))
        buffer += sealed(sealer, (seq + number) % 2**32, packets[-1])
    offset = len(before)
    for number, packet in enumerate(packets):
        now = (seq + number) % 2**32
        length = opener.packet_length(now, buffer, offset)
        assert length == opener.packet_length(now, buffer, offset) == len(packet) - 4
        assert bytes(opener.open(now, buffer, offset, length)) == packet[4:]
        offset += len(packet) + opener.tag_size
    assert offset == len(buffer)


@every_pair
def test_a_packet_may_be_a_bytearray_and_is_left_alone(cipher: str, mac: str) -> None:
    keys = some_keys(cipher, mac)
    one, two = pair(cipher, mac, keys)[0], pair(cipher, mac, keys)[0]
    packet = bytearray(packet_of(b"payload", one))
    before = bytes(packet)
    assert sealed(one, 7, packet) == sealed(two, 7, before)
    assert packet == before
    packet.clear()


@every_pair
def test_the_head_is_enough_for_the_length(cipher: str, mac: str) -> None:
    sealer, opener = pair(cipher, mac, some_keys(cipher, mac))
    packet = packet_of(b"x" * 100, sealer)
    wire = sealed(sealer, 3, packet)
    assert opener.packet_length(3, wire[: opener.head_size], 0) == len(packet) - 4
    assert bytes(opener.open(3, wire, 0, len(packet) - 4)) == packet[4:]


@every_pair
def test_every_altered_bit_meets_the_same_error(cipher: str, mac: str) -> None:
    keys = some_keys(cipher, mac)
    sealer = pair(cipher, mac, keys)[0]
    packet = packet_of(b"some payload", sealer)
    wire = sealed(sealer, 9, packet)
    met = set()
    for bit in range(8 * len(wire)):
        altered = bytearray(wire)
        altered[bit // 8] ^= 1 << bit % 8
        opener = pair(cipher, mac, keys)[1]
        opener.packet_length(9, altered, 0)
        with pytest.raises(IntegrityError) as caught:
            opener.open(9, altered, 0, len(packet) - 4)
        met.add((str(caught.value), caught.value.hint, caught.value.disconnect_reason))
    assert len(met) == 1


@every_pair
def test_a_wrong_length_or_sequence_number_does_not_verify(cipher: str, mac: str) -> None:
    keys = some_keys(cipher, mac)
    sealer = pair(cipher, mac, keys)[0]
    packet = packet_of(b"x" * 64, sealer)
    wire = sealed(sealer, 1, packet) + bytes(64)
    block = sealer.block_size
    for seq, length in ((1, len(packet) - 4 - block), (1, len(packet) - 4 + block), (2, len(packet) - 4)):
        if seq == 2 and "gcm" in cipher:
            continue  # the nonce is its own counter (RFC 5647 §7.1)
        opener = pair(cipher, mac, keys)[1]
        opener.packet_length(seq, wire, 0)
        with pytest.raises(IntegrityError):
            opener.open(seq, wire, 0, length)


@every_pair
def test_the_buffer_can_be_resized_afterwards(cipher: str, mac: str) -> None:
    sealer, opener = pair(cipher, mac, some_keys(cipher, mac))
    packet = packet_of(b"payload", sealer)
    wire = sealed(sealer, 0, packet)
    wire += sealed(sealer, 1, packet)
    length = opener.packet_length(0, wire, 0)
    kept = opener.open(0, wire, 0, length)
    del wire[: len(packet) + opener.tag_size]
    wire[-1] ^= 1
    opener.packet_length(1, wire, 0)
    with pytest.raises(IntegrityError) as caught:
        opener.open(1, wire, 0, length)
    wire.clear()  # while the error, and with it the frames it passed, is still held
    assert caught.value.__cause__ is None
    assert bytes(kept) == packet[4:]


def test_null_is_the_packet_itself() -> None:
    null = Null()
    assert (null.block_size, null.aad_length, null.tag_size, null.head_size) == (8, 0, 0, 4)
    packet = packet_of(b"\x14" + bytes(16), null)
    wire = sealed(null, 0, packet)
    assert wire == packet
    assert null.packet_length(0, wire, 0) == len(packet) - 4
    assert null.open(0, wire, 0, len(packet) - 4) == packet[4:]
    wire.clear()


def test_chacha20_poly1305_known_answers(shared: Path) -> None:
    checked = 0
    for record in records(shared / "vectors/ssh-attacker/chachapolyssh.txt"):
        fields = ("Key", "IV", "AAD", "Ciphertext", "Plaintext", "Tag")
        values = {name: bytes.fromhex(record[name]) for name in fields}
        if len(values["Key"]) != 64:
            continue  # the one plain RFC 7539 vector
        seq, key = int.from_bytes(values["IV"], "big"), Secret(values["Key"])
        # AAD is packet_length, encrypted; what it decrypts to is as random as the rest.
        wire = bytearray(values["AAD"] + values["Ciphertext"] + values["Tag"])
        opener = ChaChaOpener(key, Secret(b""))
        length = opener.packet_length(seq, wire, 0)
        assert opener.open(seq, wire, 0, len(values["Ciphertext"])) == values["Plaintext"]
        packet = length.to_bytes(4, "big") + values["Plaintext"]
        assert sealed(ChaChaSealer(key, Secret(b"")), seq, packet) == wire
        checked += 1
    assert checked == 10


def test_gcm_known_answers(shared: Path) -> None:
    # packet_length is authenticated, not encrypted, so the ciphertext of a published vector stays the same.
    checked = 0
    for test in wycheproof(shared / "vectors/wycheproof/aes_gcm_test.json"):
        if test["result"] != "valid" or test["ivSize"] != 96 or test["keySize"] == 192:
            continue
        key, iv, message = (bytes.fromhex(test[name]) for name in ("key", "iv", "msg"))
        head = len(message).to_bytes(4, "big")
        wire = sealed(GcmSealer(Secret(key), Secret(iv)), 0, head + message)
        assert wire[:-16] == head + bytes.fromhex(test["ct"])
        assert AESGCM(key).decrypt(iv, bytes(wire[4:]), head) == message
        checked += 1
    assert checked > 50


def test_the_gcm_nonce_counts_packets() -> None:
    key, fixed, start = os.urandom(32), os.urandom(4), 2**63 - 1
    sealer = GcmSealer(Secret(key), Secret(fixed + start.to_bytes(8, "big")))
    packet = packet_of(b"payload", sealer)
    for number in range(3):
        wire = bytes(sealed(sealer, 0, packet))
        nonce = fixed + (start + number).to_bytes(8, "big")
        assert AESGCM(key).decrypt(nonce, wire[4:], wire[:4]) == packet[4:]


def test_the_gcm_counter_does_not_wrap() -> None:
    key, iv = Secret(bytes(32)), Secret(bytes(4) + b"\xff" * 8)
    sealer, opener = GcmSealer(key, iv), GcmOpener(key, iv)
    packet = packet_of(b"payload", sealer)
    wire = sealed(sealer, 0, packet)
    assert opener.open(0, wire, 0, opener.packet_length(0, wire, 0)) == packet[4:]
    with pytest.raises(UsageError, match="used up"):
        sealed(sealer, 1, packet)
    with pytest.raises(LimitExceeded, match="used up"):
        opener.open(1, wire, 0, len(packet) - 4)


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_ctr_known_answers(shared: Path, bits: int) -> None:
    mac = Mac("sha256", Secret(bytes(32)), etm=False)
    checked = 0
    for record in records(shared / f"vectors/cryptography-vectors/ciphers/AES/CTR/aes-{bits}-ctr.txt"):
        key, iv, plain, cipher = (bytes.fromhex(record[n]) for n in ("KEY", "IV", "PLAINTEXT", "CIPHERTEXT"))
        assert sealed(CtrSealer(Secret(key), Secret(iv), mac), 0, plain)[:-32] == cipher
        checked += 1
    assert checked >= 3


def test_ctr_runs_on_from_packet_to_packet() -> None:
    keys = some_keys("aes256-ctr", "hmac-sha2-256")
    one, two = pair("aes256-ctr", "hmac-sha2-256", keys)[0], pair("aes256-ctr", "hmac-sha2-256", keys)[0]
    packet = packet_of(b"x" * 40, one)
    split = bytes(sealed(one, 0, packet)[:-32]) + bytes(sealed(one, 1, packet)[:-32])
    assert split == bytes(sealed(two, 0, packet + packet)[:-32])


@pytest.mark.parametrize("mac", names(Kind.MAC))
def test_what_the_mac_covers(mac: str) -> None:
    keys = some_keys("aes128-ctr", mac)
    sealer = pair("aes128-ctr", mac, keys)[0]
    packet = packet_of(b"payload", sealer)
    wire = bytes(sealed(sealer, 0xFFFFFFFE, packet))
    size = sealer.tag_size
    covered = wire[:-size] if mac.endswith("-etm@openssh.com") else packet
    hash_name = "sha256" if "256" in mac else "sha512"
    # RFC 4253 §6.4; for -etm OpenSSH PROTOCOL §1.5
    assert wire[-size:] == hmac.digest(keys.mac_key.reveal(), b"\xff\xff\xff\xfe" + covered, hash_name)
    assert (wire[:4] == packet[:4]) is mac.endswith("-etm@openssh.com")


def test_hmac_known_answers(shared: Path) -> None:
    for bits in (256, 512):
        checked = 0
        for test in wycheproof(shared / f"vectors/wycheproof/hmac_sha{bits}_test.json"):
            message = bytes.fromhex(test["msg"])
            if len(message) < 4 or test["tagSize"] != bits:
                continue
            mac = Mac(f"sha{bits}", Secret(bytes.fromhex(test["key"])), etm=True)
            tag = mac.tag(int.from_bytes(message[:4], "big"), message[4:7], message[7:])
            assert (tag == bytes.fromhex(test["tag"])) is (test["result"] == "valid")
            checked += 1
        assert checked > 50
