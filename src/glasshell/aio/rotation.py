"""UpdateHostKeys: known_hosts follows the keys that a trusted server says it has, once it has proved them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ..errors import MalformedMessage, SSHError
from ..keys.known_hosts import KnownHosts
from ..keys.rotation import Rotation, compare, proven, rewrite, usable_keys
from ..messages.connection import HostKeyBlob, Hostkeys, HostkeysProve, HostkeysProveReply
from ..system.replacing import replace_file
from .trust import Trust, read_known_hosts

if TYPE_CHECKING:
    from .client import Connection

__all__ = ["AskUpdate", "HostKeyUpdate", "Update"]

Update: TypeAlias = Literal["yes", "ask", "no"]
AskUpdate: TypeAlias = Callable[[str], Awaitable[bool]]
PROVE: Final = "hostkeys-prove-00@openssh.com"


class HostKeyUpdate:
    """What becomes of one connection's `hostkeys-00@openssh.com`.

    Only for a host whose key was known by one of the user's own `files`, or was taken by a person just now
    (ssh_config(5), UpdateHostKeys). `take` is quick and waits for nobody: what it learns is written when the
    proof comes, and where the connection ends before, the next one brings it again.
    """

    __slots__ = ("_ask", "_files", "_ready", "_seen", "_trust", "unproven")

    def __init__(
        self, trust: Trust, files: Sequence[str | os.PathLike[str]], *, ask: AskUpdate | None = None
    ) -> None:
        """`ask`: a person decides, when `finish` is called; None: nobody is asked."""
        self._trust = trust
        self._files = [Path(file).expanduser() for file in files]
        self._ask = ask
        self._seen = False
        self.unproven = False
        """Whether the server has keys to prove, and has not answered."""
        self._ready: Rotation | None = None

    def take(self, connection: Connection, body: Hostkeys) -> None:
        """The server's keys: asks for the proof of those that are new. The first word counts."""
        if self._seen or not self._trust.trusted_by(self._files):
            return
        self._seen = True
        blobs = [item.key for item in body.keys]
        offered = usable_keys(blobs, connection.core.policy.host_key_algorithms)
        if not offered or connection.host_key.plain not in offered:
            return
        try:
            known = sum((read_known_hosts(file) for file in self._files), KnownHosts())
            trust = self._trust
            found = compare(known, trust.host, trust.port, offered, address=trust.address)
        except SSHError:
            return
        if found.reason or not (found.new or found.gone):
            return
        if found.new:
            self.unproven = True
            connection.behind_session(lambda: self._prove(connection, found))
        else:
            self._proved(connection, found)

    def _prove(self, connection: Connection, found: Rotation) -> None:
        asked = HostkeysProve(tuple(HostKeyBlob(key.blob) for key in found.new))
        with suppress(SSHError):
            reply = connection.ask_globally(PROVE, asked)
            reply.add_done_callback(lambda done: self._answered(connection, found, done))

    def _answered(
        self, connection: Connection, found: Rotation, done: asyncio.Future[tuple[bool, bytes]]
    ) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        self.unproven = False
        granted, reply = done.result()
        if granted and self._holds(connection, found, reply):
            self._proved(connection, found)

    @staticmethod
    def _holds(connection: Connection, found: Rotation, reply: bytes) -> bool:
        try:
            signatures = HostkeysProveReply.decode(reply).signatures
        except MalformedMessage:
            return False
        session, agreed = connection.session_id, connection.negotiated.host_key
        return len(signatures) == len(found.new) and all(
            proven(key, proof.signature, session, agreed)
            for key, proof in zip(found.new, signatures, strict=True)
        )

    def _proved(self, connection: Connection, found: Rotation) -> None:
        connection.link.state(
            "host_keys_changed",
            added=tuple(f"{key.label} {key.fingerprint()}" for key in found.new),
            removed=tuple(f"{entry.label} {entry.fingerprint}" for entry in found.gone),
        )
        if self._ask is None:
            self._write(found)
        else:
            self._ready = found

    async def finish(self) -> None:
        """The session is over: asks the person who is to decide."""
        found, self._ready = self._ready, None
        if found is None or self._ask is None:
            return
        lines = ["The server has updated its host keys.",
                 "These changes were verified by the server's existing trusted key."]  # fmt: skip
        lines += [f"Learned new hostkey: {key.label} {key.fingerprint()}" for key in found.new]
        lines += [f"Deprecating obsolete hostkey: {e.label} {e.fingerprint}" for e in found.gone]
        if await self._ask("\n".join([*lines, "Accept updated hostkeys? (yes/no): "])):
            self._write(found)

    def _write(self, found: Rotation) -> None:
        for index, file in enumerate(self._files):
            try:
                _replace(file, self._trust, found, add=index == 0)
            except OSError as error:
                self._trust.warn(f"{file} cannot be updated with the host's keys: {error.strerror or error}")


def _replace(file: Path, trust: Trust, found: Rotation, *, add: bool) -> None:
    """Writes the file anew, beside the old one first; the old one stays as `.old`, as OpenSSH leaves it."""
    def change(before: bytes) -> bytes:
        return rewrite(
            before, trust.host, trust.port, found.offered, found.offered if add else (), hashed=trust.hashed,
            salt=os.urandom, address=trust.address,
        )  # fmt: skip

    with suppress(FileNotFoundError):  # what was known of the host stands elsewhere
        replace_file(file, change, old=file.with_name(f"{file.name}.old"))
