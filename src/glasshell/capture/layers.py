"""From the link layer up to TCP, one layer at a time: every packet that is not plain IP on Ethernet.

dpkt reads the headers it has. It is kept to one layer: left to itself it goes on to the applications,
guesses them by port, and raises what their parsers raise.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple, TypeAlias

import dpkt  # type: ignore[import-untyped]

from .problems import Problem, note

__all__ = ["ETHERNET", "LINKS", "Layers", "Segment", "address"]

ETHERNET: Final = 1

MAX_DEPTH: Final = 24
"""Headers below TCP in one packet."""

MAX_FRAGMENTED: Final = 256
"""Datagrams that wait for fragments; the oldest gives way."""

MAX_FRAGMENTS: Final = 8_192
"""Fragments of one datagram: more than 64 KiB can be cut into."""

_TCP, _UDP = 6, 17

_VXLAN: Final = frozenset({4789, 8472})
"""UDP ports of VXLAN: RFC 7348 §5, and Linux's before there was one."""

_GENEVE: Final = 6081
"""UDP port of Geneve: RFC 8926 §3.3."""


class Segment(NamedTuple):
    """A TCP segment; `missing` bytes of its payload are not in the file."""

    source: str
    destination: str
    source_port: int
    destination_port: int
    seq: int
    ack: int
    flags: int
    payload: bytes
    missing: int


class _Broken(Exception):
    """A header that makes no sense; says which."""


Step: TypeAlias = "tuple[Callable[[bytes], Step], bytes] | Segment | None"
"""What to read next and where it is; the segment; or nothing of interest."""


class _Ipv4(dpkt.ip.IP):  # type: ignore[misc]
    """Without the layers above."""

    _protosw: Final[dict[int, Any]] = {}


class _Ipv6(dpkt.ip6.IP6):  # type: ignore[misc]
    """Without the layers above."""

    _protosw: Final[dict[int, Any]] = {}


class _Cooked(dpkt.sll.SLL):  # type: ignore[misc]
    """Without the layers above."""

    _typesw: Final[dict[int, Any]] = {}


class _Cooked2(dpkt.sll2.SLL2):  # type: ignore[misc]
    """Without the layers above."""

    _typesw: Final[dict[int, Any]] = {}


@dataclass(slots=True)
class _Pieces:
    """The fragments of one datagram so far; `total` is known from the last."""

    parts: dict[int, bytes] = field(default_factory=dict)
    total: int | None = None
    _starts: list[int] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)
    """What the parts cover, in stretches that do not touch."""

    def add(self, offset: int, part: bytes) -> None:
        """One more; of two at the same place the first is kept."""
        if not part or offset in self.parts:
            return
        self.parts[offset] = part
        low = bisect_left(self._ends, offset)
        high = bisect_right(self._starts, offset + len(part))
        start, end = offset, offset + len(part)
        if low < high:
            start, end = min(start, self._starts[low]), max(end, self._ends[high - 1])
        self._starts[low:high], self._ends[low:high] = [start], [end]

    def whole(self) -> bytes | None:
        """The datagram's payload, if nothing of it is missing; where fragments overlap, the first wins."""
        if self.total is None or self._starts[:1] != [0] or self._ends[0] < self.total:
            return None
        joined = b""
        for offset, part in sorted(self.parts.items()):
            if offset > len(joined):
                return None
            joined += part[len(joined) - offset :]
        return joined[: self.total] if len(joined) >= self.total else None


def address(packed: bytes) -> str:
    """An IP address (4 or 16 bytes) as Wireshark writes it."""
    if len(packed) == 4:
        return str(IPv4Address(packed))
    parsed = IPv6Address(packed)
    mapped = parsed.ipv4_mapped
    return f"::ffff:{mapped}" if mapped else str(parsed)


