"""Every channel message in every state of a channel (security row E1; RFC 4254 §5)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from glasshell.connection.channel import Channel, State
from glasshell.errors import ChannelOpenFailed, ConnectionClosed, ProtocolViolation, UsageError
from glasshell.events import (
    ChannelClosed,
    ChannelEof,
    ChannelExit,
    ChannelOpened,
    ChannelReadable,
    ChannelRefused,
    ChannelReplied,
)
from glasshell.messages import connection as m
from glasshell.messages.declare import Message

from .kit import Side, offered, opened

VIOLATION = "violation"
FINE = "fine"

MESSAGES: dict[str, Callable[[int], Message]] = {
    "confirmation": lambda n: m.ChannelOpenConfirmation(n, 1, 100, 100),
    "open failure": lambda n: m.ChannelOpenFailure(n, 2, "no"),
    "adjust": lambda n: m.ChannelWindowAdjust(n, 1),
    "data": lambda n: m.ChannelData(n, b"x"),
    "much data": lambda n: m.ChannelData(n, b"x" * 2000),
    "stderr": lambda n: m.ChannelExtendedData(n, 1, b"x"),
    "extended": lambda n: m.ChannelExtendedData(n, 99, b"x"),
    "eof": lambda n: m.ChannelEof(n),
    "close": lambda n: m.ChannelClose(n),
    "request": lambda n: m.ChannelRequest(n, "exit-status", False, m.ExitStatus(0)),
    "success": lambda n: m.ChannelSuccess(n),
    "failure": lambda n: m.ChannelFailure(n),
}


def never(side: Side) -> int:
    return 5


def opening(side: Side) -> int:
    return side.mux.open("session", m.SessionOpen()).id


def abandoned(side: Side) -> int:
    channel = side.mux.open("session", m.SessionOpen())
    channel.close()
    return channel.id


def refused(side: Side) -> int:
    number = opening(side)
    side.receive(m.ChannelOpenFailure(number, 1, ""))
    return number


def offer(side: Side) -> int:
    side.receive(m.ChannelOpen("new@example.com", 70, 1000, 1000, b""))
    return next(iter(side.mux.channels))


def rejected(side: Side) -> int:
    number = offer(side)
    side.answer(ChannelOpenFailed("no", reason=3))
    return number


def open_(side: Side) -> int:
    return opened(side).id


def half_closed(side: Side) -> int:
    channel = opened(side)
    channel.send_eof()
    return channel.id


def eof_received(side: Side) -> int:
    channel = opened(side)
    side.receive(m.ChannelEof(channel.id))
    return channel.id


def closing(side: Side) -> int:
    channel = opened(side)
    channel.close()
    return channel.id


def closing_after_eof(side: Side) -> int:
    channel = opened(side)
    side.receive(m.ChannelEof(channel.id))
    channel.close()
    return channel.id


def closed_by_peer(side: Side) -> int:
    channel = opened(side)
    side.receive(m.ChannelClose(channel.id))
    return channel.id


def closed_by_us(side: Side) -> int:
    number = closing(side)
    side.receive(m.ChannelClose(number))
    return number


ALL = set(MESSAGES)
OPENERS = {"confirmation", "open failure"}
DATA = {"data", "much data", "stderr", "extended"}
LEGAL: dict[Callable[[Side], int], set[str]] = {
    never: set(),
    opening: OPENERS,
    abandoned: OPENERS,
    refused: set(),
    offer: set(),  # the peer does not know our number yet
    rejected: set(),
    open_: ALL - OPENERS,
    half_closed: ALL - OPENERS,
    eof_received: ALL - OPENERS - DATA,
    closing: ALL - OPENERS,
    closing_after_eof: ALL - OPENERS - DATA,
    closed_by_peer: set(),
    closed_by_us: set(),
}


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("state", LEGAL, ids=lambda state: state.__name__)
def test_each_message_in_each_state(state: Callable[[Side], int], name: str) -> None:
    side = Side("client")
    number = state(side)
    side.take()
    message = MESSAGES[name](number)
    if name in LEGAL[state]:
        side.receive(message)
        return
    with pytest.raises(ProtocolViolation):
        side.receive(message)
    assert side.take() == []


def test_a_channel_opens_and_closes() -> None:
    side = Side("client")
    channel = side.mux.open("session", m.SessionOpen())
    assert side.take() == [
        m.ChannelOpen("session", channel.id, 2 << 20, 120 << 10, m.SessionOpen()),
    ]
    side.receive(m.ChannelOpenConfirmation(channel.id, 9, 500, 100))
    assert side.events() == [ChannelOpened(channel)]
    channel.close()
    channel.close()
    assert side.take() == [m.ChannelClose(9)]
    assert not channel.closed
    side.receive(m.ChannelClose(channel.id))
    assert channel.closed
    assert side.take() == []
    assert side.events() == [ChannelClosed(channel)]
    assert side.mux.channels == {}
    assert [name for name, _ in side.port.states] == ["channel_opening", "channel_open", "channel_closed"]
    assert side.told("channel_open")[0]["peer_window"] == 500


def test_the_peers_close_is_answered_once_and_data_stays_readable() -> None:
    side = Side("client")
    channel = opened(side)
    side.receive(m.ChannelData(channel.id, b"last words"), m.ChannelClose(channel.id))
    assert side.take() == [m.ChannelClose(70)]
    assert side.events() == [ChannelReadable(channel), ChannelClosed(channel)]
    assert channel.read() == b"last words"
    assert side.take() == []  # nothing is granted on a channel that is gone
    channel.close()
    assert side.take() == []


def test_data_that_crosses_our_close_is_discarded_but_counted() -> None:
    side = Side("client", window=1000, max_packet=600)
    channel = opened(side)
    channel.close()
    side.take()
    side.receive(m.ChannelData(channel.id, b"x" * 600), m.ChannelExtendedData(channel.id, 1, b"y" * 400))
    assert side.events() == []
    assert side.take() == []
    assert channel.readable() == channel.readable(1) == 0
    with pytest.raises(ProtocolViolation, match="window of 0"):
        side.receive(m.ChannelData(channel.id, b"x"))


def test_a_request_that_crosses_our_close_gets_no_answer() -> None:
    side = Side("server")
    channel = offered(side)
    side.receive(m.ChannelRequest(channel.id, "exec", True, m.Exec("a")))
    channel.close()
    side.answer(True)
    side.receive(m.ChannelRequest(channel.id, "new@example.com", True, b""))
    assert side.take() == [m.ChannelClose(70)]
    assert side.port.questions == []


def test_an_exit_status_that_crosses_our_close_is_told() -> None:
    side = Side("client")
    channel = opened(side)
    channel.close()
    side.receive(m.ChannelRequest(channel.id, "exit-status", False, m.ExitStatus(3)))
    assert side.events() == [ChannelExit(channel, 3)]


def test_eof_comes_after_the_data_before_it_and_once() -> None:
    side = Side("client")
    channel = opened(side)
    side.receive(m.ChannelData(channel.id, b"x" * 900), m.ChannelEof(channel.id), m.ChannelEof(channel.id))
    assert side.events() == [ChannelReadable(channel), ChannelEof(channel)]
    assert channel.eof_received
    assert not channel.closed


def test_a_channel_given_up_before_it_is_open_is_closed_when_it_is() -> None:
    side = Side("client")
    channel = side.mux.open("session", m.SessionOpen())
    channel.close()
    side.take()
    side.receive(m.ChannelOpenConfirmation(channel.id, 9, 0, 10))
    assert side.take() == [m.ChannelClose(9)]
    assert side.events() == []
    side.receive(m.ChannelClose(channel.id))
    assert side.events() == [ChannelClosed(channel)]


def test_a_refused_channel_is_told_with_its_reason_made_harmless() -> None:
    side = Side("client")
    channel = side.mux.open("session", m.SessionOpen())
    side.receive(m.ChannelOpenFailure(channel.id, 4, "\x1b]0;gotcha\x07"))
    (event,) = side.events(ChannelRefused)
    assert (event.reason, event.description) == (4, r"\033]0;gotcha\007")
    assert side.mux.channels == {}


def test_a_maximum_packet_of_nothing_is_refused_either_way() -> None:
    side = Side("client")
    channel = side.mux.open("session", m.SessionOpen())
    with pytest.raises(ProtocolViolation, match="maximum packet size of 0"):
        side.receive(m.ChannelOpenConfirmation(channel.id, 9, 100, 0))
    server = Side("server")
    server.receive(m.ChannelOpen("session", 3, 100, 0, m.SessionOpen()))
    assert [type(x) for x in server.take()] == [m.ChannelOpenFailure]
    assert server.port.questions == []


@pytest.mark.parametrize("act", [
    lambda c: c.send(b"x"), lambda c: c.send_stderr(b"x"), lambda c: c.send_eof(),
    lambda c: c.request("shell", m.Shell(), True),
])  # fmt: skip
def test_nothing_can_be_done_with_a_channel_before_it_is_open(act: Callable[[Channel], object]) -> None:
    side = Side("client")
    channel = side.mux.open("session", m.SessionOpen())
    with pytest.raises(UsageError):
        act(channel)


def test_sending_after_the_end() -> None:
    side = Side("client")
    channel = opened(side)
    channel.send_eof()
    channel.send_eof()
    assert side.take() == [m.ChannelEof(70)]
    with pytest.raises(UsageError):
        channel.send(b"x")
    other = opened(side)
    side.receive(m.ChannelClose(other.id))
    with pytest.raises(ConnectionClosed):
        other.send(b"x")
    with pytest.raises(ConnectionClosed):
        other.request("shell", m.Shell(), True)
    other.send_eof()
    other.exit(1)
    assert side.take() == [m.ChannelClose(71)]


def test_the_end_of_the_connection_closes_each_channel_once() -> None:
    side = Side("client")
    first, second = opened(side), opened(side)
    second.close()
    third = side.mux.open("session", m.SessionOpen())
    error = ConnectionClosed("gone")
    side.receive(m.ChannelData(first.id, b"x"))
    side.events()
    side.mux.close_all(error)
    side.mux.close_all(error)
    assert side.events() == [ChannelClosed(first), ChannelClosed(second), ChannelClosed(third)]
    assert {c.state for c in (first, second, third)} == {State.CLOSED}
    assert first.error is error
    assert first.read() == b"x"
    assert side.mux._shared.budget.held == 0


def test_an_offer_answered_after_the_end_does_nothing() -> None:
    side = Side("server")
    side.receive(m.ChannelOpen("session", 1, 100, 100, m.SessionOpen()))
    side.mux.close_all(None)
    side.take()
    side.answer(True)
    assert side.take() == []
    assert side.mux._shared.pending.held == 0


def test_replies_come_in_order() -> None:
    side = Side("client")
    channel = opened(side)
    channel.request("pty-req", m.PtyReq("vt100", 80, 24, 0, 0, b"\0"), True)
    channel.request("env", m.Env("A", "b"), False)
    channel.request("shell", m.Shell(), True)
    side.receive(m.ChannelFailure(channel.id), m.ChannelSuccess(channel.id))
    assert side.events() == [
        ChannelReplied(channel, "pty-req", False), ChannelReplied(channel, "shell", True),
    ]  # fmt: skip
