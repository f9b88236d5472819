"""A name server on a loopback address: it knows a few hosts, and answers as a resolver that validates."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Garble = Callable[[bytes], bytes]


class NameServer:
    """Answers over UDP from `zone`, lines as in a zone file. `validated` sets the AD bit; who is `silent`
    does not answer at all.

    `asked` are the questions so far, as "name TYPE". A context manager.
    """

    def __init__(
        self, zone: str, *, validated: bool = True, silent: bool = False, address: str = "127.0.0.1",
        port: int = 0, garble: Garble = lambda data: data,
    ) -> None:  # fmt: skip
        self.validated = validated
        self.silent = silent
        self.garble = garble
        self.asked: list[str] = []
        self.zone: dict[tuple[str, str], list[str]] = {}
        for line in zone.strip().splitlines():
            name, _, kind, value = line.split(None, 3)
            self.zone.setdefault((name.rstrip(".").lower(), kind), []).append(value)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, port))
        self.port = self.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)
        self.socket.sendto(b"", self.socket.getsockname())
        self._thread.join()
        self.socket.close()

    def _serve(self) -> None:
        while True:
            data, peer = self.socket.recvfrom(4096)
            if not data:
                return
            with suppress(Exception):
                answer = self._answer(data)
                if not self.silent:
                    self.socket.sendto(self.garble(answer), peer)

    def _answer(self, data: bytes) -> bytes:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {kind}")
        response = dns.message.make_response(query, recursion_available=True)
        values = self.zone.get((name, kind))
        if values:
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *values))
        elif not any(name == known for known, _ in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        if self.validated:
            response.flags |= dns.flags.AD
        return response.to_wire()
