"""The gatekeeper of `glasshell sshd`: the machine's accounts, and what sshd_config says about their logins.

Every refusal says the same and takes as long, whether there is such a user or not; why is told to the
log alone. As an ordinary user's program it knows one account: its own. How somebody shows who they are is a
matter of the ways (`ways.py`), one for each method.
"""

from __future__ import annotations

import asyncio
import copy
import hmac
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..auth.methods import METHODS, NONE
from ..auth.steps import Step
from ..config.options import ServerOptions
from ..errors import KeyFormatError
from ..events import GssapiTurn, HostbasedOffered, Prompts, Verdict
from ..keys.authorized_keys import Permissions
from ..keys.public import AnyKey
from ..messages.connection import Mode
from ..policy import Policy
from ..system import asuser, pty
from ..system.accounts import (
    Account,
    account_objection,
    current_account,
    find_account,
    group_names,
    is_root,
)
from ..system.files import read_regular, remove_private, write_private
from ..system.names import host_name
from ..values import replace
from ..wire import Secret, visible
from .gatekeeper import Gatekeeper, LoggedIn, Peer
from .process import Terminal
from .ways import Admission, Candidate, More, Outcome, Passed, Rules, Way

if TYPE_CHECKING:
    import socket

    from ..keys.revoked import Revoked
    from .pamprocess import PamProcess
    from .server import ServerConnection
    from .session import ServerSession

__all__ = ["AccountGatekeeper", "Admission"]

FLOOR: Final = 0.005
"""A refusal takes at least this long, and up to 4.2 ms more by the user's name, as in OpenSSH."""

LOW_FLOOR: Final = 0.002
"""The same for `none`, with which every client begins: looking a user up takes less than a millisecond."""

DAY: Final = 86400
MAX_LIST: Final = 1 << 26
"""Largest file of RevokedKeys, in bytes; what there is to be read of it has bounds of its own."""
PRIVILEGED: Final = 1024
"""Ports below are for root to listen on."""


Match = Callable[[str, Account | None, Peer], tuple[Policy, ServerOptions]]
"""What holds for a user, whose account is None where there is none, from there."""


