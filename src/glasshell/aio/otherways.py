"""A client's other ways to log in: by Kerberos, and by the word of its own host.

Each is asked for its credentials in turn, as `Login` asks for keys and passwords, and then answers what the
core wants for the one at hand.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final, Protocol, TypeAlias

from ..errors import AuthenticationFailed, KeyFormatError, SSHError
from ..events import (
    Credential,
    GssapiMethod,
    GssapiTokenNeeded,
    GssapiTurn,
    HostbasedMethod,
    SignatureNeeded,
)
from ..keys.openssh import load_private_key
from ..keys.public import AnyKey, load_key
from ..system.files import read_regular
from ..system.gss import KERBEROS, GssStep, Initiator
from ..system.tickets import may_have_tickets
from ..wire import Reader, Secret, string

__all__ = ["HostKeys", "OtherWay", "Skip", "Tickets"]

Skip: TypeAlias = Callable[[str, str], None]
"""Hears what is passed over, and why."""

KEYSIGN: Final = (
    "/usr/lib/openssh/ssh-keysign", "/usr/libexec/openssh/ssh-keysign", "/usr/lib/ssh/ssh-keysign",
    "/usr/libexec/ssh-keysign",
)  # fmt: skip
"""Where systems keep OpenSSH's helper, which signs with the host's keys for those who cannot read them."""

KEYSIGN_VERSION: Final = 2
KEYSIGN_SECONDS: Final = 10.0
KINDS: Final = ("ed25519", "ecdsa", "rsa")


class OtherWay(Protocol):
    """One way, for one connection."""

    method: ClassVar[str]

    @property
    def ready(self) -> bool:
        """Whether it may have something to try; who has nothing need not wait for it."""
        ...

    def at(self, sock: socket.socket) -> None:
        """The connection is there."""

    def begin(self) -> None:
        """Forgets what was tried: a step of the login is done, another one begins."""

    async def credential(self, skip: Skip) -> Credential | None:
        """The next thing to try; None: nothing is left."""
        ...

    async def sign(self, question: SignatureNeeded) -> bytes | SSHError:
        """As `Login.sign`."""
        ...

    async def token(self, question: GssapiTokenNeeded) -> GssapiTurn | SSHError:
        """The mechanism's next token, or why there is none."""
        ...

    def over(self) -> None:
        """The login is over, either way."""


class Tickets:
    """gssapi-with-mic by the tickets of this user, towards the service host/ of the server.

    With `delegate` the server gets tickets to act with (GSSAPIDelegateCredentials).
    """

    method: ClassVar[str] = "gssapi-with-mic"

    def __init__(self, host: str, *, delegate: bool = False) -> None:
        self._host = host
        self._delegate = delegate
        self._context: Initiator | None = None
        self._first: GssStep | None = None
        self._tried = False

    @property
    def ready(self) -> bool:
        """Whether there may be tickets."""
        return may_have_tickets()

    def at(self, sock: socket.socket) -> None:
        """Nothing hangs on it: the server's name is what was asked for, never what its address says."""

    def begin(self) -> None:
        """See `OtherWay.begin`."""
        self.over()
        self._tried = False

    async def credential(self, skip: Skip) -> Credential | None:
        """Kerberos, once, where it has a ticket for this server: what has none is not even offered."""
        if self._tried:
            return None
        self._tried = True
        what = f"tickets for host/{self._host}"
        if not self.ready:
            skip(what, "there are none: kinit gets some")
            return None
        try:
            self._context, self._first = await asyncio.to_thread(self._open)
        except SSHError as error:
            skip(what, f"{error}{f' ({error.hint})' if error.hint else ''}")
            return None
        return GssapiMethod((KERBEROS,), source=what)

    def _open(self) -> tuple[Initiator, GssStep]:
        context = Initiator(self._host, delegate=self._delegate)
        return context, context.step(b"")

    async def token(self, question: GssapiTokenNeeded) -> GssapiTurn | SSHError:
        """See `OtherWay.token`."""
        context, first, self._first = self._context, self._first, None
        if context is None:
            return AuthenticationFailed("there are no tickets any more")
        said = question.token_in.reveal()
        try:
            step = first if first is not None and not said else await asyncio.to_thread(context.step, said)
            mic = Secret(context.seal(question.data)) if step.done else None
        except SSHError as error:
            return error
        return GssapiTurn(Secret(step.token) if step.token else None, done=step.done, mic=mic)

    async def sign(self, question: SignatureNeeded) -> bytes | SSHError:
        """Nothing is signed by keys here."""
        return AuthenticationFailed("tickets sign nothing")

    def over(self) -> None:
        """Lets go of the context. It is given back by whoever has it last: that may be a thread that is
        inside the library with it."""
        self._context = self._first = None


