"""known_hosts: which host has which key (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).

    [@cert-authority|@revoked] host,pattern,!pattern|hashed-host  type  base64  [comment]

A line that cannot be read is set aside with its number and trusts nobody. The keys stay blobs: what
counts is whether the blob a server shows is the one in the file, also for types this program cannot use.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from typing import Final

from ..crypto.signatures import KEY_TYPES, PublicKey
from ..errors import KeyFormatError, MalformedMessage, UsageError
from ..values import slotted
from ..wire import Reader, visible
from .patterns import match_list
from .public import BLANKS, as_text, decode_base64, decode_blob, split_word

__all__ = ["BadLine", "Entry", "Kind", "KnownHosts", "Verdict", "format_entry", "host_name"]

MAX_HOST: Final = 1025
"""Longest host name that is looked up or written, in bytes: the system's NI_MAXHOST."""

_MARKERS: Final = frozenset({"@cert-authority", "@revoked"})
_HASHED: Final = "|1|"


@slotted(frozen=True)
class Entry:
    """One line that could be read. `marker` is "", "@cert-authority" or "@revoked"."""

    source: str
    line: int
    marker: str
    hosts: str
    key_type: str
    blob: bytes
    comment: str

    @property
    def where(self) -> str:
        """`file:line`, as OpenSSH's messages have it."""
        return f"{self.source}:{self.line}"

    @property
    def hashed(self) -> bool:
        """Whether the host's name is hidden."""
        return self.hosts.startswith(_HASHED)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 fingerprint of the key."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def key(self) -> PublicKey | None:
        """The key; None where it is of a kind that cannot be used here."""
        try:
            return PublicKey.from_blob(self.blob)
        except KeyFormatError:
            return None

    def names(self, name: str) -> bool:
        """Whether this line is about `name`, a `host_name`."""
        if not self.hashed:
            return match_list(name, self.hosts.split(","))
        salt, digest = (decode_base64(part) for part in self.hosts[len(_HASHED) :].split("|"))
        return hmac.compare_digest(hmac.digest(salt, name.encode("utf-8", "surrogateescape"), "sha1"), digest)


@slotted(frozen=True)
class BadLine:
    """One line that could not be read, and why."""

    source: str
    line: int
    reason: str


