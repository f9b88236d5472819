"""What is sent ahead to whom, and what happens where it was in vain: a command is never run twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from glasshell.aio.client import Connection
from glasshell.aio.dial import dial
from glasshell.aio.gatekeeper import Answer, Peer
from glasshell.aio.login import Login
from glasshell.aio.memory import PROCESS, Memory, Remembered, today
from glasshell.aio.process import Process
from glasshell.aio.recorder import Recorder
from glasshell.aio.server import ServerConnection
from glasshell.aio.session import ServerSession
from glasshell.aio.speculation import GRUDGE, IN_TURNS, Plan, Speculation, plan
from glasshell.aio.trust import Trust
from glasshell.crypto.registry import Kind
from glasshell.crypto.registry import names as rows
from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.errors import (
    AuthenticationFailed,
    ConnectionLost,
    Disconnected,
    HostKeyRefused,
    PeerError,
    SpeculationFailed,
    SSHError,
)
from glasshell.keys.known_hosts import KnownHosts, format_entry
from glasshell.observe.record import StateRecord
from glasshell.policy import Policy
from glasshell.values import replace
from tests.aio.kit import HOST_KEY, STRANGER, USER_KEY, Users, connecting, run, serving

HOST = "127.0.0.1"
RSA = PrivateKey.generate("ssh-rsa", 2048)
HYBRID, CURVE, NIST = "mlkem768x25519-sha256", "curve25519-sha256", "ecdh-sha2-nistp256"


def trusting(*keys: PrivateKey, port: int = 22, marker: str = "") -> Trust:
    lines = "".join(marker + format_entry(HOST, port, key.public) for key in keys)
    return Trust(HOST, port, known_hosts=KnownHosts.parse(lines), strict="yes")


# --- what may lead

KNOWN = Remembered(kex=CURVE, host_key="ssh-ed25519", channel=0, logins={"ada": "SHA256:x"})
POLICY = Policy.client(kex=(CURVE, NIST), host_key_algorithms=("ecdsa-sha2-nistp256", "ssh-ed25519"))


def planned(
    known: Remembered = KNOWN, policy: Policy = POLICY, trust: Trust | None = None, **more: Any
) -> Plan:
    return plan(known, policy, trust or trusting(HOST_KEY), "ada", **more)


def test_a_server_that_is_known_is_led_with_what_it_puts_first() -> None:
    made = planned()
    assert (made.kex, made.host_key, made.key, made.channel) == (CURVE, "ssh-ed25519", "SHA256:x", 0)
    policy = made.apply(POLICY)
    assert (policy.guess, policy.eager) == (True, True)
    assert policy.kex == POLICY.kex
    assert policy.host_key_algorithms == ("ssh-ed25519", "ecdsa-sha2-nistp256")


def test_a_stranger_is_not_guessed_about() -> None:
    assert planned(Remembered()) == Plan(eager=True)
    assert not Plan(eager=True).apply(POLICY).guess


@pytest.mark.parametrize(("known", "policy", "fixed"), [
    (replace(KNOWN, kex="diffie-hellman-group1-sha1"), POLICY, ()),  # not allowed here
    (replace(KNOWN, kex=""), POLICY, ()),
    (replace(KNOWN, host_key="ssh-rsa"), POLICY, ()),
    (replace(KNOWN, host_key="ecdsa-sha2-nistp256"), POLICY, ()),  # no such key is known
    (replace(KNOWN, kex=NIST), POLICY, ("kex",)),  # the user's order
    (KNOWN, POLICY, ("host_key_algorithms",)),
    (KNOWN, POLICY.but(kex=(HYBRID, CURVE)), ()),  # the server may have learned the better one since
    (replace(KNOWN, misled=today()), POLICY, ()),
])  # fmt: skip
def test_what_does_not_lead(known: Remembered, policy: Policy, fixed: tuple[str, ...]) -> None:
    assert planned(known, policy, fixed=fixed).kex == ""


def test_an_order_that_fits_by_itself_is_guessed_by() -> None:
    policy = POLICY.but(host_key_algorithms=("ssh-ed25519",))
    assert planned(KNOWN, policy, fixed=("kex", "host_key_algorithms")).kex == CURVE


@pytest.mark.parametrize("trust", [
    trusting(), trusting(STRANGER, marker="@cert-authority "),
    Trust(HOST, known_hosts=KnownHosts.parse(
        format_entry(HOST, 22, HOST_KEY.public) + "@revoked " + format_entry(HOST, 22, HOST_KEY.public)
    )),
])  # fmt: skip
def test_a_key_that_is_not_trusted_does_not_lead(trust: Trust) -> None:
    assert planned(trust=trust).kex == ""


def test_a_short_rsa_key_does_not_lead() -> None:
    known = replace(KNOWN, host_key="rsa-sha2-512")
    policy = POLICY.but(host_key_algorithms=("ssh-ed25519", "rsa-sha2-512"))
    assert planned(known, policy, trusting(RSA)).host_key == "rsa-sha2-512"
    assert planned(known, policy.but(min_rsa_bits=3072), trusting(RSA)).host_key == ""


def test_the_lists_stay_the_same_lists() -> None:
    for kex in rows(Kind.KEX):
        made = planned(replace(KNOWN, kex=kex)).apply(POLICY)
        assert sorted(made.kex) == sorted(POLICY.kex)
        assert sorted(made.host_key_algorithms) == sorted(POLICY.host_key_algorithms)


def test_who_took_offence_is_spoken_to_in_turns_for_a_time() -> None:
    assert planned(replace(KNOWN, in_turns=today())) is IN_TURNS
    assert planned(replace(KNOWN, in_turns=today() - GRUDGE)) is not IN_TURNS
    assert planned(replace(KNOWN, in_turns=today() + 5)) is not IN_TURNS  # no grudge out of the future


# --- what is excused


def speculating(**known: Any) -> Speculation:
    memory = Memory()
    memory.note(HOST, "ada", kex=CURVE, host_key="ssh-ed25519", channel=0, login="SHA256:x", **known)
    return Speculation(memory, trusting(HOST_KEY), POLICY, "ada", lambda *a, **k: None)


WORD = Disconnected("no", reason=2, description="")


@pytest.mark.parametrize(("asked", "error", "facts", "excused"), [
    (False, ConnectionLost("x"), {"ahead": True}, True),
    (False, WORD, {"ahead": True}, True),
    (False, PeerError("x"), {"ahead": True}, True),
    (False, HostKeyRefused("x"), {"ahead": True}, False),
    (False, WORD, {"begun": False}, False),  # MaxStartups, or no SSH server
    (True, WORD, {"opening": True, "ahead": True}, True),
    (True, WORD, {"opening": True}, True),  # let in, and no channel was ever opened
    (True, WORD, {"opening": False}, False),  # the program may have begun
    (True, ConnectionLost("x"), {"opening": True, "ahead": True}, False),  # its word may have been lost
    (True, PeerError("x"), {"opening": True, "ahead": True}, False),
    (True, SpeculationFailed("x"), {"opening": True}, True),
])  # fmt: skip
def test_what_is_excused(asked: bool, error: SSHError, facts: dict[str, bool], excused: bool) -> None:
    made = speculating()
    made.asked, made.exchanged = asked, True
    assert made.excuses(error, **{"begun": True, "ahead": False, "opening": False, **facts}) is excused


def test_a_guess_is_excused_until_keys_are_exchanged() -> None:
    made = speculating()
    facts = {"begun": True, "ahead": False, "opening": False}
    assert made.excuses(ConnectionLost("x"), **facts)
    made.exchanged = True
    assert not made.excuses(ConnectionLost("x"), **facts)
    made.plan = IN_TURNS
    assert not made.excuses(SpeculationFailed("x"), **facts)


@pytest.mark.parametrize(("bold", "known", "software", "number"), [
    (True, {"channel": None}, "OpenSSH_9.2p1 Debian", 0), (False, {"channel": None}, "OpenSSH_9.2p1", None),
    (False, {}, "OpenSSH_9.2p1", 0), (False, {}, "Other_1", None), (True, {}, "Other_1", None),
    (False, {"proven": True}, "Other_1", 0), (True, {"channel": -1}, "OpenSSH_9.2p1", None),
])  # fmt: skip
def test_which_number_is_expected(
    bold: bool, known: dict[str, Any], software: str, number: int | None
) -> None:
    made = speculating()
    made.memory.note(HOST, "ada", **{"software": software.partition(" ")[0], **known})
    made.known, made.bold = made.memory.recall(HOST), bold
    assert made.first_channel(software) == number
    if known.get("channel", 0) == 0:
        expected = None if "Other" in software or not bold else 0
        assert made.first_channel("OpenSSH_other" if "OpenSSH" in software else "else") == expected


# --- connections


class Server(Users):
    """Counts what was run, and what connected."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []
        self.lets_in = [USER_KEY.public]
        self.mute = False

    def of(self, connection: ServerConnection) -> Server:
        self.last = connection
        return self

    async def key(self, user: str, key: PublicKey, peer: Peer, *, signed: bool) -> Answer:
        if self.mute:
            self.last.link.cork()
        return key in self.lets_in

    async def handle(self, session: ServerSession) -> int:
        self.ran.append(session.command or "")
        if self.mute:
            session.connection.link.abort()
        return 0


