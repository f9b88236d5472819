"""TCP reassembly: what a receiver would have read (RFC 9293), and what no receiver could."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.capture import streams as module
from glasshell.capture.streams import ACK, FIN, RST, SYN, Data, Gap, Opened, Streams
from glasshell.observe.seen import Frame

from .kit import Wire, endings, events, heard

STORY = bytes(range(256)) * 8


def cut(wire: Wire, data: bytes, sizes: list[int]) -> list[Frame]:
    frames = []
    at = 0
    for size in [*sizes, len(data)]:
        if at < len(data):
            frames.append(wire.frame(at=at, data=data[at : at + size]))
            at += size
    return frames


def test_a_whole_connection() -> None:
    wire = Wire()
    found = events([
        *wire.hello(), wire.frame(data=b"ping"), wire.frame(client=False, data=b"pong", ack=4),
        *wire.bye(4, 4),
    ])  # fmt: skip
    assert isinstance(found[0], Opened)
    assert heard(found) == [b"ping"]
    assert heard(found, forward=False) == [b"pong"]
    assert endings(found) == [(0, True, "fin"), (0, False, "fin")]


@given(
    sizes=st.lists(st.integers(1, 300), max_size=40),
    seed=st.integers(0, 2**32),
    copies=st.integers(0, 10),
    isn=st.sampled_from([0, 1000, 2**31 - 500, 2**32 - 900, 2**32 - 1]),
)
def test_any_cut_any_order_any_copies(sizes: list[int], seed: int, copies: int, isn: int) -> None:
    chance = random.Random(seed)
    wire = Wire(client_isn=isn)
    hello = wire.hello()
    segments = cut(wire, STORY, sizes)
    for _ in range(copies):  # sent again, and cut otherwise
        start = chance.randrange(len(STORY))
        segments.append(wire.frame(at=start, data=STORY[start : start + chance.randrange(1, 500)]))
    segments.append(wire.frame(at=len(STORY), flags=FIN | ACK))
    chance.shuffle(segments)
    streams = Streams()
    found = events([*hello, *segments], streams)
    assert heard(found) == [STORY]
    assert endings(found)[0] == (0, True, "fin")
    assert not streams.problems


@given(keep=st.lists(st.booleans(), min_size=20, max_size=20), seed=st.integers(0, 2**32))
def test_what_is_lost_is_a_gap_of_its_length(keep: list[bool], seed: int) -> None:
    wire = Wire()
    hello = wire.hello()
    segments = cut(wire, STORY, [100] * 19)
    expected: list[bytes | int] = []
    for number, kept in enumerate(keep):
        piece: bytes | int = STORY[number * 100 :][: 100 if number < 19 else None]
        if not kept:
            piece = len(piece)  # type: ignore[arg-type]
        if expected and isinstance(expected[-1], type(piece)):
            expected[-1] += piece  # type: ignore[operator]
        else:
            expected.append(piece)
    if expected and isinstance(expected[-1], int):
        expected.pop()  # nothing behind it says that there was more
    random.Random(seed).shuffle(there := [s for s, kept in zip(segments, keep, strict=True) if kept])
    assert heard(events([*hello, *there])) == expected


def test_the_hole_is_waited_for_until_the_receiver_has_it() -> None:
    wire = Wire()
    streams = Streams()
    for frame in wire.hello():
        streams.feed(frame)
    assert not streams.feed(wire.frame(at=10, data=b"second"))
    assert not streams.feed(wire.frame(client=False, ack=0))
    assert not streams.feed(wire.frame(client=False, ack=16, time=1.0)), "the file may be out of order"
    told = streams.feed(wire.frame(client=False, ack=16, time=1.0 + module.PATIENCE))
    assert [(type(event), event.frame.number) for event in told] == [(Gap, 4), (Data, 4)]


def test_a_hole_that_was_filled_late_is_none() -> None:
    wire = Wire()
    late = [
        wire.frame(at=4, data=b"2222"), wire.frame(client=False, ack=8), wire.frame(at=8, data=b"33"),
        wire.frame(data=b"1111"),
    ]  # fmt: skip
    found = events([*wire.hello(), *late])
    assert heard(found) == [b"1111222233"]
    assert [e.frame.number for e in found if isinstance(e, Data)] == [4, 1, 3]


def test_the_segment_before_the_first() -> None:
    """Of one direction the file has neither SYN nor a word; the other's first ACK says where it began."""
    wire = Wire()
    found = events(
        [wire.frame(at=-1, flags=SYN), wire.frame(), wire.frame(client=False, at=3, data=b"later")]
    )
    assert heard(found, forward=False) == [3, b"later"]


def test_it_began_before_the_capture() -> None:
    wire = Wire()
    found = events([wire.frame(client=False, at=700, data=b"middle", ack=90), wire.frame(at=90, data=b"x")])
    assert heard(found) == [b"middle"]
    assert heard(found, forward=False) == [b"x"]
    assert isinstance(found[0], Opened)
    assert not found[0].frame.flags & SYN


def test_the_first_bytes_are_believed_and_others_named() -> None:
    wire = Wire()
    streams = Streams()
    frames = [
        *wire.hello(), wire.frame(data=b"abcd"), wire.frame(data=b"abXX", at=0),
        wire.frame(at=8, data=b"ijkl"), wire.frame(at=4, data=b"efghZZ"),
    ]  # fmt: skip
    assert heard(events(frames, streams)) == [b"abcdefghijkl"]
    (problem,) = streams.problems.values()
    assert (problem.count, problem.first) == (2, 5)


