"""What RevokedKeys and RevokedHostKeys name: a key revocation list, or keys in text, one a line.

A file that cannot be read in full revokes everything, as with OpenSSH: who loads one and gets an error has to
refuse every key.
"""

from __future__ import annotations

from ..crypto.signatures import PublicKey
from ..errors import KeyFormatError
from ..wire import visible
from .krl import MAGIC, MAX_BYTES, Krl
from .public import BLANKS, AnyKey, as_text, decode_blob, read_key, split_word

__all__ = ["Revoked"]


class Revoked:
    """The keys that a file revokes; `source` is its name."""

    __slots__ = ("_blobs", "_krl", "source")

    def __init__(self, source: str, krl: Krl | None, blobs: frozenset[bytes]) -> None:
        self.source = source
        self._krl = krl
        self._blobs = blobs

    @classmethod
    def load(cls, data: bytes, source: str) -> Revoked:
        """Reads the file's bytes. Raises KeyFormatError, with the file and line: nothing is skipped."""
        if data.startswith(MAGIC):
            try:
                return cls(source, Krl.parse(data), frozenset())
            except KeyFormatError as error:
                raise KeyFormatError(f"{visible(source)}: {error}", hint=error.hint) from None
        if len(data) > MAX_BYTES:
            raise KeyFormatError(f"{visible(source)}: {len(data)} bytes; {MAX_BYTES} are allowed")
        blobs = set()
        for number, raw in enumerate(as_text(data).split("\n"), 1):
            line = raw.strip(BLANKS + "\r")
            if not line or line[0] == "#":
                continue
            try:
                blobs.add(_blob(line))
            except KeyFormatError as error:
                raise KeyFormatError(f"{visible(source)}:{number}: {error}", hint=error.hint) from None
        return cls(source, None, frozenset(blobs))

    def revokes(self, key: AnyKey) -> str:
        """Why `key`, a certificate as well, counts no more; empty where the file does not have it.

        A certificate is revoked with its key and with the key of its authority.
        """
        if self._krl is not None:
            return self._krl.revokes(key)
        if key.plain.blob in self._blobs:
            return "the key is revoked"
        if not isinstance(key, PublicKey) and key.authority.blob in self._blobs:
            return "of its authority: the key is revoked"
        return ""


def _blob(line: str) -> bytes:
    """The key of a line; of a certificate the key it certifies. What nobody here can use stays as it is."""
    key_type, rest = split_word(line)
    encoded, _ = split_word(rest)
    blob = decode_blob(key_type, encoded)
    try:
        return read_key(blob).plain.blob
    except KeyFormatError:
        return blob
