"""Who may open what, how many, and which forwarding was asked for (security rows D8, E3, E5)."""

from __future__ import annotations

import tracemalloc

import pytest

from glasshell.errors import ChannelOpenFailed, MalformedMessage, UsageError
from glasshell.events import ChannelOffered
from glasshell.messages import connection as m
from glasshell.messages.declare import Struct
from glasshell.wire import Secret

from .kit import Side, offered, opened


def attempt(side: Side, kind: str, body: Struct | bytes) -> m.ChannelOpenFailure | None:
    """Lets the peer open a channel; None where the application is asked."""
    side.receive(m.ChannelOpen(kind, 70, 1000, 1000, body))
    if side.port.questions:
        assert side.take() == []
        return None
    (answer,) = side.take()
    assert isinstance(answer, m.ChannelOpenFailure)
    assert answer.recipient_channel == 70
    return answer


TCP = m.ForwardedTcpip("localhost", 8080, "10.0.0.1", 5000)
UNIX = m.ForwardedStreamlocal("/run/x")


@pytest.mark.parametrize(("role", "kind", "body"), [
    ("client", "session", m.SessionOpen()),
    ("client", "direct-tcpip", m.DirectTcpip("h", 1, "o", 2)),
    ("client", "direct-streamlocal@openssh.com", m.DirectStreamlocal("/x")),
    ("client", "forwarded-tcpip", TCP),
    ("client", "forwarded-streamlocal@openssh.com", UNIX),
    ("client", "x11", m.X11Open("h", 1)),
    ("client", "auth-agent@openssh.com", m.AgentOpen()),
    ("client", "agent-connect", m.AgentOpen()),
    ("server", "forwarded-tcpip", TCP),
    ("server", "forwarded-streamlocal@openssh.com", UNIX),
    ("server", "x11", m.X11Open("h", 1)),
    ("server", "auth-agent@openssh.com", m.AgentOpen()),
    ("server", "direct-tcpip", m.DirectTcpip("h", 0, "o", 2)),
    ("server", "direct-tcpip", m.DirectTcpip("h", 65536, "o", 2)),
    ("server", "direct-tcpip", m.DirectTcpip("", 22, "o", 2)),
    ("server", "direct-tcpip", m.DirectTcpip("h\0.example", 22, "o", 2)),
    ("server", "direct-streamlocal@openssh.com", m.DirectStreamlocal("")),
])  # fmt: skip
def test_refused_without_asking(role: str, kind: str, body: Struct) -> None:
    side = Side(role)
    answer = attempt(side, kind, body)
    assert answer is not None
    assert answer.reason_code == m.OpenFailure.ADMINISTRATIVELY_PROHIBITED
    assert side.mux.channels == {}
    assert [facts["reason"] for facts in side.told("channel_refused")] == [1]


@pytest.mark.parametrize(("role", "kind", "body"), [
    ("server", "session", m.SessionOpen()),
    ("server", "direct-tcpip", m.DirectTcpip("h", 65535, "o", 2)),
    ("server", "new@example.com", b"anything"),
    ("client", "new@example.com", b"anything"),
])  # fmt: skip
def test_the_application_is_asked(role: str, kind: str, body: Struct | bytes) -> None:
    side = Side(role)
    assert attempt(side, kind, body) is None
    (question,) = side.events(ChannelOffered)
    assert (question.type, question.body) == (kind, body)
    side.answer(ChannelOpenFailed("unknown here", reason=3))
    assert side.take() == [m.ChannelOpenFailure(70, 3, "unknown here")]
    assert side.mux.channels == {}
    assert side.mux._shared.budget.held == side.mux._shared.pending.held == 0


def test_an_accepted_offer_is_confirmed_with_our_window() -> None:
    side = Side("server")
    assert attempt(side, "session", m.SessionOpen()) is None
    side.answer(True)
    assert side.take() == [m.ChannelOpenConfirmation(70, 0, 2 << 20, 120 << 10)]
    assert side.mux.channels[0].send(bytes(2000)) == 1000


