"""What a client sends before its time, between two cores: trips, refusals, wrong numbers."""

from __future__ import annotations

from typing import Any

import pytest

from glasshell.connection.channel import Channel
from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import (
    ChannelOpenFailed,
    Disconnected,
    ProtocolViolation,
    RequestFailed,
    SpeculationFailed,
)
from glasshell.events import (
    Authenticated,
    ChannelExit,
    ChannelOffered,
    ChannelOpened,
    ChannelRefused,
    ChannelRequested,
    CredentialNeeded,
    KeyMethod,
    NoneMethod,
    NoneOffered,
    SignatureNeeded,
    Verdict,
)
from glasshell.messages.auth import UserauthFailure, UserauthSuccess
from glasshell.messages.connection import ChannelOpenConfirmation, Exec, SessionOpen
from glasshell.messages.transport import ServiceAccept
from glasshell.observe.hub import Hub
from glasshell.observe.record import StateRecord
from glasshell.policy import Policy
from glasshell.testing.pair import Pair

USER = PrivateKey.generate("ssh-ed25519")
STRANGER = PrivateKey.generate("ssh-ed25519")
HOST = PrivateKey.generate("ssh-ed25519")


class Ahead:
    """A pair whose client sends everything ahead: the session as well where `session`."""

    def __init__(self, *, session: bool = True, key: PrivateKey = USER, number: int = 0, guess: bool = True,
                 server: dict[str, Any] | None = None, **options: Any) -> None:  # fmt: skip
        self.key = key
        self.session = session
        self.number = number
        self.ran: list[str] = []
        self.channel: Channel | None = None
        self.states: list[str] = []
        answers = {
            CredentialNeeded: self._credential, SignatureNeeded: self._sign,
            ChannelOffered: lambda q: True, ChannelRequested: self._run, **options.pop("answers", {}),
        }  # fmt: skip
        self.pair = Pair(
            Policy.client(eager=True, guess=guess), Policy.server(**(server or {})), answers=answers,
            latency=0.5, host_keys=(HOST,), user_key=USER, hubs={"client": Hub(self._hear)}, **options,
        )  # fmt: skip
        self.reply = self.pair.client.answer
        self.pair.client.answer = self._answer  # type: ignore[method-assign]

    def _hear(self, record: Any) -> None:
        if isinstance(record, StateRecord):
            self.states.append(record.name)

    def _credential(self, question: CredentialNeeded) -> Any:
        tried = [attempt for attempt in question.attempts if attempt.method == "publickey"]
        return None if tried else KeyMethod(self.key.public, probe=False)

    def _sign(self, question: SignatureNeeded) -> bytes:
        return self.key.sign(question.algorithm, question.data)

    def _answer(self, question: Any, value: Any, now: float) -> None:
        """The session goes right behind the signature."""
        self.reply(question, value, now)
        if self.session and isinstance(question, SignatureNeeded):
            self.channel = self.pair.client.mux.open("session", SessionOpen(), peer_id=self.number)
            self.channel.request("exec", Exec("true"), want_reply=True)

    def _run(self, question: ChannelRequested) -> bool:
        self.ran.append(question.body.command)
        question.channel.exit(0)
        return True

    def sent(self, side: str) -> list[int]:
        return [packet.number for packet in self.pair.sent if packet.sender == side]


def test_two_trips_after_tcp() -> None:
    """Both KEXINITs with the exchange, then everything else: half a second one way makes two seconds."""
    made = Ahead()
    pair = made.pair
    pair.run(lambda: ChannelExit in pair.kinds("client"))
    assert pair.now == 2.0
    assert made.ran == ["true"]
    assert made.sent("client")[:10] == [-1, 20, 30, 21, 7, 5, 50, 50, 90, 98]


def test_in_turns_it_takes_seven_and_a_half() -> None:
    answers = {ChannelOffered: lambda q: True, ChannelRequested: lambda q: q.channel.exit(0) or True}
    pair = Pair(latency=0.5, answers=answers)
    pair.run(lambda: Authenticated in pair.kinds("client"))
    pair.client.mux.open("session", SessionOpen())
    pair.run(lambda: ChannelOpened in pair.kinds("client"))
    pair.told("client", ChannelOpened)[0].channel.request("exec", Exec("true"), want_reply=True)
    pair.run(lambda: ChannelExit in pair.kinds("client"))
    # KEXINIT both at once, kex, service, none, query, signature, channel, program.
    assert pair.now == 7.5


def test_none_goes_ahead_and_is_recorded_first() -> None:
    made = Ahead(session=False)
    made.pair.run()
    (event,) = made.pair.told("client", Authenticated)
    assert [(a.method, a.answer) for a in event.attempts] == [("none", "refused"), ("publickey", "accepted")]
    assert event.attempts[0].methods == ("publickey",)
    told = [name for name in made.states if name.startswith("auth")]
    assert told == ["auth_offer", "auth_signing", "auth_methods", "auth_next", "authenticated"]
    assert made.sent("client")[:8] == [-1, 20, 30, 21, 7, 5, 50, 50]