class Client:
    """Connects as `glasshell ssh` does, the session ahead where that may be; keeps the states it was told."""

    def __init__(
        self, port: int, *, keys: tuple[PrivateKey, ...] = (USER_KEY,), trust: Trust | None = None
    ) -> None:
        self.port = port
        self.keys = keys
        self.trust = trust or trusting(HOST_KEY, port=port)
        self.states: list[str] = []
        self.begun: list[Process] = []
        self.dialled = 0

    def _hear(self, record: Any) -> None:
        if isinstance(record, StateRecord):
            self.states.append(record.name)

    async def run(self, command: str = "work") -> int | None:
        recorder = Recorder("client", [self._hear], asyncio.get_running_loop().time)
        policy = Policy.client(login_grace=0)
        made = Speculation(PROCESS, self.trust, policy, "ada", recorder.state, bold=True)
        return await made.connect(lambda: self._attempt(made, policy, recorder, command))

    async def _attempt(
        self, made: Speculation, policy: Policy, recorder: Recorder, command: str
    ) -> int | None:
        self.begun.clear()
        self.dialled += 1
        login = Login("ada", HOST, keys=self.keys, state=recorder.state)
        connection = Connection(
            HOST, self.port, "ada", policy=policy, trust=self.trust, login=login, recorder=recorder,
            speculation=made, ahead=lambda c: self.begun.append(c.begin(command)),
        )  # fmt: skip
        try:
            await connection.start(await dial(HOST, self.port, state=recorder.state))
            if self.begun:
                await connection.started(self.begun[0])
                process = self.begun[0]
            else:
                process = await connection.open(command)
            await process.communicate()
            return process.status
        finally:
            await connection.close()