class HostKeys:
    """hostbased: this host's keys vouch for the user who runs this.

    Who may read the private keys signs with them; for everybody else OpenSSH's ssh-keysign does, where
    EnableSSHKeysign of the system's ssh_config lets it. `folder` is where the keys are.
    """

    method: ClassVar[str] = "hostbased"

    def __init__(
        self, *, folder: str = "/etc/ssh", algorithms: Sequence[str] = (), keysign: Sequence[str] = KEYSIGN
    ) -> None:
        self._folder = Path(folder)
        self._algorithms = tuple(algorithms)
        self._programs = tuple(keysign)
        self._socket: socket.socket | None = None
        self._left: list[tuple[Path, AnyKey]] | None = None
        self._files: dict[bytes, Path] = {}

    @property
    def ready(self) -> bool:
        """Whether there is a key of this host."""
        return bool(self._public_keys())

    def at(self, sock: socket.socket) -> None:
        """The name of this host is that of the connection's own end, as ssh-keysign checks it."""
        self._socket = sock

    def begin(self) -> None:
        """See `OtherWay.begin`."""
        self._left = None

    async def credential(self, skip: Skip) -> Credential | None:
        """The next key of this host; certificates first."""
        if self._left is None:
            self._left = self._public_keys()
            if not self._left:
                skip(str(self._folder), "there is no host key")
        if not self._left or self._socket is None:
            return None
        path, key = self._left.pop(0)
        self._files[key.blob] = path
        host = await asyncio.to_thread(_own_name, self._socket)
        return HostbasedMethod(key, host, getpass.getuser(), str(path), self._algorithms)

    def _public_keys(self) -> list[tuple[Path, AnyKey]]:
        found: list[tuple[Path, AnyKey]] = []
        for ending in ("-cert.pub", ".pub"):
            for kind in KINDS:
                path = self._folder / f"ssh_host_{kind}_key"
                try:
                    key, _ = load_key(read_regular(f"{path}{ending}").decode("ascii", "replace"))
                except (OSError, SSHError):
                    continue
                found.append((path, key))
        return found

    async def sign(self, question: SignatureNeeded) -> bytes | SSHError:
        """The signature by the host's key, read or asked for."""
        path = self._files[question.key.blob]
        try:
            if os.access(path, os.R_OK):
                private = load_private_key(read_regular(str(path)))
                return private.sign(question.algorithm, question.data)
            return await self._ask_keysign(question.data)
        except SSHError as error:
            return error
        except OSError as error:
            return KeyFormatError(f"{path}: {error.strerror or error}")

    async def _ask_keysign(self, data: bytes) -> bytes:
        """Has ssh-keysign sign: it checks by the connection's socket that the host's name is right."""
        program = next((path for path in self._programs if os.access(path, os.X_OK)), None)
        if program is None or self._socket is None:
            raise AuthenticationFailed("the host's keys cannot be read here, and there is no ssh-keysign")
        number = self._socket.fileno()
        body = bytes((KEYSIGN_VERSION,)) + struct.pack(">I", number) + string(data)
        process = await asyncio.create_subprocess_exec(
            program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, pass_fds=(number,),
        )  # fmt: skip
        try:
            async with asyncio.timeout(KEYSIGN_SECONDS):
                out, err = await process.communicate(string(body))
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AuthenticationFailed(f"{program} does not answer") from None
        if process.returncode or not out:
            words = err.decode("utf-8", "replace").split("\n")[0].strip()
            raise AuthenticationFailed(
                f"{program}: {words or 'it said nothing'}",
                hint="EnableSSHKeysign yes in the system's ssh_config",
            )
        answer = Reader(Reader(out).string())
        if answer.byte() != KEYSIGN_VERSION:
            raise AuthenticationFailed(f"{program} speaks another version")
        return bytes(answer.string())

    async def token(self, question: GssapiTokenNeeded) -> GssapiTurn | SSHError:
        """There are no tickets here."""
        return AuthenticationFailed("a host key makes no token")

    def over(self) -> None:
        """Lets go of the connection."""
        self._socket = None


def _own_name(sock: socket.socket) -> str:
    """The name of this end of the connection, or of this machine (OpenSSH's get_local_name)."""
    try:
        return socket.getnameinfo(sock.getsockname(), socket.NI_NAMEREQD)[0]
    except (OSError, TypeError):
        return socket.gethostname()
