"""Delayed compression: streams that run on, and what a hostile one meets."""

from __future__ import annotations

import contextlib
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.compression import MAX_PAYLOAD, Compressor, Decompressor
from glasshell.errors import LimitExceeded, MalformedMessage, PeerError


@given(st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=6))
def test_each_packet_can_be_read_at_once(payloads: list[bytes]) -> None:
    ours, theirs = Compressor(), zlib.decompressobj()
    for payload in payloads:
        assert theirs.decompress(ours.compress(payload)) == payload


@pytest.mark.parametrize("flush", [zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH])
def test_a_peers_way_of_flushing_does_not_matter(flush: int) -> None:
    theirs, ours = zlib.compressobj(), Decompressor()
    for payload in (b"one", b"two" * 5000, b"one", bytes(range(256))):
        assert ours.decompress(theirs.compress(payload) + theirs.flush(flush)) == payload


def test_a_bomb_ends_at_the_limit() -> None:
    for size, fits in ((MAX_PAYLOAD, True), (MAX_PAYLOAD + 1, False), (100 * MAX_PAYLOAD, False)):
        stream = zlib.compressobj()
        data = stream.compress(bytes(size)) + stream.flush(zlib.Z_PARTIAL_FLUSH)
        if fits:
            assert len(Decompressor().decompress(data)) == size
        else:
            with pytest.raises(LimitExceeded):
                Decompressor().decompress(data)


def test_a_payload_must_be_there() -> None:
    theirs, ours = zlib.compressobj(), Decompressor()
    ours.decompress(theirs.compress(b"x") + theirs.flush(zlib.Z_SYNC_FLUSH))
    with pytest.raises(MalformedMessage):
        ours.decompress(theirs.flush(zlib.Z_SYNC_FLUSH))


def test_empty_blocks_cost_nothing_to_speak_of() -> None:
    # Stored blocks without contents (RFC 1951 §3.2.4), as many as fit a packet of 256 KiB.
    data = b"\x78\x9c" + b"\x00\x00\x00\xff\xff" * (MAX_PAYLOAD // 5)
    begun = time.process_time()
    with pytest.raises(MalformedMessage):
        Decompressor().decompress(data)
    assert time.process_time() - begun < 0.5


def test_an_ended_stream_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        Decompressor().decompress(zlib.compress(b"payload"))


@given(st.binary(max_size=200))
def test_noise_is_a_peer_error(data: bytes) -> None:
    with contextlib.suppress(PeerError):
        Decompressor().decompress(data)
