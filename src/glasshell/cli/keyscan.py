"""`glasshell keyscan`: the host keys of servers, seen without logging in, as ssh-keyscan(1) prints them.

What is seen this way may come from whoever stands in between: it has to be compared before it is trusted.
"""

from __future__ import annotations

import asyncio
import base64
import getopt
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..crypto.signatures import CERTIFIED, PublicKey, certified_name
from ..errors import (
    CannotConnect,
    ConfigError,
    DeadlineExceeded,
    KeyFormatError,
    MalformedMessage,
    SSHError,
    UsageError,
)
from ..keys.hostlines import hash_host
from ..keys.sshfp import HASHES, fingerprints, zone_line
from ..wire import Reader, visible

__all__ = ["main"]

TYPES: Final = {
    "rsa": ("rsa-sha2-512", "rsa-sha2-256"),
    "ecdsa": ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    "ed25519": ("ssh-ed25519",),
    "ecdsa-sk": ("sk-ecdsa-sha2-nistp256@openssh.com",),
    "ed25519-sk": ("sk-ssh-ed25519@openssh.com",),
    "mldsa44-ed25519": ("ssh-mldsa44-ed25519",),
}
"""What -t takes -> the host key algorithms that are asked for, one connection each."""

FLAGS: Final[dict[str, tuple[str, str]]] = {
    "4": ("", "IPv4 only"),
    "6": ("", "IPv6 only"),
    "c": ("", "ask for certificates"),
    "D": ("", "print SSHFP records"),
    "f": ("FILE", "read hosts, or `addresses names`, from FILE; - is standard input"),
    "H": ("", "hide the names"),
    "O": ("hashalg=HASH", "with -D: sha1 or sha256 alone"),
    "p": ("PORT", "port (22)"),
    "q": ("", "do not print what the servers say they are"),
    "T": ("TIME", "how long a server may take (5s)"),
    "t": ("TYPES", f"types of keys, all by default: {', '.join(TYPES)}"),
    "v": ("", "say more"),
}

USAGE: Final = "usage: glasshell keyscan [flags] [host | addresses,... names,...] ...\n"

CONNECTIONS: Final = 64
"""Connections that are open at a time."""

MAX_ADDRESSES: Final = 1 << 16
"""Most addresses of one network that are looked at."""

MAX_LINE: Final = 8192


@dataclass(slots=True)
class Wanted:
    """What the command line says."""

    types: tuple[str, ...] = tuple(TYPES)
    port: int = 22
    seconds: float = 5.0
    family: int = 0
    hashed: bool = False
    certificates: bool = False
    records: bool = False
    digests: tuple[int, ...] = (1, 2)
    quiet: bool = False
    verbose: bool = False
    files: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    found: bool = False


def main(arguments: Sequence[str]) -> int:
    """Runs `glasshell keyscan`; returns the exit status: 1 where no key was found."""
    if list(arguments) == ["--help"]:
        print(_help(), end="")
        return 0
    wanted = _parse(arguments)
    if wanted is None:
        print(USAGE, end="", file=sys.stderr)
        return 1
    asyncio.run(_scan(wanted))
    return 0 if wanted.found else 1


def _help() -> str:
    lines = [f"  {f'-{name} {value}':16} {about}\n" for name, (value, about) in FLAGS.items()]
    return "".join([USAGE, "\n", *lines])


# ---- the command line


def _parse(arguments: Sequence[str]) -> Wanted | None:
    """None: a command line that is answered with the usage."""
    letters = "".join(name + ":" * bool(value) for name, (value, _) in FLAGS.items())
    try:
        pairs, hosts = getopt.getopt(list(arguments), letters)
    except getopt.GetoptError as error:
        print(f"glasshell keyscan: {error.msg}", file=sys.stderr)
        return None
    wanted = Wanted(hosts=hosts)
    for name, value in pairs:
        if not _take(wanted, name[1:], value):
            return None
    return wanted if wanted.hosts or wanted.files else None


def _take(wanted: Wanted, name: str, value: str) -> bool:
    switches = {"c": "certificates", "D": "records", "H": "hashed", "q": "quiet", "v": "verbose"}
    if name in switches:
        setattr(wanted, switches[name], True)
    elif name in "46":
        wanted.family = socket.AF_INET if name == "4" else socket.AF_INET6
    elif name == "f":
        wanted.files.append(value)
    elif name == "O":
        digest = value.removeprefix("hashalg=")
        if digest == value or digest not in HASHES:
            raise UsageError("Unsupported -O option" if digest == value else "Unsupported hash algorithm")
        wanted.digests = (HASHES[digest],)
    elif name == "p":
        if not value.isdecimal() or not 0 < int(value[:9]) < 65536:
            print(f"Bad port '{visible(value)}'", file=sys.stderr)
            return False
        wanted.port = int(value)
    elif name == "t":
        wanted.types = tuple(word for word in value.split(",") if word)
        for word in wanted.types:
            if word not in TYPES:
                raise UsageError(f'Unknown key type "{visible(word)}"', hint=f"there are {', '.join(TYPES)}")
    else:
        return _timeout(wanted, value)
    return True


