"""TCP segments made up around bytes that were really sent, for a capture without root and without tcpdump.

Sequence numbers begin at 0, so that they count bytes. A segment acknowledges all that its sender has got; one
that carries nothing is made where much would else stay without an answer. No segment is lost, sent twice or
out of order: what is told here is what the sockets saw, after TCP had done its work.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

MAX_DATA: Final = 65_435
"""Bytes of data in one segment: an IP packet of at most 65,495 bytes, as on Linux's loopback."""
MAX_UNANSWERED: Final = 8 * 1024 * 1024
"""Bytes of one side after which the other acknowledges without having anything to say."""

_WINDOW: Final = 65_535
_SCALE: Final = 14
_SYN_OPTIONS: Final = struct.pack(">BBHBBBB", 2, 4, MAX_DATA, 1, 3, 3, _SCALE)
"""Maximum segment size, and a window of a gigabyte (RFC 9293 §3.2, RFC 7323 §2.2): never full."""
_TCP: Final = struct.Struct(">HHIIBBHHH")
_PROTOCOL: Final = 6

UNKNOWN: Final = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
"""Addresses of documentation (RFC 5737, RFC 3849) for a client and a server that are not known."""
UNKNOWN_PORTS: Final = (49152, 22)


class End(NamedTuple):
    """One end: address, port, and an Ethernet address of our making (locally administered)."""

    address: Address
    port: int
    ethernet: bytes


def known(text: str) -> Address | None:
    """The address in `text`, without its zone; None: there is none. IPv4 written as IPv6 is IPv4."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def ends(client: tuple[str, int], server: tuple[str, int]) -> tuple[End, End]:
    """Both ends of a connection; what is not known, or of another family, gets a place of documentation."""
    addresses = known(client[0]), known(server[0])
    version = next((each.version for each in reversed(addresses) if each), 4)
    made = []
    for index, (found, place) in enumerate(zip(addresses, (client, server), strict=True)):
        fits = found is not None and found.version == version
        address = found if found is not None and fits else ip_address(UNKNOWN[version][index])
        port = place[1] if fits else UNKNOWN_PORTS[index]
        made.append(End(address, port, bytes((2, 0, 0, 0, 0, index + 1))))
    return made[0], made[1]


class Conversation:
    """One TCP connection. Every call yields Ethernet frames, in order; `client` says which side sends."""

    def __init__(self, client: End, server: End) -> None:
        self._ends = {True: client, False: server}
        self._next = {True: 0, False: 0}
        """The sequence number of each side's next byte."""
        self._unanswered = {True: 0, False: 0}

    def syn(self, *, client: bool) -> Iterator[bytes]:
        """The first segment of a side; the server's answers the client's."""
        yield self._frame(client, SYN if client else SYN | ACK, options=_SYN_OPTIONS)
        self._next[client] += 1

    def acknowledge(self, *, client: bool) -> Iterator[bytes]:
        """A segment without data."""
        yield self._frame(client, ACK)

    def data(self, data: bytes, *, client: bool) -> Iterator[bytes]:
        """`data` in as many segments as it takes; the last one is pushed."""
        for start in range(0, len(data), MAX_DATA):
            piece = data[start : start + MAX_DATA]
            yield self._frame(client, ACK | (PSH if start + len(piece) == len(data) else 0), piece)
            self._next[client] = (self._next[client] + len(piece)) % (1 << 32)
            self._unanswered[client] += len(piece)
            if self._unanswered[client] > MAX_UNANSWERED:
                yield from self.acknowledge(client=not client)

    def fin(self, *, client: bool) -> Iterator[bytes]:
        """A side sends nothing more."""
        yield self._frame(client, FIN | ACK)
        self._next[client] = (self._next[client] + 1) % (1 << 32)

    def reset(self, *, client: bool) -> Iterator[bytes]:
        """A side has given the connection up."""
        yield self._frame(client, RST | ACK)

    def _frame(self, client: bool, flags: int, data: bytes = b"", options: bytes = b"") -> bytes:
        source, destination = self._ends[client], self._ends[not client]
        answered = self._next[not client] if flags & ACK else 0
        self._unanswered[not client] = 0
        head = _TCP.pack(
            source.port, destination.port, self._next[client], answered,
            (_TCP.size + len(options)) // 4 << 4, flags, _WINDOW, 0, 0,
        )  # fmt: skip
        segment = head + options + data
        pseudo = source.address.packed + destination.address.packed
        sum_ = checksum(pseudo + struct.pack(">II", len(segment), _PROTOCOL) + segment)
        segment = b"".join((segment[:16], struct.pack(">H", sum_), segment[18:]))
        kind = b"\x08\x00" if source.address.version == 4 else b"\x86\xdd"
        return b"".join((
            destination.ethernet, source.ethernet, kind,
            _ip_head(source.address, destination.address, len(segment)), segment,
        ))  # fmt: skip


def _ip_head(source: Address, destination: Address, size: int) -> bytes:
    """The IP header before `size` bytes: RFC 791 §3.1 or RFC 8200 §3."""
    places = source.packed + destination.packed
    if source.version == 6:
        return struct.pack(">IHBB", 6 << 28, size, _PROTOCOL, 64) + places
    fields = (0x45, 0, 20 + size, 0, 0x4000, 64, _PROTOCOL)  # never fragmented: no identification is needed
    sum_ = checksum(struct.pack(">BBHHHBBH", *fields, 0) + places)
    return struct.pack(">BBHHHBBH", *fields, sum_) + places


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071) of data that is not all zeros.

    A sum with the carry brought round is the remainder by 65,535, and Python divides large numbers fast.
    """
    number = int.from_bytes(data + b"\0" if len(data) % 2 else data, "big")
    return 0xFFFF - (number % 0xFFFF or 0xFFFF)
