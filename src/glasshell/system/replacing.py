"""Files that several programs write, as known_hosts: whole or not at all, and nobody's line is lost.

Writers of ours wait for each other (flock(2) on the file itself). OpenSSH's do not: what one of them has
appended in the meantime is seen before the new file takes the old one's place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

__all__ = ["append_line", "replace_file"]

TRIES: Final = 20
"""How often a file is read again that somebody else changes all the time."""


def append_line(path: Path, line: str) -> None:
    """Appends `line` in one write, on a line of its own; makes the file, 0600, and its folder, 0700.

    Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode("utf-8", "surrogateescape"))


def replace_file(
    path: Path, change: Callable[[bytes], bytes], *, old: Path | None = None, always: bool = False
) -> bool:
    """Puts what `change` makes of the file's content in its place; whether that was anything new, without
    which nothing is written, unless `always`.

    A symbolic link stays one; mode and owner stay. `old` becomes the file as it was. Raises OSError, which
    leaves the file as it was; FileNotFoundError where there is none.
    """
    target = path.resolve()
    for _ in range(TRIES):
        with _locked(target, os.O_RDONLY) as file:
            before = file.read()
            after = change(before)
            if after == before and not always:
                return False
            draft = _draft(target, after, os.fstat(file.fileno()))
            try:
                file.seek(0)
                if file.read() != before or not _still(target, file):
                    continue
                if old is not None:
                    _keep(target, old)
                draft.replace(target)
                return after != before
            finally:
                draft.unlink(missing_ok=True)
    raise OSError(None, "somebody else changes it all the time", str(path))


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[IO[bytes]]:
    """The file, open, and of all its writers this one's alone; a file that was replaced is opened anew."""
    for _ in range(TRIES):
        file = os.fdopen(os.open(path, flags, 0o600), "rb" if flags == os.O_RDONLY else "rb+", buffering=0)
        with file:
            with suppress(ImportError, OSError):  # Windows; file systems without locks
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            if _still(path, file):
                yield file
                return
    raise OSError(None, "somebody else replaces it all the time", str(path))


def _still(path: Path, file: IO[bytes]) -> bool:
    """Whether `path` still names the file that is open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _keep(target: Path, old: Path) -> None:
    old.unlink(missing_ok=True)
    try:
        os.link(target, old)
    except OSError:  # another file system, or one without hard links
        import shutil

        shutil.copy2(target, old)


def _draft(target: Path, data: bytes, like: os.stat_result) -> Path:
    """A new file beside `target`, with mode and owner as it has them."""
    draft = target.with_name(f"{target.name}.{os.urandom(6).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(descriptor)
        draft.chmod(like.st_mode & 0o777)
        with suppress(PermissionError, AttributeError):
            if (like.st_uid, like.st_gid) != (draft.stat().st_uid, draft.stat().st_gid):
                os.chown(draft, like.st_uid, like.st_gid)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft
