"""How true the stamps of the records are: each message's time beside that of its last byte in a capture.

    python scripts/stamps.py [RUNS]           (root: tcpdump listens on the loopback; OpenSSH is the peer)

For both roles, RUNS logins (20 unless said) with a command. Prints the median, the 95th percentile and the
largest difference in milliseconds, record minus capture, over all messages of all runs.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import glasshell
from glasshell.aio.gatekeeper import KnownUsers
from glasshell.aio.session import ServerSession
from glasshell.crypto.signatures import PrivateKey
from glasshell.keys.openssh import dump_private_key
from glasshell.keys.public import dump_public_key
from glasshell.observe.hub import Sink
from glasshell.observe.record import MessageRecord, Record, StateRecord

SSHD = "/usr/sbin/sshd"


def frames(capture: bytes) -> Iterator[tuple[float, int, int, int, int, bytes]]:
    """(time, source port, destination port, sequence number, flags, data) of each TCP segment."""
    nano = struct.unpack_from("<I", capture)[0] == 0xA1B23C4D
    at = 24
    while at + 16 <= len(capture):
        seconds, fraction, kept, _ = struct.unpack_from("<IIII", capture, at)
        packet = capture[at + 16 : at + 16 + kept]
        at += 16 + kept
        ip = packet[14:]
        tcp = ip[(ip[0] & 15) * 4 : struct.unpack_from(">H", ip, 2)[0]]
        source, target, seq = struct.unpack_from(">HHI", tcp)
        data = tcp[(tcp[12] >> 4) * 4 :]
        yield seconds + fraction / (1e9 if nano else 1e6), source, target, seq, tcp[13], data


class Arrivals:
    """When each byte of one direction of one connection passed the capture."""

    def __init__(self) -> None:
        self.start: int | None = None
        self.ends: list[tuple[int, float]] = []

    def add(self, time: float, seq: int, flags: int, data: bytes) -> None:
        if flags & 2:  # SYN takes one number
            self.start = (seq + 1) % (1 << 32)
        elif data and self.start is not None:
            self.ends.append(((seq - self.start) % (1 << 32) + len(data), time))

    def of(self, offset: int) -> float | None:
        """When the byte before `offset` passed."""
        return next((time for end, time in self.ends if end >= offset), None)


def differences(records: Sequence[Record], sent: Arrivals, received: Arrivals) -> Iterator[float]:
    """Record minus capture, in seconds, for each message."""
    began = next(r for r in records if isinstance(r, StateRecord) and r.name == "started")
    offsets = {True: 0, False: 0}
    for record in records:
        if isinstance(record, StateRecord):
            if record.name in ("identification_sent", "identification_received"):
                offsets[record.name.endswith("sent")] += record.facts["length"]
            continue
        assert isinstance(record, MessageRecord)
        offsets[record.sent] += record.wire_length
        passed = (sent if record.sent else received).of(offsets[record.sent])
        if passed is not None:
            yield began.facts["wall_time"] + record.time - began.time - passed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int, folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """tcpdump on `port`, once it listens."""
    file = folder / f"{port}.pcap"
    dump = subprocess.Popen(
        ["tcpdump", "-i", "lo", "--immediate-mode", "-B", "16384", "--time-stamp-precision=nano",
         "-U", "-w", str(file), f"tcp port {port}"],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert dump.stderr is not None
    while b"listening on" not in dump.stderr.readline():
        if dump.poll() is not None:
            sys.exit("stamps: tcpdump does not run: it needs root")
    return dump, file


def compare(file: Path, port: int, runs: Sequence[list[Record]], role: str) -> list[float]:
    """All differences of the runs, each matched with its connection in the order of the SYNs."""
    streams: dict[int, tuple[Arrivals, Arrivals]] = {}
    for time, source, target, seq, flags, data in frames(file.read_bytes()):
        up = target == port
        pair = streams.setdefault(source if up else target, (Arrivals(), Arrivals()))
        pair[0 if up else 1].add(time, seq, flags, data)
    found: list[float] = []
    for records, (up, down) in zip(runs, streams.values(), strict=False):
        sides = (up, down) if role == "client" else (down, up)
        found.extend(differences(records, *sides))
    return found


async def as_client(folder: Path, count: int) -> tuple[int, Path, list[list[Record]]]:
    port = free_port()
    key, host = PrivateKey.generate("ssh-ed25519"), PrivateKey.generate("ssh-ed25519")
    (folder / "host").write_bytes(dump_private_key(host))
    (folder / "host").chmod(0o600)
    (folder / "authorized").write_text(dump_public_key(key.public, "stamps") + "\n")
    options = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host", "PidFile": "none",
        "AuthorizedKeysFile": folder / "authorized", "StrictModes": "no", "PermitRootLogin": "yes",
        "UsePAM": "no",
    }  # fmt: skip
    (folder / "sshd_config").write_text("".join(f"{k} {v}\n" for k, v in options.items()))
    sshd = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.PIPE)
    assert sshd.stderr is not None
    while b"listening" not in sshd.stderr.readline():
        pass
    dump, file = listening(port, folder)
    runs: list[list[Record]] = []
    try:
        for _ in range(count):
            records: list[Record] = []
            known = folder / "known_hosts"
            async with glasshell.connect(
                "127.0.0.1", port, keys=[key], agent=False, known_hosts=known, strict="accept-new",
                sinks=[records.append],
            ) as connection:  # fmt: skip
                await connection.run("true")
            runs.append(records)
        await asyncio.sleep(1)  # the capture's last packets
    finally:
        dump.terminate()
        dump.wait()
        sshd.terminate()
        sshd.wait()
    return port, file, runs


async def as_server(folder: Path, count: int) -> tuple[int, Path, list[list[Record]]]:
    port = free_port()
    key = PrivateKey.generate("ssh-ed25519")
    identity = folder / "identity"
    identity.write_bytes(dump_private_key(key))
    identity.chmod(0o600)
    dump, file = listening(port, folder)
    runs: list[list[Record]] = []

    def sinks(peer: object) -> list[Sink]:
        runs.append([])
        return [runs[-1].append]

    async def program(session: ServerSession) -> int:
        return 0

    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
    argv = ["ssh", "-F", "none", "-p", str(port), "-i", str(identity), *(f"-o{each}" for each in options)]
    try:
        async with glasshell.serve(
            "127.0.0.1", port, host_keys=[PrivateKey.generate("ssh-ed25519")],
            gatekeeper=KnownUsers({"ada": [key.public]}), handler=program, sinks=sinks,
        ):  # fmt: skip
            for _ in range(count):
                client = await asyncio.create_subprocess_exec(*argv, "ada@127.0.0.1", "true")
                if await client.wait():
                    sys.exit("stamps: ssh could not log in")
        await asyncio.sleep(1)  # the capture's last packets
    finally:
        dump.terminate()
        dump.wait()
    return port, file, runs


def report(role: str, found: Sequence[float]) -> None:
    values = sorted(each * 1000 for each in found)
    print(
        f"{role}: {len(values)} messages, median {statistics.median(values):+.3f} ms, "
        f"95 % within {sorted(map(abs, values))[int(len(values) * 0.95)]:.3f} ms, "
        f"largest {max(values, key=abs):+.3f} ms"
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for program in ("tcpdump", SSHD, "ssh"):
        if shutil.which(program) is None:
            sys.exit(f"stamps: {program} is not installed: make peers")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        port, file, runs = asyncio.run(as_client(folder, count))
        report("client, against sshd", compare(file, port, runs, "client"))
        port, file, runs = asyncio.run(as_server(folder, count))
        report("server, against ssh", compare(file, port, runs, "server"))


if __name__ == "__main__":
    main()
