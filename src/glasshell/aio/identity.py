"""The keys and certificates to log in with: given, in files, and in the agent, in OpenSSH's order."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

from ..crypto.signatures import PrivateKey, PublicKey
from ..errors import KeyFormatError, PassphraseError, SSHError
from ..keys.openssh import load_private_key
from ..keys.public import MAX_FILE, AnyKey, load_key
from ..values import slotted
from ..wire import Secret
from .agent import Agent

if TYPE_CHECKING:
    from ..keys.certificate import Certificate

__all__ = [
    "CERTIFIED", "DEFAULT_FILES", "AskPassphrase", "CertificateLike", "Identity", "KeyLike", "State", "about",
    "certificate_beside", "collect", "mark", "read_certificate", "read_identity", "read_private_file",
]  # fmt: skip

DEFAULT_FILES: Final = ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519")
"""Where a user's keys are, in the order in which ssh(1) tries them."""

PASSPHRASE_TRIES: Final = 3

CERTIFIED: Final = " certificate"
"""What is remembered of a certificate, behind the fingerprint of its key."""

KeyLike: TypeAlias = PrivateKey | str | os.PathLike[str]
CertificateLike: TypeAlias = "Certificate | str | os.PathLike[str]"
State: TypeAlias = Callable[..., None]
AskPassphrase: TypeAlias = Callable[[str], Awaitable[Secret | None]]
"""Asks for the passphrase of the key file named; None: pass the key over."""


@slotted
class Identity:
    """One key to try, or certificate. `key` is None for a file that hides it under a passphrase.

    `source` is the file, "agent" or "given"; `explicit` whether the user named it.
    """

    key: AnyKey | None
    source: str
    explicit: bool = False
    private: PrivateKey | None = None
    agent: Agent | None = None
    file: Path | None = None
    problem: str = ""
    """Why it cannot be used at all; empty where it can."""
    signer: Identity | None = None
    """What signs for a certificate that the agent does not hold; None: the identity itself."""

    @property
    def origin(self) -> str:
        """OpenSSH's words behind the key in its log."""
        return " ".join(["explicit"] * self.explicit + ["agent"] * (self.agent is not None))

    async def open(self, passphrase: Secret | None, ask: AskPassphrase | None) -> PrivateKey:
        """The private key of a file, with up to three tries at its passphrase.

        Raises PassphraseError where it stays shut, KeyFormatError where the file is no key.
        """
        if self.private is not None:
            return self.private
        if self.file is None:
            raise KeyFormatError("there is no file with this private key")
        data = read_private_file(self.file)
        for attempt in range(PASSPHRASE_TRIES + 1):
            try:
                self.private = load_private_key(data, passphrase, hardware=True)
                break
            except PassphraseError:
                if attempt == PASSPHRASE_TRIES or ask is None:
                    raise
                passphrase = await ask(str(self.file))
                if not passphrase:
                    raise
        assert self.private is not None
        if self.key is not None and self.private.public != self.key.plain:
            raise KeyFormatError(f"{self.file} and its .pub file are not the same key")
        self.key = self.key or self.private.public
        return self.private


def read_identity(item: KeyLike, *, explicit: bool) -> Identity:
    """What is known of a key without its passphrase; never raises: see `problem`."""
    if isinstance(item, PrivateKey):
        return Identity(item.public, item.comment or "given", explicit, private=item)
    path = Path(item).expanduser()
    found = Identity(None, str(path), explicit, file=path)
    try:
        found.key = _public_beside(path)
        if found.key is None:
            found.private = load_private_key(read_private_file(path), hardware=True)
            found.key = found.private.public
    except PassphraseError:
        pass  # what is in the file shows once its turn has come and the passphrase is there
    except SSHError as error:
        found.problem = str(error)
    except OSError as error:
        found.problem = error.strerror or str(error)
    return found


def mark(key: AnyKey) -> str:
    """By what a key that was enough to log in is remembered: a certificate is another one than its key."""
    return f"{key.fingerprint()}{CERTIFIED * (not isinstance(key, PublicKey))}"


def about(key: AnyKey) -> str:
    """What a user has to know of a certificate that was refused; empty for a plain key."""
    if isinstance(key, PublicKey):
        return ""
    now = time.time()
    told = [f"certificate {key.issued}", f"for {', '.join(key.principals) or 'nobody'}"]
    told.append(f"valid {key.validity}")
    if not key.valid_after <= now < key.valid_before:
        told.append("it has expired" if now >= key.valid_before else "it is not yet valid")
    return ", ".join(told)


def certificate_beside(identity: Identity) -> Identity | None:
    """The certificate in FILE-cert.pub beside a key file; None where there is none (ssh_config(5))."""
    if identity.file is None:
        return None
    path = identity.file.with_name(f"{identity.file.name}-cert.pub")
    if not path.exists():
        return None
    found = read_certificate(path, explicit=identity.explicit)
    found.source, found.file = identity.source, identity.file
    return found