class Layers:
    """Finds the TCP segment in a packet. What is broken is noted in `problems`."""

    def __init__(self, problems: dict[str, Problem]) -> None:
        self._problems = problems
        self._fragments: dict[tuple[Any, ...], _Pieces] = {}
        self._ends = ("", "")
        self.outer: tuple[tuple[str, str], ...] = ()
        """Source and destination of the IP headers around the innermost one of the latest packet."""
        self._missing = 0
        self._links: dict[int, Callable[[bytes], Step]] = {
            number: getattr(self, name) for number, name in LINKS.items()
        }
        self._types: dict[int, Callable[[bytes], Step]] = {
            0x0800: self._ipv4, 0x86DD: self._ipv6, 0x8100: self._vlan, 0x88A8: self._vlan,
            0x9100: self._vlan, 0x9200: self._vlan, 0x8847: self._mpls, 0x8848: self._mpls,
            0x8864: self._pppoe, 0x6558: self._ethernet, 0x880B: self._ppp, 0x88BE: self._ethernet,
        }  # fmt: skip
        self._protocols: dict[int, Callable[[bytes], Step]] = {
            _TCP: self._tcp, _UDP: self._udp, 4: self._ipv4, 41: self._ipv6, 47: self._gre, 51: self._ah,
            137: self._mpls,
        }  # fmt: skip

    def segment(self, link: int, packet: bytes, cut: int, number: int) -> Segment | None:
        """The segment in frame `number`, None where there is none; `cut`: bytes the file has not of it."""
        read = self._links.get(link)
        if read is None:
            note(self._problems, f"link type {link} is not read", number)
            return None
        self._missing = cut
        self._ends, self.outer = ("", ""), ()
        step: Step = (read, packet)
        try:
            for _ in range(MAX_DEPTH):
                if step is None or isinstance(step, Segment):
                    return step
                step = step[0](step[1])
            note(self._problems, "headers nested too deep", number)
        except _Broken as broken:
            note(self._problems, str(broken), number)
        except Exception as error:  # dpkt's parsers raise whatever comes up, on bytes that anyone may send
            note(self._problems, f"a header that cannot be read ({type(error).__name__})", number)
        return None

    # -- the link --------------------------------------------------------------------------------

    def _ethernet(self, data: bytes) -> Step:
        return self._ethertype(_u16(data, 12), data[14:])

    def _ethertype(self, kind: int, data: bytes) -> Step:
        if kind <= 1500:  # IEEE 802.3: a length, and LLC behind it
            return self._llc, data
        read = self._types.get(kind)
        return (read, data) if read else None

    def _llc(self, data: bytes) -> Step:
        if data[:3] == b"\xaa\xaa\x03":  # SNAP: an organisation, and a type of its own
            return self._ethertype(max(_u16(data, 6), 1501), data[8:])
        return (self._ipv4, data[3:]) if data[:3] == b"\x06\x06\x03" else None

    def _vlan(self, data: bytes) -> Step:
        return self._ethertype(dpkt.ethernet.VLANtag8021Q(data[:4]).type, data[4:])

    def _mpls(self, data: bytes) -> Step:
        last = next((at for at, byte in enumerate(data[2::4]) if byte & 1), None)  # RFC 3032 §2.1: bit S
        if last is None:
            raise _Broken("MPLS labels none of which is the last")
        data = data[4 * last + 4 :]
        version = data[:1] and data[0] >> 4
        if version in (4, 6):
            return self._ip, data
        # A pseudowire: its control word begins with a zero nibble (RFC 4385 §3).
        return self._ethernet, data[4:] if version == 0 else data

    def _cooked(self, data: bytes) -> Step:
        header = _Cooked(data)
        return (self._llc, header.data) if header.ethtype == 4 else self._above(header.ethtype, header.data)

    def _cooked2(self, data: bytes) -> Step:
        header = _Cooked2(data)
        return (self._llc, header.data) if header.ethtype == 4 else self._above(header.ethtype, header.data)

    def _above(self, kind: int, data: bytes) -> Step:
        read = self._types.get(kind)
        return (read, data) if read else None

    def _ip(self, data: bytes) -> Step:
        version = data[0] >> 4 if data else 0
        return (self._ipv4, data) if version == 4 else (self._ipv6, data) if version == 6 else None

    def _null(self, data: bytes) -> Step:
        """BSD's loopback: an address family, in the byte order of whoever captured."""
        return (self._ip, data[4:]) if {data[0], data[3]} & {2, 10, 24, 28, 30} else None

    def _infiniband(self, data: bytes) -> Step:
        """IP over InfiniBand (RFC 4391 §6) behind two hardware addresses of 20 bytes."""
        return self._ethertype(_u16(data, 40), data[44:])

    def _pppoe(self, data: bytes) -> Step:
        return self._ppp, data[6:]

    def _ppp(self, data: bytes) -> Step:
        if data[:2] == b"\xff\x03":
            data = data[2:]
        size = 1 if data[0] & 1 else 2  # RFC 1661 §6.5
        kind = int.from_bytes(data[:size], "big")
        read = {0x21: self._ipv4, 0x57: self._ipv6, 0x281: self._mpls}.get(kind)
        return (read, data[size:]) if read else None

    def _hdlc(self, data: bytes) -> Step:
        return self._above(_u16(data, 2), data[4:])

    def _pktap(self, data: bytes) -> Step:
        """Apple's: the length of its header, and the link type behind."""
        size, _, link = struct.unpack_from("<III", data)
        read = self._links.get(link)
        return (read, data[size:]) if read and size >= 12 else None

    # -- IP --------------------------------------------------------------------------------------

    def _ipv4(self, data: bytes) -> Step:
        header = _Ipv4(data)
        if header.v != 4:
            raise _Broken("an IPv4 header of another version")
        size = header.hl * 4
        if header.len and header.len < size:
            raise _Broken("an IPv4 packet shorter than its header")
        self._between(address(header.src), address(header.dst))
        if header.len:  # 0: the network card was to cut it up (TSO)
            self._missing = max(header.len - len(data), 0)
        payload = bytes(header.data)
        if header.mf or header.offset:
            key = (header.src, header.dst, header.p, header.id)
            whole = self._fragment(key, header.offset * 8, payload, header.mf)
            if whole is None:
                return None
            payload = whole
        return self._protocol(header.p, payload)

    def _ipv6(self, data: bytes) -> Step:
        header = _Ipv6(data)
        if header.v != 6:
            raise _Broken("an IPv6 header of another version")
        self._between(address(header.src), address(header.dst))
        if header.plen:
            self._missing = max(40 + header.plen - len(data), 0)
        payload = bytes(header.data)
        kind = header.nxt
        for extension in header.all_extension_headers:
            kind = getattr(extension, "nxt", -1)  # what ESP holds is nobody's to see
            if isinstance(extension, dpkt.ip6.IP6FragmentHeader) and (extension.m_flag or extension.frag_off):
                key = (header.src, header.dst, kind, extension.id)
                whole = self._fragment(key, extension.frag_off * 8, payload, extension.m_flag)
                if whole is None:
                    return None
                payload = whole
        return self._protocol(kind, payload)

    def _between(self, source: str, destination: str) -> None:
        if self._ends[0]:
            self.outer += (self._ends,)
        self._ends = source, destination

    def _protocol(self, kind: int, data: bytes) -> Step:
        read = self._protocols.get(kind)
        return (read, data) if read else None

    def _fragment(self, key: tuple[Any, ...], offset: int, data: bytes, more: bool) -> bytes | None:
        """The whole datagram, once this fragment was the last to come."""
        if self._missing:
            raise _Broken("a fragment that the file cut off")
        if offset + len(data) > 65_535:
            raise _Broken("a fragment beyond the end of any datagram")
        pieces = self._fragments.pop(key, None) or _Pieces()
        if len(pieces.parts) < MAX_FRAGMENTS:
            pieces.add(offset, data)
        if not more and pieces.total is None:
            pieces.total = offset + len(data)
        whole = pieces.whole()
        if whole is None:
            self._fragments[key] = pieces
            if len(self._fragments) > MAX_FRAGMENTED:
                self._fragments.pop(next(iter(self._fragments)))
                raise _Broken("a datagram not all fragments of which came")
        return whole

    def _ah(self, data: bytes) -> Step:
        return self._protocol(data[0], data[(data[1] + 2) * 4 :])

    # -- tunnels ---------------------------------------------------------------------------------

    def _udp(self, data: bytes) -> Step:
        port = _u16(data, 2)
        if port in _VXLAN:
            return self._ethernet, data[16:]
        if port == _GENEVE and data[8:]:
            options = (data[8] & 0x3F) * 4
            return self._ethertype(max(_u16(data, 10), 1501), data[16 + options :])
        return None

    def _gre(self, data: bytes) -> Step:
        """RFC 2784, 2890, and with an acknowledgement RFC 2637."""
        flags, kind = struct.unpack_from(">HH", data)
        if flags & 0x4000:
            raise _Broken("a GRE header with source routes")
        size = 4 + sum(4 for bit in (0x8000, 0x2000, 0x1000) if flags & bit)
        if flags & 7 == 1 and flags & 0x80:
            size += 4
        if kind == 0x88BE and flags & 0x1000:  # ERSPAN with a header of its own
            size += 8
        return self._above(kind, data[size:])

    # -- TCP -------------------------------------------------------------------------------------

    def _tcp(self, data: bytes) -> Step:
        if len(data) < 14:
            raise _Broken("a TCP header that is cut short")
        source, destination, seq, ack, offset, flags = struct.unpack_from(">HHIIBB", data)
        size = (offset >> 4) * 4
        if size < 20 or size > len(data) + self._missing:
            raise _Broken("a TCP header longer than its packet, or too short")
        missing = self._missing - max(size - len(data), 0)
        return Segment(*self._ends, source, destination, seq, ack, flags, data[size:], missing)


def _u16(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">H", data, at)[0])


LINKS: Final = {
    ETHERNET: "_ethernet", 113: "_cooked", 276: "_cooked2", 12: "_ip", 14: "_ip", 101: "_ip", 228: "_ipv4",
    229: "_ipv6", 0: "_null", 108: "_null", 242: "_infiniband", 9: "_ppp", 50: "_ppp", 51: "_pppoe",
    104: "_hdlc", 258: "_pktap",
}  # fmt: skip
"""Link types (https://www.tcpdump.org/linktypes.html) and what reads them."""
