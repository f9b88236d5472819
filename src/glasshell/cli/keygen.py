"""`glasshell keygen`: makes, shows and changes keys, with the flags, words and files of ssh-keygen(1)."""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..crypto.signatures import PrivateKey, PublicKey
from ..errors import ConfigError, KeyFormatError, PassphraseError, SSHError, UsageError
from ..keys.fingerprint import describe, randomart
from ..keys.openssh import dump_private_key, load_private_key
from ..keys.public import MAX_FILE, dump_public_key, load_public_key
from ..wire import Secret, visible

__all__ = ["main"]

TYPES: Final = {"ed25519": ("ssh-ed25519", "ed25519"), "rsa": ("ssh-rsa", "rsa"), "ecdsa": ("", "ecdsa")}
"""What -t takes: the key type, and the end of the file's name."""
CURVES: Final = {256: "ecdsa-sha2-nistp256", 384: "ecdsa-sha2-nistp384", 521: "ecdsa-sha2-nistp521"}

FLAGS: Final[dict[str, tuple[str, str]]] = {
    "b": ("BITS", "bits of a new key: RSA 2048 to 16384 (3072), ECDSA 256, 384 or 521"),
    "C": ("COMMENT", "comment of a new key"),
    "E": ("HASH", "hash of fingerprints: sha256 or md5"),
    "f": ("FILE", "the key's file"),
    "l": ("", "show the fingerprint; with -v the picture as well"),
    "N": ("PASSPHRASE", "new passphrase"),
    "P": ("PASSPHRASE", "old passphrase"),
    "p": ("", "change the passphrase"),
    "q": ("", "say nothing"),
    "t": ("TYPE", f"type of a new key: {', '.join(TYPES)} (ed25519)"),
    "v": ("", "say more"),
    "y": ("", "print the public key of a private one"),
}

USAGE: Final = "usage: glasshell keygen [flags]\n"


@dataclass(slots=True)
class Wanted:
    """What the command line says."""

    type: str = "ed25519"
    bits: int = 0
    file: str = ""
    comment: str | None = None
    new: Secret | None = None
    old: Secret | None = None
    hash: str = "sha256"
    quiet: bool = False
    verbose: bool = False
    action: str = ""


def main(arguments: Sequence[str]) -> int:
    """Runs `glasshell keygen`; returns the exit status."""
    if list(arguments) == ["--help"]:
        print(_help(), end="")
        return 0
    wanted = _parse(arguments)
    actions: dict[str, Callable[[Wanted], int]] = {
        "": _generate, "l": _fingerprint, "y": _print_public, "p": _change_passphrase,
    }  # fmt: skip
    return actions[wanted.action](wanted)


def _help() -> str:
    lines = [f"  {f'-{name} {value}':16} {about}\n" for name, (value, about) in FLAGS.items()]
    return "".join([USAGE, "\nWithout -l, -p or -y a new key is made.\n\n", *lines])


def _parse(arguments: Sequence[str]) -> Wanted:
    letters = "".join(name + ":" * bool(value) for name, (value, _) in FLAGS.items())
    try:
        pairs, rest = getopt.gnu_getopt(list(arguments), letters)
    except getopt.GetoptError as error:
        raise UsageError(error.msg, hint="glasshell keygen --help lists the flags") from None
    if rest:
        raise UsageError(f"Too many arguments: {visible(rest[0])}", hint="name the file with -f")
    wanted = Wanted()
    for name, value in pairs:
        _take(wanted, name[1:], value)
    return wanted


