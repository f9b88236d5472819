"""Whether a host key is trusted: known_hosts files, StrictHostKeyChecking, and the person who is asked."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from ..crypto.signatures import PublicKey, key_type_of
from ..errors import ConfigError, HostKeyRefused, SSHError, UsageError
from ..keys.known_hosts import Entry, Kind, KnownHosts, Verdict, format_entry, host_name
from ..keys.public import AnyKey
from ..system.replacing import append_line
from ..values import slotted
from ..wire import visible

__all__ = [
    "AskHostKey", "KnownHostsLike", "NewHostKey", "Strict", "Trust", "label_of", "read_known_hosts",
]  # fmt: skip

Strict: TypeAlias = Literal["yes", "ask", "accept-new", "no"]
"""StrictHostKeyChecking of ssh_config(5)."""

PathLike: TypeAlias = str | os.PathLike[str]
KnownHostsLike: TypeAlias = PathLike | Sequence[PathLike] | KnownHosts | PublicKey | None
"""Files (the first is written to), what was read of some, the one key that is right, or None: nothing
is known."""

DEFAULT_FILES: Final = (
    "~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2",
)  # fmt: skip

MAX_TOLD: Final = 5
"""Most lines of known_hosts that a record names."""

_BANNER: Final = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@{title:^57}@
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
"""
_CHANGED: Final = """\
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Someone could be eavesdropping on you right now (man-in-the-middle attack)!
It is also possible that a host key has just been changed.
The fingerprint for the {label} key sent by the remote host is
{fingerprint}.
Please contact your system administrator.
"""


@slotted(frozen=True)
class NewHostKey:
    """A host whose key is not known: what the person who is asked has to see."""

    host: str
    """As known_hosts names it: `[host]:port` where the port is not 22."""
    address: str
    key: PublicKey
    others: tuple[Entry, ...]
    """Other hosts that are known by the same key."""

    @property
    def text(self) -> str:
        """OpenSSH's explanation, without the question itself."""
        where = f"{self.host} ({self.address})" if self.address and self.address != self.host else self.host
        lines = [
            f"The authenticity of host '{visible(where)}' can't be established.",
            f"{self.key.label} key fingerprint is {self.key.fingerprint()}.",
        ]
        if not self.others:
            lines.append("This key is not known by any other names.")
        else:
            lines.append("This host key is known by the following other names/addresses:")
            lines += [f"    {e.where}: {'[hashed name]' if e.hashed else e.hosts}" for e in self.others[:8]]
        return "\n".join(lines)


AskHostKey: TypeAlias = Callable[[NewHostKey], Awaitable[bool]]


