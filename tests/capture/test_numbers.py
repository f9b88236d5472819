"""tcp.stream, tcp.seq and tcp.ack of packets that no TCP would send: what Wireshark 4.6 makes of them."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from pathlib import Path

from glasshell.capture.containers import Secrets
from glasshell.capture.frames import Frames
from glasshell.capture.streams import Streams
from tests.interop.wireshark import Tshark

from . import files

WORLDS = 40
"""Networks with addresses of their own, so that one run of tshark judges many small histories."""

PACKETS = 60
FLAGS = (0x02, 0x02, 0x12, 0x10, 0x10, 0x18, 0x18, 0x11, 0x04, 0x14, 0x00, 0x29, 0x01)


def packets(world: int) -> Iterator[bytes]:
    """SYN, FIN, RST and data as they come, few ports and few numbers: what is reused is reused often."""
    chance = random.Random(world)
    for _ in range(PACKETS):
        port, client = chance.choice([1001, 1002, 1003, 22, 2222]), chance.random() < 0.5
        ports = (port, 22) if client else (22, port)
        source, destination = f"10.0.{world}.1", f"10.0.{world}.2"
        seq = chance.choice([0, 1, 5, 100, 101, 2**32 - 1, chance.randrange(2**32)])
        ack = chance.choice([0, 1, 6, 101, 2**32 - 1, chance.randrange(2**32)])
        flags = chance.choice(FLAGS)
        data = b"" if flags & 2 else chance.choice([b"", b"x", b"hello" * 3])
        segment = struct.pack(">HHIIBBHHH", *ports, seq, ack, 5 << 4, flags, 1000, 0, 0) + data
        ends = (source, destination) if client else (destination, source)
        yield files.ethernet(files.ipv4(segment, source=ends[0], destination=ends[1]))


def test_tshark_numbers_them_so(tmp_path: Path) -> None:
    data = files.pcap([packet for world in range(WORLDS) for packet in packets(world)])
    (tmp_path / "odd.pcap").write_bytes(data)
    rows = Tshark("4.6", 22).fields(
        tmp_path / "odd.pcap", "frame.number", "tcp.stream", "tcp.seq", "tcp.ack", "tcp.len"
    )
    streams = Streams()
    told = []
    for frame in Frames(io.BytesIO(data)):
        assert not isinstance(frame, Secrets)
        streams.feed(frame)
        numbers = (
            frame.number, frame.stream, frame.relative_seq, frame.relative_ack, len(frame.payload),
        )  # fmt: skip
        told.append([str(number) for number in numbers])
    assert told == rows