def test_the_service_must_be_accepted_first() -> None:
    """SUCCESS before SERVICE_ACCEPT is out of turn, though the request is on its way."""
    made = Ahead(session=False)
    pair = made.pair

    def without_accept(packet: Any) -> bytes:
        if packet.sender == "server" and packet.number == ServiceAccept.NUMBER:
            return pair.forge("server", UserauthSuccess().encode())
        return bytes(packet.wire)

    pair.relay = without_accept
    pair.run()
    assert isinstance(pair.error("client"), ProtocolViolation)


def test_none_that_is_accepted() -> None:
    """What follows is ignored by the server (RFC 4252 §5.3), and the session runs once."""
    made = Ahead(answers={NoneOffered: lambda q: Verdict(True)})
    made.pair.run()
    (event,) = made.pair.told("client", Authenticated)
    assert (event.method, len(event.attempts)) == ("none", 1)
    assert made.ran in ([], ["true"])


def test_a_key_that_is_refused_is_an_attempt_as_any() -> None:
    made = Ahead(session=False, key=STRANGER)
    made.pair.run()
    error: Any = made.pair.error("client")
    assert [(a.method, a.answer) for a in error.attempts] == [("none", "refused"), ("publickey", "refused")]


def test_a_session_before_a_login_that_is_refused_runs_nothing() -> None:
    made = Ahead(key=STRANGER)
    made.pair.run()
    assert made.ran == []
    assert not made.pair.told("server", ChannelOffered)


@pytest.mark.parametrize("excused", [False, True])
def test_an_end_that_is_excused_is_no_error_in_the_records(excused: bool) -> None:
    made = Ahead(key=STRANGER, server={"max_auth_failures": 1})
    made.pair.client.excuse = lambda error: excused and isinstance(error, Disconnected | ProtocolViolation)
    made.pair.run()
    assert ("error" in made.states) is not excused
    assert ("speculation_failed" in made.states) is excused


def test_a_signature_that_cannot_be_made_waits_for_the_list() -> None:
    """The next question comes when the answer to `none` has said what there is to choose from."""
    failed = RequestFailed("the agent refused")
    made = Ahead(session=False, answers={SignatureNeeded: lambda q: failed})
    made.pair.run()
    questions = made.pair.told("client", CredentialNeeded)
    assert [question.methods for question in questions] == [None, ("publickey",)]
    error: Any = made.pair.error("client")
    assert [a.answer for a in error.attempts] == ["refused", "skipped: the agent refused"]


def test_a_query_waits_for_nothing_but_its_turn() -> None:
    """Whoever must ask first whether a key would do, asks `none` before: nothing is sent behind that."""
    made = Ahead(session=False, answers={
        CredentialNeeded: lambda q: NoneMethod() if q.methods is None else KeyMethod(USER.public),
    })  # fmt: skip
    made.pair.run()
    assert Authenticated in made.pair.kinds("client")
    assert made.sent("client").count(50) == 3


# --- channels


def test_another_number_than_expected_ends_it() -> None:
    made = Ahead(number=7)
    made.pair.run()
    assert made.ran == []
    # The server has no channel 7, and says so first; where it says nothing, its confirmation tells.
    assert isinstance(made.pair.error("client"), Disconnected | SpeculationFailed)


def test_a_server_that_passes_over_what_it_does_not_know() -> None:
    made = Ahead(number=7)
    pair = made.pair
    pair.relay = lambda packet: b"" if packet.number in (90, 98) else packet.wire
    pair.run()
    assert Authenticated in pair.kinds("client")
    assert made.channel is not None
    pair.inject("server", ChannelOpenConfirmation(made.channel.id, 0, 1 << 20, 1 << 15).encode())
    pair.run()
    error = pair.error("client")
    assert isinstance(error, SpeculationFailed)
    assert "numbered the channel 0, not 7" in str(error)


def test_a_session_that_is_refused() -> None:
    refusal = ChannelOpenFailed("no sessions here", reason=1)
    made = Ahead(answers={ChannelOffered: lambda q: refusal})
    made.pair.run()
    assert ChannelRefused in made.pair.kinds("client")
    assert made.ran == []


@pytest.mark.parametrize("chunk", [0, 1])
def test_requests_wait_for_the_channel_that_they_are_for(chunk: int) -> None:
    """A server whose application takes its time: what was sent behind CHANNEL_OPEN is kept, in order."""
    made = Ahead(chunk=chunk)
    del made.pair.answers[ChannelOffered]
    made.pair.run()
    ((side, question),) = made.pair.open
    assert (side, made.ran) == ("server", [])
    assert not made.pair.told("server", ChannelRequested)
    made.pair.answer("server", question, True)
    made.pair.run()
    assert made.ran == ["true"]
    assert ChannelExit in made.pair.kinds("client")


def test_what_a_server_put_first_is_known() -> None:
    made = Ahead(server={"kex": ("ecdh-sha2-nistp256", "curve25519-sha256")}, guess=False)
    made.pair.run()
    assert made.pair.client.offered == ("ecdh-sha2-nistp256", "ssh-ed25519")


def test_failure_before_anything_was_asked_is_out_of_turn() -> None:
    made = Ahead(session=False, answers={})
    pair = made.pair
    del pair.answers[CredentialNeeded]
    pair.run()
    pair.inject("server", UserauthFailure(("publickey",), False).encode())
    pair.run()
    assert isinstance(pair.error("client"), ProtocolViolation)
