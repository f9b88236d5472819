"""What ssh(1) says of a host that it cannot trust, word by word; OpenSSH 10.6 where versions differ."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from ..crypto.signatures import PublicKey
from ..keys.known_hosts import Entry
from ..values import slotted
from ..wire import visible

__all__ = [
    "UNSAFE", "NewHostKey", "added", "changed", "dns_changed", "offending", "other_names", "quoted",
    "revoked", "spoofed",
]  # fmt: skip

MAX_NAMES: Final = 8
"""Most other names of a key that are listed."""

_RULE: Final = "@" * 59
_CHANGED: Final = """\
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Someone could be eavesdropping on you right now (man-in-the-middle attack)!
It is also possible that a host key has just been changed.
The fingerprint for the {label} key sent by the remote host is
{fingerprint}.
Please contact your system administrator.
"""
UNSAFE: Final = (
    "Password authentication is disabled to avoid man-in-the-middle attacks.",
    "Keyboard-interactive authentication is disabled to avoid man-in-the-middle attacks.",
)
"""What becomes of a connection whose host key has changed, where StrictHostKeyChecking is no."""


@slotted(frozen=True)
class NewHostKey:
    """What the person who is asked about a host has to see."""

    host: str
    """As known_hosts names it: `[host]:port` where the port is not 22."""
    address: str
    key: PublicKey
    others: tuple[Entry, ...] = ()
    """Other hosts that are known by the same key."""
    in_dns: bool | None = None
    """Whether DNS has the key's fingerprint; None: it was not asked."""
    picture: str = ""
    """The fingerprint drawn (VisualHostKey)."""
    differs: str = ""
    """What is wrong with the address of a host that is known; empty where the host is new."""
    fingerprint_hash: str = "sha256"

    @property
    def fingerprint(self) -> str:
        """What may be typed instead of "yes"; empty where the host itself is known."""
        return "" if self.differs else self.key.fingerprint(self.fingerprint_hash)

    @property
    def text(self) -> str:
        """OpenSSH's explanation, without the question itself."""
        if self.differs:
            return self.differs
        where = f"{self.host} ({self.address})" if self.address and self.address != self.host else self.host
        lines = [
            f"The authenticity of host '{visible(where)}' can't be established.",
            f"{self.key.label} key fingerprint is: {self.fingerprint}",
        ]
        lines += [self.picture] * bool(self.picture)
        if self.in_dns is not None:
            found = "Matching" if self.in_dns else "No matching"
            lines.append(f"{found} host key fingerprint found in DNS.")
        return "\n".join([*lines, *other_names(self.others)])

    @property
    def question(self) -> str:
        """The question that follows `text`."""
        choice = "yes/no" if self.differs else "yes/no/[fingerprint]"
        return f"Are you sure you want to continue connecting ({choice})? "


def other_names(others: Sequence[Entry]) -> list[str]:
    """By which other names a key is known."""
    if not others:
        return ["This key is not known by any other names."]
    lines = ["This host key is known by the following other names/addresses:"]
    for entry in others[:MAX_NAMES]:
        name = "[hashed name]" if entry.hashed else visible(entry.hosts)
        lines.append(f"    {_short(entry.source)}:{entry.line}: {name}")
    if len(others) > MAX_NAMES:
        lines.append(f"    ({len(others) - MAX_NAMES} additional names omitted)")
    return lines


def _short(path: str) -> str:
    """The user's home as ~, as OpenSSH shows it."""
    home = os.environ.get("HOME", "").rstrip("/")
    return f"~{path[len(home) :]}" if home and path.startswith(home + "/") else path


def _banner(title: str) -> str:
    return f"{_RULE}\n@{title:57}@\n{_RULE}\n"


def quoted(path: str) -> str:
    """`path` for a shell, always in quotes."""
    inside = path.replace("'", "'\\''")
    return f"'{inside}'"


def changed(key: PublicKey, digest: str) -> str:
    """The host shows another key."""
    said = _CHANGED.format(label=key.label, fingerprint=key.fingerprint(digest))
    return _banner("    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!") + said


def offending(entry: Entry, file: str, remedy: str) -> str:
    """Where the other key stands, and how to get rid of it. `file`: where the user's own keys are."""
    text = f"Add correct host key in {file} to get rid of this message.\n" if file else ""
    text += f"Offending {entry.label} key in {entry.where}"
    return text + (f"\n  remove with:\n  {remedy}" if remedy else "")


def dns_changed(key: PublicKey, digest: str) -> str:
    """DNS has another key."""
    remedy = "Update the SSHFP RR in DNS with the new host key to get rid of this message."
    return changed(key, digest) + remedy


def revoked(label: str, host: str) -> str:
    """The host's key is marked as revoked."""
    return (
        _banner("       WARNING: REVOKED HOST KEY DETECTED!")
        + f"The {label} host key for {host} is marked as revoked.\n"
        "This could mean that a stolen key is being used to\nimpersonate this host."
    )


def spoofed(label: str, host: str, address: str, found: Entry | None, *, same: bool) -> str:
    """The host shows another key, and its address is known by `found`; `same`: by the key it shows."""
    how = "is unknown" if found is None else "is unchanged" if same else "has a different value"
    return (
        _banner("       WARNING: POSSIBLE DNS SPOOFING DETECTED!")
        + f"The {label} host key for {host} has changed,\n"
        f"and the key for the corresponding IP address {address}\n"
        f"{how}. This could either mean that\n"
        "DNS SPOOFING is happening or the IP address for the host\n"
        "and its host key have changed at the same time."
        + (f"\nOffending key for IP in {found.where}" if found else "")
    )


def added(name: str, label: str) -> str:
    """A host is known from now on."""
    return f"Warning: Permanently added '{name}' ({label}) to the list of known hosts."
