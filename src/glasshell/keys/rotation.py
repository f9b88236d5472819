"""Which of a host's keys are new, which are gone, and what becomes of known_hosts (UpdateHostKeys).

A server tells after the login which host keys it has (OpenSSH PROTOCOL §2.5). What is new counts once the
server has signed with it; what it has no more is taken out. Lines that stand for more than this host stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ..crypto.signatures import PublicKey, algorithms_for
from ..errors import CryptoError, KeyFormatError
from ..values import slotted
from ..wire import string
from .known_hosts import Entry, KnownHosts, format_entry, host_name
from .patterns import parse_address

__all__ = ["MAX_KEYS", "Rotation", "compare", "proof_data", "proven", "rewrite", "usable_keys"]

MAX_KEYS: Final = 64
"""Most keys that are taken of a server."""


@slotted(frozen=True)
class Rotation:
    """What has changed; `reason` says why nothing may be done about it, and is empty where it may."""

    offered: tuple[PublicKey, ...]
    """All keys of the server that can be used here, each once."""
    new: tuple[PublicKey, ...]
    gone: tuple[Entry, ...]
    reason: str = ""


def usable_keys(blobs: Sequence[bytes], algorithms: Sequence[str]) -> tuple[PublicKey, ...]:
    """The keys that this program can use and that `algorithms`, HostKeyAlgorithms, allows."""
    found: dict[bytes, PublicKey] = {}
    for blob in blobs[:MAX_KEYS]:
        try:
            key = PublicKey.from_blob(blob)
        except KeyFormatError:
            continue
        if any(name in algorithms for name in key.algorithms):
            found[key.blob] = key
    return tuple(found.values())


def compare(
    known: KnownHosts, host: str, port: int, offered: Sequence[PublicKey], *, address: str = ""
) -> Rotation:
    """What the server's keys are against the lines of the user's own files.

    `address`: that of the host, where it has to have the same keys (CheckHostIP). Nothing is done where a
    line about the host has a marker or a pattern, or names other hosts as well; nor where the files have one
    of these keys, shown or gone, under another name: that would part names that belong together. OpenSSH does
    the same, but takes any second name in a line for the host's address.
    """
    names = _names(host, port, address)
    entries = _about(known, host, port, address)
    blobs = {key.blob for key in offered}
    held = {entry.blob for entry in entries}
    new = tuple(key for key in offered if key.blob not in held)
    gone = tuple(entry for entry in entries if not entry.marker and entry.blob not in blobs)
    others = {entry.blob for entry in known.entries if entry not in entries}
    reason = ""
    if any(entry.marker for entry in entries):
        reason = "a marker"
    elif not all(entry.hashed or _simple(entry.hosts, names, any_address=not address) for entry in entries):
        reason = "a pattern, or several names"
    elif others & {*blobs, *(entry.blob for entry in gone)}:
        reason = "the same key under another name"
    return Rotation(tuple(offered), new, gone, reason)


def _names(host: str, port: int, address: str) -> tuple[str, ...]:
    return (host_name(host, port), host_name(address, port)) if address else (host_name(host, port),)


def _about(known: KnownHosts, host: str, port: int, address: str) -> tuple[Entry, ...]:
    """The lines about the host or its address, in the order of the files."""
    wanted = known.lookup(host, port) + (known.lookup(address, port) if address else ())
    return tuple(entry for entry in known.entries if entry in wanted)


def _simple(hosts: str, names: Sequence[str], *, any_address: bool) -> bool:
    """Whether a line is about the host alone: its name, its address, or both; ssh writes no others."""
    named = hosts.lower().split(",")
    if len(named) == 2 and named[0] == names[0] and any_address:
        return parse_address(named[1].removeprefix("[").partition("]")[0]) is not None
    return named[0] in names and named in ([named[0]], list(names))


def proof_data(session_id: bytes, key: PublicKey) -> bytes:
    """What the server signs to prove that it holds `key`."""
    return string(b"hostkeys-prove-00@openssh.com") + string(session_id) + string(key.blob)


def proven(key: PublicKey, signature: bytes, session_id: bytes, agreed: str) -> bool:
    """Whether `signature` proves it. An RSA key signs with the algorithm `agreed` for the host key where that
    is one of RSA's; otherwise the best will do."""
    data = proof_data(session_id, key)
    wanted = (agreed,) if agreed in key.algorithms else algorithms_for(key.type)
    try:
        return any(key.verify(algorithm, signature, data) for algorithm in wanted if algorithm != "ssh-rsa")
    except CryptoError:
        return False


def rewrite(
    text: bytes, host: str, port: int, keep: Sequence[PublicKey], add: Sequence[PublicKey], *,
    hashed: bool, salt: Callable[[int], bytes], address: str = "",
) -> bytes:  # fmt: skip
    """The text of a file in which the host, and its `address`, have the keys `keep` and no others, and those
    of `add` that the file has not, in lines at its end. All other lines stay as they are, byte by byte."""
    known, kept = KnownHosts.parse(text), {key.blob for key in keep}
    entries = _about(known, host, port, address)
    dropped = {entry.line for entry in entries if not entry.marker and entry.blob not in kept}
    lines = text.split(b"\n")
    left = b"\n".join(line for number, line in enumerate(lines, 1) if number not in dropped)
    fresh = []
    for key in add:
        missing = [
            name for name in filter(None, (host, address))
            if all(entry.blob != key.blob for entry in known.lookup(name, port))
        ]  # fmt: skip
        if hashed:
            fresh += [format_entry(name, port, key, hashed=True, salt=salt(20)) for name in missing]
        elif missing:
            fresh.append(format_entry(missing[0], port, key, address="".join(missing[1:])))
    if fresh and left and not left.endswith(b"\n"):
        left += b"\n"
    return left + "".join(fresh).encode()
