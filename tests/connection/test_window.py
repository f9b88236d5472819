"""Windows to the byte (RFC 4254 §5.2; security row E2)."""

from __future__ import annotations

import mmap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.connection.channel import MAX_BURST, Channel
from glasshell.connection.window import SMALL, Budget, Buffer, Incoming, Outgoing
from glasshell.errors import ConnectionClosed, MalformedMessage, PeerError, ProtocolViolation
from glasshell.events import ChannelReadable, ChannelWritable
from glasshell.messages import connection as m
from glasshell.messages.declare import Message

from .kit import Pair, Side, offered, opened

# --- receiving


def test_data_up_to_the_window_and_not_a_byte_more() -> None:
    side = Side("client", window=1000, max_packet=600)
    channel = opened(side)
    side.receive(m.ChannelData(channel.id, b"a" * 600), m.ChannelExtendedData(channel.id, 1, b"b" * 400))
    assert channel.readable() == 600
    assert channel.readable(1) == 400
    with pytest.raises(ProtocolViolation, match="window of 0"):
        side.receive(m.ChannelData(channel.id, b"c"))


@pytest.mark.parametrize("make", [
    lambda n: m.ChannelData(n, b"a" * 601), lambda n: m.ChannelExtendedData(n, 1, b"a" * 601),
    lambda n: m.ChannelExtendedData(n, 7, b"a" * 601),
])  # fmt: skip
def test_a_packet_larger_than_we_take(make: Any) -> None:
    side = Side("client", window=1000, max_packet=600)
    channel = opened(side)
    with pytest.raises(ProtocolViolation, match="601 bytes of data in one packet"):
        side.receive(make(channel.id))


def test_the_window_is_granted_again_when_half_of_it_was_read() -> None:
    side = Side("client", window=1000, max_packet=600)
    channel = opened(side)
    side.receive(m.ChannelData(channel.id, b"a" * 600), m.ChannelData(channel.id, b"b" * 400))
    assert side.events() == [ChannelReadable(channel)]
    assert channel.read(499) == b"a" * 499
    assert side.take() == []
    assert channel.read(1) == b"a"
    assert side.take() == [m.ChannelWindowAdjust(70, 500)]
    assert channel.read() == b"a" * 100 + b"b" * 400
    assert side.take() == [m.ChannelWindowAdjust(70, 500)]


def test_nothing_is_granted_after_the_peers_eof() -> None:
    side = Side("client", window=1000)
    channel = opened(side)
    side.receive(m.ChannelData(channel.id, b"a" * 1000), m.ChannelEof(channel.id))
    assert len(channel.read()) == 1000
    assert side.take() == []


@pytest.mark.parametrize("code", [0, 2, 99, 0xFFFFFFFF])
def test_extended_data_of_no_known_type_is_counted_and_dropped(code: int) -> None:
    side = Side("client", window=1000)
    channel = opened(side)
    side.receive(m.ChannelExtendedData(channel.id, code, b"x" * 700))
    assert side.events() == []
    assert side.take() == [m.ChannelWindowAdjust(70, 700)]
    assert channel.readable() == channel.readable(1) == 0


def test_stderr_means_nothing_on_a_tcp_channel_nor_towards_a_server() -> None:
    client, server = Side("client"), Side("server")
    tunnel, session = opened(client, "direct-tcpip"), offered(server)
    client.receive(m.ChannelExtendedData(tunnel.id, 1, b"x"))
    server.receive(m.ChannelExtendedData(session.id, 1, b"x"))
    assert client.events() == server.events() == []
    assert tunnel.readable(1) == session.readable(1) == 0


def test_empty_data_is_no_news() -> None:
    side = Side("client")
    channel = opened(side)
    side.receive(m.ChannelData(channel.id, b""), m.ChannelExtendedData(channel.id, 1, b""))
    assert side.events() == []


