"""Logins to accounts: who exists, what counts as a step, names that are more. See docs/attacks.md."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from glasshell.aio import shellgate
from glasshell.aio.gatekeeper import Peer
from glasshell.aio.shellgate import AccountGatekeeper
from glasshell.aio.ways import Candidate, Outcome, Passed, Way
from glasshell.config.options import ServerOptions
from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import ConfigError
from glasshell.events import Prompts, PromptText, Verdict
from glasshell.keys.authorized_keys import Permissions
from glasshell.policy import Policy
from glasshell.system.accounts import Account, current_account, is_root
from glasshell.system.files import account_path
from glasshell.values import replace as changed
from glasshell.wire import Secret

pytest.importorskip("pwd")

PEER = Peer("192.0.2.1", 1, "192.0.2.2", 22)
FAR = 2.7 * math.sqrt(2 / 1000)
"""Two samples of a thousand of one distribution are so far apart once in a million times; where the times
tell who exists, they are twice as far."""

KEY, OTHER = (PrivateKey.generate("ssh-ed25519").public for _ in range(2))


class Clock:
    """Time that passes where somebody says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.loop = asyncio.new_event_loop()
        monkeypatch.setattr(self.loop, "time", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float, result: Any = None) -> None:
        self.now += max(seconds, 0.0)

    def spent(self, work: Awaitable[Any]) -> tuple[Any, float]:
        """What `work` comes to, and how long it took."""
        began = self.now
        result = self.loop.run_until_complete(work)  # type: ignore[arg-type]
        return result, self.now - began


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Clock(monkeypatch)
    yield made
    made.loop.close()


def some(name: str) -> Account | None:
    """The accounts of these tests: every user whose name begins with "real"."""
    return replace_account(name) if name.startswith("real") else None


def replace_account(name: str) -> Account:
    return changed(current_account(), name=name, shell="/bin/sh")


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shellgate, "find_account", some)
    monkeypatch.setattr(shellgate, "account_objection", lambda *_, **__: "")


def ways(clock: Clock, rng: random.Random, works: tuple[float, float]) -> dict[str, type[Way]]:
    """Ways that take their time about those who exist, and none about those who do not."""

    class Slow(Way):
        equal = False

        async def _work(self, who: Candidate) -> None:
            if who.account is not None:
                clock.now += rng.uniform(*works)

        async def key(self, who: Candidate, key: Any, *, signed: bool) -> Outcome:
            return await self._work(who)

        async def password(self, who: Candidate, password: Secret, new: Secret | None) -> Outcome:
            return await self._work(who)

        async def interactive(self, who: Candidate, submethods: str) -> Outcome:
            return Prompts((PromptText("Password: ", False),))

        async def answers(self, who: Candidate, answers: Sequence[Secret]) -> Outcome:
            return await self._work(who)

    made = {}
    for name in ("publickey", "password", "keyboard-interactive"):
        made[name] = type(name, (Slow,), {"method": name})
    return made


ASKED: dict[str, Callable[[AccountGatekeeper, str], Awaitable[Any]]] = {
    "none": lambda gate, user: gate.none(user, PEER),
    "query": lambda gate, user: gate.key(user, KEY, PEER, signed=False),
    "signed": lambda gate, user: gate.key(user, KEY, PEER, signed=True),
    "password": lambda gate, user: gate.password(user, Secret("x"), PEER, None),
    "interactive": lambda gate, user: gate.interactive(user, "", PEER),
    "answers": lambda gate, user: gate.answers(user, [Secret("x")], PEER),
}


def same_on_the_wire(answer: Any) -> Any:
    """A verdict without what only the records are told."""
    return changed(answer, valid=True) if isinstance(answer, Verdict) else answer


@pytest.mark.parametrize("how", ASKED)
@pytest.mark.parametrize("works", [(0.0, 0.002), (0.02, 0.06), (0.0, 0.3)], ids=["files", "program", "mixed"])
@pytest.mark.usefixtures("accounts")
def test_l1_cve_2018_15473_who_exists_is_told_by_nothing(
    how: str, works: tuple[float, float], clock: Clock
) -> None:
    """A thousand users of each kind: the same answers, and times of one distribution (Kolmogorov-Smirnov)."""
    rng = random.Random(20260101)
    gate = AccountGatekeeper(ServerOptions(), ways=ways(clock, rng, works))
    for index in range(64):  # somebody has mistyped something before
        clock.spent(ASKED[how](gate, f"real-before-{index}"))
    real, unreal = [], []
    answers = set()
    for index in range(1000):
        for name, times in ((f"real{index}", real), (f"unreal{index}", unreal)):
            answer, took = clock.spent(ASKED[how](gate, name))
            answers.add(repr(same_on_the_wire(answer)))
            times.append(took)
    assert len(answers) == 1
    assert distance(real, unreal) < FAR
    assert how in ("none", "interactive") or min(real + unreal) >= 0.005


def distance(one: list[float], two: list[float]) -> float:
    """The largest difference of the two distribution functions."""
    marks = sorted({*one, *two})
    one, two = sorted(one), sorted(two)
    at, found = [0, 0], 0.0
    for mark in marks:
        for k, times in enumerate((one, two)):
            while at[k] < len(times) and times[at[k]] <= mark:
                at[k] += 1
        found = max(found, abs(at[0] / len(one) - at[1] / len(two)))
    return found


