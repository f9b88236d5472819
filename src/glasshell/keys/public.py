"""Public keys as text: `type base64 comment`, the line of a `.pub` file (sshd(8), AUTHORIZED_KEYS)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final, TypeAlias

from ..crypto.signatures import CERTIFIED, KEY_TYPES, PublicKey
from ..errors import KeyFormatError, MalformedMessage
from ..wire import Reader, visible

if TYPE_CHECKING:
    from .certificate import Certificate

__all__ = [
    "MAX_FILE", "AnyKey", "as_text", "decode_base64", "decode_blob", "dump_public_key", "load_key",
    "load_public_key", "parse_any_key", "parse_key", "read_key", "split_word",
]  # fmt: skip

AnyKey: TypeAlias = "PublicKey | Certificate"
"""A key with or without a certificate. `plain` is the key without it, of either."""

MAX_FILE: Final = 1 << 20
"""Largest file of one key that is read, in bytes."""

BLANKS: Final = " \t"


def as_text(data: str | bytes) -> str:
    """`data` as text; bytes that are not UTF-8 survive as surrogates."""
    return data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")


def split_word(line: str) -> tuple[str, str]:
    """The first word of `line` and what follows it; words are parted by spaces and tabs alone.

    `str.split` would take U+00A0 and its like for a space, which OpenSSH does not.
    """
    line = line.lstrip(BLANKS)
    end = next((i for i, c in enumerate(line) if c in BLANKS), len(line))
    return line[:end], line[end:].lstrip(BLANKS)


def decode_base64(text: str) -> bytes:
    """The bytes of canonical base64 (RFC 4648 §4). Raises KeyFormatError."""
    try:
        value = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error, or text that is not ASCII
        raise KeyFormatError("a key that is not base64", clause="RFC 4648 4") from None
    # Padding too many and bits left over in the last character pass the strict mode.
    if base64.b64encode(value).decode() != text:
        raise KeyFormatError("a key whose base64 is not canonical", clause="RFC 4648 3.5")
    return value


def decode_blob(key_type: str, text: str) -> bytes:
    """The key blob in `text`, whose type has to be `key_type`. Raises KeyFormatError."""
    blob = decode_base64(text)
    try:
        inside = Reader(blob).name()
    except MalformedMessage:
        raise KeyFormatError("a key that is cut short or damaged") from None
    if inside != key_type:
        raise KeyFormatError(f'a line that says "{visible(key_type)}" with a key of type "{inside}"')
    return blob


def read_key(blob: bytes, *, prove: bool = True) -> AnyKey:
    """The key in `blob`, with a certificate where its type says so; `prove` as in `PublicKey.from_blob`.

    Raises KeyFormatError for what is no sound key, and for a certificate that its authority did not sign.
    """
    head = blob[4:72]
    if head[: int.from_bytes(blob[:4], "big")].endswith(b"-cert-v01@openssh.com"):
        from .certificate import Certificate  # late: most connections meet none

        return Certificate.from_blob(blob)
    return PublicKey.from_blob(blob, prove=prove)


def parse_any_key(key_type: str, text: str) -> AnyKey:
    """As `parse_key`, of certificates too."""
    if key_type not in CERTIFIED:
        return parse_key(key_type, text)
    return read_key(decode_blob(key_type, text))


def parse_key(key_type: str, text: str, *, prove: bool = True) -> PublicKey:
    """The key of type `key_type` whose blob is `text` in base64; `prove` as in `PublicKey.from_blob`.

    Raises KeyFormatError.
    """
    if key_type not in KEY_TYPES:
        raise KeyFormatError(f'keys of type "{visible(key_type)}" are not supported')
    return PublicKey.from_blob(decode_blob(key_type, text), prove=prove)


def load_public_key(text: str | bytes) -> tuple[PublicKey, str]:
    """The first key of a `.pub` file and its comment; empty lines and lines with `#` are skipped.

    Raises KeyFormatError for anything that is not such a line, or more than MAX_FILE bytes.
    """
    key_type, encoded, comment = _first_line(text)
    return parse_key(key_type, encoded), comment


def load_key(text: str | bytes) -> tuple[AnyKey, str]:
    """As `load_public_key`, of a certificate (`FILE-cert.pub`) too."""
    key_type, encoded, comment = _first_line(text)
    return parse_any_key(key_type, encoded), comment


def _first_line(text: str | bytes) -> tuple[str, str, str]:
    if len(text) > MAX_FILE:
        raise KeyFormatError(f"a public key file of {len(text)} bytes; {MAX_FILE} are allowed")
    for line in as_text(text).split("\n"):
        line = line.strip(BLANKS + "\r")
        if not line or line[0] == "#":
            continue
        if line.startswith("-----BEGIN") and "PRIVATE KEY" in line:
            raise KeyFormatError("a private key where a public key belongs", hint="name its .pub file")
        key_type, rest = split_word(line)
        encoded, comment = split_word(rest)
        if not encoded:
            raise KeyFormatError("a line that is not `type base64 comment`")
        return key_type, encoded, comment
    raise KeyFormatError("a public key file without a key")


def dump_public_key(key: AnyKey, comment: str = "") -> str:
    """`key` as the line of a `.pub` file, with its line feed.

    Raises KeyFormatError where the comment has a line feed or another control character.
    """
    if comment and not comment.isprintable():
        raise KeyFormatError("a comment with control characters")
    words = [key.type, base64.b64encode(key.blob).decode(), comment]
    return " ".join(word for word in words if word) + "\n"
