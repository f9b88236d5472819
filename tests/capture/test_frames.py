"""Frames and streams of real captures beside what tshark says of them."""

from __future__ import annotations

import csv
import io
import lzma
from pathlib import Path
from typing import Any

import pytest

from glasshell.capture.containers import Secrets
from glasshell.capture.frames import Frames
from glasshell.capture.streams import Streams
from glasshell.observe.seen import Frame

CAPTURES = [
    "OISF__bug-4903-01.pcap",
    "OISF__bug-4903-02.pcap",
    "OISF__bug-8333-geoip.pcap",
    "OISF__bypass-ssh-enabled.pcap",
    "OISF__gre-sample.pcap",
    "OISF__icmp_and_ssh-s0.pcap",
    "OISF__icmp_and_ssh.pcap",
    "OISF__ssh-banner-only.pcap",
    "OISF__ssh-hassh-only.pcap",
    "OISF__ssh-hassh.pcap",
    "OISF__vxlan.pcap",
    "RUB-NDS__ext_downgrade_chacha20-poly1305.pcapng",
    "RUB-NDS__rogue_session_attack.pcapng",
    "arkime__ssh2-moloch-crash.pcap",
    "arkime__ssh2.pcap",
    "generated__g01-gcm128-exec.pcap",
    "generated__g03-chacha-strict-sftp.pcap",
    "generated__g05-ctr256-hmac256.pcap",
    "generated__g09-ctr256-hmacsha1.pcap",
    "generated__g13-gcm-zlib.pcap",
    "generated__g14-gcm-rekey.pcap",
    "generated__g20-chacha-nostrict.pcap",
    "generated__p01-openssh106-client-mlkem768x25519-aes128-gcm.pcap",
    "ntop__ssh_unidirectional.pcap",
    "secdev__ssh_ed25519.pcap",
    "tcpdump-tcpdump__ssh.pcap",
    "tcpdump__ipoib.pcap",
    "zeek__get-to-ssh-server.pcap",
    "zeek__ssh-on-port-80.pcap",
    "zeek__ssh_client_sends_first_enc_pkt_with_newkeys.pcap",
    "zeek__ssh_kex_curve25519.pcap",
    "zeek__ssh_kex_dh_group18.pcap",
    "zeek__sshguess.pcap",
    "zeek__var-services-std-ports.pcap",
]

COLUMNS = (
    "frame.number", "frame.len", "tcp.stream", "tcp.srcport", "tcp.dstport", "tcp.len", "tcp.seq", "tcp.ack",
)  # fmt: skip


def frames_of(path: Path) -> list[Frame]:
    streams = Streams()
    with path.open("rb") as file:
        reading = Frames(file)
        frames = [item for item in reading if not isinstance(item, Secrets)]
    for frame in frames:
        streams.feed(frame)
    assert not reading.problems
    return frames


def ours(frame: Frame) -> tuple[int, ...]:
    size = len(frame.payload) + frame.missing
    return (
        frame.number, frame.length, frame.stream, frame.source_port, frame.destination_port, size,
        frame.relative_seq, frame.relative_ack,
    )  # fmt: skip


def tsv(text: str) -> list[dict[str, str]]:
    csv.field_size_limit(1 << 30)
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("name", CAPTURES)
def test_every_number_is_tsharks(name: str, shared: Path) -> None:
    frames: dict[int, Frame] = {frame.number: frame for frame in frames_of(shared / "captures" / name)}
    listed = 0
    for truth in sorted((shared / "captures").glob(f"{name}.tshark4?.fields.tsv.xz")):
        for row in tsv(lzma.decompress(truth.read_bytes()).decode()):
            frame = frames[int(row["frame.number"])]
            told: dict[str, Any] = dict(zip(COLUMNS, ours(frame), strict=True))
            assert told == {column: int(row[column]) for column in COLUMNS}
            seconds, _, fraction = row["frame.time_epoch"].partition(".")
            assert frame.time_ns == int(seconds) * 10**9 + int(fraction.ljust(9, "0"))
            assert frame.time == pytest.approx(float(row["frame.time_epoch"]), abs=1e-6)
            for end in ("src", "dst"):  # of a tunnelled packet tshark gives both; the last is the inner
                known = row[f"ipv6.{end}"] or row[f"ip.{end}"]
                assert (frame.source if end == "src" else frame.destination) == known.split("|")[-1]
            listed += 1
    assert listed
