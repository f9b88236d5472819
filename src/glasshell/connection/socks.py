"""SOCKS, the server's side of a request, for dynamic forwarding (ssh(1), -D): versions 4, 4A and 5.

RFC 1928 for version 5, without authentication and with CONNECT only; version 4 and its 4A have no RFC. Bytes
come in, bytes to answer come out; who connects is the caller's.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

from ..errors import ProtocolViolation

__all__ = ["NOT_ALLOWED", "REFUSED", "Socks"]

MAX_REQUEST: Final = 1024
"""Most bytes of a request; a host name of 255 and a user name of 255 fit well."""

FAILED: Final = 1
NOT_ALLOWED: Final = 2
REFUSED: Final = 5
"""Why a request of version 5 was not granted (RFC 1928 §6); version 4 knows one reason only."""

_CONNECT: Final = 1
_NO_AUTHENTICATION: Final = 0
_NONE_ACCEPTABLE: Final = 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4


class Socks:
    """One request. `target` is where it leads to, once that is known; `rest` what was sent behind it."""

    def __init__(self) -> None:
        self.target: tuple[str, int] | None = None
        self.rest = b""
        self._buffer = b""
        self._version = 0
        self._greeted = False

    def receive(self, data: bytes) -> bytes:
        """Takes what the program sent; returns what is to be answered at once.

        Call until `target` is known, then answer by `granted` or `refused`. Raises ProtocolViolation for
        what is no such request: answer it with `refused`, and close.
        """
        self._buffer += data
        answer = b""
        if not self._version and self._buffer:
            self._version = self._buffer[0]
            if self._version not in (4, 5):
                raise ProtocolViolation(f"SOCKS version {self._version}; there are 4 and 5")
        if self._version == 5 and not self._greeted:
            answer = self._greet()
        if self._version == 4:
            self._read_version_4()
        elif self._greeted:
            self._read_version_5()
        if self.target is None and len(self._buffer) > MAX_REQUEST:
            raise ProtocolViolation(f"a SOCKS request of more than {MAX_REQUEST} bytes")
        return answer

    def granted(self) -> bytes:
        """The answer where the connection is there."""
        if self._version == 4:
            return b"\x00\x5a" + bytes(6)
        return b"\x05\x00\x00\x01" + bytes(6)

    def refused(self, reason: int = FAILED) -> bytes:
        """The answer where there is none; empty where the version is not known."""
        if self._version == 4:
            return b"\x00\x5b" + bytes(6)
        if self._greeted:
            return bytes([5, reason, 0, _IPV4]) + bytes(6)
        return bytes([5, _NONE_ACCEPTABLE]) if self._version == 5 else b""

    def _greet(self) -> bytes:
        """RFC 1928 §3: the methods that the program knows."""
        if len(self._buffer) < 2 or len(self._buffer) < 2 + self._buffer[1]:
            return b""
        end = 2 + self._buffer[1]
        methods, self._buffer = self._buffer[2:end], self._buffer[end:]
        if _NO_AUTHENTICATION not in methods:
            raise ProtocolViolation("a SOCKS program that wants to authenticate", clause="RFC 1928 3")
        self._greeted = True
        return bytes([5, _NO_AUTHENTICATION])

    def _read_version_4(self) -> None:
        head, names = self._buffer[:8], self._buffer[8:]
        if len(head) < 8 or b"\0" not in names:
            return
        _, command, port, address = struct.unpack(">BBH4s", head)
        _, _, rest = names.partition(b"\0")
        host = str(ipaddress.IPv4Address(address))
        if address[:3] == b"\0\0\0" and address[3]:  # 4A: a name follows
            if b"\0" not in rest:
                return
            name, _, rest = rest.partition(b"\0")
            host = _name(name)
        self._found(command, host, port, rest)

    def _read_version_5(self) -> None:
        """RFC 1928 §4."""
        buffer = self._buffer
        if len(buffer) < 5:
            return
        version, command, _, kind = buffer[:4]
        if version != 5:
            raise ProtocolViolation(f"version {version} in a request of SOCKS 5", clause="RFC 1928 4")
        sizes = {_IPV4: 4, _NAME: 1 + buffer[4], _IPV6: 16}
        if kind not in sizes:
            raise ProtocolViolation(f"a SOCKS address of type {kind}", clause="RFC 1928 5")
        end = 4 + sizes[kind]
        if len(buffer) < end + 2:
            return
        address = buffer[4:end]
        host = _name(address[1:]) if kind == _NAME else str(ipaddress.ip_address(address))
        self._found(command, host, int.from_bytes(buffer[end : end + 2], "big"), buffer[end + 2 :])

    def _found(self, command: int, host: str, port: int, rest: bytes) -> None:
        if command != _CONNECT:
            raise ProtocolViolation(f"the SOCKS command {command}; there is CONNECT", clause="RFC 1928 4")
        if not port:
            raise ProtocolViolation("a SOCKS request for port 0")
        self.target, self.rest, self._buffer = (host, port), rest, b""


def _name(raw: bytes) -> str:
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        raise ProtocolViolation("a SOCKS host name that is not ASCII") from None
    if not name or not name.isprintable() or " " in name:
        raise ProtocolViolation("a SOCKS host name that is none")
    return name