def _take(wanted: Wanted, name: str, value: str) -> None:
    match name:
        case "l" | "y" | "p":
            if wanted.action not in ("", name):
                raise UsageError("-l, -p and -y exclude each other")
            wanted.action = name
        case "b":
            if not value.isdecimal() or len(value) > 6:
                raise UsageError(f"Bits has bad value {visible(value)}")
            wanted.bits = int(value)
        case "E":
            if value.lower() not in ("sha256", "md5"):
                raise UsageError(f'Invalid hash algorithm "{visible(value)}"', hint="sha256 or md5")
            wanted.hash = value.lower()
        case "N" | "P":
            setattr(wanted, "new" if name == "N" else "old", Secret(value))
        case "q" | "v":
            setattr(wanted, "quiet" if name == "q" else "verbose", True)
        case "C" | "f" | "t":
            setattr(wanted, {"C": "comment", "f": "file", "t": "type"}[name], value)


# ---- a new key


def _generate(wanted: Wanted) -> int:
    key_type, bits = _type(wanted)
    if not wanted.quiet:
        print(f"Generating public/private {wanted.type} key pair.")
    default = Path("~/.ssh").expanduser() / f"id_{TYPES[wanted.type][1]}"
    path = _file(wanted, "Enter file in which to save the key", default)
    _make_folder(path, wanted)
    if not _may_overwrite(path):
        return 1
    passphrase = _new_passphrase(wanted, "Enter passphrase (empty for no passphrase): ")
    key = PrivateKey.generate(key_type, bits, _comment() if wanted.comment is None else wanted.comment)
    public = dump_public_key(key.public, key.comment)  # refuses a comment of two lines before a file is there
    _write_private(path, dump_private_key(key, passphrase))
    _write_public(path, public)
    if not wanted.quiet:
        print(f"Your identification has been saved in {path}")
        print(f"Your public key has been saved in {path}.pub")
        print(f"The key fingerprint is:\n{key.public.fingerprint(wanted.hash)} {visible(key.comment)}")
        print(f"The key's randomart image is:\n{randomart(key.public, wanted.hash)}")
    return 0


def _type(wanted: Wanted) -> tuple[str, int | None]:
    if wanted.type not in TYPES:
        raise UsageError(f"unknown key type {visible(wanted.type)}", hint=f"there are {', '.join(TYPES)}")
    if wanted.type == "ecdsa":
        curve = CURVES.get(wanted.bits or 256)
        if curve is None:
            raise UsageError("Invalid ECDSA key length: valid lengths are 256, 384 or 521 bits")
        return curve, None
    if wanted.type == "rsa":
        if wanted.bits and wanted.bits < 2048:
            raise UsageError("Invalid RSA key length: minimum is 2048 bits")
        if wanted.bits > 16384:
            raise UsageError("Invalid RSA key length: maximum is 16384 bits")
        return "ssh-rsa", wanted.bits or None
    return TYPES[wanted.type][0], None


def _comment() -> str:
    import getpass
    import socket

    with suppress(OSError, KeyError, ImportError):
        return f"{getpass.getuser()}@{socket.gethostname()}"
    return ""


def _make_folder(path: Path, wanted: Wanted) -> None:
    """~/.ssh is made where it is missing; no other folder is."""
    folder = Path("~/.ssh").expanduser()
    if path.parent == folder and not folder.exists():
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise ConfigError(f"Could not create directory '{folder}': {error.strerror}") from None
        if not wanted.quiet:
            print(f"Created directory '{folder}'.")


def _may_overwrite(path: Path) -> bool:
    if not os.path.lexists(path):
        return True
    print(f"{path} already exists.")
    return _line("Overwrite (y/n)? ").lower() in ("y", "yes")


def _new_passphrase(wanted: Wanted, prompt: str) -> Secret | None:
    if wanted.new is not None:
        return wanted.new or None
    while True:
        first = _secret(prompt)
        if first == _secret("Enter same passphrase again: "):
            return first or None
        print("Passphrases do not match.  Try again.")


