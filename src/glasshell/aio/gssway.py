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
        self._options = gate.options
        """Those of the user, once that is known."""
        self._stored = ""
        """The file of the tickets that the client has handed on."""

    async def other(self, who: Candidate, question: Question) -> Outcome | More:
        """See `Gatekeeper.other`."""
        match question:
            case GssapiStarted(mechanisms=mechanisms) if KERBEROS in mechanisms:
                return await self._begin(who)
            case GssapiTokenOffered(token_in=token) if self._acceptor is not None:
                return await self._step(self._acceptor, token)
            case GssapiMicOffered(mic=mic, data=data) if (acceptor := self._acceptor) is not None:
                good, told = await asyncio.to_thread(_decide, acceptor, who.user, mic, data)
                self.gate.note("info", told)
                self._options = who.options
                return Passed(shown=visible(acceptor.client), keep=self) if good else None
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

    def environment(self, account: Account) -> dict[str, str]:
        """KRB5CCNAME, where the client has handed tickets on; they are stored when first asked for, in a file
        that is the account's alone."""
        acceptor = self._acceptor
        if acceptor is not None and acceptor.has_delegated and not self._stored:
            self._store(acceptor, account)
        return {"KRB5CCNAME": f"FILE:{self._stored}"} if self._stored else {}

    def _store(self, acceptor: Acceptor, account: Account) -> None:
        if not self._options.gssapi_delegate_credentials:
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
        # Not closed here: a thread may be inside the library with it. Whoever lets go last gives it back.
        self._acceptor = None

    def over(self) -> None:
        """Gives back everything, and removes the tickets unless GSSAPICleanupCredentials says no."""
        self._drop()
        if self._stored and self._options.gssapi_cleanup_credentials:
            with suppress(OSError):
                Path(self._stored).unlink()


def _decide(acceptor: Acceptor, user: str, mic: Secret, data: bytes) -> tuple[bool, str]:
    """Whether the seal is right, and the principal may be this user (krb5_kuserok); and the log's words,
    which is told in the loop's thread."""
    if not acceptor.sealed(data, mic.reveal()):
        return False, "GSSAPI MIC check failed"
    name = visible(acceptor.client)
    if not acceptor.may_be(user):
        return False, f"{name} may not log in as {visible(user)} (krb5_kuserok)"
    return True, f"Authorized to {visible(user)}, krb5 principal {name} (krb5_kuserok)"
