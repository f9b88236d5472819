"""The TCP segments of a capture file, in its order, each with the numbers Wireshark gives it.

Most packets are TCP in IP on Ethernet, without options or fragments: those are read here, four header
fields at a time, because an object for each header would take most of the time. All others go through
`layers`, which tells the same of every packet.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from ..errors import CaptureError, install
from ..observe.seen import Frame
from .containers import Packets, Secrets
from .problems import Problem

if TYPE_CHECKING:
    from .layers import Layers

__all__ = ["Frames"]

MAX_ENDS: Final = 16_384
"""Pairs of address and port whose text is kept; then it starts afresh."""

_TUNNELS: Final = frozenset({4, 17, 41, 47, 51, 137})
"""IP protocols that may hold another packet (17: UDP, by its port)."""

_IP_AND_TCP: Final = 40

_VLAN: Final = frozenset({0x8100, 0x88A8, 0x9100, 0x9200})

_type = struct.Struct(">H").unpack_from
_ipv4 = struct.Struct(">2xH2xHxB").unpack_from
_ipv6 = struct.Struct(">4xHB").unpack_from
_tcp = struct.Struct(">IIBB").unpack_from


class Frames:
    """Reads an open file of packets; iterate once.

    Yields a `Frame` for each TCP segment and a `Secrets` for each block of SSH secrets. `packets` is how many
    packets were read so far, `problems` what could not be used.

    Raises CaptureError where the file is neither pcap nor pcapng, or dpkt is missing.
    """

    def __init__(self, file: BinaryIO, name: str = "the file") -> None:
        self._packets = Packets(file, name)
        self.problems: dict[str, Problem] = self._packets.problems
        self.packets = 0
        self._layers = _layers(self.problems)
        self._ends: dict[bytes, tuple[str, str, int, int]] = {}

    def __iter__(self) -> Iterator[Frame | Secrets]:
        plain = self._plain
        for packet in self._packets:
            if isinstance(packet, Secrets):
                yield packet
                continue
            number, time, link, buffer, start, end, original = packet
            self.packets = number
            found: Any = plain(buffer, start, end) if link == 1 else True
            outer: tuple[tuple[str, str], ...] = ()
            if found is True:
                cut = original - (end - start)
                found = self._layers.segment(link, buffer[start:end], cut, number)
                outer = self._layers.outer
            if found:
                seconds = time / 1_000_000_000
                yield Frame(number, seconds, original, *found, time_ns=time, outer=outer)  # type: ignore[misc]

    def _plain(self, buffer: bytes, start: int, end: int) -> Any:
        """The fields of a `Segment`; False where there is none, True where `layers` must look."""
        at = start + 14
        if at + _IP_AND_TCP > end:
            return True
        kind = _type(buffer, at - 2)[0]
        while kind in _VLAN and at + 4 + _IP_AND_TCP <= end:
            kind = _type(buffer, at + 2)[0]
            at += 4
        if kind == 0x0800 and buffer[at] == 0x45:
            total, fragment, protocol = _ipv4(buffer, at)
            if protocol != 6:
                return protocol in _TUNNELS
            if fragment & 0x3FFF:
                return True
            stop = at + total
            tcp = at + 20
            key = buffer[at + 12 : tcp + 4]
        elif kind == 0x86DD and buffer[at] >> 4 == 6 and at + 60 <= end:
            total, protocol = _ipv6(buffer, at)
            if protocol != 6:
                return True
            tcp = at + 40
            stop = tcp + total
            key = buffer[at + 8 : tcp + 4]
        else:
            return kind != 0x0806  # ARP
        seq, ack, offset, flags = _tcp(buffer, tcp + 4)
        data = tcp + (offset >> 4) * 4
        if not total or data < tcp + 20 or data > stop or data > end:
            return True
        ends = self._ends.get(key) or self._name(key)
        if stop > end:
            return (*ends, seq, ack, flags, buffer[data:end], stop - end)
        return (*ends, seq, ack, flags, buffer[data:stop], 0)

    def _name(self, key: bytes) -> tuple[str, str, int, int]:
        from .layers import address

        if len(self._ends) >= MAX_ENDS:
            self._ends.clear()
        size = len(key) // 2 - 2
        source, destination = address(key[:size]), address(key[size : 2 * size])
        ports = struct.unpack(">HH", key[2 * size :])
        found = self._ends[key] = (source, destination, *ports)
        return found


def _layers(problems: dict[str, Problem]) -> Layers:
    try:
        from .layers import Layers
    except ModuleNotFoundError as error:
        raise CaptureError(f"{error.name} is not installed", hint=install("capture")) from None
    return Layers(problems)
