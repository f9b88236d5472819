"""Whatever a peer sends, only the documented errors come out, and every bound holds."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.errors import ChannelOpenFailed, PeerError
from glasshell.events import ChannelOffered, ChannelRequested
from glasshell.messages import connection as m
from glasshell.messages.declare import Message

from .kit import Side, offered

numbers = st.integers(0, 4)
sizes = st.sampled_from([0, 1, 2, 100, 0xFFFFFFFF])
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(m.ChannelOpen, st.just("session"), numbers, sizes, sizes, st.just(m.SessionOpen())),
    st.builds(m.ChannelOpen, st.just("direct-tcpip"), numbers, sizes, sizes,
              st.builds(m.DirectTcpip, st.text(max_size=3), sizes, st.text(max_size=3), sizes)),
    st.builds(m.ChannelOpen, st.just("x@y"), numbers, sizes, sizes, st.binary(max_size=5)),
    st.builds(m.ChannelOpenConfirmation, numbers, numbers, sizes, sizes),
    st.builds(m.ChannelOpenFailure, numbers, sizes, st.text(max_size=3)),
    st.builds(m.ChannelWindowAdjust, numbers, sizes),
    st.builds(m.ChannelData, numbers, st.binary(max_size=700)),
    st.builds(m.ChannelExtendedData, numbers, sizes, st.binary(max_size=700)),
    st.builds(m.ChannelEof, numbers),
    st.builds(m.ChannelClose, numbers),
    st.builds(m.ChannelRequest, numbers, st.just("x@y"), st.booleans(), st.binary(max_size=5)),
    st.builds(m.ChannelRequest, numbers, st.just("exec"), st.booleans(),
              st.builds(m.Exec, st.text(max_size=3))),
    st.builds(m.ChannelRequest, numbers, st.just("eow@openssh.com"), st.booleans(), st.just(m.Eow())),
    st.builds(m.ChannelSuccess, numbers),
    st.builds(m.ChannelFailure, numbers),
    st.builds(m.GlobalRequest, st.just("x@y"), st.booleans(), st.binary(max_size=5)),
    st.builds(m.RequestSuccess, st.binary(max_size=5)),
    st.builds(m.RequestFailure),
)  # fmt: skip
steps = st.lists(
    st.one_of(
        messages,
        st.tuples(st.sampled_from(["answer", "read", "send", "eof", "close", "open", "drain"]), numbers),
    ),
    max_size=60,
)


def act(side: Side, verb: str, number: int) -> None:
    channel = side.mux.channels.get(number)
    if verb == "answer" and side.port.questions:
        question = side.port.questions[number % len(side.port.questions)][0]
        yes = number != 3
        offer = isinstance(question, ChannelOffered)
        side.answer(yes or not offer or ChannelOpenFailed("no"), number % len(side.port.questions))
    elif verb == "open" and len(side.mux.channels) < 4:
        side.mux.open("session", m.SessionOpen())
    elif verb == "drain":
        side.take()
        side.mux.resume_writing()
    elif channel is None or channel.state.value != "open":
        return
    elif verb == "read":
        channel.read(number * 100)
    elif verb == "send" and not (channel.eof_sent or channel.eow_received):
        channel.send(bytes(300))
    elif verb == "eof":
        channel.send_eof()
    elif verb == "close":
        channel.close()


@given(steps)
def test_any_conversation_keeps_within_its_bounds(script: list[Message | tuple[str, int]]) -> None:
    side = Side("server", receive_budget=8000, window=2000, max_packet=600, max_channels=5, max_output=20_000)
    try:
        for step in script:
            if isinstance(step, Message):
                side.receive(step)
            else:
                act(side, *step)
            unread = sum(c.readable() + c.readable(1) for c in side.mux.channels.values())
            assert unread <= side.mux._shared.budget.held <= 8000
            assert len(side.mux.channels) <= 5
            assert side.mux._shared.pending.held <= 20_000
    except PeerError:
        pass
    side.mux.close_all(None)
    while side.port.questions:
        side.answer(ChannelOpenFailed("") if isinstance(side.port.questions[0][0], ChannelOffered) else True)
    assert side.mux._shared.pending.held == 0
    for event in side.events():
        if isinstance(event, ChannelOffered | ChannelRequested):
            event.channel.close()
    assert side.mux._shared.sessions == len(side.mux._readable) == len(side.mux._shared.short) == 0


@given(st.sampled_from([80, 81, 82, *range(90, 101)]), st.binary(max_size=60))
def test_random_bytes_raise_nothing_but_errors_of_the_peer(number: int, body: bytes) -> None:
    side = Side("server")
    offered(side)
    with contextlib.suppress(PeerError):
        side.receive(bytes([number]) + body)


@pytest.mark.parametrize("number", [80, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100])
def test_a_payload_of_one_byte(number: int) -> None:
    side = Side("client")
    with pytest.raises(PeerError):
        side.receive(bytes([number]))
