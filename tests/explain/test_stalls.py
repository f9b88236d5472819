"""Stalls by hand: each rule with times that fit it, and with times that do not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.explain.course import Course, duration, sentence
from glasshell.explain.stalls import MOST, Stall
from glasshell.messages import auth as a
from glasshell.messages import connection as c
from glasshell.messages import transport as t
from glasshell.messages.declare import Message
from glasshell.observe.record import Record
from glasshell.wire import Secret
from tests.views.connection import client_connection, request, server_connection
from tests.views.tape import HOST_KEY, INIT, REPLY, Tape, kexinit

TRIP = 0.0004


def course_of(records: list[Record]) -> Course:
    course = Course()
    for record in records:
        course.hear(record)
    return course


class Talk:
    """A connection on a fast line, to which a test adds what stalls; its peer is OpenSSH."""

    def __init__(self, role: str = "client", software: str = "OpenSSH_9.2p1", *, line: float = TRIP) -> None:
        self.tape = Tape(step=0.0)
        self.line = line
        self.tape.state("started", role=role, wall_time=0.0, software="glasshell", version="1")
        self.tape.state("connecting", host="h", address="192.0.2.7", port=22, user="u")
        self.tape.wait(line)
        self.tape.state("connected", address="192.0.2.7", port=22, local_address="", local_port=1)
        self.tape.state("identification_sent", line="SSH-2.0-a", length=11)
        self.tape.wait(line)
        self.tape.state("identification_received", line=f"SSH-2.0-{software}", software=software, length=20)
        self.tape.received(kexinit())
        self.tape.sent(kexinit())

    def then(self, seconds: float, *messages: Message, sent: bool = False) -> Talk:
        self.tape.wait(seconds)
        (self.tape.sent if sent else self.tape.received)(*messages)
        return self

    def keyed(self) -> Talk:
        self.then(TRIP, INIT, sent=True).then(self.line, REPLY, t.NewKeys())
        return self.then(TRIP, t.NewKeys(), sent=True)

    def trying(self, message: Message) -> Talk:
        self.keyed().then(TRIP, t.ServiceRequest("ssh-userauth"), sent=True)
        return self.then(self.line, t.ServiceAccept("ssh-userauth")).then(TRIP, message, sent=True)

    def running(self) -> Talk:
        self.trying(request("none", a.NoneRequest())).then(self.line, a.UserauthSuccess())
        self.then(TRIP, c.ChannelOpen("session", 0, 100, 100, c.SessionOpen()), sent=True)
        self.then(self.line, c.ChannelOpenConfirmation(0, 7, 100, 100))
        self.then(TRIP, c.ChannelRequest(7, "exec", True, c.Exec("x")), sent=True)
        return self.then(self.line, c.ChannelSuccess(0))

    @property
    def course(self) -> Course:
        return course_of(self.tape.records)

    @property
    def found(self) -> list[Stall]:
        return self.course.stalls.found

    @property
    def only(self) -> Stall:
        (stall,) = self.found
        return stall


def kinds(talk: Talk) -> list[str]:
    return [stall.kind for stall in talk.found]


def test_a_connection_without_a_stall_has_none() -> None:
    assert Talk().running().found == []


def test_a_slow_line_is_no_stall() -> None:
    talk = Talk(line=0.2)
    talk.running()
    assert talk.found == []


PASSWORD = request("password", a.PasswordRequest(False, Secret(b"x")))
PROBE = request("publickey", a.PublickeyRequest(False, "ssh-ed25519", HOST_KEY))
SIGNED = request("publickey", a.PublickeyRequest(True, "ssh-ed25519", HOST_KEY, b"signature"))
REFUSED = a.UserauthFailure(("password",), False)


@pytest.mark.parametrize(("tried", "seconds", "software", "kind", "confidence"), [
    (PROBE, 0.0062, "OpenSSH_9.2p1", "fail_delay", "likely"),
    (PROBE, 0.0092, "OpenSSH_9.2p1", "fail_delay", "likely"),
    (PROBE, 0.0092, "dropbear_2022", None, ""),
    (PROBE, 0.0020, "OpenSSH_9.2p1", None, ""),
    (PROBE, 0.3, "OpenSSH_9.2p1", "judging", "possible"),
    (PASSWORD, 2.0, "OpenSSH_9.2p1", "pam_fail", "likely"),
    (PASSWORD, 1.2, "OpenSSH_9.2p1", "pam_fail", "likely"),
    (PASSWORD, 9.0, "OpenSSH_9.2p1", "judging", "possible"),
    (PROBE, 2.0, "OpenSSH_9.2p1", "judging", "possible"),
])  # fmt: skip
def test_a_refusal(tried: Message, seconds: float, software: str, kind: str | None, confidence: str) -> None:
    talk = Talk(software=software).trying(tried).then(TRIP + seconds, REFUSED)
    assert kinds(talk) == ([kind] if kind else [])
    if kind:
        assert talk.only.confidence == confidence
        assert talk.only.took == pytest.approx(seconds, abs=0.001)


def test_the_line_is_taken_off() -> None:
    talk = Talk(line=0.1).trying(PROBE).then(0.1 + 0.007, REFUSED)
    assert talk.only.kind == "fail_delay"
    assert talk.only.took == pytest.approx(0.007, abs=0.001)


@pytest.mark.parametrize("role", ["network", "client"])
def test_a_delayed_acknowledgement_of_the_servers_packets(role: str) -> None:
    talk = Talk(role).trying(request("none", a.NoneRequest())).then(TRIP, a.UserauthSuccess())
    talk.then(0.0, c.ChannelOpen("session", 0, 100, 100, c.SessionOpen()), sent=True)
    talk.then(0.0001, t.Debug(False, "x")).then(0.041, c.ChannelOpenConfirmation(0, 7, 100, 100))
    assert (talk.only.kind, talk.only.confidence) == ("delayed_ack", "likely")
    assert talk.only.took == pytest.approx(0.041, abs=0.001)


def test_a_delayed_acknowledgement_of_the_clients_packets() -> None:
    talk = Talk("network").keyed().then(0.041, t.ServiceRequest("ssh-userauth"), sent=True)
    assert (talk.only.kind, talk.only.whose) == ("delayed_ack", "own")
    assert sum(spent.own for spent in talk.course.clock.spent.values()) < 0.005  # it was no computing


def test_our_own_sockets_delay_nothing() -> None:
    talk = Talk("client").keyed().then(0.041, t.ServiceRequest("ssh-userauth"), sent=True)
    assert kinds(talk) == []


def test_an_answer_after_forty_milliseconds_is_no_delayed_acknowledgement() -> None:
    talk = Talk().trying(PROBE).then(0.041, a.UserauthPkOk("ssh-ed25519", HOST_KEY))
    assert kinds(talk) == ["judging"]


def test_what_nagle_holds_on_a_slow_line() -> None:
    talk = Talk("network", line=0.1).keyed().then(0.1, t.ServiceRequest("ssh-userauth"), sent=True)
    assert (talk.only.kind, talk.only.whose) == ("nagle", "own")
    assert talk.course.clock.kind == "held"


def test_keys_that_take_time() -> None:
    mine = Talk().then(0.050, INIT, sent=True)
    assert (mine.only.kind, mine.only.whose) == ("slow_keys", "own")
    theirs = Talk().then(0.001, INIT, sent=True).then(TRIP + 0.011, REPLY)
    assert (theirs.only.kind, theirs.only.whose) == ("slow_keys", "peer")
    assert theirs.only.took == pytest.approx(0.011, abs=0.001)


@pytest.mark.parametrize(("seconds", "confidence"), [(0.05, "likely"), (3.0, "possible")])
def test_signing(seconds: float, confidence: str) -> None:
    talk = Talk().trying(PROBE).then(TRIP, a.UserauthPkOk("ssh-ed25519", HOST_KEY))
    talk.then(seconds, SIGNED, sent=True)
    assert (talk.only.kind, talk.only.confidence, talk.only.whose) == ("signing", confidence, "own")
    assert ("touch" in talk.only.title) == (seconds > 1)


def test_a_person() -> None:
    talk = Talk().trying(PROBE).then(TRIP, REFUSED)
    talk.tape.wait(4.0)
    talk.tape.state("answered", what="password")
    assert (talk.only.kind, talk.only.confidence, talk.only.whose) == ("person", "certain", "person")
    talk.then(TRIP, PASSWORD, sent=True)
    assert kinds(talk) == ["person"]
    seen = Talk("network").trying(PROBE).then(TRIP, REFUSED).then(4.0, PASSWORD, sent=True)
    assert (seen.only.kind, seen.only.confidence) == ("person", "possible")


def test_a_session_that_starts_slowly() -> None:
    talk = Talk().trying(SIGNED).then(TRIP, a.UserauthSuccess())
    talk.then(TRIP, c.ChannelOpen("session", 0, 100, 100, c.SessionOpen()), sent=True)
    talk.then(1.5, c.ChannelOpenConfirmation(0, 7, 100, 100))
    assert (talk.only.kind, talk.only.confidence) == ("session_start", "possible")


def test_a_program_and_its_user() -> None:
    talk = Talk().running().then(2.0, c.ChannelData(0, b"x")).then(3.0, c.ChannelData(7, b"y"), sent=True)
    assert [(stall.kind, stall.whose) for stall in talk.found] == [("program", "peer"), ("idle", "own")]
    assert "2.0 s the remote program's own" in sentence(talk.course)


def start(*told: tuple[float, str, dict[str, Any]]) -> list[Stall]:
    tape = Tape()
    tape.state("started", role="client", wall_time=0.0, software="x", version="1")
    for seconds, name, facts in told:
        tape.wait(seconds)
        tape.state(name, **facts)
    return course_of(tape.records).stalls.found


PLACE: dict[str, Any] = {"address": "192.0.2.7", "port": 22}
CONNECTED = (0.001, "connected", PLACE)
IDENT: dict[str, Any] = {"line": "SSH-2.0-a", "software": "a", "length": 11}


@pytest.mark.parametrize(("told", "kind", "confidence"), [
    ([(0.0, "resolving", {"host": "h", "port": 22}), (0.3, "resolved", {"host": "h", "addresses": ()})],
     "dns", "certain"),
    ([(0.0, "resolving", {"host": "h", "port": 22}), (5.1, "error", {"text": "no such host"})],
     "dns", "certain"),
    ([(0.0, "connecting", PLACE), (1.03, "connected", PLACE)], "syn_again", "likely"),
    ([(0.0, "connecting", PLACE), (3.05, "connected", PLACE)], "syn_again", "likely"),
    ([(0.0, "connecting", PLACE), (0.3, "connected", PLACE)], None, ""),
    ([(0.0, "connecting", PLACE), (20.0, "connect_failed", {**PLACE, "error": "timed out"})],
     "no_answer", "certain"),
    ([(0.0, "connecting", PLACE), CONNECTED, (0.4, "identification_received", IDENT)],
     "slow_banner", "possible"),
    ([(0.0, "connecting", PLACE), CONNECTED, (5.01, "identification_received", IDENT)],
     "slow_banner", "likely"),
    ([(0.0, "connecting", PLACE), CONNECTED, (0.001, "identification_received", IDENT)], None, ""),
    ([(0.0, "connecting", PLACE), CONNECTED, (0.001, "preface_line", {"text": "Exceeded MaxStartups"})],
     "max_startups", "certain"),
    ([(0.0, "connecting", PLACE), CONNECTED, (0.001, "preface_line", {"text": "hello"})], None, ""),
])  # fmt: skip
def test_the_way_to_the_connection(
    told: list[tuple[float, str, dict[str, Any]]], kind: str | None, confidence: str
) -> None:  # fmt: skip
    found = [(stall.kind, stall.confidence) for stall in start(*told)]
    assert found == ([(kind, confidence)] if kind else [])


def test_what_cannot_be_read_is_named_by_its_time() -> None:
    talk = Talk("network").keyed()
    for seconds, sent in ((2.0, True), (2.1, False), (0.4, False)):
        talk.tape.wait(seconds)
        talk.tape.state("encrypted", sent=sent, bytes=52, packet_length=32, packets=1)
    assert [(stall.kind, stall.confidence) for stall in talk.found] == [
        ("person", "possible"), ("pam_fail", "possible"), ("unknown", "unknown"),
    ]  # fmt: skip


def test_what_nothing_explains_is_said_to_be_unknown() -> None:
    talk = Talk().keyed().then(0.0, t.ServiceRequest("ssh-userauth"), sent=True)
    talk.then(0.5, t.ServiceAccept("ssh-userauth"))
    assert (talk.only.kind, talk.only.confidence) == ("unknown", "unknown")


def test_many_stalls_stay_bounded_and_the_longest_stay() -> None:
    talk = Talk().running()
    for n in range(MOST + 100):
        talk.then(0.2 + n / 1000, c.ChannelData(0, b"x"))
    assert len(talk.found) == MOST
    assert min(stall.took for stall in talk.found) > 0.29


def test_the_sentence() -> None:
    talk = Talk().trying(PROBE).then(TRIP + 0.0062, REFUSED)
    said = sentence(talk.course)
    assert said.startswith(f"{duration(talk.course.took)}, 5 round trips: ")
    assert "waiting for the server" in said
    assert said.endswith("one stall of 6.2 ms looks like the server's deliberate delay.")
    twice = Talk("network").then(0.041, INIT, sent=True).then(TRIP, REPLY, t.NewKeys())
    twice.then(0.0, t.NewKeys(), sent=True).then(0.041, t.ServiceRequest("ssh-userauth"), sent=True)
    said = sentence(twice.course)
    assert "98 % waiting for acknowledgements; two stalls of 41 ms look like delayed ACKs." in said
    slow = Talk().trying(PROBE).then(TRIP, a.UserauthPkOk("ssh-ed25519", HOST_KEY))
    slow.then(3.0, SIGNED, sent=True)
    assert "one stall of 3.0 s may be signing" in sentence(slow.course)
    asked = Talk("network").trying(PROBE).then(TRIP, REFUSED).then(4.0, PASSWORD, sent=True)
    assert "4.0 s perhaps a person at the prompt" in sentence(asked.course)
    assert "100 % waiting for the server or a person" in sentence(asked.course)
    assert sentence(Course()) == "0.0 ms, 0 round trips."


@pytest.mark.parametrize(("seconds", "text"), [
    (0.0004, "0.4 ms"), (0.0094, "9.4 ms"), (0.2084, "208 ms"), (3.24, "3.2 s"), (250.4, "4 min 10 s"),
])  # fmt: skip
def test_times_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.data())
def test_any_order_of_records_raises_nothing(data: st.DataObject) -> None:
    every = [*client_connection(data=3).records, *server_connection().records]
    chosen = data.draw(st.lists(st.sampled_from(every), max_size=40))
    course = course_of(chosen)
    sentence(course)
    assert all(stall.title and stall.evidence and stall.confidence for stall in course.stalls.found)
