"""The key log: the secrets of each key exchange, one a line, as Wireshark reads them.

    COOKIE PRIVATE                  our own half, for Wireshark 4.0 to 4.2
    COOKIE SHARED_SECRET SECRET     K, for Wireshark 4.4 and newer

All in hexadecimal; COOKIE is the one of our own KEXINIT, PRIVATE the scalar of X25519 or the exponent of
finite-field Diffie-Hellman. The first form comes first: each generation passes over what it does not know.
The idea and the dangers are those of SSLKEYLOGFILE (RFC 9850): who has this file and a capture reads all.
"""

from __future__ import annotations

import os
from typing import Final

from ..observe.record import Heard, KeyRecord
from .files import open_descriptor, write_whole


def key_line(record: KeyRecord) -> bytes:
    """The line of one secret, with its end."""
    label = "" if record.label == "PRIVATE_KEY" else f"{record.label} "
    return f"{record.cookie.hex()} {label}{record.secret.reveal().hex()}\n".encode("ascii")


class KeyLog:
    """A sink that appends the keys of a connection to a file, each line by one write.

    Several connections and programs may share the file. It is readable by its owner only; whoever reads it
    and a capture of the connection reads everything that was sent, so it is for tests, not for use.
    """

    hears: Final = frozenset({"keys"})

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens the file. Raises ConfigError where it cannot be written."""
        self.secrets_in = os.fspath(path)
        """The file that holds secrets."""
        self._descriptor: int | None = open_descriptor(path, "key log", append=True)
        if hasattr(os, "set_blocking"):  # where it is a pipe, who reads it slowly must not stop a server
            os.set_blocking(self._descriptor, False)

    def __call__(self, record: Heard) -> None:
        """Writes one secret."""
        if isinstance(record, KeyRecord) and self._descriptor is not None:
            write_whole(self._descriptor, key_line(record))

    def close(self) -> None:
        """Closes the file; what is told afterwards is not written."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
