"""What makes a program a daemon: syslog, a PID file, what a service manager hands it and wants to hear."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["FACILITIES", "PidFile", "Syslog", "go_to_background", "handed_sockets", "notify", "to_nowhere"]

FACILITIES: Final = {
    "KERN": 0, "USER": 1, "DAEMON": 3, "AUTH": 4, "AUTHPRIV": 10,
    **{f"LOCAL{number}": 16 + number for number in range(8)},
}  # fmt: skip
"""SyslogFacility: the numbers of RFC 3164 §4.1.1."""

LOG_SOCKET: Final = "/dev/log"

_CRITICAL, _ERROR, _INFO, _DEBUG = 2, 3, 6, 7
_SEVERITIES: Final = {"fatal: ": _CRITICAL, "error: ": _ERROR, "debug": _DEBUG}
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

FIRST_HANDED: Final = 3
"""The first descriptor of a service manager's (sd_listen_fds(3))."""
MAX_HANDED: Final = 64


class Syslog:
    """The system's log, by its socket. What it does not take at once is lost: no login shall wait for it.

    `name` is what lines are found by. sshd's is what fail2ban and logcheck look for.
    """

    def __init__(self, name: str, facility: str, path: str = LOG_SOCKET) -> None:
        self._name = name
        self._facility = FACILITIES.get(facility, FACILITIES["AUTH"])
        self._path = path
        self._socket: socket.socket | None = None

    def write(self, line: str) -> None:
        """Logs one line; how bad it is, its first word says."""
        text = line.rstrip("\r\n")
        severity = next((number for word, number in _SEVERITIES.items() if text.startswith(word)), _INFO)
        now = time.localtime()
        # As syslog(3) writes it; the month's name is of no language.
        stamp = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
        head = f"<{self._facility * 8 + severity}>{stamp} {self._name}[{os.getpid()}]: "
        self._send(f"{head}{text}".encode("utf-8", "replace"))

    def _send(self, data: bytes) -> None:
        for _ in range(2):  # a log that was begun anew is another socket
            with suppress(OSError):
                if self._socket is None:
                    self._socket = _connected(self._path)
                self._socket.send(data)
                return
            if self._socket is not None:
                self._socket.close()
                self._socket = None


def _connected(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


class PidFile:
    """The file that says which process serves; `none` and an empty name are no file."""

    def __init__(self, path: str | None) -> None:
        self.path = None if path in (None, "", "none") else path

    def write(self) -> None:
        """Writes it. Raises OSError."""
        if self.path is not None:
            Path(self.path).write_text(f"{os.getpid()}\n", "ascii")

    def remove(self) -> None:
        """Takes it away, if it is still this process's."""
        if self.path is not None:
            with suppress(OSError, ValueError):
                if Path(self.path).read_text("ascii").strip() == str(os.getpid()):
                    Path(self.path).unlink()


def handed_sockets() -> list[socket.socket]:
    """The listening sockets that a service manager opened for this process (sd_listen_fds(3)).

    The variables that tell of them are taken away: no child shall take them for its own. Raises OSError
    for what is no listening stream socket.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not (count.isascii() and count.isdecimal()):
        return []
    found = []
    for descriptor in range(FIRST_HANDED, FIRST_HANDED + min(int(count), MAX_HANDED)):
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if sock.type != socket.SOCK_STREAM or not listens:
            raise OSError(None, f"descriptor {descriptor} is no socket that listens")
        found.append(sock)
    return found


def notify(*lines: str) -> None:
    """Tells the service manager (sd_notify(3)), if there is one that listens."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where.startswith(("/", "@")):
        return
    address = f"\0{where[1:]}" if where.startswith("@") else where
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(address)
        sock.send("\n".join(lines).encode())


def go_to_background(*, keep_stderr: bool) -> None:
    """Leaves the terminal: the parent returns to the shell once the sockets are bound."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    to_nowhere((0, 1) if keep_stderr else (0, 1, 2))


def to_nowhere(descriptors: Sequence[int]) -> None:
    """Replaces the descriptors by the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)
