"""What the actions of `glasshell keygen` share: files of keys read and written, and questions asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..crypto.signatures import PrivateKey
from ..errors import ConfigError, KeyFormatError, PassphraseError, SSHError
from ..keys.openssh import load_private_key, public_half
from ..keys.public import MAX_FILE, AnyKey, as_text, load_key, read_key
from ..wire import Secret

__all__ = [
    "ask_file", "ask_line", "ask_secret", "complain", "expand", "home", "may_overwrite", "new_passphrase",
    "open_private", "read", "read_private", "read_public", "write", "write_private", "write_public",
]  # fmt: skip


def complain(text: str) -> None:
    """A line on standard error that ends nothing."""
    if sys.stdout is not None:  # closed by whoever started us
        sys.stdout.flush()
    print(text, file=sys.stderr)


def home() -> Path:
    """~/.ssh."""
    return Path("~/.ssh").expanduser()


def expand(name: str) -> Path:
    """The path, with `~` as the shell has it."""
    return Path(name).expanduser()


def read(path: Path, most: int = MAX_FILE) -> bytes:
    """The bytes of a file of keys; "-" is standard input. Raises ConfigError, KeyFormatError."""
    try:
        if str(path) == "-":
            return _bounded(sys.stdin.buffer, path, most)
        with path.open("rb") as file:
            return _bounded(file, path, most)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _bounded(file: IO[bytes], path: Path, most: int) -> bytes:
    data = file.read(most + 1)
    if len(data) > most:
        raise KeyFormatError(f"{path}: more than {most} bytes are no key")
    return data


def read_public(path: Path) -> tuple[AnyKey, str]:
    """The key in `path`, in the .pub beside it, or the public half of the private key there, and its comment.

    Raises ConfigError or KeyFormatError.
    """
    problem: SSHError | None = None
    for name in (path, path.with_name(f"{path.name}.pub")):
        try:
            key, comment = _first_key(read(name))
        except (ConfigError, KeyFormatError) as error:
            problem = problem or error
        else:
            return key, comment or str(name)
    with suppress(ConfigError, KeyFormatError):
        return read_key(public_half(read(path))), ""
    if isinstance(problem, ConfigError) or problem is None:
        raise ConfigError(f"{path}: {os.strerror(2)}" if problem is None else str(problem))
    raise KeyFormatError(f"{path}: {problem}", hint=problem.hint)


def _first_key(data: bytes) -> tuple[AnyKey, str]:
    """The first line that is a key."""
    problem: KeyFormatError | None = None
    for line in as_text(data).split("\n"):
        if line.startswith("-----BEGIN"):
            break
        if not line.strip() or line.startswith("#"):
            continue
        try:
            return load_key(line)
        except KeyFormatError as error:
            problem = problem or error
    raise problem or KeyFormatError("not a public key")


def read_private(path: Path) -> bytes:
    """A private key's file, which must be its owner's alone. Raises ConfigError, KeyFormatError."""
    data = read(path)
    if os.name == "posix":
        status = path.stat()
        if status.st_uid == os.getuid() and status.st_mode & 0o077:
            mode = f"{status.st_mode & 0o777:04o}"
            raise KeyFormatError(
                f"Permissions {mode} for '{path}' are too open: the private key is ignored.",
                hint=f"chmod 600 {path}",
            )
    return data


def open_private(
    path: Path, passphrase: Secret | None, prompt: str = "", *, failed: str = 'Load key "{}"'
) -> tuple[PrivateKey, Secret | None]:
    """The private key in `path`, and the passphrase it has; asks for one that is not given.

    Raises ConfigError or KeyFormatError, whose words begin as `failed` says.
    """
    data = read_private(path)
    try:
        try:
            return load_private_key(data, hardware=True), None
        except PassphraseError:
            given = passphrase or ask_secret(prompt or f'Enter passphrase for "{path}": ')
            return load_private_key(data, given, hardware=True), given
    except PassphraseError:
        raise KeyFormatError(
            f"{failed.format(path)}: incorrect passphrase supplied to decrypt private key"
        ) from None
    except KeyFormatError as error:
        raise KeyFormatError(f"{failed.format(path)}: {error}", hint=error.hint) from None


# ---- writing


def may_overwrite(path: Path) -> bool:
    """Asks before a file is replaced."""
    if not os.path.lexists(path):
        return True
    print(f"{path} already exists.")
    return ask_line("Overwrite (y/n)? ")[:1].lower() == "y"


def write_private(path: Path, data: bytes) -> None:
    """The whole file or none, its owner's alone from the first moment. Raises ConfigError."""
    _write(path, data, 0o600, f'Saving key "{path}" failed')


def write_public(path: Path, text: str) -> None:
    """The whole file or none. Raises ConfigError."""
    write(path, text.encode("utf-8", "surrogateescape"), f"Unable to save public key to {path}")


def write(path: Path, data: bytes, failed: str) -> None:
    """A file that everybody may read, whole or not at all. Raises ConfigError, which begins with `failed`."""
    _write(path, data, 0o644, failed)


def _write(path: Path, data: bytes, mode: int, failed: str) -> None:
    path = path.resolve()  # a symbolic link stays one
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _keep_owner(path, draft)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{failed}: {error.strerror}") from None


def _keep_owner(path: Path, draft: Path) -> None:
    """Whose file is replaced, theirs is the new one: root changes keys of others as well."""
    with suppress(FileNotFoundError, PermissionError, AttributeError):
        was = path.stat()
        if (was.st_uid, was.st_gid) != (draft.stat().st_uid, draft.stat().st_gid):
            os.chown(draft, was.st_uid, was.st_gid)


# ---- asking


def ask_file(given: str, question: str, default: Callable[[], Path]) -> Path:
    """The file of -f, or the one that is typed."""
    if given:
        return expand(given)
    usual = default()
    return Path(ask_line(f"{question} ({usual}): ") or usual)


def ask_line(prompt: str) -> str:
    """A line of standard input, as ssh-keygen asks for names of files; empty at its end."""
    print(prompt, end="", flush=True)
    return sys.stdin.readline().strip("\r\n") if sys.stdin is not None else ""


def ask_secret(prompt: str) -> Secret:
    """What is typed on the terminal, unseen, given by SSH_ASKPASS, or read from a pipe.

    Raises ConfigError where there is none of them.
    """
    from .terminal import ask_now

    given = ask_now(prompt, stdin=True)
    if given is None:
        complain("")  # the question has no end of line
        raise ConfigError("no terminal to ask for a passphrase", hint="give it with -N, an old one with -P")
    return given


def new_passphrase(prompt: str) -> Secret | None:
    """A passphrase that is typed twice; None where it is empty."""
    while True:
        first = ask_secret(prompt)
        if first == ask_secret("Enter same passphrase again: "):
            return first or None
        print("Passphrases do not match.  Try again.")
