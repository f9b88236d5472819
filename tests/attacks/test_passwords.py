"""Attacks on logins by password and by keyboard-interactive through PAM, and on who types them.

The server is the one of `glasshell sshd`, the modules are Linux-PAM's own: a service in a folder of the
test's asks for a password that its script knows, and opens sessions that leave a line in a log.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from glasshell.aio.gatekeeper import Gatekeeper, KnownUsers, Peer
from glasshell.aio.login import Asking
from glasshell.aio.process import Completed
from glasshell.aio.server import Serving
from glasshell.auth.totp import Totp, TotpCodes
from glasshell.config.options import ServerOptions
from glasshell.errors import AuthenticationFailed, ConnectionClosed, SSHError
from glasshell.events import Prompts, PromptsShown, Verdict
from glasshell.observe.record import MessageRecord, Record, StateRecord
from glasshell.policy import Policy
from glasshell.wire import Secret
from tests.aio.kit import connecting, run, serving
from tests.needs import absent

if not sys.platform.startswith("linux"):
    pytest.skip("Linux-PAM", allow_module_level=True)

from glasshell.aio.passwords import PamWay
from glasshell.aio.shellgate import AccountGatekeeper
from glasshell.aio.shellserver import run_program
from glasshell.system.accounts import current_account

RIGHT = "open sesame 79b1"
ME = current_account().name
NOBODY = "nobody-of-this-name"
ASKING = (
    "auth required pam_exec.so expose_authtok quiet @check",
    "auth required pam_permit.so",  # somebody has to give the credentials, too
    "account required pam_permit.so",
    "session required pam_exec.so @hook",
)


class Server:
    """Our server with a service of the test's, and all that its connections have told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: list[Record] = []
        self.script("check", f"test \"$(tr -d '\\0')\" = '{RIGHT}'")
        self.script("hook", 'echo "$PAM_TYPE $PAM_USER" >>"${0%/*}/log"')
        self.service(*ASKING)

    def script(self, name: str, text: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        (self.folder / name).chmod(0o755)

    def service(self, *lines: str) -> None:
        text = "\n".join(lines).replace("@", f"{self.folder}/")
        (self.folder / "glass").write_text(f"{text}\n", "utf-8")

    def start(self, policy: Policy | None = None, **options: Any) -> Serving:
        settings = {"use_pam": True, "pam_service_name": "glass", "root_login": "yes", **options}
        return serving(
            gatekeeper=AccountGatekeeper(ServerOptions(**settings)), handler=run_program,
            policy=policy or Policy.server(), sinks=lambda peer: [self.records.append],
        )  # fmt: skip

    def states(self, name: str) -> list[dict[str, Any]]:
        return [
            dict(each.facts) for each in self.records if isinstance(each, StateRecord) and each.name == name
        ]

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text("utf-8").splitlines() if path.exists() else []


@pytest.fixture
def pam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    if not list(Path("/usr/lib").glob("*/security/pam_exec.so")):
        absent("the modules of Linux-PAM (Debian's libpam-modules)")
    monkeypatch.setattr(PamWay, "folder", str(tmp_path))
    return Server(tmp_path)


async def processes_over() -> None:
    """Waits until no process of a login is left."""
    from glasshell.aio.pamprocess import _ENDING

    await asyncio.gather(*_ENDING)


def answering(*answers: str) -> Asking:
    """Somebody who types these answers, round after round, and nothing more."""
    left = list(answers)

    async def prompts(shown: PromptsShown) -> Sequence[Secret] | None:
        if not shown.prompts:
            return ()
        return [Secret(left.pop(0)) for _ in shown.prompts] if left else None

    async def password(prompt: str) -> Secret | None:
        return Secret(left.pop(0)) if left else None

    return Asking(prompts=prompts, password=password)


async def login(port: int, method: str, *answers: str, user: str = ME) -> Completed[str]:
    made = connecting(port, user=user, keys=[], order=[method], asking=answering(*answers))
    async with made as connection:
        return await connection.run("echo in")


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_a_login_through_pam_and_the_session_around_it(pam: Server, method: str) -> None:
    async def work() -> None:
        async with pam.start() as server:
            assert (await login(server.port, method, RIGHT)).stdout == "in\n"
        await processes_over()

    run(work())
    assert pam.log == [f"open_session {ME}", f"close_session {ME}"]


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_p1_cve_2016_6210_nobody_is_asked_and_answered_like_everybody(pam: Server, method: str) -> None:
    """Byte for byte, also with the password that would be right."""

    async def heard(user: str, answer: str) -> list[bytes]:
        pam.records.clear()
        async with pam.start() as server:
            with pytest.raises(AuthenticationFailed):
                await login(server.port, method, answer, user=user)
        await processes_over()
        sent = [each for each in pam.records if isinstance(each, MessageRecord) and each.sent]
        return [each.payload for each in sent if 50 <= each.number < 80]

    async def work() -> None:
        known = await heard(ME, "wrong")
        assert known
        assert await heard(NOBODY, "wrong") == known
        assert await heard(NOBODY, RIGHT) == known

    run(work())
    assert pam.log == []


def test_p1_modules_get_nobodys_password_for_who_may_not_log_in(pam: Server) -> None:
    """Whatever was typed: as long as that, and never right (OpenSSH's fake password)."""
    pam.script("check", 'tr -d "\\0" >>"${0%/*}/given"; exit 0')

    async def work() -> None:
        async with pam.start() as server:
            for method in ("password", "keyboard-interactive"):
                with pytest.raises(AuthenticationFailed):
                    await login(server.port, method, RIGHT, user=NOBODY)
        await processes_over()

    run(work())
    given = (pam.folder / "given").read_bytes()
    assert len(given) >= 2 * len(RIGHT)
    assert RIGHT.encode() not in given


def test_p1_root_by_password_where_only_keys_may(pam: Server) -> None:
    if os.geteuid() != 0:
        absent("root, whose login it is about")

    async def work() -> None:
        async with pam.start(root_login="prohibit-password") as server:
            for method in ("password", "keyboard-interactive"):
                with pytest.raises(AuthenticationFailed):
                    await login(server.port, method, RIGHT)
        await processes_over()

    run(work())
    assert pam.log == []


@pytest.mark.parametrize(
    "password", ["", "x" * 1025, "x" * 100_000, f"{RIGHT}\0", f"\0{RIGHT}"],
    ids=["empty", "1025", "100,000", "NUL behind", "NUL before"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_p2_cve_2016_6515_passwords_that_are_none(pam: Server, method: str, password: str) -> None:
    async def work() -> None:
        async with pam.start() as server:
            with pytest.raises(SSHError) as refused:
                await login(server.port, method, password)
            assert isinstance(refused.value, AuthenticationFailed | ConnectionClosed)
        await processes_over()

    run(work())
    assert pam.log == []


def test_p3_cve_2024_6387_grace_time_ends_a_module_that_sleeps(pam: Server) -> None:
    pam.script("sleeper", 'echo $$ >"${0%/*}/pid"; exec sleep 600')
    pam.service("auth required pam_exec.so @sleeper")

    async def work() -> None:
        async with pam.start(Policy.server(login_grace=1.0)) as server:
            with pytest.raises(ConnectionClosed):
                await login(server.port, "keyboard-interactive")
        await processes_over()

    run(work())


def test_p3_a_client_that_leaves_takes_its_process_along(pam: Server) -> None:
    async def work() -> None:
        asked = asyncio.Event()

        async def never(shown: PromptsShown) -> Sequence[Secret] | None:
            asked.set()
            await asyncio.get_running_loop().create_future()
            return None

        async def try_it(port: int) -> None:
            waiting = Asking(prompts=never)
            async with connecting(port, user=ME, keys=[], order=["keyboard-interactive"], asking=waiting):
                pass

        async with pam.start() as server:
            trying = asyncio.ensure_future(try_it(server.port))
            await asked.wait()
            trying.cancel()
            await asyncio.gather(trying, return_exceptions=True)
            while server.connections:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.01)
            await processes_over()

    run(work())
    assert pam.log == []


def test_p4_cve_2015_5600_rounds_of_modules_are_attempts(pam: Server) -> None:
    """Six failures, however often and under which names they are asked for."""

    async def work() -> None:
        async with pam.start(Policy.server(max_auth_failures=3)) as server:
            with pytest.raises(SSHError):
                await login(server.port, "keyboard-interactive", *["wrong"] * 50)
        await processes_over()

    run(work())
    verdicts = [each for each in pam.states("auth_verdict") if each["method"] == "keyboard-interactive"]
    assert len(verdicts) == 3


def test_p4_modules_that_change_the_user_are_not_followed(
    pam: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is allowed was decided for the name that was asked for."""
    from glasshell.aio import pamprocess

    reply = pamprocess.Reply

    def renamed(code: int, text: str = "", user: str = "", more: tuple[str, ...] = ()) -> Any:
        return reply(code, text, "somebody-else" if user else "", more)

    monkeypatch.setattr(pamprocess, "Reply", renamed)

    async def work() -> None:
        async with pam.start() as server:
            with pytest.raises(AuthenticationFailed):
                await login(server.port, "password", RIGHT)
        await processes_over()

    run(work())
    assert any("became somebody-else" in each["text"] for each in pam.states("note"))


class Embedded(KnownUsers):
    """A server with users of its own: a password, then a code."""

    def __init__(self, codes: TotpCodes, clock: list[float]) -> None:
        super().__init__(passwords={"ada": RIGHT})
        self.methods = ("password",)
        self._codes, self._clock = codes, clock

    async def password(self, user: str, password: Secret, peer: Peer, new: Secret | None) -> Verdict:
        good = await super().password(user, password, peer, new)
        return Verdict(bool(good), partial=True, methods=("keyboard-interactive",) if good else None)

    async def interactive(self, user: str, submethods: str, peer: Peer) -> Prompts:
        return self._codes.prompts()

    async def answers(self, user: str, answers: Sequence[Secret], peer: Peer) -> bool:
        return self._codes.check(user, answers, self._clock[0])


def test_p5_a_code_is_good_once_and_guesses_are_few() -> None:
    """RFC 6238 §5.2: also over connections side by side."""
    totp = Totp(b"12345678901234567890")
    clock = [59.0]

    async def attempt(port: int, code: str) -> bool:
        asking = answering(RIGHT, code)
        order = ["password", "keyboard-interactive"]
        try:
            async with connecting(port, user="ada", keys=[], order=order, asking=asking):
                return True
        except AuthenticationFailed:
            return False

    async def work() -> None:
        gate: Gatekeeper = Embedded(TotpCodes({"ada": totp}), clock)
        async with serving(gatekeeper=gate) as server:
            assert await attempt(server.port, "287082")  # RFC 4226 Appendix D, counter 1
            assert not await attempt(server.port, "287082")
            for _ in range(3):
                assert not await attempt(server.port, "000000")
            assert not await attempt(server.port, "359152")  # counter 2, right, and not looked at
            clock[0] = 95.0
            assert await attempt(server.port, "969429")  # counter 3

    run(work())
