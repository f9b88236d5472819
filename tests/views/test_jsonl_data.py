"""The short way to the lines of a transfer leads where the long one does."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from glasshell.messages.connection import ChannelData, ChannelExtendedData, ChannelWindowAdjust
from glasshell.observe.hub import Hub
from glasshell.observe.record import MessageRecord
from glasshell.views.jsonl import HotLines, JsonLines, compact, record_object

numbers = st.integers(0, (1 << 32) - 1)
payloads = st.one_of(
    st.builds(lambda n, d: ChannelData(n, d).encode(), st.integers(0, 3), st.binary(max_size=20)),
    st.builds(
        lambda n, c, d: ChannelExtendedData(n, c, d).encode(), st.integers(0, 3), st.integers(0, 2),
        st.binary(max_size=20),
    ),
    st.binary(min_size=1, max_size=20),
    st.builds(lambda n, d: ChannelWindowAdjust(n, d).encode(), st.integers(0, 3), numbers),
    st.builds(lambda n, d: ChannelWindowAdjust(n, d).encode() + b"!", st.integers(0, 3), numbers),
    st.builds(lambda n: ChannelData(n, b"x" * 9).encode()[:9], st.integers(0, 3)),
    st.builds(lambda n, d: ChannelData(n, d).encode()[:-1], numbers, st.binary(max_size=9)),
)  # fmt: skip
records = st.builds(
    lambda time, sent, seq, epoch, payload, length: MessageRecord(
        time, sent, seq, epoch, "", payload[0], payload, length, 6, length + 20
    ),
    st.sampled_from([0.0, 1.25, 3.1234567, 1e-7]), st.booleans(), numbers, st.integers(0, 2), payloads,
    st.integers(12, 14),
)  # fmt: skip


@given(st.lists(records, max_size=12))
def test_the_short_way_makes_the_same_lines(told: list[MessageRecord]) -> None:
    lines = HotLines()
    for record in told:
        line = lines.line(record)
        assert line in (None, compact(record_object(record)) + "\n")
        if record.number in (93, 94, 95) and "malformed" not in record_object(record):
            assert line is not None


def say(hub: Hub, payload: bytes, cut: int) -> None:
    common: dict[str, Any] = {
        "seq": 7, "epoch": 1, "context": "", "packet_length": 1, "padding_length": 2, "wire_length": 3,
    }  # fmt: skip
    hub.message(sent=False, payload=memoryview(payload), **common)
    hub.message(sent=True, payload=payload[:cut], data=memoryview(payload)[cut:], **common)
    hub.flush(1.0)


def test_lengths_alone_carry_no_content_and_say_the_same() -> None:
    """Both directions, whether somebody else hears everything or not; the other one gets all of it."""
    data, extended = ChannelData(3, b"x" * 5000).encode(), ChannelExtendedData(3, 1, b"y" * 300).encode()
    alone: list[str] = []
    beside: list[str] = []
    heard: list[MessageRecord] = []
    whole: list[MessageRecord] = []

    class Lengths:
        hears = frozenset({"lengths"})

        def __call__(self, record: Any) -> None:
            heard.append(record)

    for hub in (Hub(JsonLines(alone.append), Lengths()), Hub(JsonLines(beside.append), whole.append)):
        say(hub, data, 9)
        say(hub, extended, 13)
    assert alone == beside
    assert [record.payload for record in heard] == [data[:9], data[:9], extended[:13], extended[:13]]
    assert [record.payload for record in whole] == [data, data, extended, extended]


def test_a_length_that_is_not_true_is_told_in_full() -> None:
    payload = ChannelData(3, b"x" * 100).encode()[:-1]
    lines: list[str] = []
    say(Hub(JsonLines(lines.append)), payload, 9)
    assert sum('"malformed"' in line for line in lines) == 2
