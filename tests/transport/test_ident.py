"""RFC 4253 §4.2: identification strings as they are seen in the world, and as nobody should send them."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glasshell.errors import LimitExceeded, MalformedMessage, NegotiationFailed, PeerError, ProtocolViolation
from glasshell.testing.pair import Side
from glasshell.transport.ident import Identification, IdentificationReader, parse
from tests.transport.kit import ROLES


@pytest.mark.parametrize(
    ("line", "protocol", "software", "comments"),
    [
        ("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10", "2.0", "OpenSSH_9.2p1", "Debian-2+deb12u10"),
        ("SSH-2.0-dropbear_2022.83", "2.0", "dropbear_2022.83", ""),
        ("SSH-1.99-Cisco-1.25", "1.99", "Cisco-1.25", ""),
        ("SSH-2.0-PuTTY_Release_0.78", "2.0", "PuTTY_Release_0.78", ""),
        ("SSH-2.0--", "2.0", "-", ""),
        ("SSH-2.0-x y  z ", "2.0", "x", "y  z "),
    ],
)
def test_parse(line: str, protocol: str, software: str, comments: str) -> None:
    assert parse(line.encode()) == Identification(line.encode(), protocol, software, comments)


@pytest.mark.parametrize(
    "line", [b"", b"SSH-", b"SSH-2.0", b"SSH-2.0-", b"SSH-2.0- x", b"ssh-2.0-x", b"HTTP/1.1 400"]
)
def test_no_identification(line: bytes) -> None:
    with pytest.raises(MalformedMessage, match="not an SSH identification string"):
        parse(line)


@pytest.mark.parametrize("byte", [0, 7, 9, 10, 13, 27, 0x1F, 0x7F, 0x80, 0x9B, 0xFF])
def test_forbidden_bytes(byte: int) -> None:
    with pytest.raises(MalformedMessage, match="forbidden byte") as caught:
        parse(b"SSH-2.0-x" + bytes((byte,)) + b"y")
    assert chr(byte) not in str(caught.value)


@pytest.mark.parametrize(
    ("protocol", "hint"), [("1.5", "SSH-1 only"), ("1.3", "SSH-1 only"), ("3.0", "SSH 3.0")]
)
def test_other_protocols(protocol: str, hint: str) -> None:
    with pytest.raises(NegotiationFailed, match="Protocol major versions differ") as caught:
        parse(f"SSH-{protocol}-x".encode())
    assert hint in caught.value.hint


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("role", ROLES)
def test_what_comes_after_is_kept(role: Side, ending: bytes) -> None:
    found = IdentificationReader(role).feed(b"SSH-2.0-x" + ending + b"\x00\n\x01")
    assert found == (parse(b"SSH-2.0-x"), b"\x00\n\x01")


def test_lines_before_a_servers_identification() -> None:
    reader = IdentificationReader("client")
    found = reader.feed(b"Welcome\r\n\x1b]0;pwned\x07\n\nSSH-2.0-x\r\n")
    assert found is not None
    assert reader.preface == ["Welcome", "\\033]0;pwned\\007", ""]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"SSH\n", b"\n", b"\x16\x03\x01", b"X"])
def test_a_client_may_not_begin_otherwise(data: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="did not begin with an SSH identification"):
        IdentificationReader("server").feed(data)


@pytest.mark.parametrize("role", ROLES)
def test_the_length_of_a_line(role: Side) -> None:
    """255 bytes, CR LF included."""
    line = b"SSH-2.0-" + b"x" * (255 - 8 - 2)
    assert IdentificationReader(role).feed(line + b"\r\n") is not None
    with pytest.raises(LimitExceeded):
        IdentificationReader(role).feed(line + b"x\r\n")
    with pytest.raises(LimitExceeded):
        IdentificationReader(role).feed(line + b"xx")  # without waiting for the end


def test_the_number_of_lines_before() -> None:
    reader = IdentificationReader("client")
    assert reader.feed(b"x\n" * 1024) is None
    assert reader.feed(b"SSH-2.0-x\n") is not None
    with pytest.raises(LimitExceeded):
        IdentificationReader("client").feed(b"x\n" * 1025)


def test_long_lines_before_are_not_kept_twice() -> None:
    """1,024 lines of 8 KiB are all that a server may say, and reading them is linear."""
    reader = IdentificationReader("client")
    line = b"x" * 8191 + b"\n"
    for _ in range(16):
        reader.feed(line * 64)
    assert len(reader.preface) == 1024
    assert reader.feed(b"SSH-2.0-x\n") is not None


def feed_for_ever(reader: IdentificationReader) -> None:
    for _ in range(10_000):
        reader.feed(b"A" * 1024)


@pytest.mark.parametrize("role", ROLES)
def test_without_an_end(role: Side) -> None:
    """CVE-2022-21716: ten megabytes of A without a line end."""
    reader = IdentificationReader(role)
    tracemalloc.start()
    try:
        with pytest.raises(PeerError):
            feed_for_ever(reader)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


def outcome(role: Side, pieces: list[bytes]) -> object:
    reader = IdentificationReader(role)
    try:
        for at, piece in enumerate(pieces):
            if (found := reader.feed(piece)) is not None:
                return found[0], found[1] + b"".join(pieces[at + 1 :]), reader.preface
    except (PeerError, NegotiationFailed) as error:
        return type(error)
    return None, reader.preface


PIECES = st.sampled_from([b"SSH-2.0-x", b"SSH-", b"\r\n", b"\n", b"\r", b"1.5", b"\x00", b"hello"])


@given(st.sampled_from(ROLES), st.lists(PIECES | st.binary(max_size=20), max_size=8))
@example("client", [b"SS\nSSH-2.0-x\n"])
def test_only_documented_errors_however_it_is_cut(role: Side, pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    whole = outcome(role, [data])
    assert outcome(role, pieces) == whole
    assert outcome(role, [bytes((byte,)) for byte in data]) == whole