def known(port: int) -> Remembered:
    return PROCESS.recall(trusting(port=port).name)


def test_the_session_goes_ahead_from_the_second_contact_on() -> None:
    async def main() -> None:
        gate = Server()
        async with serving(gatekeeper=gate, handler=gate.handle) as server:
            client = Client(server.port)
            for contact in range(3):
                client.states.clear()
                assert await client.run(f"work {contact}") == 0
                ahead = client.states.index("channel_opening") < client.states.index("authenticated")
                assert ahead is (contact > 0)
            assert gate.ran == ["work 0", "work 1", "work 2"]
            assert client.dialled == 3
            assert known(server.port).proven

    run(main())


@pytest.mark.parametrize("others", [(), (STRANGER,)])
def test_a_key_that_is_refused_this_time(others: tuple[PrivateKey, ...]) -> None:
    """The command runs once where another key does it, and never where none does."""

    async def main() -> None:
        gate = Server()
        async with serving(gatekeeper=gate, handler=gate.handle) as server:
            client = Client(server.port, keys=(USER_KEY, *others))
            assert await client.run() == 0
            gate.lets_in = [key.public for key in others]
            gate.ran.clear()
            client.states.clear()
            if others:
                assert await client.run() == 0
            else:
                with pytest.raises(AuthenticationFailed):
                    await client.run()
            assert gate.ran == ["work"] * len(others)
            assert client.dialled == 3
            assert client.states.count("speculation_failed") == 1
            assert "error" not in client.states or not others
            fingerprints = [key.public.fingerprint() for key in others]
            assert list(known(server.port).logins.values()) == fingerprints

    run(main())


def test_the_library_needs_no_second_connection_for_that() -> None:
    async def main() -> None:
        gate = Server()
        async with serving(gatekeeper=gate, handler=gate.handle) as server:
            for keys in ([USER_KEY.public], [STRANGER.public]):
                gate.lets_in = keys
                async with connecting(server.port, keys=[USER_KEY, STRANGER]) as connection:
                    assert (await connection.run("work")).ok
            assert gate.ran == ["work", "work"]

    run(main())


def test_an_end_without_a_word_may_hide_that_it_ran() -> None:
    """Whoever drops what a server says once it has let somebody in must not get a command run twice."""

    async def main() -> None:
        gate = Server()
        async with serving(gatekeeper=gate, handler=gate.handle) as server:
            client = Client(server.port)
            assert await client.run("first") == 0
            gate.mute = True
            with pytest.raises(ConnectionLost):
                await client.run("second")
            assert gate.ran == ["first", "second"]
            assert client.dialled == 2

    run(main())


def test_a_host_key_that_changed_is_judged_as_if_nothing_had_been_guessed() -> None:
    async def main() -> None:
        gate = Server()
        policy = Policy.server(host_key_algorithms=("rsa-sha2-512", "ssh-ed25519"))
        keys = [RSA, HOST_KEY]
        async with serving(gatekeeper=gate, handler=gate.handle, host_keys=keys, policy=policy) as server:
            port = server.port
            client = Client(port, trust=trusting(RSA, HOST_KEY, port=port))
            assert await client.run() == 0
            stale = PrivateKey.generate("ssh-rsa", 2048)
            client = Client(port, trust=trusting(stale, HOST_KEY, port=port))
            assert await client.run() == 0  # by the key that is right
            assert client.states.count("speculation_failed") == 1
            assert known(port).misled == today()
            client = Client(port, trust=trusting(STRANGER, port=port))
            with pytest.raises(HostKeyRefused, match="HAS CHANGED"):
                await client.run()
            assert gate.ran == ["work", "work"]

    run(main())
