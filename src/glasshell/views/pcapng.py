"""A capture of one connection, written by the program that holds it: no root, no tcpdump, nothing lost.

The bytes are those of the wire; the Ethernet, IP and TCP headers around them are made up (`segments`).
Comments at the packets name the phases. With `secrets` the keys are in the file too, in Decryption Secrets
Blocks before the packets that need them, so that Wireshark opens it decrypted.

The blocks are written here and not by a library: none of those at hand writes Decryption Secrets Blocks, and
writing a capture should need none. Format: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any, Final

from .. import __version__
from ..explain.phases import Clock, Phase
from ..messages import family, message_name
from ..observe.dissect import facts as facts_of
from ..observe.record import Heard, KeyRecord, MessageRecord, StateRecord, WireRecord
from .files import cannot_write, open_descriptor, write_whole
from .keylog import key_line
from .lines import text_of
from .segments import MAX_DATA, Conversation, ends

SECTION, INTERFACE, PACKET, SECRETS = 0x0A0D0D0A, 1, 6, 0x0A
"""Types of blocks."""
SSH_KEY_LOG: Final = 0x5353484B
"""The secrets type "SSHK"."""
ETHERNET: Final = 1
COMMENT, NAME, DESCRIPTION, APPLICATION, RESOLUTION, FLAGS = 1, 2, 3, 4, 9, 2
"""Codes of options; those of different blocks may be the same."""
INBOUND, OUTBOUND = 1, 2

MAX_COMMENTS: Final = 20
"""Comments of one packet; more says nothing more."""
REMEMBERED: Final = 64
"""Reads whose frame numbers are remembered for messages in them that were held up."""

ABOUT: Final = "The bytes of this connection are real, the Ethernet, IP and TCP headers around them made up."

NAMED: Final = frozenset({1, 5, 6, 7, 20, 21, 80, 81, 82, 90, 91, 92, 96, 97, 98, 99, 100, *range(30, 80)})
"""The messages that a comment names; the others are many and say nothing of a phase."""


def block(kind: int, body: bytes) -> bytes:
    """One block, padded, with its length before and behind."""
    size = 12 + len(body) + -len(body) % 4
    return struct.pack("<II", kind, size) + body + bytes(-len(body) % 4) + struct.pack("<I", size)


def options(*pairs: tuple[int, bytes]) -> bytes:
    """A list of options with its end; nothing where there is none."""
    made = b"".join(struct.pack("<HH", code, len(v)) + v + bytes(-len(v) % 4) for code, v in pairs)
    return made + bytes(4) if made else b""


def beginning() -> bytes:
    """The section and its one interface, whose times are nanoseconds since 1970."""
    program = f"glasshell {__version__}".encode()
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    section += options((COMMENT, ABOUT.encode()), (APPLICATION, program))
    described = b"one SSH connection, as its own end saw it"
    interface = struct.pack("<HHI", ETHERNET, 0, 0)
    interface += options((NAME, b"glasshell"), (DESCRIPTION, described), (RESOLUTION, b"\x09"))
    return block(SECTION, section) + block(INTERFACE, interface)


def packet(nanoseconds: int, frame: bytes, comments: Iterable[str], *, sent: bool) -> bytes:
    """One frame; `sent` is its direction as seen from our end."""
    head = struct.pack("<IIIII", 0, nanoseconds >> 32, nanoseconds & 0xFFFFFFFF, len(frame), len(frame))
    flags = (FLAGS, struct.pack("<I", OUTBOUND if sent else INBOUND))
    noted = ((COMMENT, comment.encode("utf-8", "replace")) for comment in comments)
    return block(PACKET, head + frame + bytes(-len(frame) % 4) + options(*noted, flags))


def secrets(lines: bytes) -> bytes:
    """Lines of a key log, for every packet behind them."""
    return block(SECRETS, struct.pack("<II", SSH_KEY_LOG, len(lines)) + lines)


class Pcapng:
    """A sink that writes the connection to a pcapng file and closes it with the connection's last record.

        async with glasshell.connect(host, sinks=[Pcapng("login.pcapng", secrets=True)]) as connection: ...

    With `secrets` whoever has the file reads everything that was sent, passwords included: it is for tests,
    not for use. Wireshark cannot follow everything that we do: give `connect` a policy that is made
    `for_wireshark()` as well. Every block is in the file as soon as a packet of SSH is complete, so that a
    program that dies leaves its capture. Only the file's owner may read it.
    """

    def __init__(self, path: str | os.PathLike[str], *, secrets: bool = False) -> None:
        """Opens the file. Raises ConfigError where it cannot be written."""
        self.hears = frozenset({"records", "wire", "keys"} if secrets else {"records", "wire"})
        self.secrets_in = os.fspath(path) if secrets else ""
        """The file, where it holds secrets."""
        self._descriptor: int | None = open_descriptor(path, "capture")
        self._size = 0
        self._story = _Story()
        self._keys = b""
        try:
            self._write(beginning())
        except OSError as error:
            raise cannot_write("capture", path, error) from error

    def __call__(self, record: Heard) -> None:
        """Writes what one record brings."""
        if self._descriptor is None:
            return
        if isinstance(record, KeyRecord):
            self._keys += key_line(record)
            if record.label == "SHARED_SECRET":
                self._write(secrets(self._keys))
                self._keys = b""
            return
        self._write(b"".join(self._story.hear(record)))
        if isinstance(record, StateRecord) and record.name == "closed":
            self.close()

    def close(self) -> None:
        """Closes the file; what is told afterwards is not written."""
        if self._descriptor is not None:
            with suppress(OSError):
                self._write(b"".join(self._story.rest()))
        self._shut()

    def _shut(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, data: bytes) -> None:
        """Writes whole blocks; what a full disk took of one is taken back, so that readers find an end."""
        assert self._descriptor is not None
        try:
            write_whole(self._descriptor, data)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            self._shut()
            raise
        self._size += len(data)


class _Story:
    """What the packets of a connection are, and what is said at them."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._start = 0
        """Nanoseconds since 1970 at which the records' time is 0."""
        self._client = True
        self._now = 0.0
        self._connecting = 0.0
        self._talk: Conversation | None = None
        self._comments: dict[bool, list[str]] = {True: [], False: []}
        self._late: list[str] = []
        self._packing = {True: _Packing(), False: _Packing()}
        self._reads: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)
        """Time and first frame of what was read last."""
        self._frames = 0
        self._begun: set[Phase] = set()
        self._ended: set[bool] = set()

    def hear(self, record: MessageRecord | StateRecord | WireRecord) -> Iterator[bytes]:
        """The packets that a record brings."""
        self._now = record.time
        if isinstance(record, WireRecord):
            yield from self._wire(record)
            return
        phase = self._clock.hear(record)
        if isinstance(record, MessageRecord):
            self._message(record, phase)
        else:
            yield from self._state(record, phase)

    def rest(self) -> Iterator[bytes]:
        """What waits for bytes that do not come any more."""
        if self._talk is not None and False not in self._ended:
            yield from self._bytes(self._now, False, b"", 0)

    # --- what is said

    def _message(self, record: MessageRecord, phase: Phase) -> None:
        if record.number not in NAMED:
            return
        phase = _PHASES.get(record.number, phase)
        comment = f"{self._named(phase)}: {_about(record)}"
        read = next((frame for time, frame in self._reads if time == record.time), 0)
        if not record.sent and read:
            self._late.append(f"in frame {read}: {comment}")
        else:
            self._comments[record.sent].append(comment)

    def _named(self, phase: Phase) -> str:
        """The phase of a packet, and whether it is its first."""
        begins = " begins" if phase not in self._begun else ""
        self._begun.add(phase)
        return f"phase {phase.title}{begins}"

    def _said(self, sent: bool) -> list[str]:
        said = [*self._late, *self._comments[sent]]
        self._late, self._comments[sent] = [], []
        if len(said) > MAX_COMMENTS:
            said[MAX_COMMENTS - 1 :] = [f"and {len(said) - MAX_COMMENTS + 1} messages more"]
        return said

    # --- what happens

    def _state(self, record: StateRecord, phase: Phase) -> Iterator[bytes]:
        facts = record.facts
        match record.name:
            case "started":
                self._client = facts.get("role") != "server"
                wall = facts.get("wall_time")
                micros = round(wall * 1_000_000) if isinstance(wall, int | float) else 0
                self._start = micros * 1000 - round(record.time * 1e9)
            case "connecting":
                self._connecting = record.time
            case "connected" | "accepted":
                began = self._connecting if record.name == "connected" else record.time
                yield from self._connected(facts, began, record.time)
            case "identification_sent" | "identification_received":
                sent = record.name == "identification_sent"
                line = text_of(facts.get("line", ""))
                self._packing[sent].told(int(facts.get("length") or 0))
                self._comments[sent].append(f"{self._named(Phase.IDENTIFICATION)}: {line}")
            case "preface_line":
                self._packing[False].told(len(text_of(facts.get("text", ""))) + 2)
            case "error":
                self._comments[True].append(f"{self._named(phase)}: {text_of(facts.get('type', ''))}")
            case "eof":
                error = bool(facts.get("error"))
                yield from self._end(record.time, sent=False, reset=error)
            case "closed" | "speculation_failed":
                yield from self.rest()
                yield from self._end(record.time, sent=True, reset=False)

    def _connected(self, facts: Any, began: float, done: float) -> Iterator[bytes]:
        peer = text_of(facts.get("address", "")), int(facts.get("port") or 0)
        ours = text_of(facts.get("local_address", "")), int(facts.get("local_port") or 0)
        self._packing = {True: _Packing(), False: _Packing()}
        self._begun, self._ended = set(), set()
        self._talk = talk = Conversation(*(ends(ours, peer) if self._client else ends(peer, ours)))
        opening = talk.syn(client=True)
        yield from self._packets(began, opening, self._client, [self._named(Phase.TCP)])
        yield from self._packets(done, talk.syn(client=False), not self._client, [])
        yield from self._packets(done, talk.acknowledge(client=True), self._client, [])

    def _wire(self, record: WireRecord) -> Iterator[bytes]:
        if self._talk is None:  # a socket that somebody else has connected
            yield from self._connected({}, record.time, record.time)
        for size in record.packets:
            self._packing[record.sent].told(size)
        if not record.sent:
            self._reads.append((record.time, self._frames + 1))
        yield from self._bytes(record.time, record.sent, record.data, 0 if record.sent else record.partial)

    def _bytes(self, time: float, sent: bool, data: bytes, partial: int) -> Iterator[bytes]:
        assert self._talk is not None
        for piece in self._packing[sent].cut(data, partial):
            frames = self._talk.data(piece, client=sent == self._client)
            yield from self._packets(time, frames, sent, self._said(sent))

    def _end(self, time: float, *, sent: bool, reset: bool) -> Iterator[bytes]:
        if self._talk is None or sent in self._ended:
            return
        if not sent:
            yield from self.rest()
        self._ended |= {True, False} if reset else {sent}
        client = sent == self._client
        frames = self._talk.reset(client=client) if reset else self._talk.fin(client=client)
        yield from self._packets(time, frames, sent, self._said(sent))

    def _packets(
        self, time: float, frames: Iterable[bytes], sent: bool, comments: Sequence[str]
    ) -> Iterator[bytes]:
        for frame in frames:
            self._frames += 1
            yield packet(self._start + round(time * 1e9), frame, comments, sent=sent)
            comments = ()