class Kind(enum.Enum):
    """What known_hosts says about a key."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@slotted(frozen=True)
class Verdict:
    """What known_hosts says about the key a host has shown.

    `entry` is the line that decided: the one with this key (KNOWN, REVOKED), or the one with another key
    (CHANGED; of the same type where there is one). `entries` are all lines that name the host's keys.
    """

    kind: Kind
    host: str
    key: PublicKey
    entry: Entry | None
    entries: tuple[Entry, ...]


def _lookup_name(host: str, port: int) -> str:
    name = host.lower()
    return name if port == 22 else f"[{name}]:{port}"


def host_name(host: str, port: int = 22) -> str:
    """The name of a host in known_hosts: in lower case, `[host]:port` where the port is not 22.

    Raises UsageError for a name that would be more, or less, than one name in the file: a line feed
    or a pattern in a name from elsewhere must not become trust in another host.
    """
    if not 0 < len(host) <= MAX_HOST or not 0 < port < 65536:
        raise UsageError(f"no host name for known_hosts: {len(host)} characters, port {port}")
    if not host.isprintable() or any(c in " ,*?!|#@[]\"'\\" for c in host):
        raise UsageError(f'"{visible(host)}" is no host name for known_hosts')
    return _lookup_name(host, port)


def format_entry(
    host: str, port: int, key: PublicKey, *, hashed: bool = False, salt: bytes = b"", comment: str = ""
) -> str:
    """The line that makes `key` known for the host, with its line feed.

    With `hashed` the name is hidden under `salt`, 20 random bytes. Raises UsageError for a host name
    that `host_name` refuses, a salt of another length, a comment of more than one line.
    """
    name = host_name(host, port)
    if hashed:
        if len(salt) != 20:
            raise UsageError(f"a salt of {len(salt)} bytes; a hashed host takes 20")
        parts = (salt, hmac.digest(salt, name.encode("utf-8", "surrogateescape"), "sha1"))
        name = _HASHED + "|".join(base64.b64encode(part).decode() for part in parts)
    if comment and not comment.isprintable():
        raise UsageError("a comment with control characters")
    words = [name, key.type, base64.b64encode(key.blob).decode(), comment]
    return " ".join(word for word in words if word) + "\n"


class KnownHosts:
    """The lines of one or more known_hosts files, and what they say about a host."""

    __slots__ = ("bad_lines", "entries")

    def __init__(self, entries: Iterable[Entry] = (), bad_lines: Iterable[BadLine] = ()) -> None:
        self.entries = tuple(entries)
        self.bad_lines = tuple(bad_lines)

    @classmethod
    def parse(cls, text: str | bytes, source: str = "known_hosts") -> KnownHosts:
        """Reads a file; never raises. `source` is its name, for messages."""
        entries: list[Entry] = []
        bad_lines: list[BadLine] = []
        for number, raw in enumerate(as_text(text).split("\n"), 1):
            line = raw.strip(BLANKS + "\r")
            if not line or line[0] == "#":
                continue
            try:
                entries.append(_parse_line(line, source, number))
            except KeyFormatError as error:
                bad_lines.append(BadLine(source, number, str(error)))
        return cls(entries, bad_lines)

    def __add__(self, other: KnownHosts) -> KnownHosts:
        """Both files, this one's lines first."""
        return KnownHosts(self.entries + other.entries, self.bad_lines + other.bad_lines)

    def lookup(self, host: str, port: int = 22) -> tuple[Entry, ...]:
        """Every line about the host, with every marker, in the order of the files."""
        name = _lookup_name(host, port)
        if len(name) > MAX_HOST + 8:
            return ()
        return tuple(entry for entry in self.entries if entry.names(name))

    def check(self, host: str, port: int, key: PublicKey) -> Verdict:
        """What the files say about `key` for the host.

        A key that is not the known one is CHANGED also where it is of another type: who can show a key
        of a type not seen before would otherwise pass for a new host (OpenSSH hostfile.c does the same).
        """
        matches = self.lookup(host, port)
        plain = tuple(entry for entry in matches if not entry.marker)
        for entry in matches:
            if entry.marker == "@revoked" and entry.blob == key.blob:
                return Verdict(Kind.REVOKED, host, key, entry, plain)
        for entry in plain:
            if entry.blob == key.blob:
                return Verdict(Kind.KNOWN, host, key, entry, plain)
        if not plain:
            return Verdict(Kind.UNKNOWN, host, key, None, ())
        same_type = (entry for entry in plain if entry.key_type == key.type)
        return Verdict(Kind.CHANGED, host, key, next(same_type, plain[0]), plain)

    def known_key_types(self, host: str, port: int = 22) -> tuple[str, ...]:
        """The types of the host's known keys, each once: the client asks for these first, so that
        a known host is not taken for a changed one."""
        return tuple(dict.fromkeys(entry.key_type for entry in self.lookup(host, port) if not entry.marker))

    def other_names(self, key: PublicKey) -> Iterator[Entry]:
        """The lines, for whatever host, that have this key: shown when a host is new."""
        return (entry for entry in self.entries if entry.blob == key.blob and not entry.marker)


def _parse_line(line: str, source: str, number: int) -> Entry:
    marker = ""
    hosts, rest = split_word(line)
    if hosts.startswith("@"):
        if hosts not in _MARKERS:
            raise KeyFormatError(f'the unknown marker "{visible(hosts)}"')
        marker = hosts
        hosts, rest = split_word(rest)
    _check_hosts(hosts)
    key_type, rest = split_word(rest)
    encoded, comment = split_word(rest)
    if not encoded:
        raise KeyFormatError("a line that is not `hosts type base64`")
    blob = decode_blob(key_type, encoded)
    _check_blob(key_type, blob)
    return Entry(source, number, marker, hosts, key_type, blob, comment)


def _check_hosts(hosts: str) -> None:
    if hosts.startswith("@") or not hosts.isprintable():
        raise KeyFormatError(f'"{visible(hosts)}" is no list of host names')
    if not hosts.startswith("|"):
        return
    parts = hosts.split("|")
    if len(parts) != 4 or parts[1] != "1" or any(len(decode_base64(part)) != 20 for part in parts[2:]):
        raise KeyFormatError("a hashed host name that is damaged, or of another kind than |1|")


def _check_blob(key_type: str, blob: bytes) -> None:
    """Whether a key of a type of ours is all there: cheap, so that 10 MB are read in seconds."""
    if key_type not in KEY_TYPES:
        return
    reader = Reader(blob)
    try:
        for _ in range(2 if key_type == "ssh-ed25519" else 3):
            reader.string()
        reader.done()
    except MalformedMessage:
        raise KeyFormatError("a key that is cut short or damaged") from None
