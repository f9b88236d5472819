"""What is remembered of servers between connections: what each put first, and how it answered.

A hint and nothing else. It decides what may be sent before its time; whom to trust, which algorithms are
allowed and what is run are decided without it. A file that is missing, damaged, foreign or locked is as
good as an empty one.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ..values import field, replace, slotted, specs

__all__ = ["PROCESS", "Memory", "Remembered", "default_file", "today"]

VERSION: Final = 1
MAX_FILE: Final = 1024 * 1024
MAX_HOSTS: Final = 1000
MAX_LOGINS: Final = 16
"""Users remembered of one host."""
MAX_TEXT: Final = 256
DAY: Final = 86_400


@slotted(frozen=True)
class Remembered:
    """One server. Empty and None: not known."""

    software: str = ""
    """As its identification said it, without comments; whoever comes with another one is a stranger."""
    kex: str = ""
    host_key: str = ""
    """What it puts first in its KEXINIT, algorithm names both."""
    channel: int | None = None
    """How it numbers the first channel; -1: not always the same."""
    proven: bool = False
    """Whether it has taken what was sent to that channel before it had said that the channel is open."""
    unproven: bool = False
    """Whether it had host keys to prove when the connection was over."""
    logins: Mapping[str, str] = field(default_factory=dict)
    """User -> fingerprint of the one key that was enough to log in."""
    in_turns: int = 0
    """The day on which it took offence at what came before its time."""
    misled: int = 0
    """The day on which the host key that it puts first was not the one that is trusted."""
    day: int = 0
    """When it was met last; days are counted from 1970."""


@slotted
class _Book:
    """What is in the file: servers by their names, which are hidden under `salt` (hexadecimal)."""

    salt: str = field(default_factory=lambda: os.urandom(16).hex())
    hosts: dict[str, Remembered] = field(default_factory=dict)

    def name(self, host: str) -> str:
        key = bytes.fromhex(self.salt)
        return hmac.digest(key, host.encode("utf-8", "surrogateescape"), "sha256").hex()[:32]

    def put(self, host: str, fresh: Remembered) -> None:
        name = self.name(host)
        self.hosts.pop(name, None)
        self.hosts[name] = fresh
        while len(self.hosts) > MAX_HOSTS:
            del self.hosts[min(self.hosts, key=lambda each: self.hosts[each].day)]


class Memory:
    """Remembers servers by the name that known_hosts has for them; in `path`, or for this process alone."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._book: _Book | None = None

    def recall(self, host: str) -> Remembered:
        """What is known of `host`; never raises."""
        if self._book is None:
            self._book = _read(self._path) if self._path else _Book()
        return self._book.hosts.get(self._book.name(host), Remembered())

    def forget(self) -> None:
        """Everything that this object has in mind; a file stays as it is and is read again."""
        self._book = None

    def note(self, host: str, user: str = "", **changes: Any) -> None:
        """Changes what is remembered of `host`; `login` is the key of `user`, empty: none. Never raises."""
        login = changes.pop("login", None)
        known = self.recall(host)
        if login is not None:
            kept = {name: key for name, key in known.logins.items() if name != user}
            changes["logins"] = dict([*kept.items(), (user, login)][-MAX_LOGINS:]) if login else kept
        fresh = _checked(_told(replace(known, **changes, day=today())))
        if fresh is None or fresh == known:
            return
        assert self._book is not None
        self._book.put(host, fresh)
        if self._path is None:
            return
        with suppress(OSError), _locked(self._path) as free:
            if free:  # whoever holds the lock writes something as good
                self._book = _read(self._path)
                self._book.put(host, fresh)
                _write(self._path, self._book)


PROCESS: Final = Memory()
"""What a program that uses the library remembers, until it ends."""


def today() -> int:
    """The day, counted from 1970."""
    return int(time.time()) // DAY


def default_file() -> Path:
    """The file of this user's programs: in the XDG state folder."""
    folder = os.environ.get("XDG_STATE_HOME")
    return Path(folder or Path.home() / ".local" / "state") / "glasshell" / "servers.json"


# ---- the file


def _read(path: Path) -> _Book:
    """What the file says, as far as it makes sense."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if os.name == "posix" and (status.st_uid != os.getuid() or status.st_mode & 0o022):
                return _Book()  # somebody else's words
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            return _Book()
        import json  # only who has a file pays for it

        told = json.loads(data)
        if told["version"] != VERSION or len(bytes.fromhex(told["salt"])) != 16:
            return _Book()
        found = {name: _checked(each) for name, each in list(told["hosts"].items())[-MAX_HOSTS:]}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return _Book()
    return _Book(told["salt"], {name: each for name, each in found.items() if each is not None})


_NAMES: Final = frozenset(spec.name for spec in specs(Remembered))


def _told(server: Remembered) -> dict[str, Any]:
    return {name: getattr(server, name) for name in sorted(_NAMES)}


def _checked(told: Any) -> Remembered | None:
    """What the file says of one server, or None where that makes no sense."""
    if not isinstance(told, dict) or not told.keys() <= _NAMES:
        return None
    texts = [told.get(name, "") for name in ("software", "kex", "host_key")]
    logins, channel = told.get("logins", {}), told.get("channel")
    if not isinstance(logins, dict) or len(logins) > MAX_LOGINS:
        return None
    texts += [*logins, *logins.values()]
    if not all(isinstance(text, str) and len(text) <= MAX_TEXT for text in texts):
        return None
    if not all(_whole(told.get(name, 0)) for name in ("in_turns", "misled", "day")):
        return None
    if not all(isinstance(told.get(name, False), bool) for name in ("proven", "unproven")):
        return None
    if channel not in (None, -1) and not _whole(channel):
        return None
    return Remembered(**told)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 32


def _write(path: Path, book: _Book) -> None:
    """Writes another file first: nobody ever reads half of it."""
    import json

    standard = _told(Remembered())
    told = {
        host: {name: value for name, value in _told(each).items() if value != standard[name]}
        for host, each in book.hosts.items()
    }
    text = json.dumps({"version": VERSION, "salt": book.salt, "hosts": told}, indent=1) + "\n"
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether nobody else writes at the moment, for the time of the block."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # the last who writes wins
        yield True
        return
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
