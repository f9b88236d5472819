"""The files that hold packets: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng).

The reader is ours because none at hand can do it: dpkt's leaves out the length a packet had on the wire, the
second section and interface, and simple packets; python-pcapng reads a block of any size at 70,000 a second.
Both stop with an exception where a file is damaged. What is here reads on as far as the file has sense,
holds one chunk of it, and says where it stopped.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeAlias

from ..errors import CaptureError
from .problems import Problem, note

__all__ = ["Packet", "Packets", "Secrets", "kind_of"]

MAX_PACKET: Final = 262_144
"""Bytes of one packet, as in libpcap and Wireshark; a longer one says that the file is damaged."""

MAX_BLOCK: Final = 16 << 20
"""Bytes of one block of a pcapng, for the same reason; a key log may be larger than a packet."""

MAX_INTERFACES: Final = 65_536
"""Interfaces of one section."""

CHUNK: Final = 1 << 20
"""Bytes read at a time."""

SSH_KEY_LOG: Final = 0x5353484B
"""The type of a Decryption Secrets Block that holds SSH key log lines: "SSHK"."""

SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, JOURNAL, ENHANCED_PACKET, SECRETS = (
    0x0A0D0D0A, 1, 2, 3, 9, 6, 10,
)  # fmt: skip

LOST: Final = "a packet of no interface, or longer than its block"

_BYTE_ORDER: Final = 0x1A2B3C4D

_PCAP: Final = {0xA1B2C3D4: (1000, 16), 0xA1B23C4D: (1, 16), 0xA1B2CD34: (1000, 24)}
"""Magic number → nanoseconds in the unit of its time stamps, bytes of a packet's header."""

Packet: TypeAlias = tuple[int, int, int, bytes, int, int, int]
"""number from 1, nanoseconds since 1970, link type, a buffer, where in it the packet begins and ends, and
how many bytes it had on the wire. A tuple, because there are a million in a gigabyte."""


@dataclass(slots=True)
class Secrets:
    """The text of a Decryption Secrets Block for SSH: key log lines."""

    text: str


@dataclass(slots=True)
class _Interface:
    """What an Interface Description Block says: `scale` of its time stamps as (multiplier, divisor)."""

    link: int
    snaplen: int
    scale: tuple[int, int]
    offset: int


def kind_of(start: bytes) -> str | None:
    """Which container a file is that begins with `start` (4 bytes will do): "pcap", "pcapng" or None."""
    if len(start) >= 4:
        if start[:4] == b"\x0a\x0d\x0d\x0a":
            return "pcapng"
        if any(int.from_bytes(start[:4], order) in _PCAP for order in ("little", "big")):
            return "pcap"
    return None


