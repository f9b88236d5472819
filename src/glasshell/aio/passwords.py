"""Logins by password and by keyboard-interactive, with PAM or, for passwords, without.

What PAM is asked about one connection it is asked through one handle, in one process (`pamprocess`): each
way's steps, whether the account may log in now, and the session, which is open while the connection is. As in
OpenSSH a user who does not exist, or may not log in, goes the same way through the same modules; but what
they are given for a password is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final

from ..errors import ConfigError
from ..events import Prompts
from ..wire import Secret, visible
from .ways import Candidate, Outcome, Passed, Way

if TYPE_CHECKING:
    from ..config.options import ServerOptions
    from .pamprocess import PamProcess, Reply
    from .shellgate import AccountGatekeeper

__all__ = ["InteractiveWay", "PamWay", "PasswordWay", "ShadowWay", "ways"]

JUNK: Final = b"\b\n\r\177INCORRECT"
"""What nobody has for a password; modules are given it, as long as what was typed, as sshd does."""


class _Stage(Enum):
    """How far a conversation has come."""

    AUTHENTICATE = 1
    ACCOUNT = 2
    CHANGE = 3


class PamWay(Way):
    """One connection's process for PAM, and the last word about a login: account management, the session."""

    method = "pam"
    confirms = True

    folder: ClassVar[str] = ""
    """Where services are; empty: where the system has them."""

    def __init__(self, gate: AccountGatekeeper) -> None:
        super().__init__(gate)
        self._process: PamProcess | None = None
        self._spare: PamProcess | None = None
        """One that has not been told yet whom it is for."""
        self._user = ""
        self._stage: _Stage | None = None
        """Of the conversation that is open."""
        self._account_good = False

    def expect(self) -> None:
        """Starts the process: by the time that it is asked, it is there."""
        from .pamprocess import PamProcess

        if self._process is None and self._spare is None:
            with suppress(ConfigError):  # it is started again, and the error told, when it is needed
                self._spare = PamProcess()

    async def process(self, who: Candidate) -> PamProcess:
        """The process that asks about `who`: as it is, or a new one. Raises ConfigError."""
        if self._process is not None and self._process.idle and self._user == who.user and not self._stage:
            return self._process
        from .pamprocess import PamProcess  # late: a login by key without PAM does without

        spare, self._spare = self._spare, None
        self.over()
        process = self._process = spare if spare is not None and spare.idle else PamProcess()
        self._user, self._stage, self._account_good = who.user, None, False
        options, peer = who.options, who.peer
        place = f"{peer.address} {peer.port} {peer.local_address} {peer.local_port}"
        service = options.pam_service_name if options.use_pam else ""
        reply = await process.start(
            who.user, service, peer.address, self.folder, environment={"SSH_CONNECTION": place}
        )
        if not reply.ok:
            raise ConfigError(f"PAM: {reply}")
        return process

    # Steps

    async def check(self, who: Candidate, password: Secret) -> bool:
        """Whether this is the password of `who`."""
        try:
            process = await self.process(who)
            reply = await process.check(
                _given(who, password), empty_passwords=who.options.permit_empty_passwords
            )
        except ConfigError as error:
            self.gate.note("error", str(error))
            return False
        return self._accepted(who, reply)

    async def begin(self, who: Candidate) -> Outcome:
        """A conversation begins: prompts, yes or no."""
        try:
            process = await self.process(who)
            self._stage = _Stage.AUTHENTICATE
            return await self._go_on(
                who, await process.authenticate(empty_passwords=who.options.permit_empty_passwords)
            )
        except ConfigError as error:
            self._failed(error)
            return None

    async def answers(self, who: Candidate, answers: Sequence[Secret]) -> Outcome:
        """It goes on."""
        if self._process is None or self._stage is None or self._user != who.user:
            return None
        try:
            given = answers
            if self._stage is _Stage.AUTHENTICATE:
                given = [_given(who, each) for each in answers]
            return await self._go_on(who, await self._process.answer(given))
        except ConfigError as error:
            self._failed(error)
            return None

    async def _go_on(self, who: Candidate, reply: Reply | Prompts) -> Outcome:
        """From one stage to the next, as far as that goes without the user."""
        process = self._process
        assert process is not None
        while not isinstance(reply, Prompts):
            stage, self._stage = self._stage, None
            if stage is _Stage.AUTHENTICATE:
                if not self._accepted(who, reply) or who.account is None:
                    return None
                self._stage = _Stage.ACCOUNT
                reply = await process.account(empty_passwords=who.options.permit_empty_passwords)
            elif stage is _Stage.ACCOUNT and reply.password_expired:
                self._stage = _Stage.CHANGE
                reply = await process.change_expired()
            elif reply.ok:
                self._account_good = True
                return Passed()
            else:
                self._refused(who, reply)
                return None
        return reply

    def _accepted(self, who: Candidate, reply: Reply) -> bool:
        if reply.ok and (objection := _renamed(who, reply)):
            self.gate.note("error", objection)
            return False
        if not reply.ok:
            whom = visible(who.user) if who.account is not None else f"illegal user {visible(who.user)}"
            self.gate.note("error", f"PAM: {visible(reply.text)} for {whom} from {who.peer.address}")
        return reply.ok and who.account is not None

    def _failed(self, error: ConfigError) -> None:
        self._stage = None
        self.gate.note("error", str(error))

    # The last word

    async def confirm(self, who: Candidate) -> str:
        try:
            return await self._account(who) or await self._open(who)
        except ConfigError as error:
            return str(error)

    async def _account(self, who: Candidate) -> str:
        if self._account_good and self._process is not None and self._user == who.user:
            return ""
        process = await self.process(who)
        reply = await process.account(empty_passwords=who.options.permit_empty_passwords)
        if isinstance(reply, Prompts):
            await process.give_up()
            return "PAM account management asks, which is done in keyboard-interactive only"
        if reply.password_expired:
            self._refused(who, reply)
            return "the password has expired; keyboard-interactive can change it"
        return _renamed(who, reply) if reply.ok else self._refused(who, reply)

    def _refused(self, who: Candidate, reply: Reply) -> str:
        assert self._process is not None
        if who.account is not None and (text := self._process.said()) and self.gate.connection is not None:
            self.gate.connection.core.show_banner(text)
        return f"PAM account configuration: {visible(str(reply))}"

    async def _open(self, who: Candidate) -> str:
        process = await self.process(who)
        reply = await process.open_session()
        self.message, self.session = process.said(), process
        return _renamed(who, reply) if reply.ok else f"PAM session: {visible(str(reply))}"

    def over(self) -> None:
        for process in (self._process, self._spare):
            if process is not None:
                process.end()
        self._process = self._spare = None
        self._stage = self.session = None


