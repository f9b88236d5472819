"""Which processes hold a socket: who runs them, since when, and by what command line.

/proc/PID/fd says who holds which socket; the rest is psutil's. Without root only one's own processes can be
looked into: `Holders.hidden` says how many others there were.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from ..wire import visible
from .sockets import need_psutil

__all__ = ["CLIENTS", "SERVERS", "Held", "Holders", "Process", "describe", "holders"]

CLIENTS: Final = frozenset(
    {"ssh", "dbclient", "plink", "putty", "pscp", "psftp", "glasshell-ssh", "glasshell-doctor"}
)
"""Programs that connect to an SSH server."""

SERVERS: Final = frozenset({"sshd", "sshd-session", "sshd-auth", "dropbear", "tinysshd", "glasshell-sshd"})
"""Programs that serve SSH. OpenSSH's have three names since 9.8 and 10.0."""

_MAX_NAME: Final = 64
_MAX_COMMAND: Final = 4096
"""Most characters of a command line: it is shown, and a process may have megabytes of it."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process. `program` is a name without spaces; `started` is seconds since 1970."""

    pid: int
    parent: int
    program: str
    user: str
    command: str
    started: float


@dataclass(frozen=True, slots=True)
class Held:
    """A process and the descriptor by which it holds a socket; -1: not known."""

    process: Process
    fd: int


@dataclass(slots=True)
class Holders:
    """Socket inode -> who holds it, in the order in which the processes began."""

    of: dict[int, list[Held]] = field(default_factory=dict)
    hidden: int = 0


def holders(inodes: Iterable[int], root: str = "/proc") -> Holders:
    """Who holds these sockets. Blocks for as long as it takes to list every descriptor of the system.

    Raises ConfigError without psutil.
    """
    need_psutil()
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    found = Holders()
    cache: dict[int, Process | None] = {}
    for pid in _pids(root):
        try:
            descriptors = _sockets_of(f"{root}/{pid}/fd", wanted)
        except PermissionError:
            found.hidden += 1
            continue
        except OSError:
            continue  # it has ended
        if descriptors and (process := _cached(pid, cache)):
            for fd, inode in descriptors:
                found.of.setdefault(inode, []).append(Held(process, fd))
    for held in found.of.values():
        held.sort(key=lambda each: (each.process.started, each.process.pid, each.fd))
    return found


def _pids(root: str) -> list[int]:
    with suppress(OSError):
        return [int(name) for name in os.listdir(root) if name.isdigit()]  # noqa: PTH208 (strings will do)
    return []


def _sockets_of(folder: str, wanted: Mapping[str, int]) -> list[tuple[int, int]]:
    """(descriptor, inode) of the wanted sockets in one /proc/PID/fd. Raises OSError."""
    found = []
    for name in os.listdir(folder):  # noqa: PTH208 (a Path each would cost ten times the call)
        with suppress(OSError):
            inode = wanted.get(os.readlink(f"{folder}/{name}"))  # noqa: PTH115
            if inode is not None:
                found.append((int(name), inode))
    return found


def _cached(pid: int, cache: dict[int, Process | None]) -> Process | None:
    if pid not in cache:
        cache[pid] = describe(pid)
    return cache[pid]


def describe(pid: int) -> Process | None:
    """What psutil knows of a process; None where it has ended. Raises ConfigError without psutil."""
    psutil = need_psutil()
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            words = process.cmdline()
            return Process(
                pid, process.ppid(), program_name(process.name(), words), process.username(),
                visible(" ".join(words)[:_MAX_COMMAND].strip()), process.create_time(),
            )  # fmt: skip
    except (psutil.Error, OSError):
        return None


def program_name(name: str, words: Sequence[str]) -> str:
    """The name a process goes by: Python that runs a command of ours is "glasshell-COMMAND"."""
    for at, word in enumerate(words[:8]):
        if PurePath(word).name == "glasshell" and len(words) > at + 1 and words[at + 1].isalpha():
            return f"glasshell-{words[at + 1][:_MAX_NAME]}"
    return "".join(c if c.isprintable() and not c.isspace() else "_" for c in name[:_MAX_NAME]) or "?"