class Packets:
    """Reads the packets of an open file, which is not closed; iterate once.

    Raises CaptureError at once where it is neither pcap nor pcapng. Whatever is wrong further on ends up in
    `problems`. A file that gzip packed is unpacked on the way.
    """

    def __init__(self, file: BinaryIO, name: str = "the file") -> None:
        self.problems: dict[str, Problem] = {}
        self._read_more: Callable[[int], bytes] = file.read
        self._name = name
        self._buffer = b""
        self._at = 0
        self._gone = 0  # bytes of the file before the buffer
        self._number = 0
        self._fill(2)
        if self._buffer[:2] == b"\x1f\x8b":
            self._unpack(file)
        self._fill(24)
        if not self._buffer:
            raise CaptureError(f"{name} is empty")
        kind = kind_of(self._buffer)
        if kind is None:
            raise CaptureError(
                f"{name} is neither pcap nor pcapng",
                hint="tcpdump -w FILE writes one; so does strace -o FILE with the flags of glasshell strace",
            )
        self._read = self._pcap if kind == "pcap" else self._pcapng

    def __iter__(self) -> Iterator[Packet | Secrets]:
        return self._read()

    # -- bytes -----------------------------------------------------------------------------------

    def _unpack(self, file: BinaryIO) -> None:
        """Starts again, with what gzip holds."""
        packed: Any = _Joined(self._buffer, file)
        self._read_more = gzip.GzipFile(fileobj=packed, mode="rb").read1  # of a file cut short, what there is
        self._buffer = b""

    def _fill(self, size: int) -> bool:
        """Whether `size` bytes are at hand from `_at` on, after reading as far as needed."""
        missing = size - (len(self._buffer) - self._at)
        if missing <= 0:
            return True
        parts = [self._buffer[self._at :]]
        self._gone += self._at
        self._at = 0
        try:
            while missing > 0 and (more := self._read_more(max(missing, CHUNK))):
                parts.append(more)
                missing -= len(more)
        except (OSError, EOFError, zlib.error) as error:
            self._wrong(f"{self._name} cannot be read further: {error}")
        self._buffer = b"".join(parts)
        return missing <= 0

    def _wrong(self, what: str) -> None:
        note(self.problems, what, self._number + 1)

    def _cut_short(self) -> None:
        if len(self._buffer) > self._at:
            self._wrong("the file ends in the middle of a packet")

    def _damaged(self, why: str) -> None:
        self._wrong(f"the file is damaged at byte {self._gone + self._at}, nothing behind is read: {why}")

    # -- pcap ------------------------------------------------------------------------------------

    def _pcap(self) -> Iterator[Packet]:
        magic = int.from_bytes(self._buffer[:4], "little")
        order = "<" if magic in _PCAP else ">"
        unit, header = _PCAP[int.from_bytes(self._buffer[:4], "little" if order == "<" else "big")]
        if not self._fill(24):
            return self._cut_short()
        link = struct.unpack_from(order + "I", self._buffer, 20)[0] & 0x03FFFFFF  # above: length of the FCS
        record = struct.Struct(order + "IIII").unpack_from
        self._at = 24
        while self._fill(header):
            seconds, fraction, captured, original = record(self._buffer, self._at)
            if captured > MAX_PACKET:
                return self._damaged(f"a packet of {captured:,} bytes")
            if not self._fill(header + captured):
                break
            start = self._at + header
            self._at = end = start + captured
            self._number += 1
            time = seconds * 1_000_000_000 + fraction * unit
            yield self._number, time, link, self._buffer, start, end, max(original, captured)
        self._cut_short()

    # -- pcapng ----------------------------------------------------------------------------------

    def _pcapng(self) -> Iterator[Packet | Secrets]:
        order = "<"
        interfaces: list[_Interface] = []
        item: Packet | Secrets | None
        while self._fill(12):
            kind, size = struct.unpack_from(order + "II", self._buffer, self._at)
            if kind == SECTION:
                found = self._byte_order()
                if found is None:
                    return self._damaged("a section without byte order")
                order, interfaces = found, []
                size = struct.unpack_from(order + "I", self._buffer, self._at + 4)[0]
            if size < 12 or size > MAX_BLOCK:
                return self._damaged(f"a block of {size:,} bytes")
            size += -size % 4
            if not self._fill(size):
                break
            start, end = self._at + 8, self._at + size - 4
            self._at += size
            if kind in (ENHANCED_PACKET, OLD_PACKET):
                item = self._packet(order, kind, start, end, interfaces)
            else:
                item = self._rare(order, kind, start, end, interfaces)
            if item is not None:
                yield item
        self._cut_short()

    def _rare(
        self, order: str, kind: int, start: int, end: int, interfaces: list[_Interface]
    ) -> Packet | Secrets | None:
        """Every block that is not a packet as usual."""
        if kind == SIMPLE_PACKET:
            return self._simple(order, start, end, interfaces)
        if kind == SECRETS:
            return self._secrets(order, start, end)
        if kind == INTERFACE:
            self._interface(order, start, end, interfaces)
        elif kind == JOURNAL:
            self._number += 1  # to Wireshark an entry of the journal is a frame
        return None

    def _byte_order(self) -> str | None:
        for order in "<>":
            if struct.unpack_from(order + "I", self._buffer, self._at + 8)[0] == _BYTE_ORDER:
                return order
        return None

    def _interface(self, order: str, start: int, end: int, interfaces: list[_Interface]) -> None:
        if end - start < 8 or len(interfaces) >= MAX_INTERFACES:
            self._wrong("an interface without description, or too many")
            return
        link, _, snaplen = struct.unpack_from(order + "HHI", self._buffer, start)
        options = _options(self._buffer[start + 8 : end], order)
        resolution = options.get(9, b"\x06")
        exponent = resolution[0] & 0x7F if resolution else 6
        divisor = 2**exponent if resolution[:1] >= b"\x80" else 10**exponent
        scale = (1_000_000_000 // divisor, 1) if 1_000_000_000 % divisor == 0 else (1_000_000_000, divisor)
        moved = options.get(14, b"")
        offset = struct.unpack(order + "q", moved)[0] if len(moved) == 8 else 0
        interfaces.append(_Interface(link, snaplen, scale, offset * 1_000_000_000))

    def _packet(
        self, order: str, kind: int, start: int, end: int, interfaces: list[_Interface]
    ) -> Packet | None:
        self._number += 1
        if end - start < 20:
            note(self.problems, LOST, self._number)
            return None
        number, high, low, captured, original = struct.unpack_from(order + "IIIII", self._buffer, start)
        if kind == OLD_PACKET:  # two bytes of interface, two of dropped packets
            number = struct.unpack_from(order + "H", self._buffer, start)[0]
        if number >= len(interfaces) or captured > end - start - 20:
            note(self.problems, LOST, self._number)
            return None
        interface = interfaces[number]
        multiplier, divisor = interface.scale
        time = (high << 32 | low) * multiplier // divisor + interface.offset
        start += 20
        end = start + captured
        return self._number, time, interface.link, self._buffer, start, end, max(original, captured)

    def _simple(self, order: str, start: int, end: int, interfaces: list[_Interface]) -> Packet | None:
        """A packet without time, of the section's first interface; the snapshot length says its size."""
        self._number += 1
        if end - start < 4 or not interfaces:
            note(self.problems, LOST, self._number)
            return None
        original = struct.unpack_from(order + "I", self._buffer, start)[0]
        captured = min(original, interfaces[0].snaplen or original, end - start - 4)
        start += 4
        return self._number, 0, interfaces[0].link, self._buffer, start, start + captured, original

    def _secrets(self, order: str, start: int, end: int) -> Secrets | None:
        if end - start < 8:
            self._wrong("a block of secrets without its header")
            return None
        kind, size = struct.unpack_from(order + "II", self._buffer, start)
        if kind != SSH_KEY_LOG:
            return None
        return Secrets(self._buffer[start + 8 : min(start + 8 + size, end)].decode("utf-8", "replace"))


def _options(data: bytes, order: str) -> dict[int, bytes]:
    """The options of a block by their codes; the first of each, as far as they can be read."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        code, size = struct.unpack_from(order + "HH", data, at)
        if code == 0:
            break
        found.setdefault(code, data[at + 4 : at + 4 + size])
        at += 4 + size + -size % 4
    return found


class _Joined:
    """A file, the first bytes of which have been read already."""

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self._start = start
        self._file = file

    def read(self, size: int) -> bytes:
        taken, self._start = self._start[:size], self._start[size:]
        return taken or self._file.read(size)
