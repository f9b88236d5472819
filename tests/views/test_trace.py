"""JSON lines, qlog and the files they are written to."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from glasshell.errors import ConfigError
from glasshell.messages import transport as t
from glasshell.observe.record import STATES
from glasshell.views.jsonl import SCHEMA, JsonLines, read_jsonl
from glasshell.views.qlog import QlogView
from glasshell.views.trace import open_trace
from glasshell.wire import Secret

from .connection import client_connection
from .tape import Tape


def as_jsonl(tape: Tape) -> list[dict[str, Any]]:
    out: list[str] = []
    tape.play(JsonLines(out.append))
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in out)
    return list(read_jsonl(out))


def as_qlog(tape: Tape) -> list[dict[str, Any]]:
    """The texts of a JSON text sequence, read by RFC 7464 §2.1."""
    out: list[str] = []
    tape.play(QlogView(out.append))
    whole = "".join(out)
    head, *texts = whole.split("\x1e")
    assert head == ""
    assert all(text.endswith("\n") for text in texts)
    return [json.loads(text) for text in texts]


def test_jsonl_header_is_first() -> None:
    header = as_jsonl(client_connection())[0]
    assert header == {
        "type": "header", "format": "glasshell-records", "schema": SCHEMA, "role": "client",
        "wall_time": 1795345200.5, "software": "glasshell_0.1",
    }  # fmt: skip


def test_jsonl_has_one_object_a_record() -> None:
    tape = client_connection()
    assert len(as_jsonl(tape)) == len(tape.records) + 1


def test_jsonl_message() -> None:
    tape = Tape(step=0.25)
    tape.received(t.Disconnect(11, "bye\x1b[2J"))
    _, shown = as_jsonl(tape)
    assert shown == {
        "time": 0.25, "type": "message", "name": "SSH_MSG_DISCONNECT", "number": 1, "context": "",
        "direction": "received", "seq": 0, "epoch": 0, "packet_length": 32, "padding_length": 11,
        "wire_length": 36, "clause": "RFC 4253 11.1",
        "fields": {"reason_code": 11, "description": r"bye\033[2J", "language": ""},
    }  # fmt: skip


def test_jsonl_data_is_a_length() -> None:
    data = [x for x in as_jsonl(client_connection()) if x.get("name") == "SSH_MSG_CHANNEL_DATA"]
    assert data[1]["fields"] == {"recipient_channel": 0, "data": {"length": 32768}}


def test_jsonl_state() -> None:
    tape = Tape()
    tape.state("auth_methods", methods=("a", "b"), partial=False)
    tape.state("note", level="debug1", text="x\n\x07", odd=Secret("s3cret"), far=float("inf"), path=Path("p"))
    _, first, second = as_jsonl(tape)
    assert first == {"time": 0.0, "type": "state", "name": "auth_methods",
                     "facts": {"methods": ["a", "b"], "partial": False}}  # fmt: skip
    assert second["facts"] == {
        "level": "debug1", "text": r"x\012\007", "odd": "<redacted>", "far": None, "path": "p",
    }  # fmt: skip


@pytest.mark.parametrize("line", ["", "[]", "nonsense", "[" * 100_000, '{"type":"state"}',
                                  '{"type":"header","format":"glasshell-records","schema":99}',
                                  '{"type":"header","format":"glasshell-records","schema":"x"}'])  # fmt: skip
def test_what_is_no_file_of_records_is_refused(line: str) -> None:
    with pytest.raises(ConfigError):
        list(read_jsonl([line]))


def test_qlog_header() -> None:
    header = as_qlog(client_connection())[0]
    # QlogFileSeq and TraceSeq of the main schema: these keys and no others of ours.
    assert header["file_schema"] == "urn:ietf:params:qlog:file:sequential"
    assert header["serialization_format"] == "application/qlog+json-seq"
    trace = header["trace"]
    assert trace["vantage_point"] == {"name": "glasshell_0.1", "type": "client"}
    assert trace["common_fields"] == {
        "time_format": "relative_to_epoch",
        "reference_time": {
            "clock_type": "monotonic", "epoch": "unknown", "wall_clock_time": "2026-11-22T11:00:00.500Z",
        },
    }  # fmt: skip
    private, _ = trace["event_schemas"]
    assert "/112026/ssh" in private
    assert not private.startswith("urn:ietf:params:qlog")


def test_qlog_file_is_known_by_its_first_256_bytes() -> None:
    out: list[str] = []
    client_connection().play(QlogView(out.append))
    assert "file_schema" in out[0][:256]
    assert "serialization_format" in out[0][:256]


def test_qlog_events() -> None:
    tape = client_connection()
    events = as_qlog(tape)[1:]
    assert len(events) == len(tape.records)
    for event in events:
        assert set(event) == {"time", "name", "data"}
        assert event["name"].split(":")[0] in ("ssh", "loglevel")
        assert event["name"] == event["name"].lower()
    packet = next(e for e in events if e["name"] == "ssh:packet_received")
    assert packet["data"]["packet_type"] == "SSH_MSG_KEXINIT"
    assert (
        packet["data"]["raw"]["length"]
        == next(
            r
            for r in tape.records
            if getattr(r, "number", 0) == 20 and not r.sent  # type: ignore[union-attr]
        ).wire_length
    )  # type: ignore[union-attr]
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)
    assert any(e["name"] == "ssh:algorithms_negotiated" for e in events)


def test_qlog_of_errors_and_notes() -> None:
    tape = Tape()
    tape.state("error", type="PeerError", text="broken", hint="", clause="RFC 4253 6")
    tape.state("note", level="info", text="hello")
    tape.state("sink_dropped", sink="X", error="ValueError()")
    tape.state("channel_open", channel=0, type="session")
    _, error, note, dropped, channel = as_qlog(tape)
    assert (error["name"], error["data"]["message"]) == ("loglevel:error", "broken")
    assert (note["name"], note["data"]["message"]) == ("loglevel:debug", "hello")
    assert (dropped["name"], dropped["data"]["message"]) == ("loglevel:warning", "X raised ValueError()")
    assert (channel["name"], channel["data"]["new"]) == ("ssh:channel_state_updated", "open")


@pytest.mark.parametrize("ending", ["jsonl", "sqlog"])
def test_trace_is_for_its_owner_only(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"trace.{ending}"
    path.write_text("old")
    path.chmod(0o644)
    tape, trace = client_connection(), open_trace(path)
    tape.play(trace)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = path.read_bytes().count(b"\n")
    assert lines == len(tape.records) + 1
    trace(tape.records[0])  # after the last record it hears nothing, and nothing breaks
    trace.close()
    assert path.read_bytes().count(b"\n") == lines


def test_trace_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    trace = open_trace(path)
    trace(client_connection().records[0])
    assert len(path.read_text().splitlines()) == 2
    trace.close()


def test_trace_of_another_ending(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.jsonl \(JSON lines\) or \.sqlog \(qlog\)"):
        open_trace(tmp_path / "trace.pcap")
    assert list(tmp_path.iterdir()) == []


def test_trace_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write the trace"):
        open_trace(tmp_path / "no" / "such.jsonl")


def test_reference_documents_every_state_and_its_facts() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "records.md").read_text(encoding="utf-8")
    rows = {
        cells[1].strip().strip("`"): (cells[2].strip(), cells[3].split("`")[1::2])
        for line in page.splitlines()
        if line.startswith("| `") and len(cells := line.split("|")) == 5
    }
    assert {name: (text, facts.split()) for name, (text, facts) in STATES.items()} == {
        name: row for name, row in rows.items() if name in STATES
    }
    assert set(STATES) <= set(rows)
