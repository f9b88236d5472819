"""The addresses of this machine's network interfaces, by getifaddrs(3)."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from ctypes.util import find_library
from typing import Final

__all__ = ["local_addresses"]

UP: Final = 1
"""IFF_UP of net/if.h."""


class _Interface(ctypes.Structure):
    """struct ifaddrs, as far as it is looked at."""


_Interface._fields_ = [
    ("next", ctypes.POINTER(_Interface)), ("name", ctypes.c_char_p), ("flags", ctypes.c_uint),
    ("address", ctypes.POINTER(ctypes.c_ubyte)),
]  # fmt: skip


def local_addresses(name: str = "") -> list[str]:
    """The addresses of the interfaces that are up, or of the one of that name; empty where the system does
    not tell."""
    try:
        library = ctypes.CDLL(find_library("c") or None)
        get, free = library.getifaddrs, library.freeifaddrs
    except (OSError, AttributeError):
        return []
    first = ctypes.POINTER(_Interface)()
    if get(ctypes.byref(first)):
        return []
    found = []
    interface = first
    while interface:
        entry = interface.contents
        wanted = entry.flags & UP and (not name or entry.name == os.fsencode(name))
        if wanted and entry.address and (address := _address(entry.address)):
            found.append(address)
        interface = entry.next
    free(first)
    return found


def _address(raw: ctypes._Pointer[ctypes.c_ubyte]) -> str:
    """The address in a struct sockaddr; empty: it is of no family that is known here."""
    # The BSDs have a byte of length before the family.
    family = int.from_bytes(bytes(raw[0:2]), sys.byteorder) if sys.platform == "linux" else raw[1]
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, bytes(raw[4:8]))
    if family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, bytes(raw[8:24]))
    return ""
