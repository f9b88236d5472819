"""Requests of channels and of the connection (RFC 4254 §4, §5.4, §6; security rows D8, E4, E6, E7)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.connection.requests import name_of, pty_req
from glasshell.errors import LimitExceeded, MalformedMessage, UsageError
from glasshell.events import ChannelExit, ChannelRequested, GlobalReplied, GlobalRequested
from glasshell.messages import connection as m
from glasshell.messages.declare import Struct

from .kit import Pair, Side, offered, opened


def ask(side: Side, number: int, kind: str, body: Struct | bytes, want_reply: bool = True) -> None:
    side.receive(m.ChannelRequest(number, kind, want_reply, body))


@given(st.permutations(range(6)), st.lists(st.booleans(), min_size=6, max_size=6))
def test_answers_go_out_in_the_order_of_the_requests(order: list[int], values: list[bool]) -> None:
    side = Side("server")
    channel = offered(side)
    for index in range(6):
        ask(side, channel.id, f"new{index}@example.com", b"")
    resumes = [resume for _, resume in side.port.questions]
    for index in order:
        resumes[index](values[index])
    sent = side.take()
    assert sent == [m.ChannelSuccess(70) if ok else m.ChannelFailure(70) for ok in values]
    assert side.mux._shared.pending.held == 0


def test_an_answer_waits_for_those_before_it() -> None:
    side = Side("server")
    channel = offered(side)
    ask(side, channel.id, "pty-req", pty_req("vt100", 80, 24))
    ask(side, channel.id, "env", m.Env("LANG", "C"), want_reply=False)
    ask(side, channel.id, "keepalive@openssh.com", m.Keepalive())
    side.answer(True, index=1)
    assert side.take() == []
    side.answer(True)
    assert side.take() == [m.ChannelSuccess(70), m.ChannelFailure(70)]


def test_only_one_program_can_be_started() -> None:
    side = Side("server")
    channel = offered(side)
    ask(side, channel.id, "subsystem", m.Subsystem("nothing"))
    ask(side, channel.id, "exec", m.Exec("while the first is asked"))
    side.answer(False)
    assert side.take() == [m.ChannelFailure(70)] * 2
    ask(side, channel.id, "exec", m.Exec("after it was refused"))
    side.answer(True)
    for body in (m.Shell(), m.Exec("x"), m.Env("A", "b"), pty_req("t", 1, 1)):
        ask(side, channel.id, name_of(body), body)
    assert side.take() == [m.ChannelSuccess(70)] + [m.ChannelFailure(70)] * 4
    assert side.port.questions == []
    ask(side, channel.id, "window-change", m.WindowChange(1, 2, 3, 4), want_reply=False)
    ask(side, channel.id, "signal", m.Signal("TERM"), want_reply=False)
    assert [q.type for q, _ in side.port.questions] == ["window-change", "signal"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("body", [
    m.PtyReq("\x1b]0;x\x07", 80, 24, 0, 0, b"\0"),
    m.PtyReq("x" * 200, 80, 24, 0, 0, b"\0"),
    m.PtyReq("vt100", 0xFFFFFFFF, 24, 0, 0, b"\0"),
    m.PtyReq("vt100", 80, 24, 0, 1 << 16, b"\0"),
    m.PtyReq("vt100", 80, 24, 0, 0, b"\x01\0\0"),
    m.PtyReq("vt100", 80, 24, 0, 0, b"\x01\0\0\0\0" * 1000),
    m.WindowChange(1 << 31, 1, 0, 0),
    m.Env("", "x"), m.Env("A=B", "x"), m.Env("A", "x\0y"), m.Env("A\0", "x"),
    m.Exec("true\0"), m.Subsystem(""), m.Subsystem("sftp\0"),
], ids=repr)  # fmt: skip
def test_what_no_system_can_do_is_refused_without_asking(body: Struct) -> None:
    side = Side("server")
    channel = offered(side)
    ask(side, channel.id, name_of(body), body)
    assert side.take() == [m.ChannelFailure(70)]
    assert side.port.questions == []


def test_requests_from_the_wrong_side_or_on_the_wrong_channel() -> None:
    client, server = Side("client"), Side("server")
    session, tunnel = opened(client), offered(server, "direct-tcpip")
    command = offered(server, peer=71)
    for body in (m.Exec("id"), m.Shell(), m.Env("A", "b"), m.PtyReq("t", 1, 1, 0, 0, b""), m.AgentReq()):
        ask(client, session.id, name_of(body), body)
        ask(server, tunnel.id, name_of(body), body)
    ask(server, command.id, "exit-status", m.ExitStatus(0))
    ask(server, tunnel.id, "exit-signal", m.ExitSignal("TERM", False))
    assert client.take() == [m.ChannelFailure(70)] * 5
    assert server.take() == [m.ChannelFailure(70)] * 5 + [m.ChannelFailure(71), m.ChannelFailure(70)]
    assert client.port.questions == server.port.questions == []
    assert client.events() == server.events() == []


def test_the_programs_end_is_told_once() -> None:
    side = Side("client")
    channel = opened(side)
    ask(side, channel.id, "exit-signal", m.ExitSignal("SEGV", True, "bad\x1b[2J", "en"), want_reply=False)
    ask(side, channel.id, "exit-status", m.ExitStatus(0), want_reply=False)
    assert side.events() == [ChannelExit(channel, None, "SEGV", True, r"bad\033[2J")]
    assert (channel.exit_status, channel.exit_signal) == (None, "SEGV")
    assert side.told("exit_status") == [{"channel": channel.id, "status": None, "signal": "SEGV"}]
    assert side.take() == []


def test_how_a_program_ended_crosses_the_wire() -> None:
    pair = Pair()
    near, far = pair.session()
    far.exit(255)
    pair.run()
    assert near.exit_status == 255
    near, far = pair.session()
    far.exit(None, signal="TERM", core_dumped=False, message="terminated")
    pair.run()
    assert pair.client.events(ChannelExit)[-1] == ChannelExit(near, None, "TERM", False, "terminated")


@pytest.mark.parametrize("size", range(4))
def test_a_short_exit_status_ends_the_connection(size: int) -> None:
    side = Side("client")
    channel = opened(side)
    payload = m.ChannelRequest(channel.id, "exit-status", False, m.ExitStatus(0)).encode()
    with pytest.raises(MalformedMessage):
        side.receive(payload[: len(payload) - 4 + size])


def test_a_wrong_answer_is_the_applications_mistake() -> None:
    side = Side("server")
    channel = offered(side)
    ask(side, channel.id, "shell", m.Shell())
    with pytest.raises(UsageError):
        side.port.questions[0][1]("yes")
    side.receive(m.GlobalRequest("x@example.com", True, b""))
    with pytest.raises(UsageError):
        side.port.questions[1][1](None)
    side.receive(m.ChannelOpen("session", 1, 1, 1, m.SessionOpen()))
    with pytest.raises(UsageError):
        side.port.questions[2][1](False)


# --- of the connection


def test_global_answers_carry_their_body_and_keep_their_order() -> None:
    side = Side("server")
    side.receive(
        m.GlobalRequest("tcpip-forward", True, m.TcpipForward("", 0)),
        m.GlobalRequest("keepalive@openssh.com", True, m.Keepalive()),
        m.GlobalRequest("new@example.com", True, b"body"),
        m.GlobalRequest("new@example.com", False, b"body"),
    )
    assert [type(event) for event in side.events()] == [GlobalRequested] * 3
    side.answer(False, index=2)
    side.answer(True, index=1)
    assert side.take() == []
    side.answer(b"\0\0\x1f\x90")
    assert side.take() == [m.RequestSuccess(b"\0\0\x1f\x90"), m.RequestFailure(), m.RequestSuccess()]


def test_global_replies_come_in_order() -> None:
    side = Side("client")
    side.mux.global_request("keepalive@openssh.com", m.Keepalive(), True)
    side.mux.global_request("a@example.com", b"", False)
    side.mux.global_request("b@example.com", b"x", True)
    side.receive(m.RequestFailure(), m.RequestSuccess(b"y"))
    assert side.events() == [
        GlobalReplied("keepalive@openssh.com", False, b""), GlobalReplied("b@example.com", True, b"y"),
    ]  # fmt: skip


@pytest.mark.parametrize(("role", "name", "body"), [
    ("client", "tcpip-forward", m.TcpipForward("", 22)),
    ("client", "no-more-sessions@openssh.com", m.NoMoreSessions()),
    ("client", "hostkeys-prove-00@openssh.com", m.HostkeysProve(())),
    ("client", "streamlocal-forward@openssh.com", m.StreamlocalForward("/x")),
    ("server", "hostkeys-00@openssh.com", m.Hostkeys(())),
    ("server", "tcpip-forward", m.TcpipForward("", 65536)),
    ("server", "tcpip-forward", m.TcpipForward("a\0b", 1)),
    ("server", "streamlocal-forward@openssh.com", m.StreamlocalForward("")),
])  # fmt: skip
def test_global_requests_refused_without_asking(role: str, name: str, body: Struct) -> None:
    side = Side(role)
    side.receive(m.GlobalRequest(name, True, body))
    assert side.take() == [m.RequestFailure()]
    assert side.port.questions == []


# --- floods


@pytest.mark.parametrize("make", [
    lambda n: m.RequestSuccess(b""), lambda n: m.RequestFailure(), m.ChannelSuccess, m.ChannelFailure,
])  # fmt: skip
def test_replies_to_nothing_are_ignored_but_not_for_ever(make: Any) -> None:
    side = Side("client")
    channel = opened(side)
    for _ in range(100):
        side.receive(make(channel.id))
    assert side.events() == []
    assert side.take() == []
    with pytest.raises(LimitExceeded):
        side.receive(make(channel.id))


@pytest.mark.parametrize("make", [
    lambda n: m.GlobalRequest("keepalive@openssh.com", True, m.Keepalive()),
    lambda n: m.ChannelRequest(n, "keepalive@openssh.com", True, m.Keepalive()),
    lambda n: m.ChannelRequest(n, "env", True, m.Env("A", "b\0")),
    lambda n: m.GlobalRequest("new@example.com", True, b"x"),
    lambda n: m.GlobalRequest("new@example.com", False, b"x" * 1000),
    lambda n: m.ChannelRequest(n, "new@example.com", True, b""),
    lambda n: m.ChannelRequest(n, "env", False, m.Env("A", "b" * 1000)),
])  # fmt: skip
@pytest.mark.parametrize("unanswered", [False, True])
def test_a_flood_of_requests_unread_or_unanswered_ends(make: Any, unanswered: bool) -> None:
    side = Side("server", max_output=200_000)
    channel = offered(side)
    if unanswered:
        side.receive(m.GlobalRequest("slow@example.com", True, b""))
        ask(side, channel.id, "slow@example.com", b"")
    message = make(channel.id)
    with pytest.raises(LimitExceeded):
        side.receive(*[message.encode()] * 20_000)
    assert side.port.queued < 200_000 + 300_000
    assert len(side.port.questions) <= 200


def test_requests_answered_at_once_are_not_limited() -> None:
    side = Side("server", max_output=50_000)
    channel = offered(side)
    for _ in range(2000):
        ask(side, channel.id, "new@example.com", b"")
        side.answer(True)
        side.take()
    assert side.mux._shared.pending.held == 0


def test_questions_of_a_channel_that_is_gone_still_count_until_answered() -> None:
    side = Side("server")
    channel = offered(side)
    for _ in range(3):
        ask(side, channel.id, "new@example.com", b"")
    side.answer(True, index=2)
    side.receive(m.ChannelClose(channel.id))
    assert side.mux._shared.pending.held > 0
    side.answer(True)
    side.answer(True)
    assert side.mux._shared.pending.held == 0
    assert side.take() == [m.ChannelClose(70)]


def test_the_question_says_what_is_asked() -> None:
    side = Side("server")
    channel = offered(side)
    ask(side, channel.id, "exec", m.Exec("id"), want_reply=False)
    (event,) = side.events(ChannelRequested)
    assert (event.channel, event.type, event.body, event.want_reply) == (channel, "exec", m.Exec("id"), False)
    side.answer(True)
    assert side.take() == []


def test_name_of() -> None:
    assert name_of(m.Exec("x")) == "exec"
    assert name_of(m.AgentReq()) == "auth-agent-req@openssh.com"
    with pytest.raises(UsageError):
        name_of(m.SessionOpen())
