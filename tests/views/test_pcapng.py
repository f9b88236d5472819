"""Captures as an independent reader (dpkt) finds them: the bytes, the headers, the blocks; and key logs."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.errors import ConfigError
from glasshell.observe.hub import Hub
from glasshell.observe.record import Heard, KeyRecord, MessageRecord, StateRecord, WireRecord
from glasshell.policy import Policy
from glasshell.testing.pair import Pair
from glasshell.views.keylog import KeyLog
from glasshell.views.pcapng import Pcapng
from glasshell.views.segments import MAX_UNANSWERED
from glasshell.wire import Secret

WALL = 1_795_000_000.25
CLIENT, SERVER = ("203.0.113.5", 50_000), ("198.51.100.7", 2222)
COOKIE = bytes(range(16))


@dataclass
class Segment:
    """One packet as dpkt has it; `client` says whether CLIENT sent it."""

    time: float
    client: bool
    seq: int
    ack: int
    flags: int
    data: bytes
    ip: Any


def segments(path: Path) -> list[Segment]:
    with path.open("rb") as file:
        return [_segment(time, data) for time, data in dpkt.pcapng.Reader(file)]


def _segment(time: float, data: bytes) -> Segment:
    ethernet = dpkt.ethernet.Ethernet(data)
    tcp = ethernet.data.data
    assert isinstance(tcp, dpkt.tcp.TCP)
    client = ethernet.src == bytes((2, 0, 0, 0, 0, 1))
    return Segment(float(time), client, tcp.seq, tcp.ack, tcp.flags, bytes(tcp.data), ethernet.data)


def reassembled(found: Sequence[Segment], client: bool) -> bytes:
    """What one side sent, each byte where its sequence number says, which begin at 0 with the SYN."""
    stream = b""
    for segment in found:
        if segment.client is client and segment.data:
            assert segment.seq == len(stream) + 1, "no gap, no overlap"
            stream += segment.data
    return stream


def blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Type and body of each block; the lengths before and behind it are checked."""
    data = path.read_bytes()
    while data:
        kind, size = struct.unpack_from("<II", data)
        assert size % 4 == 0
        assert struct.unpack_from("<I", data, size - 4) == (size,)
        yield kind, data[8 : size - 4]
        data = data[size:]


def told(path: Path, records: Sequence[Heard], role: str = "client", **settings: Any) -> list[Segment]:
    """The packets of a file that is told `records` between a connection's beginning and its end."""
    sink = Pcapng(path, **settings)
    for record in [*opening(role), *records, StateRecord(9.0, "closed", {})]:
        sink(record)  # type: ignore[arg-type]
    return segments(path)


Place = tuple[str, int]


def opening(role: str, client: Place = CLIENT, server: Place = SERVER) -> list[StateRecord]:
    ours, peer = (client, server) if role == "client" else (server, client)
    place = {"address": peer[0], "port": peer[1], "local_address": ours[0], "local_port": ours[1]}
    started = StateRecord(0.0, "started", {"role": role, "wall_time": WALL})
    if role == "server":
        return [started, StateRecord(0.5, "accepted", place)]
    return [started, StateRecord(0.25, "connecting", {}), StateRecord(0.5, "connected", place)]


reads = st.builds(
    lambda sent, size, fill, packets, partial: WireRecord(
        1.0, sent, bytes((fill,)) * size, tuple(packets), partial
    ),
    st.booleans(), st.integers(1, 3000) | st.sampled_from([65_435, 65_436, 130_871]), st.integers(0, 255),
    st.lists(st.integers(1, 70_000), max_size=6), st.just(0) | st.integers(0, 40_000),
)  # fmt: skip


@given(st.lists(reads, max_size=6), st.sampled_from(["client", "server"]))
def test_whatever_is_told_comes_out_whole(
    tmp_path_factory: pytest.TempPathFactory, records: list[WireRecord], role: str
) -> None:
    path = tmp_path_factory.mktemp("pcap") / "x.pcapng"
    found = told(path, records, role)
    for client in (True, False):
        sent = b"".join(r.data for r in records if r.sent is (client is (role == "client")))
        assert reassembled(found, client) == sent
    check_tcp(found)


def check_tcp(found: Sequence[Segment]) -> None:
    """Three segments to begin with, acknowledgements of exactly what was sent, right checksums."""
    flags = dpkt.tcp
    assert [(s.client, s.flags) for s in found[:3]] == [
        (True, flags.TH_SYN), (False, flags.TH_SYN | flags.TH_ACK), (True, flags.TH_ACK)
    ]  # fmt: skip
    place = {True: 0, False: 0}
    for segment in found:
        assert segment.seq == place[segment.client]
        if segment.flags & flags.TH_ACK:
            assert segment.ack == place[not segment.client]
        both_ends = bool(segment.flags & flags.TH_SYN) + bool(segment.flags & flags.TH_FIN)
        place[segment.client] += len(segment.data) + both_ends
        assert len(segment.data) <= 65_495 - 40 - (20 if isinstance(segment.ip, dpkt.ip6.IP6) else 0)
        if len(segment.data) < 4000:  # dpkt computes slowly
            check_sums(segment.ip)


