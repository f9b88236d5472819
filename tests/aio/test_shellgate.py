"""Who may log in to `glasshell sshd`, as far as no system is needed for it."""

from __future__ import annotations

import pytest

from glasshell.aio import shellgate
from glasshell.aio.gatekeeper import Peer
from glasshell.config.options import ServerOptions
from glasshell.events import Verdict
from tests.aio.kit import run

pytest.importorskip("pwd")

PEER = Peer("192.0.2.1", 1, "192.0.2.2", 22)


def test_none_is_refused_without_a_look_at_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look at who exists took half as long again as to look at who does not: 0.6 ms and 0.4 ms."""
    asked: list[str] = []
    monkeypatch.setattr(shellgate, "find_account", asked.append)
    gate = shellgate.AccountGatekeeper(ServerOptions())
    assert run(gate.none("root", PEER)) == Verdict(False)
    assert asked == []
