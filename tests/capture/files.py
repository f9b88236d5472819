"""Capture files made by hand: pcap and pcapng blocks (draft-ietf-opsawg-pcap, -pcapng), and the layers."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import ip_address

Packet = tuple[float, bytes]


def pcap(
    packets: Iterable[bytes], *, link: int = 1, order: str = "<", nano: bool = False, snaplen: int = 262_144
) -> bytes:
    """A pcap; the packets are a second apart."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link)]
    for second, packet in enumerate(packets):
        parts.append(struct.pack(order + "IIII", second, 7, len(packet[:snaplen]), len(packet)))
        parts.append(packet[:snaplen])
    return b"".join(parts)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(link: int = 1, snaplen: int = 0, options: bytes = b"", order: str = "<") -> bytes:
    return block(1, struct.pack(order + "HHI", link, 0, snaplen) + options, order)


def enhanced(
    packet: bytes,
    *,
    interface: int = 0,
    time: int = 0,
    order: str = "<",
    original: int = 0,
    options: bytes = b"",
) -> bytes:
    header = struct.pack(
        order + "IIIII", interface, time >> 32, time & 0xFFFFFFFF, len(packet), original or len(packet)
    )
    return block(6, header + packet + bytes(-len(packet) % 4) + options, order)


def old(packet: bytes, *, interface: int = 0, time: int = 0) -> bytes:
    header = struct.pack("<HHIIII", interface, 0, time >> 32, time & 0xFFFFFFFF, len(packet), len(packet))
    return block(2, header + packet)


def simple(packet: bytes, original: int = 0) -> bytes:
    return block(3, struct.pack("<I", original or len(packet)) + packet)


def secrets(text: bytes, kind: int = 0x5353484B) -> bytes:
    return block(10, struct.pack("<II", kind, len(text)) + text)


def tcp(
    payload: bytes = b"", *, seq: int = 1, flags: int = 0x18, ports: tuple[int, int] = (50000, 22)
) -> bytes:
    return struct.pack(">HHIIBBHHH", *ports, seq, 1, 5 << 4, flags, 1000, 0, 0) + payload


def udp(payload: bytes, port: int) -> bytes:
    return struct.pack(">HHHH", 40000, port, len(payload) + 8, 0) + payload


def ipv4(
    payload: bytes, protocol: int = 6, *, options: bytes = b"", offset: int = 0, more: bool = False,
    ident: int = 7, source: str = "192.0.2.1", destination: str = "192.0.2.2", length: int | None = None,
) -> bytes:  # fmt: skip
    header = 20 + len(options)
    total = header + len(payload) if length is None else length
    return (
        struct.pack(
            ">BBHHHBBH",
            0x40 | header // 4,
            0,
            total,
            ident,
            (0x2000 if more else 0) | offset // 8,
            64,
            protocol,
            0,
        )
        + ip_address(source).packed
        + ip_address(destination).packed
        + options
        + payload
    )


def ipv6(
    payload: bytes, following: int = 6, *, source: str = "2001:db8::1", destination: str = "2001:db8::2"
) -> bytes:
    ends = ip_address(source).packed + ip_address(destination).packed
    return struct.pack(">IHBB", 6 << 28, len(payload), following, 64) + ends + payload


def ethernet(payload: bytes, kind: int = 0x0800) -> bytes:
    return bytes.fromhex("020000000001020000000002") + struct.pack(">H", kind) + payload
