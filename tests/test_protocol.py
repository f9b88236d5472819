"""The face of the core: four verbs and a clock, from the first byte to Closed."""

from __future__ import annotations

import pytest

from glasshell.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DeadlineExceeded,
    Disconnected,
    HostKeyRefused,
    ProtocolViolation,
    UsageError,
)
from glasshell.events import (
    Authenticated,
    ChannelClosed,
    Closed,
    CredentialNeeded,
    Event,
    HandshakeDone,
    HostKeyOffered,
    HostKeySignatureNeeded,
    NoneMethod,
    NoneOffered,
    Verdict,
)
from glasshell.messages.transport import DisconnectReason
from glasshell.observe.hub import Hub
from glasshell.observe.record import STATES, MessageRecord, Record, StateRecord
from glasshell.policy import Policy
from glasshell.protocol import ClientProtocol, ServerProtocol
from glasshell.testing.pair import Pair, Side
from glasshell.transport.rules import Phase
from tests.transport.kit import HOST_KEY, METHODS, ROLES, ended, logged_in, other, pair, session, transfer


def test_a_connection_in_order() -> None:
    made = pair()
    made.run()
    assert [k.__name__ for k in made.kinds("client")] == [
        "HostKeyOffered", "HandshakeDone", "CredentialNeeded", "CredentialNeeded", "SignatureNeeded",
        "Authenticated",
    ]  # fmt: skip
    assert [k.__name__ for k in made.kinds("server")] == [
        "HostKeySignatureNeeded", "HandshakeDone", "NoneOffered", "KeyOffered", "KeyOffered", "Authenticated",
    ]  # fmt: skip
    (client,), (server,) = made.told("client", HandshakeDone), made.told("server", HandshakeDone)
    assert client.session_id == server.session_id == made.client.session_id
    assert client.negotiated.kex == METHODS[0]
    assert client.peer_software == made.client.peer_software == "glasshell_0.1"
    assert made.client.host_key.blob == made.server.host_key.blob == HOST_KEY.public.blob


def test_the_wire_in_order() -> None:
    """RFC 4253 §4.2, §7.1, §7.3, §10; RFC 8308 §2.4; RFC 4252 §5: the messages of a login by key."""
    made = pair(kex=("curve25519-sha256",))
    made.run()
    sent = {side: [p.number for p in made.sent if p.sender == side] for side in ROLES}
    assert sent["client"] == [-1, 20, 30, 21, 7, 5, 50, 50, 50]
    assert sent["server"] == [-1, 20, 31, 21, 7, 6, 51, 60, 52]


@pytest.mark.parametrize("method", METHODS[:6])
def test_byte_by_byte_is_the_same(method: str) -> None:
    whole, bytewise = pair(kex=(method,)), pair(kex=(method,), chunk=1)
    for made in (whole, bytewise):
        made.run()
        transfer(made, session(made), b"up" * 5000, b"down" * 5000)
        made.client.close(made.now)
        made.run()
    for side in ROLES:
        assert without_readable(bytewise, side) == without_readable(whole, side)
    numbers = [[(p.sender, p.number) for p in made.sent if p.number != 93] for made in (whole, bytewise)]
    assert numbers[0] == numbers[1]


def without_readable(made: Pair, side: Side) -> list[str]:
    """ChannelReadable is told once for each `receive_data`, so that it counts the pieces."""
    return [kind.__name__ for kind in made.kinds(side) if kind.__name__ != "ChannelReadable"]


# --- before there is anything to know


def test_facts_before_they_are_known() -> None:
    core = ClientProtocol(Policy.client(), user="x", now=0.0)
    for fact in ("session_id", "negotiated", "host_key"):
        with pytest.raises(UsageError):
            getattr(core, fact)
    with pytest.raises(UsageError):
        core.rekey(0.0)
    assert core.peer_software == ""
    assert not core.closed
    assert not core.reading_paused
    assert core.events() == []
    assert core.data_to_send(0.0) == b""


def test_a_server_without_a_host_key() -> None:
    core = ServerProtocol(Policy.server(), host_keys=[], now=0.0)
    core.start(0.0)
    (closed,) = core.events()
    assert isinstance(closed, Closed)
    assert type(closed.error) is UsageError


# --- the end


@pytest.mark.parametrize("side", ROLES)
def test_close(side: Side) -> None:
    made = logged_in()
    ours, theirs = session(made)
    for who in ROLES:
        made.log[who].clear()
    made.core(side).close(made.now, DisconnectReason.BY_APPLICATION, "that was it")
    assert made.core(side).closed
    made.run()
    assert made.kinds(side) == made.kinds(other(side)) == [ChannelClosed, Closed]
    assert made.error(side) is None
    error = made.error(other(side))
    assert isinstance(error, Disconnected)
    assert (error.reason, error.description) == (11, "that was it")
    assert ours.closed
    assert theirs.closed


