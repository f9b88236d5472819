"""Every way in which a TCP segment may be wrapped; the same bytes are put before tshark below."""

from __future__ import annotations

import io
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.capture import layers
from glasshell.capture.containers import Secrets
from glasshell.capture.frames import Frames
from glasshell.capture.streams import Streams
from glasshell.observe.seen import Frame
from tests.interop.peers import require_peer

from . import files
from .files import ethernet, ipv4, ipv6, tcp, udp

HELLO = b"SSH-2.0-hello\r\n"
PLAIN = ipv4(tcp(HELLO))
PLAIN6 = ipv6(tcp(HELLO))


def vlan(payload: bytes, kind: int = 0x0800) -> bytes:
    return struct.pack(">HH", 5, kind) + payload


def gre(payload: bytes, kind: int = 0x0800, flags: int = 0, more: bytes = b"") -> bytes:
    return struct.pack(">HH", flags, kind) + more + payload


def vxlan(payload: bytes) -> bytes:
    return bytes.fromhex("0800000000002a00") + payload


def geneve(payload: bytes, kind: int = 0x6558, options: bytes = b"") -> bytes:
    return struct.pack(">BBHI", len(options) // 4, 0, kind, 0x2A00) + options + payload


def mpls(payload: bytes) -> bytes:
    return bytes.fromhex("0001004000020140") + payload


HOP_BY_HOP = b"\x06\x00\x01\x04\0\0\0\0"
ROUTING = b"\x06\x02\x00\x00\0\0\0\0" + bytes(16)
CHAINED = b"\x3c\x00\x01\x04\0\0\0\0" + b"\x06\x00\x01\x04\0\0\0\0"

WRAPPED: dict[str, tuple[int, bytes]] = {
    "ethernet": (1, ethernet(PLAIN)),
    "padded": (1, ethernet(ipv4(tcp(b""))) + bytes(6) + b"\xde\xad\xbe\xef"),
    "options": (1, ethernet(ipv4(tcp(HELLO), options=b"\x94\x04\0\0"))),
    "no length (TSO)": (1, ethernet(ipv4(tcp(HELLO), length=0))),
    "ipv6": (1, ethernet(PLAIN6, 0x86DD)),
    "ipv6 mapped": (1, ethernet(ipv6(tcp(HELLO), source="::ffff:192.0.2.9"), 0x86DD)),
    "hop by hop": (1, ethernet(ipv6(HOP_BY_HOP + tcp(HELLO), 0), 0x86DD)),
    "routing": (1, ethernet(ipv6(ROUTING + tcp(HELLO), 43), 0x86DD)),
    "two extensions": (1, ethernet(ipv6(CHAINED + tcp(HELLO), 0), 0x86DD)),
    "atomic fragment": (1, ethernet(ipv6(b"\x06\0\0\0\0\0\0\x09" + tcp(HELLO), 44), 0x86DD)),
    "vlan": (1, ethernet(vlan(PLAIN), 0x8100)),
    "qinq": (1, ethernet(vlan(vlan(PLAIN), 0x8100), 0x88A8)),
    "three tags": (1, ethernet(vlan(vlan(vlan(PLAIN6, 0x86DD), 0x8100), 0x8100), 0x88A8)),
    "mpls": (1, ethernet(mpls(PLAIN), 0x8847)),
    "snap": (1, ethernet(bytes.fromhex("aaaa030000000800") + PLAIN, 8 + len(PLAIN))),
    "pppoe": (1, ethernet(bytes.fromhex("11000001") + struct.pack(">H", len(PLAIN) + 2) + b"\0\x21" + PLAIN,
                          0x8864)),
    "cooked": (113, bytes.fromhex("00000001000602000000000100000800") + PLAIN),
    "cooked ipv6": (113, bytes.fromhex("000000010006020000000001000086dd") + PLAIN6),
    "cooked v2": (276, bytes.fromhex("0800000000000001000100060200000000010000") + PLAIN),
    "raw": (101, PLAIN),
    "raw ipv6": (101, PLAIN6),
    "ipv4 only": (228, PLAIN),
    "ipv6 only": (229, PLAIN6),
    "null": (0, b"\x02\0\0\0" + PLAIN),
    "null big endian": (0, b"\0\0\0\x1e" + PLAIN6),
    "loop": (108, b"\0\0\0\x02" + PLAIN),
    "ppp": (9, b"\xff\x03\0\x21" + PLAIN),
    "ip in ip": (1, ethernet(ipv4(PLAIN, 4, source="198.51.100.1"))),
    "ipv6 in ipv4": (1, ethernet(ipv4(PLAIN6, 41))),
    "ipv4 in ipv6": (1, ethernet(ipv6(PLAIN, 4), 0x86DD)),
    "gre": (1, ethernet(ipv4(gre(PLAIN), 47))),
    "gre, key and sequence": (1, ethernet(ipv4(gre(PLAIN, flags=0x3000, more=bytes(8)), 47))),
    "gre, ethernet": (1, ethernet(ipv4(gre(ethernet(PLAIN), 0x6558), 47))),
    "pptp": (1, ethernet(ipv4(gre(b"\xff\x03\0\x21" + PLAIN, 0x880B, 0x3081, struct.pack(
        ">HHII", len(PLAIN) + 4, 9, 1, 1)), 47))),
    "vxlan": (1, ethernet(ipv4(udp(vxlan(ethernet(PLAIN)), 4789), 17))),
    "vxlan over ipv6": (1, ethernet(ipv6(udp(vxlan(ethernet(PLAIN6, 0x86DD)), 4789), 17), 0x86DD)),
    "geneve": (1, ethernet(ipv4(udp(geneve(ethernet(PLAIN), options=bytes.fromhex("0102800100000001")), 6081),
                                17))),
    "geneve, ipv4": (1, ethernet(ipv4(udp(geneve(PLAIN, 0x0800), 6081), 17))),
}  # fmt: skip


def read(data: bytes) -> tuple[list[Frame], dict[str, int]]:
    frames = Frames(io.BytesIO(data))
    found = [item for item in frames if not isinstance(item, Secrets)]
    return found, {what: problem.count for what, problem in frames.problems.items()}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_segment_is_found(name: str) -> None:
    link, packet = WRAPPED[name]
    (frame,), problems = read(files.pcap([packet], link=link))
    assert frame.payload == (b"" if name == "padded" else HELLO)
    assert (frame.source_port, frame.destination_port, frame.seq, frame.ack) == (50000, 22, 1, 1)
    assert frame.source in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.9")
    assert (frame.number, frame.length, frame.missing) == (1, len(packet), 0)
    assert not problems


FIELDS = ("tcp.srcport", "tcp.len", "tcp.seq", "tcp.ack", "tcp.stream", "frame.len")


def fields_of_tshark(path: Path) -> list[list[str]]:
    names = [word for name in (*FIELDS, "ip.src", "ipv6.src") for word in ("-e", name)]
    line = [*require_peer("tshark").command("tshark"), "-r", str(path), "-Y", "tcp", "-T", "fields", *names]
    shown = subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout
    return [row.split("\t") for row in shown.splitlines()]


def test_tshark_finds_the_same(tmp_path: Path) -> None:
    """All of them in one pcapng, an interface for each link."""
    links = sorted({link for link, _ in WRAPPED.values()})
    data = files.section() + b"".join(files.interface(link=link) for link in links)
    data += b"".join(
        files.enhanced(packet, interface=links.index(link), time=number)
        for number, (link, packet) in enumerate(WRAPPED.values())
    )
    (tmp_path / "all.pcapng").write_bytes(data)
    rows = fields_of_tshark(tmp_path / "all.pcapng")
    frames, _ = read(data)
    streams = Streams()
    assert len(rows) == len(frames) == len(WRAPPED)
    for name, row, frame in zip(WRAPPED, rows, frames, strict=True):
        streams.feed(frame)
        told = (
            frame.source_port, len(frame.payload), frame.relative_seq, frame.relative_ack, frame.stream,
            frame.length,
        )  # fmt: skip
        assert [str(value) for value in told] == row[: len(FIELDS)], name
        assert frame.source in (row[-2].split(",")[-1], row[-1].split(",")[-1]), name


@pytest.mark.parametrize("version", [4, 6])
def test_fragments(version: int) -> None:
    """In any order, and twice; the segment comes with the last."""
    whole = tcp(bytes(range(256)) * 10)

    def fragment(at: int, end: int) -> bytes:
        more = end < len(whole)
        if version == 4:
            return ethernet(ipv4(whole[at:end], offset=at, more=more))
        header = struct.pack(">BBHI", 6, 0, at | more, 77)
        return ethernet(ipv6(header + whole[at:end], 44), 0x86DD)

    pieces = [fragment(at, min(at + 800, len(whole))) for at in range(0, len(whole), 800)]
    overlapping = [pieces[0], fragment(400, 1600), *pieces[2:]]
    for order in (pieces, pieces[::-1], [pieces[1], *pieces, pieces[0]], overlapping):
        found, problems = read(files.pcap(order))
        assert [frame.payload for frame in found] == [whole[20:]]
        assert not problems
    found, _ = read(files.pcap(pieces[:-1]))
    assert not found


def test_fragments_that_never_come_are_bounded_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MAX_FRAGMENTED", 10)
    packets = [ethernet(ipv4(tcp(HELLO)[:32], more=True, ident=ident)) for ident in range(30)]
    found, problems = read(files.pcap(packets))
    assert not found
    assert problems == {"a datagram not all fragments of which came": 20}


@pytest.mark.parametrize(
    ("snaplen", "payload", "missing"), [(54, 0, 15), (60, 6, 9), (69, 15, 0), (50, 0, 15)]
)
def test_packets_that_the_file_cut_off(snaplen: int, payload: int, missing: int) -> None:
    (frame,), problems = read(files.pcap([ethernet(PLAIN)], snaplen=snaplen))
    assert (len(frame.payload), frame.missing, frame.length) == (payload, missing, 69)
    assert not problems


def test_what_is_broken_is_named_and_counted_once() -> None:
    wrong = [
        ethernet(b"\x45\0"), ethernet(PLAIN[:30]), ethernet(b"\x46" + PLAIN[1:22]),
        ethernet(ipv6(b"", 0), 0x86DD),
        ethernet(ipv4(tcp(HELLO)[:12] + b"\x10" + tcp(HELLO)[13:])), b"", b"\0",
    ]  # fmt: skip
    found, problems = read(files.pcap([*wrong, *wrong, ethernet(PLAIN)]))
    assert [frame.number for frame in found] == [15]
    assert sum(problems.values()) == 14
    found, problems = read(files.pcap([PLAIN], link=147))
    assert problems == {"link type 147 is not read": 1}


def test_packets_in_packets_without_end() -> None:
    packet = PLAIN
    for _ in range(500):
        packet = ipv4(packet, 4)
    assert read(files.pcap([ethernet(packet)])) == ([], {"headers nested too deep": 1})


def test_what_is_not_tcp_is_no_problem() -> None:
    others = [
        ethernet(bytes(28), 0x0806), ethernet(ipv4(bytes(8), 1)), ethernet(ipv4(udp(b"dns", 53), 17)),
        ethernet(bytes(50), 0x88CC), ethernet(ipv6(bytes(8), 58), 0x86DD),
        ethernet(b"\x42\x42\x03" + bytes(35), 38),
    ]  # fmt: skip
    found, problems = read(files.pcap([*others, ethernet(PLAIN)]))
    assert [frame.number for frame in found] == [7]
    assert not problems


@given(
    st.sampled_from(sorted(WRAPPED)),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=8),
    st.integers(0, 200),
)
def test_nothing_a_packet_holds_raises(name: str, changes: list[tuple[int, int]], snaplen: int) -> None:
    link, packet = WRAPPED[name]
    changed = bytearray(packet)
    for at, value in changes:
        changed[at % len(changed)] = value
    streams = Streams()
    for frame in read(files.pcap([bytes(changed)] * 2, link=link, snaplen=snaplen))[0]:
        streams.feed(frame)
    list(streams.finish())


@given(st.sampled_from(sorted(layers.LINKS)), st.binary(max_size=120))
def test_noise_of_any_link(link: int, packet: bytes) -> None:
    read(files.pcap([packet], link=link))
