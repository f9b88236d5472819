"""Status sockets: where a server of ours offers one, and how a reader finds and reads them.

A status socket is a Unix socket PID.sock in a folder that is its owner's alone: /run/glasshell for root,
$XDG_RUNTIME_DIR/glasshell for others, or glasshell-UID in the system's folder for temporary files where
there is no such variable. What it speaks is told in docs/guide/proc-and-sockets.md; `aio.status` answers.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from ..wire import visible
from .accounts import is_root

__all__ = [
    "FORMAT", "SCHEMA", "Status", "bind", "folder", "peer_credentials", "places", "read_status", "sane",
]  # fmt: skip

FORMAT: Final = "glasshell-status"
SCHEMA: Final = 1
"""The version of what is said; a reader refuses what is newer than itself."""

ROOT_FOLDER: Final = Path("/run/glasshell")
MAX_LINE: Final = 1024 * 1024
"""Most bytes of one line that a reader takes: a connection with a thousand channels fits."""
MAX_ANSWER: Final = 16 * 1024 * 1024
MAX_TEXT: Final = 256
"""Most characters of a text that a reader keeps."""
MAX_ITEMS: Final = 1024
"""Most members of a list or an object that it keeps."""
MAX_NUMBER: Final = 1 << 63
PATIENCE: Final = 3.0
"""Seconds that a server may take for a whole answer."""
_SOCKET: Final = re.compile(r"\d{1,9}(?:-\d{1,2})?\.sock")
_FOLDER: Final = re.compile(r"glasshell-\d{1,10}")


# -- the server's side


def folder() -> Path:
    """Where this user's servers have their status sockets."""
    if is_root():
        return ROOT_FOLDER
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return Path(runtime, "glasshell")
    return Path(tempfile.gettempdir(), f"glasshell-{os.geteuid()}")


def bind(where: Path | None = None) -> tuple[socket.socket, Path]:
    """A listening status socket for this process, mode 0600, and its path; `where` is a path of one's own.

    Sockets of servers that have died are removed from the folder. Raises ConfigError.
    """
    if not hasattr(socket, "AF_UNIX") or not hasattr(os, "geteuid"):
        raise ConfigError("this system has no Unix sockets, so there is no status socket")
    try:
        if where is not None:
            return _bound(where), where
        home = folder()
        _own(home)
        _sweep(home)
        return _first_free(home)
    except OSError as error:
        raise ConfigError(f"no status socket: {where or folder()}: {error.strerror or error}") from None


def _own(home: Path) -> None:
    """Makes the folder 0700. Raises ConfigError for one that others could reach into: it may be a trap."""
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigError(
            f"no status socket: {home} is not a folder that only this user can use",
            hint="remove it, or give it to this user with mode 0700",
        )


def _sweep(home: Path) -> None:
    """Removes the sockets that nobody listens at and whose process is gone."""
    for path in home.glob("*.sock"):
        pid = _pid_of(path)
        if pid == os.getpid() or (pid and not _lives(pid)):
            with suppress(OSError):
                if stat.S_ISSOCK(path.lstat().st_mode) and not _answers(path):
                    path.unlink()


def _first_free(home: Path) -> tuple[socket.socket, Path]:
    """PID.sock, or PID-2.sock and so on where this process has several servers."""
    for number in range(1, 100):
        path = home / f"{os.getpid()}{f'-{number}' if number > 1 else ''}.sock"
        try:
            return _bound(path), path
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise ConfigError("no status socket: this process has a hundred of them")