@pytest.mark.parametrize("side", ROLES)
def test_after_the_end_nothing_happens(side: Side) -> None:
    made = logged_in()
    core = made.core(side)
    core.close(made.now)
    core.events()
    core.data_to_send(made.now)
    core.receive_data(b"x" * 1000, made.now)
    core.receive_eof(made.now)
    core.handle_timeout(made.now + 1e6)
    core.close(made.now)
    core.mux.global_request("x@x", b"", want_reply=False)
    assert core.events() == []
    assert core.data_to_send(made.now) == b""
    assert (core.next_timeout(), core.room(), core.closed) == (None, 0, True)


@pytest.mark.parametrize(
    "phase", [Phase.IDENTIFICATION, Phase.KEXINIT, Phase.KEX, Phase.AUTH, Phase.CONNECTION]
)
@pytest.mark.parametrize("side", ROLES)
def test_eof(side: Side, phase: Phase) -> None:
    made = pair()
    made.start()
    made.run_until_phase(side, phase)
    made.core(side).receive_eof(made.now)
    error = ended(made, side)
    assert type(error) is ConnectionLost
    during = "" if phase is Phase.CONNECTION else f" during {phase.value}"
    assert str(error) == f"the peer closed the connection{during}"


def test_eof_hints() -> None:
    for said, hint in ((b"", "MaxStartups"), (b"220 mail.example ESMTP", "It said 220 mail.example ESMTP")):
        core = ClientProtocol(Policy.client(), user="x", now=0.0)
        core.start(0.0)
        core.receive_data(said, 0.0)
        core.receive_eof(0.0)
        error = next(e.error for e in core.events() if isinstance(e, Closed))
        assert error is not None
        assert hint in error.hint


def test_no_goodbye_to_a_peer_that_speaks_no_ssh() -> None:
    core = ServerProtocol(Policy.server(), host_keys=[HOST_KEY.public], now=0.0)
    core.start(0.0)
    core.data_to_send(0.0)
    core.receive_data(b"GET / HTTP/1.1\r\n", 0.0)
    assert core.closed
    assert core.data_to_send(0.0) == b""


# --- questions


def test_an_answer_is_taken_once() -> None:
    made = pair()
    del made.answers[CredentialNeeded]
    made.run()
    ((side, question),) = made.open
    made.answer(side, question, NoneMethod())
    with pytest.raises(UsageError):
        made.client.answer(question, NoneMethod(), made.now)
    with pytest.raises(UsageError):
        made.client.answer(CredentialNeeded(None, False, ()), NoneMethod(), made.now)
    assert not made.client.closed


def test_an_answer_after_the_end_is_ignored() -> None:
    made = pair()
    del made.answers[CredentialNeeded]
    made.run()
    ((_, question),) = made.open
    made.client.close(made.now)
    made.client.answer(question, NoneMethod(), made.now)
    assert [type(e) for e in made.client.events()] == [Closed]


@pytest.mark.parametrize("answer", [False, None, 1, "yes", object()])
def test_whatever_is_not_a_clear_yes_to_a_host_key_is_a_no(answer: object) -> None:
    made = pair(answers={HostKeyOffered: lambda q: answer})
    made.run()
    assert type(ended(made, "client")) is HostKeyRefused
    assert HandshakeDone not in made.kinds("client") + made.kinds("server")


def test_a_reason_for_refusing_a_host_key_is_kept() -> None:
    mine = HostKeyRefused("it is another one", hint="ask the administrator")
    made = pair(answers={HostKeyOffered: lambda q: mine})
    made.run()
    assert ended(made, "client") is mine
    error = ended(made, "server")
    assert isinstance(error, Disconnected)
    assert (error.reason, error.description) == (9, "host key not verifiable")


@pytest.mark.parametrize("answer", [None, "text", UsageError("the agent is gone")])
def test_a_signature_that_cannot_be_had(answer: object) -> None:
    made = pair(answers={HostKeySignatureNeeded: lambda q: answer})
    made.run()
    assert type(ended(made, "server")) is UsageError
    assert HandshakeDone not in made.kinds("client")


@pytest.mark.parametrize("seconds", [0, 1, 30])
def test_answers_that_take_their_time(seconds: float) -> None:
    """Nothing waits in the core: an answer may come in another call, much later, and all goes on."""
    made = pair()
    slow = dict(made.answers)
    made.answers.clear()
    for _ in range(20):
        made.advance(seconds / 10)
        if not made.open:
            break
        side, question = made.open[0]
        made.answer(side, question, slow[type(question)](question))
    made.run()
    assert Authenticated in made.kinds("client")
    assert Authenticated in made.kinds("server")


def test_nothing_is_dispatched_behind_a_verdict() -> None:
    """A second request waits for the answer to the first; it is neither judged nor refused."""
    made = pair()
    del made.answers[NoneOffered]
    made.run()
    ((side, question),) = made.open
    made.inject("client", b"\x15")
    assert not made.server.closed
    assert made.server.events() == []
    made.answer(side, question, Verdict(False))
    assert type(ended(made, "server")) is ProtocolViolation