def test_each_channel_has_its_own_window() -> None:
    side = Side("client", window=1000)
    first, second = opened(side), opened(side)
    side.receive(m.ChannelData(first.id, b"a" * 1000), m.ChannelData(second.id, b"b" * 1000))
    assert side.events() == [ChannelReadable(first), ChannelReadable(second)]
    with pytest.raises(ProtocolViolation):
        side.receive(m.ChannelData(first.id, b"a"))
    assert second.read() == b"b" * 1000


def test_readable_is_told_once_for_each_receive() -> None:
    side = Side("client")
    channel = opened(side)
    side.receive(*(m.ChannelData(channel.id, b"x" * 1000) for _ in range(50)))
    assert side.events() == [ChannelReadable(channel)]
    side.receive(m.ChannelData(channel.id, b"y"))
    assert side.events() == [ChannelReadable(channel)]
    assert channel.read() == b"x" * 50_000 + b"y"


def test_bulk_data_is_not_copied_and_crumbs_do_not_cost_an_object_each() -> None:
    side = Side("client")
    channel = opened(side)
    payload = memoryview(m.ChannelData(channel.id, b"x" * 32768).encode())
    side.handlers[94](payload)
    (chunk,) = channel.read_chunks()
    assert isinstance(chunk, memoryview)
    assert chunk.obj is payload.obj
    for _ in range(10_000):
        side.receive(m.ChannelData(channel.id, b"y"))
    assert len(channel.stdout.chunks) == 1
    assert channel.read() == b"y" * 10_000


@given(st.lists(st.one_of(st.binary(max_size=1200), st.integers(0, 3000)), max_size=40))
def test_a_buffer_gives_back_what_it_took(steps: list[bytes | int]) -> None:
    buffer, model = Buffer(), b""
    for step in steps:
        if isinstance(step, bytes):
            buffer.append(memoryview(step))
            model += step
        else:
            assert b"".join(buffer.take(step)) == model[:step]
            model = model[step:]
        assert buffer.size == len(model)
    assert b"".join(buffer.take()) == model


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 700), st.sampled_from([None, 1, 5])), max_size=60))
def test_every_byte_of_a_window_is_in_one_place(steps: list[tuple[bool, int, int | None]]) -> None:
    """`granted - received` as the peer counts it is our `left`, and refused is exactly what exceeds it."""
    side = Side("client", window=2000, max_packet=600)
    channel = opened(side)
    granted, received, unread = 2000, 0, 0
    for peer_sends, size, code in steps:
        if not peer_sends:
            unread -= len(channel.read(size)) + len(channel.read(size, 1))
        else:
            data = b"x" * size
            message: Message = m.ChannelData(channel.id, data)
            if code is not None:
                message = m.ChannelExtendedData(channel.id, code, data)
            if size > 600 or size > granted - received:
                with pytest.raises(ProtocolViolation):
                    side.receive(message)
                return
            side.receive(message)
            received += size
            unread += size if code != 5 else 0
        granted += sum(message.bytes_to_add for message in side.take())
        assert channel.incoming.left == granted - received
        assert channel.incoming.received == received
        assert channel.readable() + channel.readable(1) == unread
        assert channel.incoming.left + channel.incoming.consumed + unread == 2000


class Hot:
    """The two ways that CHANNEL_DATA can take, side by side."""

    def __init__(self) -> None:
        self.side = Side("client", window=5000, max_packet=3000)
        self.open, self.ended, self.closing = (opened(self.side) for _ in range(3))
        self.side.mux.open("session", m.SessionOpen())
        self.side.receive(m.ChannelEof(self.ended.id))
        self.closing.close()
        self.side.events()
        self.side.take()

    def outcome(self, handler: Any, payload: bytes) -> object:
        try:
            handler(memoryview(payload))
        except PeerError as error:
            return type(error), str(error)
        return [
            (c.incoming.left, c.incoming.consumed, c.read(), c.id in self.side.mux._readable)
            for c in (self.open, self.ended, self.closing)
        ]


