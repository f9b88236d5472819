"""The timeline: phases, waiting and own time, round trips, folding, and how it is drawn."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from typing import Any

import pytest

from glasshell.messages import connection as c
from glasshell.messages import kex as k
from glasshell.messages import transport as t
from glasshell.views.timeline import Rows, Timeline, size_text

from .connection import client_connection, server_connection
from .tape import Tape, kexinit


def told(tape: Tape, upto: int | None = None) -> Timeline:
    timeline = Timeline()
    for record in tape.records[:upto]:
        timeline(record)
    return timeline


def drawn(
    timeline: Timeline, width: int | None = None, *, encoding: str = "utf-8", color: bool = False
) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
    timeline.render(width, color, stream)
    stream.flush()
    return raw.getvalue().decode(encoding)


def phases(timeline: Timeline) -> dict[str, tuple[float, float]]:
    return {p["name"]: (p["waiting_ms"], p["own_ms"]) for p in timeline.summary()["phases"]}


def test_phases_and_what_they_waited_for() -> None:
    got = phases(told(client_connection(data=0)))
    assert list(got) == [
        "TCP", "identification", "negotiation", "key exchange", "authentication", "connection", "teardown",
    ]  # fmt: skip
    assert got["TCP"] == (10.0, 0.0)
    assert got["identification"] == (10.0, 1.0)  # 1 ms until our KEXINIT left, then the peer's line
    assert got["negotiation"] == (1.0, 0.0)
    assert got["key exchange"] == (2.0, 4.0)  # REPLY and NEWKEYS; INIT after 2 + 1 ms, NEWKEYS after 1
    assert got["authentication"] == (5.0, 5.0)
    assert got["teardown"] == (0.0, 2.0)


def test_time_is_given_out_once() -> None:
    summary = told(client_connection()).summary()
    assert sum(p["ms"] for p in summary["phases"]) == pytest.approx(summary["duration_ms"])
    for phase in summary["phases"]:
        assert phase["waiting_ms"] + phase["own_ms"] == pytest.approx(phase["ms"])


def test_a_person_who_answers_is_waited_for() -> None:
    tape = Tape()
    tape.received(k.KexEcdhReply(b"", b"", b""))
    tape.wait(60.0)
    tape.state("answered", what="host key")
    tape.sent(t.NewKeys())
    spent = told(tape).clock.spent.values()
    assert sum(each.waiting for each in spent) >= 60.0
    assert sum(each.own for each in spent) < 1.0


def test_round_trips_of_a_client() -> None:
    # TCP 1, identification and KEXINIT 2, REPLY 3, service 4, none 5, password 6, questions 7, answers 8,
    # channel 9, requests 10, what was typed 11.
    assert told(client_connection()).summary()["round_trips"] == 11


def test_round_trips_of_a_server() -> None:
    # TCP 1, KEXINIT 2, service 3, none 4, probe 5, signature 6, channel 7, request 8, close 9.
    assert told(server_connection()).summary()["round_trips"] == 9


def test_round_trips_by_a_simulated_network() -> None:
    """What is counted is what latency costs: a peer that answers after one trip, nothing else taking time."""
    trip, tape = 0.050, client_connection(data=0)
    counted = told(tape).summary()["round_trips"]
    now, arrival, last_sent = 0.0, 0.0, 0.0
    timed = {"connected": "connecting", "identification_received": "identification_sent"}
    answers = {20, 31, 6, 51, 60, 52, 91, 99, 96}
    for record in tape.records:
        number = getattr(record, "number", None)
        if getattr(record, "name", "") in timed:
            now = max(now, last_sent + trip)
            last_sent = now if record.name == "connected" else last_sent  # type: ignore[union-attr]
        elif number is not None and record.sent:  # type: ignore[union-attr]
            last_sent = now
        elif number in answers:
            arrival = last_sent + trip if number != 20 else now
            now = max(now, arrival)
    assert now == pytest.approx(counted * trip)


def test_two_that_crossed_are_no_round_trip() -> None:
    tape = Tape()
    tape.state("connected", address="192.0.2.7", port=22)
    tape.state("identification_sent", line="SSH-2.0-a", length=11)
    tape.state("identification_received", line="SSH-2.0-b", length=11)
    tape.sent(kexinit())
    tape.received(kexinit())
    assert told(tape).summary()["round_trips"] == 2


def test_every_message_of_the_brief_in_order() -> None:
    text = drawn(told(client_connection()), 200)
    names = re.findall(r"([→←]) .*?((?:SSH_MSG_|identification|connect )\w*)", text)
    assert names[:12] == [
        ("→", "connect begun"), ("←", "connect done"), ("→", "identification"), ("→", "SSH_MSG_KEXINIT"),
        ("←", "identification"), ("←", "SSH_MSG_KEXINIT"), ("→", "SSH_MSG_KEX_HYBRID_INIT"),
        ("←", "SSH_MSG_KEX_HYBRID_REPLY"), ("→", "SSH_MSG_NEWKEYS"), ("←", "SSH_MSG_NEWKEYS"),
        ("→", "SSH_MSG_SERVICE_REQUEST"), ("←", "SSH_MSG_SERVICE_ACCEPT"),
    ]  # fmt: skip
    assert text.index("← ") < text.index("EVERYTHING ENCRYPTED FROM HERE") < text.index("SERVICE_REQUEST")
    assert text.rindex("SSH_MSG_NEWKEYS") < text.index("EVERYTHING ENCRYPTED FROM HERE")


def test_runs_of_data_are_one_line() -> None:
    timeline = told(client_connection(data=312))
    (row,) = [r for r in timeline.lines.rows if r.name == "SSH_MSG_CHANNEL_DATA" and not r.sent]
    assert (row.count, row.content) == (312, 312 * 32768)
    assert "312 × SSH_MSG_CHANNEL_DATA" in drawn(timeline, 120)
    assert "ch=0 10.2 MB in 311.0 ms" in drawn(timeline, 120)


def test_few_messages_of_data_stay_apart() -> None:
    rows = told(client_connection(data=3)).lines.rows
    assert [r.count for r in rows if r.name == "SSH_MSG_CHANNEL_DATA" and not r.sent] == [1, 1, 1]


def test_channels_and_directions_fold_apart() -> None:
    tape = Tape()
    for _ in range(10):
        tape.received(c.ChannelData(0, b"abc"), c.ChannelData(1, b"x"))
        tape.sent(c.ChannelWindowAdjust(0, 3))
    rows = told(tape).lines.rows
    assert [(r.name, r.sent, r.facts, r.count, r.content) for r in rows] == [
        ("SSH_MSG_CHANNEL_DATA", False, "ch=0", 10, 30),
        ("SSH_MSG_CHANNEL_DATA", False, "ch=1", 10, 10),
        ("SSH_MSG_CHANNEL_WINDOW_ADJUST", True, "ch=0", 10, 30),
    ]


def test_channels_are_called_by_our_number_in_both_directions() -> None:
    tape = Tape()
    tape.sent(c.ChannelOpen("session", 2, 1000, 1000, c.SessionOpen()))
    tape.received(c.ChannelOpenConfirmation(2, 70, 1000, 1000, b""))
    tape.sent(c.ChannelRequest(70, "exec", True, c.Exec("true")), c.ChannelData(70, b"abc"))
    tape.received(c.ChannelSuccess(2), c.ChannelClose(2))
    tape.sent(c.ChannelClose(70))
    rows = told(tape).lines.rows
    assert [r.facts for r in rows[2:]] == ["ch=2 exec true want_reply", "ch=2", "ch=2", "ch=2", "ch=2"]


def test_a_long_connection_stays_bounded() -> None:
    tape = Tape()
    for _ in range(Rows.LIMIT + 500):
        tape.received(t.Ignore(b""))
    timeline = told(tape)
    assert len(timeline.lines.rows) == Rows.LIMIT
    assert "… 500 lines left out" in drawn(timeline)
    assert timeline.summary()["messages"]["received"] == Rows.LIMIT + 500


@pytest.mark.parametrize("width", [40, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = drawn(told(client_connection()), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_hundred_columns_without_a_terminal() -> None:
    text = drawn(told(client_connection()))
    assert max(map(len, text.splitlines())) == 100


def test_every_fact_is_there_at_80_columns() -> None:
    timeline = told(client_connection())
    flat = re.sub(r"\s", "", drawn(timeline, 80))
    for row in timeline.lines.rows:
        if row.name != "SSH_MSG_CHANNEL_WINDOW_ADJUST":
            assert re.sub(r"\s", "", row.facts) in flat


def test_color_only_when_asked_for() -> None:
    assert "\x1b[" in drawn(told(client_connection()), 100, color=True)


def test_ascii_where_the_encoding_has_no_more() -> None:
    text = drawn(told(client_connection()), 100, encoding="ascii")
    assert "> " in text
    assert "----" in text
    assert "x SSH_MSG_CHANNEL_DATA" in text


def test_it_can_be_drawn_at_every_moment() -> None:
    tape = client_connection(data=5)
    for upto in range(len(tape.records) + 1):
        timeline = told(tape, upto)
        drawn(timeline, 80)
        assert timeline.summary()["phases"] or upto == 0


def test_a_failure_says_how_far_it_came() -> None:
    tape = Tape()
    tape.state("connecting", host="h", address="192.0.2.7", port=22)
    tape.wait(3.0)
    tape.state("connect_failed", host="h", address="192.0.2.7", port=22, error="timed out")
    tape.state("error", type="CannotConnect", text="cannot connect to h port 22: timed out", hint="")
    timeline = told(tape)
    assert phases(timeline)["TCP"] == (3000.0, 0.0)
    assert drawn(timeline).rstrip().endswith("cannot connect to h port 22: timed out")


def test_algorithms_and_why() -> None:
    summary = told(client_connection()).summary()
    assert summary["algorithms"]["kex"] == "sntrup761x25519-sha512"
    assert summary["why"]["kex"] == "the client's first choice"
    assert summary["strict"] is True


def test_text_of_the_peer_is_made_visible() -> None:
    tape = Tape()
    tape.state("preface_line", text="\x1b[2Jhello\r\nSSH")
    tape.received(t.Debug(True, "\x1b]0;x\x07"))
    assert all(ch.isprintable() or ch == "\n" for ch in drawn(told(tape)))


def test_svg_fetches_nothing() -> None:
    svg = told(client_connection()).to_svg(100)
    assert svg.startswith("<svg")
    assert "EVERYTHING" in svg
    assert "font-face" not in svg
    assert re.findall(r'(?:href|src|url)\s*[=(]\s*["\']?(?!#)(\w+:[^"\')]*)', svg) == []


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"),
    (10_485_760, "10.5 MB"), (5_000_000_000, "5.0 GB"), (5_000_000_000_000, "5000.0 GB"),
])  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    assert size_text(count) == text


def test_rich_is_imported_when_something_is_drawn() -> None:
    code = "import sys, glasshell.views.timeline as t; t.Timeline().summary(); print('rich' in sys.modules)"
    out: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                              env={"PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_stalls_are_named_below_the_phases(width: int) -> None:
    tape = client_connection(data=0)
    tape.sent(c.ChannelOpen("session", 1, 100, 100, c.SessionOpen()))
    tape.wait(0.5)
    tape.received(c.ChannelOpenConfirmation(1, 8, 100, 100))
    timeline = told(tape)
    text = drawn(timeline, width)
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    assert "500.0" in flat
    assert "the server opened" in flat
    assert "possible" in flat
    (stall,) = timeline.summary()["stalls"]
    assert (stall["kind"], stall["ms"]) == ("session_start", pytest.approx(500, abs=2))
    assert timeline.summary()["sentence"].startswith("5")
