"""Logging in by key: authorized_keys, and everything else that says whose key a key is."""

from __future__ import annotations

import time
from typing import ClassVar

from ..crypto.signatures import PublicKey
from ..keys.authorized_keys import AuthorizedKey
from ..keys.public import AnyKey
from ..system.accounts import Account
from ..system.files import authorized_paths, read_authorized
from .ways import Candidate, Outcome, Passed, Way

__all__ = ["KeyWay"]


class KeyWay(Way):
    """publickey (RFC 4252 §7)."""

    method: ClassVar[str] = "publickey"

    async def key(self, who: Candidate, key: AnyKey, *, signed: bool) -> Outcome:
        if who.account is None:
            return None
        if any(step.key is not None and step.key.plain == key.plain for step in who.passed):
            self.gate.note("info", f"refusing previously-used {key.label} key")
            return None
        if not isinstance(key, PublicKey):
            return None  # a line of a plain key is none of a certificate's
        entry = self._find(who, who.account, key)
        return None if entry is None else Passed(entry.permissions, _shown(key), key)

    def _find(self, who: Candidate, account: Account, key: PublicKey) -> AuthorizedKey | None:
        options, gate = who.options, self.gate
        for path in authorized_paths(options.authorized_keys, account):
            gate.state("authorized_keys", path=path)
            file = read_authorized(
                path, account, strict=options.strict_modes, environment=options.permit_user_environment
            )
            if file.objection:
                gate.note("debug1" if file.missing else "info", file.objection)
            for line in file.keys.refused:
                gate.note("verbose", f"{line.source}:{line.line}: key refused: {line.reason}")
            decision = file.keys.decide(key, address=who.peer.address, hostname=None, now=time.time())
            for reason in decision.reasons:
                gate.note("info", f"Authentication refused: {reason}")
            if decision.entry is not None:
                self._tell(decision.entry)
                return decision.entry
        return None

    def _tell(self, entry: AuthorizedKey) -> None:
        self.gate.state(
            "authorized_key", path=entry.source, line=entry.line, key_type=entry.key.type,
            fingerprint=entry.key.fingerprint(), options=_describe(entry),
        )  # fmt: skip


def _shown(key: AnyKey) -> str:
    """A key as ExposeAuthInfo shows it: type and base64."""
    import base64

    return f"{key.type} {base64.b64encode(key.blob).decode()}"


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
