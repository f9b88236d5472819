"""The trace for Perfetto, held to the document "Trace Event Format" by a checker of its own."""

from __future__ import annotations

import io
import itertools
import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from glasshell.messages import connection as c
from glasshell.views.perfetto import Perfetto

from .connection import SECRETS, client_connection, server_connection
from .tape import Tape

REQUIRED = {
    "X": {"name", "cat", "ts", "dur", "pid", "tid"}, "i": {"name", "ts", "pid", "tid", "s"},
    "C": {"name", "ts", "pid", "args"}, "M": {"name", "pid", "args"},
    "s": {"name", "cat", "id", "ts", "pid", "tid"}, "f": {"name", "cat", "id", "ts", "pid", "tid", "bp"},
}  # fmt: skip
METADATA = {"process_name", "process_labels", "thread_name", "thread_sort_index"}


def written(tape: Tape, *, close: bool = True) -> str:
    out = io.StringIO()
    kept: list[str] = []
    out.close = lambda: kept.append(out.getvalue())  # type: ignore[method-assign]
    sink = Perfetto(out)
    tape.play(sink)
    if close:
        sink.close()
    return out.getvalue()


def events(tape: Tape) -> list[dict[str, Any]]:
    shown = json.loads(written(tape))
    assert shown["displayTimeUnit"] in ("ms", "ns")
    check(shown["traceEvents"])
    return list(shown["traceEvents"])


def check(found: list[dict[str, Any]]) -> None:
    """What the document asks of each kind of event, and of those that belong together."""
    for event in found:
        assert set(event) >= REQUIRED[event["ph"]], event
        assert event["ph"] != "M" or event["name"] in METADATA
        assert event.get("s", "t") in ("g", "p", "t")
        assert event["ph"] != "C" or all(isinstance(value, (int, float)) for value in event["args"].values())
        assert all(event.get(name, 0) >= 0 for name in ("ts", "dur"))
    slices = [event for event in found if event["ph"] == "X"]
    _nested(slices)
    for event in found:
        if event["ph"] in "sf":  # bound to the slice that it lies in
            assert any(
                each["tid"] == event["tid"] and each["ts"] <= event["ts"] <= each["ts"] + each["dur"]
                for each in slices
            )
    ends = Counter((event["ph"], event["id"]) for event in found if event["ph"] in "sf")
    assert all(ends["s", n] == ends["f", n] == 1 for _, n in ends)


def _nested(slices: list[dict[str, Any]]) -> None:
    """Slices of one thread lie beside or inside each other."""
    threads = defaultdict(list)
    for each in slices:
        threads[each["tid"]].append((each["ts"], each["ts"] + each["dur"]))
    for spans in threads.values():
        open_ends: list[float] = []
        for began, ended in sorted(spans, key=lambda span: (span[0], -span[1])):
            while open_ends and open_ends[-1] <= began + 0.002:
                open_ends.pop()
            assert not open_ends or ended <= open_ends[-1] + 0.002
            open_ends.append(ended)


@pytest.mark.parametrize("tape", [client_connection(), server_connection(), client_connection(data=3000)])
def test_it_is_what_the_document_says(tape: Tape) -> None:
    events(tape)


def test_the_checker_can_fail() -> None:
    slice_ = {"ph": "X", "name": "a", "cat": "c", "ts": 0.0, "dur": 10.0, "pid": 1, "tid": 1}
    with pytest.raises(AssertionError):
        check([slice_, {**slice_, "ts": 5.0}])
    with pytest.raises(AssertionError):
        check([{"ph": "s", "name": "a", "cat": "c", "id": 1, "ts": 0.0, "pid": 1, "tid": 1}])
    with pytest.raises(AssertionError):
        check([{"ph": "X", "name": "a", "ts": 0.0, "pid": 1, "tid": 1}])


def test_each_message_is_a_slice_in_the_thread_of_its_layer_or_channel() -> None:
    found = events(client_connection(data=0))
    threads = {e["tid"]: e["args"]["name"] for e in found if e["ph"] == "M" and e["name"] == "thread_name"}
    where = {e["name"]: threads[e["tid"]] for e in found if e["ph"] == "X" and e["cat"] == "message"}
    assert where["→ KEXINIT"] == "kex"
    assert where["← USERAUTH_SUCCESS"] == "auth"
    assert where["→ CHANNEL_OPEN"] == "connection"
    assert where["→ CHANNEL_DATA"] == "channel 0"
    (reply,) = [e for e in found if e["name"] == "← KEX_HYBRID_REPLY"]
    assert reply["dur"] == pytest.approx(1000.0)  # the tape has a millisecond before each message
    assert reply["args"]["spent"] == "waiting for the peer"


def test_phases_cover_the_connection_once() -> None:
    found = events(client_connection())
    phases = [e for e in found if e["ph"] == "X" and e["cat"] == "phase"]
    assert [e["name"][0] for e in phases] == list("0123456")
    for one, two in itertools.pairwise(phases):
        assert one["ts"] + one["dur"] == pytest.approx(two["ts"], abs=0.01)


def test_windows_go_down_with_data() -> None:
    tape = Tape()
    opened = {"channel": 0, "peer": 7, "type": "session", "window": 100, "peer_window": 50}
    tape.sent(c.ChannelOpen("session", 0, 100, 32768, c.SessionOpen()))
    tape.received(c.ChannelOpenConfirmation(0, 7, 50, 32768))
    tape.state("channel_open", **opened)
    tape.sent(c.ChannelData(7, bytes(20)), c.ChannelWindowAdjust(7, 5))
    tape.received(c.ChannelData(0, bytes(30)))
    found = [e["args"] for e in events(tape) if e["ph"] == "C"]
    assert [(each["ours"], each["peer's"]) for each in found] == [(100, 30), (105, 30), (75, 30)]


def test_arrows_are_the_round_trips() -> None:
    found = events(client_connection(data=0))
    arrows = {e["id"] for e in found if e["ph"] == "s"}
    assert arrows == set(range(2, 12))  # the first is TCP's: its SYN is no record


def test_nothing_secret_is_in_it() -> None:
    text = written(client_connection())
    assert not any(secret.decode() in text for secret in SECRETS)


def test_a_file_that_was_not_closed_lacks_only_its_last_bracket() -> None:
    text = written(client_connection(), close=False)
    assert len(json.loads(text + "]}")["traceEvents"]) > 50