def _write_private(path: Path, data: bytes) -> None:
    """The whole file or none, its owner's alone from the first moment; what stood there is replaced."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f'Saving key "{path}" failed: {error.strerror}') from None


def _write_public(path: Path, text: str) -> None:
    public = path.with_name(path.name + ".pub")
    try:
        public.write_text(text, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ConfigError(f"Unable to save public key to {public}: {error.strerror}") from None


# ---- keys that are there


def _fingerprint(wanted: Wanted) -> int:
    path = _file(wanted, "Enter file in which the key is", _default())
    for key, comment in _public_keys(path, sys.stdin.buffer.read(MAX_FILE) if str(path) == "-" else None):
        print(describe(key, comment, wanted.hash))
        if wanted.verbose:
            print(randomart(key, wanted.hash))
    return 0


def _public_keys(path: Path, data: bytes | None) -> Iterator[tuple[PublicKey, str]]:
    """Every key of a .pub file, the one of a private key's file, or the one in the .pub beside it."""
    text = _read(path) if data is None else data
    if b"PRIVATE KEY-----" in text[:100]:
        beside = path.with_name(path.name + ".pub")
        if beside.exists():
            yield load_public_key(_read(beside))
        else:
            key = _open(path, text, None)
            yield key.public, key.comment
        return
    found = False
    for line in text.splitlines():
        with suppress(KeyFormatError):
            yield load_public_key(line)
            found = True
    if not found:
        raise KeyFormatError(f"{path} is not a public key file.")


def _print_public(wanted: Wanted) -> int:
    path = _file(wanted, "Enter file in which the key is", _default())
    key = _open(path, _private(path), wanted.old)
    print(dump_public_key(key.public, key.comment), end="")
    return 0


def _change_passphrase(wanted: Wanted) -> int:
    path = _file(wanted, "Enter file in which the key is", _default())
    key = _open(path, _private(path), wanted.old, "Enter old passphrase: ")
    if not wanted.quiet:
        print(f"Key has comment '{visible(key.comment)}'")
    passphrase = _new_passphrase(wanted, "Enter new passphrase (empty for no passphrase): ")
    _write_private(path, dump_private_key(key, passphrase))
    if not wanted.quiet:
        print("Your identification has been saved with the new passphrase.")
    return 0


def _open(
    path: Path, data: bytes, passphrase: Secret | None, prompt: str = "Enter passphrase: "
) -> PrivateKey:
    try:
        try:
            return load_private_key(data, passphrase)
        except PassphraseError as error:
            if passphrase is not None or error.reason == "wrong":
                raise
        return load_private_key(data, _secret(prompt))
    except PassphraseError:
        raise KeyFormatError(
            f'Load key "{path}": incorrect passphrase supplied to decrypt private key'
        ) from None
    except SSHError as error:
        raise KeyFormatError(f'Load key "{path}": {error}', hint=error.hint) from None


def _private(path: Path) -> bytes:
    data = _read(path)
    if os.name == "posix":
        status = path.stat()
        if status.st_uid == os.getuid() and status.st_mode & 0o077:
            mode = f"{status.st_mode & 0o777:04o}"
            raise KeyFormatError(
                f"Permissions {mode} for '{path}' are too open: the private key is ignored.",
                hint=f"chmod 600 {path}",
            )
    return data


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise KeyFormatError(f"{path}: more than {MAX_FILE} bytes are no key")
    return data


def _default() -> Path:
    """The first of the user's keys that is there."""
    folder = Path("~/.ssh").expanduser()
    paths = [folder / f"id_{end}" for _, end in TYPES.values()]
    return next((path for path in paths if path.exists()), paths[0])


# ---- asking


def _file(wanted: Wanted, question: str, default: Path) -> Path:
    return Path(wanted.file or _line(f"{question} ({default}): ") or default)


def _line(prompt: str) -> str:
    """A line of standard input, as ssh-keygen asks for names of files; empty at its end."""
    print(prompt, end="", flush=True)
    return sys.stdin.readline().strip("\r\n") if sys.stdin is not None else ""


def _secret(prompt: str) -> Secret:
    from .terminal import ask_now

    given = ask_now(prompt)
    if given is None:
        raise ConfigError("no terminal to ask for a passphrase", hint="give it with -N, an old one with -P")
    return given
