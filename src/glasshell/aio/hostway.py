"""Logging in because the client's host vouches for its user (hostbased): whose host is known, and trusted.

Three things must hold: a file says that this user of that host may come in, a known_hosts file has that
host's key, and the core has verified the key's signature.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

from ..crypto.signatures import PublicKey
from ..errors import SSHError
from ..events import HostbasedOffered, Question
from ..keys.known_hosts import Kind, KnownHosts
from ..keys.public import AnyKey
from ..keys.rhosts import admits, parse_rhosts
from ..system.accounts import Account
from ..system.files import as_account, mode_objection, read_regular
from ..wire import visible
from .ways import Candidate, More, Outcome, Passed, Way

__all__ = ["HostWay"]

KNOWN: Final = "ssh/ssh_known_hosts"
EQUIVALENT: Final = ("hosts.equiv", "ssh/shosts.equiv")


class HostWay(Way):
    """hostbased (RFC 4252 §9)."""

    method: ClassVar[str] = "hostbased"

    etc: ClassVar[str] = "/etc"
    """Where the system's files are."""

    async def other(self, who: Candidate, question: Question) -> Outcome | More:
        """See `Gatekeeper.other`."""
        if not isinstance(question, HostbasedOffered):
            return None
        name, address = await self._place(who, question.host)
        account, options = who.account, who.options
        if account is None:
            return None
        allowed = options.hostbased_accepted_algorithms
        if allowed is not None and question.algorithm not in allowed:
            text = f"signature algorithm {question.algorithm} not in HostbasedAcceptedAlgorithms"
            self.gate.note("info", text)
            return None
        if any(step.key is not None and step.key.plain == question.key.plain for step in who.passed):
            self.gate.note("info", f"refusing previously-used {question.key.label} key")
            return None
        if self._revoked(who, question.key):
            return None
        if not self._admitted(who, account, name, address, question.client_user):
            return None
        if not self._known(who, account, name, question.key):
            return None
        label, print_ = question.key.label, question.key.fingerprint()
        text = f"Accepted {label} public key {print_} from {visible(question.client_user)}@{visible(name)}"
        self.gate.note("verbose", text)
        return Passed(shown=f"{question.key.type} {print_}", key=question.key)

    async def _place(self, who: Candidate, said: str) -> tuple[str, str]:
        """The name and the address by which the client's host is looked up."""
        address = who.peer.address
        if who.options.hostbased_uses_name_from_packet_only:
            return said, said
        by_name = who.options.use_dns
        name = await asyncio.to_thread(_resolve, address) if by_name else address
        if name.lower() != said.lower():
            self.gate.note(
                "info", f"userauth_hostbased mismatch: client sends {visible(said)}, "
                f"but we resolve {address} to {name}",
            )  # fmt: skip
        return name, address

    # Who may come in

    def _admitted(self, who: Candidate, account: Account, name: str, address: str, client_user: str) -> bool:
        if account.uid != 0:  # of root only root's own file decides
            for file in EQUIVALENT:
                place = f"{self.etc}/{file}"
                if self._admits(place, account, name, address, client_user, strict=False, system=True):
                    return True
        ignored = who.options.ignore_rhosts
        if ignored == "yes":
            return False
        try:
            with as_account(account):
                objection = mode_objection(account.home, account) if who.options.strict_modes else ""
        except OSError as error:
            objection = f"no home directory {account.home}: {error.strerror}"
        if objection:
            self._refuse(account, objection)
            return False
        names = (".shosts",) if ignored == "shosts-only" else (".shosts", ".rhosts")
        strict = who.options.strict_modes
        return any(
            self._admits(f"{account.home}/{file}", account, name, address, client_user, strict=strict)
            for file in names
        )

    def _admits(
        self, path: str, account: Account, name: str, address: str, client_user: str, *, strict: bool,
        system: bool = False,
    ) -> bool:  # fmt: skip
        try:
            if system:
                data = read_regular(path)
            else:
                with as_account(account):
                    data = read_regular(path)
                    if strict and (objection := mode_objection(path, account)):
                        self._refuse(account, objection)
                        return False
        except OSError:
            return False
        line = admits(parse_rhosts(data), name, address, client_user, account.name)
        if line is not None:
            text = f"Accepted host {visible(name)} ip {visible(address)} client_user {visible(client_user)}"
            self.gate.note("debug1", f"{text} server_user {account.name} by {path}:{line.number}")
        return line is not None

    def _refuse(self, account: Account, objection: str) -> None:
        self.gate.note("info", f"Rhosts authentication refused for {account.name}: {objection}")

    # Whose key it is

    def _revoked(self, who: Candidate, key: AnyKey) -> bool:
        """Whether RevokedKeys has it, or cannot be read: then it has everything."""
        for path in who.options.revoked_keys:
            try:
                reason = self.gate.revoked_keys(path).revokes(key)
            except (OSError, SSHError) as error:
                reason = f"revoked keys file {path}: {error}"
            if reason:
                shown = f"{key.label} {key.fingerprint()}"
                self.gate.note("error", f"Authentication key {shown} revoked: {reason}")
                return True
        return False

    def _known(self, who: Candidate, account: Account, name: str, key: AnyKey) -> bool:
        files = [f"{self.etc}/{KNOWN}", f"{self.etc}/{KNOWN}2"]
        known = KnownHosts()
        for path in files:
            with suppress(OSError):
                known += KnownHosts.parse(read_regular(path, 16 << 20), path)
        if not who.options.ignore_user_known_hosts:
            known += self._own(who, account)
        found = known.check(name, 22, key)
        if found.kind is not Kind.KNOWN:
            self.gate.note("info", f"hostbased: the key of {visible(name)} is {found.kind.value}")
            return False
        if isinstance(key, PublicKey):
            return True
        objection = key.objection("host", name, time.time())
        if objection:
            self.gate.note("info", objection)
        return not objection

    def _own(self, who: Candidate, account: Account) -> KnownHosts:
        path = str(Path(account.home) / ".ssh" / "known_hosts")
        try:
            with as_account(account):
                objection = mode_objection(path, account) if who.options.strict_modes else ""
                data = b"" if objection else read_regular(path)
        except OSError:
            return KnownHosts()
        if objection:
            self.gate.note("info", f"Authentication refused: {objection}")
        return KnownHosts.parse(data, path)


def _resolve(address: str) -> str:
    """The name of `address`, where that name has the address; else the address (UseDNS)."""
    with suppress(OSError):
        name = socket.gethostbyaddr(address)[0]
        found = {str(each[4][0]) for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
        if address in found:
            return name.lower()
    return address
