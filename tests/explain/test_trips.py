"""Round trips by hand: what each message waited for, in each role, and what the clock may decide."""

from __future__ import annotations

import pytest

from glasshell.explain.trips import RoundTrips
from glasshell.messages import auth as a
from glasshell.messages import connection as c
from glasshell.messages import kex as k
from glasshell.messages import transport as t
from glasshell.messages.declare import Message
from tests.views.connection import request, server_connection
from tests.views.tape import INIT, REPLY, Tape, kexinit

TRIP = 0.1


class Wire:
    """A client on a line whose round trip takes TRIP seconds; nothing else takes time."""

    def __init__(self, role: str = "client") -> None:
        self.tape = Tape(step=0.0)
        self.tape.state("started", role=role, wall_time=0.0, software="x", version="1")

    def connect(self) -> Wire:
        self.tape.state("connecting", host="h", address="192.0.2.7", port=22, user="u")
        self.tape.wait(TRIP)
        self.tape.state("connected", address="192.0.2.7", port=22, local_address="", local_port=1)
        self.tape.state("identification_sent", line="SSH-2.0-a", length=11)
        self.tape.sent(kexinit())
        self.tape.wait(TRIP)
        self.tape.state("identification_received", line="SSH-2.0-b", length=11)
        self.tape.received(kexinit())
        return self.ask(INIT, REPLY, t.NewKeys()).say(t.NewKeys())

    def login(self) -> Wire:
        self.connect().ask(t.ServiceRequest("ssh-userauth"), t.ServiceAccept("ssh-userauth"))
        return self.ask(request("none", a.NoneRequest()), a.UserauthSuccess())

    def session(self, window: int = 1 << 21) -> Wire:
        opening = c.ChannelOpen("session", 0, window, 32768, c.SessionOpen())
        self.login().ask(opening, c.ChannelOpenConfirmation(0, 7, window, 32768))
        return self.ask(c.ChannelRequest(7, "exec", True, c.Exec("x")), c.ChannelSuccess(0))

    def say(self, *messages: Message) -> Wire:
        self.tape.sent(*messages)
        return self

    def hear(self, *messages: Message) -> Wire:
        self.tape.received(*messages)
        return self

    def ask(self, question: Message, *answers: Message) -> Wire:
        self.tape.sent(question)
        self.tape.wait(TRIP)
        self.tape.received(*answers)
        return self

    @property
    def trips(self) -> RoundTrips:
        trips = RoundTrips()
        for record in self.tape.records:
            trips.hear(record)
        return trips

    @property
    def counted(self) -> int:
        """The count; where everything waited for something, it is the time taken."""
        return self.trips.depth


def test_a_login_is_its_time_in_trips() -> None:
    wire = Wire().login()
    assert wire.counted == round(wire.tape.now / TRIP) == 5


@pytest.mark.parametrize("role", ["client", "network"])
def test_links_are_numbered_without_a_gap(role: str) -> None:
    links = Wire(role).session().trips.links
    assert [link.number for link in links] == [1, 2, 3, 4, 5, 6, 7]
    last = ["SSH_MSG_CHANNEL_OPEN_CONFIRMATION", "SSH_MSG_CHANNEL_SUCCESS"]
    assert [link.answered for link in links[-2:]] == last
    assert all(link.ended - link.began == pytest.approx(TRIP) for link in links)


def test_requests_that_go_out_together_cost_one_trip() -> None:
    wire = Wire().session()
    before = wire.counted
    requests = [c.ChannelRequest(7, "env", True, c.Env("A", str(n))) for n in range(20)]
    wire.say(*requests).tape.wait(TRIP)
    assert wire.hear(*[c.ChannelSuccess(0)] * 20).counted == before + 1


def test_channels_side_by_side_cost_as_much_as_the_slowest() -> None:
    wire = Wire().login()
    before = wire.counted
    for n in range(5):
        wire.say(c.ChannelOpen("session", n, 100, 100, c.SessionOpen()))
    wire.tape.wait(TRIP)
    for n in range(5):
        wire.hear(c.ChannelOpenConfirmation(n, n + 70, 100, 100))
        wire.say(c.ChannelRequest(n + 70, "exec", True, c.Exec("x")))
    wire.tape.wait(TRIP)
    for n in range(5):
        wire.hear(c.ChannelSuccess(n), c.ChannelEof(n), c.ChannelClose(n)).say(c.ChannelClose(n + 70))
    assert wire.counted == before + 2


def test_one_after_the_other_costs_the_sum() -> None:
    wire = Wire().session()
    before = wire.counted
    wire.hear(c.ChannelClose(0)).say(c.ChannelClose(7))
    opening = c.ChannelOpen("session", 1, 100, 100, c.SessionOpen())
    wire.ask(opening, c.ChannelOpenConfirmation(1, 8, 100, 100))
    wire.ask(c.ChannelRequest(8, "exec", True, c.Exec("x")), c.ChannelSuccess(1))
    assert wire.counted == before + 2


def test_keystrokes_and_echoes() -> None:
    wire = Wire().session()
    before = wire.counted
    for _ in range(4):
        wire.ask(c.ChannelData(7, b"a"), c.ChannelData(0, b"a"))
    assert wire.counted == before + 4


def test_data_that_only_comes_waits_for_nothing() -> None:
    wire = Wire().session()
    before = wire.counted
    for _ in range(50):
        wire.tape.wait(TRIP)
        wire.hear(c.ChannelData(0, bytes(100)))
    assert wire.counted == before


