"""Reading files that others may have prepared: regular files only, bounded, and StrictModes.

A FIFO in the place of authorized_keys must not stop the server, and neither must a file of 100 GB.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from ..errors import ConfigError
from ..wire import visible
from .accounts import RIGHTS, Account, is_root

if TYPE_CHECKING:
    from ..keys.authorized_keys import AuthorizedKeys

__all__ = [
    "MAX_FILE", "AccountFile", "AuthorizedFile", "account_path", "account_tokens", "as_account",
    "authorized_paths", "expand", "find_files", "mode_objection", "program_objection", "read_account_file",
    "read_authorized", "read_regular", "remove_private", "write_private",
]  # fmt: skip

MAX_FILE: Final = 1 << 20
TEMPORARY: Final = "/tmp"
"""Where OpenSSH puts its temporary files, whatever TMPDIR the server was started with."""


def find_files(pattern: str) -> list[str]:
    """The files that a glob(7) pattern names, in order."""
    return sorted(glob.glob(pattern))  # noqa: PTH207 (Path.glob takes no absolute pattern)


class _NotRegular(OSError):
    """A folder, a FIFO, a device."""


def read_regular(path: str, limit: int = MAX_FILE) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises OSError for everything else."""
    with _opened(path) as (file, _):
        return _bounded(file, path, limit)


@contextmanager
def _opened(path: str) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """A regular file, open, and what it is: what is looked at is what is read, whatever the name leads to."""
    # O_NONBLOCK: opening a FIFO that nobody writes to would otherwise wait for ever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _NotRegular(None, "not a regular file", path)
    with os.fdopen(descriptor, "rb") as file:
        yield file, status


def _bounded(file: BinaryIO, path: str, limit: int) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(None, f"larger than {limit} bytes", path)
    return data


@contextmanager
def as_account(account: Account) -> Iterator[None]:
    """Has the rights of `account` on files, where this process is root; nothing may be awaited within."""
    if not is_root() or account.uid == 0:
        yield
        return
    with RIGHTS:
        groups, gid = os.getgroups(), os.getegid()
        try:
            os.setgroups(account.groups)
            os.setegid(account.gid)
            os.seteuid(account.uid)
            yield
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)


def write_private(account: Account, prefix: str, data: bytes) -> str:
    """A new file of `account`'s in the folder for temporary ones, which nobody else reads; its path.

    Raises OSError.
    """
    import tempfile

    with as_account(account):
        descriptor, path = tempfile.mkstemp(prefix=prefix, dir=TEMPORARY)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    return path


def remove_private(account: Account, path: str) -> None:
    """Removes such a file, if it is still there, with the rights of `account`."""
    with suppress(OSError), as_account(account):
        Path(path).unlink()


def mode_objection(path: str, account: Account) -> str:
    """Why somebody beside root and `account` could change `path`, in OpenSSH's words; empty if nobody.

    `path` is followed to the real file; the file and each folder above it, up to the home or the root,
    belong to one of the two and are writable by the owner alone (StrictModes). Raises OSError.
    """
    return _objection(Path(path).resolve(), Path(path).stat(), account.uid, Path(account.home).resolve())


def program_objection(path: str) -> str:
    """Why somebody beside root could change the program at `path`, in OpenSSH's words; empty if nobody.

    Raises OSError where it is not there.
    """
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a regular file"
    return _objection(Path(path).resolve(), status, 0, None)


def _objection(place: Path, status: os.stat_result, uid: int, home: Path | None) -> str:
    kind = "file"
    while True:
        if status.st_uid not in (0, uid) or status.st_mode & 0o022:
            return f"bad ownership or modes for {kind} {place}"
        if kind == "directory" and place in (home, place.parent):
            return ""
        place, kind = place.parent, "directory"
        status = place.stat()


def expand(pattern: str, tokens: Mapping[str, str]) -> str:
    """`pattern` with its tokens, a letter behind a %, replaced; %% is a %. Raises ConfigError for others."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "%" or match[1] in tokens:
            return "%" if match[1] == "%" else tokens[match[1]]
        raise ConfigError(f'"{pattern}" has the token %{match[1]}, which is none here')

    return re.sub("%(.?)", value, pattern, flags=re.DOTALL)


def account_tokens(account: Account) -> dict[str, str]:
    """What %h, %u and %U stand for."""
    return {"h": account.home, "u": account.name, "U": str(account.uid)}


def account_path(pattern: str, account: Account) -> str:
    """The file that a pattern such as AuthorizedKeysFile's names: tokens replaced, from the home if relative.

    Raises ConfigError for a token that is none, and for an account whose name is no name of a file: `../bob`
    is not to be looked up in the place of bob.
    """
    odd = "/" in account.name or account.name in (".", "..") or "\0" in account.name
    if odd and "%u" in pattern.replace("%%", ""):
        raise ConfigError(f'the user name "{visible(account.name)}" is no name of a file')
    path = expand(pattern, account_tokens(account)) if "%" in pattern else pattern
    return path if path.startswith("/") else f"{account.home.rstrip('/')}/{path}"


def authorized_paths(patterns: tuple[str, ...], account: Account) -> tuple[str, ...]:
    """The files of AuthorizedKeysFile; `none` among them is none. Raises ConfigError, as `account_path`."""
    return tuple(account_path(pattern, account) for pattern in patterns if pattern.lower() != "none")


@dataclass(frozen=True, slots=True)
class AccountFile:
    """A file that says who may log in to an account: its `data`, or the `objection` why it does not count.

    `missing` where there is no such file, which is nothing to be alarmed about.
    """

    path: str
    data: bytes = b""
    objection: str = ""
    missing: bool = False


def read_account_file(path: str, account: Account, *, strict: bool, what: str) -> AccountFile:
    """Reads a file that belongs to an account, with its rights. Raises nothing.

    `strict` is StrictModes; `what` it is in OpenSSH's log: `authorized keys`.
    """
    try:
        with as_account(account), _opened(path) as (file, status):
            objection = ""
            if strict:
                home = Path(account.home).resolve()
                objection = _objection(Path(path).resolve(), status, account.uid, home)
            data = b"" if objection else _bounded(file, path, MAX_FILE)
    except _NotRegular:
        return AccountFile(path, b"", f"User '{account.name}' {what} '{path}' is not a regular file")
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        reason = getattr(error, "strerror", None) or error
        text = f"Could not open user '{account.name}' {what} '{path}': {reason}"
        return AccountFile(path, b"", text, isinstance(error, FileNotFoundError))
    if objection:
        return AccountFile(path, b"", f"Authentication refused: {objection}")
    return AccountFile(path, data)


@dataclass(frozen=True, slots=True)
class AuthorizedFile:
    """One file of authorized keys: its `keys`, or the `objection` why it counts for nothing.

    `missing` where there is no such file, which is nothing to be alarmed about.
    """

    path: str
    keys: AuthorizedKeys
    objection: str = ""
    missing: bool = False


def read_authorized(path: str, account: Account, *, strict: bool) -> AuthorizedFile:
    """Reads one file of authorized keys with the rights of `account`. Raises nothing.

    `strict` is StrictModes.
    """
    from ..keys.authorized_keys import AuthorizedKeys

    file = read_account_file(path, account, strict=strict, what="authorized keys")
    return AuthorizedFile(path, AuthorizedKeys.parse(file.data, path), file.objection, file.missing)
