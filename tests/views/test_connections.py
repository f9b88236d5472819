"""The blocks of a capture's connections: their header, and their bounds."""

from __future__ import annotations

import io

from glasshell.observe.record import StateRecord
from glasshell.observe.seen import Seen
from glasshell.views.connections import Connections

PLACE = {"address": "192.0.2.2", "port": 22, "local_address": "192.0.2.1", "local_port": 50000}


def begin(view: Connections, stream: int) -> None:
    view(Seen(StateRecord(0.0, "started", {"role": "network", "wall_time": 1.5e9}), stream))
    view(Seen(StateRecord(0.0, "connected", PLACE), stream, None, (1, 1)))


def test_a_connection_is_drawn_when_it_is_over_and_the_others_at_the_end() -> None:
    out = io.StringIO()
    view = Connections(out)
    begin(view, 0)
    begin(view, 1)
    assert out.getvalue() == ""
    view(Seen(StateRecord(1.0, "closed", {"sent_bytes": 1, "received_bytes": 2}), 1))
    assert out.getvalue().startswith("stream 1: 192.0.2.1:50000 → 192.0.2.2:22 2017-07-14 02:40:00")
    view.close()
    assert out.getvalue().count("stream ") == 2


def test_only_wanted_connections_are_drawn() -> None:
    out = io.StringIO()
    view = Connections(out)
    for stream in range(3):
        view(Seen(StateRecord(0.0, "connected", PLACE), stream), wanted=stream == 1)
    view.close()
    assert [line.split()[1] for line in out.getvalue().splitlines() if line.startswith("stream")] == ["1:"]


def test_runs_of_what_cannot_be_read_are_one_line_each_way() -> None:
    out = io.StringIO()
    view = Connections(out)
    begin(view, 0)
    for number in range(400):
        record = StateRecord(number / 1000, "encrypted", {"bytes": 100, "packets": None})
        view(Seen(record, 0, bool(number % 2), (number, number)))
    view.close()
    lines = [line for line in out.getvalue().splitlines() if " encrypted" in line]
    assert len(lines) == 2
    assert all("200 × encrypted" in line and "20.0 kB" in line for line in lines)


def test_what_a_peer_said_is_safe_and_short() -> None:
    out = io.StringIO()
    view = Connections(out)
    begin(view, 0)
    view(Seen(StateRecord(0.1, "identification_sent", {"line": "SSH-2.0-\x1b[2J" + "x" * 5000}), 0, True))
    view.close()
    header = out.getvalue().split("\n\n")[0]
    assert "\x1b" not in header
    assert max(map(len, header.splitlines())) < 230


def test_very_many_connections_at_a_time_keep_few_lines_each() -> None:
    view = Connections(io.StringIO())
    for stream in range(3000):
        begin(view, stream)
    for _ in range(50):
        view(Seen(StateRecord(0.5, "preface_line", {"text": "x"}), 2999))
        view(Seen(StateRecord(0.5, "preface_line", {"text": "x"}), 0))
    assert len(view._open[2999].lines.rows) <= 10
    assert len(view._open[0].lines.rows) > 50
