"""Readers and writers over a channel that the test plays."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.aio.streams import HIGH_WATER, Reader, Writer
from glasshell.errors import ConnectionClosed, ConnectionLost, LimitExceeded, UsageError
from tests.aio.kit import run


class Source:
    """What has arrived on a channel."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.reader = Reader(self.take)

    def take(self, n: int) -> bytes:
        taken = bytes(self.data[:n])
        del self.data[:n]
        return taken

    def arrive(self, data: bytes) -> None:
        self.data += data
        self.reader.feed()


class Sink:
    """A channel that takes `room` bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sent = bytearray()
        self.finished = 0
        self.gone = False
        self.writer = Writer(self.send, self.finish)

    def send(self, data: memoryview) -> int:
        if self.gone:
            raise ConnectionClosed("the reader is gone")
        taken = min(self.room, len(data))
        self.room -= taken
        self.sent += data[:taken]
        return taken

    def finish(self) -> None:
        self.finished += 1

    def widen(self, room: int) -> None:
        self.room += room
        self.writer.push()


def test_a_reader_returns_what_there_is_and_waits_for_more() -> None:
    async def main() -> None:
        source = Source(b"abc")
        assert await source.reader.read(2) == b"ab"
        assert await source.reader.read(100) == b"c"
        waiting = asyncio.ensure_future(source.reader.read(100))
        await asyncio.sleep(0)
        assert not waiting.done()
        source.arrive(b"later")
        assert await waiting == b"later"
        source.reader.end()
        assert await source.reader.read(100) == b""
        assert source.reader.at_eof()

    run(main())


def test_a_stream_that_was_cut_off_is_not_taken_for_one_that_ended() -> None:
    async def main() -> None:
        source = Source(b"half of it")
        source.reader.end(ConnectionLost("cut"))
        assert await source.reader.read(100) == b"half of it"
        with pytest.raises(ConnectionLost, match="cut"):
            await source.reader.read(100)
        for call in (source.reader.read(), source.reader.readline(), source.reader.readexactly(1)):
            with pytest.raises(ConnectionLost):
                await call

    run(main())


@given(st.lists(st.binary(max_size=9)), st.integers(1, 7))
def test_lines_do_not_depend_on_how_the_bytes_arrive(pieces: list[bytes], size: int) -> None:
    whole = b"\n".join(pieces)
    *full, last = whole.split(b"\n")
    expected = [line + b"\n" for line in full] + [last] * bool(last)

    async def main() -> list[bytes]:
        source = Source()

        async def arrive() -> None:
            for start in range(0, len(whole), size):
                source.arrive(whole[start : start + size])
                await asyncio.sleep(0)
            source.reader.end()

        task = asyncio.ensure_future(arrive())
        lines = [line async for line in source.reader]
        await task
        return lines

    assert run(main()) == expected


def test_exactly_and_until() -> None:
    async def main() -> None:
        source = Source(b"12345678|rest")
        assert await source.reader.readexactly(3) == b"123"
        assert await source.reader.readuntil(b"|") == b"45678|"
        source.reader.end()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await source.reader.readexactly(10)
        assert caught.value.partial == b"rest"
        endless = Source(b"x" * 100)
        with pytest.raises(LimitExceeded):
            await endless.reader.readuntil(b"\n", limit=64)
        assert len(await endless.reader.read(1000)) == 64

    run(main())


def test_a_writer_keeps_what_the_channel_does_not_take_and_drain_waits() -> None:
    async def main() -> None:
        sink = Sink(10)
        data = bytes(range(256)) * (HIGH_WATER // 128)
        sink.writer.write(data)
        sink.writer.write(b"tail")
        draining = asyncio.ensure_future(sink.writer.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        assert sink.sent == data[:10]
        sink.writer.write_eof()
        sink.widen(len(data) - 8)
        await draining
        assert sink.finished == 0, "the end waits for the data before it"
        sink.widen(100)
        await sink.writer.flushed()
        assert sink.sent == data + b"tail"
        assert sink.finished == 1
        sink.writer.write_eof()
        assert sink.finished == 1
        with pytest.raises(UsageError):
            sink.writer.write(b"more")

    run(main())


def test_a_writer_says_so_when_nobody_reads_any_more() -> None:
    async def main() -> None:
        sink = Sink(0)
        sink.writer.write(bytes(HIGH_WATER + 1))
        draining = asyncio.ensure_future(sink.writer.drain())
        await asyncio.sleep(0)
        sink.gone = True
        sink.writer.push()
        with pytest.raises(ConnectionClosed):
            await draining
        with pytest.raises(ConnectionClosed):
            sink.writer.write(b"x")

    run(main())