def test_keepalives_and_window_probes() -> None:
    wire = Wire()
    streams = Streams()
    frames = [
        *wire.hello(), wire.frame(at=-1, data=b"\0"), wire.frame(data=b"abcd"), wire.frame(at=3, data=b"\0"),
        wire.frame(at=4, data=b"e"), wire.frame(at=4, data=b"efgh"), wire.frame(at=7),
    ]  # fmt: skip
    assert heard(events(frames, streams)) == [b"abcdefgh"]
    assert not streams.problems


def test_what_the_file_cut_off_is_a_gap() -> None:
    wire = Wire()
    found = events([*wire.hello(), wire.frame(data=b"ab", missing=98), wire.frame(at=100, data=b"cd")])
    assert heard(found) == [b"ab", 98, b"cd"]


def test_a_reset_ends_both_directions() -> None:
    wire = Wire()
    streams = Streams()
    found = events([
        *wire.hello(), wire.frame(data=b"ab"), wire.frame(client=False, data=b"no", flags=RST | ACK),
        wire.frame(at=2, data=b"more"),
    ], streams)  # fmt: skip
    assert heard(found) == [b"ab"]
    assert heard(found, forward=False) == []
    assert endings(found) == [(0, False, "rst"), (0, True, "rst")]
    assert list(streams.problems) == ["data after the end of its connection"]


def test_ports_are_used_again() -> None:
    first, second = Wire(1000, 9000), Wire(70000, 90000, start=20)
    streams = Streams()
    frames = [*first.hello(), first.frame(data=b"one"), *second.hello(), second.frame(data=b"two")]
    found = events(frames, streams)
    assert heard(found, stream=0) == [b"one"]
    assert heard(found, stream=1) == [b"two"]
    assert endings(found)[:2] == [(0, True, "reused"), (0, False, "reused")]
    assert [frame.stream for frame in frames] == [0] * 4 + [1] * 4


def test_a_syn_sent_again_is_the_same_connection() -> None:
    wire = Wire()
    frames = [
        wire.frame(at=-1, flags=SYN),
        wire.frame(at=-1, flags=SYN),
        *wire.hello(),
        wire.frame(data=b"x"),
    ]
    assert heard(events(frames)) == [b"x"]
    assert {frame.stream for frame in frames} == {0}


def test_numbers_beside_a_foreign_receiver() -> None:
    """tcp.seq and tcp.ack as tshark shows them: 0 for SYN, 1 for the first byte, also without a SYN."""
    wire = Wire()
    frames = [*wire.hello(), wire.frame(data=b"abc"), wire.frame(client=False, ack=3)]
    frames[0].ack = 0
    events(frames)
    assert [(f.relative_seq, f.relative_ack) for f in frames] == [(0, 0), (0, 1), (1, 1), (1, 1), (1, 4)]
    middle = [wire.frame(at=500, data=b"abc", ack=77), wire.frame(client=False, at=77, ack=503)]
    events(middle)
    assert [(f.relative_seq, f.relative_ack) for f in middle] == [(1, 1), (1, 4)]


def test_a_stream_that_nobody_wants_costs_nothing() -> None:
    wire = Wire()
    streams = Streams()
    for frame in [*wire.hello(), wire.frame(at=9, data=b"waits")]:
        streams.feed(frame)
    streams.drop(0)
    frame = wire.frame(data=b"no more")
    assert not streams.feed(frame)
    assert (frame.stream, frame.relative_seq) == (0, 1)
    assert list(streams.finish()) == []


@pytest.mark.parametrize("size", [1, 1400])
def test_one_direction_holds_a_bounded_amount(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HELD", 50_000)
    wire = Wire()
    streams = Streams()
    for frame in wire.hello():
        streams.feed(frame)
    held = 0
    for number in range(1000):
        told = streams.feed(wire.frame(at=10 + number * (size + 1), data=bytes(size)))
        held += size + module.HOLDING - sum(len(e.data) + module.HOLDING for e in told if isinstance(e, Data))
        assert held <= 50_000 + size + module.HOLDING
    assert sum(isinstance(event, Gap) for event in streams.finish()) < 100


def test_all_streams_hold_a_bounded_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HELD_BY_ALL", 10 * (100 + module.HOLDING))
    streams = Streams()
    gaps = []
    for port in range(30):
        for frame in (Wire().frame(at=-1, flags=SYN), Wire().frame(at=7, data=bytes(100))):
            frame.source_port = port
            gaps += [event for event in streams.feed(frame) if isinstance(event, Gap)]
    assert [gap.stream for gap in gaps] == list(range(20)), "the oldest first, and no more than needed"


def test_streams_beyond_the_bound_are_forgotten_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STREAMS", 80)
    streams = Streams()
    found = []
    for port in range(100):
        frame = Wire(start=port + 1).frame(at=-1, flags=SYN)
        frame.source_port = port
        found += streams.feed(frame)
    forgotten = [event.stream for event in found if not isinstance(event, Opened)]
    assert forgotten == [number for number in range(20) for _ in range(2)]
    assert streams.problems["stream forgotten, too many at once"].first == 1


@given(
    st.lists(
        st.tuples(
            st.booleans(), st.integers(-5, 50), st.binary(max_size=20), st.integers(0, 63),
            st.integers(-5, 60), st.integers(0, 3),
        ),
        max_size=40,
    ),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_nothing_a_capture_holds_raises(
    packets: list[tuple[bool, int, bytes, int, int, int]], isn: int
) -> None:
    wire = Wire(isn, isn)
    frames = [
        wire.frame(client=client, at=at, data=data, flags=flags, ack=ack, missing=missing)
        for client, at, data, flags, ack, missing in packets
    ]
    ended = set()
    for event in events(frames):
        if not isinstance(event, Opened):
            assert (event.stream, event.forward) not in ended, "nothing comes after the end of a direction"
        if isinstance(event, Gap):
            assert event.length > 0
        if isinstance(event, module.Ended):
            ended.add((event.stream, event.forward))
