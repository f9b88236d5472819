"""`glasshell keygen` without an action, and `-A`: new keys."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from ..crypto.signatures import PrivateKey
from ..errors import ConfigError, SSHError, UsageError
from ..keys.fingerprint import fingerprint, randomart
from ..keys.openssh import DEFAULT_ROUNDS, dump_private_key
from ..keys.pem import dump_pem
from ..keys.public import dump_public_key
from ..wire import Secret, visible
from .keygen import TYPES, Wanted
from .keygen_files import (
    ask_file,
    complain,
    home,
    may_overwrite,
    new_passphrase,
    write_private,
    write_public,
)

__all__ = ["default_comment", "host_keys", "make", "packed", "usual"]

CURVES: Final = {256: "ecdsa-sha2-nistp256", 384: "ecdsa-sha2-nistp384", 521: "ecdsa-sha2-nistp521"}
HOST_TYPES: Final = ("rsa", "ecdsa", "ed25519")
"""What -A makes, in ssh-keygen's order."""


def make(wanted: Wanted) -> int:
    """A new key, in a file that is asked for."""
    name = wanted.type or "ed25519"
    key_type, bits = _type(name, wanted.bits)
    if not wanted.quiet:
        print(f"Generating public/private {name} key pair.")
    path = ask_file(wanted.file, "Enter file in which to save the key", lambda: usual(_short(name)))
    _make_folder(path, wanted)
    if not may_overwrite(path):
        return 1
    passphrase = _passphrase(wanted, path)
    key = PrivateKey.generate(key_type, bits, default_comment() if wanted.comment is None else wanted.comment)
    public = dump_public_key(key.public, key.comment)  # refuses a comment of two lines before a file is there
    write_private(path, packed(key, passphrase, wanted))
    if not wanted.quiet:
        print(f"Your identification has been saved in {path}")
    write_public(path.with_name(path.name + ".pub"), public)
    if not wanted.quiet:
        print(f"Your public key has been saved in {path}.pub")
        print(f"The key fingerprint is:\n{fingerprint(key.public, wanted.hash)} {visible(key.comment)}")
        print(f"The key's randomart image is:\n{randomart(key.public, wanted.hash)}")
    return 0


def usual(short: str) -> Path:
    """Where the user's key of this type is."""
    return home() / f"id_{short.replace('-', '_')}"


def _short(name: str) -> str:
    """Of a type as ssh-keygen names it the short name, which stands in the file's."""
    return next((short for short, key_type in TYPES.items() if name in (short, key_type)), "ecdsa")


def _type(name: str, bits: int) -> tuple[str, int | None]:
    if name in CURVES.values():
        return name, None
    if name not in TYPES and name not in TYPES.values():
        hint = "such keys are made by ssh-keygen" if "-sk" in name else f"there are {', '.join(TYPES)}"
        raise UsageError(f"unknown key type {visible(name)}", hint=hint)
    short = _short(name)
    if short == "ecdsa":
        curve = CURVES.get(bits or 256)
        if curve is None:
            raise UsageError("Invalid ECDSA key length: valid lengths are 256, 384 or 521 bits")
        return curve, None
    if short == "rsa":
        if bits and bits < 2048:
            raise UsageError("Invalid RSA key length: minimum is 2048 bits")
        if bits > 16384:
            raise UsageError("Invalid RSA key length: maximum is 16384 bits")
        return "ssh-rsa", bits or None
    return TYPES[short], None


def default_comment() -> str:
    """`user@host`."""
    import getpass
    import socket

    with suppress(OSError, KeyError, ImportError):
        return f"{getpass.getuser()}@{socket.gethostname()}"
    return ""


def _make_folder(path: Path, wanted: Wanted) -> None:
    """~/.ssh is made where it is missing; no other folder is."""
    folder = home()
    if path.parent == folder and not folder.exists():
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise ConfigError(f"Could not create directory '{folder}': {error.strerror}") from None
        if not wanted.quiet:
            print(f"Created directory '{folder}'.")


def _passphrase(wanted: Wanted, path: Path) -> Secret | None:
    given = wanted.old if wanted.old is not None else wanted.new  # as ssh-keygen: -P will do
    if given is not None:
        return given or None
    return new_passphrase(f'Enter passphrase for "{path}" (empty for no passphrase): ')


def packed(key: PrivateKey, passphrase: Secret | None, wanted: Wanted) -> bytes:
    """The file of a private key, in the form, with the cipher and the rounds that are wanted."""
    if wanted.form in ("PEM", "PKCS8") and not (wanted.form == "PEM" and key.public.type == "ssh-ed25519"):
        return dump_pem(key, wanted.form, passphrase)
    rounds = wanted.rounds or DEFAULT_ROUNDS
    return dump_private_key(key, passphrase, rounds, cipher=wanted.cipher or "aes256-ctr")


# ---- -A


def host_keys(wanted: Wanted) -> int:
    """Makes each host key that is missing, or empty, in PREFIX/etc/ssh; a failure leaves the others be."""
    folder = Path(f"{wanted.file}/etc/ssh")
    said = failed = False
    for name in HOST_TYPES:
        path = folder / f"ssh_host_{name}_key"
        with suppress(OSError):
            if path.stat().st_size:
                continue
        print(
            f"{'' if said else 'glasshell keygen: generating new host keys: '}{name.upper()} ",
            end="",
            flush=True,
        )
        said = True
        try:
            key = PrivateKey.generate(TYPES[name], None, default_comment())
            write_public(path.with_name(path.name + ".pub"), dump_public_key(key.public, key.comment))
            write_private(path, packed(key, None, wanted))
        except SSHError as error:
            complain(f"\n{visible(str(error))}")
            failed = True
    if said and not failed:
        print()
    return 1 if failed else 0