data_payloads = st.builds(
    lambda number, size, lie, cut, tail: (
        bytes([94]) + number.to_bytes(4, "big") + (size + lie).to_bytes(4, "big") + b"d" * size + tail
    )[: cut],
    st.integers(0, 5), st.sampled_from([0, 1, SMALL - 1, SMALL, 2999, 3000, 3001, 5001]),
    st.sampled_from([0, 0, 0, 0, 1, 4000]), st.sampled_from([10_000] * 6 + [1, 5, 8, 9, 10]),
    st.sampled_from([b"", b"", b"", b"t"]),
)  # fmt: skip


@given(st.lists(data_payloads, max_size=12))
def test_the_shortcut_for_data_decides_as_the_long_way(payloads: list[bytes]) -> None:
    short, long = Hot(), Hot()
    for payload in payloads:
        hot = short.outcome(short.side.mux._on_data, payload)
        cold = long.outcome(long.side.mux._on_unusual_data, payload)
        assert hot == cold
        assert short.side.port.sent == long.side.port.sent


def test_malformed_data_is_said_to_be_so() -> None:
    side = Side("client")
    channel = opened(side)
    whole = m.ChannelData(channel.id, b"x" * 600).encode()
    for cut in range(1, len(whole)):
        with pytest.raises(MalformedMessage, match="SSH_MSG_CHANNEL_DATA"):
            side.handlers[94](memoryview(whole[:cut]))


# --- sending


def test_data_is_cut_to_the_peers_packets_and_stops_at_its_window() -> None:
    side = Side("client")
    channel = opened(side, window=2500, packet=1000)
    assert channel.send(b"a" * 3000) == 2500
    assert [len(x.data) for x in side.take()] == [1000, 1000, 500]
    assert channel.send(b"b") == 0
    side.receive(m.ChannelWindowAdjust(channel.id, 10))
    assert side.events() == [ChannelWritable(channel)]
    side.receive(m.ChannelWindowAdjust(channel.id, 10))
    assert side.events() == []  # told once
    assert channel.send_stderr(b"c" * 30) == 20
    assert side.take() == [m.ChannelExtendedData(70, 1, b"c" * 20)]


def test_no_packet_is_larger_than_ours_whatever_the_peer_takes() -> None:
    side = Side("client")
    channel = opened(side, window=1 << 20, packet=0xFFFFFFFF)
    channel.send(bytes(300_000))
    assert [len(x.data) for x in side.take()] == [122_880, 122_880, 54_240]


def test_a_window_grows_to_the_last_value_and_not_beyond() -> None:
    side = Side("client")
    channel = opened(side, window=0)
    side.receive(m.ChannelWindowAdjust(channel.id, 0xFFFFFFFF))
    side.receive(m.ChannelWindowAdjust(channel.id, 0))
    with pytest.raises(ProtocolViolation, match=r"past 2\^32 - 1"):
        side.receive(m.ChannelWindowAdjust(channel.id, 1))


def test_a_window_of_nothing_sends_nothing_and_does_not_spin() -> None:
    side = Side("client")
    channel = opened(side, window=0)
    assert channel.send(b"x") == 0
    side.mux.resume_writing()
    side.receive(m.ChannelWindowAdjust(channel.id, 0))
    assert side.take() == []
    assert side.events() == []


def test_packets_of_one_byte_fill_the_output_and_stop() -> None:
    side = Side("client", max_output=10_000)
    channel = opened(side, window=0xFFFFFFFF, packet=1)
    sent = channel.send(bytes(100_000))
    assert 0 < sent < 1000
    assert side.port.queued <= 10_000 + 64


def test_one_send_makes_no_more_packets_than_a_burst() -> None:
    """A peer that takes a byte in each packet once held the loop for a second with one write of 64 KiB."""
    side = Side("server")
    channel = offered(side)
    channel.outgoing.max_packet = 1
    assert channel.send(b"x" * 65536) == MAX_BURST
    side.mux.resume_writing()
    assert side.events(ChannelWritable) == [ChannelWritable(channel)]
    assert channel.send_stderr(b"x" * (MAX_BURST + 1)) == MAX_BURST
    assert len(side.take()) == 2 * MAX_BURST


