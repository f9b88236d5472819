"""From a host name to a connected socket: addresses side by side (RFC 8305), each step told."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, Final, TypeAlias

from ..errors import CannotConnect

__all__ = ["ATTEMPT_DELAY", "Address", "dial", "in_turn", "open_socket", "reason", "resolve"]

Address: TypeAlias = tuple[Any, ...]
State: TypeAlias = Callable[..., None]

ATTEMPT_DELAY: Final = 0.25
"""Seconds until another address is tried beside one that does not answer (RFC 8305 §5: Connection Attempt
Delay, recommended 250 ms)."""


async def dial(
    host: str, port: int, *, family: int = socket.AF_UNSPEC, bind: str = "", interface: str = "",
    user: str = "", state: State,
) -> socket.socket:  # fmt: skip
    """A connected socket to the address of `host` that answers first.

    The addresses are tried in the system's order, but the families in turn; the next one when one has failed,
    or has not answered for `ATTEMPT_DELAY` seconds (RFC 8305 §4, §5).

    `family` limits the addresses (AF_INET, AF_INET6), `bind` is the local address to come from, `interface`
    the one whose address that is where there is no `bind`. Raises CannotConnect, whose `failures` are all
    addresses that were tried, each with its OSError.
    """
    state("resolving", host=host, port=port)
    addresses = await resolve(host, port, family)
    state("resolved", host=host, addresses=tuple(address[0] for _, address in addresses))
    failures: list[tuple[str, OSError]] = []
    reached: dict[socket.socket, str] = {}

    async def attempt(kind: int, address: Address) -> socket.socket | None:
        state("connecting", host=host, address=address[0], port=port, user=user)
        sys.audit("glasshell.connect", address[0], port)
        try:
            local = bind or (_address_of(interface, kind) if interface else "")
            sock = await open_socket(kind, address, local)
        except OSError as error:
            failures.append((address[0], error))
            state("connect_failed", host=host, address=address[0], port=port, error=reason(error))
            return None
        reached[sock] = address[0]
        return sock

    if len(addresses) == 1:
        sock = await attempt(*addresses[0])
    else:
        sock = await _race([partial(attempt, *each) for each in in_turn(addresses)])
    if sock is None:
        raise _cannot_connect(host, port, failures)
    local = sock.getsockname()
    state("connected", address=reached[sock], port=port, local_address=local[0], local_port=local[1])
    return sock


def in_turn(addresses: Sequence[tuple[int, Address]]) -> list[tuple[int, Address]]:
    """The same, the families alternating, beginning with that of the first (RFC 8305 §4)."""
    if not addresses:
        return []
    first = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each[0] != addresses[0][0]]
    pairs = zip_longest(first, others)
    return [each for pair in pairs for each in pair if each is not None]


async def _race(
    attempts: Sequence[Callable[[], Coroutine[Any, Any, socket.socket | None]]],
) -> socket.socket | None:
    """The socket of the first attempt that has one; None: all have failed. What is under way is given up."""
    waiting = deque(attempts)
    running: set[asyncio.Task[socket.socket | None]] = set()
    done: set[asyncio.Task[socket.socket | None]] = set()
    won: socket.socket | None = None
    try:
        while won is None and (waiting or running):
            if waiting:
                running.add(asyncio.ensure_future(waiting.popleft()()))
            done, running = await asyncio.wait(
                running, timeout=ATTEMPT_DELAY if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            won = next((sock for task in done if (sock := task.result()) is not None), None)
        return won
    finally:
        for task in running:
            task.cancel()
        if running:
            done |= (await asyncio.wait(running))[0]
        for task in done:
            if not task.cancelled() and (sock := task.result()) is not None and sock is not won:
                sock.close()


def _address_of(interface: str, kind: int) -> str:
    """The local address of `kind` that an interface has. Raises OSError."""
    from ..system.interfaces import local_addresses

    found = [ipaddress.ip_address(each) for each in local_addresses(interface)]
    fitting = [each for each in found if (each.version == 4) == (kind == socket.AF_INET)]
    if not fitting:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    return str(min(fitting, key=lambda each: each.is_loopback or each.is_link_local))


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