@pytest.mark.usefixtures("accounts")
def test_l1_blocks_of_match_do_not_tell_either(clock: Clock) -> None:
    """Where settings depend on the user, `none` has a floor as well, above what a look-up takes."""
    options = ServerOptions()

    def match(user: str, account: Account | None, peer: Peer) -> tuple[Policy, ServerOptions]:
        clock.now += 0.0009 if account is not None else 0.0001
        return Policy.server(), options

    gate = AccountGatekeeper(options, match=match)
    kinds = ("real", "unreal")
    took = [[clock.spent(gate.none(f"{kind}{n}", PEER))[1] for n in range(1000)] for kind in kinds]
    assert distance(*took) < FAR


class Sure(Way):
    """Believes everybody, and says which command is to run."""

    method: ClassVar[str] = "publickey"
    command: ClassVar[str | None] = None

    async def key(self, who: Candidate, key: Any, *, signed: bool) -> Outcome:
        if any(step.key == key for step in who.passed):
            return None
        return Passed(Permissions(command="one" if key == KEY else "two"), key=key)

    async def password(self, who: Candidate, password: Secret, new: Secret | None) -> Outcome:
        return Passed()


def gate_with(passed: Sequence[Any], **options: Any) -> AccountGatekeeper:
    """A gatekeeper of a connection whose core says that these steps are done."""
    base = AccountGatekeeper(
        ServerOptions(root_login="yes", **options),
        ways={"publickey": Sure, "password": type("P", (Sure,), {"method": "password"})},
    )
    core = SimpleNamespace(passed=tuple(passed), adopt=lambda policy: None)
    link = SimpleNamespace(state=lambda *_, **__: None)
    return base.of(SimpleNamespace(core=core, on_end={}, link=link))  # type: ignore[arg-type]


@pytest.mark.usefixtures("accounts")
def test_l2_russh_cve_2026_46705_steps_are_the_cores_and_nothing_is_kept_beside(clock: Clock) -> None:
    """The gatekeeper has said yes to a step; whether it counts, for whom, and until when, the core knows."""
    both = {"authentication_methods": ("publickey,password",)}
    gate = gate_with((), **both)
    first, _ = clock.spent(gate.key("real", KEY, PEER, signed=True))
    assert (first.accepted, first.partial, first.methods) == (True, True, ("password",))
    # The signature was wrong, or somebody else has come: the core has nothing, and so has nobody.
    again, _ = clock.spent(gate.password("real", Secret("x"), PEER, None))
    assert (again.accepted, again.methods) == (False, ("publickey",))
    second, _ = clock.spent(gate_with((first.grant,), **both).password("real", Secret("x"), PEER, None))
    assert (second.accepted, second.partial) == (True, False)


@pytest.mark.usefixtures("accounts")
def test_l3_c16_two_commands_are_none(clock: Clock) -> None:
    two = {"authentication_methods": ("publickey,publickey",)}
    first, _ = clock.spent(gate_with((), **two).key("real", KEY, PEER, signed=True))
    same, _ = clock.spent(gate_with((first.grant,), **two).key("real", KEY, PEER, signed=True))
    other, _ = clock.spent(gate_with((first.grant,), **two).key("real", OTHER, PEER, signed=True))
    assert not same.accepted  # a key counts once
    assert not other.accepted  # and forces another command


@pytest.mark.parametrize(
    "name", ["../bob", "..", ".", "a/b", "/etc/passwd", "a\0b"], ids=["up", "..", ".", "slash", "root", "nul"]
)
@pytest.mark.parametrize("pattern", ["/etc/keys/%u", "/etc/keys/%%%u/k", "%h/%u"])
def test_l4_asyncssh_ghsa_qr67_names_that_are_paths(name: str, pattern: str) -> None:
    """`%u` of AuthorizedKeysFile with such a name would be another user's file, or no file of keys at all."""
    account = changed(current_account(), name=name, home="/home/x")
    with pytest.raises(ConfigError, match="no name of a file"):
        account_path(pattern, account)
    assert account_path("%%u", account) == "/home/x/%u"


@pytest.mark.parametrize(
    "user",
    ["", "a\nb", "%n%s%h", "-x", "x" * 65536, "\udcff\udcfe", "$HOME", "~", "`id`", "../root", "\x1b]0;x"],
    ids=range(11),
)
def test_l5_cve_2016_7406_names_are_names(user: str, clock: Clock) -> None:
    """Whatever stands there is looked up, found to be nobody, and refused like everybody else."""
    gate = AccountGatekeeper(ServerOptions())
    answer, took = clock.spent(gate.key(user, KEY, PEER, signed=False))
    assert (answer.accepted, answer.methods) == (False, gate.methods)
    assert took >= 0.005


@pytest.mark.skipif(not is_root(), reason="only root has files of others")
@pytest.mark.parametrize("kind", ["fifo", "folder", "link-to-a-folder", "link-in-a-circle", "device"])
@pytest.mark.usefixtures("accounts")
def test_l6_dropbear_authorized_keys_that_is_no_file(kind: str, tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys"
    match kind:
        case "fifo":
            import os

            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link-to-a-folder":
            path.symlink_to(tmp_path)
        case "link-in-a-circle":
            path.symlink_to(path)
        case "device":
            path.symlink_to("/dev/zero")
    gate = AccountGatekeeper(ServerOptions(authorized_keys=(str(path),), strict_modes=False))
    answer, _ = clock.spent(gate.key("real", KEY, PEER, signed=False))
    assert not answer.accepted
