"""Audit events of Python (PEP 578) for every packet: seen by `sys.addaudithook` and by the USDT probe
`python:audit`, which bpftrace can attach to while the program runs.

`glasshell.packet` has the arguments `sent` (1 or 0), the message's number, and its bytes on the wire. What
happens rarely is told without this sink, wherever it happens: `glasshell.connect` (address, port),
`glasshell.accept` (address, port), `glasshell.login` (role, user, method) and `glasshell.session` (kind,
command, user).
"""

from __future__ import annotations

import sys
from typing import Final

from ..observe.record import MessageRecord, Record

__all__ = ["PACKET", "Packets"]

PACKET: Final = "glasshell.packet"


class Packets:
    """A sink that raises one audit event for each packet."""

    def __call__(self, record: Record) -> None:
        """Takes one record."""
        if isinstance(record, MessageRecord):
            sys.audit(PACKET, int(record.sent), record.number, record.wire_length)

    def close(self) -> None:
        """Nothing is left to do."""
