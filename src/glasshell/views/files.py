"""Files that a view writes: only their owner reads them, and what hinders is one clear error."""

from __future__ import annotations

import errno
import os
import stat
from typing import IO, Final

from ..errors import ConfigError

__all__ = ["cannot_write", "open_descriptor", "open_private", "private_descriptor", "write_whole"]

MODE: Final = 0o600


def open_private(
    path: str | os.PathLike[str], what: str, *, append: bool = False, new: bool = False, buffering: int = 1
) -> IO[str]:
    """`path` opened for writing, line by line, in UTF-8; emptied, unless it is to `append`.

    `new`: the file may not exist yet, and its last part may be no link. `what` names it in the error.
    `buffering` as open(): with -1 the writer says when.
    Raises ConfigError where it cannot be written.
    """
    descriptor = open_descriptor(path, what, append=append, new=new)
    return os.fdopen(descriptor, "a" if append else "w", buffering=buffering, encoding="utf-8", newline="\n")


def open_descriptor(
    path: str | os.PathLike[str], what: str, *, append: bool = False, new: bool = False
) -> int:
    """As `open_private`, for bytes that shall be in the file at once."""
    try:
        return private_descriptor(path, append=append, new=new)
    except OSError as error:
        raise cannot_write(what, path, error) from error


def private_descriptor(
    path: str | os.PathLike[str], *, append: bool = False, new: bool = False, wait: bool = True
) -> int:
    """As `open_descriptor`, for who can do without the file. Raises OSError.

    Without `wait` a pipe is not waited for, neither now nor at any write.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_EXCL if new else 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) if new else 0
    flags |= 0 if wait else getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags, MODE)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            _make_private(descriptor, found)
            if not append:
                os.ftruncate(descriptor, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _make_private(descriptor: int, found: os.stat_result) -> None:
    """One that was there already may be open to others; what another user owns cannot be taken from him."""
    if hasattr(os, "fchmod"):
        if found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "the file is another user's, who could read it")
        os.fchmod(descriptor, MODE)


def cannot_write(what: str, path: str | os.PathLike[str], error: OSError) -> ConfigError:
    """The error for a file that cannot be written, or no longer."""
    return ConfigError(f"cannot write the {what} {os.fspath(path)}: {error.strerror}")


def write_whole(descriptor: int, data: bytes) -> None:
    """Writes all of `data`. Raises OSError where the file does not take it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
