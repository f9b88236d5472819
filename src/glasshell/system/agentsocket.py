"""A socket that belongs to one user alone: 0600, in a folder of its own that is 0700."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

from .accounts import is_root

__all__ = ["PrivateSocket"]


class PrivateSocket:
    """A Unix socket that listens, in a new folder; `path` is its place, `sock` the socket.

    As root it is made for `uid` and `gid`. Raises OSError.
    """

    def __init__(self, name: str, uid: int, gid: int) -> None:
        self._folder = tempfile.mkdtemp(prefix="ssh-")
        self._name = name
        self.path = f"{self._folder}/{name}"
        # By this the folder is found again whatever its owner puts in its place.
        self._inside = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(0o177)
            try:
                self.sock.bind(self.path)
            finally:
                os.umask(before)
            self.sock.listen(16)
            if is_root() and uid:
                os.chown(name, uid, gid, dir_fd=self._inside, follow_symlinks=False)
                os.fchown(self._inside, uid, gid)  # from here on it is the user's
        except BaseException:
            self.sock.close()
            self.remove()
            raise

    def remove(self) -> None:
        """Removes socket and folder; a second call does nothing."""
        if self._inside < 0:
            return
        with suppress(OSError):
            os.unlink(self._name, dir_fd=self._inside)
        os.close(self._inside)
        self._inside = -1
        with suppress(OSError):
            Path(self._folder).rmdir()