def test_channels_opened_in_any_order_of_answers() -> None:
    side = Side("server")
    for number in (70, 71, 72):
        side.receive(m.ChannelOpen("session", number, 1000, 1000, m.SessionOpen()))
    side.answer(True, index=2)
    side.answer(ChannelOpenFailed("no", reason=2), index=0)
    side.answer(True)
    assert [(type(x).__name__, x.recipient_channel) for x in side.take()] == [
        ("ChannelOpenConfirmation", 72), ("ChannelOpenFailure", 70), ("ChannelOpenConfirmation", 71),
    ]  # fmt: skip


def test_sessions_are_limited() -> None:
    side = Side("server", max_sessions=2)
    first = offered(side)
    offered(side)
    answer = attempt(side, "session", m.SessionOpen())
    assert answer is not None
    assert answer.reason_code == m.OpenFailure.RESOURCE_SHORTAGE
    first.close()
    side.take()
    assert attempt(side, "session", m.SessionOpen()) is not None  # until the peer has closed as well
    side.receive(m.ChannelClose(first.id))
    assert attempt(side, "session", m.SessionOpen()) is None


def test_channels_are_limited_and_a_flood_leaves_nothing_behind() -> None:
    side = Side("server", max_channels=50)
    for number in range(50):
        offered(side, "direct-tcpip", peer=number)
    payload = m.ChannelOpen("direct-tcpip", 1, 1, 1, m.DirectTcpip("h", 1, "o", 1)).encode()
    side.port.hub = None

    def flood(count: int) -> None:
        for _ in range(count):
            side.receive(payload)
            (answer,) = side.take()
            assert answer.reason_code == m.OpenFailure.RESOURCE_SHORTAGE

    flood(100)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    flood(5000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(side.mux.channels) == 50
    assert side.port.questions == []
    assert after - before < 20_000


def test_offers_turned_down_leave_nothing_behind() -> None:
    side = Side("server")
    side.port.hub = None
    for _ in range(5000):
        assert attempt(side, "session", m.SessionOpen()) is None
        side.answer(ChannelOpenFailed("no", reason=1))
        side.take()
        side.events()
    assert side.mux.channels == {}
    assert side.mux._shared.budget.held == side.mux._shared.pending.held == side.mux._shared.sessions == 0


def test_offers_that_nobody_answers_are_limited() -> None:
    side = Side("server", max_output=100_000)
    for number in range(1000):
        side.receive(m.ChannelOpen("new@example.com", number, 1, 1, b"x" * 1000))
    assert len(side.port.questions) < 100
    assert {x.reason_code for x in side.take()} == {m.OpenFailure.RESOURCE_SHORTAGE}
    while side.port.questions:
        side.answer(ChannelOpenFailed("no", reason=3))
    assert side.mux._shared.budget.held == side.mux._shared.pending.held == 0


def test_our_own_opens_are_limited() -> None:
    side = Side("client", max_channels=1)
    side.mux.open("session", m.SessionOpen())
    with pytest.raises(ChannelOpenFailed) as caught:
        side.mux.open("session", m.SessionOpen())
    assert caught.value.reason == m.OpenFailure.RESOURCE_SHORTAGE


def test_an_open_that_cannot_be_encoded_leaves_no_channel() -> None:
    side = Side("client")
    with pytest.raises(UsageError):
        side.mux.open("session", m.X11Open("h", 1))
    assert side.mux.channels == {}
    assert side.mux._shared.budget.held == 0


def test_no_more_sessions() -> None:
    side = Side("server")
    side.receive(m.GlobalRequest("no-more-sessions@openssh.com", False, m.NoMoreSessions()))
    answer = attempt(side, "session", m.SessionOpen())
    assert answer is not None
    assert answer.reason_code == m.OpenFailure.ADMINISTRATIVELY_PROHIBITED
    assert attempt(side, "direct-tcpip", m.DirectTcpip("h", 1, "o", 2)) is None


def test_numbers_wrap_past_those_in_use() -> None:
    side = Side("client")
    first = opened(side)
    side.mux._next_id = 0xFFFFFFFF
    last, after = (side.mux.open("session", m.SessionOpen()) for _ in range(2))
    assert (first.id, last.id, after.id) == (0, 0xFFFFFFFF, 1)


def test_a_number_is_not_used_again_at_once() -> None:
    side = Side("client")
    first = opened(side)
    side.receive(m.ChannelClose(first.id))
    assert opened(side).id != first.id


def test_an_open_with_bytes_too_many_ends_the_connection() -> None:
    side = Side("server")
    with pytest.raises(MalformedMessage):
        side.receive(m.ChannelOpen("session", 1, 1, 1, m.SessionOpen()).encode() + b"\0")


# --- what was asked for


def forward(side: Side, body: m.TcpipForward | m.StreamlocalForward, reply: bytes | None = b"") -> None:
    name = "tcpip-forward" if isinstance(body, m.TcpipForward) else "streamlocal-forward@openssh.com"
    side.mux.global_request(name, body, True)
    side.take()
    side.receive(m.RequestFailure() if reply is None else m.RequestSuccess(reply))


def test_forwarded_connections_are_offered_only_for_what_was_granted() -> None:
    side = Side("client")
    forward(side, m.TcpipForward("localhost", 8080), reply=None)
    assert attempt(side, "forwarded-tcpip", TCP) is not None
    forward(side, m.TcpipForward("localhost", 8080))
    other = m.ForwardedTcpip("localhost", 8081, "10.0.0.1", 5000)
    assert attempt(side, "forwarded-tcpip", other) is not None
    assert attempt(side, "forwarded-streamlocal@openssh.com", UNIX) is not None
    assert attempt(side, "forwarded-tcpip", TCP) is None


def test_a_cancelled_forward_is_over_when_the_server_says_so() -> None:
    side = Side("client")
    forward(side, m.TcpipForward("localhost", 8080))
    side.mux.global_request("cancel-tcpip-forward", m.CancelTcpipForward("localhost", 8080), True)
    side.take()
    assert attempt(side, "forwarded-tcpip", TCP) is None
    side.answer(ChannelOpenFailed("late", reason=1))
    side.take()
    side.receive(m.RequestSuccess())
    assert attempt(side, "forwarded-tcpip", TCP) is not None


def test_the_port_that_the_server_chose() -> None:
    side = Side("client")
    forward(side, m.TcpipForward("", 0), b"\0\0\x1f\x90")
    assert side.mux.forwards.addresses == {("", 8080)}
    assert attempt(side, "forwarded-tcpip", TCP) is None
    with pytest.raises(MalformedMessage):
        forward(side, m.TcpipForward("", 0), b"")
    with pytest.raises(UsageError):
        side.mux.global_request("tcpip-forward", m.TcpipForward("", 0), False)


def test_the_address_decides_where_a_port_was_asked_for_twice() -> None:
    side = Side("client")
    forward(side, m.TcpipForward("127.0.0.1", 80))
    assert side.mux.forwards.match("localhost", 80) == ("127.0.0.1", 80)
    forward(side, m.TcpipForward("::1", 80))
    assert side.mux.forwards.match("::1", 80) == ("::1", 80)
    assert side.mux.forwards.match("localhost", 80) is None


def test_sockets_of_the_server() -> None:
    side = Side("client")
    forward(side, m.StreamlocalForward("/run/x"))
    assert attempt(side, "forwarded-streamlocal@openssh.com", UNIX) is None
    side.answer(True)
    side.take()
    side.mux.global_request(
        "cancel-streamlocal-forward@openssh.com", m.CancelStreamlocalForward("/run/x"), False
    )
    side.take()
    assert attempt(side, "forwarded-streamlocal@openssh.com", UNIX) is not None


@pytest.mark.parametrize(("request_type", "body", "kind", "opening"), [
    ("auth-agent-req@openssh.com", m.AgentReq(), "auth-agent@openssh.com", m.AgentOpen()),
    ("x11-req", None, "x11", m.X11Open("h", 1)),
])  # fmt: skip
def test_agent_and_x11_come_only_after_they_were_asked_for_and_granted(
    request_type: str, body: Struct | None, kind: str, opening: Struct
) -> None:
    body = body or m.X11Req(False, "MIT-MAGIC-COOKIE-1", Secret(b"00"), 0)
    side = Side("client")
    channel = opened(side)
    channel.request(request_type, body, True)
    side.take()
    side.receive(m.ChannelFailure(channel.id))
    assert attempt(side, kind, opening) is not None
    channel.request(request_type, body, True)
    side.take()
    side.receive(m.ChannelSuccess(channel.id))
    assert attempt(side, kind, opening) is None
