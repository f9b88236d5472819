"""Kerberos and hostbased beside the rest: what they cost who has neither; whose tickets a session gets."""

from __future__ import annotations

import asyncio
from threading import Event

import pytest

from glasshell.aio.gatekeeper import LoggedIn, Peer
from glasshell.aio.gssway import GssapiWay
from glasshell.aio.login import Login
from glasshell.aio.shellgate import AccountGatekeeper
from glasshell.aio.ways import Admission, Candidate
from glasshell.auth.steps import Step
from glasshell.config.options import ServerOptions
from glasshell.events import CredentialNeeded, GssapiTokenOffered, GssapiTurn
from glasshell.system.accounts import Account, current_account
from glasshell.system.gss import GssStep
from glasshell.wire import Secret
from tests.interop.kit import talk
from tests.test_lazy import modules_loaded_by

PEER = Peer("192.0.2.9", 1, "192.0.2.7", 22)


def test_nothing_is_loaded_for_what_is_switched_off() -> None:
    loaded = modules_loaded_by("import glasshell.aio.client, glasshell.aio.server, glasshell.crypto.registry")
    late = ["system.gss", "aio.otherways", "aio.gssway", "aio.hostway", "auth.gssapi", "auth.hostbased"]
    late += ["keys.rhosts", "crypto.sntrup761"]
    assert loaded.isdisjoint(f"glasshell.{name}" for name in late)


class Handed(GssapiWay):
    """Whose client has handed tickets on."""

    def environment(self, account: Account) -> dict[str, str]:
        return {"KRB5CCNAME": f"of {account.name}"}


def test_c6_tickets_of_one_users_step_are_not_anothers() -> None:
    """A step by ticket as one user, then a login as another by key: the session gets no ticket."""
    gate = AccountGatekeeper(ServerOptions())
    account, way = current_account(), Handed(gate)
    assert account is not None
    gate._ways[way.method] = way
    options = gate.options
    by_key = Admission(account, options, step=Step("publickey"))
    by_ticket = Admission(account, options, step=Step("gssapi-with-mic"), keep=way)
    for grants, expected in (((by_key,), {}), ((by_ticket, by_key), {"KRB5CCNAME": f"of {account.name}"})):
        assert gate.environment(LoggedIn(account.name, "publickey", PEER, grants)) == expected


class Slow:
    """A context whose library takes its time."""

    def __init__(self) -> None:
        self.inside, self.go_on, self.closed = Event(), Event(), False

    def step(self, token: bytes) -> GssStep:
        self.inside.set()
        assert self.go_on.wait(10)
        assert not self.closed
        return GssStep(b"")

    def close(self) -> None:
        self.closed = True


def test_c6_a_client_that_vanishes_takes_no_context_from_under_the_library() -> None:
    """Given back while a thread is inside it, the context would be read after it is freed."""
    way = GssapiWay(AccountGatekeeper(ServerOptions()))
    slow = Slow()
    way._acceptor = slow  # type: ignore[assignment]
    who = Candidate("ada", None, ServerOptions(), PEER)

    async def scene() -> None:
        turn = asyncio.ensure_future(way.other(who, GssapiTokenOffered("ada", Secret(b"token"))))
        assert await asyncio.to_thread(slow.inside.wait, 10)
        way.over()
        slow.go_on.set()
        assert await turn == GssapiTurn(None)

    talk(scene())


@pytest.mark.parametrize("method", ["gssapi-with-mic", "hostbased"])
def test_a_method_that_is_not_set_up_is_passed_over_once_and_told_of(method: str) -> None:
    login = Login("ada", "box", keys=[], order=(method, "publickey"))

    async def ask() -> None:
        for _ in range(2):
            assert await login.credential(CredentialNeeded((method,), False, ())) is None

    talk(ask())
    (attempt,) = login.attempts(())
    assert attempt.method == method
    assert attempt.answer.startswith("skipped: ")
