"""SOCKS requests: RFC 1928, and the two shapes of version 4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.connection.socks import MAX_REQUEST, NOT_ALLOWED, Socks
from glasshell.errors import ProtocolViolation

V4 = bytes.fromhex("04 01 0050 c0000207") + b"ada\0"
V4A = bytes.fromhex("04 01 0016 00000001") + b"ada\0db.example\0"
GREETING = bytes.fromhex("05 02 00 02")
V5_IPV4 = bytes.fromhex("05 01 00 01 c0000207 0050")
V5_NAME = bytes.fromhex("05 01 00 03 0a") + b"db.example" + bytes.fromhex("1538")
V5_IPV6 = bytes.fromhex("05 01 00 04 20010db8000000000000000000000001 01bb")

REQUESTS = [
    (V4, b"", ("192.0.2.7", 80), "005a"),
    (V4A, b"", ("db.example", 22), "005a"),
    (GREETING + V5_IPV4, b"\x05\x00", ("192.0.2.7", 80), "05000001"),
    (GREETING + V5_NAME, b"\x05\x00", ("db.example", 5432), "05000001"),
    (GREETING + V5_IPV6, b"\x05\x00", ("2001:db8::1", 443), "05000001"),
]


@pytest.mark.parametrize(("request_", "answer", "target", "granted"), REQUESTS)
@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_what_is_asked_for(
    request_: bytes, answer: bytes, target: tuple[str, int], granted: str, piece: int
) -> None:
    socks, said = Socks(), b""
    data = request_ + b"GET /"
    for at in range(0, len(request_), piece):
        assert socks.target is None
        said += socks.receive(data[at : at + piece] if piece < 1000 else data)
    assert socks.target == target
    assert said == answer
    assert socks.granted().startswith(bytes.fromhex(granted))
    assert socks.rest == {1: b"", 3: data[len(request_) :][: -len(request_) % 3], 1000: b"GET /"}[piece]


def test_refusals_have_the_reason_where_the_version_knows_one() -> None:
    four, five = Socks(), Socks()
    four.receive(V4)
    five.receive(GREETING + V5_IPV4)
    assert four.refused(NOT_ALLOWED) == bytes.fromhex("005b000000000000")
    assert five.refused(NOT_ALLOWED) == bytes.fromhex("05020001000000000000")


@pytest.mark.parametrize(
    ("data", "said", "answer"),
    [
        (b"GET / HTTP/1.1\r\n", "version 71", ""),
        (bytes.fromhex("050102"), "authenticate", "05ff"),
        (GREETING + bytes.fromhex("05 02 00 01 c0000207 0050"), "command 2", "0501"),
        (GREETING + bytes.fromhex("05 01 00 02 c0000207 0050"), "type 2", "0501"),
        (GREETING + bytes.fromhex("04 01 00 01 c0000207 0050"), "version 4", "0501"),
        (GREETING + bytes.fromhex("05 01 00 01 c0000207 0000"), "port 0", "0501"),
        (GREETING + bytes.fromhex("05 01 00 03 00 0050"), "host name", "0501"),
        (GREETING + bytes.fromhex("05 01 00 03 03") + b"a\nb\0P", "host name", "0501"),
        (GREETING + bytes.fromhex("05 01 00 03 01 ff 0050"), "not ASCII", "0501"),
        (bytes.fromhex("04 02 0050 c0000207 00"), "command 2", "005b"),
        (bytes.fromhex("04 01 0050 c0000207") + b"x" * MAX_REQUEST, "more than", "005b"),
    ],
)
def test_what_is_no_request(data: bytes, said: str, answer: str) -> None:
    socks = Socks()
    with pytest.raises(ProtocolViolation, match=said):
        socks.receive(data)
    assert socks.refused().hex().startswith(answer)
    assert bool(socks.refused()) == bool(answer)


@given(st.lists(st.binary(max_size=60), max_size=40))
def test_whatever_comes_there_is_an_end(pieces: list[bytes]) -> None:
    socks = Socks()
    try:
        for piece in pieces:
            socks.receive(piece)
            if socks.target is not None:
                host, port = socks.target
                assert host.isprintable()
                assert 0 < port < 65536
                return
        assert len(socks._buffer) <= MAX_REQUEST
    except ProtocolViolation:
        pass
