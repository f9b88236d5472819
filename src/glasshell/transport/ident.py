"""RFC 4253 §4.2: the identification strings that open a connection."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from ..errors import LimitExceeded, MalformedMessage, NegotiationFailed, ProtocolViolation
from ..values import slotted
from ..wire import visible
from .rules import Role

MAX_LINE: Final = 255
"""Longest identification string in bytes, CR LF included (RFC 4253 §4.2)."""
MAX_PREFACE_LINE: Final = 8192
"""Longest line before a server's identification, in bytes; OpenSSH's own bound."""
MAX_PREFACE_LINES: Final = 1024
"""Most lines before a server's identification; OpenSSH's own bound."""
_SHOWN: Final = 64
"""Bytes of a peer that speaks no SSH which an error message shows."""


@slotted(frozen=True)
class Identification:
    """One side's identification; `line` is without CR LF and enters the exchange hash as it is."""

    line: bytes
    protocol: str
    software: str
    comments: str = ""

    @property
    def name(self) -> str:
        """Software version and comments, as people call the program."""
        return f"{self.software} {self.comments}".rstrip()


@lru_cache(maxsize=4)
def ours(software: str) -> Identification:
    """The identification that we send."""
    return Identification(f"SSH-2.0-{software}".encode("ascii"), "2.0", software)


@lru_cache(maxsize=64)
def parse(line: bytes) -> Identification:
    """Reads `SSH-protoversion-softwareversion [comments]`.

    Raises MalformedMessage, or NegotiationFailed for a protocol that is not 2.0. `1.99` is a
    server that also speaks 1.x (§5.1) and counts as 2.0.
    """
    if not (line.isascii() and line.decode("ascii").isprintable()):
        raise MalformedMessage(
            f"identification string with a forbidden byte: {visible(line)}", clause="RFC 4253 4.2"
        )
    text = line.decode("ascii")
    protocol, dash, rest = text.removeprefix("SSH-").partition("-")
    software, _, comments = rest.partition(" ")
    if not text.startswith("SSH-") or not dash or not software:
        raise MalformedMessage(f"not an SSH identification string: {visible(line)}", clause="RFC 4253 4.2")
    if protocol not in ("2.0", "1.99"):
        raise NegotiationFailed(
            f"Protocol major versions differ: 2 vs. {protocol.partition('.')[0]}",
            what="protocol version", ours=("2.0",), theirs=(protocol,), hint=_version_hint(protocol),
        )  # fmt: skip
    return Identification(line, protocol, software, comments)


def _version_hint(protocol: str) -> str:
    if protocol.startswith("1."):
        return "The peer speaks SSH-1 only, which has been unsafe for decades; it needs an upgrade."
    return f"The peer speaks SSH {protocol}; 2.0 is what everybody speaks."


def parse_lax(line: bytes) -> Identification:
    """Reads an identification as far as it can be read, for whoever only watches. Raises nothing."""
    text = visible(line)
    protocol, _, rest = text.removeprefix("SSH-").partition("-")
    software, _, comments = rest.partition(" ")
    return Identification(line, protocol, software, comments)


class IdentificationReader:
    """Takes bytes until the peer's identification is whole, which `read` then makes sense of.

    A client may be sent other lines first; a server may not (RFC 4253 §4.2).
    """

    __slots__ = ("_buffer", "_client", "_read", "preface", "received")

    def __init__(self, role: Role, read: Callable[[bytes], Identification] = parse) -> None:
        self._client = role == "client"
        self._read = read
        self._buffer = bytearray()
        self.preface: list[str] = []
        """Lines before the identification, made visible."""
        self.received = b""
        """The first bytes of a peer that said nothing of SSH, for the error message."""

    @property
    def rest(self) -> str:
        """The beginning of a line without an end, made visible."""
        return visible(bytes(self._buffer[:_SHOWN]))

    def feed(self, data: bytes | bytearray | memoryview) -> tuple[Identification, bytes] | None:
        """Takes more bytes; returns the identification and what came after it, when it is whole.

        Raises PeerError, or NegotiationFailed for a wrong protocol version.
        """
        buffer, start, scanned = self._buffer, 0, len(self._buffer)
        buffer += data
        self.received = self.received or bytes(buffer[:_SHOWN])
        while True:
            end = buffer.find(b"\n", max(start, scanned))
            stop = end if end >= 0 else len(buffer)
            head = bytes(buffer[start : min(stop, start + _SHOWN)])
            ours = head.startswith(b"SSH-") or (end < 0 and b"SSH-".startswith(head))
            self._check(head, stop - start, ours)
            if end < 0:
                del buffer[:start]
                return None
            line, start = bytes(buffer[start:end]).removesuffix(b"\r"), end + 1
            if ours:
                rest = bytes(buffer[start:])
                buffer.clear()
                return self._read(line), rest
            self._preface_line(line)

    def _check(self, head: bytes, length: int, identification: bool) -> None:
        if not identification and not self._client:
            raise ProtocolViolation(
                f"the client did not begin with an SSH identification string but with: {visible(head)}",
                clause="RFC 4253 4.2",
            )
        limit = MAX_LINE - 1 if identification else MAX_PREFACE_LINE
        if length > limit:
            raise LimitExceeded(f"a line of more than {limit} bytes before the key exchange begins")

    def _preface_line(self, line: bytes) -> None:
        self.preface.append(visible(line))
        if len(self.preface) > MAX_PREFACE_LINES:
            raise LimitExceeded(f"more than {MAX_PREFACE_LINES} lines before the identification string")
