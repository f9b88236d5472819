"""What a capture says of a connection: the records that a live one would tell, and the frames they came in.

A capture stands beside the wire. Its records are told from the client's seat: `sent` is what the client
sent. Their times are seconds since the first frame of the connection; `wall_time` of the record
`started`, whose role is "network", is the time of that frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from .record import MessageRecord, StateRecord, SubsystemRecord


@dataclass(slots=True)
class Call:
    """The system call that carried bytes, where the capture is strace's.

    `size` is its result in bytes, `duration` seconds inside the call, None where the file does not say.
    """

    pid: int
    name: str
    fd: int
    size: int
    duration: float | None = None


@dataclass(slots=True)
class Frame:
    """One TCP segment of a capture, as its headers have it.

    `number` counts the file's packets from 1, `time` is seconds since 1970, `length` the bytes of the whole
    frame on the wire (tshark's frame.number, frame.time_epoch, frame.len). `seq` and `ack` are as sent,
    `flags` the byte of RFC 9293 §3.1. `missing` is how many bytes of the payload the file cut off.

    `time_ns` is `time` to the last nanosecond. `stream`, `relative_seq` and `relative_ack` are told by
    `capture.streams`: tshark's tcp.stream (-1: not told yet), tcp.seq and tcp.ack. In a capture by strace
    each frame has a `call`, `number` is the line of the file, `seq` counts from 1, nothing is acknowledged,
    and the flags of the call that connected or accepted are those of a SYN, sent by the client.
    """

    number: int
    time: float
    length: int
    source: str
    destination: str
    source_port: int
    destination_port: int
    seq: int
    ack: int
    flags: int
    payload: bytes
    missing: int = 0
    time_ns: int = 0
    stream: int = -1
    relative_seq: int = 0
    relative_ack: int = 0
    call: Call | None = None
    outer: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Seen:
    """One record of a capture.

    `stream` is the number of its TCP connection, from 0 (tshark's tcp.stream); `client` says whether the
    client sent it, None where nobody did. `frames` are the numbers of the first and the last frame that
    carried it, (0, 0) where it was in none. `verified`: its MAC or tag was checked and is right (True),
    wrong (False), or there was none to check or no key to check it with (None).
    """

    record: MessageRecord | StateRecord | SubsystemRecord
    stream: int = 0
    client: bool | None = None
    frames: tuple[int, int] = (0, 0)
    verified: bool | None = None
