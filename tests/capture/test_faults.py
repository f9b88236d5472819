"""Real captures, spoilt: frames lost, doubled, out of order. What is left must be what tshark follows."""

from __future__ import annotations

import io
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from glasshell.capture.containers import Packets, Secrets
from glasshell.capture.source import PacketSource
from glasshell.capture.streams import Data, Event, Gap
from tests.interop.peers import require_peer

from . import files
from .kit import heard

NAME = "generated__g14-gcm-rekey.pcap"
MISSING = re.compile(rb"\[(\d+) bytes missing in capture file\]\0")

Raw = list[bytes]
Chance = random.Random


def lose(packets: Raw, chance: Chance) -> Raw:
    return [packet for number, packet in enumerate(packets) if number < 10 or chance.random() > 0.05]


def double(packets: Raw, chance: Chance) -> Raw:
    return [copy for packet in packets for copy in [packet] * chance.choice([1, 1, 2, 3])]


def late_copies(packets: Raw, chance: Chance) -> Raw:
    spoilt = list(packets)
    for packet in chance.sample(packets, 30):
        spoilt.insert(chance.randrange(spoilt.index(packet), len(spoilt)), packet)
    return spoilt


def swap(packets: Raw, chance: Chance) -> Raw:
    """Neighbours of one direction: behind its own acknowledgement, tshark takes a segment for lost."""
    spoilt = list(packets)
    for at in chance.sample(range(4, len(packets) - 4), 60):
        if spoilt[at][34:38] == spoilt[at + 1][34:38]:
            spoilt[at], spoilt[at + 1] = spoilt[at + 1], spoilt[at]
    return spoilt


def one_side(packets: Raw, _: Chance) -> Raw:
    port = packets[0][34:36]  # the client's, behind the headers of Ethernet and IPv4
    return [packet for packet in packets if packet[34:36] == port]


def from_the_middle(packets: Raw, _: Chance) -> Raw:
    return packets[40:]


def cut_up(packets: Raw, chance: Chance) -> Raw:
    """Segments sent again in other pieces, which overlap."""
    spoilt = []
    for packet in packets:
        spoilt.append(packet)
        data = 34 + (packet[46] >> 4) * 4
        if len(packet) - data > 10 and chance.random() < 0.4:
            part = bytearray(packet)
            start = chance.randrange(1, len(packet) - data)
            seq = int.from_bytes(packet[38:42], "big") + start
            part[38:42] = (seq & 0xFFFFFFFF).to_bytes(4, "big")
            del part[data : data + start]
            part[16:18] = (len(part) - 14).to_bytes(2, "big")
            spoilt.append(bytes(part))
    return spoilt


FAULTS: list[Callable[[Raw, Chance], Raw]] = [
    lambda packets, _: packets, lose, double, late_copies, swap, one_side, from_the_middle, cut_up,
    lambda packets, chance: swap(double(lose(packets, chance), chance), chance),
]  # fmt: skip


def follow(path: Path, *options: str) -> dict[bool, bytes]:
    """Both directions, as tshark follows stream 0."""
    line = [
        *require_peer("tshark").command("tshark"), "-r", str(path), "-q", "-z", "follow,tcp,raw,0", *options,
    ]  # fmt: skip
    shown = subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout
    told = {True: b"", False: b""}
    for row in shown.splitlines()[6:-1]:
        told[not row.startswith("\t")] += bytes.fromhex(row.strip())
    return told


def ours(events: list[Event], forward: bool) -> bytes:
    return b"".join(
        part if isinstance(part, bytes) else b"[%d bytes missing in capture file]" % part
        for part in heard(events, forward=forward)
    )


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_what_tshark_follows(number: int, shared: Path, tmp_path: Path) -> None:
    with (shared / "captures" / NAME).open("rb") as file:
        packets = [item[3][item[4] : item[5]] for item in Packets(file) if not isinstance(item, Secrets)]
    spoilt = FAULTS[number](packets, random.Random(number))
    data = files.section() + files.interface()
    data += b"".join(files.enhanced(packet, time=at * 1000) for at, packet in enumerate(spoilt))
    (tmp_path / "spoilt.pcapng").write_bytes(data)
    truth = follow(tmp_path / "spoilt.pcapng")
    source = PacketSource(io.BytesIO(data))
    events = [event for event in source if not isinstance(event, Secrets) and event.stream == 0]
    assert any(isinstance(event, Data) for event in events)
    assert any(isinstance(event, Gap) for event in events) == any(
        MISSING.search(side) for side in truth.values()
    )
    for forward in (True, False):
        assert ours(events, forward) == MISSING.sub(rb"[\1 bytes missing in capture file]", truth[forward])
    assert not source.problems