def test_giving_up() -> None:
    made = pair(answers={CredentialNeeded: lambda q: None})
    made.run()
    assert type(ended(made, "client")) is AuthenticationFailed


# --- the clock


@pytest.mark.parametrize("side", ROLES)
def test_login_grace_is_absolute(side: Side) -> None:
    made = pair(login_grace=60.0, answers={})
    del made.answers[CredentialNeeded]
    made.run()
    for _ in range(59):
        made.advance(1)
        made.say(other(side), b"\x02\0\0\0\0")
    assert not made.core(side).closed
    made.advance(1)
    error = ended(made, side)
    assert type(error) is DeadlineExceeded
    assert "60 s" in str(error)


def test_no_grace_is_no_limit() -> None:
    made = pair(login_grace=0)
    del made.answers[CredentialNeeded]
    made.run()
    made.advance(1e6)
    assert not made.client.closed
    assert not made.server.closed


@pytest.mark.parametrize("side", ROLES)
def test_keepalive(side: Side) -> None:
    """Asked after 15 s of silence, three times; then the peer is given up, at 60 s."""
    made = logged_in(**{other(side): {"keepalive_interval": 0}})
    made.advance(14)
    assert made.sent == []
    made.advance(1)
    assert [(p.sender, p.number) for p in made.sent] == [(side, 80), (other(side), 82)]
    made.advance(150)
    assert sum(p.number == 80 for p in made.sent) == 11
    made.relay = lambda p: b"" if p.sender != side else p.wire
    started = made.now
    while not made.core(side).closed:
        made.advance(1)
    assert made.now - started in (60, 61)
    error = ended(made, side)
    assert type(error) is ConnectionLost
    assert "has not answered for 6" in str(error)


def test_a_busy_peer_is_not_asked() -> None:
    made = logged_in(client={"keepalive_interval": 0})
    for _ in range(20):
        made.advance(10)
        made.say("client", b"\x02\0\0\0\0")
        made.run()
    assert [p for p in made.sent if p.sender == "server"] == []


def test_keepalive_replies_are_not_told() -> None:
    made = logged_in()
    made.advance(100)
    assert {type(e).__name__ for side in ROLES for e in made.log[side]} <= {"GlobalReplied"}


# --- the stream of records


def packets_of(records: list[Record], *, sent: bool) -> list[tuple[int, int, int]]:
    return [(r.number, r.seq, r.epoch) for r in records if isinstance(r, MessageRecord) and r.sent is sent]


def test_the_stream_tells_the_same_story() -> None:
    records: dict[Side, list[Record]] = {"client": [], "server": []}
    made = pair(hubs={side: Hub(records[side].append) for side in ROLES})
    made.run()
    transfer(made, session(made), b"x" * 1000, b"")
    made.client.rekey(made.now)
    made.run()
    made.client.close(made.now)
    made.run()
    for side in ROLES:
        packets = [r for r in records[side] if isinstance(r, MessageRecord)]
        sent = [p for p in made.sent if p.sender == side and p.number >= 0]
        assert [r.number for r in packets if r.sent] == [p.number for p in sent]
        assert [r.wire_length for r in packets if r.sent] == [len(p.wire) for p in sent]
        for state in (r for r in records[side] if isinstance(r, StateRecord)):
            assert set(state.facts) <= set(STATES[state.name][1].split()), state
    assert packets_of(records["server"], sent=False) == packets_of(records["client"], sent=True)
    names = [r.name for r in records["client"] if isinstance(r, StateRecord)]
    for before, after in (
        ("identification_sent", "identification_received"), ("kex_started", "negotiated"),
        ("negotiated", "host_key"), ("host_key", "keys_installed"), ("keys_installed", "kex_done"),
        ("kex_done", "authenticated"), ("authenticated", "closed"),
    ):  # fmt: skip
        assert names.index(before) < names.index(after)
    assert names[-1] == "closed"
    assert names.count("kex_done") == 2


@pytest.mark.parametrize("side", ROLES)
def test_a_sink_that_raises_does_no_harm(side: Side) -> None:
    def broken(record: Record) -> None:
        raise RuntimeError("a defect of a sink")

    made = pair(hubs={side: Hub(broken)})
    made.run()
    assert Authenticated in made.kinds(side)


def test_unheard_and_heard_are_the_same_connection() -> None:
    quiet, loud = pair(), pair(hubs={side: Hub(lambda record: None) for side in ROLES})
    for made in (quiet, loud):
        made.run()
    assert [(p.sender, p.number, len(p.wire)) for p in quiet.sent] == [
        (p.sender, p.number, len(p.wire)) for p in loud.sent
    ]


def test_events_are_told_once() -> None:
    made = pair()
    made.run()
    assert made.client.events() == []
    seen: list[Event] = made.log["client"]
    assert len({id(event) for event in seen}) == len(seen)