class ShadowWay(PamWay):
    """The process where there is no PAM: it checks passwords by shadow(5), and has no other word to say."""

    confirms = False


class PasswordWay(Way):
    """The method `password` (RFC 4252 §8)."""

    method = "password"

    async def password(self, who: Candidate, password: Secret, new: Secret | None) -> Outcome:
        if new is not None:
            return None
        return Passed() if await _pam(self.gate).check(who, password) else None


class InteractiveWay(Way):
    """keyboard-interactive through PAM: each round of the modules is one of RFC 4256."""

    method = "keyboard-interactive"
    submethod = "pam"

    async def interactive(self, who: Candidate, submethods: str) -> Outcome:
        wanted = submethods.split(",") if submethods else ["pam"]
        return await _pam(self.gate).begin(who) if "pam" in wanted else None

    async def answers(self, who: Candidate, answers: Sequence[Secret]) -> Outcome:
        return await _pam(self.gate).answers(who, answers)


def ways(options: ServerOptions) -> dict[str, type[Way]]:
    """The ways of this file that the options switch on, in the order in which sshd lists them."""
    found: dict[str, type[Way]] = {}
    if options.password_authentication:
        found[PasswordWay.method] = PasswordWay
    if options.use_pam and options.kbd_interactive_authentication:
        found[InteractiveWay.method] = InteractiveWay
    return {**found, PamWay.method: PamWay if options.use_pam else ShadowWay}


def _pam(gate: AccountGatekeeper) -> PamWay:
    way = gate.way(PamWay.method)
    assert isinstance(way, PamWay)
    return way


def _renamed(who: Candidate, reply: Reply) -> str:
    """Why modules that made another user of this one are not followed: all else was decided for the name that
    was asked for, the account, its keys, what it may."""
    same = reply.user == who.user
    return "" if same else f"PAM: user {visible(who.user)} became {visible(reply.user)}: refused"


def _given(who: Candidate, password: Secret) -> Secret:
    """What modules are given: nobody's password where the account may not come in by one (sshd's fakepw)."""
    may = who.account is not None and (who.account.uid != 0 or who.options.root_login == "yes")
    if may:
        return password
    size = len(password)
    return Secret((JUNK * (size // len(JUNK) + 1))[:size])