class AccountGatekeeper(Gatekeeper):
    """Lets in who has an account here and passes the steps that are asked for.

    One is made `of` each connection. `ways` are what there is to log in with, in the order of the offers;
    without them it is what the options switch on. `match` tells what holds for a user, where `options` are
    not everybody's; `methods` are then all that somebody could use.
    """

    def __init__(
        self, options: ServerOptions, banner: str = "", *, ways: Mapping[str, type[Way]] | None = None,
        match: Match | None = None,
    ) -> None:  # fmt: skip
        self.options = options
        self.banner = banner
        self.empty_passwords = options.permit_empty_passwords
        self._default = Rules(options, ways)
        self._given = ways
        self._match = match
        self.methods = METHODS if match is not None else self._default.following(())
        self._only = None if is_root() else current_account()
        self._secret = os.urandom(32)
        self._revoked: dict[str, tuple[tuple[int, ...], Revoked]] = {}
        self._slow: dict[str, deque[float]] = {}
        self._connection: ServerConnection | None = None
        self._none_asked = False
        self._user: str | None = None
        self._peer: Peer | None = None
        self._account: Account | None = None
        self._rules = self._default
        self._ways: dict[str, Way] = {}
        self._auth_info: str | None = None
        self._terminals: dict[ServerSession, pty.Terminal] = {}

    def of(self, connection: ServerConnection) -> AccountGatekeeper:
        mine = copy.copy(self)
        mine._connection = connection
        mine._ways = {}
        mine._terminals = {}
        mine._auth_info = None
        mine._peer = None
        return mine

    @property
    def connection(self) -> ServerConnection | None:
        """The connection whose gatekeeper this is; None: nobody's."""
        return self._connection

    # Logging in

    async def none(self, user: str, peer: Peer) -> Verdict:
        # Without a look at the user, where nothing depends on it: the time that one takes would tell who
        # exists, and a floor under it would be waited for at every login.
        if self._match is None and not self._default.allows(NONE, ()):
            return Verdict(False)
        first, self._none_asked = not self._none_asked, True

        async def ask(way: Way, who: Candidate) -> Outcome:
            return await way.password(who, Secret(b""), None) if first else None  # once, as sshd

        return _only_verdict(await self._judge(NONE, user, peer, ask))

    async def key(self, user: str, key: AnyKey, peer: Peer, *, signed: bool) -> Verdict:
        return _only_verdict(
            await self._judge("publickey", user, peer, lambda way, who: way.key(who, key, signed=signed))
        )

    async def password(self, user: str, password: Secret, peer: Peer, new: Secret | None) -> Verdict:
        return _only_verdict(
            await self._judge("password", user, peer, lambda way, who: way.password(who, password, new))
        )

    async def interactive(self, user: str, submethods: str, peer: Peer) -> Verdict | Prompts:
        return _no_more(await self._judge(
            "keyboard-interactive", user, peer, lambda way, who: way.interactive(who, submethods)
        ))  # fmt: skip

    async def answers(self, user: str, answers: Sequence[Secret], peer: Peer) -> Verdict | Prompts:
        return _no_more(await self._judge(
            "keyboard-interactive", user, peer, lambda way, who: way.answers(who, answers)
        ))  # fmt: skip

    async def other(self, question: Any, peer: Peer) -> Any:
        method = "hostbased" if isinstance(question, HostbasedOffered) else "gssapi-with-mic"
        return await self._judge(method, question.user, peer, lambda way, who: way.other(who, question))

    async def done(self, user: str, grants: Sequence[Any], peer: Peer) -> Verdict:
        who = self._candidate(user, self._peer or peer)
        for name in self._rules.confirming:
            objection = await self.way(name).confirm(who)
            if objection or who.account is None:
                self.note("info", f"Access denied for user {visible(user)}: {objection}")
                return Verdict(False)
        return Verdict(True)

    async def _judge(
        self, method: str, user: str, peer: Peer, ask: Callable[[Way, Candidate], Awaitable[Outcome | More]]
    ) -> Verdict | Prompts | More:
        """Asks the way of `method`; its yes is one step of those wanted, for an account that may log in."""
        loop = asyncio.get_running_loop()
        if self.options.use_dns:
            peer = await self._named(peer)
        began = loop.time()
        who = self._candidate(user, peer)
        rules, passed = self._rules, tuple(admission.step for admission in who.passed)
        outcome = await ask(self.way(method), who) if rules.allows(method, passed) else None
        if isinstance(outcome, Prompts | bytes | GssapiTurn):
            return outcome
        admission = self._admit(who, method, outcome) if outcome is not None else None
        if outcome is None or admission is None:
            await self._wait(method, who, loop.time() - began)
            return Verdict(
                False, methods=rules.following(passed), valid=who.account is not None,
                submethod=rules.submethod(method),
            )  # fmt: skip
        passed = (*passed, admission.step)
        done = rules.complete(passed)
        return Verdict(
            True, partial=not done, methods=None if done else rules.following(passed), grant=admission,
            confirm=done and bool(rules.confirming), touch_required=outcome.touch_required,
            verify_required=outcome.verify_required, submethod=rules.submethod(method),
        )  # fmt: skip

    def _admit(self, who: Candidate, method: str, passed: Passed) -> Admission | None:
        """What a way's yes comes to: nothing without an account, where root may not come in so, or where
        another step forces another command."""
        account, peer, allowed = who.account, who.peer, passed.permissions
        if account is None:
            return None
        if account.uid == 0 and (why := who.options.root_objection(method, allowed.command is not None)):
            self.note("info", f"{why} FROM {peer.address} port {peer.port}")
            return None
        commands = {each.permissions.command for each in who.passed} | {allowed.command}
        if len(commands - {None}) > 1:
            self.note("error", "inconsistent authentication options: forced command options do not match")
            return None
        step = Step(method, self._rules.submethod(method))
        return Admission(account, who.options, allowed, step, passed.shown, passed.key, passed.keep)

    def way(self, name: str) -> Way:
        """The way of this connection; made when it is asked for first."""
        make = self._rules.ways[name]
        way = self._ways.get(name)
        if type(way) is not make:
            way = self._ways[name] = make(self)
            if self._connection is not None:
                self._connection.on_end[way.over] = None
        assert way is not None
        return way

    def revoked_keys(self, path: str) -> Revoked:
        """The list at `path`; read again where the file is another one. Raises OSError, KeyFormatError."""
        from ..keys.revoked import Revoked

        status = Path(path).stat()
        mark = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if (known := self._revoked.get(path)) is None or known[0] != mark:
            known = self._revoked[path] = mark, Revoked.load(read_regular(path, MAX_LIST), path)
        return known[1]

    async def _wait(self, method: str, who: Candidate, elapsed: float) -> None:
        """Has a refusal take as long for who does not exist as for who does.

        A way may ask a program, or somebody elsewhere, about those who exist; how long that has taken lately
        is the time that the others are refused in.
        """
        way = self._rules.ways.get(method)
        took = self._slow.setdefault(method, deque(maxlen=64))
        least = elapsed
        if way is None or way.equal:
            pass
        elif who.account is not None:
            took.append(elapsed)
        elif took:
            least = max(elapsed, took[int.from_bytes(os.urandom(4)) % len(took)])
        floor = LOW_FLOOR if method == NONE else FLOOR
        await asyncio.sleep(self._rounded(who.user, least, floor) - elapsed)

    def _rounded(self, user: str, least: float, floor: float) -> float:
        """The seconds that a refusal takes where it has to take `least`, as OpenSSH's
        ensure_minimum_time_since has it."""
        digest = hmac.digest(self._secret, user.encode("utf-8", "surrogateescape"), "sha512")
        wanted = floor + int.from_bytes(digest[:4], "big") / 1e12 * (floor / FLOOR)
        while wanted < least:
            wanted *= 2
        return wanted

    def _candidate(self, user: str, peer: Peer) -> Candidate:
        passed = self._connection.core.passed if self._connection is not None else ()
        user = user.partition(":")[0]  # "user:style": a style of BSD's logins, which sshd takes off too
        return Candidate(
            user, self._look_up(user, peer), self._rules.options, peer, passed, peer.hostname
        )  # fmt: skip

    async def _named(self, peer: Peer) -> Peer:
        """The same with the client's name, which is looked up once (UseDNS)."""
        if self._peer is None:
            name, objection = await asyncio.to_thread(host_name, peer.address)
            if objection:
                self.note("info", objection)
            self._peer = replace(peer, hostname=name)
        return self._peer

    def _look_up(self, user: str, peer: Peer) -> Account | None:
        """The account, if it may log in at all; why not is said once a user."""
        if user != self._user:
            self._user, self._account = user, find_account(user)
            self._rules = self._rules_of(user, self._account, peer)
            if self._account is not None and (objection := self._objection(self._account, peer)):
                text = f"User {visible(user)} from {peer.address} not allowed because {objection}"
                self.note("info", text)
                self._account = None
            for name in self._rules.confirming:
                self.way(name).expect()
        return self._account

    def _rules_of(self, user: str, account: Account | None, peer: Peer) -> Rules:
        """The rules for a user, whose options are told again once it is known who that is, as in sshd."""
        if self._match is None:
            rules = self._default
        else:
            policy, options = self._match(user, account, peer)
            if self._connection is not None:
                self._connection.core.adopt(policy)
            rules = self._default if options == self._default.options else Rules(options, self._given)
        if rules.steps is None:
            self.note("error", "No AuthenticationMethods left after eliminating disabled methods")
        return rules

    def _objection(self, account: Account, peer: Peer) -> str:
        if self._only is not None and account.uid != self._only.uid:
            return f"this server runs as {self._only.name} and serves nobody else"
        options = self._rules.options
        return account_objection(
            account,
            today=int(time.time()) // DAY,
            check_lock=not options.use_pam,
            check_end=not options.use_pam,
        ) or options.user_objection(account.name, group_names(account), peer.address, peer.hostname)

    # What a login may do

    def options_of(self, login: LoggedIn) -> ServerOptions:
        """The options that hold for a login."""
        return _admission(login.grants[-1]).options

    def permissions(self, login: LoggedIn) -> Sequence[Permissions]:
        """Everything that restricts a login: sshd_config, and the key of each step; all must agree."""
        mine = (_admission(grant).permissions for grant in login.grants)
        return [self.options_of(login).permissions, *mine]

    def unused_timeout(self, login: LoggedIn) -> float:
        return self.options_of(login).unused_connection_timeout

    def agent_owner(self, login: LoggedIn) -> tuple[int, int] | None:
        if not all(each.agent_forwarding for each in self.permissions(login)):
            return None
        account = self.account(login)
        return account.uid, account.gid

    def environment(self, login: LoggedIn) -> dict[str, str]:
        """What the steps of this login, and of no other, add to the environment of its programs."""
        added: dict[str, str] = {}
        for way in (_admission(grant).keep for grant in login.grants):
            if isinstance(way, Way):
                added |= way.environment(self.account(login))
        return added

    def account(self, login: LoggedIn) -> Account:
        """The account of a login."""
        return _admission(login.grants[0]).account

    def pam_session(self) -> PamProcess | None:
        """The process that holds the session of PAM, where one is open."""
        way = self._ways.get("pam")
        return way.session if way is not None else None

    def pam_message(self) -> str:
        """What PAM's modules have to tell a user at the beginning of a session."""
        way = self._ways.get("pam")
        return way.message if way is not None else ""

    def auth_info(self, login: LoggedIn) -> str:
        """The file that tells a session how its user has logged in (ExposeAuthInfo); empty: there is none.

        It is the user's own, and gone when the connection is.
        """
        connection = self._connection
        if not getattr(self.options_of(login), "expose_auth_info", False) or connection is None:
            return ""
        if self._auth_info is None:
            account = self.account(login)
            told = "".join(f"{_admission(grant).told}\n" for grant in login.grants)
            try:
                self._auth_info = write_private(account, "sshauth.", told.encode())
            except OSError as error:
                self.note("error", f"ExposeAuthInfo: {error}")
                return ""
            path = self._auth_info
            connection.on_end[lambda: remove_private(account, path)] = None
        return self._auth_info

    def take_terminal(self, session: ServerSession) -> pty.Terminal | None:
        """The pseudo-terminal of a session, if it has one; whoever takes it closes it."""
        return self._terminals.pop(session, None)

    def may_have_terminal(self, session: ServerSession, terminal: Terminal) -> bool:
        if not all(each.pty for each in self.permissions(session.login)) or session in self._terminals:
            return False
        try:
            opened = pty.open_terminal(self.account(session.login))
        except OSError as error:
            self.note("error", f"no pseudo-terminal: {error}")
            return False
        with suppress(OSError):  # what the client asks for beyond what this system can do is passed over
            pty.set_size(opened.master, terminal.columns, terminal.rows, terminal.width, terminal.height)
            pty.apply_modes(opened.slave, mode_names(terminal))
        self._terminals[session] = opened
        session.tty = opened.name
        session.io.closed.add_done_callback(lambda _: self._drop(session))
        return True

    def _drop(self, session: ServerSession) -> None:
        """The channel is over; a terminal that no program has taken goes with it."""
        if opened := self.take_terminal(session):
            opened.close()

    def may_set(self, login: LoggedIn, name: str, value: str) -> bool:
        return self.options_of(login).accepts_variable(name)

    def may_connect(self, login: LoggedIn, host: str, port: int) -> bool:
        return all(each.may_open(host, port) for each in self.permissions(login))

    def listen_address(self, login: LoggedIn, host: str, port: int) -> str | None:
        if not all(each.may_listen(host or "*", port) for each in self.permissions(login)):
            return None
        if 0 < port < PRIVILEGED and self.account(login).uid != 0:
            return None
        everywhere = host in ("", "*", "0.0.0.0", "::")
        gateway = self.options_of(login).gateway_ports
        if gateway == "clientspecified":
            return "" if everywhere else host
        if gateway == "yes":
            return ""
        # Any free port is one port: two families would get two.
        return "localhost" if port else "127.0.0.1"

    async def connect_path(self, login: LoggedIn, path: str) -> socket.socket | None:
        if not self._may_use_paths(login, "local"):
            return None
        return await asyncio.to_thread(asuser.connect_path, self.account(login), path)

    async def bind_path(self, login: LoggedIn, path: str) -> socket.socket | None:
        if not self._may_use_paths(login, "remote"):
            return None
        options = self.options_of(login)
        return await asyncio.to_thread(
            asuser.bind_path, self.account(login), path, mask=options.stream_local_bind_mask,
            unlink=options.stream_local_bind_unlink,
        )  # fmt: skip

    def _may_use_paths(self, login: LoggedIn, way: str) -> bool:
        """Whether sockets of the file system may be forwarded: AllowStreamLocalForwarding, and the keys."""
        options = self.options_of(login)
        allowed = options.allow_stream_local_forwarding in ("yes", way)
        keys = (_admission(grant).permissions for grant in login.grants)
        return allowed and not options.disable_forwarding and all(each.port_forwarding for each in keys)

    # The log

    def state(self, name: str, **facts: Any) -> None:
        """Tells the connection's records."""
        if self._connection is not None:
            self._connection.link.state(name, **facts)

    def note(self, level: str, text: str) -> None:
        """Writes a line into the log, at one of OpenSSH's levels."""
        self.state("note", level=level, text=text)


def mode_names(terminal: Terminal) -> dict[str, int]:
    """The modes of a terminal under the RFC's names; opcodes without a name are passed over (RFC 4254 §8)."""
    known = {mode.value: mode.name for mode in Mode}
    return {known[opcode]: value for opcode, value in terminal.modes.items() if opcode in known}


def _admission(grant: object) -> Admission:
    if not isinstance(grant, Admission):
        raise KeyFormatError("a login without an account")
    return grant


def _no_more(answer: Verdict | Prompts | More) -> Verdict | Prompts:
    return answer if isinstance(answer, Verdict | Prompts) else Verdict(False)


def _only_verdict(answer: Verdict | Prompts | More) -> Verdict:
    return answer if isinstance(answer, Verdict) else Verdict(False)
