"""The gatekeeper of `glasshell sshd`: the machine's accounts, their authorized_keys, and sshd_config.

Every refusal says the same and takes as long, whether there is such a user or not; why is told to the
log alone. As an ordinary user's program it knows one account: its own.
"""

from __future__ import annotations

import asyncio
import copy
import hmac
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..config.options import ServerOptions
from ..crypto.signatures import PublicKey
from ..errors import KeyFormatError
from ..events import Verdict
from ..keys.authorized_keys import AuthorizedKey, Permissions
from ..messages.connection import Mode
from ..system import pty
from ..system.accounts import (
    Account,
    account_objection,
    current_account,
    find_account,
    group_names,
    is_root,
)
from ..system.files import authorized_paths, read_authorized
from ..wire import visible
from .gatekeeper import Gatekeeper, LoggedIn, Peer
from .process import Terminal

if TYPE_CHECKING:
    from .server import ServerConnection
    from .session import ServerSession

__all__ = ["AccountGatekeeper", "Admission"]

FLOOR: Final = 0.005
"""A refusal takes at least this long, and up to 4.2 ms more by the user's name, as in OpenSSH."""

DAY: Final = 86400
PRIVILEGED: Final = 1024
"""Ports below are for root to listen on."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a verdict grants: the account, and what the key's line lets its sessions do."""

    account: Account
    permissions: Permissions