def _timeout(wanted: Wanted, value: str) -> bool:
    from ..config.forms import seconds

    try:
        wanted.seconds = seconds(value)
    except ConfigError:
        wanted.seconds = 0
    if not wanted.seconds:
        print(f"Bad timeout '{visible(value)}'", file=sys.stderr)
    return bool(wanted.seconds)


# ---- whom to look at


def _hosts(wanted: Wanted) -> Iterator[tuple[str, str]]:
    """Addresses, and the names that go with them."""
    for file in wanted.files:
        for line in _lines(file):
            yield from _named(line)
    for host in wanted.hosts:
        yield from _named(host)


def _lines(file: str) -> Iterator[str]:
    try:
        with sys.stdin if file == "-" else Path(file).open(errors="surrogateescape") as source:
            for line in source:
                bare = line[:MAX_LINE].partition("#")[0].strip()
                if bare:
                    yield bare
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None


def _named(line: str) -> Iterator[tuple[str, str]]:
    addresses, *names = line.split() or [line]
    if "/" not in addresses:
        yield addresses, names[0] if names else addresses
        return
    try:
        network = ipaddress.ip_network(addresses, strict=False)
    except ValueError:
        network = None
    if network is None or network.num_addresses > MAX_ADDRESSES:
        print(f"{visible(addresses)} is no network of at most {MAX_ADDRESSES} addresses", file=sys.stderr)
        return
    for address in network:
        yield str(address), names[0] if names else str(address)


# ---- looking


async def _scan(wanted: Wanted) -> None:
    """One connection for each host and type; what is seen is printed as it comes."""
    room = asyncio.Semaphore(CONNECTIONS)

    async def one(addresses: str, names: str, kind: str) -> None:
        try:
            await _look(wanted, addresses, names, kind)
        finally:
            room.release()

    unread: ConfigError | None = None
    async with asyncio.TaskGroup() as group:
        try:
            for addresses, names in _hosts(wanted):
                for kind in wanted.types:
                    await room.acquire()
                    group.create_task(one(addresses, names, kind))
        except ConfigError as error:  # what was asked for before it is still shown
            unread = error
    if unread is not None:
        raise unread


async def _look(wanted: Wanted, addresses: str, names: str, kind: str) -> None:
    """The first of the addresses that answers shows its key."""
    from ..aio.scan import Looking

    algorithms = TYPES[kind]
    if wanted.certificates:
        algorithms = tuple(map(certified_name, algorithms))
        if not any(name in CERTIFIED for name in algorithms):
            return  # there are none of that type
    for address in filter(None, addresses.split(",")):
        looking = Looking(address, wanted.port, wanted.seconds, wanted.family)
        try:
            story, blob = await looking.key_exchange(*algorithms)
        except CannotConnect as error:
            _tell_failure(error, address)
            continue
        except DeadlineExceeded as error:
            if wanted.verbose:
                _complain(str(error))
            continue
        except (SSHError, OSError) as error:
            _complain(f"{address}: {error}")
            return
        if story.opening.server and not wanted.quiet:
            mark = ";" if wanted.records else "#"
            _print(f"{mark} {address}:{wanted.port} {visible(story.opening.server)}")
        if not story.opening.server:
            _complain(f"{address}: Connection closed by remote host")
        elif blob:
            _show(wanted, names, blob)
        elif wanted.verbose:
            _complain(f"{address}: no {kind} key: {looking.failure}")
        return


def _tell_failure(error: CannotConnect, address: str) -> None:
    from ..aio.dial import reason

    for _, problem in error.failures:
        _complain(f"connect (`{address}'): {reason(problem)}")
    if not error.failures:
        cause = error.__cause__
        _complain(f"getaddrinfo {address}: {getattr(cause, 'strerror', '') or error}")


def _complain(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)


def _print(text: str) -> None:
    print(text, flush=True)


# ---- showing


def _show(wanted: Wanted, names: str, blob: bytes) -> None:
    try:
        key_type = Reader(blob).name()
    except MalformedMessage:
        return
    wanted.found = True
    if wanted.certificates or (not wanted.hashed and wanted.port == 22 and not wanted.records):
        _show_one(wanted, names, key_type, blob)
        return
    for name in names.split(","):
        _show_one(wanted, name, key_type, blob)


def _show_one(wanted: Wanted, name: str, key_type: str, blob: bytes) -> None:
    if wanted.records:
        _show_records(wanted, name, blob)
        return
    host = (name if wanted.port == 22 else f"[{name}]:{wanted.port}").lower()
    if wanted.hashed:
        host = hash_host(host, os.urandom(20))
    key = f"{key_type} {base64.b64encode(blob).decode()}"
    _print(key if wanted.certificates else f"{visible(host)} {key}")


def _show_records(wanted: Wanted, name: str, blob: bytes) -> None:
    try:
        made = fingerprints(PublicKey.from_blob(blob))
    except KeyFormatError as error:
        _complain(f"{name}: {error}")
        return
    for record in made:
        if record.hash in wanted.digests:
            _print(zone_line(name, record))