class Trust:
    """Judges the key of one host as StrictHostKeyChecking says.

    "yes": only what is known. "ask": `ask` decides about a host that is new; without it the host is
    refused. "accept-new": a host that is new is added. "no": new hosts are added, and a changed key is
    let pass with `restricted` saying why no password and no forwarding may be given to such a host. A key
    that is not the known one, of another type too, is a changed key; a revoked key is always refused.
    """

    __slots__ = (
        "ask", "file", "found", "hashed", "host", "known", "name", "pinned", "port", "restricted", "strict",
        "vouched", "warn",
    )  # fmt: skip

    def __init__(
        self, host: str, port: int = 22, *, known_hosts: KnownHostsLike = DEFAULT_FILES,
        strict: Strict = "ask", alias: str = "", hashed: bool = False, ask: AskHostKey | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        """Reads the files. `alias` is the name to look up instead of the host's (HostKeyAlias).

        `hashed`: names are hidden in what is added (HashKnownHosts). `warn` hears what OpenSSH says on
        standard error. Raises UsageError for a host name that known_hosts cannot hold.
        """
        if strict not in ("yes", "ask", "accept-new", "no"):
            raise UsageError(f'"{strict}" is no StrictHostKeyChecking: yes, ask, accept-new, no')
        # An alias stands for the host whatever the port is (ssh_config(5), HostKeyAlias).
        self.host, self.port = (alias, 22) if alias else (host, port)
        self.name = host_name(self.host, self.port)
        self.strict = strict
        self.hashed = hashed
        self.ask = ask
        self.warn = warn or (lambda text: None)
        self.restricted = ""
        self.vouched = False
        """Whether a person has taken the host's key just now."""
        self.found: Entry | None = None
        """The line by which the host's key was known."""
        self.file: Path | None = None
        self.pinned: PublicKey | None = None
        self.known = self._read(known_hosts)

    def order(self, algorithms: Sequence[str]) -> tuple[str, ...]:
        """`algorithms`, those first that the host's known keys sign with: else a host that is known
        by one key would show another and look changed."""
        types = (self.pinned.type,) if self.pinned else self.known.known_key_types(self.host, self.port)
        return tuple(sorted(algorithms, key=lambda name: key_type_of(name) not in types))

    def leads(self, algorithm: str, min_rsa_bits: int) -> bool:
        """Whether a key is known, and would be taken, that signs with `algorithm`: to ask for it first."""
        held = [self.pinned] if self.pinned else [
            entry.key for entry in self.known.lookup(self.host, self.port)
            if not entry.marker and entry.key_type == key_type_of(algorithm)
        ]  # fmt: skip
        return any(
            key is not None and algorithm in key.algorithms and self.knows(key)
            and (key.type != "ssh-rsa" or key.bits >= min_rsa_bits)
            for key in held
        )  # fmt: skip

    def trusted_by(self, files: Sequence[Path]) -> bool:
        """Whether the host's key was known by one of `files`, or taken by a person."""
        return self.vouched or (self.found is not None and Path(self.found.source) in files)

    def knows(self, key: AnyKey) -> bool:
        """Whether `key` is the host's, by what is known already: nobody is asked, and nothing is written."""
        return self._verdict(key.plain).kind is Kind.KNOWN

    async def judge(self, key: AnyKey, address: str, state: Callable[..., None]) -> bool | HostKeyRefused:
        """The verdict on `key`; `state` hears it as the record `host_key_verdict`."""
        key = key.plain
        verdict = self._verdict(key)
        entry = verdict.entry
        if verdict.kind is Kind.UNKNOWN:  # the host's own line may be among them
            for bad in self.known.bad_lines[:MAX_TOLD]:
                state("known_hosts_bad_line", file=bad.source, line=bad.line, reason=bad.reason)
        how, answer = await self._decide(verdict, address)
        others = [each for each in self.known.other_names(key) if each is not entry]
        state(
            "host_key_verdict", accepted=answer is True, how=how, host=self.name,
            file=entry.source if entry else "", line=entry.line if entry else 0,
            known=entry.fingerprint if entry and verdict.kind is Kind.CHANGED else "",
            others=", ".join(f"{e.where} {'(hashed)' if e.hashed else e.hosts}" for e in others[:MAX_TOLD]),
        )  # fmt: skip
        return answer

    # How it is decided

    def _verdict(self, key: PublicKey) -> Verdict:
        if self.pinned is None:
            return self.known.check(self.host, self.port, key)
        if self.pinned == key:
            return Verdict(Kind.KNOWN, self.host, key, None, ())
        line = format_entry(self.host, self.port, self.pinned)
        return KnownHosts.parse(line, "the program").check(self.host, self.port, key)

    async def _decide(self, verdict: Verdict, address: str) -> tuple[str, bool | HostKeyRefused]:
        key = verdict.key
        if verdict.kind is Kind.KNOWN:
            self.found = verdict.entry
            return "known", True
        if verdict.kind is Kind.REVOKED and verdict.entry is not None:
            return "revoked", self._revoked(key, verdict.entry)
        if verdict.kind is Kind.CHANGED and verdict.entry is not None:
            return "changed", self._changed(key, verdict.entry)
        if self.strict == "yes":
            return "unknown", self._unknown(key, "")
        if self.strict == "ask":
            if self.ask is None:
                return "unknown", self._unknown(key, "nobody can be asked here")
            others = tuple(self.known.other_names(key))
            if not await self.ask(NewHostKey(self.name, address, key, others)):
                return "declined", HostKeyRefused(f"the host key of {self.name} was not accepted")
            self.vouched = True
        self._add(key)
        return "added", True

    def _unknown(self, key: PublicKey, why: str) -> HostKeyRefused:
        return HostKeyRefused(
            f"No {key.label} host key is known for {self.name} and you have requested strict checking"
            f" (it shows {key.fingerprint()})" + (f": {why}" if why else ""),
            hint="compare the fingerprint with the server's, then let it be added: strict 'accept-new'",
        )

    def _changed(self, key: PublicKey, entry: Entry) -> bool | HostKeyRefused:
        text = _BANNER.format(title="WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!")
        text += _CHANGED.format(label=key.label, fingerprint=key.fingerprint())
        if self.file:
            text += f"Add correct host key in {self.file} to get rid of this message.\n"
        text += f"Offending {label_of(entry)} key in {entry.where}"
        remedy = f'ssh-keygen -f "{entry.source}" -R "{self.name}"'
        hint = "somebody may be in the middle"
        if self.pinned is None:
            text += f"\n  remove with:\n  {remedy}"
            hint += f"; if the server was given a new key, remove the old one: {remedy}"
        self.warn(text)
        if self.strict == "no" and self.pinned is None:
            self.restricted = "the host key has changed"
            self.warn("Password and keyboard-interactive authentication and forwarding are disabled"
                      " to avoid man-in-the-middle attacks.")  # fmt: skip
            return True
        return HostKeyRefused(
            f"REMOTE HOST IDENTIFICATION HAS CHANGED! Host key for {self.name} has changed and you have"
            f" requested strict checking: it shows {key.label} {key.fingerprint()},"
            f" {entry.where} has {label_of(entry)} {entry.fingerprint}",
            hint=hint,
        )

    def _revoked(self, key: PublicKey, entry: Entry) -> HostKeyRefused:
        self.warn(
            _BANNER.format(title="WARNING: REVOKED HOST KEY DETECTED!")
            + f"The {key.label} host key for {self.name} is marked as revoked.\n"
            "This could mean that a stolen key is being used to impersonate this host."
        )
        return HostKeyRefused(f"{key.label} host key for {self.name} is revoked, by {entry.where}")

    # The files

    def _read(self, known_hosts: KnownHostsLike) -> KnownHosts:
        if known_hosts is None:
            return KnownHosts()
        if isinstance(known_hosts, KnownHosts):
            return known_hosts
        if isinstance(known_hosts, PublicKey):
            self.pinned = known_hosts
            return KnownHosts()
        paths = [known_hosts] if isinstance(known_hosts, (str, os.PathLike)) else known_hosts
        files = [Path(path).expanduser() for path in paths]
        self.file = files[0] if files else None
        return sum((read_known_hosts(file) for file in files), KnownHosts())

    def _add(self, key: PublicKey) -> None:
        if self.file is not None:
            line = format_entry(self.host, self.port, key, hashed=self.hashed, salt=os.urandom(20))
            try:
                append_line(self.file, line)
            except OSError as error:
                self.warn(f"Failed to add the host to the list of known hosts ({self.file}): {error}")
                return
        self.warn(f"Warning: Permanently added '{self.name}' ({key.label}) to the list of known hosts.")


def label_of(entry: Entry) -> str:
    """The kind of the key in a line, as OpenSSH says it to people."""
    try:
        return PublicKey.from_blob(entry.blob).label
    except SSHError:
        return entry.key_type


def read_known_hosts(path: Path) -> KnownHosts:
    """The lines of a file, none where there is no such file. Raises ConfigError."""
    try:
        return KnownHosts.parse(path.read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return KnownHosts()
    except OSError as error:
        # To go on as if nothing were known could turn a changed key into a new one.
        raise ConfigError(f"cannot read known_hosts {path}: {error.strerror}") from error
