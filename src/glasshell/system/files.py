"""Reading files that others may have prepared: regular files only, bounded, and StrictModes.

A FIFO in the place of authorized_keys must not stop the server, and neither must a file of 100 GB.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..keys.authorized_keys import AuthorizedKeys
from .accounts import Account, is_root

__all__ = [
    "AuthorizedFile", "as_account", "authorized_paths", "find_files", "mode_objection", "read_authorized",
    "read_regular",
]  # fmt: skip

MAX_FILE: Final = 1 << 20


def find_files(pattern: str) -> list[str]:
    """The files that a glob(7) pattern names, in order."""
    return sorted(glob.glob(pattern))  # noqa: PTH207 (Path.glob takes no absolute pattern)


def read_regular(path: str, limit: int = MAX_FILE) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises OSError for everything else."""
    # O_NONBLOCK: opening a FIFO that nobody writes to would otherwise wait for ever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(None, "not a regular file", path)
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


def mode_objection(path: str, account: Account) -> str:
    """Why somebody beside root and `account` could change `path`, in OpenSSH's words; empty if nobody.

    `path` is followed to the real file; the file and each folder above it, up to the home or the root,
    belong to one of the two and are writable by the owner alone (sshd_config(5), StrictModes).
    """
    home = Path(account.home).resolve()
    place = Path(path).resolve()
    kind = "file"
    while True:
        status = place.stat()
        if status.st_uid not in (0, account.uid) or status.st_mode & 0o022:
            return f"bad ownership or modes for {kind} {place}"
        if kind == "directory" and place in (home, place.parent):
            return ""
        place, kind = place.parent, "directory"


def authorized_paths(patterns: tuple[str, ...], account: Account) -> tuple[str, ...]:
    """The files of AuthorizedKeysFile: %h, %u, %U and %% replaced, relative ones under the home."""
    if patterns == ("none",):
        return ()
    tokens = {"%": "%", "h": account.home, "u": account.name, "U": str(account.uid)}
    paths = (re.sub("%([%huU])", lambda token: tokens[token[1]], pattern) for pattern in patterns)
    return tuple(str(Path(account.home) / path) for path in paths)


@dataclass(frozen=True, slots=True)
class AuthorizedFile:
    """One file of authorized keys: its `keys`, or the `objection` why it counts for nothing.

    `missing` where there is no such file, which is nothing to be alarmed about.
    """

    path: str
    keys: AuthorizedKeys
    objection: str = ""
    missing: bool = False


def read_authorized(
    path: str, account: Account, *, strict: bool, environment: bool = False
) -> AuthorizedFile:
    """Reads one file of authorized keys with the rights of `account`. Raises nothing.

    `strict` is StrictModes; `environment` is PermitUserEnvironment.
    """
    try:
        with as_account(account):
            data = read_regular(path)
            objection = mode_objection(path, account) if strict else ""
    except OSError as error:
        text = f"Could not open user '{account.name}' authorized keys '{path}': {error.strerror or error}"
        return AuthorizedFile(path, AuthorizedKeys(), text, isinstance(error, FileNotFoundError))
    if objection:
        return AuthorizedFile(path, AuthorizedKeys(), f"Authentication refused: {objection}")
    return AuthorizedFile(path, AuthorizedKeys.parse(data, path, permit_environment=environment))
