"""`glasshell keygen -Y`: signatures of files, made and verified."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from ..errors import ConfigError, KeyFormatError, SSHError, UsageError
from ..keys import allowed_signers
from ..keys.allowed_signers import AllowedSigners
from ..keys.fingerprint import fingerprint
from ..keys.krl import MAX_BYTES
from ..keys.public import AnyKey, dump_public_key
from ..keys.revoked import Revoked
from ..keys.sshsig import HASHES, FileSignature, hasher, sign
from ..keys.times import parse_time
from ..wire import visible
from .keygen import Nonsense, Wanted
from .keygen_files import complain, expand, may_overwrite, open_private, read, read_public

__all__ = ["action", "agent_signer"]

CHUNK: Final = 1 << 20
FAILED: Final = 255
NOT_FOUND: Final = 210
"""What ssh-keygen ends with where match-principals finds nobody."""


def action(wanted: Wanted) -> Callable[[Wanted], int]:
    """The operation of -Y; what it cannot do without is asked for here."""
    for name, (act, needs) in _OPERATIONS.items():
        if wanted.operation.startswith(name):
            for field, what in needs.items():
                if not getattr(wanted, field):
                    complain(f"glasshell keygen: Too few arguments for {name}: missing {what}")
                    return lambda _: 1
            return act
    raise Nonsense(f'Unsupported operation for -Y: "{visible(wanted.operation)}"')


def _options(wanted: Wanted, *known: str) -> dict[str, str]:
    """The options of -O by name. Raises UsageError for another than `known`."""
    found: dict[str, str] = {}
    for option in wanted.options:
        name, equals, value = option.partition("=")
        if name.lower() not in known or bool(equals) == (name.lower() == "print-pubkey"):
            raise UsageError(f'Invalid option "{visible(option)}"')
        found[name.lower()] = value
    return found


def _moment(options: dict[str, str]) -> int:
    if "verify-time" not in options:
        return int(time.time())
    try:
        return parse_time(options["verify-time"])
    except KeyFormatError:
        raise UsageError('Invalid "verify-time" option') from None


# ---- sign


def _sign(wanted: Wanted) -> int:
    if "-" in wanted.files and len(wanted.files) > 1:
        raise UsageError("Cannot sign mix of paths and standard input")
    hash = _options(wanted, "hashalg").get("hashalg", HASHES[0])
    key, signer = _signer(wanted)
    for name in wanted.files or ["-"]:
        if not wanted.quiet:
            complain("Signing data on standard input" if name == "-" else f"Signing file {name}")
        _sign_one(name, lambda digest: sign(signer, key, wanted.names or "", digest, hash), hash, wanted)
    return 0


def _sign_one(name: str, make: Callable[[bytes], FileSignature], hash: str, wanted: Wanted) -> None:
    if name == "-":
        print(make(_digest(sys.stdin.buffer, hash)).armor(), end="")
        return
    try:
        with Path(name).open("rb") as file:
            signature = make(_digest(file, hash))
    except OSError as error:
        raise ConfigError(f"Cannot open {name} for signing: {error.strerror}") from None
    out = Path(f"{name}.sig")
    if may_overwrite(out):
        try:
            out.write_text(signature.armor())
        except OSError as error:
            raise ConfigError(f"Cannot open {out}: {error.strerror}") from None
        if not wanted.quiet:
            complain(f"Write signature to {out}")


def _digest(file: IO[bytes], hash: str) -> bytes:
    made = hasher(hash)
    while data := file.read(CHUNK):
        made.update(data)
    digest: bytes = made.digest()
    return digest


def _signer(wanted: Wanted) -> tuple[AnyKey, Callable[[str, bytes], bytes]]:
    """The key of -f, public or private, and how it signs: in the agent that has it, else from its file."""
    path = expand(wanted.file)
    try:
        key = read_public(path)[0]
    except (ConfigError, KeyFormatError) as error:
        raise KeyFormatError(f"Couldn't load public key {path}: {error}", hint=error.hint) from None
    asked = "U" in wanted.actions
    in_agent = agent_signer(key, asked)
    if in_agent is not None:
        return key, in_agent
    if asked:
        raise KeyFormatError("Couldn't find key in agent")
    name = path.name
    for end in ("-cert.pub", ".pub"):
        name = name.removesuffix(end)
    file = path.with_name(name)
    if not file.exists():
        raise ConfigError(f'No private key found for public key "{path}"')
    private = open_private(file, wanted.old)[0]
    if private.public != key.plain:
        raise KeyFormatError(f"Public key {path} doesn't match private {file}")
    return key, private.sign


def agent_signer(key: AnyKey, asked: bool = True) -> Callable[[str, bytes], bytes] | None:
    """How the agent signs with `key`; None where it does not have it, or where there is no agent and none was
    `asked` for. Raises what keeps it from answering."""
    import asyncio

    from ..aio.agent import Agent

    agent = Agent()
    if not agent.present:
        if asked:
            raise ConfigError("Couldn't get agent socket", hint="is SSH_AUTH_SOCK set?")
        return None
    try:
        held = asyncio.run(agent.identities())
    except SSHError:
        if asked:
            raise
        return None
    if not any(identity.blob == key.blob for identity in held):
        return None
    return lambda algorithm, data: asyncio.run(agent.sign(key.blob, algorithm, data))


# ---- verify


def _verify(wanted: Wanted) -> int:
    options = _options(wanted, "verify-time", "print-pubkey")
    key: AnyKey | None = None
    try:
        key = _verified(wanted, _moment(options))
    except SSHError as error:
        complain(visible(str(error)))
    if key is None:
        if not wanted.quiet:
            print("Could not verify signature.")
        return FAILED
    if not wanted.quiet:
        whom = f" for {visible(wanted.identity)}" if wanted.identity and wanted.file else ""
        shown = f"{key.label} key {fingerprint(key, wanted.hash)}"
        print(f'Good "{visible(wanted.names or "")}" signature{whom} with {shown}')
    if "print-pubkey" in options:
        print(dump_public_key(key), end="")
    return 0


def _verified(wanted: Wanted, now: int) -> AnyKey | None:
    """The key that signed what is on standard input, where its signature counts."""
    signature = _read_signature(wanted.signer)
    namespace = wanted.names or ""
    objection = signature.objection(namespace, _digest(sys.stdin.buffer, signature.hash))
    if objection:
        complain(f"Couldn't verify signature: {objection}")
        return None
    if wanted.operation.startswith("check-novalidate"):
        return signature.key
    if wanted.host and _revoked(wanted.host, signature.key):
        return None
    answer = _signers(wanted.file).check(signature.key, wanted.identity or "", namespace, now)
    for complaint in answer.complaints:
        complain(visible(complaint))
    return signature.key if answer.principals else None


def _read_signature(name: str) -> FileSignature:
    try:
        data = read(expand(name))
    except ConfigError as error:
        raise ConfigError(f"Couldn't read signature file: {error}") from None
    return FileSignature.parse(data)


def _revoked(name: str, key: AnyKey) -> bool:
    reason = Revoked.load(read(expand(name), MAX_BYTES), name).revokes(key)
    if reason:
        complain(f"{visible(name)}: {visible(reason)}")
    return bool(reason)


def _signers(name: str) -> AllowedSigners:
    path = expand(name)
    try:
        data = read(path, allowed_signers.MAX_BYTES)
    except ConfigError as error:
        raise ConfigError(f'Unable to open allowed keys file "{path}": {error}') from None
    return AllowedSigners.parse(data, str(path))


def _find(wanted: Wanted) -> int:
    names: tuple[str, ...] = ()
    now = _moment(_options(wanted, "verify-time"))
    try:
        answer = _signers(wanted.file).find(_read_signature(wanted.signer).key, now)
    except SSHError as error:
        complain(visible(str(error)))
    else:
        names = answer.principals
        for complaint in answer.complaints:
            complain(visible(complaint))
    return _tell(names)


def _match(wanted: Wanted) -> int:
    _options(wanted)
    names: tuple[str, ...] = ()
    try:
        names = tuple(signer.principals for signer in _signers(wanted.file).match(wanted.identity or ""))
    except SSHError as error:
        complain(visible(str(error)))
    return _tell(names, NOT_FOUND)


def _tell(names: tuple[str, ...], failed: int = FAILED) -> int:
    if not names:
        complain("No principal matched.")
        return failed
    print("\n".join(map(visible, names)))
    return 0


_SIGNATURE, _SIGNERS = "signature file", "allowed keys file"

_OPERATIONS: Final[dict[str, tuple[Callable[[Wanted], int], dict[str, str]]]] = {
    "find-principals": (_find, {"signer": _SIGNATURE, "file": _SIGNERS}),
    "match-principals": (_match, {"file": _SIGNERS, "identity": "principal ID"}),
    "sign": (_sign, {"names": "namespace", "file": "key"}),
    "check-novalidate": (_verify, {"names": "namespace", "signer": _SIGNATURE}),
    "verify": (
        _verify,
        {"names": "namespace", "signer": _SIGNATURE, "file": _SIGNERS, "identity": "principal identity"},
    ),
}
"""Operation -> what it does, and what the command line has to have for it."""
