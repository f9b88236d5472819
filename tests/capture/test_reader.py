"""The order in which frames and records come out, and what is named at the end."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from glasshell.capture import reader
from glasshell.capture.keylog import KeyLog
from glasshell.capture.problems import Problem
from glasshell.capture.reader import read_source
from glasshell.capture.streams import Data, Event, Opened
from glasshell.observe.seen import Frame, Seen

from .reading import Read, captures, read, table

__all__ = ["captures"]


class Story:
    """A source made of events."""

    packets = 0

    def __init__(self, *events: Event) -> None:
        self.events = events
        self.dropped: list[int] = []
        self.given = 0
        self.dropped_after: list[int] = []
        self.problems: dict[str, Problem] = {}

    def __iter__(self) -> Iterator[Event]:
        for event in self.events:
            self.given += 1
            yield event

    def drop(self, stream: int) -> None:
        self.dropped.append(stream)
        self.dropped_after.append(self.given)


def frame(number: int, stream: int, payload: bytes = b"", *, syn: bool = False) -> Frame:
    return Frame(
        number, float(number), 60, "192.0.2.1", "192.0.2.2", 50_000 + stream, 2222, 0, 0,
        2 if syn else 16, payload, stream=stream,
    )  # fmt: skip


def data(number: int, stream: int, payload: bytes, *, forward: bool = True) -> Data:
    return Data(stream, forward, payload, frame(number, stream, payload))


def told(*events: Event) -> tuple[Read, Story]:
    story = Story(*events)
    reading = read_source(story, keys=KeyLog())
    return Read(list(reading), reading.troubles), story


def opened(number: int, stream: int) -> Opened:
    return Opened(stream, frame(number, stream, syn=True))


def frames(got: Read) -> list[int]:
    return [item.number for item in got.items if isinstance(item, Frame)]


def test_frames_come_in_order_though_it_takes_a_while_to_know_a_stream() -> None:
    got, story = told(
        opened(1, 0), opened(2, 1), opened(3, 2),
        data(4, 0, b"SSH-2"), data(5, 1, b"GET / HTTP/1.1\r\n"), data(6, 2, b"SSH-2.0-other\r\n"),
        data(7, 0, b".0-one\r\n"), data(8, 1, b"HTTP/1.1 200 OK\r\n", forward=False), data(9, 2, b"x"),
    )  # fmt: skip
    assert frames(got) == [4, 6, 7, 9]
    assert (story.dropped, story.dropped_after) == ([1], [8])
    for item, after in zip(got.items, got.items[1:], strict=False):
        if isinstance(item, Frame) and isinstance(after, Seen) and after.frames[1]:
            assert after.frames[1] == item.number


def test_what_never_showed_what_it_is_leaves_no_frame() -> None:
    got, story = told(opened(1, 0), data(2, 0, b"text\n"))
    assert got.items == []
    assert story.dropped == [0]


def test_every_record_comes_right_after_the_frame_that_completed_it(captures: Path) -> None:
    for capture in sorted(captures.glob("*.pcap*")):
        if capture.suffix not in (".pcap", ".pcapng"):
            continue
        last = 0
        for item in read(capture).items:
            if isinstance(item, Frame):
                last = item.number
            elif item.frames[1] and getattr(item.record, "name", "") != "ended":
                assert item.frames[1] == last, (capture.name, item)


def test_frames_are_those_that_tshark_takes_for_ssh(captures: Path) -> None:
    capture = captures / "zeek__sshguess.pcap"
    truth = [int(row["frame.number"]) for row in table(Path(f"{capture}.tshark46.fields.tsv.xz"))]
    assert set(truth) <= set(frames(read(capture)))


def test_a_stream_that_stays_unknown_holds_nothing_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_WAITING", 10)
    unknown = [opened(1, 0), data(2, 0, b"text\n")]
    other = [opened(3, 1), *(data(4 + i, 1, b"SSH-2.0-x\r\n" if not i else bytes(8)) for i in range(40))]
    story = Story(*unknown, *other)
    seen_early = 0
    for item in read_source(story, keys=KeyLog()):
        if isinstance(item, Frame) and item.number == 4:
            seen_early = 1
    assert seen_early
    assert story.dropped == [0]


def test_streams_do_not_mix(captures: Path) -> None:
    got = read(captures / "RUB-NDS__rogue_session_attack.pcapng")
    for stream in (0, 1):
        names = [facts["line"] for facts in got.facts("identification_sent", stream)]
        assert names == ["SSH-2.0-AsyncSSH_2.13.2"]
        assert len(got.states("started", stream)) == 1
        assert len(got.states("closed", stream)) == 1


def test_decryption_secrets_of_a_pcapng_file(captures: Path, tmp_path: Path) -> None:
    """A Decryption Secrets Block (draft-ietf-opsawg-pcapng, type SSHK) in front of the packets."""
    capture = captures / "generated__g01-gcm128-exec.pcap"
    lines = Path(f"{capture}.keylog.shared").read_bytes()
    made = tmp_path / "own.pcapng"
    made.write_bytes(as_pcapng(capture.read_bytes(), lines))
    got = read(made)
    assert got.facts("authenticated") == [{"user": "root", "method": "publickey"}]
    assert not got.troubles.lines


def as_pcapng(pcap: bytes, secrets: bytes) -> bytes:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    out = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    out += block(1, struct.pack("<HHI", struct.unpack_from("<I", pcap, 20)[0], 0, 0))
    out += block(10, struct.pack("<II", 0x5353484B, len(secrets)) + secrets)
    at = 24
    while at < len(pcap):
        seconds, micros, kept, length = struct.unpack_from("<IIII", pcap, at)
        high, low = divmod(seconds * 1_000_000 + micros, 1 << 32)
        packet = pcap[at + 16 : at + 16 + kept]
        out += block(6, struct.pack("<IIIII", 0, high, low, kept, length) + packet)
        at += 16 + kept
    return out


def test_the_handshake_is_timed(captures: Path) -> None:
    (facts,) = read(captures / "OISF__bug-8333-geoip.pcap").facts("tcp_handshake")
    # frame.time_epoch of frames 1, 2 and 3 as tshark prints them: 0.016218 and 0.000327 s apart
    assert facts == {"syn_ack": pytest.approx(0.016218, abs=1e-6), "ack": pytest.approx(0.000327, abs=1e-6)}


def test_an_error_of_ours_ends_one_stream_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = reader.Passive.receive

    def broken(self: reader.Passive, forward: bool, data: bytes, time: float, frame: int = 0) -> None:
        if frame == 3:
            raise IndexError
        receive(self, forward, data, time, frame)

    monkeypatch.setattr(reader.Passive, "receive", broken)
    got, story = told(opened(1, 0), opened(2, 1), data(3, 0, b"SSH-2.0-a\r\n"), data(4, 1, b"SSH-2.0-b\r\n"))
    assert got.troubles.lines == ["stream 0, frame 3: internal error: IndexError"]
    assert story.dropped == [0]
    assert len(got.facts("identification_sent", 1)) == 1


def test_troubles_are_bounded() -> None:
    troubles = reader.Troubles()
    for number in range(1000):
        troubles.add(str(number))
    assert (len(troubles.lines), troubles.more) == (reader.MAX_LINES, 1000 - reader.MAX_LINES)
