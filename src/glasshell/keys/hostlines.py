"""The lines of a known_hosts file as whoever edits one sees them: each with its text, so that it can stay.

What counts for a login is in `known_hosts`, which sets more lines aside; here a line is valid that
ssh-keygen(1) takes for one, without a look at the key, and nothing is lost.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator
from typing import Final

from ..errors import KeyFormatError
from ..values import slotted
from .patterns import match_list
from .public import BLANKS, as_text, decode_base64, split_word

__all__ = ["HASHED", "MARKERS", "HostLine", "hash_host", "key_label", "matches", "scan"]

HASHED: Final = "|1|"
MARKERS: Final = {"@cert-authority": "CA", "@revoked": "REVOKED"}
"""Marker -> what `ssh-keygen -F` calls the line."""

_LABELS: Final = {
    "ssh-rsa": "RSA", "rsa-sha2-256": "RSA", "rsa-sha2-512": "RSA", "ssh-dss": "DSA",
    "ssh-ed25519": "ED25519", "ecdsa-sha2-nistp256": "ECDSA", "ecdsa-sha2-nistp384": "ECDSA",
    "ecdsa-sha2-nistp521": "ECDSA", "sk-ssh-ed25519": "ED25519-SK", "sk-ecdsa-sha2-nistp256": "ECDSA-SK",
    "webauthn-sk-ecdsa-sha2-nistp256": "ECDSA-SK", "ssh-mldsa44-ed25519": "MLDSA44-ED25519",
}  # fmt: skip
_CERTIFICATE: Final = "-cert-v01"
_AT: Final = "@openssh.com"


def key_label(key_type: str) -> str:
    """The kind of key that `key_type` names, as OpenSSH says it to people; empty for one nobody knows."""
    name = key_type.removesuffix(_AT)
    label = _LABELS.get(name.removesuffix(_CERTIFICATE), "")
    return label + "-CERT" * name.endswith(_CERTIFICATE) if label else ""


@slotted(frozen=True)
class HostLine:
    """One line. `text` is all of it without its line feed; the other fields are empty where it is no entry.

    `problem` says why a line is neither an entry nor a comment.
    """

    number: int
    text: str
    marker: str = ""
    hosts: str = ""
    key: str = ""
    """Type, key and comment."""
    problem: str = ""

    @property
    def entry(self) -> bool:
        """Whether the line says something about hosts."""
        return bool(self.hosts) and not self.problem

    @property
    def hashed(self) -> bool:
        """Whether the host's name is hidden."""
        return self.hosts.startswith("|")


def scan(data: bytes | str) -> Iterator[HostLine]:
    """Every line of a file; the empty piece after a last line feed is none."""
    lines = as_text(data).split("\n")
    if lines and not lines[-1]:
        lines.pop()
    for number, text in enumerate(lines, 1):
        yield _line(number, text)


def _line(number: int, text: str) -> HostLine:
    bare = text.lstrip(BLANKS)
    if not bare or bare[0] == "#":
        return HostLine(number, text)
    marker = ""
    hosts, key = split_word(bare)
    if hosts.startswith("@"):
        if hosts not in MARKERS:
            return HostLine(number, text, problem="an unknown marker")
        marker = hosts
        hosts, key = split_word(key)
        if hosts.startswith("@"):
            return HostLine(number, text, problem="two markers")
    key_type, rest = split_word(key)
    problem = ""
    if not key_type or key_type[0] == "#" or not rest or rest[0] == "#":
        problem = "a line that is cut short"
    elif not key_label(key_type) and key_type.upper() not in _LABELS.values():
        problem = "an unknown type of key"
    return HostLine(number, text, marker, hosts, key, problem)


def matches(hosts: str, name: str) -> bool:
    """Whether the first word of an entry is about `name`. A hidden name has to be the very same.

    Raises KeyFormatError for a hidden name that is damaged.
    """
    if not hosts.startswith("|"):
        return match_list(name, hosts.split(","))
    parts = hosts.split("|")
    if len(parts) != 4 or parts[1] != "1":
        raise KeyFormatError("a hashed host name that is damaged, or of another kind than |1|")
    salt = decode_base64(parts[2])
    if len(salt) != 20:
        raise KeyFormatError(f"a hashed host name with a salt of {len(salt)} bytes; it has 20")
    return hmac.compare_digest(hash_host(name, salt).encode(), hosts.encode("utf-8", "surrogateescape"))


def hash_host(name: str, salt: bytes) -> str:
    """`name` hidden under `salt`, 20 bytes, as a line has it (ssh_config(5), HashKnownHosts)."""
    digest = hmac.digest(salt, name.encode("utf-8", "surrogateescape"), "sha1")
    return HASHED + "|".join(base64.b64encode(part).decode() for part in (salt, digest))
