"""A large capture, and what reading it costs beside tshark: `python -m tests.bench.captures MEGABYTES`.

The capture is made of real SSH connections (two cores of ours, AES-GCM, one bulk transfer and many short
logins), repeated from other addresses, with lost segments and foreign traffic between them.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from glasshell.events import ChannelOffered
from glasshell.messages.connection import SessionOpen
from glasshell.observe.hub import Hub
from glasshell.observe.record import KeyRecord, Record
from glasshell.policy import Policy
from glasshell.testing.pair import Pair
from glasshell.views.keylog import key_line
from tests.interop.peers import PEERS, why_not

MSS: Final = 1448
BULK: Final = 4 << 20
"""Bytes of one bulk transfer."""
LOGINS: Final = 20
"""Short logins for each bulk transfer."""
LIMIT: Final = 300
"""Megabytes of memory that reading may take, whatever the size of the file."""

Turn = tuple[bool, bytes]
"""Whether the client speaks, and what."""


class Keys:
    """A sink that keeps the key log."""

    hears = frozenset({"keys"})

    def __init__(self) -> None:
        self.lines = b""

    def __call__(self, record: Record | KeyRecord) -> None:
        if isinstance(record, KeyRecord):
            self.lines += key_line(record)


def session(bulk: int) -> tuple[list[Turn], bytes]:
    """A login, a channel and `bulk` bytes from the server; and its key log."""
    keys = Keys()
    policy = Policy.client(ciphers=("aes128-gcm@openssh.com",), kex=("curve25519-sha256",))
    pair = Pair(policy, answers={ChannelOffered: lambda question: True}, hubs={"client": Hub(keys)})
    pair.run()
    mine = pair.client.mux.open("session", SessionOpen())
    pair.run()
    theirs = pair.told("server", ChannelOffered)[0].channel
    noise = memoryview(random.Random(1).randbytes(bulk))
    while noise:
        noise = noise[theirs.send(noise) :]
        pair.run()
        mine.read_chunks()
        pair.run()
    mine.close()
    pair.run()
    return [(packet.sender == "client", packet.wire) for packet in pair.sent], keys.lines


def foreign(size: int) -> list[Turn]:
    """Traffic that is no SSH."""
    return [(True, b"GET / HTTP/1.1\r\n\r\n"), (False, b"HTTP/1.1 200 OK\r\n\r\n" + bytes(size))]


@dataclass
class Writer:
    """Writes packets as they would be seen on Ethernet."""

    file: object
    written: int = 0
    packets: int = 0
    time: int = 1_700_000_000_000_000

    def block(self, kind: int, body: bytes) -> None:
        size = 12 + len(body) + -len(body) % 4
        bounds = struct.pack("<I", size)
        data = struct.pack("<I", kind) + bounds + body + bytes(-len(body) % 4) + bounds
        self.file.write(data)  # type: ignore[attr-defined]
        self.written += size

    def packet(self, frame: bytes) -> None:
        self.time += 10
        self.packets += 1
        head = struct.pack("<IIIII", 0, self.time >> 32, self.time & 0xFFFFFFFF, len(frame), len(frame))
        self.block(6, head + frame)

    def segment(self, ends: tuple[bytes, bytes], seq: int, ack: int, flags: int, data: bytes = b"") -> None:
        """`ends` are address and port of the sender and of the receiver."""
        here, there = ends
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(data), 0, 0x4000, 64, 6, 0) + here[:4] + there[:4]
        tcp = here[4:] + there[4:] + struct.pack(">IIBBHHH", seq, ack, 0x50, flags, 65535, 0, 0)
        self.packet(bytes(12) + b"\x08\x00" + ip + tcp + data)

    def connection(self, number: int, turns: Iterable[Turn], *, port: int, lose: int = -1) -> None:
        """One TCP connection from its handshake to its end; segment number `lose` is left out."""
        client = struct.pack(">BBBBH", 10, *(number & 0xFFFFFF).to_bytes(3, "big"), 1024 + number % 60_000)
        server = struct.pack(">BBBBH", 192, 0, 2, 1, port)
        ends = (server, client), (client, server)
        at = [9000, 1000]  # server's and client's next sequence number
        self.segment(ends[1], at[1] - 1, 0, 2)
        self.segment(ends[0], at[0] - 1, at[1], 0x12)
        self.segment(ends[1], at[1], at[0], 0x10)
        count = 0
        for speaks, data in turns:
            for start in range(0, len(data), MSS):
                part = data[start : start + MSS]
                if count != lose:
                    self.segment(ends[speaks], at[speaks], at[not speaks], 0x18, part)
                at[speaks] = (at[speaks] + len(part)) & 0xFFFFFFFF
                count += 1
                if count % 2 == 0:
                    self.segment(ends[not speaks], at[not speaks], at[speaks], 0x10)
        for speaks in (True, False):
            self.segment(ends[speaks], at[speaks], at[not speaks], 0x11)
            at[speaks] += 1


def write(path: Path, size: int) -> int:
    """Writes a capture of about `size` bytes with its secrets inside; returns how many packets it has."""
    short, short_keys = session(2_000)
    bulk, bulk_keys = session(BULK)
    number = 0
    with path.open("wb") as file:
        writer = Writer(file)
        writer.block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
        writer.block(1, struct.pack("<HHI", 1, 0, 0))
        keys = short_keys + bulk_keys
        writer.block(10, struct.pack("<II", 0x5353484B, len(keys)) + keys)
        while writer.written < size:
            for each in range(LOGINS):
                writer.connection(number + each, short, port=22 if each % 2 else 2222)
            writer.connection(number + LOGINS, bulk, port=22, lose=900 if number % 3 == 0 else -1)
            writer.connection(number + LOGINS + 1, foreign(BULK // 4), port=80)
            for _ in range(50):
                writer.packet(bytes(12) + b"\x08\x06" + bytes(46))
            number += LOGINS + 2
    return writer.packets


OURS: Final = {
    "frames and streams": "from glasshell.capture.source import open_source\n"
    "with open_source(PATH) as source:\n    for event in source: pass",
    "records, decrypted": "from glasshell.capture.reader import read\nfor item in read(PATH): pass",
}
"""What is measured of ours, each in a process of its own."""


def tshark(path: Path) -> list[str]:
    """A command that makes tshark take SSH apart."""
    fields = ["-T", "fields", "-e", "frame.number", "-e", "ssh.message_code"]
    words = ["-r", str(path), "-d", "tcp.port==2222,ssh", "-Y", "ssh", *fields]
    return PEERS["tshark"].place.command("tshark", *words)


def measure(line: list[str]) -> tuple[float, int]:
    """Seconds of processor time and the most megabytes of memory that a command took."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if os.waitstatus_to_exitcode(status) not in (0, 1):  # 1: there are gaps in it, as there should be
        raise RuntimeError(f"{line[:2]} ended with {status}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024


def compare(megabytes: int) -> Iterator[tuple[str, int, float, int]]:
    """Name, packets, seconds and megabytes of each reader of one capture."""
    with tempfile.TemporaryDirectory(prefix="glasshell-") as folder:
        path = Path(folder) / "large.pcapng"
        packets = write(path, megabytes * 1_000_000)
        lines = {
            name: [sys.executable, "-c", code.replace("PATH", repr(str(path)))] for name, code in OURS.items()
        }
        fields = ["-T", "fields", "-e", "frame.number", "-e", "ssh.message_code"]
        lines["glasshell inspect"] = [sys.executable, "-m", "glasshell", "inspect", *fields, str(path)]
        if not why_not("tshark"):
            lines["tshark"] = tshark(path)
        for name, line in lines.items():
            yield name, packets, *measure(line)


def report(megabytes: int) -> bool:
    """Prints the comparison; whether ours stayed within `LIMIT`."""
    print(f"\n{megabytes} MB of capture: packets a second of processor time, most memory")
    within = True
    for name, packets, seconds, memory in compare(megabytes):
        print(f"{name:22}{packets / seconds:10,.0f}/s{memory:8} MB   ({seconds:.1f} s for {packets:,})")
        within = within and (memory <= LIMIT or name == "tshark")
    return within


if __name__ == "__main__":
    sys.exit(not report(int(sys.argv[1])))
