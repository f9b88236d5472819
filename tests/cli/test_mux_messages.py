"""The messages of shared connections, and what a master does with a client that is none."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.cli.master import Stream
from glasshell.cli.passenger import MAX_MESSAGE, Master, MasterGone
from glasshell.errors import LimitExceeded, PeerError, ProtocolViolation
from glasshell.messages import mux


def test_a_new_session_byte_by_byte() -> None:
    """OpenSSH PROTOCOL.mux, 2; what it calls a bool is a uint32 on the wire."""
    message = mux.MuxNewSession(
        1, "", 1, 0, 0, 0, 0x7E, "vt100", "ls", (mux.MuxVariable("A=b"),)
    )  # fmt: skip
    wanted = (
        "00000036 10000002 00000001 00000000 00000001 00000000 00000000 00000000 0000007e"
        "00000005 7674313030 00000002 6c73 00000003 413d62"
    )
    assert mux.encode(message) == bytes.fromhex(wanted)
    assert mux.decode(mux.encode(message)[4:]) == message


@given(st.sampled_from(sorted(mux.NUMBERS.values())), st.binary(max_size=200))
def test_whatever_stands_behind_a_type(number: int, data: bytes) -> None:
    try:
        message = mux.decode(number.to_bytes(4, "big") + data)
    except PeerError:
        return
    assert mux.encode(message)[8:] == data


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(ProtocolViolation, match="0x12345678"):
        mux.decode(bytes.fromhex("12345678"))


async def _sent(data: bytes) -> tuple[object, ...]:
    """What a master's end makes of `data` and the end of it."""
    ours, theirs = socket.socketpair()
    stream = Stream(ours)
    with theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        heard = []
        try:
            while (message := await stream.receive()) is not None:
                heard.append(message)
        finally:
            stream.close()
        return tuple(heard)


def test_messages_come_in_any_pieces() -> None:
    hello, check = mux.MuxHello(mux.VERSION), mux.MuxAliveCheck(0)
    data = mux.encode(hello) + mux.encode(check)
    assert asyncio.run(_sent(data)) == (hello, check)
    assert asyncio.run(_sent(data[:-1])) == (hello,)


@pytest.mark.parametrize("size", [0, 3, MAX_MESSAGE + 1, 0xFFFFFFFF])
def test_a_length_that_none_can_have(size: int) -> None:
    with pytest.raises(LimitExceeded):
        asyncio.run(_sent(size.to_bytes(4, "big") + bytes(8)))


def test_descriptors_that_nobody_asked_for_are_closed() -> None:
    async def work() -> None:
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        stream = Stream(ours)
        with theirs:
            for _ in range(12):
                socket.send_fds(theirs, [b"\0"], [write])
            os.close(write)
            with pytest.raises(PeerError):
                await stream.receive()
        stream.close()
        os.set_blocking(read, False)
        assert os.read(read, 1) == b""  # nobody else holds the other end
        os.close(read)

    asyncio.run(work())


@pytest.mark.parametrize(
    "answer",
    [b"", bytes(3), mux.encode(mux.MuxHello(3)), mux.encode(mux.MuxAliveCheck(0)), b"\xff" * 40],
)
def test_a_master_that_is_none(answer: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises((MasterGone, PeerError)):
            Master(ours).greet()