def check_sums(ip: Any) -> None:
    """dpkt computes what is 0."""
    raw = bytes(ip)
    ip.data.sum = 0
    if isinstance(ip, dpkt.ip.IP):
        ip.sum = 0
    assert bytes(ip) == raw


@pytest.mark.parametrize("size", [0, 1, 2, 3, 60_000])
def test_odd_and_even_lengths_have_right_sums(tmp_path: Path, size: int) -> None:
    data = b"\xff" * size + b"x"
    for segment in told(tmp_path / "x.pcapng", [WireRecord(1.0, True, data)]):
        check_sums(segment.ip)


@pytest.mark.parametrize(
    ("role", "client", "server", "expected"),
    [
        ("client", CLIENT, SERVER, (*CLIENT, *SERVER)),
        ("server", CLIENT, SERVER, (*CLIENT, *SERVER)),
        ("client", ("2001:db8::5%eth0", 4), ("2001:db8::7", 22), ("2001:db8::5", 4, "2001:db8::7", 22)),
        ("server", ("::ffff:203.0.113.5", 4), ("::ffff:10.0.0.1", 22), ("203.0.113.5", 4, "10.0.0.1", 22)),
        ("server", ("UNKNOWN", 65535), ("UNKNOWN", 65535), ("192.0.2.1", 49152, "192.0.2.2", 22)),
        ("client", ("", 0), ("2001:db8::7", 2222), ("2001:db8::1", 49152, "2001:db8::7", 2222)),
    ],
)
def test_addresses(
    role: str, client: tuple[str, int], server: tuple[str, int], expected: tuple[object, ...], tmp_path: Path
) -> None:
    path = tmp_path / "x.pcapng"
    sink = Pcapng(path)
    for record in [*opening(role, client, server), WireRecord(1.0, True, b"hello")]:
        sink(record)
    data = segments(path)[-1]
    text = dpkt.utils.inet_to_str
    ends = [(text(data.ip.src), data.ip.data.sport), (text(data.ip.dst), data.ip.data.dport)]
    assert (*ends[not data.client], *ends[data.client]) == expected
    check_sums(data.ip)
    sink.close()


