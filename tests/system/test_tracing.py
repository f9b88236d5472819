"""Which parts of a bpftrace script a kernel gets, what is said of the rest, and what becomes of its lines."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.system.following import Traced
from glasshell.system.tracing import Line, compose, connections_script, everything, parts

SCRIPT = connections_script()
NEEDS = {name: fields for part in parts(SCRIPT) for name, fields in part.needs}


def described(*fields: str) -> str:
    """A format file as tracefs has it."""
    head = "name: x\nID: 1\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n"
    lines = [f"\tfield:__u8 {name}[16];\toffset:8;\tsize:16;\tsigned:0;\n" for name in fields]
    return head + "".join(lines) + '\nprint fmt: "%d", REC->x\n'


def full() -> dict[str, str]:
    return {name: described(*fields) for name, fields in NEEDS.items()}


def test_a_kernel_that_has_everything() -> None:
    script = compose(SCRIPT, [2222, 22], full(), leave=["writes"])
    assert script.parts == ("states", "processes", "bytes", "retransmits", "rtt")
    assert script.missing == ()
    assert "@port[22] = 1; @port[2222] = 1;" in script.text
    assert "PORTS" not in script.text
    assert script.text.count("{") == script.text.count("}")


@pytest.mark.parametrize(
    ("tracepoint", "lost"),
    [("sock:sock_recv_length", "bytes"), ("tcp:tcp_probe", "rtt"), ("tcp:tcp_retransmit_skb", "retransmits")],
)
def test_a_tracepoint_that_is_not_there(tracepoint: str, lost: str) -> None:
    script = compose(SCRIPT, [22], {**full(), tracepoint: ""}, leave=["writes"])
    assert lost not in script.parts
    assert script.missing == (f"no {lost} from eBPF: this kernel has no tracepoint {tracepoint}",)
    assert tracepoint not in script.text


def test_a_field_that_is_not_there() -> None:
    script = compose(SCRIPT, [22], {**full(), "tcp:tcp_probe": described("srtt", "snd_cwnd")})
    assert script.missing == ("no rtt from eBPF: its tracepoint tcp:tcp_probe has no field skaddr",)


def test_no_kprobe_is_needed() -> None:
    probes = re.findall(r"^(\w+):", everything(SCRIPT, [22]), re.MULTILINE)
    assert set(probes) == {"tracepoint"}


def traced(*names: str) -> Traced:
    tracing: Any = SimpleNamespace(script=SimpleNamespace(parts=names), lost=0, read=lambda seconds: [])
    return Traced(tracing, lambda text: None)


def told(follower: Traced, *lines: str) -> list[tuple[str, dict[str, Any]]]:
    made = []
    for line in lines:
        word, _, rest = line.partition(" ")
        made += [(event.kind, event.facts) for event in follower.hear(Line(word, rest))]
    return made


def test_a_clients_connection() -> None:
    opened, again, closed = told(
        traced("states", "bytes", "retransmits", "rtt"),
        "connect 1000000000 ff 192.0.2.1 0 192.0.2.7 22 4000000 0 my ssh",
        "established 1020500000 ff 192.0.2.1 40000 192.0.2.7 22",
        "retransmit 1500000000 ff 1",
        "closed 3000000000 ff 500 700 1 21500 10 5",
    )
    ends = {"local": {"address": "192.0.2.1", "port": 40000}, "peer": {"address": "192.0.2.7", "port": 22}}
    who = {"direction": "out", "program": "my ssh", "pid": 4000000, "user": "0"}
    assert opened == ("open", {**who, **ends, "connect_ms": 20.5})
    assert again == ("retransmit", {**who, **ends, "retransmits": 1})
    assert closed == ("closed", {
        **who, **ends, "sent": 500, "received": 700, "retransmits": 1, "rtt_ms": 21.5, "cwnd": 10,
        "seconds": 2.0,
    })  # fmt: skip


def test_a_connection_that_came_in_is_told_when_its_process_speaks() -> None:
    follower = traced("states", "bytes")
    assert told(follower, "accepted 1 aa ::ffff:192.0.2.7 22 ::ffff:192.0.2.1 40000") == []
    ((kind, facts),) = told(follower, "speaks 2 aa 4000000 0 sshd")
    assert (kind, facts["direction"], facts["program"]) == ("open", "in", "sshd")
    assert facts["local"] == {"address": "192.0.2.7", "port": 22}
    assert told(follower, "speaks 3 aa 4000001 0 sshd") == []
    ((kind, facts),) = told(follower, "closed 5 aa 1 2 3 4 5 1")
    assert kind == "closed"
    assert "retransmits" not in facts  # that part was left out


def test_a_connection_that_failed() -> None:
    ((kind, facts),) = told(
        traced("states"), "connect 1 ff 192.0.2.1 0 192.0.2.7 22 4000000 0 ssh", "closed 9 ff 0 0 0 0 0 2"
    )
    assert (kind, facts["peer"]["port"]) == ("failed", 22)


WORDS = ["begin", "connect", "established", "accepted", "speaks", "retransmit", "closed", "port", "sent",
         "received", "gone", ""]  # fmt: skip


FIGURES = ["1", "-1", "ff", "aa", "192.0.2.1", "::1", "22", "ssh", "x", "99999999999999999999"]
RESTS = st.text() | st.lists(st.sampled_from(FIGURES)).map(" ".join)


@given(st.lists(st.tuples(st.sampled_from(WORDS), RESTS)))
def test_lines_that_are_cut_or_not_ours(lines: list[tuple[str, str]]) -> None:
    follower = traced("states", "bytes", "retransmits", "rtt")
    for word, rest in lines:
        for event in follower.hear(Line(word, rest)):
            assert event.kind in ("open", "failed", "sent", "received", "retransmit", "closed")
