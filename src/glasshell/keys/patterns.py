"""Patterns of host names and addresses (ssh_config(5), PATTERNS): `*`, `?`, lists, `!`, and CIDR."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TypeAlias

from ..errors import KeyFormatError
from ..wire import visible

__all__ = ["Address", "match_addresses", "match_list", "match_pattern", "parse_address", "parse_network"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def match_pattern(text: str, pattern: str) -> bool:
    """Whether `pattern` fits the whole of `text`; `*` is any run of characters, `?` any one of them.

    Each piece between two stars is taken at the first place where it fits, and never again at
    another: with stars on both sides no later choice could do better, so nothing is tried twice.
    """
    if "*" not in pattern and "?" not in pattern:
        return text == pattern
    head, *pieces = pattern.split("*")
    if not _fits(text, 0, head) or (not pieces and len(head) != len(text)):
        return False
    pos = len(head)
    for piece in pieces[:-1]:
        found = _find(text, piece, pos)
        if found < 0:
            return False
        pos = found + len(piece)
    tail = pieces[-1] if pieces else ""
    return len(text) - len(tail) >= pos and _fits(text, len(text) - len(tail), tail)


def _fits(text: str, pos: int, piece: str) -> bool:
    if "?" not in piece:
        return text.startswith(piece, pos)
    part = text[pos : pos + len(piece)]
    return len(part) == len(piece) and all(p in ("?", c) for p, c in zip(piece, part, strict=True))


def _find(text: str, piece: str, pos: int) -> int:
    if "?" not in piece:
        return text.find(piece, pos)
    return next((i for i in range(pos, len(text) - len(piece) + 1) if _fits(text, i, piece)), -1)


def match_list(text: str, patterns: Iterable[str]) -> bool:
    """Whether one of `patterns` fits `text` and no pattern with `!` before it does; case does not matter."""
    text = text.lower()
    found = False
    for pattern in patterns:
        negated = pattern.startswith("!")
        if match_pattern(text, pattern[negated:].lower()):
            if negated:
                return False
            found = True
    return found


def parse_address(text: str) -> Address | None:
    """The IP address in `text`, an IPv4 one where IPv6 only wraps it; None for what is no address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    wrapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return wrapped or address


def parse_network(pattern: str) -> Network | None:
    """The network in `pattern`, a lone address being its own; None for a pattern of names.

    Raises KeyFormatError for a `/` without a network, or with address bits past the mask.
    """
    _, slash, mask = pattern.partition("/")
    try:
        if slash and not mask.isdecimal():  # ipaddress would take 255.255.255.0, and 0.0.0.255
            raise ValueError
        return ipaddress.ip_network(pattern)
    except ValueError:
        if slash:
            raise KeyFormatError(f'"{visible(pattern)}" is no network in CIDR form') from None
        return None


def match_addresses(address: str, hostname: str | None, patterns: Iterable[str]) -> bool:
    """Whether a peer at `address`, named `hostname` where the name is known, is in the list (`from="..."`).

    One pattern has to fit the address or the name, and none with `!` either of them. Raises
    KeyFormatError for a list that cannot be read.
    """
    peer = parse_address(address)
    names = [str(peer) if peer is not None else address.lower()]
    if hostname is not None:
        names.append(hostname.lower())
    found = False
    for pattern in patterns:
        negated = pattern.startswith("!")
        bare = pattern[negated:].lower()
        network = parse_network(bare)
        if network is not None:
            hit = peer is not None and peer in network
        else:
            hit = any(match_pattern(name, bare) for name in names)
        if hit and negated:
            return False
        found = found or hit
    return found