def test_a_socket_that_somebody_else_connected(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    sink = Pcapng(path)
    sink(StateRecord(0.0, "started", {"role": "client", "wall_time": WALL}))
    sink(WireRecord(1.0, True, b"hello"))
    found = segments(path)
    check_tcp(found)
    assert dpkt.utils.inet_to_str(found[-1].ip.src) == "192.0.2.1"
    sink.close()


def test_times_are_those_of_the_records(tmp_path: Path) -> None:
    records = [WireRecord(1.000000125, True, b"a"), WireRecord(2.5, False, b"b")]
    found = told(tmp_path / "x.pcapng", records)
    assert [s.time - WALL for s in found] == pytest.approx([0.25, 0.5, 0.5, 1.0, 2.5, 9.0], abs=1e-6)
    kind, body = list(blocks(tmp_path / "x.pcapng"))[5]
    assert kind == 6
    high, low = struct.unpack_from("<II", body, 4)
    assert (high << 32 | low) - round(WALL * 1e6) * 1000 == 1_000_000_125, "nanoseconds are kept"


@pytest.mark.parametrize(
    ("end", "flags"),
    [
        ([StateRecord(8.0, "eof", {})], [(False, "FA"), (True, "FA")]),
        ([StateRecord(8.0, "eof", {"error": "Connection reset by peer"})], [(False, "RA")]),
        ([], [(True, "FA")]),
    ],
)
def test_how_it_ends(end: list[StateRecord], flags: list[tuple[bool, str]], tmp_path: Path) -> None:
    names = {dpkt.tcp.TH_FIN: "F", dpkt.tcp.TH_RST: "R", dpkt.tcp.TH_ACK: "A"}
    found = told(tmp_path / "x.pcapng", [WireRecord(1.0, True, b"x"), *end])
    shown = [(s.client, "".join(name for bit, name in names.items() if s.flags & bit)) for s in found[4:]]
    assert shown == flags


def test_half_a_packet_waits_for_its_rest_and_is_there_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    records = [
        WireRecord(1.0, False, b"a" * 100 + b"b" * 30, (100,), 30), WireRecord(2.0, False, b"b" * 70, (100,)),
        WireRecord(3.0, False, b"c" * 10, (), 10),
    ]  # fmt: skip
    found = told(path, records)
    carried = [(round(s.time - WALL), s.data) for s in found if s.data]
    assert carried == [(1, b"a" * 100), (2, b"b" * 100), (9, b"c" * 10)]


def test_segments_end_where_packets_do(tmp_path: Path) -> None:
    packets = (32_020,) * 7
    found = told(tmp_path / "x.pcapng", [WireRecord(1.0, True, bytes(sum(packets)), packets)])
    assert [len(s.data) for s in found if s.data] == [64_040, 64_040, 64_040, 32_020]


def test_a_packet_that_was_held_up_shifts_nothing(tmp_path: Path) -> None:
    """Its bytes are in the file before it is known as a packet: a question was open."""
    packets = (50, 40_000, 30_000)
    records = [WireRecord(1.0, False, bytes(150), (100,)), WireRecord(2.0, False, bytes(70_000), packets)]
    found = told(tmp_path / "x.pcapng", records)
    assert [len(s.data) for s in found if s.data] == [150, 40_000, 30_000]


def test_much_in_one_direction_is_acknowledged(tmp_path: Path) -> None:
    records = [WireRecord(1.0, True, bytes(250_000))] * 40
    found = told(tmp_path / "x.pcapng", records)
    answered = [s.ack for s in found if not s.client and not s.data]
    steps = [later - earlier for earlier, later in pairwise([*answered, 10_000_001])]
    assert max(steps) < MAX_UNANSWERED + 70_000


def test_every_block_is_there_at_once(tmp_path: Path) -> None:
    """A program that is killed leaves a readable file."""
    path = tmp_path / "x.pcapng"
    sink = Pcapng(path)
    records = [*opening("client"), WireRecord(1.0, True, b"x"), WireRecord(2.0, False, b"y")]
    for count, record in enumerate(records):
        sink(record)
        assert len([kind for kind, _ in blocks(path) if kind == 6]) == [0, 0, 3, 4, 5][count]
    sink.close()


# -- secrets


def test_keys_stand_before_what_they_protect(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    records: list[Heard] = [
        WireRecord(1.0, True, b"in clear"),
        KeyRecord(1.1, COOKIE, "PRIVATE_KEY", Secret(b"\x01\x02")),
        KeyRecord(1.1, COOKIE, "SHARED_SECRET", Secret(b"\xfe\xff")),
        WireRecord(1.2, True, b"encrypted"),
    ]
    told(path, records, secrets=True)
    kinds = [kind for kind, _ in blocks(path)]
    assert kinds == [0x0A0D0D0A, 1, 6, 6, 6, 6, 0x0A, 6, 6]
    (body,) = [body for kind, body in blocks(path) if kind == 0x0A]
    kind, size = struct.unpack_from("<II", body)
    assert kind == 0x5353484B
    lines = f"{COOKIE.hex()} 0102\n{COOKIE.hex()} SHARED_SECRET feff\n"
    assert body[8 : 8 + size].decode() == lines


def test_without_secrets_it_hears_none(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    sink, whole, keys = Pcapng(path), [], []

    class Thief:
        hears = frozenset({"keys"})

        def __call__(self, record: Heard) -> None:
            assert isinstance(record, KeyRecord)
            keys.append(record.secret.reveal())

    pair = Pair(Policy.client(kex=("curve25519-sha256",)), hubs={"client": Hub(sink, Thief(), whole.append)})
    pair.run()
    pair.client.close(pair.now)
    pair.run()
    assert len(keys) == 2
    for secret in keys:
        assert secret not in path.read_bytes()
        assert secret.hex() not in path.read_text("latin-1")
    assert sum(isinstance(r, MessageRecord) for r in whole) > 10


def test_the_key_log(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# mine\n")
    path.chmod(0o644)
    sinks = [KeyLog(path), KeyLog(path)]
    for sink in sinks:
        sink(KeyRecord(0.0, COOKIE, "PRIVATE_KEY", Secret(b"\x00\x02")))
        sink(KeyRecord(0.0, COOKIE, "SHARED_SECRET", Secret(b"\x80")))
        sink.close()
        sink(KeyRecord(0.0, COOKIE, "SHARED_SECRET", Secret(b"\x81")))
    one = f"{COOKIE.hex()} 0002\n{COOKIE.hex()} SHARED_SECRET 80\n"
    assert path.read_text() == f"# mine\n{one}{one}"
    assert path.stat().st_mode & 0o777 == 0o600


# -- files


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_text("old")
    path.chmod(0o644)
    told(path, [])
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", [Pcapng, KeyLog])
def test_what_cannot_be_written(kind: type[Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write the (capture|key log) .*/no/such: No such file"):
        kind(tmp_path / "no/such")


def test_a_full_disk_leaves_whole_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pcapng"
    sink = Pcapng(path)
    hub = Hub(sink, (heard := []).append)  # type: ignore[var-annotated]
    hub.state("started", role="client", wall_time=WALL)
    real, room = os.write, [1000]

    def full(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        took = real(descriptor, data[: room[0]])
        room[0] -= took
        return took

    monkeypatch.setattr(os, "write", full)
    for _ in range(3):
        hub.flush(1.0, b"z" * 400)
    monkeypatch.undo()
    check_tcp(segments(path))
    (lost,) = [r for r in heard if isinstance(r, StateRecord) and r.name == "sink_dropped"]
    assert lost.facts["sink"] == "Pcapng"
