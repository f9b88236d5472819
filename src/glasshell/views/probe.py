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

__all__ = ["PACKET", "packets"]

PACKET: Final = "glasshell.packet"


def packets(record: Record) -> None:
    """A sink that raises one audit event for each packet."""
    if isinstance(record, MessageRecord):
        sys.audit(PACKET, int(record.sent), record.number, record.wire_length)