class AccountGatekeeper(Gatekeeper):
    """Lets in who has an account here and a key in its authorized_keys. One is made `of` each connection."""

    def __init__(self, options: ServerOptions, banner: str = "") -> None:
        self.options = options
        self.banner = banner
        self.methods = ("publickey",) if options.pubkey else ()
        self._only = None if is_root() else current_account()
        self._secret = os.urandom(32)
        self._connection: ServerConnection | None = None
        self._user: str | None = None
        self._account: Account | None = None
        self._terminals: dict[ServerSession, pty.Terminal] = {}

    def of(self, connection: ServerConnection) -> AccountGatekeeper:
        mine = copy.copy(self)
        mine._connection = connection
        mine._terminals = {}
        return mine

    # Logging in

    async def none(self, user: str, peer: Peer) -> Verdict:
        # Without a look at the user: the time that one takes would tell who exists, and a floor under it
        # would be waited for at every login.
        return Verdict(False)

    async def key(self, user: str, key: PublicKey, peer: Peer, *, signed: bool) -> Verdict:
        loop = asyncio.get_running_loop()
        began = loop.time()
        account = self._look_up(user, peer)
        entry = self._find_key(account, key, peer) if account is not None else None
        if account is None or entry is None:
            await asyncio.sleep(self._delay(user, loop.time() - began))
            return Verdict(False, valid=account is not None)
        return Verdict(True, grant=Admission(account, entry.permissions))

    def _delay(self, user: str, elapsed: float) -> float:
        """Seconds to wait after a refusal that took `elapsed`, as OpenSSH's ensure_minimum_time_since."""
        digest = hmac.digest(self._secret, user.encode("utf-8", "surrogateescape"), "sha512")
        wanted = FLOOR + int.from_bytes(digest[:4], "big") / 1e12
        while wanted < elapsed:
            wanted *= 2
        return wanted - elapsed

    def _look_up(self, user: str, peer: Peer) -> Account | None:
        """The account, if it may log in at all; why not is said once a user."""
        if user != self._user:
            self._user, self._account = user, find_account(user)
            if self._account is not None and (objection := self._objection(self._account, peer)):
                text = f"User {visible(user)} from {peer.address} not allowed because {objection}"
                self._note("info", text)
                self._account = None
        return self._account

    def _objection(self, account: Account, peer: Peer) -> str:
        if self._only is not None and account.uid != self._only.uid:
            return f"this server runs as {self._only.name} and serves nobody else"
        options = self.options
        return account_objection(
            account, today=int(time.time()) // DAY, check_lock=not options.use_pam
        ) or options.user_objection(account.name, group_names(account), peer.address)

    def _find_key(self, account: Account, key: PublicKey, peer: Peer) -> AuthorizedKey | None:
        options = self.options
        for path in authorized_paths(options.authorized_keys, account):
            self._state("authorized_keys", path=path)
            file = read_authorized(
                path, account, strict=options.strict_modes, environment=options.permit_user_environment
            )
            if file.objection:
                self._note("debug1" if file.missing else "info", file.objection)
            for line in file.keys.refused:
                self._note("verbose", f"{line.source}:{line.line}: key refused: {line.reason}")
            decision = file.keys.decide(key, address=peer.address, hostname=None, now=time.time())
            for reason in decision.reasons:
                self._note("info", f"Authentication refused: {reason}")
            if decision.entry is not None:
                return self._admitted(account, decision.entry, peer)
        return None

    def _admitted(self, account: Account, entry: AuthorizedKey, peer: Peer) -> AuthorizedKey | None:
        """`entry`, unless it is root's and PermitRootLogin says no."""
        self._state(
            "authorized_key", path=entry.source, line=entry.line, key_type=entry.key.type,
            fingerprint=entry.key.fingerprint(), options=_describe(entry),
        )  # fmt: skip
        forced = entry.permissions.command or self.options.permissions.command
        if account.uid == 0 and (refusal := self.options.root_objection("publickey", forced is not None)):
            self._note("info", f"{refusal} FROM {peer.address} port {peer.port}")
            return None
        return entry

    # What a login may do

    def permissions(self, login: LoggedIn) -> Sequence[Permissions]:
        """Everything that restricts a login: sshd_config, and the key of each step; all must agree."""
        return [self.options.permissions, *(_admission(grant).permissions for grant in login.grants)]

    def account(self, login: LoggedIn) -> Account:
        """The account of a login."""
        return _admission(login.grants[0]).account

    def take_terminal(self, session: ServerSession) -> pty.Terminal | None:
        """The pseudo-terminal of a session, if it has one; whoever takes it closes it."""
        return self._terminals.pop(session, None)

    def may_have_terminal(self, session: ServerSession, terminal: Terminal) -> bool:
        if not all(each.pty for each in self.permissions(session.login)) or session in self._terminals:
            return False
        try:
            opened = pty.open_terminal(self.account(session.login))
        except OSError as error:
            self._note("error", f"no pseudo-terminal: {error}")
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
        return self.options.accepts_variable(name)

    def may_connect(self, login: LoggedIn, host: str, port: int) -> bool:
        return all(each.may_open(host, port) for each in self.permissions(login))

    def listen_address(self, login: LoggedIn, host: str, port: int) -> str | None:
        if not all(each.may_listen(host or "*", port) for each in self.permissions(login)):
            return None
        if 0 < port < PRIVILEGED and self.account(login).uid != 0:
            return None
        everywhere = host in ("", "*", "0.0.0.0", "::")
        if self.options.gateway_ports == "clientspecified":
            return "" if everywhere else host
        if self.options.gateway_ports == "yes":
            return ""
        # Any free port is one port: two families would get two.
        return "localhost" if port else "127.0.0.1"

    # The log

    def _state(self, name: str, **facts: Any) -> None:
        if self._connection is not None:
            self._connection.link.state(name, **facts)

    def _note(self, level: str, text: str) -> None:
        self._state("note", level=level, text=text)


def mode_names(terminal: Terminal) -> dict[str, int]:
    """The modes of a terminal under the RFC's names; opcodes without a name are passed over (RFC 4254 §8)."""
    known = {mode.value: mode.name for mode in Mode}
    return {known[opcode]: value for opcode, value in terminal.modes.items() if opcode in known}


def _admission(grant: object) -> Admission:
    if not isinstance(grant, Admission):
        raise KeyFormatError("a login without an account")
    return grant


def _describe(entry: AuthorizedKey) -> str:
    """The rights of a key in the words of OpenSSH's log."""
    allowed = entry.permissions
    words = {
        "agent-forwarding": allowed.agent_forwarding,
        "command": allowed.command is not None,
        "environment": bool(allowed.environment),
        "expires": entry.expires is not None,
        "permitopen": allowed.permit_open is not None,
        "permitlisten": allowed.permit_listen is not None,
        "port-forwarding": allowed.port_forwarding,
        "pty": allowed.pty,
        "user-rc": allowed.user_rc,
        "x11-forwarding": allowed.x11_forwarding,
    }
    return " ".join(word for word, there in words.items() if there)
