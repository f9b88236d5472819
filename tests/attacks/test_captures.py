"""Captures that somebody else made: what they can make their reader spend (docs/attacks.md, part C)."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Iterable

import pytest

from glasshell.capture import reader, streams, syscalls
from glasshell.capture.kex import Kex
from glasshell.capture.keylog import Logged
from glasshell.capture.reader import Reading, read_source
from glasshell.capture.source import PacketSource
from glasshell.capture.strace import StraceSource
from glasshell.capture.syscalls import Exit, Syscalls
from glasshell.crypto import readonly
from glasshell.crypto.groups import Group
from glasshell.crypto.registry import Kind
from glasshell.observe.record import StateRecord
from glasshell.observe.seen import Seen
from glasshell.views import connections
from glasshell.wire import Secret
from tests.capture.files import ethernet, ipv4, pcap, tcp

SECONDS = 2.0
"""Of processor time: ten times what is needed, and a tenth of what these files took once."""

SOCKET = "1 1.0 socket(AF_INET, SOCK_STREAM, 0) = 3\n"


def spent(text: str) -> tuple[float, StraceSource]:
    source = StraceSource(io.BytesIO(text.encode()))
    begun = time.process_time()
    assert not list(source)
    return time.process_time() - begun, source


@pytest.mark.parametrize("line", [
    '1 1.0 read(3, "' + ") = 1<>" * 2800 + '"',
    '1 1.0 read(3, "' + ") = 1<" + ">" * 19_000 + '"',
    '1 1.0 read(3, "' + ") = 1 " * 3300 + '"',
    "1 1.0 connect(3, " + "sa_family=AF_INET, sin_port=htons(1), " * 20_000 + ") = 0",
    "1 1.0 connect(3, " + 'sa_family=AF_INET, sin_port=htons(1), "' + "\\a" * 400_000 + ") = 0",
    "1 1.0 pipe(" + "[1<" * 50_000 + ") = 0",
    "1 1.0 pipe(" + "[1<>" * 20_000 + ") = 0",
    '1 1.0 read(3, "' + '\\"' * 20_000 + ", 5) = 5",
    '1 1.0 readv(3, [{iov_base="' + "\\" * 100_000 + ", iov_len=5}], 1) = 5",
    "\n".join(["1 " + "--- SIGCHLD {" * 4900] * 40),
])  # fmt: skip
def test_c1_a_line_costs_no_more_than_it_is_long(line: str) -> None:
    seconds, _ = spent(SOCKET + line + "\n")
    assert seconds < SECONDS


def test_c1_what_a_result_is_takes_no_string_for_one() -> None:
    def only(line: str) -> syscalls.Syscall:
        (call,) = Syscalls(io.BytesIO(line.encode()))
        assert not isinstance(call, Exit)
        return call

    assert only('7 read(3, ") = 5 <0.1>", 8) = 9').result == 9
    named = only('7 1.0 openat(AT_FDCWD, "x", 0) = 3</tmp/a) = 5> <0.250000>')
    assert (named.result, named.label, named.duration) == (3, b"/tmp/a) = 5", 0.25)
    assert only("7 close(3</a>) = -1 EBADF (Bad file descriptor) <0.000005>").error == "EBADF"


def test_c1_sockets_that_never_say_what_they_are() -> None:
    lines = [f"1 1.0 socket(AF_INET, SOCK_STREAM, 0) = {fd}\n" for fd in range(3, 900)]
    lines += [f'1 1.0 read({fd}, "{"a" * 16_000}", 9) = 9\n' for fd in range(3, 900) for _ in range(3)]
    _, source = spent("".join(lines))
    assert "sockets too many at once that show not what they speak" in source.problems
    assert source._kept <= 16 << 20


def test_c1_reads_that_show_nothing() -> None:
    _, source = spent(SOCKET + '1 1.0 read(3, "", 5) = 5\n' * 5000)
    assert not source._undecided


def test_c1_calls_that_never_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "MAX_BEGUN", 100_000)
    calls = Syscalls(io.BytesIO(b"".join(
        b'%d 1.0 write(3, "%b" <unfinished ...>\n' % (pid, b"a" * 1000) for pid in range(1, 1000)
    )))  # fmt: skip
    assert not list(calls)
    assert sum(len(each.arguments) for each in calls._begun.values()) <= 100_000
    assert "a call under way forgotten, too many at once" in calls.problems


# ---- packets


def reading(packets: Iterable[bytes]) -> Reading:
    return read_source(PacketSource(io.BytesIO(pcap(map(ethernet, packets)))))


def from_many(payload: bytes, flags: int, count: int, seq: int = 0) -> list[bytes]:
    """One segment from each of `count` clients."""
    return [ipv4(tcp(payload, seq=seq, flags=flags), source=f"10.0.{n >> 8}.{n & 255}") for n in range(count)]


def test_c2_a_port_scan_is_forgotten_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_STREAMS", 80)
    read = reading([*from_many(b"", 2, 500), *from_many(b"S", 0x18, 500, 1)])
    assert not list(read)
    assert "stream forgotten, too many at once" in "".join(read.troubles.lines)
    assert len(read._watched) <= 80
    assert not read._silent


def test_c2_a_stream_that_says_nothing_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "Passive", None)
    assert not list(reading(from_many(b"", 2, 100)))


def test_c2_packets_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_KEPT", 1 << 20)
    begun = b"SSH-2.0-x\r\n" + struct.pack(">IB", 262_136, 10) + b"\x14" + bytes(50_000)
    read = reading([*from_many(b"", 2, 100), *from_many(begun, 0x18, 100, 1)])
    most = 0
    for _ in read:
        most = max(most, sum(passive.kept for passive in read._watched.values()))
    assert most <= 1 << 20
    assert any("too much of other connections waits as well" in line for line in read.troubles.lines)


def test_c2_lines_before_an_identification_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_KEPT", 1 << 20)
    read = reading([
        *from_many(b"", 2, 100), *from_many(b"SSH-2.0-x\r\n", 0x18, 100, 1),
        *(ipv4(tcp(b"line\n" * 9000, seq=1, ports=(22, 50000)), source="192.0.2.2",
               destination=f"10.0.0.{n}") for n in range(100)),
    ])  # fmt: skip
    for _ in read:
        assert sum(passive.kept for passive in read._watched.values()) <= 1 << 20


def seconds_for(packets: list[bytes]) -> float:
    read = reading(packets)
    begun = time.process_time()
    for _ in read:
        pass
    return time.process_time() - begun


def test_c3_fragments_whose_last_one_is_missing() -> None:
    pieces = [ipv4(bytes(8), offset=8 * n, more=True) for n in range(6000)]
    assert seconds_for([ipv4(bytes(8), offset=65_520), *pieces]) < SECONDS


def test_c3_labels_without_end() -> None:
    source = PacketSource(io.BytesIO(pcap([ethernet(bytes(4 * 65_000), 0x8847)] * 20)))
    begun = time.process_time()
    assert not list(source)
    assert time.process_time() - begun < SECONDS
    assert "MPLS labels none of which is the last" in source.problems


def test_c3_a_stream_in_thousands_of_pieces() -> None:
    first = [ipv4(tcp(flags=2, seq=0)), ipv4(tcp(b"SSH-2.0-x\r\n", seq=1)), ipv4(tcp(b"z", seq=1 << 30))]
    pieces = [ipv4(tcp(b"a", seq=100 + 2 * n)) for n in range(20_000)]
    source = PacketSource(io.BytesIO(pcap(map(ethernet, [*first, *pieces]))))
    begun = time.process_time()
    assert sum(1 for _ in source) > 10_000
    assert time.process_time() - begun < SECONDS


def test_c3_a_group_that_takes_seconds() -> None:
    """With a key log in the capture, each secret of it would be raised to its power."""
    kex = Kex(first=True)
    kex.row = readonly.find(Kind.KEX, "diffie-hellman-group-exchange-sha256")
    kex._group = Group(2**16_383 + 2**8_000 + 1, 2)
    kex._public = {"client": b"\2", "server": b"\2"}
    begun = time.process_time()
    assert kex._k(Logged("PRIVATE_KEY", Secret(b"\xff" * 1024), "log")) is None
    kex._group = Group(2**2047 + 2**800 + 1, 2)
    assert kex._k(Logged("PRIVATE_KEY", Secret(b"\xff" * 2048), "log")) is None
    assert time.process_time() - begun < 0.2


def test_c2_more_connections_at_a_time_than_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_OPEN", 20)
    out = io.StringIO()
    view = connections.Connections(out, 100)
    for name in ("started", "closed"):
        for stream in range(50):
            view(Seen(StateRecord(0.0, name, {"sent_bytes": 0, "received_bytes": 0}), stream, None))
            assert len(view._open) <= 20
    view.close()
    assert view.drawn == 50, "each of them once"
    assert out.getvalue().count("too many connections at a time") == 30
    assert not view._early
