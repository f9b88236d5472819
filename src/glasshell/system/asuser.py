"""Unix domain sockets opened by the user whom they are for.

Who may connect to a socket, and make one in a folder, is a matter of the file system's rights; those that
count are the user's. A server that runs as root asks a process which has dropped root's, and is sent the
socket (CVE-2025-14282 is what happens otherwise).
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from .accounts import RIGHTS, Account, is_root

__all__ = ["PRIVATE", "bind", "bind_path", "connect_path"]

SECONDS: Final = 10.0
"""How long the process may take: a file system of the network may not answer."""

PRIVATE: Final = 0o177
"""What is taken off the mode of a new socket: StreamLocalBindMask of ssh_config(5) and sshd_config(5)."""

_PROGRAM: Final = """
import os, socket, sys
channel = socket.socket(fileno=0)
uid, gid, groups, verb, path, mask, unlink = sys.argv[1:]
os.setgroups([int(each) for each in groups.split(",")])
os.setresgid(int(gid), int(gid), int(gid))
os.setresuid(int(uid), int(uid), int(uid))
sock = socket.socket(socket.AF_UNIX)
try:
    if verb == "connect":
        sock.connect(path)
    else:
        if unlink == "yes":
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
        os.umask(int(mask))
        sock.bind(path)
except OSError as error:
    channel.send(b"%d" % (error.errno or 0))
else:
    socket.send_fds(channel, [b"0"], [sock.fileno()])
"""
"""Takes on the user's rights first: the user may not be able to start our interpreter. It answers with an
errno, and with the socket where that is 0."""


def connect_path(account: Account, path: str) -> socket.socket:
    """A socket connected to `path` as `account`. Raises OSError. Blocks: call it in a thread."""
    if not _foreign(account):
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(SECONDS)
            sock.connect(path)
        except BaseException:
            sock.close()
            raise
        return sock
    return _ask(account, "connect", path)


def bind_path(account: Account, path: str, *, mask: int = PRIVATE, unlink: bool = False) -> socket.socket:
    """A socket bound to `path` as `account`, its mode without the bits of `mask`; `unlink`: in the place of
    what is there. Raises OSError. Blocks: call it in a thread."""
    if not _foreign(account):
        return bind(path, mask=mask, unlink=unlink)
    return _ask(account, "bind", path, str(mask), "yes" if unlink else "no")


def bind(path: str, *, mask: int = PRIVATE, unlink: bool = False) -> socket.socket:
    """As `bind_path`, as whoever this process is."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        if unlink:
            Path(path).unlink(missing_ok=True)
        before = os.umask(mask)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
    except BaseException:
        sock.close()
        raise
    return sock


def _foreign(account: Account) -> bool:
    return is_root() and account.uid != 0


def _ask(account: Account, verb: str, path: str, mask: str = "", unlink: str = "") -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        who = [str(account.uid), str(account.gid), ",".join(map(str, account.groups))]
        words = [sys.executable, "-I", "-S", "-c", _PROGRAM, *who, verb, path, mask, unlink]
        with RIGHTS:
            process = subprocess.Popen(
                [os.fsencode(word) for word in words], stdin=theirs.fileno(), stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, cwd="/", env={},
            )  # fmt: skip
        with process:
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), path) from None
        theirs.close()
        said, descriptors, _, _ = socket.recv_fds(ours, 16, 1)
        if not descriptors:
            code = int(said or b"0") or errno.ENAMETOOLONG
            raise OSError(code, os.strerror(code), path)
        return socket.socket(fileno=descriptors[0])
