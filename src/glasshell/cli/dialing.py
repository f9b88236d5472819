"""Connecting while the rest of the program is being loaded.

A look-up, a TCP handshake and the process that sshd starts for it take their time; so does importing what
speaks SSH. Neither needs the other, so they run at once.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ..aio.dial import dial
from ..config.ssh_config import ClientOptions
from ..errors import CannotConnect

if TYPE_CHECKING:
    from ..aio.recorder import Recorder

__all__ = ["Dialing", "load", "mark"]

FAMILIES: Final = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}

PARTS: Final = ("..crypto.key_exchange", "..messages", "..protocol", "..aio.client", ".client")
"""What is loaded meanwhile, in pieces: between them a name that was looked up is connected to."""


async def load() -> None:
    """Loads the parts, while whatever else there is to do is done."""
    for name in PARTS:
        await asyncio.sleep(0)
        import_module(name, __package__)


def mark(sock: object, options: ClientOptions, *, interactive: bool) -> None:
    """IPQoS: what the network may know of the traffic, where `sock` is one of TCP."""
    from ..config.forms import qos_byte

    byte = qos_byte(options.ip_qos[0 if interactive else 1])
    if byte is None or not isinstance(sock, socket.socket):
        return
    with suppress(OSError):
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, byte)
        elif sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, byte)


class Dialing:
    """The sockets of one run, the first of which is on its way from the beginning.

    What is told of it before there is a recorder is kept, with its time, until `heard_by`.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self.since = self._loop.time()
        """When it began, by the loop's clock."""
        self._recorder: Recorder | None = None
        self._told: list[tuple[float, str, dict[str, Any]]] = []
        self._first: asyncio.Task[socket.socket] | None = self._loop.create_task(self._dial())

    def heard_by(self, recorder: Recorder) -> None:
        """`recorder` hears what was told so far, and what is told from here on."""
        self._recorder = recorder
        for time, name, facts in self._told:
            recorder.state_at(time, name, **facts)
        self._told.clear()

    failed: Final = False
    """Whether it is another host that could not be passed."""

    async def begin(self) -> None:
        """What comes before the host itself: nothing."""

    async def connected(self) -> socket.socket:
        """The first socket, or another. Raises CannotConnect."""
        first, self._first = self._first, None
        return await (first or self._dial())

    async def close(self) -> None:
        """Lets go of a socket that nobody has asked for."""
        if self._first is not None:
            self._first.cancel()
            await asyncio.wait([self._first])
            if not self._first.cancelled() and self._first.exception() is None:
                self._first.result().close()

    async def _dial(self) -> socket.socket:
        options = self._options
        for attempt in range(options.connection_attempts):
            if attempt:
                await asyncio.sleep(1)
            try:
                sock = await dial(
                    options.hostname, options.port, family=FAMILIES[options.address_family],
                    bind=options.bind_address or "", interface=options.bind_interface or "",
                    user=options.user, state=self._state,
                )  # fmt: skip
            except CannotConnect:
                if attempt + 1 == options.connection_attempts:
                    raise
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, options.tcp_keepalive)
                return sock
        raise CannotConnect("no attempt to connect was allowed")

    def _state(self, name: str, /, **facts: Any) -> None:
        if self._recorder is not None:
            self._recorder.state(name, **facts)
        else:
            self._told.append((self._loop.time(), name, facts))