def test_the_end_of_no_input_is_waited_for_by_nobody() -> None:
    ends = (c.ChannelEof(0), c.ChannelRequest(0, "exit-status", False, c.ExitStatus(0)), c.ChannelClose(0))
    silent, fed = Wire().session(), Wire().session()
    silent.ask(c.ChannelEof(7), *ends)
    fed.say(c.ChannelData(7, b"x")).ask(c.ChannelEof(7), *ends)
    assert (silent.counted, fed.counted) == (7, 8)


def test_what_crossed_is_no_answer() -> None:
    wire = Wire().session()
    before = wire.counted
    wire.say(c.ChannelData(7, b"a")).tape.wait(TRIP / 2)
    assert wire.hear(c.ChannelData(0, b"b")).counted == before


def test_a_window_that_is_used_up_costs_a_trip_each_time() -> None:
    wire = Wire().session(window=1000)
    before = wire.counted
    wire.hear(c.ChannelData(0, bytes(1000)))
    for _ in range(3):
        wire.ask(c.ChannelWindowAdjust(7, 1000), c.ChannelData(0, bytes(1000)))
    assert wire.counted == before + 3


def test_a_window_that_is_opened_in_time_costs_nothing() -> None:
    wire = Wire().session(window=1000)
    before = wire.counted
    for _ in range(30):
        wire.tape.wait(TRIP / 10)
        wire.hear(c.ChannelData(0, bytes(100))).say(c.ChannelWindowAdjust(7, 100))
    assert wire.counted == before


def test_our_own_data_waits_for_the_peers_window() -> None:
    wire = Wire().session(window=1000)
    before = wire.counted
    for _ in range(3):
        wire.ask(c.ChannelData(7, bytes(1000)), c.ChannelWindowAdjust(0, 1000))
    wire.say(c.ChannelData(7, bytes(1000)))
    assert wire.counted == before + 3


@pytest.mark.parametrize("by_us", [True, False])
def test_a_key_exchange_on_the_way(by_us: bool) -> None:
    wire = Wire().session()
    before = wire.counted
    if by_us:
        wire.ask(kexinit(), kexinit())
    else:
        wire.hear(kexinit()).say(kexinit())
    wire.ask(INIT, REPLY, t.NewKeys()).say(t.NewKeys())
    assert wire.counted == before + (2 if by_us else 1)


def test_group_exchange_takes_a_trip_more() -> None:
    wire = Wire()
    wire.connect()
    gex = Wire()
    gex.tape.records = [r for r in wire.tape.records if getattr(r, "number", 0) not in (30, 31, 21)]
    gex.tape.now = wire.tape.now
    gex.ask(k.KexDhGexRequest(2048, 3072, 4096), k.KexDhGexGroup(23, 5))
    gex.ask(k.KexDhGexInit(7), k.KexDhGexReply(b"", 7, b""))
    assert gex.counted == wire.counted + 1


def test_what_cannot_be_read_alternates() -> None:
    wire = Wire("network").connect()
    before = wire.counted
    for _ in range(4):
        wire.tape.state("encrypted", sent=True, bytes=52, packet_length=32, packets=1)
        wire.tape.wait(TRIP)
        for _ in range(3):
            wire.tape.state("encrypted", sent=False, bytes=52, packet_length=32, packets=1)
    assert wire.counted == before + 4


def test_a_packet_held_until_the_last_is_acknowledged_costs_a_trip() -> None:
    wire = Wire("network")
    wire.connect()
    before = wire.counted
    wire.tape.wait(TRIP)  # the client's NEWKEYS went out, and its next packet one trip later
    wire.ask(t.ServiceRequest("ssh-userauth"), t.ServiceAccept("ssh-userauth"))
    assert wire.counted == before + 2


def test_a_refused_address_is_a_trip_and_a_silent_one_is_none() -> None:
    wire = Wire()
    for error in ("Connection refused", "timed out"):
        wire.tape.state("connecting", host="h", address="::1", port=22, user="u")
        wire.tape.wait(TRIP)
        wire.tape.state("connect_failed", host="h", address="::1", port=22, error=error)
    assert wire.counted == 1


def test_a_server_counts_what_its_client_counts() -> None:
    trips = RoundTrips()
    for record in server_connection().records:
        trips.hear(record)
    assert trips.depth == 9
    assert [link.number for link in trips.links] == list(range(1, 10))


def test_a_server_counts_a_client_that_waits_before_it_speaks() -> None:
    tape = Tape(step=0.0)
    tape.state("accepted", address="192.0.2.1", port=1, local_address="192.0.2.7", local_port=22)
    tape.state("identification_sent", line="SSH-2.0-b", length=11)
    tape.sent(kexinit())
    tape.wait(TRIP)
    tape.state("identification_received", line="SSH-2.0-a", length=11)
    tape.received(kexinit(), INIT)
    tape.sent(REPLY, t.NewKeys())
    tape.wait(TRIP)
    tape.received(t.NewKeys())
    tape.wait(TRIP)  # a client with Nagle's algorithm: its request waits for the ACK of its NEWKEYS
    tape.received(t.ServiceRequest("ssh-userauth"))
    trips = RoundTrips()
    for record in tape.records:
        trips.hear(record)
    assert trips.depth == 4