def test_a_write_of_5_gib_is_arithmetic() -> None:
    """RFC windows end at 4 GiB; a write may be longer (Go's CVE-2026-39834 spun at 2^32)."""
    side = Side("client", max_packet=1 << 30)
    channel = opened(side, window=0xFFFFFFFF, packet=1 << 30)
    side.port.space = 1 << 40
    sizes: list[int] = []
    side.port.send_data = lambda head, data: sizes.append(len(data))  # type: ignore[method-assign]
    with mmap.mmap(-1, 5 << 30) as pages, memoryview(pages) as view:
        done = channel.send(view)
        assert done == 0xFFFFFFFF
        side.receive(m.ChannelWindowAdjust(channel.id, 0xFFFFFFFF))
        with view[done:] as rest:
            done += channel.send(rest)
    assert done == 5 << 30 == sum(sizes) == channel.outgoing.sent
    assert channel.outgoing.left == 2 * 0xFFFFFFFF - (5 << 30)


def test_the_output_is_shared_in_turns() -> None:
    side = Side("client", max_output=100_000)
    channels = [opened(side, window=1 << 30) for _ in range(3)]
    served = dict.fromkeys(channels, 0)
    for channel in channels:
        served[channel] += channel.send(bytes(1 << 20))
    for _ in range(6):
        side.take()
        side.mux.resume_writing()
        for event in side.events(ChannelWritable):
            served[event.channel] += event.channel.send(bytes(1 << 20))
    assert max(served.values()) <= 2 * min(served.values())


def test_nobody_is_told_to_write_without_having_fallen_short() -> None:
    side = Side("client")
    channel = opened(side, window=10)
    assert channel.send(b"x" * 10) == 10
    side.receive(m.ChannelWindowAdjust(channel.id, 10))
    side.mux.resume_writing()
    assert side.events() == []


def test_a_key_exchange_makes_writers_wait() -> None:
    side = Side("client")
    channel = opened(side)
    side.port.space = 0
    assert channel.send(b"x") == 0
    side.receive(m.ChannelWindowAdjust(channel.id, 10))
    assert side.events() == []
    side.port.space = None
    side.mux.resume_writing()
    assert side.events() == [ChannelWritable(channel)]


def test_eow_wakes_and_stops_the_writer() -> None:
    side = Side("client")
    channel = opened(side, window=5)
    assert channel.send(b"x" * 9) == 5
    side.receive(m.ChannelRequest(channel.id, "eow@openssh.com", False, m.Eow()))
    assert side.events() == [ChannelWritable(channel)]
    with pytest.raises(ConnectionClosed):
        channel.send(b"x")
    side.receive(m.ChannelData(channel.id, b"still"))
    assert channel.read() == b"still"
    channel.send_eof()


# --- all windows together


def test_the_first_channels_do_not_take_everything() -> None:
    total, channels = 16 << 20, 1000
    budget = Budget(total, channels)
    windows = [budget.take(2 << 20, already) for already in range(channels)]
    assert windows[0] == 2 << 20
    assert sum(windows[:4]) < 6 << 20  # 2, then a quarter of what is spare: 1.5, 1.1, 0.8
    assert min(windows) >= total // (2 * channels)
    assert sum(windows) == budget.held <= total
    assert windows == sorted(windows, reverse=True)


@given(st.integers(1, 1 << 24), st.integers(1, 50), st.lists(st.integers(-5, 1 << 22), max_size=80))
def test_windows_never_exceed_the_budget(total: int, channels: int, steps: list[int]) -> None:
    budget = Budget(total, channels)
    held: list[int] = []
    for step in steps:
        if step < 0 and held:
            budget.give(held.pop(step % len(held)))
        elif step >= 0:
            granted = budget.take(step, len(held))
            assert 0 <= granted <= step
            if held and (more := budget.more(step, held[-1], len(held))):
                assert more <= step
                held[-1] += more
            if granted:
                held.append(granted)
        assert budget.held == sum(held) <= total


