"""From a host name to a connected socket: each address in turn, each step told to the records."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..errors import CannotConnect

__all__ = ["Address", "dial", "open_socket", "reason", "resolve"]

Address: TypeAlias = tuple[Any, ...]
State: TypeAlias = Callable[..., None]


async def dial(
    host: str, port: int, *, family: int = socket.AF_UNSPEC, bind: str = "", user: str = "", state: State
) -> socket.socket:
    """A connected socket to the first address of `host` that answers.

    `family` limits the addresses (AF_INET, AF_INET6), `bind` is the local address to come from. Raises
    CannotConnect, whose `failures` are all addresses that were tried, each with its OSError.
    """
    state("resolving", host=host, port=port)
    addresses = await resolve(host, port, family)
    state("resolved", host=host, addresses=tuple(address[0] for _, address in addresses))
    failures: list[tuple[str, OSError]] = []
    for kind, address in addresses:
        state("connecting", host=host, address=address[0], port=port, user=user)
        sys.audit("glasshell.connect", address[0], port)
        try:
            sock = await open_socket(kind, address, bind)
        except OSError as error:
            failures.append((address[0], error))
            state("connect_failed", host=host, address=address[0], port=port, error=reason(error))
            continue
        local = sock.getsockname()
        state("connected", address=address[0], port=port, local_address=local[0], local_port=local[1])
        return sock
    raise _cannot_connect(host, port, failures)


async def resolve(host: str, port: int, family: int) -> list[tuple[int, Address]]:
    """The addresses of `host`, each with its family, in the system's order. Raises CannotConnect."""
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        kind = socket.AF_INET if literal.version == 4 else socket.AF_INET6
        if family in (socket.AF_UNSPEC, kind) and "%" not in host:
            return [(kind, (host, port))]  # nothing to look up, and no thread for it
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CannotConnect(f"Could not resolve hostname {host}: {why}") from error
    return list(dict.fromkeys((int(kind), address) for kind, _, _, _, address in found))


async def open_socket(kind: int, address: Address, bind: str) -> socket.socket:
    """A socket connected to one address, from the local address `bind` if given. Raises OSError."""
    sock = socket.socket(kind, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if bind:
            sock.bind((bind, 0))
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def reason(error: OSError) -> str:
    """What the kernel calls it: asyncio puts its own words around that."""
    return os.strerror(error.errno) if error.errno else str(error)


def _cannot_connect(host: str, port: int, failures: Sequence[tuple[str, OSError]]) -> CannotConnect:
    if len({reason(error) for _, error in failures}) == 1:
        text = reason(failures[0][1])
    else:
        text = "; ".join(f"{address}: {reason(error)}" for address, error in failures)
    refused = any(isinstance(error, ConnectionRefusedError) for _, error in failures)
    hint = f"nothing listens there: is the server running, and is {port} its port?" if refused else ""
    failure = CannotConnect(f"connect to host {host} port {port}: {text}", hint=hint)
    failure.failures = tuple(failures)
    failure.__cause__ = failures[0][1] if failures else None
    return failure
