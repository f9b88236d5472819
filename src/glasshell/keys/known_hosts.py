"""known_hosts: which host has which key (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).

    [@cert-authority|@revoked] host,pattern,!pattern|hashed-host  type  base64  [comment]

A line that cannot be read is set aside with its number and trusts nobody. The keys stay blobs: what
counts is whether the blob a server shows is the one in the file, also for types this program cannot use.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ..crypto.signatures import KEY_TYPES, PublicKey
from ..errors import KeyFormatError, MalformedMessage, UsageError
from ..values import slotted
from ..wire import Reader, visible
from .hostlines import HASHED, MARKERS, hash_host, key_label, matches
from .public import BLANKS, AnyKey, as_text, decode_base64, decode_blob, split_word

__all__ = [
    "BadLine", "Entry", "Kind", "KnownHosts", "Verdict", "format_entry", "host_name", "judge", "lookup_name",
]  # fmt: skip

MAX_HOST: Final = 1025
"""Longest host name that is looked up or written, in bytes: the system's NI_MAXHOST."""

_FIELDS: Final = {"ssh-ed25519": 2, "ssh-mldsa44-ed25519": 2, "sk-ecdsa-sha2-nistp256@openssh.com": 4}
"""Strings in the blob of a key; three in all others."""

AUTHORITY: Final = "@cert-authority"
REVOKED: Final = "@revoked"


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
        return self.hosts.startswith(HASHED)

    @property
    def label(self) -> str:
        """The kind of the key, as OpenSSH says it to people."""
        return key_label(self.key_type) or self.key_type

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
        return matches(self.hosts, name)


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

    `entry` is the line that decided: the one with this key, or with the authority of this certificate
    (KNOWN, REVOKED), or the one with another key (CHANGED; of the same type where there is one). `entries`
    are all lines that name the host's keys.
    """

    kind: Kind
    host: str
    key: AnyKey
    entry: Entry | None
    entries: tuple[Entry, ...]


def judge(entries: Sequence[Entry], host: str, key: AnyKey) -> Verdict:
    """What `entries`, all lines about `host`, say about `key`.

    A certificate is KNOWN by a line with its authority, UNKNOWN without; whether it holds is not looked at.
    A key that is not the known one is CHANGED also where it is of another type: who can show a key of a type
    not seen before would otherwise pass for a new host (OpenSSH hostfile.c does the same).
    """
    plain = tuple(entry for entry in entries if not entry.marker)
    blobs = {key.blob, key.plain.blob}
    wanted, marker, known = key.blob, "", plain
    if not isinstance(key, PublicKey):
        wanted, marker, known = key.authority.blob, AUTHORITY, ()
        blobs.add(wanted)
    for entry in entries:
        if entry.marker == REVOKED and entry.blob in blobs:
            return Verdict(Kind.REVOKED, host, key, entry, plain)
    for entry in entries:
        if entry.marker == marker and entry.blob == wanted:
            return Verdict(Kind.KNOWN, host, key, entry, plain)
    if not known:
        return Verdict(Kind.UNKNOWN, host, key, None, plain)
    same_type = (entry for entry in known if entry.key_type == key.type)
    return Verdict(Kind.CHANGED, host, key, next(same_type, known[0]), plain)


def lookup_name(host: str, port: int = 22) -> str:
    """The name by which `host` is looked up: in lower case, `[host]:port` where the port is not 22."""
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
    return lookup_name(host, port)


def format_entry(
    host: str, port: int, key: PublicKey, *, hashed: bool = False, salt: bytes = b"", comment: str = "",
    address: str = "",
) -> str:  # fmt: skip
    """The line that makes `key` known for the host, with its line feed.

    `address` is named beside the host. With `hashed` the name is hidden under `salt`, 20 random bytes, and
    an address needs a line of its own. Raises UsageError for a host name that `host_name` refuses, a salt of
    another length, a comment of more than one line.
    """
    name = host_name(host, port)
    if hashed:
        if len(salt) != 20 or address:
            raise UsageError(f"a salt of {len(salt)} bytes; a hashed host takes 20, and no address")
        name = hash_host(name, salt)
    elif address:
        name += f",{host_name(address, port)}"
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
        name = lookup_name(host, port)
        if len(name) > MAX_HOST + 8:
            return ()
        return tuple(entry for entry in self.entries if entry.names(name))

    def check(self, host: str, port: int, key: AnyKey) -> Verdict:
        """What the files say about `key` for the host: see `judge`."""
        return judge(self.lookup(host, port), host, key)

    def has_authority(self, host: str, port: int = 22) -> bool:
        """Whether a line says who signs the host's certificates."""
        return any(entry.marker == AUTHORITY for entry in self.lookup(host, port))

    def known_key_types(self, host: str, port: int = 22) -> tuple[str, ...]:
        """The types of the host's known keys, each once: the client asks for these first, so that
        a known host is not taken for a changed one."""
        return tuple(dict.fromkeys(entry.key_type for entry in self.lookup(host, port) if not entry.marker))

    def other_names(self, key: AnyKey) -> Iterator[Entry]:
        """The lines, for whatever host, that have this key: shown when a host is new."""
        return (entry for entry in self.entries if entry.blob == key.blob and not entry.marker)


def _parse_line(line: str, source: str, number: int) -> Entry:
    marker = ""
    hosts, rest = split_word(line)
    if hosts.startswith("@"):
        if hosts not in MARKERS:
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
        for _ in range(_FIELDS.get(key_type, 3)):
            reader.string()
        reader.done()
    except MalformedMessage:
        raise KeyFormatError("a key that is cut short or damaged") from None