def test_unread_data_of_closed_channels_counts_until_it_is_read() -> None:
    """Or a peer would open, fill, close and open again without end."""
    side = Side("server", receive_budget=100_000, window=40_000, max_packet=40_000, max_channels=2)
    held = []
    refused = 0
    for number in range(20):
        side.receive(m.ChannelOpen("session", number, 10, 10, m.SessionOpen()))
        if not side.port.questions:
            refused += 1
            continue
        channel = side.port.questions[0][0].channel  # type: ignore[attr-defined]
        side.answer(True)
        size = channel.incoming.size
        side.receive(m.ChannelData(channel.id, bytes(size)), m.ChannelClose(channel.id))
        held.append(channel)
        assert sum(c.readable() for c in held) <= side.mux._shared.budget.held <= 100_000
    assert refused > 10
    assert len(held[0].read()) == held[0].incoming.size
    for channel in held[1:]:
        channel.close()
    assert side.mux._shared.budget.held == 0


class Path:
    """A peer that sends as fast as its window and a line let it: `rate` bytes a second, `delay` one way.

    Time goes in steps of a millisecond. The application reads at most `drain` bytes a second.
    """

    def __init__(
        self, side: Side, channel: Channel, *, rate: float, delay: float, drain: float = 1e12
    ) -> None:
        self.side, self.channel = side, channel
        self.rate, self.delay, self.drain = rate, delay, drain
        self.allowed = channel.incoming.size
        side.port.round_trip = 2 * delay + 0.001
        self.sent = self.peak = self.read = 0
        self.arriving: list[tuple[float, int]] = []
        self.grants: list[tuple[float, int]] = []

    def step(self, now: float) -> None:
        while self.grants and self.grants[0][0] <= now:
            self.allowed += self.grants.pop(0)[1]
        if size := min(int(self.rate / 1000), self.allowed - self.sent, self.channel.incoming.max_packet):
            self.sent += size
            self.arriving.append((now + self.delay, size))
        while self.arriving and self.arriving[0][0] <= now:
            self.side.receive(m.ChannelData(self.channel.id, bytes(self.arriving.pop(0)[1])))
        self.peak = max(self.peak, self.channel.readable())
        self.read += len(self.channel.read(min(int(self.drain / 1000), 1 << 30)))
        for message in self.side.take():
            self.grants.append((now + self.delay, message.bytes_to_add))


def travel(side: Side, *paths: Path, seconds: float, begin: float = 0.0) -> None:
    for millisecond in range(int(seconds * 1000)):
        side.port.now = begin + millisecond / 1000
        for path in paths:
            path.step(side.port.now)


def test_a_window_grows_to_what_the_path_holds_and_not_much_beyond() -> None:
    """Rate times round trip is what is on its way (RFC 1323 §1.1): 100 MB/s for 100 ms are 10 MB."""
    side = Side("client")
    channel = opened(side)
    path = Path(side, channel, rate=100e6, delay=0.05)
    travel(side, path, seconds=4)
    before = path.read
    travel(side, path, seconds=1, begin=4)
    assert path.read - before > 97e6
    assert 10e6 < channel.incoming.size < 40e6
    grown = side.told("window_grown")
    assert [facts["window"] for facts in grown][-1] == channel.incoming.size
    assert all(facts["round_trip"] == 0.101 for facts in grown)


@pytest.mark.parametrize("delay", [0.0, 0.002])
def test_a_window_that_does_not_hold_up_stays(delay: float) -> None:
    side = Side("client")
    channel = opened(side)
    travel(side, Path(side, channel, rate=100e6, delay=delay), seconds=2)
    assert channel.incoming.size <= 4 << 20


