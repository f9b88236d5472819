"""A connection that comes as two pipes, made into a socket: `sshd -i` below a ProxyCommand.

inetd hands over a socket; ssh(1) gives its ProxyCommand two pipes. A process between them copies, so that the
server sees one socket, as everywhere else.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from typing import Final

__all__ = ["socket_before_pipes"]

CHUNK: Final = 256 * 1024
"""Most bytes copied at once, and so most that are held."""


def socket_before_pipes(source: int, sink: int) -> socket.socket:
    """A socket that reads what comes from `source`, and writes to `sink`, by a process of its own.

    It ends with the socket, or when nobody reads `sink` any more. To be called before there is a loop or a
    thread. Raises OSError.
    """
    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        return ours
    ours.close()
    try:
        with suppress(OSError):  # one of the two ends is gone
            _copy(source, sink, theirs)
    finally:
        os._exit(0)


def _copy(source: int, sink: int, sock: socket.socket) -> None:
    waiting = select.poll()
    waiting.register(source, select.POLLIN)
    waiting.register(sock, select.POLLIN)
    while True:
        for descriptor, _ in waiting.poll():
            data = os.read(descriptor, CHUNK)
            if descriptor == sock.fileno():
                if not data:
                    return
                _write(sink, data)
            elif data:
                sock.sendall(data)
            else:
                waiting.unregister(source)
                sock.shutdown(socket.SHUT_WR)


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