def read_certificate(item: CertificateLike, *, explicit: bool) -> Identity:
    """The user certificate in a file (CertificateFile); never raises: see `problem`."""
    if not isinstance(item, str | os.PathLike):
        return Identity(item, "given", explicit)
    path = Path(item).expanduser()
    found = Identity(None, str(path), explicit)
    try:
        with _opened(path) as file:
            key, _ = load_key(file.read(MAX_FILE + 1))
        if isinstance(key, PublicKey):
            found.problem = f"{path.name} is not a certificate"
        elif key.kind != "user":
            found.problem = f"{path.name} is not a user certificate"
        else:
            found.key = key
    except SSHError as error:
        found.problem = f"{path.name}: {error}"
    except OSError as error:
        found.problem = f"{path.name}: {error.strerror or error}"
    return found


def _public_beside(path: Path) -> AnyKey | None:
    """The public half in the .pub file beside `path`, or in `path` itself: the agent may have the rest."""
    for public in (path.with_name(path.name + ".pub"), path):
        try:
            if public.stat().st_size <= MAX_FILE:
                with _opened(public) as file:
                    return load_key(file.read(MAX_FILE + 1))[0]
        except (OSError, SSHError):
            continue
    return None


def _opened(path: Path) -> BinaryIO:
    """The file; a FIFO that nobody writes to is empty, where it would be waited for, deaf to all signals."""
    if os.name == "nt":
        return path.open("rb")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "rb")


def read_private_file(path: Path) -> bytes:
    """The bytes of a file with a private key. Raises OSError, KeyFormatError where others can read it."""
    with _opened(path) as file:
        status = os.fstat(file.fileno())
        # ssh(1) does not use a private key that others can read.
        if os.name == "posix" and status.st_uid == os.getuid() and status.st_mode & 0o077:
            raise KeyFormatError(
                f"permissions {status.st_mode & 0o777:04o} for '{path}' are too open: the key is ignored",
                hint=f"chmod 600 {path}",
            )
        return file.read(MAX_FILE + 1)


async def collect(
    given: Sequence[Identity], agent: Agent | None, *, only: bool, skipped: Callable[[str, str], None],
    certificates: Sequence[Identity] = (),
) -> list[Identity]:  # fmt: skip
    """The order in which ssh(1) tries keys: the `certificates` (CertificateFile), the keys in the agent that
    the user has named too, the agent's others (none with `only`, IdentitiesOnly), then the rest of what was
    named; of what nobody named, certificates first.

    `skipped(what, reason)` hears what cannot be tried.
    """
    held = await _held(agent, skipped)
    named = [item for item in given if item.key is not None and item.key.blob in held]
    for item in named:
        item.agent = agent
    first = {item.key.blob for item in named if item.key is not None}
    others: Iterable[Identity] = () if only else (i for blob, i in held.items() if blob not in first)
    rest = [item for item in given if not any(item is other for other in named)]
    for item in (*certificates, *rest):
        if item.problem:
            skipped(item.source, item.problem)
    groups = (certificates, [*named, *others], rest)
    found = [item for group in groups for item in _certificates_first(group) if not item.problem]
    for item in found:
        if item.agent is None and item.key is not None and not isinstance(item.key, PublicKey):
            item.signer = _signer(item, found, held)
    return found


def _certificates_first(group: Sequence[Identity]) -> list[Identity]:
    """As OpenSSH 10: what the user has named keeps its place."""
    unnamed = [item for item in group if not item.explicit]
    ordered = iter(sorted(unnamed, key=lambda item: isinstance(item.key, PublicKey | None)))
    return [item if item.explicit else next(ordered) for item in group]


def _signer(item: Identity, found: Iterable[Identity], held: dict[bytes, Identity]) -> Identity | None:
    """Who has the private key of the certificate `item`: the key itself, wherever it is; the agent, which
    may hold nothing but the certificate; or a file by its name. None: `item` has to find it."""
    assert item.key is not None
    plain = item.key.plain
    for other in (*found, *held.values()):
        if other.key == plain or (other.agent is not None and other.key == item.key):
            return other
    named = item.source.removesuffix("-cert.pub")
    return next((other for other in found if other.key is None and other.source == named), None)


async def _held(agent: Agent | None, skipped: Callable[[str, str], None]) -> dict[bytes, Identity]:
    if agent is None:
        return {}
    try:
        identities = await agent.identities()
    except SSHError as error:
        skipped("agent", str(error))
        return {}
    return {i.blob: Identity(i.key, i.comment or "agent", agent=agent) for i in identities if i.key}
