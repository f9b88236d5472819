"""Standard input and output under asyncio, whatever they are: terminal, pipe, socket, file or /dev/null.

asyncio's own `connect_read_pipe` takes no regular files and makes descriptors non-blocking that the
shell above still uses. Here a descriptor is read when it is ready and left as it was; only pipes and
sockets that are written to are non-blocking meanwhile, as with ssh(1).
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Final

__all__ = ["CHUNK", "Input", "Output", "open_missing", "write_all"]

CHUNK: Final = 256 * 1024
"""Most bytes moved at once."""


def open_missing() -> None:
    """Opens /dev/null for each of descriptors 0 to 2 that is closed: or a socket would get its number,
    and what is written for people would go to the server."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def widen(descriptor: int) -> None:
    """Lets a pipe hold `CHUNK` bytes instead of 64 KiB, where the system can and lets us: whoever is at its
    other end is woken less often."""
    with suppress(OSError):
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            import fcntl

            fcntl.fcntl(descriptor, getattr(fcntl, "F_SETPIPE_SZ", -1), CHUNK)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes everything, waiting where the descriptor is non-blocking. Raises OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


async def _ready(
    descriptor: int, add: Callable[..., object], remove: Callable[[int], object]
) -> None:
    ready = asyncio.Event()
    try:
        add(descriptor, ready.set)
    except (PermissionError, NotImplementedError):  # regular files and /dev/null are always ready
        await asyncio.sleep(0)
        return
    try:
        await ready.wait()
    finally:
        remove(descriptor)


class Input:
    """A descriptor that is read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        widen(descriptor)

    async def read(self) -> bytes:
        """What there is, at most `CHUNK` bytes; b"" at the end, and where nothing can be read."""
        loop = asyncio.get_running_loop()
        while True:
            if select.select([self._descriptor], [], [], 0)[0]:
                await asyncio.sleep(0)  # what the loop has to do comes first all the same
            else:
                await _ready(self._descriptor, loop.add_reader, loop.remove_reader)
            try:
                return os.read(self._descriptor, CHUNK)
            except BlockingIOError:
                continue  # somebody else who reads here was faster
            except OSError:
                return b""


class Output:
    """A descriptor that is written to; `close` leaves it as it was."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._opened = -1
        widen(descriptor)
        self._was_blocking = os.get_blocking(descriptor)
        if os.isatty(descriptor):
            # Non-blocking is a property of the open file, which the shell shares: open one of our own.
            with suppress(OSError):
                flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK
                self._descriptor = self._opened = os.open(os.ttyname(descriptor), flags)
        else:
            os.set_blocking(descriptor, False)

    async def write(self, data: bytes) -> None:
        """Writes everything. Raises OSError, BrokenPipeError where nobody reads any more."""
        loop = asyncio.get_running_loop()
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                await _ready(self._descriptor, loop.add_writer, loop.remove_writer)

    def close(self) -> None:
        """Leaves the descriptor as it was."""
        if self._opened >= 0:
            os.close(self._opened)
            self._opened = -1
        elif self._was_blocking:
            with suppress(OSError):
                os.set_blocking(self._descriptor, True)
