"""Logging in by a Kerberos ticket (gssapi-with-mic), and the tickets that a client hands on.

The library's calls block, and read what strangers send, as they do in sshd's privileged process; each runs in
a thread of its own. Nothing of what the library says of a failure is told to the client: the log has it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..errors import SSHError
from ..events import GssapiMicOffered, GssapiStarted, GssapiTokenOffered, GssapiTurn, Question
from ..system.accounts import Account, is_root
from ..system.gss import KERBEROS, Acceptor
from ..wire import Secret, visible
from .ways import Candidate, More, Outcome, Passed, Way

if TYPE_CHECKING:
    from .shellgate import AccountGatekeeper

__all__ = ["GssapiWay"]


class GssapiWay(Way):
    """gssapi-with-mic (RFC 4462 §3)."""

    method: ClassVar[str] = "gssapi-with-mic"

    def __init__(self, gate: AccountGatekeeper) -> None:
        super().__init__(gate)
        self._acceptor: Acceptor | None = None
        self._stored = ""
        """The file of the tickets that the client has handed on."""

    async def other(self, who: Candidate, question: Question) -> Outcome | More:
        """See `Gatekeeper.other`."""
        match question:
            case GssapiStarted(mechanisms=mechanisms) if KERBEROS in mechanisms:
                return await self._begin(who)
            case GssapiTokenOffered(token_in=token) if self._acceptor is not None:
                return await self._step(self._acceptor, token)
            case GssapiMicOffered(mic=mic, data=data) if self._acceptor is not None:
                return await asyncio.to_thread(self._decide, self._acceptor, who, mic, data)
        return None

    async def _begin(self, who: Candidate) -> Outcome | More:
        self._drop()
        try:
            strict = who.options.gssapi_strict_acceptor_check
            self._acceptor = await asyncio.to_thread(Acceptor, strict=strict)
        except SSHError as error:
            self.gate.note("error", f"GSS-API: {error}{f' ({error.hint})' if error.hint else ''}")
            return None
        return KERBEROS

    async def _step(self, acceptor: Acceptor, token: Secret) -> GssapiTurn:
        step = await asyncio.to_thread(acceptor.step, token.reveal())
        answer = Secret(step.token) if step.token else None
        if step.error:
            self.gate.note("verbose", f"GSS-API: {visible(step.error)}")
            self._drop()
            return GssapiTurn(answer, failed=True)
        return GssapiTurn(answer, done=step.done)

    def _decide(self, acceptor: Acceptor, who: Candidate, mic: Secret, data: bytes) -> Outcome:
        """Whether the seal is right, and whether the principal may be this user (krb5_kuserok)."""
        if not acceptor.sealed(data, mic.reveal()):
            self.gate.note("info", "GSSAPI MIC check failed")
            return None
        name = visible(acceptor.client)
        if not acceptor.may_be(who.user):
            self.gate.note("info", f"{name} may not log in as {visible(who.user)} (krb5_kuserok)")
            return None
        self.gate.note("info", f"Authorized to {visible(who.user)}, krb5 principal {name} (krb5_kuserok)")
        return Passed(shown=name, keep=self)

    def environment(self, account: Account) -> dict[str, str]:
        """KRB5CCNAME, where the client has handed tickets on; they are stored when first asked for, in a file
        that is the account's alone."""
        acceptor = self._acceptor
        if acceptor is not None and acceptor.has_delegated and not self._stored:
            self._store(acceptor, account)
        return {"KRB5CCNAME": f"FILE:{self._stored}"} if self._stored else {}

    def _store(self, acceptor: Acceptor, account: Account) -> None:
        if not self.gate.options.gssapi_delegate_credentials:
            return
        handle, path = tempfile.mkstemp(prefix=f"krb5cc_{account.uid}_")
        os.close(handle)
        try:
            acceptor.store(path)
            if is_root():
                os.chown(path, account.uid, account.gid, follow_symlinks=False)
        except (SSHError, OSError) as error:
            self.gate.note("error", f"the tickets of {account.name} could not be stored: {error}")
            with suppress(OSError):
                Path(path).unlink()
        else:
            self._stored = path

    def _drop(self) -> None:
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.close()

    def over(self) -> None:
        """Gives back everything, and removes the tickets unless GSSAPICleanupCredentials says no."""
        self._drop()
        if self._stored and self.gate.options.gssapi_cleanup_credentials:
            with suppress(OSError):
                Path(self._stored).unlink()