def _bound(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux makes the file with the mode that the socket has: there is no moment at which it is wider.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(8)
    except OSError:
        sock.close()
        raise
    return sock


def _pid_of(path: Path) -> int:
    digits = path.stem.partition("-")[0]
    return int(digits) if digits.isdecimal() and len(digits) < 10 else 0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(str(path))
        except OSError as error:
            return not isinstance(error, ConnectionRefusedError)
    return True


def peer_credentials(sock: socket.socket) -> tuple[int, int] | None:
    """(pid, uid) of the process at the other end, or None where the system does not tell."""
    if sys.platform != "linux":
        return None
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", raw)
    return pid, uid


# -- the reader's side


@dataclass(frozen=True, slots=True)
class Status:
    """What one server says of itself. `connections` are its JSON objects, `clock` is in seconds, its own."""

    path: Path
    pid: int
    header: dict[str, Any]
    connections: tuple[dict[str, Any], ...]
    clock: float


def places() -> list[Path]:
    """The status sockets that this user can read: his own, and for root everybody's."""
    folders = {folder()}
    if is_root():
        folders |= set(Path("/run/user").glob("*/glasshell"))
        shared = Path(tempfile.gettempdir()).glob("glasshell-[0-9]*")
        folders |= {each for each in shared if _FOLDER.fullmatch(each.name)}
    found: list[Path] = []
    for home in sorted(folders):
        with suppress(OSError):
            # Whose names they are, root does not know: only such as a server of ours makes.
            names = sorted(path for path in home.glob("*.sock") if _SOCKET.fullmatch(path.name))
            found += [path for path in names if stat.S_ISSOCK(path.lstat().st_mode)]
    return found


def read_status(path: Path, patience: float = PATIENCE) -> Status:
    """Asks one server for its connections. Blocks for at most `patience` seconds.

    Raises ConfigError where nobody answers, or not in this language.
    """
    try:
        return _read_status(path, time.monotonic() + patience)
    except (OSError, ValueError, RecursionError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{visible(str(path))}: {visible(text[:MAX_TEXT])}") from None


def _read_status(path: Path, deadline: float) -> Status:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        sock.connect(str(path))
        who = peer_credentials(sock)
        # Whose socket it is says the kernel: a file's name and owner are anybody's to choose.
        pid = who[0] if who else _pid_of(path)
        if who and who[1] not in (path.lstat().st_uid, 0):
            raise ValueError("the socket does not belong to who answers at it")
        sock.sendall(b"connections\n")
        lines = _lines(sock, deadline)
        head = next(lines, {})
        if head.get("format") != FORMAT:
            raise ValueError(str(head.get("text", "that is no status socket of glasshell")))
        schema = sane(head.get("schema"))
        if not isinstance(schema, int) or schema > SCHEMA:
            raise ValueError(f"status of schema {schema}; this version reads up to {SCHEMA}")
        found: list[dict[str, Any]] = []
        for shown in lines:
            if shown.get("type") == "end":
                clock = sane(shown.get("time"))
                return Status(path, pid, sane(head), tuple(found), clock if isinstance(clock, float) else 0.0)
            found.append({name: sane(value) for name, value in [*shown.items()][:MAX_ITEMS]})
    raise ValueError("it stopped in the middle of its answer")


def sane(value: Any, depth: int = 4) -> Any:
    """What of JSON by another user may be computed with and shown: bounded, finite, and visible."""
    match value:
        case None | bool():
            return value
        case int() | float():
            return value if -MAX_NUMBER < value < MAX_NUMBER else None
        case str():
            return visible(value[:MAX_TEXT])
        case list() if depth:
            return [sane(each, depth - 1) for each in value[:MAX_ITEMS]]
        case dict() if depth:
            return {
                visible(name[:MAX_TEXT]): sane(each, depth - 1) for name, each in [*value.items()][:MAX_ITEMS]
            }
    return None


def _lines(sock: socket.socket, deadline: float) -> Iterator[dict[str, Any]]:
    """The objects that come, one a line. Raises ValueError or OSError, in time."""
    held, taken = bytearray(), 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ValueError("it does not answer in time")
        sock.settimeout(left)
        data = sock.recv(65536)
        if not data:
            return
        taken += len(data)
        held += data
        *whole, rest = held.split(b"\n")
        held = bytearray(rest)
        if len(held) > MAX_LINE or taken > MAX_ANSWER:
            raise ValueError("it says more than there can be to say")
        for line in whole:
            shown = json.loads(line)
            if not isinstance(shown, dict):
                raise ValueError("a line that is no object")
            yield shown
