"""Signatures of files, "SSHSIG" (OpenSSH, PROTOCOL.sshsig), without I/O.

    "SSHSIG"  uint32 1  string public key  string namespace  string reserved  string hash  string signature

What is signed starts with "SSHSIG" as well: no signature made for a login is one of a file, nor the other way
round. The namespace ("file", "git") says what a signature is for and is part of it; it is never empty.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Any, Final

from ..errors import KeyFormatError, MalformedMessage, UsageError
from ..values import slotted
from ..wire import Reader, string, uint32, visible
from .public import AnyKey, read_key

__all__ = ["HASHES", "MAX_BYTES", "FileSignature", "hasher", "sign", "to_be_signed"]

MAX_BYTES: Final = 1 << 20
"""Largest file of a signature that is read, in bytes."""

HASHES: Final = ("sha512", "sha256")
"""The hashes a file may be signed by, the default first."""

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----"
_END: Final = b"-----END SSH SIGNATURE-----"
_COLUMNS: Final = 70


def hasher(name: str) -> Any:
    """A hash of `hashlib` to put the file through. Raises UsageError for one that is not allowed."""
    if name not in HASHES:
        raise UsageError(f'no signatures by the hash "{visible(name)}"; there are {", ".join(HASHES)}')
    return hashlib.new(name)


def to_be_signed(namespace: str, hash: str, digest: bytes) -> bytes:
    """What the key signs (PROTOCOL.sshsig 3). Raises UsageError for an empty namespace."""
    if not namespace:
        raise UsageError("a signature needs a namespace, such as file or git")
    names = _encoded(namespace), b"", hash.encode("ascii"), digest
    return _MAGIC + b"".join(map(string, names))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@slotted(frozen=True)
class FileSignature:
    """A signature: by which key, for what, and the blob of RFC 4253 §6.6. It is not verified yet."""

    key: AnyKey
    namespace: str
    hash: str
    signature: bytes

    @classmethod
    def parse(cls, data: bytes) -> FileSignature:
        """Reads the armored form. Raises KeyFormatError."""
        try:
            return _parse(_unarmor(data))
        except MalformedMessage as error:
            raise KeyFormatError(
                f"a signature that cannot be read: {error}", clause="PROTOCOL.sshsig 2"
            ) from None

    def armor(self) -> str:
        """The signature as ssh-keygen writes it."""
        head = _MAGIC + uint32(_VERSION) + string(self.key.blob) + string(_encoded(self.namespace))
        body = head + string(b"") + string(self.hash.encode("ascii")) + string(self.signature)
        text = base64.b64encode(body).decode()
        lines = [text[i : i + _COLUMNS] for i in range(0, len(text), _COLUMNS)]
        return "\n".join([_BEGIN.decode(), *lines, _END.decode(), ""])

    def objection(self, namespace: str, digest: bytes) -> str:
        """Why this is no signature for `namespace` of the file whose hash is `digest`; empty where it is one.

        Whether the key may sign anything is another question: `keys.allowed_signers` answers it.
        """
        if self.namespace != namespace or not namespace:
            return "namespace does not match"
        algorithm = self._algorithm()
        key = self.key.plain
        if algorithm not in key.algorithms:
            return f"unsupported signature algorithm {visible(algorithm)}"
        data = to_be_signed(namespace, self.hash, digest)
        # Whether a security key was touched is between it and its owner, as with ssh-keygen.
        good = key.verify(algorithm, self.signature, data, touch_required=False)
        return "" if good else "incorrect signature"

    def _algorithm(self) -> str:
        try:
            return Reader(self.signature).name()
        except MalformedMessage:
            return ""


def sign(
    signer: Callable[[str, bytes], bytes],
    key: AnyKey,
    namespace: str,
    digest: bytes,
    hash: str = HASHES[0],
) -> FileSignature:
    """The signature of the file whose hash is `digest`; `signer` is `PrivateKey.sign`, or an agent's.

    Raises UsageError for an empty namespace, and what `signer` raises.
    """
    hasher(hash)
    algorithms = key.plain.algorithms
    # RSA signs by the hash that the file went through (RFC 8332).
    wanted = f"rsa-sha2-{hash.removeprefix('sha')}"
    algorithm = wanted if wanted in algorithms else algorithms[0]
    signature = signer(algorithm, to_be_signed(namespace, hash, digest))
    return FileSignature(key, namespace, hash, signature)


def _unarmor(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise KeyFormatError(f"a signature of {len(data)} bytes; {MAX_BYTES} are allowed")
    first, _, rest = data.partition(b"\n")
    if first.removesuffix(b"\r") != _BEGIN:
        raise KeyFormatError("Couldn't parse signature: missing header", clause="PROTOCOL.sshsig 1")
    body, found, _ = rest.partition(b"\n" + _END)
    if not found:
        raise KeyFormatError("Couldn't parse signature: missing footer", clause="PROTOCOL.sshsig 1")
    try:
        return binascii.a2b_base64(b"".join(body.split()), strict_mode=True)
    except binascii.Error:
        raise KeyFormatError("a signature that is not base64", clause="PROTOCOL.sshsig 1") from None


def _parse(data: bytes) -> FileSignature:
    reader = Reader(data)
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise KeyFormatError("Couldn't verify signature: invalid format", clause="PROTOCOL.sshsig 2")
    version = reader.uint32()
    if version != _VERSION:
        raise KeyFormatError(f"a signature of version {version}; {_VERSION} is supported")
    key = read_key(reader.string())
    namespace = reader.text()
    reader.string()  # reserved: to be ignored
    hash, signature = reader.text(), reader.string()
    reader.done()
    if not namespace:
        raise KeyFormatError("a signature without a namespace", clause="PROTOCOL.sshsig 2")
    if hash not in HASHES:
        raise KeyFormatError(f'a signature by the hash "{visible(hash)}"; sha256 and sha512 are supported')
    return FileSignature(key, namespace, hash, signature)