@pytest.mark.parametrize("drain", [0.0, 1e6])
def test_a_window_does_not_grow_for_who_does_not_read(drain: float) -> None:
    side = Side("client")
    channel = opened(side)
    path = Path(side, channel, rate=100e6, delay=0.05, drain=drain)
    travel(side, path, seconds=3)
    assert channel.incoming.size == 2 << 20
    assert path.peak <= 2 << 20


def test_what_has_grown_is_bounded_and_all_that_a_reader_who_stops_can_make_wait() -> None:
    side = Side("server")  # 16 MiB for everything
    channel = offered(side)
    path = Path(side, channel, rate=120e6, delay=0.1)
    travel(side, path, seconds=4)
    grown = channel.incoming.size
    assert 4 << 20 < grown == side.mux._shared.budget.held <= 8 << 20
    path.drain = 0
    travel(side, path, seconds=2, begin=4)
    assert grown // 2 < channel.readable() <= grown
    assert channel.incoming.size == grown


def test_a_window_that_has_grown_gives_back_what_another_needs() -> None:
    side = Side("server")
    first = offered(side, peer=1)
    one = Path(side, first, rate=120e6, delay=0.1)
    travel(side, one, seconds=4)
    alone = first.incoming.size
    second = offered(side, peer=2)
    two = Path(side, second, rate=120e6, delay=0.1)
    for path, other in ((one, two), (two, one)):
        mine = path.side.take
        path.side = _Only(side, path.channel, other, mine)  # type: ignore[assignment]
    travel(side, one, two, seconds=6, begin=4)
    assert first.incoming.size < alone
    assert second.incoming.size >= first.incoming.size // 2
    assert first.incoming.size + second.incoming.size <= side.mux._shared.budget.held <= 16 << 20


class _Only:
    """One side as the path of one channel sees it: the grants of the other go to the other's."""

    def __init__(self, side: Side, channel: Channel, other: Path, take: Any) -> None:
        self.receive, self._channel, self._other, self._take = side.receive, channel, other, take
        self._port = side.port

    def take(self) -> list[Any]:
        mine = []
        for message in self._take():
            if message.recipient_channel == self._channel.peer_id:
                mine.append(message)
            else:
                self._other.grants.append((self._port.now + self._other.delay, message.bytes_to_add))
        return mine


def test_arithmetic_of_the_windows_alone() -> None:
    incoming, outgoing = Incoming(10, 4, 0.0), Outgoing(0xFFFFFFFE, 5)
    outgoing.grow(1)
    with pytest.raises(ProtocolViolation):
        outgoing.grow(1)
    incoming.spend(4)
    assert not incoming.consume(4, 0.0, 1.0)
    incoming.spend(1)
    assert incoming.consume(1, 0.0, 1.0)
    assert incoming.grant() == 5
    assert (incoming.left, incoming.received) == (10, 5)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=4000)), max_size=25),
    st.integers(1, 5000), st.integers(1, 700), st.integers(100, 5000),
)  # fmt: skip
def test_what_is_sent_arrives_through_any_window(
    writes: list[tuple[int, bytes]], window: int, packet: int, output: int
) -> None:
    """Three channels at once between two muxes, their windows and the output all narrow."""
    pair = Pair(client={"max_output": output}, server={"window": window, "max_packet": packet})
    ends = [pair.session() for _ in range(3)]
    queues = [bytearray() for _ in ends]
    for index, data in writes:
        queues[index] += data
    wanted = [bytes(queue) for queue in queues]
    arrived = [bytearray() for _ in ends]
    while any(queues):
        before = [len(queue) for queue in queues]
        for queue, (near, _) in zip(queues, ends, strict=True):
            del queue[: near.send(bytes(queue))]
        pair.run()
        for got, (_, far) in zip(arrived, ends, strict=True):
            got += far.read()
        pair.run()
        assert [len(queue) for queue in queues] != before, "stuck"
    assert [bytes(got) for got in arrived] == wanted