class _Packing:
    """Cuts what one side sends so that segments end where packets of SSH end.

    Wireshark 4.0 does not put an encrypted packet together that two segments share. So what begins a packet
    waits for its rest; when that does not come, it is told at the end.
    """

    def __init__(self) -> None:
        self._sizes: deque[int] = deque()
        """Bytes of the packets told of, the first one less what is out of it already."""
        self._ahead = 0
        """Bytes that are out and of which no packet was told yet: they wait for an answer."""
        self._held = b""

    def told(self, size: int) -> None:
        """The next packet has `size` bytes."""
        out = min(size, self._ahead)
        self._ahead -= out
        if size > out:
            self._sizes.append(size - out)

    def cut(self, data: bytes, partial: int) -> Iterator[bytes]:
        """The segments' contents of `data`, whose last `partial` bytes begin a packet."""
        whole = self._held + data
        end = max(len(whole) - partial, 0)
        self._held = whole[end:]
        start = 0
        while start < end:
            size = end - start
            if size > MAX_DATA:
                size = self._fitting() or MAX_DATA
            self._out(size)
            yield whole[start : start + size]
            start += size

    def _fitting(self) -> int:
        """Bytes of as many whole packets as a segment holds; 0: not even one."""
        return max((size for size in accumulate(self._sizes) if size <= MAX_DATA), default=0)

    def _out(self, size: int) -> None:
        """So many bytes are out."""
        while self._sizes and self._sizes[0] <= size:
            size -= self._sizes.popleft()
        if self._sizes:
            self._sizes[0] -= size
        else:
            self._ahead += size


_PHASES: Final = {
    20: Phase.NEGOTIATION, 21: Phase.KEY_EXCHANGE, **dict.fromkeys(range(30, 50), Phase.KEY_EXCHANGE),
    5: Phase.AUTHENTICATION, 6: Phase.AUTHENTICATION, **dict.fromkeys(range(50, 80), Phase.AUTHENTICATION),
}  # fmt: skip
"""Phases of messages that belong to them whenever they come; others belong to that in which they come."""


def _about(record: MessageRecord) -> str:
    """One message in one line. Of what travelled encrypted it says the name and nothing else: whoever gets
    the file without the secrets shall learn no more from the comments than that."""
    line = message_name(record.number, record.context)
    if record.epoch and (record.number in (20, 21) or family(record.number) == "kex"):
        line = f"key re-exchange: {line}"
    if record.number == 21:
        line += f": {'we send' if record.sent else 'the peer sends'} under new keys from here on"
    elif not record.epoch and (told := facts_of(record.payload, record.context)):
        line += f": {told}"
    return line
