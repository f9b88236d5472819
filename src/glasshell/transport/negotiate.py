"""RFC 4253 §7.1: which algorithms two KEXINITs agree on, and why each choice fell so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from ..crypto.registry import CipherAlgorithm, Kind, find
from ..errors import NegotiationFailed
from ..events import Negotiated
from ..messages.transport import KexInit
from .rules import Role

STRICT: Final = {"client": "kex-strict-c-v00@openssh.com", "server": "kex-strict-s-v00@openssh.com"}
"""Markers of strict key exchange, by who sends them (OpenSSH PROTOCOL, strict key exchange)."""
EXT_INFO: Final = {"client": "ext-info-c", "server": "ext-info-s"}
"""Markers that EXT_INFO is understood, by who sends them (RFC 8308 §2.1)."""
_MARKERS: Final = frozenset((*STRICT.values(), *EXT_INFO.values()))

_SMALL: Final = 128
"""Most names in two lists whose choice is kept."""
_TOLD: Final = 16
"""Most names of a peer's list that a reason repeats: a list may hold a hundred thousand."""

IMPLICIT: Final = "<implicit>"
"""Stands for the MAC of a cipher that authenticates itself, as in OpenSSH's log."""


def is_aead(cipher: str) -> bool:
    """Whether a cipher of the registry brings its own tag, so that no MAC is negotiated."""
    row = find(Kind.CIPHER, cipher)
    assert isinstance(row, CipherAlgorithm)
    return row.aead


def negotiate(
    ours: KexInit, theirs: KexInit, role: Role, *, first: bool, aead: Callable[[str], bool] = is_aead
) -> Negotiated:
    """The algorithms that both sides take, by the rule of RFC 4253 §7.1.

    `role` is ours. The markers count only in the `first` key exchange. `aead` knows which ciphers need
    no MAC: whoever watches others meets ciphers that the registry has not. Raises NegotiationFailed,
    which names the kind and carries both lists.
    """
    client, server = (ours, theirs) if role == "client" else (theirs, ours)
    peer: Role = "server" if role == "client" else "client"
    why: dict[str, str] = {}

    def choose(kind: Kind, field: str, label: str) -> str:
        wanted, offered = getattr(client, field), getattr(server, field)
        small = len(wanted) + len(offered) <= _SMALL
        chosen, reason = _choose_again(wanted, offered) if small else _choose(wanted, offered)
        if not chosen:
            mine, other = getattr(ours, field), getattr(theirs, field)
            raise _no_match(kind, _plain(mine), _plain(other))
        why[label] = reason
        return chosen

    def mac(cipher: str, direction: str, label: str) -> str:
        if aead(cipher):
            why[label] = f"{cipher} authenticates its packets itself"
            return IMPLICIT
        return choose(Kind.MAC, f"mac_algorithms_{direction}", label)

    c2s, s2c = "client_to_server", "server_to_client"
    kex = choose(Kind.KEX, "kex_algorithms", "kex")
    host_key = choose(Kind.HOST_KEY, "server_host_key_algorithms", "host_key")
    cipher_c2s = choose(Kind.CIPHER, f"encryption_algorithms_{c2s}", "cipher_c2s")
    cipher_s2c = choose(Kind.CIPHER, f"encryption_algorithms_{s2c}", "cipher_s2c")
    return Negotiated(
        kex=kex,
        host_key=host_key,
        cipher_c2s=cipher_c2s,
        cipher_s2c=cipher_s2c,
        mac_c2s=mac(cipher_c2s, c2s, "mac_c2s"),
        mac_s2c=mac(cipher_s2c, s2c, "mac_s2c"),
        compression_c2s=choose(Kind.COMPRESSION, f"compression_algorithms_{c2s}", "compression_c2s"),
        compression_s2c=choose(Kind.COMPRESSION, f"compression_algorithms_{s2c}", "compression_s2c"),
        strict=first and STRICT[role] in ours.kex_algorithms and STRICT[peer] in theirs.kex_algorithms,
        peer_ext_info=first and EXT_INFO[peer] in theirs.kex_algorithms,
        why=_one_why(tuple(why.items())),
    )


@lru_cache(maxsize=64)
def _one_why(reasons: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The same reasons are kept once, however many connections have them."""
    return dict(reasons)


def guess_is_right(client: KexInit, server: KexInit) -> bool:
    """Whether a packet guessed after KEXINIT counts: the first kex and host key algorithms agree (§7.1)."""
    return (
        client.kex_algorithms[:1] == server.kex_algorithms[:1]
        and client.server_host_key_algorithms[:1] == server.server_host_key_algorithms[:1]
    )


def _choose(wanted: Sequence[str], offered: Sequence[str]) -> tuple[str, str]:
    """The first of the client's names that the server has too, and the reason in words."""
    wanted, offered = _plain(wanted), _plain(offered)
    passed: list[str] = []
    for name in wanted:
        if name in offered:
            return name, _reason(len(wanted), passed, offered.index(name), offered)
        passed.append(name)
    return "", ""


_choose_again: Final = lru_cache(maxsize=128)(_choose)
"""The lists of two programs meet again and again: each pair is judged, and the reason kept, once."""


def _reason(count: int, passed: Sequence[str], place: int, offered: Sequence[str]) -> str:
    if passed:
        more = f" and {len(passed) - _TOLD} more" if len(passed) > _TOLD else ""
        told = (
            f"the client's choice {len(passed) + 1} of {count}; "
            f"the server does not have {', '.join(passed[:_TOLD])}{more}"
        )
    else:
        told = "the client's first choice"
    if place == 0:
        return f"{told}{' and' if not passed else ','} the server's first too"
    return f"{told}; the server would have put {offered[0]} first, but the client's order decides"


def _plain(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in _MARKERS)


def _no_match(kind: Kind, ours: tuple[str, ...], theirs: tuple[str, ...]) -> NegotiationFailed:
    return NegotiationFailed(
        f"no matching {kind.value} found. Their offer: {','.join(theirs)}",
        what=kind.value, ours=ours, theirs=theirs,
        hint=f"Ours: {','.join(ours)}. Allow one that both have with -o {_OPTION[kind]}=+NAME.",
    )  # fmt: skip


_OPTION: Final = {
    Kind.KEX: "KexAlgorithms",
    Kind.HOST_KEY: "HostKeyAlgorithms",
    Kind.CIPHER: "Ciphers",
    Kind.MAC: "MACs",
    Kind.COMPRESSION: "Compression",
}
