"""What waits for a peer that does not read: bounded, and tightly so before it has logged in."""

from __future__ import annotations

from glasshell.errors import LimitExceeded
from glasshell.events import Closed
from glasshell.messages.transport import Ping
from glasshell.transport.rules import Phase
from tests.transport.kit import pair

STRANGERS = 512 * 1024
"""What an unauthenticated connection may cost, whatever its peer sends."""


def test_a_stranger_who_reads_nothing_costs_little() -> None:
    """A packet of 32 bytes and one of 32 back: 116,000 of them once filled the 4 MiB of a login."""
    both = pair()
    both.run(until=lambda: both.server.transport.phase is Phase.AUTH)
    server, client = both.server.transport, both.client.transport.outbound
    most = 0
    while not server.closed and most < STRANGERS:
        client.seal(Ping(b"").encode())
        both.server.receive_data(client.take(), 0.0)
        most = max(most, len(server.outbound.buffer))
    assert most < STRANGERS
    ends = [event.error for event in both.server.events() if isinstance(event, Closed)]
    assert [type(error) for error in ends] == [LimitExceeded]
